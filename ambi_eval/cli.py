"""The command `ambi-eval`: everything around a run of `lm_eval`, from the corpora to the leaderboard."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from ambi_eval.errors import AmbiError
from ambi_eval.leaderboard.commands import leaderboard
from ambi_eval.sweep.commands import sweep

if TYPE_CHECKING:
    from ambi_eval.corpora.preparation import Preparation


class Commands(TyperGroup):
    """A group of commands that ends in one line and exit code 2 where the user can mend what went wrong."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except AmbiError as error:
            typer.echo(f"ambi_eval: {error}", err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=Commands,
    help="Benchmark how well audio-language models predict the distribution of human emotion votes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
prepare = typer.Typer(help="Turn a corpus on disk into a manifest.", no_args_is_help=True)
app.add_typer(prepare, name="prepare")
app.add_typer(leaderboard, name="leaderboard")

Source = Annotated[Path | None, typer.Option(help="The folder that the release was unpacked to.")]
FromHub = Annotated[
    str | None, typer.Option(help="A mirror that has the shares of the votes: Hugging Face id, or folder of a copy.")
]
Out = Annotated[Path | None, typer.Option(help="Folder for the manifest; by default in the data directory.")]
CountEach = Annotated[
    bool, typer.Option("--count-each", help="Count each of a rater's k labels as a whole vote, not as 1/k.")
]
AllowMissingAudio = Annotated[
    bool, typer.Option("--allow-missing-audio", help="Keep clips without audio, for work on the votes alone.")
]


@prepare.command("crema_d")
def prepare_crema_d(
    source: Source = None,
    from_hub: FromHub = None,
    out: Out = None,
    modality: Annotated[Literal["voice", "face", "av"], typer.Option(help="Raters heard, saw, or both.")] = "voice",
    allow_missing_audio: AllowMissingAudio = False,
) -> None:
    """Prepare CREMA-D from a checkout of its repository, or from a mirror; faces and both go into their own folders."""
    from ambi_eval.corpora import crema_d, hub

    folder = _folder(out, "crema_d" if modality == "voice" else f"crema_d_{modality}")
    if from_hub is None:
        release = _required(source, "crema_d")
        preparation = crema_d.prepare(release, folder, modality=modality, allow_missing_audio=allow_missing_audio)
    else:
        _check_mirror_options(source=source, modality=modality != "voice", allow_missing_audio=allow_missing_audio)
        preparation = hub.prepare("crema_d", from_hub, folder)
    _report(preparation, "crema_d")


@prepare.command("iemocap")
def prepare_iemocap(
    source: Source = None,
    from_hub: FromHub = None,
    out: Out = None,
    count_each: CountEach = False,
    allow_missing_audio: AllowMissingAudio = False,
) -> None:
    """Prepare IEMOCAP from its release, or from a mirror (which lacks the single ratings and the label `other`)."""
    from ambi_eval.corpora import hub, iemocap

    folder = _folder(out, "iemocap")
    if from_hub is None:
        release = _required(source, "iemocap")
        preparation = iemocap.prepare(release, folder, count_each=count_each, allow_missing_audio=allow_missing_audio)
    else:
        _check_mirror_options(source=source, count_each=count_each, allow_missing_audio=allow_missing_audio)
        preparation = hub.prepare("iemocap", from_hub, folder)
    _report(preparation, "iemocap")


@prepare.command("msp_podcast")
def prepare_msp_podcast(
    source: Source = None,
    out: Out = None,
    labels: Annotated[
        Literal["primary", "secondary"], typer.Option(help="One emotion of each rater, or all that the rater named.")
    ] = "primary",
    count_each: CountEach = False,
    release: Annotated[str | None, typer.Option(help="Number of the release, such as 1.11, for the manifest.")] = None,
    allow_missing_audio: AllowMissingAudio = False,
) -> None:
    """Prepare MSP-Podcast, any release from 1.6 to 2.0."""
    from ambi_eval.corpora import msp_podcast

    preparation = msp_podcast.prepare(
        _required(source, "msp_podcast"),
        _folder(out, "msp_podcast"),
        labels=labels,
        count_each=count_each,
        release=release,
        allow_missing_audio=allow_missing_audio,
    )
    _report(preparation, "msp_podcast")


@prepare.command("demo")
def prepare_demo(out: Out = None) -> None:
    """Make the demo corpus: synthetic speech, simulated raters."""
    from ambi_eval.corpora.manifest import read_manifest
    from ambi_eval.corpora.preparation import Preparation
    from ambi_eval.demo import corpus

    folder = _folder(out, "demo")
    _report(Preparation(folder, clips=read_manifest(corpus.prepare(folder))), "demo")


def _folder(out: Path | None, corpus: str) -> Path:
    from ambi_eval.paths import manifest_path

    return out or manifest_path(corpus).parent


def _required(source: Path | None, corpus: str) -> Path:
    from ambi_eval.corpora import prepare_command

    if source is None:
        raise AmbiError(f"{corpus} is made from its release: {prepare_command(corpus)}.")
    return source


def _check_mirror_options(**given: object) -> None:
    for name, value in given.items():
        if value:
            option = "--" + name.replace("_", "-")
            raise AmbiError(f"{option} does not go with --from-hub: leave one of the two out.")


def _report(preparation: Preparation, corpus: str) -> None:
    """Print what a user checks before trusting a manifest."""
    from ambi_eval.corpora.preparation import label_choices, summarise

    summary = summarise(preparation.clips)
    fewest, mean, most = summary.raters
    figures = [
        ("clips", f"{summary.clips:,}"),
        *(("skipped", f"{count:,} ({reason})") for reason, count in preparation.skipped.items()),
        *(("note", f"{count:,} ({remark})") for remark, count in preparation.remarks.items()),
        ("votes", f"{summary.votes:,.10g}"),
        ("raters", f"{fewest:g} to {most:g} per clip, {mean:.2f} on average"),
        ("ambiguity", f"{summary.ambiguity_bits:.3f} bits on average (entropy of a clip's votes)"),
        ("unanimous", f"{summary.unanimous:,} clips"),
        ("tied", f"{summary.tied:,} clips (several labels share the most votes)"),
        *(("split", f"{split}: {clips:,} clips") for split, clips in summary.splits.items()),
        *(
            ("labels", f"{choice}: {clips:,} clips, {mass:.1%} of the votes")
            for choice, clips, mass in label_choices(corpus, preparation.clips)
        ),
        ("manifest", str(preparation.manifest)),
    ]
    for name, value in figures:
        typer.echo(f"{name:<10} {value}")


CorpusName = Annotated[str, typer.Argument(help="A corpus of ours, or the path of a task's YAML.", metavar="CORPUS")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, with all metrics, instead of tables.")]
Edges = Annotated[
    list[float] | None,
    typer.Option("--edge", help="Edge between two bins of ambiguity, in bits; once for each. By default tertiles."),
]
BinOnHalf = Annotated[
    bool, typer.Option("--bin-on-half", help="Make the bins from one half of each panel, score against the other half.")
]
Acoustic = Annotated[bool, typer.Option(help="Listen to the clips for the acoustic reference.")]


@app.command()
def baselines(
    corpus: CorpusName,
    as_json: Json = False,
    edges: Edges = None,
    bin_on_half: BinOnHalf = False,
    acoustic: Acoustic = True,
) -> None:
    """Show what scores on a corpus are read against: trivial predictors and human references."""
    from ambi_eval.analysis import tables
    from ambi_eval.analysis.ambiguity import ambiguity_bins
    from ambi_eval.analysis.references.baselines import baselines
    from ambi_eval.config.load import load_corpus
    from ambi_eval.corpora.other_votes import halve_panels, target_votes

    config = load_corpus(corpus)
    selection = target_votes(config)
    selection, bin_votes, note = halve_panels(selection) if bin_on_half else (selection, selection.votes, None)
    result = baselines(selection, config, ambiguity_bins(bin_votes, edges), acoustic=acoustic)
    result.notes.extend([note] if note else [])
    if as_json:
        _print_json({"corpus": config["task"], **tables.baselines_json(result)})
    else:
        _print_tables(tables.tables(f"{config['task']}: {selection.summary()}", result))


@app.command()
def score(
    predictions: Annotated[
        Path, typer.Argument(help='Lines of {"id": ..., "distribution": {label: share}}.', metavar="PREDICTIONS.jsonl")
    ],
    corpus: Annotated[str, typer.Option(help="A corpus of ours, or the path of a task's YAML.")],
    against: Annotated[
        Literal["voice", "face", "av", "acted"],
        typer.Option(help="The corpus' own votes; of CREMA-D also other raters' votes, or the acted emotion."),
    ] = "voice",
    smooth: Annotated[
        Literal["prior"] | None, typer.Option(help="Soften and shrink to the prior as fits best on other speakers.")
    ] = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Score what is there if clips are missing or unknown.")
    ] = False,
    as_json: Json = False,
    edges: Edges = None,
    bin_on_half: BinOnHalf = False,
    acoustic: Acoustic = True,
) -> None:
    """Score a file of predictions, with the references beside it."""
    from ambi_eval.analysis import tables
    from ambi_eval.analysis.systems import score_file
    from ambi_eval.config.load import load_corpus
    from ambi_eval.corpora.other_votes import halve_panels, target_votes

    config = load_corpus(corpus)
    selection = target_votes(config, against)
    selection, bin_votes, note = halve_panels(selection) if bin_on_half else (selection, selection.votes, None)
    system = score_file(
        predictions,
        selection,
        config,
        edges=edges,
        bin_votes=bin_votes,
        allow_partial=allow_partial,
        smooth=smooth is not None,
        acoustic=acoustic,
    )
    system.notes.extend([note] if note else [])
    if as_json:
        _print_json({"corpus": config["task"], "against": against, **tables.system_json(system)})
    else:
        title = f"{predictions.name} against {config['task']} ({against}): {selection.summary()}"
        _print_tables(tables.tables(title, system.baselines, system))


@app.command("report")
def report_on_runs(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders that lm_eval --log_samples --output_path wrote.", metavar="RUN..."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("report.html"),
    json_file: Annotated[Path | None, typer.Option("--json", help="Every number of it, as JSON.")] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Print the differences of two systems instead: each RUN, RUN:TASK or RUN:TASK:PIPELINE."),
    ] = None,
) -> None:
    """Show what runs of lm_eval mean: one page of scores, references, curves and the clips with the largest error."""
    from ambi_eval.harness.results import read_runs
    from ambi_eval.report import comparison, page
    from ambi_eval.report.build import build

    if (compare is None) == (not runs):
        raise AmbiError("ambi-eval report: name the folders of runs, or two systems with --compare A B.")
    if compare is not None:
        pairs = comparison.compare_runs(*compare)
        _print_tables(comparison.table(pairs))
        if json_file is not None:
            page.write_json(pairs, json_file)
        return
    content = build([run for path in runs or () for run in read_runs(path)])
    page.write_page(content, out)
    typer.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
    if json_file is not None:
        page.write_json(content, json_file)


@app.command()
def bridge(
    model_args: Annotated[str, typer.Option("--model_args", help="As for lm_eval --model hf-audio, without store=.")],
    name: Annotated[str | None, typer.Option(help="The model's name for clients; by default the checkpoint's.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any that is free.")] = 8000,
) -> None:
    """Serve hf-audio as an OpenAI-compatible server, for `openai-audio` and any other client."""
    from ambi_eval.models.bridge import BridgeError, serve
    from ambi_eval.models.bridge_hf_audio import BridgedHFAudio

    model = BridgedHFAudio.create_from_arg_string(model_args)
    model.served_name = name or model.served_name
    try:
        serve(model, host, port)
    except BridgeError as error:
        raise AmbiError(str(error)) from error


@app.command()
def doctor(
    model_args: Annotated[str, typer.Option("--model_args", help="As for lm_eval: pretrained=..., for example.")],
    model: Annotated[str, typer.Option(help="As for lm_eval: hf-audio or openai-audio.")] = "hf-audio",
) -> None:
    """Check that a model hears, repeats itself and tells true likelihoods; exit code 1 if not."""
    from ambi_eval.doctor import checks as check

    outcomes = check.examine(model, model_args)
    _print_tables(check.table(outcomes))
    raise typer.Exit(int(any(outcome.status == "failed" for outcome in outcomes)))


app.command()(sweep)


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps(content, allow_nan=False, indent=2))


def _print_tables(content: Any) -> None:
    from rich.console import Console

    # Into a file or a pipe goes the whole width of the tables.
    Console(width=None if sys.stdout.isatty() else 130, markup=False, highlight=False).print(content)


def main() -> None:
    """Run the command `ambi-eval`."""
    app()


if __name__ == "__main__":
    main()

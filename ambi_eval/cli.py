"""The command `ambi-eval`: what comes before and after a run of `lm_eval`, from the corpora to the leaderboard."""

from __future__ import annotations

import json
import re
import signal
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from ambi_eval.config.load import corpus_overrides
from ambi_eval.corpora.registry import corpus_names
from ambi_eval.errors import AmbiError, counted, print_in_any_encoding
from ambi_eval.leaderboard.commands import leaderboard
from ambi_eval.report.commands import budget, generalizability, report
from ambi_eval.sweep.commands import sweep
from ambi_eval.web.terminal import print_tables


class Commands(TyperGroup):
    """A group of commands; after a user's mistake it ends in one line, with exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        print_in_any_encoding()
        try:
            return super().invoke(ctx)
        except AmbiError as error:
            typer.echo(f"ambi_eval: {error}", err=True)
            raise typer.Exit(error.exit_code) from error


class Recipes(TyperGroup):
    """The commands of all corpora; the recipe of a corpus is imported when its command is needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all corpora, and `audb` for any database of audb."""
        return [*corpus_names(), "audb"]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a corpus, or None if there is no such corpus."""
        if cmd_name not in self.list_commands(ctx):
            return None
        from ambi_eval.corpora import audb
        from ambi_eval.corpora.command import command_of

        command = audb.command if cmd_name == "audb" else command_of(cmd_name)
        takes = signature(command).parameters
        source = f" --source /data/{cmd_name}" if "source" in takes else " --from-audb crema-d" * ("from_audb" in takes)
        one = typer.Typer(add_completion=False)
        one.command(cmd_name, epilog=f"Example: ambi-eval prepare {cmd_name}{source}")(command)
        return typer.main.get_command(one)


app = typer.Typer(
    cls=Commands,
    epilog="Example: ambi-eval baselines demo",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
prepare = typer.Typer(
    cls=Recipes,
    help="Turn a corpus on disk into a manifest.",
    epilog="Example: ambi-eval prepare crema_d --source /data/CREMA-D",
    no_args_is_help=True,
)
app.add_typer(prepare, name="prepare")
app.add_typer(leaderboard, name="leaderboard")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ambi_eval {version('ambi-eval')}, lm_eval {version('lm_eval')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the versions and end.")
    ] = False,
) -> None:
    """Benchmark how well audio-language models predict the distribution of human emotion votes."""


CORPUS_HELP = "A corpus of ours, or the path of a task's YAML."
CorpusName = Annotated[str, typer.Argument(help=CORPUS_HELP, metavar="CORPUS")]
CorpusOption = Annotated[str, typer.Option("--corpus", help=CORPUS_HELP)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, with all metrics, instead of tables.")]
Edges = Annotated[
    list[float] | None,
    typer.Option("--edge", help="Edge between two bins of ambiguity, in bits; once for each. By default tertiles."),
]
Metadata = Annotated[
    str,
    typer.Option("--metadata", help="A part of the corpus, as for lm_eval: split=test1, session=5, fold=NAME.PART."),
]
Everything = Annotated[bool, typer.Option("--all", help="Show all references and metrics, wider than 80 columns.")]
Acoustic = Annotated[bool, typer.Option(help="Listen to the clips for the acoustic reference.")]


@app.command(epilog="Example: ambi-eval corpora")
def corpora(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False) -> None:
    """Show all corpora: which are prepared, how much their raters disagree, and how to prepare the others."""
    from ambi_eval.analysis import corpora as of_corpora

    found = list(of_corpora.overview())
    if as_json:
        _print_json({"corpora": found})
    else:
        print_tables(of_corpora.overview_tables(found))


@app.command(epilog="Example: ambi-eval baselines crema_d")
def baselines(
    corpus: CorpusName,
    metadata: Metadata = "",
    as_json: Json = False,
    edges: Edges = None,
    acoustic: Acoustic = True,
    everything: Everything = False,
) -> None:
    """Show what scores on a corpus are compared with: trivial predictors and human references."""
    from ambi_eval.analysis import tables
    from ambi_eval.analysis.ambiguity import bin_clips
    from ambi_eval.analysis.references.baselines import baselines
    from ambi_eval.config.load import load_corpus
    from ambi_eval.corpora.other_votes import target_votes

    settings = load_corpus(corpus, metadata)
    selection = target_votes(settings)
    result = baselines(selection, settings, bin_clips(selection, edges), acoustic=acoustic)
    result.notes[:0] = selection.warnings
    if as_json:
        _print_json({"corpus": settings.clips_name, **tables.baselines_json(result)})
    else:
        print_tables(tables.tables(f"{settings.clips_name}: {selection.summary()}", result, everything=everything))


@app.command(epilog="Example: ambi-eval raters emozionalmente")
def raters(
    corpus: CorpusName,
    predictions: Annotated[
        list[Path] | None,
        typer.Option("--with", help="A file of predictions, as `score` reads it, to judge by single ballots."),
    ] = None,
    latent: Annotated[bool, typer.Option(help="Fit Dawid-Skene and MACE (pip install 'ambi_eval[raters]').")] = True,
    metadata: Metadata = "",
    as_json: Json = False,
) -> None:
    """Show what single raters tell: how reliable they are, and which raters a prediction fits."""
    from ambi_eval.analysis.predictions import read_predictions
    from ambi_eval.analysis.raters import tables
    from ambi_eval.analysis.raters.study import study_raters
    from ambi_eval.config.load import load_corpus
    from ambi_eval.corpora.other_votes import target_votes

    settings = load_corpus(corpus, metadata)
    selection = target_votes(settings)
    systems = {path.stem: read_predictions(path, selection.clips, settings.labels).p for path in predictions or ()}
    study = study_raters(selection, settings, systems, latent=latent)
    if study is None:
        what = f"{settings.clips_name} has no single ratings, so its raters cannot be studied"
        raise AmbiError(f"{what}: prepare it from a release that has them")
    if as_json:
        _print_json({"corpus": settings.clips_name, **vars(study)})
    else:
        print_tables(tables.tables(f"{settings.clips_name}: {selection.summary()}", study))


@app.command(epilog="Example: ambi-eval score predictions.jsonl --corpus crema_d")
def score(
    predictions: Annotated[
        Path, typer.Argument(help='Lines of {"id": ..., "distribution": {label: share}}.', metavar="PREDICTIONS.jsonl")
    ],
    corpus: CorpusOption,
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
    metadata: Metadata = "",
    as_json: Json = False,
    edges: Edges = None,
    acoustic: Acoustic = True,
    everything: Everything = False,
) -> None:
    """Score a file of predictions, with the references beside it."""
    from ambi_eval.analysis import tables
    from ambi_eval.analysis.systems import score_file
    from ambi_eval.config.load import load_corpus
    from ambi_eval.corpora.other_votes import target_votes
    from ambi_eval.report import verdict

    settings = load_corpus(corpus, metadata)
    selection = target_votes(settings, against)
    given = {"allow_partial": allow_partial, "smooth": smooth is not None, "acoustic": acoustic}
    system = score_file(predictions, selection, settings, edges=edges, **given)
    system.notes[:0] = selection.warnings
    if as_json:
        _print_json({"corpus": settings.clips_name, "against": against, **tables.system_json(system)})
    else:
        title = f"{predictions.name} against {settings.clips_name} ({against}): {selection.summary()}"
        print_tables(tables.tables(title, system.baselines, system, everything=everything))
        typer.echo("\n" + verdict.in_terminal(verdict.of_file(predictions.stem, system, selection.simulated)))


app.command(epilog="Example: ambi-eval report runs/demo -o report.html")(report)
app.command(epilog="Example: ambi-eval generalizability runs/demo")(generalizability)


@app.command(epilog="Example: ambi-eval funnel --model_args pretrained=ambi-tiny --corpus demo")
def funnel(
    model_args: Annotated[str, typer.Option("--model_args", help="As for lm_eval --model hf-audio.")],
    corpus: CorpusOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for the page, the numbers and the states.")
    ] = Path("funnel"),
    metadata: Metadata = "",
    as_json: Json = False,
) -> None:
    """Show where a model loses what it hears: bits at the encoder, at each layer, and in the answers."""
    from ambi_eval.funnel.content import FILE
    from ambi_eval.funnel.measure import measure
    from ambi_eval.funnel.page import table, write_page
    from ambi_eval.funnel.sentence import sentences
    from ambi_eval.report.verdict import in_terminal
    from ambi_eval.web.pages import write_json

    found = measure(model_args, corpus, output, corpus_overrides(metadata))
    write_json(found, output / FILE)
    write_page(found, output / "funnel.html")
    if as_json:
        _print_json(found)
        return
    print_tables(table(found))
    typer.echo("\n" + in_terminal(sentences(found)))
    typer.echo(f"wrote {output / 'funnel.html'} and {output / FILE}")


app.command(epilog="Example: ambi-eval budget runs/demo")(budget)


@app.command("probe", epilog="Example: ambi-eval probe --encoder microsoft/wavlm-large --corpus crema_d")
def probe_encoder(
    encoder: Annotated[str, typer.Option(help="An audio encoder of transformers, or egemaps (openSMILE).")],
    corpus: CorpusOption,
    metadata: Metadata = "",
    device: Annotated[str | None, typer.Option(help="cuda:0, cpu ...; by default what there is.")] = None,
) -> None:
    """Measure how well the states of an audio encoder tell the votes, and store it as a reference of the corpus."""
    from ambi_eval.funnel.encoders import probe
    from ambi_eval.web.format import with_interval

    name, reading, selection, file = probe(encoder, corpus, metadata, device)
    typer.echo(
        f"{name} ({reading.place}) tells {with_interval(reading.gain)} bits per vote on {len(selection.clips)} clips "
        f"of speakers that it was not fitted on.\nstored as a reference for baselines, score, report and board: {file}"
    )


@app.command(epilog="Example: ambi-eval bridge --model_args pretrained=ambi-tiny --port 8000")
def bridge(
    model_args: Annotated[str, typer.Option("--model_args", help="As for lm_eval --model hf-audio, without store=.")],
    name: Annotated[str | None, typer.Option(help="The model's name for clients; by default the checkpoint's.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any that is free.")] = 8000,
) -> None:
    """Serve hf-audio as an OpenAI-compatible server, for `openai-audio` and any other client."""
    from ambi_eval.models.bridge import BridgeError, check_address, serve

    try:
        check_address(host, port)
        from ambi_eval.models.audio_lm import open_engine
        from ambi_eval.models.bridge_hf_audio import BridgedEngine

        if re.search(r"(^|,)\s*store=", model_args):
            raise AmbiError("a bridge keeps no answers: give store= to openai-audio, not to the bridge")
        model = BridgedEngine(open_engine("hf-audio", model_args), name)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the server finishes what it was asked
        serve(model, host, port)
    except BridgeError as error:
        raise AmbiError(str(error)) from error


@app.command(epilog="Example: ambi-eval doctor --model_args pretrained=ambi-tiny")
def doctor(
    model_args: Annotated[str, typer.Option("--model_args", help="As for lm_eval: pretrained=..., for example.")],
    model: Annotated[str, typer.Option(help="As for lm_eval: hf-audio or openai-audio.")] = "hf-audio",
) -> None:
    """Check that a model hears, repeats its answers and gives consistent likelihoods. Exit code 1 if a check fails."""
    from ambi_eval.doctor import checks

    outcomes = checks.examine(model, model_args)
    print_tables(checks.table(outcomes))
    typer.echo(checks.verdict(outcomes))
    raise typer.Exit(int(any(outcome.status == "failed" for outcome in outcomes)))


@app.command(epilog="Example: ambi-eval check my_folder/mine.yaml")
def check(
    task: Annotated[Path, typer.Argument(help="The YAML of a task.", metavar="TASK.yaml", exists=True, dir_okay=False)],
) -> None:
    """Check a task's keys, prompts, votes and audio, and list all problems at once. Exit code 1 if there are any."""
    from ambi_eval.doctor.task_file import check_task

    found = check_task(task)
    for line in [*found.facts, *(f"note: {remark}" for remark in found.remarks)]:
        typer.echo(line)
    for problem in found.problems:
        typer.echo(f"problem: {problem}")
    more = f" ({found.more:,} of them are not shown: mend the first ones, then check again)" if found.more else ""
    typer.echo(f"{counted(len(found.problems) + found.more, 'problem')}{more}")
    raise typer.Exit(int(bool(found.problems)))


app.command(epilog="Example: ambi-eval sweep grids/demo.yaml -o runs/demo-grid --dry-run")(sweep)


def _print_json(content: Any) -> None:
    from ambi_eval.analysis.estimate import as_json

    typer.echo(json.dumps(as_json(content), allow_nan=False, indent=2))

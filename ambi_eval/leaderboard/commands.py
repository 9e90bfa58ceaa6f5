"""The commands `ambi-eval leaderboard ...`."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ambi_eval.errors import AmbiError, counted

if TYPE_CHECKING:
    from ambi_eval.leaderboard.verify import Verdict

leaderboard = typer.Typer(
    help="Submit runs, check submissions, build the boards.",
    epilog="Example: ambi-eval leaderboard verify leaderboard/submissions",
    no_args_is_help=True,
)

SUBMISSIONS = Path("leaderboard/submissions")
SubmissionPath = Annotated[Path, typer.Argument(help="A submission's folder.", metavar="SUBMISSION")]
Record = Annotated[Path | None, typer.Option(help="The maintainers' record; by default beside the submissions.")]


@leaderboard.command(
    epilog="Example: ambi-eval leaderboard pack runs/demo -o leaderboard/submissions/2026-01-31_me ..."
)
def pack(
    run: Annotated[Path, typer.Argument(help="The folder that lm_eval --log_samples --output_path wrote.")],
    name: Annotated[str, typer.Option(help="The system's name on the board.")],
    license: Annotated[str, typer.Option("--license", "--licence", help="License of the model's weights.")],
    contact: Annotated[str, typer.Option(help="Contact: an address or a page.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The submission's folder: .../<date>_<model>.")],
    training_data: Annotated[
        list[str] | None,
        typer.Option(help="CORPUS=..., whether the model may have seen this corpus in training; one for each corpus."),
    ] = None,
    parameters: Annotated[int | None, typer.Option(help="Number of the model's parameters.")] = None,
    hardware: Annotated[str | None, typer.Option(help="What it ran on; by default what the harness noted.")] = None,
) -> None:
    """Make a submission from a run: its answers and settings, without audio, transcripts and votes."""
    from ambi_eval.leaderboard.pack import Statement
    from ambi_eval.leaderboard.pack import pack as pack_run

    said = {}
    for each in training_data or ():
        corpus, equals, statement = each.partition("=")
        if not (equals and statement):
            raise AmbiError(f"--training-data {each!r} is not of the form CORPUS=STATEMENT.")
        said[corpus] = statement
    pack_run(run, Statement(name, license, contact, said, parameters, hardware), out)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    typer.echo(f"wrote {out} ({size / 1000:.0f} kB); it passes the checks")


@leaderboard.command(epilog="Example: ambi-eval leaderboard verify leaderboard/submissions")
def verify(
    path: Annotated[Path, typer.Argument(help="A submission, or a folder of them.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    rerun: Annotated[int, typer.Option(help="Let the model give K answers of each task again.", metavar="K")] = 0,
    seed: Annotated[int | None, typer.Option(help="Seed of the choice of answers; random by default.")] = None,
    record: Annotated[Path | None, typer.Option(help="Record here how far the submission is confirmed.")] = None,
    private: Annotated[Path | None, typer.Option(help="Withheld votes (of `withhold`): score their clips.")] = None,
) -> None:
    """Check submissions: form, clips, answers, scores, copies. Exit code 1 if one cannot be accepted."""
    from ambi_eval.leaderboard.record import write_record
    from ambi_eval.leaderboard.submission import CARD_FILE
    from ambi_eval.leaderboard.verify import verify as verify_one
    from ambi_eval.leaderboard.verify import verify_all

    single = (path / CARD_FILE).is_file()
    if not single and (rerun or record):
        raise AmbiError("--rerun and --record are about one submission: name its folder.")
    if seed is not None and not rerun:
        raise AmbiError("--seed chooses the answers of a re-run: it goes with --rerun.")
    verdicts = [verify_one(path)] if single else verify_all(path)
    if not verdicts:
        raise AmbiError(f"{path} holds no submissions: name the folder of one, or of several.")
    if private is not None:
        _score_withheld(path, verdicts, private, single)
    if rerun and not verdicts[0].problems:
        _run_again(path, verdicts[0], rerun, secrets.randbelow(2**31) if seed is None else seed)
    _show(verdicts, as_json)
    if any(verdict.problems for verdict in verdicts):
        raise typer.Exit(1)
    if record is not None:
        write_record(record, verdicts[0])


@leaderboard.command(epilog="Example: ambi-eval leaderboard withhold manifest.parquet -o split")
def withhold(
    manifest: Annotated[Path, typer.Argument(help="The whole manifest of a corpus, with all votes.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the two files.")],
    seed: Annotated[int | None, typer.Option(help="Seed of the choice of speakers; random by default.")] = None,
) -> None:
    """Split a corpus for a board: a manifest without the votes of half of the speakers, and a file of these votes."""
    from ambi_eval.leaderboard.withheld import PRIVATE, PUBLIC
    from ambi_eval.leaderboard.withheld import withhold as split

    shown, hidden = split(manifest, out, secrets.randbelow(2**31) if seed is None else seed)
    typer.echo(f"{out / PUBLIC}: {counted(shown + hidden, 'clip')}, {hidden} of them without votes; publish this one")
    typer.echo(f"{out / PRIVATE}: the votes of {counted(hidden, 'clip')}; keep this one secret")


@leaderboard.command(epilog="Example: ambi-eval leaderboard build -o runs/board")
def build(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the site.")] = Path("runs/board"),
    submissions: Annotated[Path, typer.Option(help="Folder of the submissions.")] = SUBMISSIONS,
    record: Record = None,
) -> None:
    """Verify all submissions and build the static site: index.html, results.json, a page for each submission."""
    from ambi_eval.leaderboard.record import RECORD
    from ambi_eval.leaderboard.site import build as build_site

    if record is not None and not record.is_file():
        raise AmbiError(f"--record {record} is no file: give the one that `leaderboard verify --record` wrote.")
    site = build_site(submissions, out, record or submissions.parent / RECORD)
    for verdict in site.refused:
        typer.echo(f"not shown: {verdict.name}: {verdict.problems[0]}", err=True)
    boards = counted(len(site.boards), "board")
    typer.echo(f"wrote {out / 'index.html'}: {boards}, {counted(len(site.shown), 'submission')}")


@leaderboard.command(epilog="Example: ambi-eval leaderboard card leaderboard/submissions/2026-01-31_me")
def card(
    submission: SubmissionPath,
    dataset: Annotated[str, typer.Option(help="The benchmark's repository on the Hugging Face Hub.")],
) -> None:
    """Print a submission's scores as the Hub's .eval_results YAML, for the model's repository."""
    from ambi_eval.leaderboard.card import eval_results_yaml
    from ambi_eval.leaderboard.verify import verify as verify_one

    typer.echo(eval_results_yaml(verify_one(submission), dataset), nl=False)


@leaderboard.command(epilog="Example: ambi-eval leaderboard schema > schema.json")
def schema() -> None:
    """Print the JSON schema of submission.yaml."""
    from ambi_eval.leaderboard.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


def _run_again(path: Path, verdict: Verdict, count: int, seed: int) -> None:
    from ambi_eval.leaderboard.rerun import rerun
    from ambi_eval.leaderboard.submission import read_submission
    from ambi_eval.leaderboard.untrusted import printable

    submission = read_submission(path)
    pools = {name: pools for name, pools in submission.pools.items() if verdict.tasks[name].pipelines}
    for name, found in rerun(submission.card, pools, count, seed).items():
        came = (
            f"{name}: {found.agreeing} of {found.compared} answers came out again (seed {seed}, "
            f"weights {(submission.card.model.digest or '')[:16]})"
        )
        if found.confirmed:
            verdict.tasks[name] = replace(verdict.tasks[name], status="re-run")
            verdict.notes.append(f"{came}.")
        else:
            verdict.problems.append(printable(f"{came}, {found.reason}."))


def _score_withheld(path: Path, verdicts: Sequence[Verdict], private: Path, single: bool) -> None:
    from ambi_eval.leaderboard.submission import read_submission
    from ambi_eval.leaderboard.verify import overrides
    from ambi_eval.leaderboard.withheld import read_withheld, score_withheld

    votes = read_withheld(private)
    for verdict in verdicts:
        if verdict.problems:
            continue
        submission = read_submission(path if single else path / verdict.name)
        scored = 0
        for name, pools in submission.pools.items():
            halves = score_withheld(name, overrides(submission.card.tasks[name]), pools, votes, private)
            verdict.notes += [f"{name}, {half}." for half in halves]
            scored += len(halves)
        if not scored:
            verdict.notes.append(f"none of its tasks has clips with withheld votes, so {private} has no effect.")


def _show(verdicts: Sequence[Verdict], as_json: bool) -> None:
    from ambi_eval.leaderboard.untrusted import printable

    if as_json:
        typer.echo(json.dumps([_content(verdict) for verdict in verdicts], indent=2))
        return
    for verdict in verdicts:
        typer.echo(f"{verdict.name}: {'REFUSED' if verdict.problems else verdict.status}")
        for problem in verdict.problems:
            typer.echo(f"  problem: {problem}")
        for note in verdict.notes:
            typer.echo(f"  note: {printable(note)}")


def _content(verdict: Verdict) -> dict[str, Any]:
    return {
        "name": verdict.name,
        "accepted": not verdict.problems,
        "status": verdict.status,
        "digest": verdict.digest,
        "problems": verdict.problems,
        "notes": verdict.notes,
        "tasks": {
            name: {"status": of.status, "scores": {pipeline: dict(s.metrics) for pipeline, s in of.pipelines.items()}}
            for name, of in verdict.tasks.items()
        },
    }

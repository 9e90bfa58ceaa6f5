"""The options and the printed figures that the commands `ambi-eval prepare CORPUS` of all recipes share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ambi_eval.corpora.preparation import Preparation, label_choices, summarize
from ambi_eval.corpora.registry import prepare_command
from ambi_eval.errors import AmbiError
from ambi_eval.paths import manifest_path

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


def out_folder(out: Path | None, name: str) -> Path:
    """Return the folder for a manifest: the given one, or the corpus's folder in the data directory."""
    return out or manifest_path(name).parent


def required_source(source: Path | None, name: str) -> Path:
    """Return `--source`, or raise an error that says what it must be."""
    if source is None:
        raise AmbiError(f"{name} is made from its release: {prepare_command(name)}.")
    return source


def refuse_together(route: str, **given: object) -> None:
    """Raise an error if an option was given that does not fit the source of the corpus, such as `--from-hub`."""
    for name, value in given.items():
        if value:
            option = "--" + name.replace("_", "-")
            raise AmbiError(f"{option} does not go with {route}: leave one of the two out.")


def report(preparation: Preparation, name: str) -> None:
    """Print the figures that a user should check in a new manifest."""
    for key, value in _figures(preparation, name):
        typer.echo(f"{key:<10} {value}")


def _figures(preparation: Preparation, name: str) -> Iterator[tuple[str, str]]:
    summary = summarize(preparation.clips)
    fewest, mean, most = summary.raters
    yield "clips", f"{summary.clips:,}"
    for reason, count in preparation.skipped.items():
        yield "skipped", f"{count:,} ({reason})"
    for remark, count in preparation.remarks.items():
        yield "note", f"{count:,} ({remark})"
    yield "votes", f"{summary.votes:,.10g} ({preparation.counting})"
    yield "raters", f"{fewest:g} to {most:g} per clip, {mean:.2f} on average"
    yield "ambiguity", f"{summary.ambiguity_bits:.3f} bits on average (entropy of a clip's votes)"
    yield "unanimous", f"{summary.unanimous:,} clips"
    yield "tied", f"{summary.tied:,} clips (several labels share the most votes)"
    for split, clips in summary.splits.items():
        yield "split", f"{split}: {clips:,} clips"
    for choice, clips, mass in label_choices(name, preparation.clips):
        yield "labels", f"{choice}: {clips:,} clips, {mass:.1%} of the votes"
    yield "license", preparation.corpus.license
    yield "cite", preparation.corpus.citation
    yield "manifest", str(preparation.manifest)

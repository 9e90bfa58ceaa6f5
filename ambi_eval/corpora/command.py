"""The commands `ambi-eval prepare CORPUS`: their options, and the figures that they print."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from ambi_eval.corpora.preparation import Preparation, label_choices, summarize
from ambi_eval.corpora.registry import prepare_command, recipe
from ambi_eval.errors import AmbiError, counted
from ambi_eval.paths import manifest_path

Source = Annotated[Path | None, typer.Option(help="The folder that the release was unpacked to.")]
_MIRROR = "A mirror that has the shares of the votes: Hugging Face id, or folder of a copy."
FromHub = Annotated[str | None, typer.Option(help=_MIRROR)]
Out = Annotated[Path | None, typer.Option(help="Folder for the manifest; by default in the data directory.")]
CountEach = Annotated[bool, typer.Option("--count-each", help="Count each of a rater's k labels as one vote, not 1/k.")]
_KEEP = typer.Option("--allow-missing-audio", help="Keep clips without audio, for work on the votes alone.")
AllowMissingAudio = Annotated[bool, _KEEP]


def command_of(name: str) -> Callable[..., None]:
    """Return the command `ambi-eval prepare NAME`, whose options are the parameters of the recipe's `prepare`.

    Every recipe has `out`, the folder for `manifest.parquet`, and may have `source`, the folder of the release
    (`CORPUS.source` names its content), which is required unless a mirror is given. Votes of raters who saw the face
    (`modality`) go into a separate folder.
    """
    prepare = recipe(name).prepare

    def command(out: Path | None, **given: Any) -> None:
        if "source" in given and not (given["source"] or given.get("from_hub") or given.get("from_audb")):
            raise AmbiError(f"{name} is made from its release: {prepare_command(name)}.")
        modality = given.get("modality", "voice")
        folder = out_folder(out, name if modality == "voice" else f"{name}_{modality}")
        report(prepare(out=folder, **given), name)

    shown = signature(prepare, eval_str=True)
    parameters = [
        Parameter(each.name, Parameter.KEYWORD_ONLY, default=None, annotation=Source if each.name == "source" else Out)
        if each.name in ("source", "out")
        else each
        for each in shown.parameters.values()
    ]
    command.__signature__ = shown.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__doc__ = prepare.__doc__.partition("\n\n")[0]
    return command


def out_folder(out: Path | None, name: str) -> Path:
    """Return the folder for a manifest: the given one, or the corpus' folder in the data directory."""
    return out or manifest_path(name).parent


def refuse_together(route: str, **given: object) -> None:
    """Raise an error if a given option does not go with the source of the corpus (`route`), such as `--from-hub`."""
    for name in (name for name, value in given.items() if value):
        raise AmbiError(f"--{name.replace('_', '-')} does not go with {route}: leave one of the two out.")


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
    yield "unanimous", counted(summary.unanimous, "clip")
    yield "tied", f"{counted(summary.tied, 'clip')} (several labels share the most votes)"
    for split, clips in summary.splits.items():
        yield "split", f"{split}: {counted(clips, 'clip')}"
    for choice, clips, mass in label_choices(name, preparation.clips):
        yield "labels", f"{choice}: {counted(clips, 'clip')}, {mass:.1%} of the votes"
    yield "license", preparation.corpus.license
    yield "cite", preparation.corpus.citation
    yield "manifest", str(preparation.manifest)

"""The known corpora: every module in `recipes/`, and the demo."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.paths import manifest_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Facts about a corpus that are known before it is prepared."""

    title: str  # the name that its authors use
    language: str  # what the speakers speak, as an ISO 639-1 code
    license: str  # its license in a few words, and what the license forbids
    citation: str  # the paper to cite
    homepage: str  # where to get the release
    source: str | None = None  # content of the folder that `--source` names; None for a corpus that needs no release
    clips: int | None = None  # published number of clips; None if it is unknown or differs between releases
    hours: float | None = None  # published length of the audio (an upper bound) in hours; None if it is unknown


def corpus_names() -> list[str]:
    """Return the names of all corpora, sorted."""
    recipes = (path.stem for path in (Path(__file__).parent / "recipes").glob("[!_]*.py"))
    return sorted(["demo", *recipes])


def recipe(name: str) -> ModuleType:
    """Return the module of a corpus, with its `CORPUS` and its `prepare`; `name` is one of `corpus_names`."""
    return import_module("ambi_eval.demo.corpus" if name == "demo" else f"ambi_eval.corpora.recipes.{name}")


def corpus(name: str) -> Corpus:
    """Return what is known about a corpus; `name` is one of `corpus_names`."""
    return recipe(name).CORPUS


def needs_release(name: str) -> bool:
    """Return whether the user must get files to prepare this corpus; the demo needs none."""
    return name not in corpus_names() or corpus(name).source is not None


def published_size(name: str) -> tuple[int, float] | None:
    """Return the published number of clips of a known corpus that is not prepared, and their length in seconds.

    The length is NaN if it is unknown. None for a corpus that is prepared, or whose number of clips is unknown.
    """
    if name not in corpus_names() or not needs_release(name) or manifest_path(name).is_file():
        return None
    about = corpus(name)
    return None if about.clips is None else (about.clips, math.nan if about.hours is None else 3600 * about.hours)


def prepare_command(name: str) -> str:
    """Return the command line that prepares a known corpus."""
    source = corpus(name).source
    return f"ambi-eval prepare {name}" + (f" --source DIR (the folder that holds {source})" if source else "")


def ensure_manifest(name: str) -> Path:
    """Return the path of the manifest of a corpus, or of any folder of the data directory that holds one.

    A corpus that needs no release is prepared if its manifest is missing.

    Raises:
        AmbiError: If there is no manifest and none can be made here; the message names the command to run.
    """
    path = manifest_path(name)
    if path.is_file():
        return path
    if name not in corpus_names():
        known = f"{did_you_mean(name, corpus_names())} (known: {', '.join(corpus_names())}"
        raise AmbiError(f"no corpus is named '{name}'{known}; give a manifest of your own by its path)")
    if needs_release(name):
        raise AmbiError(f"no manifest of {name} at {path}: make it with {prepare_command(name)}")
    logger.info("preparing the corpus %s in %s", name, path.parent)
    recipe(name).prepare(path.parent)
    return path

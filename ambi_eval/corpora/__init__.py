"""The corpora that ambi_eval knows, and the manifest that each of them becomes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from ambi_eval.errors import AmbiError, did_you_mean

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Corpus:
    """How a corpus becomes a manifest.

    Attributes:
        module: The module whose `prepare` function writes the manifest.
        source: What the folder given as `--source` holds, or None for a corpus that is made out of nothing.
    """

    module: str
    source: str | None


CORPORA = {
    "crema_d": Corpus("ambi_eval.corpora.crema_d", "AudioWAV/ and processedResults/"),
    "demo": Corpus("ambi_eval.demo.corpus", None),
    "iemocap": Corpus("ambi_eval.corpora.iemocap", "Session1/ to Session5/"),
    "msp_podcast": Corpus("ambi_eval.corpora.msp_podcast", "Audios/ and Labels/"),
}


def prepare_command(name: str) -> str:
    """Return the command line that prepares a known corpus."""
    source = CORPORA[name].source
    return f"ambi-eval prepare {name}" + (f" --source DIR (the folder that holds {source})" if source else "")


def ensure_manifest(name: str) -> Path:
    """Return the path of a corpus' manifest, preparing the corpus first if that needs no release on disk.

    Args:
        name: One of `CORPORA`, or any folder of the data directory that holds a `manifest.parquet`.

    Raises:
        AmbiError: If there is no manifest and none can be made on the spot; the sentence holds the command to run.
    """
    from ambi_eval.paths import manifest_path

    path = manifest_path(name)
    if path.is_file():
        return path
    if name not in CORPORA:
        raise AmbiError(
            f"no corpus is named '{name}'{did_you_mean(name, CORPORA)} (known: {', '.join(CORPORA)}; give a manifest "
            f"of your own by its path)"
        )
    if CORPORA[name].source is not None:
        raise AmbiError(f"no manifest of {name} at {path}: make it with {prepare_command(name)}")
    logger.info("preparing the corpus %s in %s", name, path.parent)
    import_module(CORPORA[name].module).prepare(path.parent)
    return path

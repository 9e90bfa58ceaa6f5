"""Where things lie on disk: the data directory, the manifest of a corpus, the task files that come with the package."""

from __future__ import annotations

import os
from pathlib import Path


def data_dir() -> Path:
    """Return the folder of all prepared corpora: `$AMBI_DATA`, else `ambi_eval` in the user's data directory."""
    if chosen := os.environ.get("AMBI_DATA"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "ambi_eval"


def cache_dir() -> Path:
    """Return the folder of what can be made anew at any time: `ambi_eval` in the user's cache directory."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ambi_eval"


def manifest_path(corpus: str) -> Path:
    """Return where the manifest of a prepared corpus lies."""
    return data_dir() / corpus / "manifest.parquet"


def tasks_dir() -> Path:
    """Return the folder of the task files that come with the package: in the package, or beside it in a checkout."""
    package = Path(__file__).parent
    return next(folder for folder in (package / "tasks", package.parent / "tasks") if folder.is_dir())

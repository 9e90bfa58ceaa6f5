"""Where things lie on disk: the data directory, the manifest of a corpus, the task files that come with the package."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ambi_eval.errors import AmbiError


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


def check_can_write(folder: Path, fix: str) -> None:
    """Check that files can be written into a folder, which need not exist yet; the check leaves no file.

    Raises:
        AmbiError: If not; `fix` is the end of the sentence: what the user can do about it.
    """
    try:
        there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise AmbiError(f"no file can be written into {folder} ({error.strerror}): {fix}") from error


@contextmanager
def writing(path: Path, fix: str) -> Iterator[Path]:
    """Yield a temporary path beside a file, which gets the file's name at the end: it is written whole or not at all.

    Raises:
        AmbiError: If it cannot be written; `fix` is the end of the sentence: what the user can do about it.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield unfinished
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise AmbiError(f"cannot write {path} ({error.strerror or error}): {fix}") from error


def tasks_dir() -> Path:
    """Return the folder of the task files that come with the package: in the package, or beside it in a checkout."""
    package = Path(__file__).parent
    return next(folder for folder in (package / "tasks", package.parent / "tasks") if folder.is_dir())

"""The index of the harness's own tasks, kept in a cache file between two starts of `lm_eval`.

At every start the harness parses all YAML files of its own tasks, 14,000 in release 0.4.13, to learn their names. That
is more than half of the processor time before the model. The cache file holds the index that the harness built, with
a key of the harness's version and of the path, size and modification time of every file in its tasks folder. If the
cache has another key, is damaged, or cannot be written, the harness builds its index as usual.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from lm_eval.tasks._index import Entry, Kind

from ambi_eval.errors import AmbiError
from ambi_eval.harness.garbage import paused
from ambi_eval.paths import cache_dir, writing

FORMAT = 1
# The errors of a cache file that is missing, damaged or not permitted; RuntimeError: the user has no home directory.
UNUSABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError)
Index = dict[str, Entry]

# The harness's own logger: it warns of a task that replaces another one.
logger = logging.getLogger("lm_eval.tasks._index")


def harness_tasks() -> Path:
    """Return the folder of the tasks that come with the harness."""
    import lm_eval.tasks

    return Path(lm_eval.tasks.__file__).parent


def take_index_from_cache(module: ModuleType) -> None:
    """Let `TaskIndex.build` take the index of the harness's own folder from the cache, if there is a valid one."""
    build: Callable[..., Index] = module.TaskIndex.build

    def build_or_read(paths: Iterable[Path], **options: Any) -> Index:
        paths = list(paths)
        own = harness_tasks()
        if options or not paths or Path(paths[0]) != own:
            return build(paths, **options)
        index = _read(own)
        if index is None:
            index = build([own])
            _write(own, index)
        for name, entry in build(paths[1:]).items():
            if name in index:
                logger.warning("Task '%s' from %s overrides %s", name, entry.yaml_path, index[name].yaml_path)
            index[name] = entry
        return index

    module.TaskIndex.build = staticmethod(build_or_read)


def cache_file(folder: Path) -> Path:
    """Return the cache file of a tasks folder; each installation of the harness has one."""
    return cache_dir() / f"harness_tasks_{sha256(str(folder).encode()).hexdigest()[:12]}"


def key(folder: Path) -> str:
    """Return a digest of everything that the index depends on: the harness's version and the state of every file."""
    digest = sha256(f"{FORMAT} {version('lm_eval')} {folder}".encode())
    for parent, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for file in sorted(os.scandir(parent), key=lambda file: file.name):
            if not file.is_dir():
                state = file.stat()
                digest.update(f"{file.path} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


@paused()
def _read(folder: Path) -> Index | None:
    """Return the index in the cache, or None if there is no valid one."""
    try:
        stored_key, body = cache_file(folder).read_bytes().split(b"\n", 1)
        if stored_key.decode() != key(folder):
            return None
        return {
            name: Entry(name, Kind[kind], Path(path) if path else None, content, set(tags))
            for name, kind, path, content, tags in json.loads(zlib.decompress(body))
        }
    except (*UNUSABLE, zlib.error):
        return None


def _write(folder: Path, index: Index) -> None:
    """Write the index to the cache, completely or not at all; do nothing if that is not possible."""
    entries = [
        [name, entry.kind.name, entry.yaml_path and str(entry.yaml_path), entry.cfg, sorted(entry.tags)]
        for name, entry in index.items()
    ]
    with suppress(*UNUSABLE, AmbiError):
        text = json.dumps(entries)
        if json.loads(text) != entries:  # JSON changes some YAML values, such as a key that is a number
            return
        with writing(cache_file(folder), "the next start builds the index again") as unfinished:
            unfinished.write_bytes(f"{key(folder)}\n".encode() + zlib.compress(text.encode(), 1))

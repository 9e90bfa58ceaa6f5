"""Reads files that anyone may have written: with limits on their size, strict parsing, and without running anything."""

from __future__ import annotations

import gzip
import json
import math
import stat
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ambi_eval.config.yaml_reader import parse_yaml
from ambi_eval.errors import AmbiError

MEGABYTE = 1_000_000
# Limits: answers are large, all other files are small.
YAML_BYTES = 64_000
JSON_BYTES = MEGABYTE
PACKED_BYTES = 20 * MEGABYTE
UNPACKED_BYTES = 512 * MEGABYTE
LINE_BYTES = 256_000
ENTRIES = 1000


def folder_entries(folder: Path) -> dict[str, Path]:
    """Return the files and folders in a folder by name; links are never followed.

    Raises:
        AmbiError: If it is no folder, has too many entries, or holds a link or a special file.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise AmbiError(f"{folder.name} is no folder: give a folder, not a link or a file.")
    entries = sorted(folder.iterdir())
    if len(entries) > ENTRIES:
        raise AmbiError(f"{folder.name} has {len(entries)} entries; at most {ENTRIES} are allowed.")
    for entry in entries:
        mode = entry.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise AmbiError(f"{_named(entry)} is a link or a special file; only files and folders are allowed.")
    return {entry.name: entry for entry in entries}


def plain_file(path: Path, limit: int) -> Path:
    """Return the path of a plain file.

    Raises:
        AmbiError: If it is missing, a link, no file, or larger than `limit` bytes.
    """
    try:
        status = path.lstat()
    except OSError as error:
        raise AmbiError(f"{_named(path)} cannot be read ({error.strerror}).") from error
    if not stat.S_ISREG(status.st_mode):
        raise AmbiError(f"{_named(path)} is no plain file.")
    if status.st_size > limit:
        raise AmbiError(f"{_named(path)} has {status.st_size:,} bytes; at most {limit:,} are allowed.")
    return path


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file of plain mappings, lists, strings and numbers.

    Raises:
        AmbiError: If it is too large or no YAML, or uses tags, anchors, aliases, a key twice, or deep nesting.
    """
    return parse_yaml(_decoded(plain_file(path, YAML_BYTES).read_bytes(), path), _named(path), trusted=False)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; see `parse_json`."""
    return parse_json(_decoded(plain_file(path, JSON_BYTES).read_bytes(), path), _named(path))


def parse_json(text: str, where: str) -> Any:
    """Return the content of a JSON text; `where` names it in messages.

    Raises:
        AmbiError: If it is no JSON, has a key twice, NaN or infinity, a huge number, or is nested too deeply.
    """
    try:
        return _STRICT.decode(text)
    except (ValueError, RecursionError) as error:
        raise AmbiError(f"{where} is no strict JSON: {str(error)[:300]}") from error


@dataclass
class UnpackLimit:
    """The most bytes that all files of one submission may unpack to, and the number used so far."""

    limit: int = UNPACKED_BYTES
    used: int = 0


def gzip_lines(path: Path, allowed: UnpackLimit) -> Iterator[str]:
    """Yield the lines of a gzip file, unpacked one by one.

    Raises:
        AmbiError: If it is too large, packed or unpacked, has a line that is too long, or is no gzip of UTF-8 text.
    """
    try:
        with gzip.open(plain_file(path, PACKED_BYTES)) as file:
            while line := file.readline(LINE_BYTES + 1):
                allowed.used += len(line)
                if len(line) > LINE_BYTES:
                    raise AmbiError(f"{_named(path)} has a line of more than {LINE_BYTES:,} bytes.")
                if allowed.used > allowed.limit:
                    raise AmbiError(f"{_named(path)}: the submission unpacks to more than {allowed.limit:,} bytes.")
                yield _decoded(line, path)
    except (OSError, EOFError, zlib.error) as error:
        raise AmbiError(f"{_named(path)} is no whole gzip file ({error}).") from error


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:40]} is too large")
    return number


# Made once; `json.loads` would make a new decoder for every line.
_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)


def _decoded(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AmbiError(f"{_named(path)} is no UTF-8 text ({error.reason}).") from error


def printable(text: str) -> str:
    """Return an untrusted text; U+FFFD replaces control characters of the terminal and invalid Unicode."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _named(path: Path) -> str:
    """Return the name of a file for messages: its folder and name, without the rest of the path."""
    return f"{path.parent.name}/{path.name}"

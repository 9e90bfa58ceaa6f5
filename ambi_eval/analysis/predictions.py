"""Reads predictions from a file of JSON lines, and checks them against the clips and labels of a corpus."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ambi_eval.corpora.manifest import Clip
from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.votes import Array

# The sum of rounded shares may differ from 1 by this much; they are divided by their sum.
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Predictions:
    """The content of a file of predictions.

    Attributes:
        clips: Indices of the predicted clips, ascending, shape (predicted,).
        p: Predicted distributions of these clips, shape (predicted, labels); NaN if the file says null.
    """

    clips: NDArray[np.intp]
    p: Array
    notes: list[str]


class _LineError(Exception):
    """A mistake in one line: its kind, with the way to correct it, and the wrong text of this line."""

    def __init__(self, kind: tuple[str, str], value: str) -> None:
        super().__init__(kind, value)
        self.kind, self.value = kind, value


def read_predictions(
    path: Path | Mapping[str, Any], clips: Sequence[Clip], labels: Sequence[str], *, allow_partial: bool = False
) -> Predictions:
    """Read lines of `{"id": ..., "distribution": {label: share}}` from a file, or such a mapping of ids.

    Labels that a distribution does not mention get 0. `"distribution": null` means that the model gave no valid answer;
    such a clip gets the worst score. A file is complete if it has all clips, or all clips with audio. With
    `allow_partial`, missing and unknown clips are ignored; notes then count them.

    Raises:
        AmbiError: For invalid lines, repeated or unknown ids, unknown labels, shares that are no distribution, and
            missing clips. The message counts the lines with the first kind of mistake, and quotes up to three.
    """
    if isinstance(path, Mapping):
        lines = [json.dumps({"id": name, "distribution": stated}) for name, stated in path.items()]
        path = Path("predictions")
    else:
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise AmbiError(f"{path} cannot be read ({error}): give a .jsonl file of predictions") from error
    rows: dict[str, Array] = {}
    mistakes: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            name, shares = _parse(line, labels)
            if name in rows:
                raise _LineError(("an id that an earlier line has", "keep one line a clip"), f"'{name}'")
            rows[name] = shares
        except _LineError as error:
            mistakes[error.kind].append(f"line {number}: {error.value}")
    for (what, fix), offenders in mistakes.items():
        raise AmbiError(f"{path}: {len(offenders)} line(s) with {what} ({_some(offenders)}); {fix}")
    return _matched(path, rows, clips, allow_partial)


def _parse(line: str, labels: Sequence[str]) -> tuple[str, Array]:
    """Return the id in a line and its distribution, shape (labels,); NaN for null."""
    try:
        record = json.loads(line, object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _LineError(("invalid JSON", "write one object a line"), str(error)) from error
    if isinstance(record, dict) and type(record.get("id")) is int:
        record["id"] = str(record["id"])  # as in a manifest
    if not isinstance(record, dict) or not isinstance(record.get("id"), str) or "distribution" not in record:
        shape = 'write {"id": "...", "distribution": {"LABEL": SHARE, ...}}'
        raise _LineError(("something else than an id and a distribution", shape), line.strip()[:60])
    name, stated = record["id"], record["distribution"]
    if stated is None:
        return name, np.full(len(labels), np.nan)
    if not isinstance(stated, dict):
        raise _LineError(("a distribution that is no object", "write a share for each label"), f"'{name}'")
    for label, share in stated.items():
        if label not in labels:
            fix = f"the labels are {', '.join(labels)}"
            raise _LineError(("a label that the corpus does not have", fix), f"'{label}'{did_you_mean(label, labels)}")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1 + SUM_TOLERANCE:
            fix = "a share is a number from 0 to 1"
            raise _LineError(("a share that cannot be", fix), f"{label} is {json.dumps(share)} in '{name}'")
    shares = np.array([stated.get(label, 0.0) for label in labels], dtype=float)
    if abs(shares.sum() - 1) > SUM_TOLERANCE:
        raise _LineError(
            ("shares that do not sum to 1", "divide them by their sum"), f"'{name}' sums to {shares.sum():.4g}"
        )
    return name, shares / shares.sum()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = Counter(key for key, _ in pairs)
    for key, count in counts.items():
        if count > 1:
            raise _LineError(("a key that stands twice in one object", "keep one of the two"), f"'{key}'")
    return dict(pairs)


def _no_constant(constant: str) -> NoReturn:
    raise _LineError(("a share that is no number", "write null for a clip without a valid answer"), constant)


def _matched(path: Path, rows: dict[str, Array], clips: Sequence[Clip], allow_partial: bool) -> Predictions:
    """Return the predictions in the order of the clips; raise for missing or unknown clips."""
    known = {clip.id for clip in clips}
    unknown = [name for name in rows if name not in known]
    missing = [clip.id for clip in clips if clip.id not in rows]
    notes = []
    if unknown:
        told = f"{len(unknown)} id(s) that the corpus does not have ({_some(unknown)}{did_you_mean(unknown[0], known)})"
        if not allow_partial:
            raise AmbiError(f"{path}: {told}; take them out, or go on without them with --allow-partial")
        notes.append(f"not scored: {told}")
    if missing:
        told = f"{len(missing)} of {len(clips)} clips are missing ({_some(missing)})"
        nothing_to_hear = missing == [clip.id for clip in clips if clip.audio is None]
        if len(missing) == len(clips):
            raise AmbiError(f"{path}: none of the {len(clips)} clips is there; give predictions of this corpus")
        if not allow_partial and not nothing_to_hear:
            raise AmbiError(f"{path}: {told}; add them, or score the others alone with --allow-partial")
        notes.append(f"PARTIAL: {told}" + (", those without audio" if nothing_to_hear else ""))
    there = np.array([number for number, clip in enumerate(clips) if clip.id in rows])
    p = np.array([rows[clips[number].id] for number in there])
    if invalid := int(np.isnan(p[:, 0]).sum()):
        notes.append(f"{invalid} of {len(p)} clips have no valid answer and score the worst value")
    return Predictions(there, p, notes)


def _some(names: Sequence[str]) -> str:
    return "; ".join(shorten(name, 100, placeholder="...") for name in names[:3]) + ("; ..." if len(names) > 3 else "")

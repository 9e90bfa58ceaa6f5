"""The label files of the MSP laboratory (MSP-Podcast, WHiSER): each rater's emotions, and the consensus labels."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer

from ambi_eval.corpora.manifest import Rating
from ambi_eval.corpora.preparation import present, read_json, read_rows
from ambi_eval.errors import AmbiError

Choice = Literal["primary", "secondary"]
ChoiceOption = Annotated[Choice, typer.Option(help="One emotion of each rater, or all that the rater named.")]

LABELS = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "other", "sad", "surprise")
_OTHERS = ("amused", "annoyed", "concerned", "confused", "depressed", "disappointed", "excited", "frustrated")
SECONDARY_LABELS = (*LABELS, *_OTHERS)
_CONSENSUS = dict(zip("ACDFHNOSU", LABELS, strict=True))  # X: no label got the most votes
_MISSPELT = {"dissapointed": "disappointed"}

# `WORKER00000020; Neutral; Neutral,Concerned; A:4.000000; V:4.000000; D:4.000000;`. The list of secondary emotions may
# be empty or missing, and the rater's own words after `Other-` may contain semicolons.
_DETAIL = re.compile(r"(WORKER\d+);\s*(.*?)\s*;\s*A:([^;]*);\s*V:([^;]*);\s*D:([^;]*);?\s*", re.DOTALL)


class Annotation(NamedTuple):
    """One line of the detailed labels: the rating of one file by one worker, in the worker's words."""

    file: str
    worker: str
    primary: str
    secondary: str
    attributes: tuple[float | None, ...]


def read_ratings(folder: Path, choice: Choice, remarks: Counter[str]) -> dict[str, list[Rating]]:
    """Return the ratings of each audio file: the one `primary` emotion, or all that the worker named (`secondary`).

    `remarks` counts the labels and lines that were not read, or were read as something else.
    """
    ratings: dict[str, list[Rating]] = {}
    for each in _annotations(folder, remarks):
        if not each.primary.strip():
            remarks["ratings without an emotion, not counted"] += 1
            continue
        words = [each.primary, *each.secondary.split(",")] if choice == "secondary" else [each.primary]
        known = LABELS if choice == "primary" else SECONDARY_LABELS
        labels = dict.fromkeys(_label(word.strip(), known, remarks) for word in words if word.strip())
        ratings.setdefault(each.file, []).append(Rating(each.worker, tuple(labels), *each.attributes))
    return ratings


def refuse_count_each(count_each: bool, choice: Choice) -> None:
    """Raise an error if `count_each` is given, but only one label of each rater is read."""
    if count_each and choice == "primary":
        raise AmbiError("--count-each goes with --labels secondary only: a rater has one primary emotion.")


def read_consensus(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the consensus on each audio file, as attributes of `Clip`; the split is named as in the release."""
    # Releases up to 1.9 misspell the file name.
    spellings = ("labels_consensus", "labels_concensus")
    path = present(*(folder / f"{name}.{suffix}" for suffix in ("csv", "json") for name in spellings))
    if path.suffix == ".json":
        rows = read_json(path)
    else:
        rows = {row["FileName"]: row for row in read_rows(path, "FileName", "SpkrID", "Gender", "Split_Set")}
    return {file: _settled(row) for file, row in rows.items()}


def _settled(row: dict[str, str]) -> dict[str, Any]:
    return {
        "speaker": _known(row.get("SpkrID")),
        "sex": _known(row.get("Gender", "").lower()),
        "split": _known(row.get("Split_Set", "").lower()),
        "consensus": _CONSENSUS.get(row.get("EmoClass", "").strip()),
        **dict(zip(("arousal", "valence", "dominance"), _attributes(row), strict=True)),
    }


def _label(word: str, known: tuple[str, ...], remarks: Counter[str]) -> str:
    label = _MISSPELT.get(word.lower(), word.lower())
    if label in known:
        return label
    if not label.startswith("other"):  # `Other-` and `Other (` are followed by the rater's own words
        remarks["emotions that are on no list, counted as other"] += 1
    return "other"


def _annotations(folder: Path, remarks: Counter[str]) -> Iterator[Annotation]:
    """Yield all ratings of a release; secondary emotions are separated by commas."""
    path = present(folder / "labels_detailed.csv", folder / "labels_detailed.json")
    if path.suffix == ".json":
        for file, workers in read_json(path).items():
            yield from (_of_columns(file, worker, rating) for worker, rating in workers.items())
        return
    for row in read_rows(path, "FileName"):
        worker = row.get("Workers") or row.get("WorkerID")  # up to 1.6, and from 2.0
        if "EmoDetail" in row:
            match = _DETAIL.fullmatch(row["EmoDetail"])
            if match is None:
                remarks["ratings that could not be read"] += 1
            else:
                attributes = tuple(map(number_of, match.groups()[2:]))
                yield Annotation(row["FileName"], match[1], *_primary_and_secondary(match[2]), attributes)
        elif worker and "EmoClass_Major" in row:
            yield _of_columns(row["FileName"], worker, row)
        else:
            ours = "a release of the MSP laboratory has EmoDetail, or EmoClass_Major and Workers or WorkerID"
            raise AmbiError(f"{path} has the columns {', '.join(map(str, row))}; {ours}: take the official file.")


def _of_columns(file: str, worker: str, row: dict[str, Any]) -> Annotation:
    return Annotation(file, worker, row["EmoClass_Major"], row.get("EmoClass_Second", ""), _attributes(row))


def _attributes(row: dict[str, Any]) -> tuple[float | None, ...]:
    return tuple(number_of(row.get(column)) for column in ("EmoAct", "EmoVal", "EmoDom"))


def _primary_and_secondary(detail: str) -> tuple[str, str]:
    """Return the primary emotion and the list of secondary ones, which may be missing.

    The rater's own words after `Other-` may hold semicolons. So the list is the text after the last semicolon, if that
    is a list of emotions.

    >>> _primary_and_secondary("Other-bored; or not; Sad,Annoyed")
    ('Other-bored; or not', 'Sad,Annoyed')
    """
    if detail.lower().startswith("other"):
        primary, _, last = detail.rpartition(";")
        words = [_MISSPELT.get(word, word) for word in map(str.strip, last.lower().split(","))]
        if primary and all(not word or word.startswith("other") or word in SECONDARY_LABELS for word in words):
            return primary, last.strip()
        return detail, ""
    primary, _, secondary = detail.partition(";")
    return primary, secondary.strip()


def _known(value: str | None) -> str | None:
    return None if not value or value.lower() in ("unknown", "na") else value


def number_of(value: Any) -> float | None:
    """Return a number, or None for an empty text or `NaN`."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None

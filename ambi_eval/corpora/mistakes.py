"""Error messages for wrong columns and values of a manifest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ambi_eval.errors import AmbiError, did_you_mean

_OTHER_NAMES = {
    "sex": "gender",
    "speaker": "speaker_id spk",
    "audio": "wav path file filename audio_path",
    "transcript": "text transcription",
    "votes": "label labels counts emotion",
    "id": "name clip",
}
# Other common names for the columns of a manifest.
OTHER_NAMES = {other: name for name, others in _OTHER_NAMES.items() for other in others.split()}
EXAMPLE = {"calm": 3, "tense": 2}
TABLE = (
    "a manifest is a .parquet or .jsonl file, not '{suffix}': write one JSON object a line, "
    '{{"id": "clip1", "audio": "clip1.wav", "speaker": "anna", "votes": {{"calm": 3, "tense": 2}}}}.'
)


def unknown_column(name: str, known: Sequence[str]) -> str:
    """Return the end of the error message for an unknown column."""
    if other := OTHER_NAMES.get(name.lower()):
        return f"has the column '{name}', which a manifest calls '{other}': rename it."
    hint = f"{did_you_mean(name.lower()[:100], known)} (known: {', '.join(known)})"
    return f"has the column '{name:.100}', which manifests do not know{hint}; rename it or leave it out."


def refuse(problems: Sequence[str]) -> None:
    """Raise an `AmbiError` if there are problems; its message has the first one and the number of the others."""
    if problems:
        raise AmbiError.of(problems)


def wrong_values(column: str, values: Iterable[Any], ids: Sequence[Any], *, number: bool) -> list[str]:
    """Return an error message for each invalid value of a column of numbers, or of text, votes, folds or ratings.

    The values are Python objects, and `ids` the clips' ids, as the file gives them.
    """
    values, found = list(values), []
    for place, value in enumerate(values):
        clip = f"clip number {place + 1}" if column == "id" else f"clip '{ids[place]}'"
        if column == "votes":
            wrong = _wrong_votes(value)
        elif column == "ratings":
            fits = value is None or (isinstance(value, list) and all(isinstance(each, dict) for each in value))
            wrong = "" if fits else f'the ratings {_short(value)}: write [{{"rater": "r1", "labels": ["calm"]}}, ...]'
        elif column == "folds":
            fits = value is None or isinstance(value, dict)
            wrong = "" if fits else f'the folds {_short(value)}: write each partition and its part, {{"fold1": "test"}}'
        else:
            wrong = _wrong_scalar(column, value, number)
        if wrong:
            found.append(f"{clip} has {wrong}.")
    if not found and len({type(value) for value in values} - {type(None)}) > 1:
        found.append(f"the column '{column}' has numbers and texts: put all of its values into quotes.")
    return found


def _wrong_votes(value: Any) -> str:
    if value is None:
        return f'no votes: write label and count, "votes": {json.dumps(EXAMPLE)}'
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return f'the votes {_short(value)}, a list: write label and count, "votes": {json.dumps(Counter(value))}'
    if not isinstance(value, dict):
        return f'the votes {_short(value)}: write label and count, "votes": {json.dumps(EXAMPLE)}'
    for label, count in value.items():
        if count is not None and _is_no_number(count):
            return f"{_short(count)} as the number of votes for '{label}': write a number"
    return ""


def _wrong_scalar(column: str, value: Any, number: bool) -> str:
    if number and value is not None and _is_no_number(value):
        unit = " of seconds" if column in ("start", "end") else ""
        return f"{_short(value)} as its {column}: write a number{unit}"
    if isinstance(value, list | dict):
        return f"{_short(value)} as its {column}: write one text"
    return ""


def _is_no_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return True
    return isinstance(value, bool)


def _short(value: Any) -> str:
    return f"{json.dumps(value, ensure_ascii=False, default=str):.60}"

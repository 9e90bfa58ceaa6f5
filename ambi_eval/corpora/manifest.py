"""The manifest: a table of the clips of a corpus, with the audio file and the votes of each clip."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ambi_eval.corpora import mistakes
from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.paths import writing

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rating:
    """The rating of one clip by one rater."""

    rater: str
    """The rater's name in the corpus."""
    labels: tuple[str, ...]
    """Every label that the rater chose; most raters choose one."""
    arousal: float | None = None
    """How active the voice sounds to the rater, on the scale of the corpus."""
    valence: float | None = None
    """How pleasant."""
    dominance: float | None = None
    """How dominant."""
    intensity: float | None = None
    """How strong the emotion is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One clip of a corpus: a row of the manifest."""

    id: str
    """Name of the clip, unique in its manifest."""
    votes: dict[str, float]
    """Votes per label, not negative, at least one above zero. A rater who chose several labels may split a vote. Empty
    if the votes are withheld."""
    audio: str | None = None
    """Path of the audio file, or None if the clip has no audio here."""
    start: float | None = None
    """Start of the clip in its audio file, in seconds; None: the beginning of the file."""
    end: float | None = None
    """End of the clip in its audio file, in seconds; None: the end of the file."""
    speaker: str | None = None
    """Who speaks; clips of one speaker are not independent. None: unknown."""
    sex: str | None = None
    """`female` or `male`, as the corpus states it."""
    dialogue: str | None = None
    """The conversation, podcast or tape that the clip was cut from."""
    session: str | None = None
    """The recording session; speakers of one session talk to each other."""
    style: str | None = None
    """`scripted` or `improvised`."""
    sentence: str | None = None
    """Code of the sentence, in corpora where many speakers read the same ones."""
    transcript: str | None = None
    """What is said."""
    split: str | None = None
    """Part of the corpus that its authors put the clip in."""
    acted: str | None = None
    """The emotion that the speaker was asked to act, in the words of the labels."""
    sha256: str | None = None
    """Hexadecimal SHA-256 of the whole audio file."""
    release: str | None = None
    """The release of the corpus that the clip was read from."""
    age: float | None = None
    """The speaker's age in years."""
    consensus: str | None = None
    """The label that the authors of the corpus settled on, in the words of the labels."""
    arousal: float | None = None
    """Mean rating of how active the voice sounds, as published, on the scale of the corpus."""
    valence: float | None = None
    """The same of how pleasant."""
    dominance: float | None = None
    """The same of how dominant."""
    folds: dict[str, str] = field(default_factory=dict)
    """Named partitions of the corpus -> the part that the clip is in, such as `train`."""
    ratings: tuple[Rating, ...] = ()
    """The single ratings behind the votes, where the corpus publishes them."""
    votes_hash: str | None = None
    """For withheld votes: a hash with which they can be checked when they are published."""


class Manifest(list[Clip]):
    """The clips of a manifest, in the order of the file.

    Attributes:
        about: Facts about the corpus: title, license, citation, how votes were counted, and by reason the number of
            clips that were skipped in its preparation. Empty for a manifest that another program wrote.
    """

    def __init__(self, clips: Iterable[Clip], about: Mapping[str, Any] | None = None) -> None:
        """Keep the clips and the facts about their corpus."""
        super().__init__(clips)
        self.about = about or {}


COLUMNS = tuple(field.name for field in fields(Clip))
NUMBERS = ("start", "end", "age", "arousal", "valence", "dominance")
# Columns with a value for each of several names, which differ between corpora; null: the name is not mentioned.
_STRUCTS = {"votes": pa.float64(), "folds": pa.string()}
RATED_NUMBERS = tuple(field.name for field in fields(Rating)[2:])
_RATING = {"rater": pa.string(), "labels": pa.list_(pa.string()), **dict.fromkeys(RATED_NUMBERS, pa.float64())}

# The key of the parquet file's metadata that holds `Manifest.about`, as JSON.
_ABOUT = b"ambi_eval"
ANOTHER_FOLDER = "choose another folder with --out, or for all corpora with the environment variable AMBI_DATA."


def write_manifest(path: Path, clips: Iterable[Clip], about: Mapping[str, Any] | None = None) -> None:
    """Write clips as a parquet file, sorted by id; the file is written completely or not at all.

    The same clips give the same bytes. Labels that a clip does not mention are null in the struct column `votes`. Audio
    paths are written unchanged; relative paths are relative to the manifest's folder. `about` are the facts about the
    corpus (see `Manifest`), JSON values.

    Raises:
        AmbiError: If the clips would not pass the checks of `read_manifest`, or the folder cannot be written to.
    """
    ordered = sorted(clips, key=lambda clip: clip.id)
    columns: dict[str, list[Any]] = {name: [getattr(clip, name) for clip in ordered] for name in COLUMNS}
    rated = [[{name: getattr(each, name) for name in _RATING} for each in clip.ratings] for clip in ordered]
    columns["ratings"] = rated
    table = _checked(path, columns)
    if not table["folds"].type.num_fields:
        table = table.drop_columns(["folds"])  # parquet has no struct without fields
    if table["votes_hash"].null_count == len(table):
        table = table.drop_columns(["votes_hash"])  # no votes of this corpus are withheld
    if about:
        table = table.replace_schema_metadata({_ABOUT: json.dumps(about, ensure_ascii=False)})
    with writing(path, ANOTHER_FOLDER) as unfinished:
        pq.write_table(table, unfinished)


def read_manifest(path: Path) -> Manifest:
    """Read the clips of a manifest, in the order of the file.

    Args:
        path: A `.parquet` file, or a `.jsonl` file that holds one JSON object a line; `id` and `votes` are required,
            the other attributes of `Clip` are optional columns. `votes` is a struct (in JSON: an object) from label to
            count; a null counts as a label that is not mentioned.

    Returns:
        The clips, a list with an attribute `about`; relative audio paths are resolved against the manifest's folder.

    Raises:
        AmbiError: If the file is missing, unreadable or empty; if a column is unknown, missing or repeated; if an id is
            repeated, or a label in the votes of a clip; if a clip has no vote, or a vote that is negative or not
            finite; or if a span ends before it starts.
    """
    readers = {".parquet": _read_parquet, ".jsonl": _read_jsonl}
    if path.suffix in (".csv", ".tsv", ".xlsx", ".json") or (path.is_file() and path.suffix not in readers):
        raise AmbiError(f"{path}: {mistakes.TABLE.format(suffix=path.suffix)}")
    if not path.is_file():
        raise AmbiError(f"no manifest at {path}: give the path of a .parquet or .jsonl file.")
    columns, about = readers[path.suffix](path)
    return Manifest(_clips(_checked(path, columns), path.absolute().parent), about)


def _read_parquet(path: Path) -> tuple[dict[str, pa.ChunkedArray], dict[str, Any]]:
    try:
        # Not `read_table`, which would read a folder named `release=2.0` as a column.
        table = pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise AmbiError(f"{path} cannot be read as a parquet file ({error}): prepare it again.") from error
    _refuse_doubled(path, "column", table.column_names)
    about = json.loads((table.schema.metadata or {}).get(_ABOUT, b"{}"))
    return dict(zip(table.column_names, table.columns, strict=True)), about


def _refuse_doubled(where: Path | str, what: str, names: Iterable[str]) -> None:
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise AmbiError(f"{where}: the {what} '{doubled[0]}' stands twice; keep one of the two.")


def _read_jsonl(path: Path) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise AmbiError(f"{path} is not UTF-8 ({error}): save it as UTF-8.") from error
    rows, problems = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=partial(_object, f"{path}, line {number}"))
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}, line {number} is not JSON ({error}): write one JSON object a line.")
        except AmbiError as error:
            problems.append(str(error))
        else:
            if not isinstance(row, dict):
                problems.append(f"{path}, line {number} is {line.strip()[:40]}: write one JSON object a line.")
            rows.append(row)
    mistakes.refuse(problems)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}, {}


def _object(where: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_doubled(where, "key", (name for name, _ in pairs))
    return dict(pairs)


def _checked(path: Path, columns: Mapping[str, pa.ChunkedArray | list[Any]]) -> pa.Table:
    """Return the columns as a table of all `COLUMNS` with their types, or raise an error that says what is wrong."""
    if not columns or not len(next(iter(columns.values()))):
        raise AmbiError(f"{path} holds no clip: a manifest needs at least one.")
    problems = [f"{path} {mistakes.unknown_column(name, COLUMNS)}" for name in columns if name not in COLUMNS]
    problems += [
        f"{path} has no column '{name}' (it has {', '.join(columns)}); a manifest needs it."
        for name in ("id", "votes")
        if name not in columns
    ]
    mistakes.refuse(problems)
    typed, length = {}, len(columns["id"])
    for name in COLUMNS:
        try:
            typed[name] = _typed(path, name, columns.get(name, [None] * length), columns["id"])
        except AmbiError as error:
            problems += error.problems
    mistakes.refuse(problems)
    table = pa.table(typed)
    checks = (_wrong_ids, _wrong_votes, _wrong_spans)
    mistakes.refuse([f"{path}: {wrong}" for check in checks for wrong in check(table)])
    return table


def _typed(path: Path, name: str, values: pa.ChunkedArray | list[Any], ids: pa.ChunkedArray | list[Any]) -> pa.Array:
    try:
        is_text = name not in (*NUMBERS, *_STRUCTS, "ratings")
        made = pa.array(values, from_pandas=is_text) if isinstance(values, list) else values
        array = made.combine_chunks() if isinstance(made, pa.ChunkedArray) else made
        if name == "ratings":
            return _typed_ratings(path, array)
        if name in _STRUCTS:
            return _typed_struct(path, name, array)
        return array.cast(pa.float64()) if name in NUMBERS else _typed_text(name, array)
    except (pa.ArrowException, OverflowError, TypeError, AttributeError) as error:
        given, of = (column.to_pylist() if isinstance(column, pa.ChunkedArray) else column for column in (values, ids))
        wrong = mistakes.wrong_values(name, given, of, number=name in NUMBERS)
        mistakes.refuse([f"{path}: {each}" for each in wrong])
        raise AmbiError(f"{path}, column '{name}': {error!s:.300}.") from error


def _typed_text(name: str, array: pa.Array) -> pa.Array:
    """Return texts, null where a table had an empty cell, which other programs write as NaN or as a blank text."""
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), None, array)
    text = array.cast(pa.string())
    text = pc.if_else(pc.equal(pc.utf8_trim_whitespace(text), ""), None, text)
    return pc.utf8_normalize(text, form="NFC") if name in ("acted", "consensus") else text


def _typed_struct(path: Path, name: str, array: pa.Array) -> pa.Array:
    if pa.types.is_null(array.type) and name != "votes":
        array = array.cast(pa.struct([]))
    if not pa.types.is_struct(array.type):
        raise TypeError(f"{array.type} is no struct")
    names = [normalize("NFC", field.name) for field in array.type]  # macOS writes an umlaut as two characters
    _refuse_doubled(path, "label" if name == "votes" else "partition", names)
    values = dict(sorted(zip(names, (values.cast(_STRUCTS[name]) for values in array.flatten()), strict=True)))
    return pa.StructArray.from_arrays([*values.values()], [*values]) if names else array


def _typed_ratings(path: Path, array: pa.Array) -> pa.Array:
    """Return the ratings with all attributes of `Rating`, null if the file lacks them."""
    if not pa.types.is_null(array.type) and pa.types.is_struct(array.type.value_type):
        for name in {field.name for field in array.type.value_type} - _RATING.keys():
            raise AmbiError(f"{path}, column 'ratings': a rating has no '{name}'{did_you_mean(name, _RATING)}.")
    return array.cast(pa.list_(pa.struct(list(_RATING.items()))))


def _wrong_ids(table: pa.Table) -> Iterator[str]:
    ids = table["id"].to_pylist()
    yield from (f"clip number {place} has no id; give it one." for place, id in enumerate(ids, start=1) if not id)
    for id, count in Counter(filter(None, ids)).items():
        if count > 1:
            yield f"{count} clips have the id '{id}'; ids must be unique."


def _wrong_votes(table: pa.Table) -> Iterator[str]:
    columns = table["votes"].combine_chunks().flatten()
    counts = [column.fill_null(0.0).to_numpy(zero_copy_only=False) for column in columns]
    matrix = np.stack(counts, axis=1) if counts else np.zeros((len(table), 1))
    good = np.isfinite(matrix).all(axis=1) & (matrix >= 0).all(axis=1) & (matrix.sum(axis=1) > 0)
    withheld = pc.is_valid(table["votes_hash"]).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(good & withheld).tolist():
        yield f"clip '{table['id'][row]}' has both votes and the votes_hash of withheld ones; leave one out."
    for row in np.flatnonzero(~good & ~(withheld & (matrix == 0).all(axis=1))).tolist():
        votes = {label: count for label, count in (table["votes"][row].as_py() or {}).items() if count is not None}
        yield (f"clip '{table['id'][row]}' has the votes {votes}; votes must be finite, not negative and not all zero.")


def _wrong_spans(table: pa.Table) -> Iterator[str]:
    start = pc.fill_null(table["start"], 0.0).to_numpy()
    end = pc.fill_null(table["end"], np.inf).to_numpy()
    bad = ~((start >= 0) & (start < end))  # also True for NaN
    for row in np.flatnonzero(bad).tolist():
        fix = "a clip starts at 0 or later and before its end."
        yield f"clip '{table['id'][row]}' goes from {start[row]} s to {end[row]} s; {fix}"


def _clips(table: pa.Table, folder: Path) -> list[Clip]:
    plain = [name for name in COLUMNS if name not in (*_STRUCTS, "ratings")]
    columns: dict[str, Sequence[Any]] = {name: table[name].to_pylist() for name in plain}
    # Not `folder / audio`: for 250,000 clips, Path objects take longer than reading the file.
    columns["audio"] = [audio and os.path.join(folder, audio) for audio in columns["audio"]]  # noqa: PTH118
    columns |= {name: _mappings(table[name].combine_chunks()) for name in _STRUCTS}
    columns["ratings"] = _ratings(table["ratings"].combine_chunks())
    return [Clip(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def _mappings(column: pa.StructArray) -> list[dict[str, Any]]:
    """Return the fields of each row that are not null."""
    names = [field.name for field in column.type]
    if not names:
        return [{} for _ in range(len(column))]
    rows = zip(*(values.to_pylist() for values in column.flatten()), strict=True)
    return [{name: value for name, value in zip(names, row, strict=True) if value is not None} for row in rows]


def _ratings(column: pa.ListArray) -> list[tuple[Rating, ...]]:
    # Cutting flat arrays into tuples takes a tenth of the time that Arrow needs for nested Python objects.
    values = dict(zip(_RATING, column.flatten().flatten(), strict=True))
    labels = _cut(pc.utf8_normalize(values["labels"].flatten(), form="NFC").to_pylist(), values["labels"])
    attributes = [labels if name == "labels" else array.to_pylist() for name, array in values.items()]
    return _cut(map(Rating, *attributes), column)


def _cut(values: Iterable[T], lists: pa.ListArray) -> list[tuple[T, ...]]:
    """Cut a flat sequence into tuples as long as the lists of an Arrow array."""
    rest = iter(values)
    return [tuple(islice(rest, length)) for length in pc.fill_null(pc.list_value_length(lists), 0).to_pylist()]

"""Reads databases of audb whose tables have a column of votes for each label."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from ambi_eval.corpora import command as options
from ambi_eval.corpora.manifest import Clip
from ambi_eval.corpora.preparation import NO_AUDIO, Preparation
from ambi_eval.corpora.registry import Corpus
from ambi_eval.errors import AmbiError

# The names of the tables of votes in audb's emotion corpora; the group is the split.
VOTES = r"emotion\.categories\.(train|dev|test)\.votes"
_SPLITS = {"dev": "development"}
_SPEAKER_TRAITS = {"sex": "sex", "gender": "sex", "age": "age"}

_DATABASE = "A database of audb: its name, name@version, or the folder of one. Needs pip install audb."
FromAudb = Annotated[str | None, typer.Option(help=_DATABASE)]


def command(
    from_audb: Annotated[str, typer.Option(help="Name, name@version, or the folder of a database.")],
    tables: Annotated[
        str, typer.Option(help="Regular expression of the names of the tables of votes; its group is the split.")
    ] = VOTES,
    out: options.Out = None,
    allow_missing_audio: options.AllowMissingAudio = False,
) -> None:
    """Prepare any database of audb that has a table with a column of votes for each label."""
    database = load(from_audb, tables)
    name = database.name
    about = Corpus(
        title=name,
        language=", ".join(database.languages),
        license=str(database.license or "not stated"),
        citation=f"{database.author or name}: {database.source}",
        homepage=database.source,
        source="an audb database",
    )
    preparation = Preparation(options.out_folder(out, name), about, allow_missing_audio)
    read_audb(preparation, database, tables)
    options.report(preparation.save(), name)


def load(name: str, tables: str) -> Any:
    """Return a database (`name`, `name@version` or a folder) with the tables that a manifest needs, and its audio.

    Raises:
        AmbiError: If audb is not installed, the database cannot be loaded, or it has no such table.
    """
    try:
        import audb
        import audformat
    except ImportError as error:
        raise AmbiError("--from-audb needs audb: pip install 'ambi-eval[audb]'") from error
    try:
        if Path(name).is_dir():
            return audformat.Database.load(name)
        database, _, version = name.partition("@")
        wanted = [each for each in audb.info.header(database, version=version or None).tables if _is_used(each, tables)]
        return audb.load(database, version=version or None, tables=wanted, full_path=False)
    # audb raises errors of any type, from its servers, files and YAML.
    except Exception as error:
        reason = str(error).split("\n")[0].rstrip(".")
        fix = "check the name and the network, or give the folder of a database"
        raise AmbiError(f"cannot load '{name}' by audb ({reason}): {fix}") from error


def read_audb(
    preparation: Preparation,
    database: Any,
    tables: str = VOTES,
    labels: Mapping[str, str] = MappingProxyType({}),
    describe: Callable[[str], dict[str, Any]] = lambda name: {},
    unheard: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Read the clips of a database into a preparation.

    Args:
        preparation: A preparation without clips.
        database: What `load` returned.
        tables: Regular expression of the names of its tables of votes; a group in it is the split.
        labels: Label of the database -> label of the manifest; other labels stay as they are.
        describe: Function from a clip's name to the attributes of `Clip` that follow from it; they replace those of the
            database.
        unheard: By name, the clips without usable audio, and the reason.

    Raises:
        AmbiError: If the database has no such table, or if a table holds something else than numbers.
    """
    names = [name for name in database.tables if re.fullmatch(tables, name)]
    if not names:
        has = ", ".join(database.tables) or "none"
        raise AmbiError(f"{database.name} has no table of votes that fits '{tables}' (it has {has}): give --tables")
    traits = _traits(database)
    root = Path(database.root).absolute()
    for table_name in names:
        try:
            votes = database[table_name].get().astype(float)
        except (TypeError, ValueError) as error:
            what = "holds other things than numbers of votes: give --tables"
            raise AmbiError(f"{database.name}: the table {table_name} {what}") from error
        groups = re.fullmatch(tables, table_name)
        split = groups[1] if groups and groups.re.groups else None
        acted = _acted(database, table_name, labels)
        for file, counts in zip(votes.index.get_level_values("file"), votes.itertuples(index=False), strict=True):
            name = Path(file).stem
            there = (root / file).is_file() and name not in unheard
            told = {"split": _SPLITS.get(split or "", split), "acted": acted.get(file), **traits.get(file, {})}
            named = zip((labels.get(label, label) for label in votes.columns), counts, strict=True)
            of_clip = {label: count for label, count in named if not math.isnan(count)}
            audio = str(root / file) if there else None
            clip = Clip(id=name, votes=of_clip, audio=audio, **(told | describe(name)))
            preparation.add(clip, unheard.get(name, NO_AUDIO))


def _is_used(table: str, votes: str) -> bool:
    return table == "files" or "desired" in table.split(".") or re.fullmatch(votes, table) is not None


def _acted(database: Any, votes_table: str, labels: Mapping[str, str]) -> dict[str, str]:
    """Return the acted emotion of each file, from the table of desired emotions that belongs to a table of votes."""
    # For `emotion.categories.train.votes`: `emotion.categories.desired.train`, or `emotion.categories.train.desired`.
    whole, _, split = votes_table.removesuffix(".votes").rpartition(".")
    names = (f"{whole}.desired.{split}", f"{whole}.{split}.desired")
    desired = next((name for name in names if name in database.tables), None)
    if desired is None or "emotion" not in database[desired].columns:
        return {}
    emotions = database[desired]["emotion"].get().dropna()
    return {file: labels.get(str(emotion), str(emotion)) for file, emotion in emotions.items()}


def _traits(database: Any) -> dict[str, dict[str, Any]]:
    """Return the facts about each file in the table `files`: speaker with sex and age, sentence and transcript."""
    if "files" not in database.tables:
        return {}
    files = database["files"]
    columns: dict[str, Any] = {}
    if "speaker" in files.columns:
        speaker = files["speaker"]
        columns["speaker"] = speaker.get()
        for trait in _known_traits(database, speaker):
            columns[_SPEAKER_TRAITS[trait]] = speaker.get(map=trait)
    if "transcription" in files.columns:
        codes = files["transcription"].get()
        scheme = database.schemes[files["transcription"].scheme_id]
        texts = scheme.labels if isinstance(scheme.labels, dict) else {}
        columns |= {"sentence": codes, "transcript": codes.map(lambda code: texts.get(code, code))}
    told: dict[str, dict[str, Any]] = {}
    for trait, values in columns.items():
        for file, value in values.dropna().items():
            told.setdefault(file, {})[trait] = float(value) if trait == "age" else str(value)
    return told


def _known_traits(database: Any, speaker: Any) -> list[str]:
    """Return the traits of speakers that the database has, in a table of speakers or in the labels of the scheme."""
    labels = database.schemes[speaker.scheme_id].labels
    if isinstance(labels, str):
        return [trait for trait in _SPEAKER_TRAITS if trait in database[labels].columns]
    told = [of for of in labels.values() if isinstance(of, dict)] if isinstance(labels, dict) else []
    return [trait for trait in _SPEAKER_TRAITS if any(trait in of for of in told)]

"""Emozionalmente: amateurs act 18 Italian sentences in seven emotions; five listeners voted on each of 6,902 clips."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ambi_eval.corpora import command as options
from ambi_eval.corpora.audb import VOTES, FromAudb, load, read_audb
from ambi_eval.corpora.manifest import Clip, Rating
from ambi_eval.corpora.preparation import Preparation, find_files, find_folder, known_label, read_rows
from ambi_eval.corpora.registry import Corpus
from ambi_eval.errors import AmbiError

CORPUS = Corpus(
    title="Emozionalmente",
    language="it",
    license="CC BY 4.0: derived publications must name the author",
    citation="F. Catania. Emozionalmente: a crowd-sourced Italian speech emotional corpus. "
    "Zenodo, 2022. doi:10.5281/zenodo.6569824",
    homepage="https://zenodo.org/records/6569824",
    source="metadata/ and audio/",
    clips=6_902,
)
LABELS = {
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "joy": "joy",
    "neutrality": "neutral",
    "sadness": "sad",
    "surprise": "surprise",
}
# People typed their age; lower values are typing errors.
LOWEST_AGE = 5


def prepare(
    source: Path | None,
    out: Path,
    *,
    from_audb: FromAudb = None,
    splits: Annotated[
        Path | None, typer.Option(help="The speaker_splits.json of audeering, by which audb's database is split.")
    ] = None,
    allow_missing_audio: options.AllowMissingAudio = False,
) -> Preparation:
    """Prepare Emozionalmente from the folder that its archive holds, or from audb (which lacks the single ratings).

    The corpus has no official split; audb's is by speaker.
    """
    if from_audb is not None:
        options.refuse_together("--from-audb", source=source, splits=splits)
        counting = "one vote a row of the release, in which 42 repeat a rater's judgment of a clip"
        preparation = Preparation(out, CORPUS, allow_missing_audio, counting)
        read_audb(preparation, load(from_audb, VOTES), VOTES, LABELS | {"happiness": "joy", "neutral": "neutral"})
        return preparation.save()
    assert source is not None  # the command requires it
    split_of = {} if splits is None else _splits(splits)
    tables = find_folder(source, "metadata")
    people = _people(tables / "users.csv")
    ratings = _ratings(tables / "evaluations.csv")
    samples = list(read_rows(tables / "samples.csv", "file_name", "sentence", "actor", "emotion_expressed"))
    sentences = sorted({row["sentence"] for row in samples})
    audio = find_files(source, ".wav", "audio", optional=allow_missing_audio)
    raters = {rating.rater for panel in ratings.values() for rating in panel}
    known = {name: person for name, person in people.items() if name in raters}
    preparation = Preparation(out, CORPUS, allow_missing_audio, raters=known)
    for row in samples:
        name, actor = row["file_name"], people.get(row["actor"], {})
        clip = Clip(
            id=name.removesuffix(".wav"),
            audio=audio.get(name),
            speaker=row["actor"],
            sex=actor.get("sex"),
            age=actor.get("age"),
            sentence=f"s{sentences.index(row['sentence']) + 1:02d}",
            transcript=row["sentence"],
            split=split_of.get(row["actor"]),
            acted=LABELS[known_label(tables / "samples.csv", row["emotion_expressed"], LABELS)],
            **preparation.panel(ratings.get(name, [])),
        )
        preparation.add(clip)
    return preparation.save()


def _splits(path: Path) -> dict[str, str]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        return {actor: {"dev": "development"}.get(split, split) for split, actors in listed.items() for actor in actors}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise AmbiError(f"{path} is no speaker_splits.json of audeering ({error}): take the published file.") from error


def _ratings(path: Path) -> dict[str, list[Rating]]:
    ratings: defaultdict[str, list[Rating]] = defaultdict(list)
    for row in read_rows(path, "file_name", "evaluator", "emotion_recognized"):
        label = LABELS[known_label(path, row["emotion_recognized"], LABELS)]
        ratings[row["file_name"]].append(Rating(row["evaluator"], (label,)))
    return ratings


def _people(path: Path) -> dict[str, dict[str, Any]]:
    """Return sex and age of actors and raters, where they are known."""
    people = {}
    for row in read_rows(path, "username", "gender", "age"):
        age = float(row["age"]) if row["age"].replace(".", "", 1).isdigit() else 0.0
        known = {"sex": row["gender"] or None, "age": age if age >= LOWEST_AGE else None}
        people[row["username"]] = {trait: value for trait, value in known.items() if value is not None}
    return people

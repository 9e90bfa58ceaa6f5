"""MSP-Podcast: short turns from public podcasts; five or more crowd workers voted on each."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from tqdm import tqdm

from ambi_eval.corpora import command as options
from ambi_eval.corpora.manifest import Clip, Rating
from ambi_eval.corpora.preparation import Preparation, count_votes, find_folder, how_counted, read_rows
from ambi_eval.corpora.registry import Corpus
from ambi_eval.errors import AmbiError

CORPUS = Corpus(
    title="MSP-Podcast",
    language="en",
    license="signed agreement; neither audio, transcripts, votes nor a manifest may be passed on",
    citation="R. Lotfian, C. Busso. Building naturalistic emotionally balanced speech corpus by retrieving emotional "
    "speech from existing podcast recordings. IEEE Transactions on Affective Computing 10(4):471-483, 2019.",
    homepage="https://www.lab-msp.com/MSP/MSP-Podcast.html",
    source="Audios/ and Labels/",
)
Choice = Literal["primary", "secondary"]

LABELS = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "other", "sad", "surprise")
SECONDARY_LABELS = (
    *LABELS,
    "amused",
    "annoyed",
    "concerned",
    "confused",
    "depressed",
    "disappointed",
    "excited",
    "frustrated",
)

# `WORKER00000020; Neutral; Neutral,Concerned; A:4.000000; V:4.000000; D:4.000000;`; the list of secondary emotions may
# be empty or lacking, and the free text of `Other-...` may hold anything.
_DETAIL = re.compile(r"(WORKER\d+);\s*(.*?)\s*;\s*A:[^;]*;\s*V:[^;]*;\s*D:[^;]*;?\s*", re.DOTALL)
_PODCAST = re.compile(r"(MSP-PODCAST_\d+)_")
_MISSPELT = {"dissapointed": "disappointed"}
# What releases up to 1.9 call by another name.
_SPLITS = {"validation": "development"}

Annotations = Iterator[tuple[str, str, str, str]]


def command(
    source: options.Source = None,
    out: options.Out = None,
    labels: Annotated[Choice, typer.Option(help="One emotion of each rater, or all that the rater named.")] = "primary",
    count_each: options.CountEach = False,
    release: Annotated[str | None, typer.Option(help="Number of the release, such as 1.11, for the manifest.")] = None,
    allow_missing_audio: options.AllowMissingAudio = False,
) -> None:
    """Prepare MSP-Podcast, any release from 1.6 to 2.0."""
    preparation = prepare(
        options.required_source(source, "msp_podcast"),
        options.out_folder(out, "msp_podcast"),
        labels=labels,
        count_each=count_each,
        release=release,
        allow_missing_audio=allow_missing_audio,
    )
    options.report(preparation, "msp_podcast")


def prepare(
    source: Path,
    out: Path,
    *,
    labels: Choice = "primary",
    count_each: bool = False,
    release: str | None = None,
    allow_missing_audio: bool = False,
) -> Preparation:
    """Write the manifest of MSP-Podcast, of any release from 1.6 to 2.0.

    Args:
        source: The unpacked release, which holds the folders of audio and of labels.
        out: Folder for `manifest.parquet`.
        labels: Whether a rater's vote is the one `primary` emotion, or all emotions that the rater named, `secondary`
            ones included.
        count_each: With secondary emotions, count each of a rater's k labels as a whole vote instead of 1/k.
        release: The number of the release, which its files do not state.
        allow_missing_audio: Keep clips without audio, for work on the votes alone.

    Raises:
        AmbiError: If the folder is no release of MSP-Podcast, no clip is left, or `count_each` meets primary emotions.
    """
    if count_each and labels == "primary":
        raise AmbiError("--count-each goes with --labels secondary only: a rater has one primary emotion.")
    preparation = Preparation(out, CORPUS, allow_missing_audio, how_counted(count_each))
    folder = find_folder(source, "Labels", "labels", "label")
    ratings = _ratings(folder, labels, preparation.remarks)
    consensus = _consensus(folder)
    partitions = _partitions(source)
    audio = _files(source, ".wav", "Audios", "Audio", optional=allow_missing_audio)
    transcripts = _files(source, ".txt", "Transcripts", optional=True)
    names = sorted(ratings.keys() | consensus.keys() | partitions.keys() | audio.keys())
    for name in tqdm(names, "clips", unit="clip", disable=None):
        facts = consensus.get(name, {})
        split = (facts.get("Split_Set") or partitions.get(name, "")).lower()
        split = _SPLITS.get(split, split)
        if name not in ratings:
            preparation.skipped[f"no published votes ({split or 'no split'})"] += 1
            continue
        stem = name.removesuffix(".wav")
        podcast = _PODCAST.match(name)
        transcript = transcripts.get(f"{stem}.txt")
        clip = Clip(
            id=stem,
            votes=count_votes(ratings[name], count_each),
            ratings=tuple(ratings[name]),
            audio=str(audio[name]) if name in audio else None,
            speaker=_known(facts.get("SpkrID")),
            sex=_known(facts.get("Gender", "").lower()),
            dialogue=podcast[1] if podcast else None,
            transcript=transcript.read_text(encoding="utf-8", errors="replace").strip() if transcript else None,
            split=split or None,
            release=release,
        )
        preparation.add(clip)
    return preparation.save()


def _ratings(folder: Path, choice: Choice, remarks: Counter[str]) -> dict[str, list[Rating]]:
    """Return the ratings of each audio file."""
    ratings: dict[str, list[Rating]] = {}
    for file, worker, primary, secondary in _annotations(folder, remarks):
        if not primary.strip():
            remarks["ratings without an emotion, not counted"] += 1
            continue
        words = [primary, *secondary.split(",")] if choice == "secondary" else [primary]
        known = LABELS if choice == "primary" else SECONDARY_LABELS
        labels = dict.fromkeys(_label(word.strip(), known, remarks) for word in words if word.strip())
        ratings.setdefault(file, []).append(Rating(worker, tuple(labels)))
    return ratings


def _label(word: str, known: tuple[str, ...], remarks: Counter[str]) -> str:
    label = _MISSPELT.get(word.lower(), word.lower())
    if label in known:
        return label
    if not label.startswith("other"):  # `Other-` and `Other (` are followed by the rater's own words
        remarks["emotions that are on no list, counted as other"] += 1
    return "other"


def _annotations(folder: Path, remarks: Counter[str]) -> Annotations:
    """Yield file, worker, primary emotion and comma-separated secondary emotions of each rating of a release."""
    path = _first_file(folder, "labels_detailed.csv", "labels_detailed.json")
    if path.suffix == ".json":
        for file, workers in _read_json(path).items():
            for worker, rating in workers.items():
                yield file, worker, rating["EmoClass_Major"], rating.get("EmoClass_Second", "")
        return
    for row in read_rows(path, "FileName"):
        worker = row.get("Workers") or row.get("WorkerID")  # up to 1.6, and from 2.0
        if "EmoDetail" in row:
            match = _DETAIL.fullmatch(row["EmoDetail"])
            if match is None:
                remarks["ratings that could not be read"] += 1
            else:
                primary, _, secondary = match[2].partition(";")
                yield row["FileName"], match[1], primary, secondary
        elif worker and "EmoClass_Major" in row:
            yield row["FileName"], worker, row["EmoClass_Major"], row.get("EmoClass_Second", "")
        else:
            raise AmbiError(
                f"{path} has the columns {', '.join(map(str, row))}; a release of MSP-Podcast has EmoDetail, or "
                f"EmoClass_Major and Workers or WorkerID: take the official file."
            )


def _consensus(folder: Path) -> dict[str, dict[str, str]]:
    """Return speaker, sex and split of each audio file, in the words of the release."""
    # Releases up to 1.9 misspell the name.
    spellings = ("labels_consensus", "labels_concensus")
    path = _first_file(folder, *(f"{name}.{suffix}" for suffix in ("csv", "json") for name in spellings))
    if path.suffix == ".json":
        return _read_json(path)
    return {row["FileName"]: row for row in read_rows(path, "FileName", "SpkrID", "Gender", "Split_Set")}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise AmbiError(f"{path} is not JSON in UTF-8 ({error}): take the official file.") from error


def _partitions(source: Path) -> dict[str, str]:
    """Return the split of each audio file from lines such as `Test3; MSP-PODCAST_test3_0001.wav`."""
    splits = {}
    for path in (source / "Partitions.txt", source / "Partition.txt"):
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            split, _, name = line.partition(";")
            if name.strip():
                splits[name.strip()] = split.strip()
    return splits


def _first_file(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise AmbiError(f"{folder} holds none of {', '.join(names)}: the release in --source is not complete.")


def _files(source: Path, suffix: str, *names: str, optional: bool) -> dict[str, Path]:
    """Return the files of a folder by name, listed once: a look at each of a quarter of a million takes minutes."""
    if optional and not any((source / name).is_dir() for name in names):
        return {}
    return {path.name: path for path in find_folder(source, *names).absolute().glob(f"*{suffix}")}


def _known(value: str | None) -> str | None:
    return None if not value or value.lower() == "unknown" else value

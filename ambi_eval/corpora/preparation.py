"""The common part of all recipes: collects clips, counts skipped ones, and writes the manifest."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ambi_eval.audio import check_audio_file
from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.manifest import RATED_NUMBERS, Clip, Rating, write_manifest
from ambi_eval.corpora.registry import Corpus
from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.paths import tasks_dir
from ambi_eval.votes import TIE_TOLERANCE, entropy_bits, majority, select_labels, shares

NO_AUDIO = "no audio file"


@dataclass(slots=True)
class Preparation:
    """A manifest in preparation: the clips so far, and the number of skipped ones by reason."""

    out: Path  # folder for `manifest.parquet`
    corpus: Corpus  # facts about the corpus, for the manifest
    allow_missing_audio: bool = False  # whether clips without audio are kept, for work on the votes alone
    counting: str = "one vote a rater"  # how ratings became votes, in one sentence
    count_each: bool = False  # whether each of a rater's k labels is a whole vote, or 1/k of a vote
    # By name, facts about each rater, such as sex and age; empty if none are known.
    raters: dict[str, dict[str, Any]] = field(default_factory=dict)
    single_raters: bool = True  # for clips without ratings: whether each whole vote comes from one rater
    clips: list[Clip] = field(default_factory=list)  # clips for the manifest
    skipped: Counter[str] = field(default_factory=Counter)  # number of skipped clips, by reason
    # Other facts that a user should know, and how often each occurred.
    remarks: Counter[str] = field(default_factory=Counter)

    def panel(self, ratings: Iterable[Rating]) -> dict[str, Any]:
        """Return the `ratings` of a clip, one per rater, and the `votes` that they give."""
        ratings = tuple(ratings)
        # So a rater who rated a clip twice has the same weight as the others.
        by_rater: defaultdict[str, list[Rating]] = defaultdict(list)
        for rating in ratings:
            by_rater[rating.rater].append(rating)
        merged = tuple(each[0] if len(each) == 1 else _merged(each) for each in by_rater.values())
        if repeated := len(ratings) - len(merged):
            self.remarks["ratings by a rater who had rated the clip before, counted as one rating"] += repeated
        return {"votes": count_votes(merged, self.count_each), "ratings": merged}

    def add(self, clip: Clip, missing: str = NO_AUDIO) -> None:
        """Add a clip, or count it as skipped if it has no vote or, unless allowed, no audio (`missing`: why not)."""
        if not any(clip.votes.values()):
            self.skipped["no votes"] += 1
        elif clip.audio is None and not self.allow_missing_audio:
            self.skipped[missing] += 1
        else:
            self.clips.append(clip)
            if clip.audio is None:
                self.remarks[f"kept without audio ({missing})"] += 1

    @property
    def manifest(self) -> Path:
        """Path of the manifest."""
        return self.out / "manifest.parquet"

    def save(self) -> Preparation:
        """Write the manifest, with the SHA-256 of each audio file; unusable audio files count as missing."""
        files = list(dict.fromkeys(self.out / clip.audio for clip in self.clips if clip.audio))
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            found = tqdm(pool.map(_sha256, files), "audio", len(files), unit="file", disable=None)
            hashes = dict(zip(files, found, strict=True))
        problem = next((each for each in hashes.values() if isinstance(each, AmbiError)), None)
        clips, self.clips = self.clips, []
        for clip in clips:
            known = hashes[self.out / clip.audio] if clip.audio else None
            if isinstance(known, AmbiError):
                self.add(replace(clip, audio=None), f"audio that cannot be heard, such as {problem}")
            else:
                self.clips.append(replace(clip, sha256=known))
        if not self.clips:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items()) or "none was found"
            raise AmbiError(f"no clip is left for {self.manifest} ({reasons}): check the folder that you gave.")
        write_manifest(self.manifest, self.clips, self.about)
        return self

    @property
    def about(self) -> dict[str, Any]:
        """The manifest's facts about the corpus and its preparation."""
        told = ("title", "language", "license", "citation", "homepage")
        facts = {name: getattr(self.corpus, name) for name in told}
        facts |= {"votes": self.counting, "skipped": dict(self.skipped), "remarks": dict(self.remarks)}
        facts |= {"raters": self.raters} if self.raters else {}
        return facts if self.single_raters else {**facts, "single_raters": False}


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a manifest by which a user checks the preparation."""

    clips: int  # number of clips
    votes: float  # number of votes; a rater who chose several labels may split one
    raters: tuple[float, float, float]  # raters per clip: the fewest, the mean, the most
    ambiguity_bits: float  # mean entropy of the clips' vote distributions over all labels of the corpus, in bits
    unanimous: int  # number of clips whose votes all went to one label
    tied: int  # number of clips on which several labels have the most votes
    splits: dict[str, int]  # number of clips by split; empty where the corpus has none


def summarize(clips: Sequence[Clip]) -> Summary:
    """Return the figures of a manifest with at least one clip."""
    labels = sorted(set().union(*(clip.votes for clip in clips)))
    votes = np.array([[clip.votes.get(label, 0.0) for label in labels] for clip in clips])
    raters = np.array([len(clip.ratings) or sum(clip.votes.values()) for clip in clips])
    distributions = shares(votes)
    return Summary(
        clips=len(clips),
        votes=float(votes.sum()),
        raters=(float(raters.min()), float(raters.mean()), float(raters.max())),
        ambiguity_bits=float(entropy_bits(distributions).mean()),
        unanimous=int((distributions.max(axis=1) > 1 - TIE_TOLERANCE).sum()),
        tied=int(((majority(distributions) > 0).sum(axis=1) > 1).sum()),
        splits=dict(sorted(Counter(clip.split for clip in clips if clip.split).items())),
    )


def label_choices(corpus: str, clips: Sequence[Clip]) -> list[tuple[str, int, float]]:
    """Return how much of a corpus each choice of labels keeps: a description, the number of clips, the share of votes.

    The choices are the label sets of the tasks on this corpus, with and without merged labels. Clips with votes outside
    the labels are either dropped, or their other votes are renormalized.
    """
    total = sum(sum(clip.votes.values()) for clip in clips)
    found = []
    for path in sorted(tasks_dir().glob(f"{corpus}/_{corpus}*.yaml")):
        config = load_corpus(path.stem.removeprefix("_"))
        labels = config.labels
        for merge in [config.merge, {}] if config.merge else [{}]:
            merged = "".join(f", {original} as {label}" for original, label in merge.items())
            for outside in ("drop_clip", "renormalise"):
                votes = [select_labels(clip.votes, labels, merge, outside) for clip in clips]
                kept = [counts for counts in votes if counts is not None]
                name = f"{len(labels)} labels{merged}, {outside}"
                if config.merge == merge and config.outside == outside:
                    name += f" (the tasks ambi_{path.stem.removeprefix('_')}_*)"
                found.append((name, len(kept), float(sum(counts.sum() for counts in kept)) / total))
    return found


def count_votes(ratings: Iterable[Rating], count_each: bool) -> dict[str, float]:
    """Return the votes of a panel; each of a rater's k labels is a whole vote (`count_each`), or 1/k of one."""
    votes: defaultdict[str, float] = defaultdict(float)
    for rating in ratings:
        for label in rating.labels:
            votes[label] += 1 if count_each else 1 / len(rating.labels)
    return dict(votes)


def _merged(ratings: Sequence[Rating]) -> Rating:
    """Return one rating of a rater: all labels that the rater chose, and the mean of the rated numbers."""
    labels = tuple(dict.fromkeys(label for rating in ratings for label in rating.labels))
    means = {}
    for name in RATED_NUMBERS:
        if values := [value for rating in ratings if (value := getattr(rating, name)) is not None]:
            means[name] = sum(values) / len(values)
    return Rating(ratings[0].rater, labels, **means)


def how_counted(count_each: bool) -> str:
    """Return how `count_votes` counts, in words."""
    return "a rater's k labels are " + ("a whole vote each" if count_each else "1/k of a vote each")


def _sha256(path: Path) -> str | AmbiError:
    """Return the SHA-256 (hexadecimal) of a file, or the error that `check_audio_file` finds in its header."""
    try:
        check_audio_file(path)
    except AmbiError as error:
        return error
    return hashlib.sha256(path.read_bytes()).hexdigest()


def find_folder(source: Path, *names: str) -> Path:
    """Return the first of several folders that exists in a release, or raise an error that says what is missing."""
    if not source.is_dir():
        raise AmbiError(f"--source {source} is no folder: give the folder that the release was unpacked to.")
    for name in names:
        if (source / name).is_dir():
            return source / name
    raise AmbiError(f"{source} holds no {names[0]}/: --source must be the folder of a whole release.")


def find_files(source: Path, suffix: str, *names: str, optional: bool) -> dict[str, str]:
    """Return the paths of the files with a suffix in the first of several folders that exists, by file name.

    If none exists, the result is empty (`optional`), or an error is raised.
    """
    # The folder is listed once, because looking up 250,000 single files takes minutes.
    if optional and not any((source / name).is_dir() for name in names):
        return {}
    return {path.name: str(path) for path in find_folder(source, *names).absolute().glob(f"*{suffix}")}


def parts_of(pattern: re.Pattern[str], name: str, what: str) -> tuple[str, ...]:
    """Return the groups of a pattern in the name of a clip, or raise an error that says that it is none of `what`."""
    match = pattern.fullmatch(name)
    if match is None:
        raise AmbiError(f"'{name}' is no name of {what}: take the official files.")
    return match.groups()


def known_label(where: Path, word: str, labels: Iterable[str]) -> str:
    """Return an emotion of a release, or raise an error if it is not one of the corpus."""
    if word not in labels:
        raise AmbiError(f"{where}: '{word}' is no emotion of the corpus ({', '.join(labels)}): take the official file.")
    return word


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file of a release holds, or raise an error if it is missing or no such file."""
    try:
        return dict(json.loads(present(path).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise AmbiError(f"{path} is no JSON object in UTF-8 ({error}): take the official file.") from error


def present(*paths: Path) -> Path:
    """Return the first of several files that exists, or raise an error that says that the release lacks it."""
    for path in paths:
        if path.is_file():
            return path
    names = ", ".join(path.name for path in paths)
    lacks = f"{paths[0].parent} holds none of {names}" if paths[1:] else f"{paths[0]} is missing"
    raise AmbiError(f"{lacks}: the release in --source is not complete.")


def require_columns(where: Path, columns: Iterable[str], there: Iterable[str]) -> None:
    """Raise an error if a table lacks one of the columns."""
    there = list(there)
    for column in columns:
        if column not in there:
            hint = did_you_mean(column, there)
            raise AmbiError(f"{where} has no column '{column}'{hint} (it has: {', '.join(there)}).")


def read_rows(path: Path, *columns: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file as dictionaries, or raise an error if it is missing or lacks one of the columns."""
    # Raters' free text may have any encoding. It is not used, so invalid UTF-8 is no error.
    with present(path).open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.DictReader(file, restval="")
        require_columns(path, columns, reader.fieldnames or ())
        yield from reader

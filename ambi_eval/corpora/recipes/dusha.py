"""Dusha, its crowd part: 2,068 people speak short Russian phrases in four emotions; crowd workers voted on each."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from ambi_eval.corpora import command as options
from ambi_eval.corpora.manifest import Clip, Rating
from ambi_eval.corpora.preparation import Preparation, find_files, find_folder, known_label, present, require_columns
from ambi_eval.corpora.registry import Corpus
from ambi_eval.errors import AmbiError

CORPUS = Corpus(
    title="Dusha",
    language="ru",
    license="a license of its own (license/en_us.pdf in the repository of its homepage)",
    citation="V. Kondratenko, A. Sokolov, N. Karpov, O. Kutuzov, N. Savushkin, F. Minkin. "
    "Large Raw Emotional Dataset with Aggregation Mechanism. arXiv 2212.12266, 2022.",
    homepage="https://github.com/salute-developers/golos/tree/master/dusha",
    source="crowd_train/ and crowd_test/",
)
LABELS = ("angry", "neutral", "other", "positive", "sad")
SPLITS = ("train", "test")
_COLUMNS = ("hash_id", "audio_path", "annotator_emo", "golden_emo", "speaker_text", "speaker_emo", "source_id")


def prepare(source: Path, out: Path, *, allow_missing_audio: options.AllowMissingAudio = False) -> Preparation:
    """Prepare the crowd part of Dusha from its unpacked archive (the podcast part has no audio).

    A row with a `golden_emo` is a control question for the workers: it is no vote.
    """
    preparation = Preparation(out, CORPUS, allow_missing_audio)
    for split in SPLITS:
        folder = find_folder(source, f"crowd_{split}").absolute()
        audio = find_files(folder, ".wav", "wavs", optional=True)
        facts: dict[str, dict[str, Any]] = {}
        ratings: dict[str, list[Rating]] = {}
        rows = _rows(folder / f"raw_crowd_{split}")
        for row in tqdm(rows, f"ratings of {split}", unit="rating", disable=None):
            name = row["hash_id"]
            facts.setdefault(name, row)
            panel = ratings.setdefault(name, [])
            if row["golden_emo"]:
                preparation.remarks["ratings of control questions, not counted"] += 1
            elif row["annotator_emo"]:
                panel.append(Rating(row["annotator_id"], (_label(folder, row["annotator_emo"]),)))
        for name, row in facts.items():
            clip = Clip(
                id=name,
                audio=audio.get(PurePosixPath(row["audio_path"]).name),
                speaker=row["source_id"] or None,
                transcript=row["speaker_text"] or None,
                acted=_label(folder, row["speaker_emo"]) if row["speaker_emo"] else None,
                split=split,
                **preparation.panel(ratings[name]),
            )
            preparation.add(clip)
    return preparation.save()


def _label(folder: Path, word: str) -> str:
    return known_label(folder, word.strip().lower(), LABELS)


def _rows(stem: Path) -> Iterator[dict[str, str]]:
    """Yield the ratings of `<stem>.jsonl` or `<stem>.tsv`, missing values as empty texts."""
    path = present(stem.with_suffix(".jsonl"), stem.with_suffix(".tsv"))
    with path.open(encoding="utf-8", newline="") as file:
        is_tsv = path.suffix == ".tsv"
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if is_tsv else _json_lines(path, file)
        for row in rows:
            require_columns(path, (*_COLUMNS, "annotator_id"), row)
            # A missing value is null, empty, or NaN, the only value that is not equal to itself.
            yield {name: "" if value is None or value != value else str(value) for name, value in row.items()}


def _json_lines(path: Path, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        try:
            yield dict(json.loads(line))
        except (ValueError, TypeError) as error:
            raise AmbiError(f"{path}, line {number} is no JSON object ({error}): take the official file.") from error

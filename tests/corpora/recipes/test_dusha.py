from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from support.audio import wav

from ambi_eval.corpora.manifest import Clip, Rating, read_manifest
from ambi_eval.corpora.recipes import dusha
from ambi_eval.errors import AmbiError


def rating(clip: str, worker: object, emotion: str, golden: object = "", speaker: str = "s1") -> dict[str, Any]:
    return {
        "hash_id": clip,
        "audio_path": f"wavs/{clip}.wav",
        "duration": "2.5",
        "annotator_emo": emotion,
        "golden_emo": golden,
        "speaker_text": "выключи музыку",
        "speaker_emo": "angry",
        "source_id": speaker,
        "annotator_id": worker,
    }


ROWS = {
    "train": [
        rating("a", 1, "angry"),
        rating("a", 2, "Other", float("nan")),
        rating("a", 3, "sad", None),
        rating("a", 4, "angry", "angry"),
        rating("b", 1, "neutral", "neutral"),
    ],
    "test": [rating("c", 1, "positive", speaker="s2"), rating("c", 1, "positive", speaker="s2")],
}


@pytest.fixture(params=["jsonl", "tsv"])
def release(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "crowd"
    for split, rows in ROWS.items():
        (folder / f"crowd_{split}" / "wavs").mkdir(parents=True)
        path = folder / f"crowd_{split}" / f"raw_crowd_{split}.{request.param}"
        with path.open("w", encoding="utf-8", newline="") as file:
            if request.param == "jsonl":
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            else:
                table = csv.DictWriter(file, list(rows[0]), delimiter="\t")
                table.writeheader()
                table.writerows({k: "" if v is None or v != v else v for k, v in row.items()} for row in rows)
        for row in rows:
            (folder / f"crowd_{split}" / row["audio_path"]).write_bytes(wav(row["hash_id"]))
    return folder


def test_a_clip_carries_all_that_the_release_says(release: Path, tmp_path: Path) -> None:
    preparation = dusha.prepare(release, tmp_path / "out")
    first, second = read_manifest(preparation.manifest)
    assert first == Clip(
        id="a",
        votes={"angry": 1.0, "other": 1.0, "sad": 1.0},
        audio=str(release / "crowd_train" / "wavs" / "a.wav"),
        speaker="s1",
        transcript="выключи музыку",
        acted="angry",
        split="train",
        sha256=first.sha256,
        ratings=(Rating("1", ("angry",)), Rating("2", ("other",)), Rating("3", ("sad",))),
    )
    assert (second.id, second.split, second.speaker, second.votes) == ("c", "test", "s2", {"positive": 1.0})


def test_control_questions_are_no_votes_and_repeated_ratings_are_one(release: Path, tmp_path: Path) -> None:
    preparation = dusha.prepare(release, tmp_path / "out")
    assert preparation.skipped == {"no votes": 1}
    assert preparation.remarks == {
        "ratings of control questions, not counted": 2,
        "ratings by a rater who had rated the clip before, counted as one rating": 1,
    }


def test_clips_without_audio_are_counted(release: Path, tmp_path: Path) -> None:
    (release / "crowd_test" / "wavs" / "c.wav").unlink()
    assert dusha.prepare(release, tmp_path / "out").skipped["no audio file"] == 1
    kept = dusha.prepare(release, tmp_path / "kept", allow_missing_audio=True)
    assert [clip.audio for clip in kept.clips if clip.id == "c"] == [None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"crowd_train holds none of raw_crowd_train\.jsonl, raw_crowd_train\.tsv"),
        ("{", "line 1 is no JSON object"),
        ("[1]", "line 1 is no JSON object"),
        (json.dumps({"hash_id": "a"}), r"has no column 'audio_path' \(it has: hash_id\)"),
        (json.dumps(rating("a", 1, "bored")), "'bored' is no emotion of the corpus"),
    ],
)
def test_a_table_that_is_not_as_released_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    (tmp_path / "crowd_train").mkdir()
    if content is not None:
        (tmp_path / "crowd_train" / "raw_crowd_train.jsonl").write_text(content)
    with pytest.raises(AmbiError, match=message):
        dusha.prepare(tmp_path, tmp_path / "out")

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
from support.audio import wav

from ambi_eval.corpora.manifest import Clip, Rating, read_manifest
from ambi_eval.corpora.recipes import thai_ser
from ambi_eval.errors import AmbiError

LABELS: dict[str, Any] = {
    "s001_con_actor001_impro1_1.flac": [
        {
            "assigned_emo": "Frustrated",
            "majority_emo": "Angry",
            "agreement": 0.71,
            "annotated": [["Angry"], ["angry ", "Sad"], ["Worried"], []],
        }
    ],
    "z002_mic_actor163_script1_2_1a.flac": [
        {"assigned_emo": "Happy", "majority_emo": None, "agreement": 0.5, "annotated": [["Happy"], ["Neutral"]]}
    ],
}
ACTORS = {"data": [{"Actor's ID": "001", "Sex": "Female", "Age": 24}]}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The layout of the unpacked archives; every turn of a studio lies there for each of its microphones."""
    folder = tmp_path / "THAISER"
    for place in ("studio1-10/studio001/con", "studio1-10/studio001/clip", "zoom1-10/zoom002/mic"):
        (folder / place).mkdir(parents=True)
    (folder / "emotion_label.json").write_text(json.dumps(LABELS, ensure_ascii=False), encoding="utf-8")
    (folder / "actor_demography.json").write_text(json.dumps(ACTORS), encoding="utf-8")
    samples, rate = soundfile.read(_wav(tmp_path))
    for name in ("s001_con_actor001_impro1_1", "s001_clip_actor001_impro1_1"):
        microphone = name.split("_")[1]
        soundfile.write(folder / f"studio1-10/studio001/{microphone}/{name}.flac", samples, rate)
    return folder


def _wav(folder: Path) -> Path:
    (folder / "a.wav").write_bytes(wav("a"))
    return folder / "a.wav"


def test_a_turn_carries_all_that_the_release_says(release: Path, tmp_path: Path) -> None:
    preparation = thai_ser.prepare(release, tmp_path / "out")
    [clip] = read_manifest(preparation.manifest)
    name = "s001_con_actor001_impro1_1"
    assert clip == Clip(
        id=name,
        votes={"angry": 1.5, "sad": 0.5, "other": 1.0},
        audio=str(release / f"studio1-10/studio001/con/{name}.flac"),
        speaker="001",
        sex="female",
        age=24.0,
        session="s001",
        style="improvised",
        acted="frustrated",
        folds={f"studio{fold}": "train" for fold in range(7)} | {"studio7": "development"},
        sha256=clip.sha256,
        ratings=(
            Rating(f"{name}/1", ("angry",)),
            Rating(f"{name}/2", ("angry", "sad")),
            Rating(f"{name}/3", ("other",)),
        ),
    )
    assert preparation.skipped == {"no audio file": 1}


def test_a_rater_of_several_labels_may_cast_several_votes(release: Path, tmp_path: Path) -> None:
    each = thai_ser.prepare(release, tmp_path / "out", count_each=True).clips[0]
    assert each.votes == {"angry": 2.0, "sad": 1.0, "other": 1.0}


def test_a_zoom_session_is_in_no_fold_by_studio(release: Path, tmp_path: Path) -> None:
    clip = thai_ser.prepare(release, tmp_path / "out", allow_missing_audio=True).clips[1]
    assert (clip.session, clip.speaker, clip.style, clip.folds) == ("z002", "163", "scripted", {})
    assert (clip.sex, clip.age) == (None, None)


def test_each_fold_tests_on_five_studios_that_no_other_fold_tests_on() -> None:
    tested: list[int] = []
    for fold in range(8):
        parts = {studio: thai_ser.studio_folds(studio)[f"studio{fold}"] for studio in range(1, 81)}
        test = [studio for studio, part in parts.items() if part == "test"]
        assert len(test) == 5
        assert list(parts.values()).count("development") == 5
        tested += test
    assert len(set(tested)) == 40
    assert max(tested[:5]) == 80, "fold 0 tests on the last studios"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("emotion_label.json", None, "emotion_label.json is missing"),
        ("emotion_label.json", "{", "is no JSON object in UTF-8"),
        ("emotion_label.json", '{"a.flac": []}', "'a' is no name of a THAI-SER turn"),
        ("emotion_label.json", '{"s001_con_actor001_impro1_1.flac": []}', "'s001_con.*' is not as released"),
        ("emotion_label.json", '{"s001_con_actor001_impro1_1.flac": [{"annotated": [[1]]}]}', "is not as released"),
        ("actor_demography.json", None, "actor_demography.json is missing"),
    ],
)
def test_a_file_that_is_not_as_released_is_named(
    release: Path, tmp_path: Path, file: str, content: str | None, message: str
) -> None:
    (release / file).unlink()
    if content is not None:
        (release / file).write_text(content)
    with pytest.raises(AmbiError, match=message):
        thai_ser.prepare(release, tmp_path / "out")

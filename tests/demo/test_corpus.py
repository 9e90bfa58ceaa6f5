from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.files import no_file_larger_than

from ambi_eval.corpora.manifest import Clip, read_manifest
from ambi_eval.demo import corpus
from ambi_eval.demo.corpus import (
    TEST_CLIPS_PER_SPEAKER,
    TEST_SPEAKERS,
    TRAINING_SPEAKERS,
    deliver,
    prepare,
    utterances,
)
from ambi_eval.demo.raters import LABELS, PROTOTYPES
from ambi_eval.errors import AmbiError
from ambi_eval.votes import entropy_bits, shares


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("demo")).manifest


@pytest.fixture(scope="module")
def clips(prepared: Path) -> list[Clip]:
    return read_manifest(prepared)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_no_training_speaker_is_in_the_corpus(clips: list[Clip]):
    trained = {speaker.id for speaker in TRAINING_SPEAKERS}
    assert len(trained) == 48
    assert {clip.speaker for clip in clips} == {speaker.id for speaker in TEST_SPEAKERS}
    assert trained.isdisjoint(clip.speaker for clip in clips)
    assert {s.pitch_hz for s in TRAINING_SPEAKERS}.isdisjoint(s.pitch_hz for s in TEST_SPEAKERS)


def test_the_corpus_has_sixteen_clips_of_each_of_twelve_speakers(clips: list[Clip]):
    assert sorted(Counter(clip.speaker for clip in clips).values()) == [TEST_CLIPS_PER_SPEAKER] * 12
    assert {clip.sex for clip in clips} == {"female", "male"}


def test_votes_are_the_ratings_counted_and_everybody_votes_once(clips: list[Clip]):
    for clip in clips:
        assert 5 <= len(clip.ratings) <= 10
        assert len({rating.rater for rating in clip.ratings}) == len(clip.ratings)
        assert clip.votes == Counter(rating.labels[0] for rating in clip.ratings)
        assert set(clip.votes) <= set(LABELS)


def test_raters_are_called_simulated(clips: list[Clip]):
    assert all(rating.rater.startswith("simulated_") for clip in clips for rating in clip.ratings)
    assert {clip.release for clip in clips} == {"simulated"}


def test_clips_range_from_unanimous_to_contested_and_every_label_is_common(clips: list[Clip]):
    distributions = shares([[clip.votes.get(label, 0) for label in LABELS] for clip in clips])
    ambiguity = entropy_bits(distributions)
    assert 0.1 < (ambiguity == 0).mean() < 0.4
    assert (ambiguity > 1).mean() > 0.15
    assert (distributions.mean(axis=0) > 0.12).all()


def test_audio_is_mono_pcm16_at_16_khz_and_lasts_one_to_three_seconds(clips: list[Clip]):
    for clip in clips:
        info = soundfile.info(clip.audio)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        assert 0.8 < info.duration < 3


def test_preparing_again_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corpus, "TEST_CLIPS_PER_SPEAKER", 1)
    path = prepare(tmp_path).manifest
    before = digests(tmp_path)
    assert len(before) == len(TEST_SPEAKERS) + 1
    assert prepare(tmp_path).manifest == path
    assert digests(tmp_path) == before


def test_a_preparation_that_breaks_off_leaves_no_manifest_and_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def break_off(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(corpus, "TEST_CLIPS_PER_SPEAKER", 1)
    with monkeypatch.context() as broken:
        broken.setattr(corpus, "write_manifest", break_off)
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path)
    assert not (tmp_path / "manifest.parquet").exists()
    assert {path.suffix for path in (tmp_path / "audio").iterdir()} == {".wav"}
    assert len(read_manifest(prepare(tmp_path).manifest)) == len(TEST_SPEAKERS)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(AmbiError, match=r"cannot write .*taken.*\(Not a directory\).*--out"):
        prepare(tmp_path / "taken")


def test_more_clips_per_speaker_leave_the_first_ones_as_they_are():
    few = list(utterances(TEST_SPEAKERS[:1], 2))
    many = list(utterances(TEST_SPEAKERS[:1], 4))
    assert [u.clip for u in few] == [u.clip for u in many[:2]]
    np.testing.assert_array_equal(few[1].samples, many[1].samples)


def test_angry_is_louder_faster_and_higher_than_sad_and_happy_brighter_than_angry():
    rng = np.random.default_rng(0)
    angry, happy, _, sad = ([deliver(mood, rng) for _ in range(30)] for mood in PROTOTYPES)
    for control in ("level", "rate", "pitch"):
        assert min(getattr(d, control) for d in angry) > max(getattr(d, control) for d in sad)
    assert min(d.tilt for d in happy) > max(d.tilt for d in angry)


def test_a_full_disk_is_told_and_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    with no_file_larger_than(1000), pytest.raises(AmbiError, match=r"cannot write .*/audio/.*\.wav \(File too large\)"):
        prepare(tmp_path)
    assert list((tmp_path / "audio").iterdir()) == []

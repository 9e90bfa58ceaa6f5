from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from support.audio import wav

from ambi_eval.corpora.manifest import Clip, Rating, read_manifest
from ambi_eval.corpora.preparation import (
    Preparation,
    count_votes,
    find_folder,
    label_choices,
    read_rows,
    summarize,
)
from ambi_eval.corpora.recipes.crema_d import CORPUS
from ambi_eval.errors import AmbiError

HEARD = Clip(id="heard", votes={"sad": 1.0}, audio="/a.wav")
UNHEARD = Clip(id="unheard", votes={"sad": 1.0})
UNRATED = Clip(id="unrated", votes={"sad": 0.0}, audio="/a.wav")


@pytest.mark.parametrize(
    ("clip", "allow_missing_audio", "kept", "skipped", "remarks"),
    [
        (HEARD, False, [HEARD], {}, {}),
        (UNHEARD, False, [], {"no audio file": 1}, {}),
        (UNHEARD, True, [UNHEARD], {}, {"kept without audio (no audio file)": 1}),
        (UNRATED, True, [], {"no votes": 1}, {}),
    ],
)
def test_a_clip_needs_votes_and_unless_waived_audio(
    tmp_path: Path,
    clip: Clip,
    allow_missing_audio: bool,
    kept: list[Clip],
    skipped: dict[str, int],
    remarks: dict[str, int],
) -> None:
    preparation = Preparation(tmp_path, CORPUS, allow_missing_audio)
    preparation.add(clip)
    assert (preparation.clips, preparation.skipped, preparation.remarks) == (kept, skipped, remarks)


def test_saving_hashes_the_audio_and_writes_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav("a"))
    clips = [
        Clip(id="1", votes={"sad": 1.0}, audio=str(tmp_path / "a.wav"), end=0.05),
        Clip(id="2", votes={"sad": 1.0}, audio=str(tmp_path / "a.wav"), start=0.05),
        Clip(id="3", votes={"sad": 1.0}),
    ]
    preparation = Preparation(tmp_path / "out", CORPUS, True, "as it comes", clips=clips)
    preparation.skipped["no votes"] += 2
    saved = preparation.save()
    assert saved.manifest == tmp_path / "out" / "manifest.parquet"
    digest = hashlib.sha256(wav("a")).hexdigest()
    assert [clip.sha256 for clip in saved.clips] == [digest, digest, None]
    manifest = read_manifest(saved.manifest)
    assert manifest == saved.clips
    assert manifest.about["license"] == CORPUS.license
    assert (manifest.about["votes"], manifest.about["skipped"]) == ("as it comes", {"no votes": 2})


@pytest.mark.parametrize("allow_missing_audio", [False, True])
def test_audio_that_no_model_can_hear_counts_as_missing(tmp_path: Path, allow_missing_audio: bool) -> None:
    (tmp_path / "good.wav").write_bytes(wav("good"))
    (tmp_path / "cut.wav").write_bytes(wav("cut")[:2000])
    preparation = Preparation(tmp_path / "out", CORPUS, allow_missing_audio)
    for name in ("good", "cut", "gone"):
        preparation.add(Clip(id=name, votes={"sad": 1.0}, audio=str(tmp_path / f"{name}.wav")))
    preparation.save()
    assert [clip.id for clip in preparation.clips if clip.audio] == ["good"]
    assert len(preparation.clips) == (3 if allow_missing_audio else 1)
    [(told, count)] = (preparation.remarks if allow_missing_audio else preparation.skipped).items()
    assert count == 2
    assert f"audio that cannot be heard, such as {tmp_path / 'cut.wav'}: the audio breaks off" in told


def test_nothing_left_is_an_error_that_says_what_became_of_the_clips(tmp_path: Path) -> None:
    preparation = Preparation(tmp_path, CORPUS)
    preparation.add(UNHEARD)
    with pytest.raises(AmbiError, match=r"no clip is left for .*manifest\.parquet \(1 no audio file\)"):
        preparation.save()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("count_each", "votes"),
    [(False, {"sad": 1.5, "angry": 0.5, "fear": 1.0}), (True, {"sad": 2.0, "angry": 1.0, "fear": 1.0})],
)
def test_a_rater_of_several_labels_splits_the_vote_or_casts_several(count_each: bool, votes: dict[str, float]) -> None:
    panel = [Rating("1", ("sad",)), Rating("2", ("sad", "angry")), Rating("3", ("fear",)), Rating("4", ())]
    assert count_votes(panel, count_each) == votes


def test_the_summary_counts_raters_ties_and_unanimous_panels() -> None:
    third = 1 / 3
    summary = summarize(
        [
            Clip(id="1", votes={"sad": 4.0}, split="train"),
            Clip(id="2", votes={"sad": 2.0, "angry": 2.0}, split="train"),
            Clip(id="3", votes={"sad": third, "angry": third, "fear": third}, split="test1"),
            Clip(
                id="4", votes={"sad": 2.0, "angry": 1.0}, ratings=(Rating("1", ("sad", "angry")), Rating("2", ("sad",)))
            ),
        ]
    )
    assert (summary.clips, summary.unanimous, summary.tied) == (4, 1, 2)
    assert summary.votes == pytest.approx(12)
    assert summary.raters == pytest.approx((1, 11 / 4, 4))
    assert summary.ambiguity_bits == pytest.approx((0 + 1 + 1.584963 + 0.918296) / 4, abs=1e-6)
    assert summary.splits == {"test1": 1, "train": 2}


@pytest.mark.parametrize(
    ("source", "message"),
    [("nowhere", r"--source .*nowhere is no folder"), ("release", r"release holds no Audios/: --source must be")],
)
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "release").mkdir()
    with pytest.raises(AmbiError, match=message):
        find_folder(tmp_path / source, "Audios", "Audio")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "table.csv is missing"),
        ("FileName,Speaker\n", r"no column 'Filename', did you mean 'FileName'\? \(it has"),
    ],
)
def test_a_table_that_is_not_as_released_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "table.csv").write_text(content)
    with pytest.raises(AmbiError, match=message):
        list(read_rows(tmp_path / "table.csv", "Filename"))


def test_what_each_choice_of_labels_keeps_is_counted_in_clips_and_votes():
    votes = [{"happy": 2, "excited": 1}, {"angry": 3}, {"sad": 2, "frustrated": 1}, {"frustrated": 3}]
    clips = [Clip(id=str(n), votes=each) for n, each in enumerate(votes)]
    kept = {name: (count, mass) for name, count, mass in label_choices("iemocap", clips)}
    tasks = " (the tasks ambi_iemocap_*)"
    assert kept[f"4 labels, excited as happy, drop_clip{tasks}"] == (2, 6 / 12)
    assert kept["4 labels, excited as happy, renormalise"] == (3, 8 / 12)
    assert kept["4 labels, drop_clip"] == (1, 3 / 12)
    assert kept["4 labels, renormalise"] == (3, 7 / 12)
    assert kept["9 labels, renormalise (the tasks ambi_iemocap_full_*)"] == (4, 1.0)

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.audio import wav
from support.references import references

from ambi_eval.analysis.corpora import figures
from ambi_eval.analysis.evaluate import Scorer
from ambi_eval.analysis.references.panels import full_panels, split_panels
from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.manifest import Clip, Rating, read_manifest
from ambi_eval.corpora.other_votes import target_votes
from ambi_eval.corpora.preparation import summarize
from ambi_eval.corpora.recipes import whiser
from ambi_eval.corpora.select import select
from ambi_eval.errors import AmbiError
from ambi_eval.paths import tasks_dir

DETAILED = """\
FileName,EmoDetail
001-105.1-2_14.wav,WORKER1; Contempt; Contempt; A:4.000000; V:3.000000; D:4.000000;
001-105.1-2_14.wav,"WORKER2; Other-wry; amused; Sad,Concerned; A:5.000000; V:3.000000; D:4.000000;"
004-017.1-2_3.wav,WORKER1; Neutral; Neutral; A:4.000000; V:4.000000; D:4.000000;
"""
CONSENSUS = """\
FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set
001-105.1-2_14.wav,X,4.5,3.0,4.0,Unknown,Unknown,NA
004-017.1-2_3.wav,N,4.0,4.0,4.0,Unknown,Unknown,NA
"""


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "WHiSER"
    for name in ("Labels", "Annotation_wav_files"):
        (folder / name).mkdir(parents=True)
    (folder / "Labels" / "labels_detailed.csv").write_text(DETAILED)
    (folder / "Labels" / "labels_consensus.csv").write_text(CONSENSUS)
    for name in ("001-105.1-2_14", "004-017.1-2_3", "004-017.1-2_9"):
        (folder / "Annotation_wav_files" / f"{name}.wav").write_bytes(wav(name))
    return folder


def test_a_clip_carries_all_that_the_release_says(release: Path, tmp_path: Path) -> None:
    preparation = whiser.prepare(release, tmp_path / "out")
    first, second = read_manifest(preparation.manifest)
    assert first == Clip(
        id="001-105.1-2_14",
        votes={"contempt": 1.0, "other": 1.0},
        audio=str(release / "Annotation_wav_files" / "001-105.1-2_14.wav"),
        dialogue="001-105.1-2",
        arousal=4.5,
        valence=3.0,
        dominance=4.0,
        sha256=first.sha256,
        ratings=(
            Rating("WORKER1", ("contempt",), 4.0, 3.0, 4.0),
            Rating("WORKER2", ("other",), 5.0, 3.0, 4.0),
        ),
    )
    assert (second.dialogue, second.consensus) == ("004-017.1-2", "neutral")
    assert preparation.skipped == {"no published votes": 1}


def test_the_table_of_sources_says_which_tape_a_clip_comes_from(release: Path, tmp_path: Path) -> None:
    (release / "Annotation_wav_files_ref.txt").write_text("001-105.1-2_14.wav tape_001-105.wav 12.5 3.25\n\n")
    clips = whiser.prepare(release, tmp_path / "out").clips
    assert [clip.dialogue for clip in clips] == ["tape_001-105", "004-017.1-2"]


def test_secondary_emotions_stand_behind_the_last_semicolon(release: Path, tmp_path: Path) -> None:
    clip = whiser.prepare(release, tmp_path / "out", labels="secondary").clips[0]
    assert [rating.labels for rating in clip.ratings] == [("contempt",), ("other", "sad", "concerned")]
    with pytest.raises(AmbiError, match="--count-each goes with --labels secondary only"):
        whiser.prepare(release, tmp_path / "out", count_each=True)


class TestMirror:
    """The audio of a mirror on the hub; the labels are its own files, or those of the owners' repository."""

    @pytest.fixture
    def mirror(self, tmp_path: Path) -> Path:
        rows = [
            {"FileName": f"{name}.wav", "audio": {"bytes": wav(name), "path": f"{name}.wav"}, "EmoClass": "N"}
            for name in ("001-105.1-2_14", "004-017.1-2_3")
        ]
        folder = tmp_path / "mirror"
        (folder / "data").mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "train-00000-of-00001.parquet")
        return folder

    def test_the_audio_is_written_byte_for_byte_and_the_labels_come_from_the_release(
        self, mirror: Path, release: Path, tmp_path: Path
    ) -> None:
        shutil.rmtree(release / "Annotation_wav_files")
        preparation = whiser.prepare(release, tmp_path / "out", from_hub=str(mirror))
        first, second = read_manifest(preparation.manifest)
        assert Path(str(first.audio)).read_bytes() == wav("001-105.1-2_14")
        assert (first.votes, second.votes) == ({"contempt": 1.0, "other": 1.0}, {"neutral": 1.0})

    def test_a_mirror_with_label_files_needs_nothing_else(self, mirror: Path, release: Path, tmp_path: Path) -> None:
        shutil.copytree(release / "Labels", mirror / "WHiSER" / "Labels")
        assert len(whiser.prepare(None, tmp_path / "out", from_hub=str(mirror)).clips) == 2

    def test_wav_files_of_a_mirror_stay_where_they_are(self, release: Path, tmp_path: Path) -> None:
        (release / "Annotation_wav_files").rename(release / "wavs")
        clip = whiser.prepare(None, tmp_path / "out", from_hub=str(release)).clips[0]
        assert clip.audio == str(release / "wavs" / "001-105.1-2_14.wav")

    def test_a_mirror_without_labels_or_audio_and_no_network_are_one_sentence_each(
        self, mirror: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(AmbiError, match="which holds Labels/, to --source"):
            whiser.prepare(None, tmp_path / "out", from_hub=str(mirror))
        (tmp_path / "empty").mkdir()
        with pytest.raises(AmbiError, match=r"holds neither \*\.parquet nor \*\.wav"):
            whiser.prepare(None, tmp_path / "out", from_hub=str(tmp_path / "empty"))
        with pytest.raises(AmbiError, match="cannot get 'Lab-MSP/whiser_parquet' from the Hugging Face hub"):
            whiser.prepare(None, tmp_path / "out", from_hub="Lab-MSP/whiser_parquet")  # HF_HUB_OFFLINE=1 in the tests
        rows = [{"audio": {"bytes": b"RIFF", "path": None}}]
        (tmp_path / "nameless").mkdir()
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "nameless" / "a.parquet")
        with pytest.raises(AmbiError, match="does not say which file its audio is"):
            whiser.prepare(None, tmp_path / "out", from_hub=str(tmp_path / "nameless"))


class TestRealLabels:
    """The figures of the published labels, computed by other ways than ours."""

    def test_clips_raters_and_references(self, real_labels: Callable[[str], Path], tmp_path: Path) -> None:
        preparation = whiser.prepare(real_labels("whiser"), tmp_path, allow_missing_audio=True)
        summary = summarize(preparation.clips)
        assert (summary.clips, summary.votes) == (5_427, 27_156)
        assert summary.raters == pytest.approx((5, 27_156 / 5_427, 9))
        assert len({rating.rater for clip in preparation.clips for rating in clip.ratings}) == 33
        selection = select(load_corpus("whiser"), read_manifest(preparation.manifest), hear=False)
        known = {"uniform": 0.513, "prior": 0.239, "oracle": 0.172, "one human": 0.473}
        ours = references(selection.votes)
        assert {name: round(ours[name], 3) for name in known} == known
        of_votes = figures(selection, load_corpus("whiser"))
        assert (of_votes.people, round(of_votes.half_panel or 0, 3)) == (33, 0.387)
        assert selection.warnings == []
        assert len(set(selection.clusters)) > 1000

    def test_the_example_of_ordered_labels_has_its_prior_and_human_references(
        self, real_labels: Callable[[str], Path], data_directory: Path
    ) -> None:
        """How active the voices sound, from 1 to 7: `tasks/whiser/whiser_arousal.yaml`."""
        whiser.prepare(real_labels("whiser"), data_directory / "whiser", allow_missing_audio=True)
        settings = load_corpus(str(tasks_dir() / "whiser" / "whiser_arousal.yaml"))
        selection = target_votes(settings)
        q = selection.votes / selection.votes.sum(axis=1, keepdims=True)
        assert q.shape == (5_427, 7)
        # The ranked probability score of the prior: squared distances of cumulative shares, over 6 edges.
        steps = np.square(np.cumsum(q, axis=1) - np.cumsum(q.mean(axis=0)))[:, :-1].mean()
        scorer = Scorer(selection, metrics=["rps"])
        everyone = full_panels(selection)
        prior = scorer.score(everyone, np.broadcast_to(q.mean(axis=0), q.shape))[0]["rps"].value
        assert prior == pytest.approx(steps)
        half = split_panels(selection.panels, lambda raters: raters // 2)
        assert half is not None
        people = scorer.score(half, half.given / half.given.sum(axis=1, keepdims=True))[0]["rps"].value
        assert prior < people  # two people of five, against whom a constant is hard to beat

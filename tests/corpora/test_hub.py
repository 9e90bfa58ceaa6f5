from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.audio import wav

from ambi_eval.config.load import load_corpus
from ambi_eval.corpora import hub
from ambi_eval.corpora.manifest import Clip, read_manifest
from ambi_eval.corpora.recipes import crema_d, iemocap
from ambi_eval.corpora.select import select
from ambi_eval.errors import AmbiError


def smooth(counts: NDArray[np.float64]) -> NDArray[np.float32]:
    """Smooth as EMO-SUPERB does: 0.01 + 0.94 p for six labels, 0.00625 + 0.94375 p for nine."""
    intercept, slope = {6: (0.01, 0.94), 9: (0.00625, 0.94375)}[counts.shape[1]]
    return (intercept + slope * counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)


def lowest_terms(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([row / math.gcd(*row.astype(int).tolist()) for row in counts])


def mirror_table(labels: tuple[str, ...], names: list[str], shares: NDArray[np.float32]) -> pa.Table:
    """A table with the columns of the mirrors, audio as the bytes of its file."""
    return pa.table(
        {
            "file": [f"{name}.wav" for name in names],
            "audio": [{"bytes": wav(name), "path": f"{name}.wav"} for name in names],
            **{label: shares[:, column] for column, label in enumerate(labels)},
            "gender": ["Female"] * len(names),
            "transcription": ["what was said"] * len(names),
            "major_emotion": ["neutral"] * len(names),
        }
    )


NAMES = ["1001_IEO_HAP_MD", "1002_DFA_ANG_XX", "1076_MTI_SAD_XX", "1091_WSI_NEU_XX"]
COUNTS = np.array([[0, 0, 0, 4, 7, 0], [6, 0, 0, 0, 2, 0], [1, 0, 1, 0, 2, 6], [0, 0, 0, 0, 9, 0]], dtype=float)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    table = mirror_table(crema_d.LABELS, NAMES, smooth(COUNTS))
    pq.write_table(table[:2], folder / "train-00000-of-00002.parquet")
    pq.write_table(table[2:], folder / "train-00001-of-00002.parquet")
    return folder


def test_the_votes_of_the_whole_corpus_come_back_exactly(crema_d_release: Path, tmp_path: Path) -> None:
    official = crema_d.prepare(crema_d_release, tmp_path, allow_missing_audio=True).clips
    counts = np.array([[clip.votes[label] for label in crema_d.LABELS] for clip in official])
    assert (hub.votes_from_shares(smooth(counts)) == lowest_terms(counts)).all()


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([6, 9]),
    st.booleans(),
)
def test_any_panel_comes_back_in_lowest_terms(seed: int, n_labels: int, smoothed: bool) -> None:
    rng = np.random.default_rng(seed)
    panels = rng.integers(1, hub.MOST_RATERS + 1, 40)
    counts = np.array([rng.multinomial(raters, rng.dirichlet(np.ones(n_labels))) for raters in panels], dtype=float)
    counts[0] = np.eye(n_labels)[0]  # in a whole corpus some label is without any vote in some clip
    shares = smooth(counts) if smoothed else 7 * counts / counts.sum(axis=1, keepdims=True)
    assert (hub.votes_from_shares(shares) == lowest_terms(counts)).all()


@pytest.mark.parametrize(
    ("shares", "votes"),
    [
        ([[0.0, 0.0, 0.0]], [[0, 0, 0]]),
        ([[math.nan, math.nan, math.nan], [1.0, 0.0, 0.0]], [[0, 0, 0], [1, 0, 0]]),
        ([[0.333, 0.333, 0.334]], [[1, 1, 1]]),
        ([[0.615, 0.385, 0.0]], [[8, 5, 0]]),
        ([[0.9775, 0.0225, 0.0]], [[0.9775, 0.0225, 0.0]]),
    ],
)
def test_rounding_missing_votes_and_what_fits_no_panel(shares: list[list[float]], votes: list[list[float]]) -> None:
    np.testing.assert_allclose(hub.votes_from_shares(np.array(shares)), votes)


def test_a_mirror_of_crema_d_becomes_its_manifest_with_the_audio_beside_it(copy: Path, tmp_path: Path) -> None:
    preparation = crema_d.prepare(None, tmp_path / "out", from_hub=str(copy))
    first, second, third = read_manifest(preparation.manifest)
    assert first == Clip(
        id="1001_IEO_HAP_MD",
        votes=dict(zip(crema_d.LABELS, [0, 0, 0, 4, 7, 0], strict=True)),
        audio=str(tmp_path / "out/audio/1001_IEO_HAP_MD.wav"),
        speaker="1001",
        sex="female",
        sentence="IEO",
        transcript="It's eleven o'clock.",
        acted="happy",
        sha256=first.sha256,
        folds=crema_d.describe("1001_IEO_HAP_MD")["folds"],
    )
    assert Path(str(first.audio)).read_bytes() == wav("1001_IEO_HAP_MD")
    assert (second.votes["angry"], second.votes["neutral"]) == (3, 1)
    assert third.votes["neutral"] == 1
    assert preparation.skipped == {"the recording is silent": 1}


def test_a_mirror_of_iemocap_lacks_other_and_keeps_the_words(tmp_path: Path) -> None:
    labels = tuple(label for label in iemocap.LABELS if label != "other")
    counts = np.eye(9)[[3, 3]] + np.eye(9)[[3, 4]]
    table = mirror_table(labels, ["Ses01F_impro01_F000", "Ses05M_script01_1b_M041"], smooth(counts))
    pq.write_table(table, tmp_path / "train.parquet")
    first, second = iemocap.prepare(None, tmp_path / "out", from_hub=str(tmp_path)).clips
    assert (first.votes["fear"], second.votes["fear"], second.votes["frustrated"]) == (1, 1, 1)
    assert (second.speaker, second.sex, second.transcript) == ("Ses05_M", "male", "what was said")


def test_the_manifest_of_each_route_to_iemocap_says_how_it_counted_and_how_the_other_does(tmp_path: Path) -> None:
    labels = tuple(label for label in iemocap.LABELS if label != "other")
    pq.write_table(mirror_table(labels, ["Ses01F_impro01_F000"], smooth(np.eye(9)[[3]])), tmp_path / "train.parquet")
    mirrored = iemocap.prepare(None, tmp_path / "mirrored", from_hub=str(tmp_path))
    dialogue = tmp_path / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    dialogue.parent.mkdir(parents=True)
    dialogue.write_text("[1.0 - 2.0]\tSes01F_impro01_F000\tfea\t[2.5, 2.5, 2.5]\nC-E1:\tFear; Sadness;\t()\n")
    for count_each, counted in ((False, "1/k of a vote each"), (True, "a whole vote each")):
        out = tmp_path / str(count_each)
        released = iemocap.prepare(tmp_path, out, count_each=count_each, allow_missing_audio=True)
        told = read_manifest(released.manifest).about["votes"]
        assert f"a rater's k labels are {counted}; a mirror (--from-hub) counts a whole vote each" in told
    assert "as EMO-SUPERB counted" in read_manifest(mirrored.manifest).about["votes"]
    assert "the release (--source) counts 1/k" in read_manifest(mirrored.manifest).about["votes"]


def test_the_raters_behind_a_mirror_of_iemocap_are_not_known_and_its_whole_votes_are_not_theirs(tmp_path: Path) -> None:
    labels = tuple(label for label in iemocap.LABELS if label != "other")
    pq.write_table(mirror_table(labels, ["Ses01F_impro01_F000"], smooth(np.eye(9)[[0]])), tmp_path / "train.parquet")
    mirrored = read_manifest(iemocap.prepare(None, tmp_path / "mirrored", from_hub=str(tmp_path)).manifest)
    settings = load_corpus("iemocap_full")
    assert select(settings, mirrored, hear=False).panels == [None]
    assert np.isnan(select(settings, mirrored, hear=False).noise).all()
    assert select(settings, list(mirrored), hear=False).panels != [None], "nothing said, nothing taken away"


@pytest.mark.parametrize("whole", [True, False])
def test_what_datasets_saved_to_disk_is_read_as_well(copy: Path, tmp_path: Path, whole: bool) -> None:
    dataset = Dataset(mirror_table(crema_d.LABELS, NAMES, smooth(COUNTS)))
    (dataset if whole else DatasetDict(train=dataset)).save_to_disk(tmp_path / "saved")
    from_disk = crema_d.prepare(None, tmp_path / "out", from_hub=str(tmp_path / "saved"))
    assert from_disk.clips == crema_d.prepare(None, tmp_path / "out", from_hub=str(copy)).clips


def test_preparing_twice_gives_the_same_bytes(copy: Path, tmp_path: Path) -> None:
    first = crema_d.prepare(None, tmp_path / "out", from_hub=str(copy)).manifest.read_bytes()
    assert crema_d.prepare(None, tmp_path / "out", from_hub=str(copy)).manifest.read_bytes() == first


def test_a_clip_without_audio_or_with_strange_shares_is_counted(tmp_path: Path) -> None:
    shares = np.array([[0.9775, 0.0225, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]], dtype=np.float32)
    table = mirror_table(crema_d.LABELS, NAMES[:2], shares)
    audio = [{"bytes": wav("a"), "path": "a.wav"}, {"bytes": None, "path": "b.wav"}]
    table = table.set_column(table.schema.get_field_index("audio"), "audio", [audio])
    pq.write_table(table, tmp_path / "train.parquet")
    preparation = crema_d.prepare(None, tmp_path / "out", from_hub=str(tmp_path))
    assert preparation.skipped == {"no audio file": 1}
    assert preparation.remarks == {"shares that fit no number of raters, kept as they are": 1}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["file", "anger"], r"no column 'angry', did you mean 'anger'\? \(it has: file, anger\)"),
        (None, "holds neither"),
    ],
)
def test_a_folder_that_is_no_mirror_is_refused(tmp_path: Path, columns: list[str] | None, message: str) -> None:
    if columns:
        pq.write_table(pa.table({column: ["x"] for column in columns}), tmp_path / "train.parquet")
    with pytest.raises(AmbiError, match=message):
        crema_d.prepare(None, tmp_path / "out", from_hub=str(tmp_path))


@pytest.mark.parametrize("mirror", ["AbstractTTS/CREMA-D", "AbstractTTS/CREMA-D@5a17278", "no id at all", "./nowhere"])
def test_a_mirror_that_cannot_be_had_is_named_with_the_fix(
    tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))  # where no copy lies
    with pytest.raises(AmbiError, match=rf"cannot get '{mirror}' from the Hugging Face hub .*--from-hub") as error:
        crema_d.prepare(None, tmp_path / "out", from_hub=mirror)
    assert "\n" not in str(error.value)

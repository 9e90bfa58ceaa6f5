from __future__ import annotations

from pathlib import Path

import pytest
from support.audio import wav

from ambi_eval.corpora.manifest import Clip, Rating, read_manifest
from ambi_eval.corpora.recipes import msp_improv
from ambi_eval.errors import AmbiError

# The format as public loaders of the release read it: a line a turn, then one a rater, then an empty line.
EVALUATION = """\
UTD-IMPROV-S01A-F01-S-FM01.avi; A; A:1.666667; V:2.333333; D:3.500000 ; N:4.000000;
WORKER00000017; Angry; Angry,Frustrated; A:1.000000; V:2.000000; D:4.000000; N:4.000000;
WORKER00000018; Other; Angry,Other (sarcastic; annoyed),Disgusted; A:2.000000; V:2.000000; D:3.000000; N:NaN;
WORKER00000017; Angry; Angry,Frustrated; A:1.000000; V:2.000000; D:4.000000; N:4.000000;
in-lab_3; Neutral; ; A:2.000000; V:3.000000; D:NaN; N:5.000000;

UTD-IMPROV-S20H-M06-R-MM02.avi; X; A:3.000000; V:4.000000; D:NaN ; N:NaN;
WORKER00000017; Happy; Happy; A:3.000000; V:4.000000; D:3.000000; N:4.000000;

a line that nobody documented
"""


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "MSP-IMPROV"
    for session, code, name in (
        ("session1", "S01A/S", "MSP-IMPROV-S01A-F01-S-FM01"),
        ("session6", "S20H/R", "MSP-IMPROV-S20H-M06-R-MM02"),
        ("session6", "S20H/R", "MSP-IMPROV-S20H-M06-R-MM03"),
    ):
        (folder / session / code).mkdir(parents=True, exist_ok=True)
        (folder / session / code / f"{name}.wav").write_bytes(wav(name))
    (folder / "Evaluation.txt").write_text(EVALUATION)
    return folder


def test_a_turn_carries_all_that_the_release_says(release: Path, tmp_path: Path) -> None:
    preparation = msp_improv.prepare(release, tmp_path / "out")
    first, second = read_manifest(preparation.manifest)
    assert first == Clip(
        id="MSP-IMPROV-S01A-F01-S-FM01",
        votes={"angry": 1.0, "neutral": 1.0, "other": 1.0},
        audio=str(release / "session1" / "S01A" / "S" / "MSP-IMPROV-S01A-F01-S-FM01.wav"),
        speaker="F01",
        sex="female",
        session="session1",
        style="improvised",
        acted="angry",
        consensus="angry",
        arousal=4.333333,  # 6 less the published activation
        valence=2.333333,
        dominance=3.5,
        sha256=first.sha256,
        folds={f"emo_superb{fold}": part for fold, part in EMO_SUPERB_OF_SESSION_1.items()},
        ratings=(
            Rating("WORKER00000017", ("angry",), 5.0, 2.0, 4.0),
            Rating("WORKER00000018", ("other",), 4.0, 2.0, 3.0),
            Rating("in-lab_3", ("neutral",), 4.0, 3.0, None),
        ),
    )
    assert (second.speaker, second.style, second.sentence, second.acted) == ("M06", "scripted", "S20", "happy")
    assert (second.consensus, second.dominance) == (None, None)
    assert preparation.skipped == {"no published votes": 1}
    assert preparation.remarks["ratings by a rater who had rated the clip before, counted as one rating"] == 1
    assert preparation.remarks["lines of the evaluation that could not be read"] == 1


# Read from the label files of EMO-SUPERB, as the next ones.
EMO_SUPERB_OF_SESSION_1 = {1: "train", 2: "train", 3: "development", 4: "test", 5: "train", 6: "train"}


@pytest.mark.parametrize(("session", "test", "development"), [(2, 3, 2), (3, 2, 1), (4, 1, 6), (5, 6, 5), (6, 5, 4)])
def test_the_folds_are_those_of_emo_superb(session: int, test: int, development: int) -> None:
    folds = msp_improv.describe(f"MSP-IMPROV-S01A-F0{session}-P-FM01")["folds"]
    parts = {"emo_superb" + str(test): "test", "emo_superb" + str(development): "development"}
    assert folds == {name: parts.get(name, "train") for name in folds}


def test_all_emotions_of_a_rater_can_be_votes(release: Path, tmp_path: Path) -> None:
    clip = msp_improv.prepare(release, tmp_path / "out", labels="secondary").clips[0]
    assert [rating.labels for rating in clip.ratings] == [
        ("angry", "frustrated"),
        ("other", "angry", "disgust"),
        ("neutral",),
    ]


def test_the_other_spelling_of_the_file_is_found_and_another_release_refused(release: Path, tmp_path: Path) -> None:
    (release / "Evaluation.txt").rename(release / "Evalution.txt")
    assert len(msp_improv.prepare(release, tmp_path / "out").clips) == 2
    (release / "Evalution.txt").write_text("nothing\n")
    with pytest.raises(AmbiError, match="holds no turn"):
        msp_improv.prepare(release, tmp_path / "out")
    (release / "Evalution.txt").unlink()
    with pytest.raises(AmbiError, match=r"holds none of Evaluation\.txt, Evalution\.txt"):
        msp_improv.prepare(release, tmp_path / "out")
    with pytest.raises(AmbiError, match="is no name of an MSP-IMPROV turn"):
        msp_improv.describe("Ses01F_impro01_F000")

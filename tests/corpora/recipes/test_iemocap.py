from __future__ import annotations

from pathlib import Path

import pytest
from support.audio import wav

from ambi_eval.corpora.manifest import Clip, Rating, read_manifest
from ambi_eval.corpora.recipes import iemocap
from ambi_eval.errors import AmbiError

IMPROVISED = """\
% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
C-E3:\tNeutral;\t()
C-E4:\tHappiness;\t()
C-F1:\tSadness;\t(curious)
A-E3:\tval 3; act 2; dom  2;\t()
A-E4:\tval 2; act 3; dom  3;\t(mildly aggravated but staying polite, attitude)
A-F1:\tval 3; act 2;\t()

[10.0100 - 11.3925]\tSes01F_impro01_M001\txxx\t[2.5000, 2.5000, 2.5000]
C-E2:\tFrustration; Anger;\t(Anger; (first) then; Sadness)
C-E3:\tOther;\t(sarcastic; (annoyed))
C-E4:\tExcited; Excitement; Surprise;\t()
C-E6:\t;\t(could not decide)
C-M1:\tAnger;\t()

[12.0000 - 13.0000]\tSes01F_impro01_F001\txxx\t[2.5000, 2.5000, 2.5000]
C-F1:\tNeutral;\t()

[14.9200 - 16.0000]\tSes01F_impro01_F002\tfea\t[2.5000, 2.5000, 2.5000]
C-E1:\tFear;\t()
"""
SCRIPTED = """\
% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[140.2250 - 145.6000]\tSes05M_script01_1b_F019\tdis\t[1.5000, 4.0000, 4.5000]
C-E1:\tDisgust;\t()
C-E3:\tHappy; Neutral state; Sadness;\t()
C-E4:\tBoredom;\t()
"""
IMPROVISED_TRANSCRIPT = """\
Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
Ses01F_impro01_MXX0 [008.3000-008.9000]: [BREATHING]
M: a stray line
Ses01F_impro01_M001 [010.0100-011.3925]: Do you have: your [forms]?
Ses01F_impro01_F002 [014.9200-016.0000]: Yeah.
"""

# Read from the label files of EMO-SUPERB.
EMO_SUPERB_OF_SESSION_1 = {1: "train", 2: "train", 3: "train", 4: "test", 5: "development"}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The official layout: one improvised dialogue of session 1 and one scripted dialogue of session 5."""
    folder = tmp_path / "IEMOCAP_full_release"
    for session, dialogue, evaluation in (
        ("Session1", "Ses01F_impro01", IMPROVISED),
        ("Session5", "Ses05M_script01_1b", SCRIPTED),
    ):
        for name in ("dialog/EmoEvaluation/Categorical", "dialog/transcriptions", f"sentences/wav/{dialogue}"):
            (folder / session / name).mkdir(parents=True)
        (folder / session / f"dialog/EmoEvaluation/{dialogue}.txt").write_text(evaluation)
        (folder / session / f"dialog/EmoEvaluation/._{dialogue}.txt").write_bytes(b"\x00\x05\x16\x07")
        (folder / session / f"dialog/EmoEvaluation/Categorical/{dialogue}_e2_cat.txt").write_text(
            f"{dialogue}_F000 :Neutral state; ()\n"
        )
    for turn in ("F000", "F001", "M001"):
        (folder / f"Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_{turn}.wav").write_bytes(wav(turn))
    (folder / "Session5/sentences/wav/Ses05M_script01_1b/Ses05M_script01_1b_F019.wav").write_bytes(wav("F019"))
    (folder / "Session1/dialog/transcriptions/Ses01F_impro01.txt").write_text(IMPROVISED_TRANSCRIPT)
    for number in (2, 3, 4):
        (folder / f"Session{number}/dialog/EmoEvaluation").mkdir(parents=True)
    return folder


def test_a_turn_carries_all_that_the_release_says(release: Path, tmp_path: Path) -> None:
    preparation = iemocap.prepare(release, tmp_path / "out")
    assert read_manifest(preparation.manifest) == preparation.clips
    clip = preparation.clips[0]
    assert clip == Clip(
        id="Ses01F_impro01_F000",
        votes={"neutral": 2.0, "happy": 1.0},
        audio=str(release / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"),
        speaker="Ses01_F",
        sex="female",
        session="Ses01",
        dialogue="Ses01F_impro01",
        style="improvised",
        transcript="Excuse me.",
        sha256=clip.sha256,
        consensus="neutral",
        valence=2.5,
        arousal=2.5,
        dominance=2.5,
        folds={f"session{fold}": "test" if fold == 1 else "train" for fold in range(1, 6)}
        | {f"emo_superb{fold}": part for fold, part in EMO_SUPERB_OF_SESSION_1.items()},
        ratings=(
            Rating("E2", ("neutral",)),
            Rating("E3", ("neutral",), valence=3.0, arousal=2.0, dominance=2.0),
            Rating("E4", ("happy",), valence=2.0, arousal=3.0, dominance=3.0),
        ),
    )
    assert preparation.clips[1].consensus is None


@pytest.mark.parametrize(
    ("count_each", "votes"),
    [
        (False, {"frustrated": 0.5, "angry": 0.5, "other": 1.0, "excited": 0.5, "surprise": 0.5}),
        (True, {"frustrated": 1.0, "angry": 1.0, "other": 1.0, "excited": 1.0, "surprise": 1.0}),
    ],
)
def test_several_labels_comments_with_semicolons_and_empty_ratings(
    release: Path, tmp_path: Path, count_each: bool, votes: dict[str, float]
) -> None:
    clip = iemocap.prepare(release, tmp_path / "out", count_each=count_each).clips[1]
    assert clip.id == "Ses01F_impro01_M001"
    assert clip.votes == votes
    assert clip.ratings == (
        Rating("E2", ("frustrated", "angry")),
        Rating("E3", ("other",)),
        Rating("E4", ("excited", "surprise")),
    )
    assert clip.transcript == "Do you have: your [forms]?"


def test_both_tools_words_are_known_and_a_foreign_word_is_other_and_said(release: Path, tmp_path: Path) -> None:
    preparation = iemocap.prepare(release, tmp_path / "out")
    third = pytest.approx(1 / 3)
    assert preparation.clips[-1].votes == {"disgust": 1, "happy": third, "neutral": third, "sad": third, "other": 1}
    assert preparation.remarks["the label 'Boredom' counted as other"] == 1


def test_an_evaluator_who_is_listed_twice_is_one_rater(release: Path, tmp_path: Path) -> None:
    file = release / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    file.write_text(
        file.read_text().replace("C-E3:\tNeutral;\t()\n", "C-E3:\tNeutral;\t()\nC-E3:\tNeutral;\t(again)\n", 1)
    )
    preparation = iemocap.prepare(release, tmp_path / "out")
    assert preparation.clips[0].votes == {"neutral": 2.0, "happy": 1.0}
    assert preparation.remarks["ratings by a rater who had rated the clip before, counted as one rating"] == 1


def test_what_is_left_out_is_counted(release: Path, tmp_path: Path) -> None:
    preparation = iemocap.prepare(release, tmp_path / "out")
    assert [clip.id for clip in preparation.clips] == [
        "Ses01F_impro01_F000",
        "Ses01F_impro01_M001",
        "Ses05M_script01_1b_F019",
    ]
    # F001 has its actor's word only, F002 has no audio, MXX0 has neither votes nor audio.
    assert preparation.skipped == {"no votes": 1, "no audio file": 1}
    assert preparation.remarks["turns that are transcribed, but have neither audio nor votes"] == 1


def test_turns_without_audio_may_be_kept(release: Path, tmp_path: Path) -> None:
    preparation = iemocap.prepare(release, tmp_path / "out", allow_missing_audio=True)
    assert [clip.id for clip in preparation.clips if clip.audio is None] == ["Ses01F_impro01_F002"]


@pytest.mark.parametrize(
    ("name", "session", "dialogue", "style", "speaker", "sex"),
    [
        ("Ses01F_impro05a_M003", "Ses01", "Ses01F_impro05a", "improvised", "Ses01_M", "male"),
        ("Ses04M_impro08b_F012", "Ses04", "Ses04M_impro08b", "improvised", "Ses04_F", "female"),
        ("Ses02F_script03_2_F000", "Ses02", "Ses02F_script03_2", "scripted", "Ses02_F", "female"),
        ("Ses05M_script01_1b_M041", "Ses05", "Ses05M_script01_1b", "scripted", "Ses05_M", "male"),
    ],
)
def test_the_last_letter_of_a_name_is_the_speaker(
    name: str, session: str, dialogue: str, style: str, speaker: str, sex: str
) -> None:
    described = iemocap.describe(name)
    described.pop("folds")
    assert described == {
        "session": session,
        "dialogue": dialogue,
        "style": style,
        "speaker": speaker,
        "sex": sex,
    }


def test_a_session_that_is_missing_is_said(release: Path, tmp_path: Path) -> None:
    (release / "Session5").rename(release / "elsewhere")
    assert iemocap.prepare(release, tmp_path / "out").remarks["Session5/ is missing"] == 1


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("IEMOCAP_full_release/Session1", "holds no Session1/: --source must be the folder of a whole release"),
        ("nowhere", "nowhere is no folder"),
    ],
)
def test_another_folder_is_refused(release: Path, tmp_path: Path, folder: str, message: str) -> None:
    with pytest.raises(AmbiError, match=message):
        iemocap.prepare(tmp_path / folder, tmp_path / "out")


def test_a_turn_with_another_name_is_refused(release: Path, tmp_path: Path) -> None:
    file = release / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    file.write_text(file.read_text().replace("Ses01F_impro01_F000", "Ses06F_impro01_F000"))
    with pytest.raises(AmbiError, match="'Ses06F_impro01_F000' is no name of an IEMOCAP turn"):
        iemocap.prepare(release, tmp_path / "out")

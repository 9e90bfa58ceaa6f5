from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import pytest
from support.audio import wav

from ambi_eval.corpora.manifest import Clip, Rating, read_manifest
from ambi_eval.corpora.preparation import Preparation, summarize
from ambi_eval.corpora.recipes import crema_d
from ambi_eval.errors import AmbiError

VOTES = """\
"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote","meanEmoResp"
"100003",0,0,0,4,7,0,"1001_IEO_HAP_MD",11,0.636363636363636,"N",63.6363636363636
"106000",1,0,1,0,2,6,"1076_MTI_SAD_XX",10,0.6,"S",50.1
"103305",0,2,2,0,4,0,"1040_ITH_SAD_XX",8,0.5,"N",-1
"200003",0,1,0,9,0,0,"1001_IEO_HAP_MD",10,0.9,"H",62.62
"300003",3,0,0,3,0,0,"1001_IEO_HAP_MD",6,0.5,"A:H",56.56
"""
ACTORS = """\
"ActorID","Age","Sex","Race","Ethnicity"
1001,51,"Male","Caucasian","Not Hispanic"
1040,42,"Female","Caucasian","Not Hispanic"
1076,25,"Female","African American","Not Hispanic"
"""
NO_VOTES = dict.fromkeys(crema_d.LABELS, 0.0)

# Read from the label files of EMO-SUPERB.
EMO_SUPERB_OF_ACTOR_1001 = {1: "test", 2: "train", 3: "train", 4: "train", 5: "development"}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Three clips: one as it should be, one whose file is misnamed, one without a signal."""
    folder = tmp_path / "CREMA-D"
    (folder / "processedResults").mkdir(parents=True)
    (folder / "processedResults" / "tabulatedVotes.csv").write_text(VOTES)
    (folder / "VideoDemographics.csv").write_text(ACTORS)
    (folder / "AudioWAV").mkdir()
    for name in ("1001_IEO_HAP_MD", "1040_ITH_SAD_X", "1076_MTI_SAD_XX"):
        (folder / "AudioWAV" / f"{name}.wav").write_bytes(wav(name))
    return folder


def test_a_clip_carries_all_that_the_release_says(release: Path, tmp_path: Path) -> None:
    preparation = crema_d.prepare(release, tmp_path / "out")
    assert read_manifest(tmp_path / "out" / "manifest.parquet") == preparation.clips
    assert preparation.clips[0] == Clip(
        id="1001_IEO_HAP_MD",
        votes=NO_VOTES | {"happy": 4.0, "neutral": 7.0},
        audio=str(release / "AudioWAV" / "1001_IEO_HAP_MD.wav"),
        speaker="1001",
        sex="male",
        age=51.0,
        sentence="IEO",
        transcript="It's eleven o'clock.",
        acted="happy",
        consensus="neutral",
        folds={f"emo_superb{fold}": part for fold, part in EMO_SUPERB_OF_ACTOR_1001.items()},
        sha256=hashlib.sha256(wav("1001_IEO_HAP_MD")).hexdigest(),
    )


def test_the_old_misnamed_file_is_found(release: Path, tmp_path: Path) -> None:
    clip = crema_d.prepare(release, tmp_path / "out").clips[1]
    assert clip.id == "1040_ITH_SAD_XX"
    assert clip.audio == str(release / "AudioWAV" / "1040_ITH_SAD_X.wav")


def test_the_silent_clip_is_left_out_where_it_would_be_heard(release: Path, tmp_path: Path) -> None:
    heard = crema_d.prepare(release, tmp_path / "heard")
    assert [clip.id for clip in heard.clips] == ["1001_IEO_HAP_MD", "1040_ITH_SAD_XX"]
    assert heard.skipped == {"the recording is silent": 1}

    counted = crema_d.prepare(release, tmp_path / "counted", allow_missing_audio=True)
    assert [clip.id for clip in counted.clips if clip.audio is None] == ["1076_MTI_SAD_XX"]
    assert counted.remarks == {"kept without audio (the recording is silent)": 1}
    assert not counted.skipped


class TestSingleRatings:
    """`finishedResponses.csv` names each rater; the published table leaves out those whose first click came late."""

    HEADER = (
        '"","localid","pos","ans","ttr","queryType","numTries","questNum","subType","clipNum","sessionNums",'
        '"clipName","respEmo","respLevel","dispEmo","dispVal","dispLevel"\n'
    )

    @staticmethod
    def answers(name: str, modality: int, labels: str, first: int = 0) -> list[list[object]]:
        """One row a rater: question, modality, session, clip, emotion, level."""
        return [[first + n, modality, 7, name, label, 10 * n] for n, label in enumerate(labels)]

    @pytest.fixture
    def rated(self, release: Path) -> Path:
        voice = "1001_IEO_HAP_MD"
        rows = [
            *self.answers(voice, 1, "HHHHNNNNNNN"),
            *self.answers("1040_ITH_SAD_XX", 1, "DDFFNNNN", first=20),
            *self.answers(voice, 1, "SS", first=40),  # these two came late
            *self.answers("1076_MTI_SAD_XX", 1, "AFNNSSSSSS", first=80),
            *self.answers(voice, 2, "DHHHHHHHHH", first=60),
        ]
        lines = [
            f'"{n}","rater{q}",1,1,500,{modality},1,{q},1,3,{session},"{clip}","{emotion}",{level},"H","X",50\n'
            for n, (q, modality, session, clip, emotion, level) in enumerate(rows)
        ]
        (release / "finishedResponses.csv").write_text(self.HEADER + "".join(lines))
        clicks = ["X,localid,sessionNums,queryType,questNum,pos,ttr,numTries,clipNum,clipName"]
        for number, (q, modality, session, clip, *_) in enumerate(rows):
            ttr = 10_001 if q in (40, 41) else "NA" if q == 0 else 10_000
            clicks.append(f"{number},rater{q},{session},{modality},{q},1,{ttr},1,3,{clip}")
        (release / "finishedEmoResponses.csv").write_text("\n".join(clicks) + "\n")
        return release

    def test_they_are_filtered_as_published_and_add_up_to_the_table(self, rated: Path, tmp_path: Path) -> None:
        preparation = crema_d.prepare(rated, tmp_path / "out")
        first, second = preparation.clips
        assert first.votes == NO_VOTES | {"happy": 4.0, "neutral": 7.0}
        assert first.ratings[:2] == (
            Rating("rater0", ("happy",), intensity=0.0),
            Rating("rater1", ("happy",), intensity=10.0),
        )
        assert (len(first.ratings), len(second.ratings)) == (11, 8)
        assert preparation.remarks == {"clips whose single ratings add up to the votes of tabulatedVotes.csv": 2}
        assert read_manifest(preparation.manifest) == preparation.clips

    def test_each_modality_has_its_own(self, rated: Path, tmp_path: Path) -> None:
        [clip] = crema_d.prepare(rated, tmp_path / "out", modality="face").clips
        assert [rating.labels[0] for rating in clip.ratings] == ["disgust", *["happy"] * 9]

    def test_a_clip_whose_ratings_do_not_add_up_keeps_the_published_votes(self, rated: Path, tmp_path: Path) -> None:
        table = rated / "processedResults" / "tabulatedVotes.csv"
        table.write_text(table.read_text().replace("0,2,2,0,4,0,", "0,2,2,0,3,1,"))
        preparation = crema_d.prepare(rated, tmp_path / "out")
        assert preparation.clips[1].votes == NO_VOTES | {"disgust": 2.0, "fear": 2.0, "neutral": 3.0, "sad": 1.0}
        assert preparation.clips[1].ratings == ()
        assert preparation.remarks == {
            "single ratings that do not add up to tabulatedVotes.csv, whose votes count: 1040_ITH_SAD_XX": 1,
            "clips whose single ratings add up to the votes of tabulatedVotes.csv": 1,
        }

    def test_a_rater_of_two_ratings_is_one_rater(self, rated: Path, tmp_path: Path) -> None:
        responses = rated / "finishedResponses.csv"
        responses.write_text(responses.read_text().replace('"rater1"', '"rater0"'))
        preparation = crema_d.prepare(rated, tmp_path / "out")
        assert preparation.clips[0].votes == NO_VOTES | {"happy": 3.0, "neutral": 7.0}
        assert preparation.clips[0].ratings[0] == Rating("rater0", ("happy",), intensity=5.0)

    def test_an_emotion_that_is_none_is_refused(self, rated: Path, tmp_path: Path) -> None:
        responses = rated / "finishedResponses.csv"
        responses.write_text(responses.read_text().replace('"N",50', '"Q",50'))
        with pytest.raises(AmbiError, match=r"finishedResponses\.csv: 'Q' is no emotion of the corpus"):
            crema_d.prepare(rated, tmp_path / "out")


@pytest.mark.parametrize(
    ("modality", "votes"),
    [("voice", {"happy": 4, "neutral": 7}), ("face", {"disgust": 1, "happy": 9}), ("av", {"angry": 3, "happy": 3})],
)
def test_the_modality_chooses_the_raters(
    release: Path, tmp_path: Path, modality: crema_d.Modality, votes: dict[str, float]
) -> None:
    preparation = crema_d.prepare(release, tmp_path / "out", modality=modality)
    assert preparation.clips[0].votes == NO_VOTES | votes


class TestClipsWhoseAudioWasNotWhatWasRated:
    """Of three clips the WAV, which a model hears, is another recording than the MP3, which the raters heard."""

    NAME = "1064_TIE_SAD_XX"

    @pytest.fixture
    def with_one(self, release: Path) -> Path:
        votes, actors = release / "processedResults" / "tabulatedVotes.csv", release / "VideoDemographics.csv"
        rows = (f'"{digit}00009",1,0,0,0,9,0,"{self.NAME}",10,0.9,"N",50\n' for digit in (1, 2, 3))
        votes.write_text(VOTES + "".join(rows))
        actors.write_text(ACTORS + '1064,22,"Male","African American","Not Hispanic"\n')
        (release / "AudioWAV" / f"{self.NAME}.wav").write_bytes(wav(self.NAME))
        return release

    def test_they_are_named(self, with_one: Path, tmp_path: Path) -> None:
        preparation = crema_d.prepare(with_one, tmp_path / "out")
        assert self.NAME in [clip.id for clip in preparation.clips]
        assert preparation.remarks == {
            f"the WAV differs from the MP3 that the raters heard: {self.NAME}; --leave-out-differing leaves them out": 1
        }

    def test_they_are_left_out_where_that_is_asked_for(self, with_one: Path, tmp_path: Path) -> None:
        preparation = crema_d.prepare(with_one, tmp_path / "out", leave_out_differing=True)
        assert self.NAME not in [clip.id for clip in preparation.clips]
        assert preparation.skipped["the WAV differs from the MP3 that the raters heard"] == 1
        assert not preparation.remarks

    def test_nothing_is_said_where_the_voice_was_not_heard(self, with_one: Path, tmp_path: Path) -> None:
        faces = crema_d.prepare(with_one, tmp_path / "face", modality="face", leave_out_differing=True)
        assert self.NAME in [clip.id for clip in faces.clips]
        (with_one / "AudioWAV" / f"{self.NAME}.wav").unlink()
        unheard = crema_d.prepare(with_one, tmp_path / "unheard", leave_out_differing=True, allow_missing_audio=True)
        assert self.NAME in [clip.id for clip in unheard.clips]
        assert not any("differs" in remark for remark in faces.remarks | unheard.remarks)


def test_a_checkout_without_git_lfs_is_told_apart_from_missing_audio(release: Path, tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:c6f94b\nsize 72862\n"
    (release / "AudioWAV" / "1001_IEO_HAP_MD.wav").write_text(pointer)
    (release / "AudioWAV" / "1040_ITH_SAD_X.wav").unlink()
    with pytest.raises(AmbiError, match=r"\(1 only a Git LFS pointer: run `git lfs pull` .*, 1 no audio file"):
        crema_d.prepare(release, tmp_path / "out")


def test_votes_alone_need_no_audio_folder(release: Path, tmp_path: Path) -> None:
    (release / "AudioWAV").rename(release / "AudioMP3")
    assert len(crema_d.prepare(release, tmp_path / "out", allow_missing_audio=True).clips) == 3
    with pytest.raises(AmbiError, match="holds no AudioWAV/"):
        crema_d.prepare(release, tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("VideoDemographics.csv", "1001,51", "1002,51", "VideoDemographics.csv lacks actor 1001"),
        ("processedResults/tabulatedVotes.csv", '"fileName"', '"filename"', "no column 'fileName', did you mean"),
        ("processedResults/tabulatedVotes.csv", "1001_IEO", "1001_IXX", "'1001_IXX_HAP_MD' is no name of a CREMA-D"),
    ],
)
def test_a_table_that_is_not_the_official_one_is_named(
    release: Path, tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    table = release / file
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(AmbiError, match=message):
        crema_d.prepare(release, tmp_path / "out")


def test_preparing_twice_gives_the_same_bytes(release: Path, tmp_path: Path) -> None:
    first = crema_d.prepare(release, tmp_path / "out").manifest.read_bytes()
    assert crema_d.prepare(release, tmp_path / "out").manifest.read_bytes() == first


class TestOfficialTables:
    """The figures that the tables of the whole corpus are known to give."""

    @pytest.mark.parametrize(
        ("modality", "votes", "fewest", "most", "ambiguity_bits", "unanimous", "tied", "acted_among_modes"),
        [
            ("voice", 68_568, 4, 12, 1.196, 383, 644, 3_563),
            ("face", 71_654, 6, 12, 1.009, 1_008, 470, 5_285),
            ("av", 71_778, 5, 12, 0.924, 1_119, 420, 5_706),
        ],
    )
    def test_votes_raters_and_ambiguity(
        self,
        crema_d_release: Path,
        tmp_path: Path,
        modality: crema_d.Modality,
        votes: int,
        fewest: int,
        most: int,
        ambiguity_bits: float,
        unanimous: int,
        tied: int,
        acted_among_modes: int,
    ) -> None:
        preparation = crema_d.prepare(crema_d_release, tmp_path, modality=modality, allow_missing_audio=True)
        summary = summarize(preparation.clips)
        assert (summary.clips, summary.votes, summary.unanimous, summary.tied) == (7_442, votes, unanimous, tied)
        assert summary.raters == pytest.approx((fewest, votes / 7_442, most))
        assert summary.ambiguity_bits == pytest.approx(ambiguity_bits, abs=5e-4)
        modes = [clip.votes[str(clip.acted)] == max(clip.votes.values()) for clip in preparation.clips]
        assert sum(modes) == acted_among_modes
        assert len({clip.speaker for clip in preparation.clips}) == 91

    @pytest.fixture
    def heard(self, crema_d_release: Path, tmp_path: Path) -> Preparation:
        return crema_d.prepare(crema_d_release, tmp_path)

    def test_the_audio_is_bit_exact(self, heard: Preparation, crema_d_release: Path) -> None:
        with (crema_d_release / "official_sha256.csv").open(newline="") as file:
            official = {row["file"]: row["sha256"] for row in csv.DictReader(file)}
        assert {clip.id: clip.sha256 for clip in heard.clips} == {
            clip.id: official[f"{clip.id}.wav"] for clip in heard.clips
        }

    def test_clips_without_audio_are_counted(self, heard: Preparation, crema_d_release: Path) -> None:
        n_files = len(list((crema_d_release / "AudioWAV").glob("*.wav")))
        assert len(heard.clips) == n_files
        assert heard.skipped == {"no audio file": 7_441 - n_files, "the recording is silent": 1}


@pytest.mark.parametrize(
    ("actor", "test", "development"), [("1018", 1, 5), ("1019", 2, 1), ("1072", 4, 3), ("1073", 5, 4), ("1091", 5, 4)]
)
def test_the_folds_of_emo_superb_are_blocks_of_actors(actor: str, test: int, development: int) -> None:
    """Block by block as in its label files; the last block has one actor more."""
    folds = crema_d.describe(f"{actor}_DFA_ANG_XX")["folds"]
    assert folds[f"emo_superb{test}"] == "test"
    assert folds[f"emo_superb{development}"] == "development"
    assert sorted(folds.values()) == ["development", "test", "train", "train", "train"]

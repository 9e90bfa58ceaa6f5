from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.audio import wav

from ambi_eval.corpora.manifest import Clip, Rating, read_manifest
from ambi_eval.corpora.recipes import msp_podcast
from ambi_eval.errors import AmbiError

# File, worker, primary emotion, secondary emotions: as the raters typed them.
RATINGS = [
    ("MSP-PODCAST_0001_0008.wav", "WORKER00000020", "Neutral", "Neutral,Concerned"),
    ("MSP-PODCAST_0001_0008.wav", "WORKER00000021", "Neutral", ""),
    ("MSP-PODCAST_0001_0008.wav", "WORKER00000022", "Other-Curious", "Happy,Dissapointed"),
    ("MSP-PODCAST_0001_0008.wav", "WORKER00000023", "Surprise", "Amused,Other-No idea"),
    ("MSP-PODCAST_0001_0008.wav", "WORKER00000024", "Happy", "Excited,Happy,Amused"),
    ("MSP-PODCAST_1023_0235_0001.wav", "WORKER00000020", "Angry", "Frustrated"),
    ("MSP-PODCAST_1023_0235_0001.wav", "WORKER00000025", "Contempt", "Annoyed,Disgust"),
    ("MSP-PODCAST_2000_0001.wav", "WORKER00000020", "Sad", "Depressed"),
]
CONSENSUS = [
    ("MSP-PODCAST_0001_0008.wav", "N", "2.2", "4.0", "2.6", "30", "Male", "Test1"),
    ("MSP-PODCAST_1023_0235_0001.wav", "X", "2.2", "4.0", "2.6", "Unknown", "Unknown", "Validation"),
    ("MSP-PODCAST_2000_0001.wav", "S", "2.2", "4.0", "2.6", "31", "Female", "Train"),
]
CONSENSUS_COLUMNS = ("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set")


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    return text.getvalue()


def consensus_csv() -> str:
    return table(CONSENSUS_COLUMNS, CONSENSUS)


def consensus_json() -> str:
    return json.dumps({row[0]: dict(zip(CONSENSUS_COLUMNS[1:], row[1:], strict=True)) for row in CONSENSUS})


def detailed_1_6() -> str:
    columns = ("FileName", "Workers", "EmoClass_Major", "EmoClass_Second", "EmoAct", "EmoVal", "EmoDom")
    return table(columns, [(*rating, "4", "4", "4") for rating in RATINGS])


def detailed_1_11() -> str:
    rows = []
    for file, worker, primary, secondary in RATINGS:
        field = f" {secondary};" if secondary else ""  # some raters' field is missing, some others' is empty
        rows.append((file, f"{worker}; {primary};{field} A:4.000000; V:4.000000; D:4.000000;"))
    return table(("FileName", "EmoDetail"), rows)


def detailed_2_0() -> str:
    columns = ("FileName", "WorkerID", "EmoClass_Major", "EmoClass_Second", "EmoAct", "EmoVal", "EmoDom")
    return table(columns, [(*rating, "4", "4", "4") for rating in RATINGS])


def detailed_json() -> str:
    files: dict[str, dict[str, dict[str, str]]] = {}
    for file, worker, primary, secondary in RATINGS:
        files.setdefault(file, {})[worker] = {"EmoClass_Major": primary, "EmoClass_Second": secondary, "EmoAct": "4"}
    return json.dumps(files)


# Folder and file names, and the shape of the tables, as the releases have them.
RELEASES: dict[str, tuple[str, str, dict[str, Callable[[], str]]]] = {
    "1.6": ("label", "Audio", {"labels_concensus.csv": consensus_csv, "labels_detailed.csv": detailed_1_6}),
    "1.6 json": ("label", "Audio", {"labels_concensus.json": consensus_json, "labels_detailed.json": detailed_json}),
    "1.9": ("labels", "Audios", {"labels_concensus.csv": consensus_csv, "labels_detailed.csv": detailed_1_11}),
    "1.11": ("Labels", "Audios", {"labels_consensus.csv": consensus_csv, "labels_detailed.csv": detailed_1_11}),
    "1.11 json": ("Labels", "Audios", {"labels_consensus.json": consensus_json, "labels_detailed.json": detailed_json}),
    "2.0": ("Labels", "Audios", {"labels_consensus.csv": consensus_csv, "labels_detailed.csv": detailed_2_0}),
}


def unpack(folder: Path, release: str) -> Path:
    labels, audio, files = RELEASES[release]
    for name in (labels, audio, "Transcripts"):
        (folder / name).mkdir(parents=True)
    for name, content in files.items():
        (folder / labels / name).write_text(content(), encoding="utf-8")
    for name in ("MSP-PODCAST_0001_0008", "MSP-PODCAST_1023_0235_0001", "MSP-PODCAST_test3_0001"):
        (folder / audio / f"{name}.wav").write_bytes(wav(name))
    (folder / "Transcripts" / "MSP-PODCAST_0001_0008.txt").write_text("où ça ?\n", encoding="utf-8")
    (folder / "Partitions.txt").write_text(
        "Test1; MSP-PODCAST_0001_0008.wav\nTrain; MSP-PODCAST_2000_0001.wav\nTest3; MSP-PODCAST_test3_0001.wav\n"
    )
    return folder


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return unpack(tmp_path / "MSP-PODCAST-Publish-1.11", "1.11")


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_gives_the_same_clips(tmp_path: Path, release: str) -> None:
    source = unpack(tmp_path / "release", release)
    preparation = msp_podcast.prepare(source, tmp_path / "out", release=release)
    audio = source / RELEASES[release][1]
    attributes = (4.0, None, None) if "json" in release else (4.0, 4.0, 4.0)
    first, second = preparation.clips
    assert read_manifest(preparation.manifest) == [first, second]
    assert first == Clip(
        id="MSP-PODCAST_0001_0008",
        votes={"neutral": 2.0, "other": 1.0, "surprise": 1.0, "happy": 1.0},
        audio=str(audio / "MSP-PODCAST_0001_0008.wav"),
        speaker="30",
        sex="male",
        dialogue="MSP-PODCAST_0001",
        transcript="où ça ?",
        split="test1",
        release=release,
        consensus="neutral",
        arousal=2.2,
        valence=4.0,
        dominance=2.6,
        sha256=first.sha256,
        ratings=(
            Rating("WORKER00000020", ("neutral",), *attributes),
            Rating("WORKER00000021", ("neutral",), *attributes),
            Rating("WORKER00000022", ("other",), *attributes),
            Rating("WORKER00000023", ("surprise",), *attributes),
            Rating("WORKER00000024", ("happy",), *attributes),
        ),
    )
    assert second == Clip(
        id="MSP-PODCAST_1023_0235_0001",
        votes={"angry": 1.0, "contempt": 1.0},
        audio=str(audio / "MSP-PODCAST_1023_0235_0001.wav"),
        dialogue="MSP-PODCAST_1023",
        split="development",
        release=release,
        arousal=2.2,
        valence=4.0,
        dominance=2.6,
        sha256=second.sha256,
        ratings=(
            Rating("WORKER00000020", ("angry",), *attributes),
            Rating("WORKER00000025", ("contempt",), *attributes),
        ),
    )


def test_what_is_left_out_is_counted(release: Path, tmp_path: Path) -> None:
    preparation = msp_podcast.prepare(release, tmp_path / "out")
    assert preparation.skipped == {"no audio file": 1, "no published votes (test3)": 1}
    assert not preparation.remarks


@pytest.mark.parametrize(("partitions", "split"), [("Partition.txt", "test3"), (None, "no split")])
def test_unrated_audio_is_counted_whatever_the_partition_is_called(
    release: Path, tmp_path: Path, partitions: str | None, split: str
) -> None:
    if partitions:
        (release / "Partitions.txt").rename(release / partitions)
    else:
        (release / "Partitions.txt").unlink()
    preparation = msp_podcast.prepare(release, tmp_path / "out")
    assert preparation.skipped == {"no audio file": 1, f"no published votes ({split})": 1}


def test_clips_without_audio_may_be_kept(release: Path, tmp_path: Path) -> None:
    for file in (release / "Audios").iterdir():
        file.unlink()
    (release / "Audios").rmdir()
    preparation = msp_podcast.prepare(release, tmp_path / "out", allow_missing_audio=True)
    assert [clip.audio for clip in preparation.clips] == [None] * 3
    with pytest.raises(AmbiError, match="holds no Audios/"):
        msp_podcast.prepare(release, tmp_path / "out")


@pytest.mark.parametrize("release", RELEASES)
def test_secondary_labels_are_all_that_a_rater_named(tmp_path: Path, release: str) -> None:
    source = unpack(tmp_path / "release", release)
    clip = msp_podcast.prepare(source, tmp_path / "out", labels="secondary").clips[0]
    assert [rating.labels for rating in clip.ratings] == [
        ("neutral", "concerned"),
        ("neutral",),
        ("other", "happy", "disappointed"),
        ("surprise", "amused", "other"),
        ("happy", "excited", "amused"),
    ]
    assert sum(clip.votes.values()) == pytest.approx(5)
    assert clip.votes["neutral"] == pytest.approx(1.5)
    assert clip.votes["amused"] == pytest.approx(2 / 3)


def test_secondary_labels_may_count_as_a_vote_each(release: Path, tmp_path: Path) -> None:
    clip = msp_podcast.prepare(release, tmp_path / "out", labels="secondary", count_each=True).clips[0]
    assert sum(clip.votes.values()) == 12
    assert (clip.votes["neutral"], clip.votes["happy"], clip.votes["other"]) == (2, 2, 2)


@pytest.mark.parametrize(
    ("detail", "votes", "remarks"),
    [
        ("WORKER1; Fear; ; A:1; V:1; D:1;", {"fear": 1}, {}),
        ("WORKER1; Fear; Sad; A:NaN; V:1; D:1;", {"fear": 1}, {}),
        ("WORKER1; Other-it's: A:mused; no; Happy,Sad; A:1; V:1; D:1;", {"other": 1}, {}),
        ("WORKER1; Other-a;b; A:1; V:1; D:1;", {"other": 1}, {}),
        ("WORKER1; Other (angry, sad); Sad; A:1; V:1; D:1;", {"other": 1}, {}),
        ("WORKER1; Bored; Sad; A:1; V:1; D:1;", {"other": 1}, {"emotions that are on no list, counted as other": 1}),
        ("WORKER1; ; Sad; A:1; V:1; D:1;", {}, {"ratings without an emotion, not counted": 1}),
        ("nobody", {}, {"ratings that could not be read": 1}),
        ("", {}, {"ratings that could not be read": 1}),
    ],
)
def test_the_details_of_a_rating_are_taken_apart(
    release: Path, tmp_path: Path, detail: str, votes: dict[str, float], remarks: dict[str, int]
) -> None:
    rows = [("MSP-PODCAST_0001_0008.wav", detail), ("MSP-PODCAST_0001_0008.wav", "WORKER2; Sad; Sad; A:1; V:1; D:1;")]
    (release / "Labels" / "labels_detailed.csv").write_text(table(("FileName", "EmoDetail"), rows))
    preparation = msp_podcast.prepare(release, tmp_path / "out")
    assert preparation.clips[0].votes == votes | {"sad": 1}
    assert preparation.remarks == remarks


@pytest.mark.parametrize(
    ("detail", "labels"),
    [
        ("Other-bored; or not; Sad,Annoyed", ("other", "sad", "annoyed")),
        ("Other-bored; or not; ", ("other",)),
        ("Other-bored; or not", ("other",)),
        ("Other-bored", ("other",)),
        ("Other-x;y; Other-a,Dissapointed", ("other", "disappointed")),
        ("Sad; Other-a; b,Annoyed", ("sad", "other", "annoyed")),
    ],
)
def test_a_semicolon_in_the_raters_own_words_splits_nothing(
    release: Path, tmp_path: Path, detail: str, labels: tuple[str, ...]
) -> None:
    rows = [("MSP-PODCAST_0001_0008.wav", f"WORKER1; {detail}; A:1; V:2; D:NaN;")]
    (release / "Labels" / "labels_detailed.csv").write_text(table(("FileName", "EmoDetail"), rows))
    preparation = msp_podcast.prepare(release, tmp_path / "out", labels="secondary")
    assert preparation.clips[0].ratings == (Rating("WORKER1", labels, 1.0, 2.0, None),)
    assert not preparation.remarks


def test_a_worker_who_is_listed_twice_is_one_rater(release: Path, tmp_path: Path) -> None:
    rows = [
        ("MSP-PODCAST_0001_0008.wav", f"WORKER1; {word}; ; A:{a}; V:1; D:1;") for word, a in (("Sad", 1), ("Fear", 4))
    ]
    rows.append(("MSP-PODCAST_0001_0008.wav", "WORKER2; Sad; ; A:1; V:1; D:1;"))
    (release / "Labels" / "labels_detailed.csv").write_text(table(("FileName", "EmoDetail"), rows))
    preparation = msp_podcast.prepare(release, tmp_path / "out")
    assert preparation.clips[0].votes == {"sad": 1.5, "fear": 0.5}
    assert preparation.clips[0].ratings[0] == Rating("WORKER1", ("sad", "fear"), 2.5, 1.0, 1.0)
    assert list(preparation.remarks.values()) == [1]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("labels_detailed.csv", "FileName,Rater,Emotion\na.wav,1,Sad\n", "has the columns FileName, Rater, Emotion; a"),
        ("labels_detailed.csv", "File,EmoDetail\na.wav,b\n", "no column 'FileName'"),
        ("labels_detailed.csv", None, "holds none of labels_detailed.csv, labels_detailed.json: the release"),
        ("labels_consensus.json", "{", "labels_consensus.json is no JSON object in UTF-8"),
        ("labels_consensus.csv", None, "holds none of labels_consensus.csv, labels_concensus.csv"),
        ("labels_consensus.csv", "FileName,Spkr_ID,Gender,Split_Set\n", "no column 'SpkrID', did you mean 'Spkr_ID'"),
    ],
)
def test_a_table_that_no_release_has_is_refused(
    release: Path, tmp_path: Path, file: str, content: str | None, message: str
) -> None:
    for table_file in (release / "Labels").glob(f"{Path(file).stem}.*"):
        table_file.unlink()
    if content is not None:
        (release / "Labels" / file).write_text(content)
    with pytest.raises(AmbiError, match=message):
        msp_podcast.prepare(release, tmp_path / "out")


def test_a_rater_has_one_primary_emotion(release: Path, tmp_path: Path) -> None:
    with pytest.raises(AmbiError, match="--count-each goes with --labels secondary only"):
        msp_podcast.prepare(release, tmp_path / "out", count_each=True)


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AmbiError, match="holds no Labels/: --source must be the folder of a whole release"):
        msp_podcast.prepare(tmp_path, tmp_path / "out")

from __future__ import annotations

import json
import resource
import string
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from unicodedata import normalize

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambi_eval.corpora.manifest import COLUMNS, Clip, Rating, read_manifest, write_manifest
from ambi_eval.errors import AmbiError
from ambi_eval.paths import data_dir, manifest_path

FULL = Clip(
    id="b",
    votes={"happy": 2.0, "sad": 0.5},
    audio="/audio/b.wav",
    start=0.5,
    end=2.25,
    speaker="s1",
    sex="female",
    dialogue="d1",
    session="e1",
    style="scripted",
    sentence="IEO",
    transcript="“Ünicode”,\u2028 and two lines\nof it",
    split="test1",
    acted="happy",
    sha256="0" * 64,
    release="1.11",
    age=31.0,
    consensus="happy",
    arousal=4.5,
    valence=2.0,
    dominance=3.25,
    folds={"speakers": "train", "studios": "test"},
    ratings=(
        Rating("r1", ("happy", "sad")),
        Rating("r2", (), arousal=5.0, valence=1.0, dominance=3.0, intensity=62.5),
        Rating("r3", ("happy",), valence=2.0),
    ),
)
BARE = Clip(id="a", votes={"angry": 1.0})

names = st.text(string.ascii_letters + "äöü_- ", min_size=1, max_size=8).filter(str.strip)
counts = st.floats(0.01, 50, allow_nan=False)
clips = st.builds(
    Clip,
    id=names,
    votes=st.dictionaries(names, counts, min_size=1, max_size=4),
    speaker=st.none() | names,
    transcript=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(str.strip),
    age=st.none() | counts,
    ratings=st.lists(st.builds(Rating, names, st.lists(names, max_size=3).map(tuple)), max_size=3).map(tuple),
)


def jsonl(folder: Path, *rows: object) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_the_columns_are_the_attributes_of_a_clip() -> None:
    assert tuple(field.name for field in fields(Clip)) == COLUMNS


@pytest.mark.parametrize("written", [[FULL], [BARE], [BARE, FULL]])
def test_what_is_written_is_read_again(tmp_path: Path, written: list[Clip]) -> None:
    write_manifest(tmp_path / "m.parquet", written)
    assert read_manifest(tmp_path / "m.parquet") == written


@settings(max_examples=30)
@given(st.lists(clips, min_size=1, max_size=5, unique_by=lambda clip: clip.id))
def test_any_clips_come_back_sorted_by_id(tmp_path_factory: pytest.TempPathFactory, written: list[Clip]) -> None:
    path = tmp_path_factory.mktemp("any") / "m.parquet"
    write_manifest(path, written)
    assert read_manifest(path) == sorted(written, key=lambda clip: clip.id)


def test_the_same_clips_in_another_order_give_the_same_bytes(tmp_path: Path) -> None:
    write_manifest(tmp_path / "one.parquet", [FULL, BARE])
    write_manifest(tmp_path / "two.parquet", iter([BARE, FULL]))
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_votes_are_a_struct_in_which_an_unmentioned_label_is_null(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.parquet", [FULL, BARE])
    votes = pq.read_table(tmp_path / "m.parquet")["votes"].to_pylist()
    assert votes == [{"angry": 1.0, "happy": None, "sad": None}, {"angry": None, "happy": 2.0, "sad": 0.5}]


def test_clips_that_fail_to_arrive_leave_the_old_manifest_alone(tmp_path: Path) -> None:
    def broken() -> Iterator[Clip]:
        yield FULL
        raise RuntimeError("the disk is gone")

    write_manifest(tmp_path / "m.parquet", [BARE])
    with pytest.raises(RuntimeError, match="the disk is gone"):
        write_manifest(tmp_path / "m.parquet", broken())
    assert read_manifest(tmp_path / "m.parquet") == [BARE]


def test_a_write_that_ends_in_the_middle_leaves_the_old_manifest_and_nothing_else(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.parquet", [BARE])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))  # as on a full disk: writing stops after 2,000 bytes
    try:
        with pytest.raises(AmbiError, match=r"cannot write .*m\.parquet \(.*\): choose another folder with --out"):
            write_manifest(tmp_path / "m.parquet", [Clip(id=f"{i:05d}", votes={"sad": i + 1}) for i in range(5_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["m.parquet"]
    assert read_manifest(tmp_path / "m.parquet") == [BARE]


def test_a_folder_that_cannot_be_made_is_named_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AmbiError, match=r"cannot write .*file/corpus/m\.parquet .*AMBI_DATA"):
        write_manifest(tmp_path / "file" / "corpus" / "m.parquet", [BARE])


def test_a_manifest_by_hand_needs_an_id_and_votes_only(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path,
        {"id": "x", "votes": {"calm": 3, "tense": 1}, "audio": "wav/x.wav"},
        "",
        {"id": "y", "votes": {"calm": 0, "tense": 2.5}, "audio": "/elsewhere/y.wav", "end": 2},
    )
    assert read_manifest(path) == [
        Clip(id="x", votes={"calm": 3, "tense": 1}, audio=str(tmp_path / "wav/x.wav")),
        Clip(id="y", votes={"calm": 0, "tense": 2.5}, audio="/elsewhere/y.wav", end=2.0),
    ]


def test_ratings_may_be_written_by_hand(tmp_path: Path) -> None:
    ratings = [{"rater": "r1", "labels": ["calm"]}, {"rater": "r2", "labels": [], "arousal": 3}]
    path = jsonl(tmp_path, {"id": "x", "votes": {"calm": 1}, "ratings": ratings}, {"id": "y", "votes": {"calm": 1}})
    assert [clip.ratings for clip in read_manifest(path)] == [
        (Rating("r1", ("calm",)), Rating("r2", (), arousal=3.0)),
        (),
    ]


def test_a_manifest_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    rows = [
        {"id": "x", "votes": {"calm": 1.0}, "ratings": [{"rater": "r1", "labels": ["calm"]}]},
        {"id": "y", "votes": {"calm": 2.0}, "ratings": []},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet") == [
        Clip(id="x", votes={"calm": 1.0}, ratings=(Rating("r1", ("calm",)),)),
        Clip(id="y", votes={"calm": 2.0}),
    ]


def test_relative_audio_counts_from_the_manifests_folder_wherever_it_is_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonl(tmp_path, {"id": "x", "votes": {"calm": 1}, "audio": "x.wav"})
    monkeypatch.chdir(tmp_path)
    assert read_manifest(Path("mine.jsonl"))[0].audio == str(tmp_path / "x.wav")


def test_a_table_that_pandas_wrote_is_read_with_its_missing_values(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "votes": {"calm": 2.0, "tense": None}, "speaker": None, "start": float("nan")},
        {"id": 2, "votes": {"calm": 1.0, "tense": 1.0}, "speaker": "s", "start": 1.5},
    ]
    folder = tmp_path / "release=2.0"  # some readers take such a name for a column
    folder.mkdir()
    pandas.DataFrame(rows).to_parquet(folder / "m.parquet")
    assert read_manifest(folder / "m.parquet") == [
        Clip(id="1", votes={"calm": 2.0}),
        Clip(id="2", votes={"calm": 1.0, "tense": 1.0}, speaker="s", start=1.5),
    ]


@pytest.mark.parametrize("empty", ["NaN", '""', '" "', "null"])
@pytest.mark.parametrize("other", ["NaN", '"anna"', "null"])
def test_an_empty_cell_of_a_table_is_unknown_and_not_a_name(tmp_path: Path, empty: str, other: str) -> None:
    line = '{{"id": "{}", "votes": {{"calm": 1}}, "speaker": {}, "transcript": {}, "audio": {}}}'
    first, second = read_manifest(
        jsonl(tmp_path, line.format("x", empty, empty, empty), line.format("y", other, other, other))
    )
    assert (first.speaker, first.transcript, first.audio) == (None, None, None)
    assert second.speaker == second.transcript == ("anna" if "anna" in other else None)


def test_a_label_is_the_same_however_its_umlauts_are_encoded(tmp_path: Path) -> None:
    rating = {"rater": "r", "labels": [normalize("NFD", "fröhlich")]}
    row = {
        "id": "x",
        "votes": {normalize("NFD", "fröhlich"): 1},
        "ratings": [rating],
        "acted": normalize("NFD", "müde"),
    }
    [clip] = read_manifest(jsonl(tmp_path, row))
    assert (clip.votes, clip.ratings[0].labels, clip.acted) == ({"fröhlich": 1.0}, ("fröhlich",), "müde")


GOOD = {"id": "x", "votes": {"calm": 1}}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no clip"),
        (["{"], "line 1 is not JSON"),
        ([GOOD, "[1]"], r"line 2 is \[1\]: write one JSON object a line"),
        ([{"id": "x"}], r"has no column 'votes' \(it has id\)"),
        ([{"votes": {"calm": 1}}], r"has no column 'id' \(it has votes\)"),
        ([{"id": "x", "vote": {"calm": 1}}], "the column 'vote', .*, did you mean 'votes'"),
        ([{"ID": "x", "votes": {"calm": 1}}], "the column 'ID', .*, did you mean 'id'"),
        ([GOOD | {"colour": "blue"}], r"the column 'colour', .* \(known: id, votes, audio"),
        (
            [{"id": "x", "votes": {"calm": "many"}}],
            "clip 'x' has \"many\" as the number of votes for 'calm': write a number",
        ),
        ([{"id": "x", "votes": 3}], "clip 'x' has the votes 3: write label and count"),
        ([{"id": "x", "votes": {}}], r"clip 'x' has the votes \{\}.*not all zero\.$"),
        ([GOOD, {"id": "y", "votes": None}], r"clip 'y' has the votes \{\}"),
        ([{"id": "x", "votes": {"calm": 0}}], r"clip 'x' has the votes \{'calm': 0.0\}"),
        ([{"id": "x", "votes": {"calm": -1, "sad": 2}}], "votes must be finite, not negative"),
        (['{"id": "x", "votes": {"calm": NaN}}'], "'calm': nan.*must be finite"),
        (['{"id": "x", "votes": {"calm": Infinity}}'], "'calm': inf.*must be finite"),
        ([GOOD, {"id": "y", "votes": {"calm": 1}}, GOOD], "2 clips have the id 'x'; ids must be unique"),
        ([GOOD, {"id": "", "votes": {"calm": 1}}], "clip number 2 has no id"),
        ([GOOD, {"votes": {"calm": 1}}], "clip number 2 has no id"),
        ([GOOD | {"start": 2, "end": 2}], r"clip 'x' goes from 2.0 s to 2.0 s"),
        ([GOOD | {"start": -1}], "clip 'x' goes from -1.0 s to inf s"),
        (['{"id": "x", "votes": {"calm": 1}, "end": NaN}'], "clip 'x' goes from 0.0 s to nan s"),
        ([GOOD | {"start": "soon"}], "clip '.*' has \"soon\" as its start: write a number of seconds"),
        (['{"id": "x", "votes": {"calm": 1, "sad": 2, "calm": 3}}'], "line 1: the key 'calm' stands twice; keep one"),
        ([GOOD | {"ratings": [{"rater": "r", "label": ["calm"]}]}], "a rating has no 'label', did you mean 'labels'"),
        ([GOOD | {"folds": "train"}], 'has the folds "train": write each partition and its part'),
        ([GOOD, '{"id": "y", "id": "z", "votes": {"calm": 1}}'], "line 2: the key 'id' stands twice"),
    ],
)
def test_a_mistake_in_a_manifest_is_told_in_one_sentence(tmp_path: Path, rows: list[object], message: str) -> None:
    with pytest.raises(AmbiError, match=message) as error:
        read_manifest(jsonl(tmp_path, *rows))
    assert "mine.jsonl" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_label_or_a_column_that_stands_twice_in_a_parquet_file_is_refused(tmp_path: Path) -> None:
    ids, ones = pa.array(["x"]), pa.array([1.0])
    votes = pa.StructArray.from_arrays([ones, ones], ["calm", "calm"])
    pq.write_table(pa.Table.from_arrays([ids, votes], ["id", "votes"]), tmp_path / "labels.parquet")
    with pytest.raises(AmbiError, match=r"labels\.parquet: the label 'calm' stands twice"):
        read_manifest(tmp_path / "labels.parquet")
    pq.write_table(pa.Table.from_arrays([ids, ids], ["id", "id"]), tmp_path / "columns.parquet")
    with pytest.raises(AmbiError, match=r"columns\.parquet: the column 'id' stands twice"):
        read_manifest(tmp_path / "columns.parquet")


def test_what_is_known_about_the_corpus_is_kept_with_the_clips(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.parquet", [BARE], {"license": "ODbL — à lire", "skipped": {"no votes": 2}})
    manifest = read_manifest(tmp_path / "m.parquet")
    assert manifest == [BARE]
    assert manifest.about == {"license": "ODbL — à lire", "skipped": {"no votes": 2}}
    assert read_manifest(jsonl(tmp_path, GOOD)).about == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", b"id,votes", "a manifest is a .parquet or .jsonl file, not '.csv'"),
        ("m.parquet", b"PAR1 cut off", "cannot be read as a parquet file"),
        ("m.jsonl", "ä".encode("latin-1"), "is not UTF-8"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AmbiError, match=message):
        read_manifest(tmp_path / name)


def test_writing_refuses_what_reading_would_refuse(tmp_path: Path) -> None:
    with pytest.raises(AmbiError, match="2 clips have the id 'a'"):
        write_manifest(tmp_path / "m.parquet", [BARE, BARE])
    assert list(tmp_path.glob("*.parquet")) == []


def test_a_missing_manifest_is_told(tmp_path: Path) -> None:
    with pytest.raises(AmbiError, match=r"no manifest at .*mine\.parquet: give the path"):
        read_manifest(tmp_path / "mine.parquet")


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"AMBI_DATA": "/here", "XDG_DATA_HOME": "/there"}, "/here"),
        ({"XDG_DATA_HOME": "/there"}, "/there/ambi_eval"),
        ({"XDG_DATA_HOME": "", "HOME": "/home/me"}, "/home/me/.local/share/ambi_eval"),
        ({"AMBI_DATA": "~/voices", "HOME": "/home/me"}, "/home/me/voices"),
    ],
)
def test_the_data_directory_is_ambi_data_or_the_users(
    environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AMBI_DATA", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert data_dir() == Path(folder)
    assert manifest_path("crema_d") == Path(folder, "crema_d", "manifest.parquet")

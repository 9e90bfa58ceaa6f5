from __future__ import annotations

from pathlib import Path
from typing import Any

import audb
import audformat
import pytest
from support.audio import wav
from typer.testing import CliRunner

from ambi_eval.cli import app
from ambi_eval.corpora.manifest import Clip, read_manifest
from ambi_eval.corpora.recipes import crema_d, emozionalmente
from ambi_eval.errors import AmbiError
from ambi_eval.paths import manifest_path


def add(database: Any, name: str, files: list[str], columns: dict[str, list[Any]], scheme: str | None = None) -> None:
    """Add a table with a row for each file; the schemes of the columns are their own unless one is given."""
    database[name] = audformat.Table(audformat.filewise_index(files))
    for column, values in columns.items():
        database[name][column] = audformat.Column(scheme_id=scheme or column)
        database[name][column].set(values)


def start(name: str, speakers: dict[str, dict[str, object]]) -> Any:
    """A database with schemes as those of audb's corpora of emotion: votes, and speakers with sex and age."""
    database = audformat.Database(name, source="https://example.org/data", languages=["it"], author="A. Uthor")
    database.license = "CC-BY-4.0"
    database.schemes["votes"] = audformat.Scheme("int", minimum=0)
    database.schemes["speaker"] = audformat.Scheme("str", labels=speakers)
    database.schemes["emotion"] = audformat.Scheme("str")
    return database


def save(database: Any, folder: Path, files: list[str]) -> Path:
    database.save(str(folder))
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(wav(file))
    return folder


@pytest.fixture
def emozionalmente_database(tmp_path: Path) -> Path:
    files = ["audio/1.wav", "audio/2.wav", "audio/3.wav"]
    database = start("emozionalmente", {"anna": {"gender": "female", "age": 30}, "ugo": {"gender": "male", "age": 41}})
    database.schemes["transcription"] = audformat.Scheme("str", labels={"s0": "A presto", "s1": "E andato"})
    add(database, "files", files, {"speaker": ["anna", "ugo", "ugo"], "transcription": ["s0", "s1", "s0"]})
    votes = {"anger": [3, 0], "happiness": [2, 0], "neutral": [0, 5]}
    add(database, "emotion.categories.train.votes", files[:2], votes, "votes")
    votes = {"anger": [1], "happiness": [4], "neutral": [0]}
    add(database, "emotion.categories.dev.votes", files[2:], votes, "votes")
    add(database, "emotion.categories.desired.train", files[:2], {"emotion": ["anger", "neutral"]})
    add(database, "emotion.categories.dev.desired", files[2:], {"emotion": ["happiness"]})
    return save(database, tmp_path / "database", files)


@pytest.fixture
def crema_d_database(tmp_path: Path) -> Path:
    return build_crema_d(tmp_path / "crema")


def build_crema_d(folder: Path) -> Path:
    files = [f"1001/{name}.wav" for name in ("1001_DFA_ANG_XX", "1064_TIE_SAD_XX")]
    database = start("crema-d", {"1001": {"sex": "male", "age": 51}})
    add(database, "files", files, {"speaker": ["1001", None]})
    votes = {"anger": [6, 0], "happiness": [0, 1], "sadness": [2, 8]}
    add(database, "emotion.categories.test.votes", files, votes, "votes")
    votes = {"anger": [9, 0], "happiness": [0, 1], "sadness": [0, 8]}
    add(database, "emotion.categories.face.test.votes", files, votes, "votes")
    return save(database, folder, files)


def test_a_database_becomes_the_manifest_of_its_corpus(emozionalmente_database: Path, tmp_path: Path) -> None:
    preparation = emozionalmente.prepare(None, tmp_path / "out", from_audb=str(emozionalmente_database))
    first, second, third = read_manifest(preparation.manifest)
    assert first == Clip(
        id="1",
        votes={"angry": 3.0, "joy": 2.0, "neutral": 0.0},
        audio=str(emozionalmente_database / "audio/1.wav"),
        speaker="anna",
        sex="female",
        age=30.0,
        sentence="s0",
        transcript="A presto",
        split="train",
        acted="angry",
        sha256=first.sha256,
    )
    assert (second.acted, second.split, second.speaker) == ("neutral", "train", "ugo")
    assert (third.acted, third.split, third.votes["joy"]) == ("joy", "development", 4.0)


@pytest.mark.parametrize(
    ("modality", "votes"), [("voice", {"angry": 6, "happy": 0, "sad": 2}), ("face", {"angry": 9, "happy": 0, "sad": 0})]
)
def test_the_modality_chooses_the_table(
    crema_d_database: Path, tmp_path: Path, modality: crema_d.Modality, votes: dict[str, float]
) -> None:
    clip = crema_d.prepare(None, tmp_path / "out", from_audb=str(crema_d_database), modality=modality).clips[0]
    assert clip.votes == votes
    assert (clip.speaker, clip.sex, clip.age, clip.sentence, clip.acted) == ("1001", "male", 51.0, "DFA", "angry")


def test_differing_clips_are_told_by_this_route_too(crema_d_database: Path, tmp_path: Path) -> None:
    told = crema_d.prepare(None, tmp_path / "told", from_audb=str(crema_d_database))
    assert any("1064_TIE_SAD_XX" in remark for remark in told.remarks)
    left_out = crema_d.prepare(None, tmp_path / "left", from_audb=str(crema_d_database), leave_out_differing=True)
    assert [clip.id for clip in left_out.clips] == ["1001_DFA_ANG_XX"]


def test_any_database_with_tables_of_votes_can_be_prepared(emozionalmente_database: Path) -> None:
    arguments = ["prepare", "audb", "--from-audb", str(emozionalmente_database), "--tables", r"emotion\..*train\.votes"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "license    CC-BY-4.0" in result.stdout
    manifest = read_manifest(manifest_path("emozionalmente"))
    assert [(clip.votes, clip.split) for clip in manifest] == [
        ({"anger": 3.0, "happiness": 2.0, "neutral": 0.0}, None),
        ({"anger": 0.0, "happiness": 0.0, "neutral": 5.0}, None),
    ]
    assert manifest.about["citation"] == "A. Uthor: https://example.org/data"


def test_files_that_are_not_there_are_counted(emozionalmente_database: Path, tmp_path: Path) -> None:
    (emozionalmente_database / "audio/2.wav").unlink()
    preparation = emozionalmente.prepare(None, tmp_path / "out", from_audb=str(emozionalmente_database))
    assert preparation.skipped == {"no audio file": 1}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ("nothing", "has no table of votes that fits 'nothing' (it has"),
        ("emotion.*desired", "the table emotion.categories.dev.desired holds other things than numbers of votes"),
    ],
)
def test_a_database_without_votes_is_refused(emozionalmente_database: Path, tables: str, message: str) -> None:
    command = ["prepare", "audb", "--from-audb", str(emozionalmente_database), "--tables", tables]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_folder_without_a_database_is_named(tmp_path: Path) -> None:
    with pytest.raises(AmbiError, match=r"cannot load '.*' by audb \(.*\): check the name and the network, or give"):
        emozionalmente.prepare(None, tmp_path / "out", from_audb=str(tmp_path))


def test_routes_to_one_corpus_do_not_go_together() -> None:
    result = CliRunner().invoke(app, ["prepare", "crema_d", "--from-audb", "crema-d", "--source", "CREMA-D"])
    assert result.exit_code == 2
    assert "--source does not go with --from-audb" in result.stderr


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A repository of audb on this machine that holds CREMA-D."""
    folder = tmp_path_factory.mktemp("audb")
    (folder / "local").mkdir()
    repository = audb.Repository("local", str(folder), "file-system")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audb.config, "REPOSITORIES", [repository])  # or else it asks those on the network
        audb.publish(str(build_crema_d(folder / "build")), "1.3.0", repository, verbose=False)
    return repository


@pytest.fixture
def published(repository: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That repository is the only one that audb knows."""
    monkeypatch.setattr(audb.config, "REPOSITORIES", [repository])
    monkeypatch.setattr(audb.config, "CACHE_ROOT", str(tmp_path / "cache"))
    monkeypatch.setattr(audb.config, "SHARED_CACHE_ROOT", str(tmp_path / "shared"))


@pytest.mark.slow
@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("name", ["crema-d", "crema-d@1.3.0"])
def test_a_published_database_is_loaded_by_its_name(tmp_path: Path, name: str) -> None:
    clips = crema_d.prepare(None, tmp_path / "out", from_audb=name).clips
    assert [clip.votes["sad"] for clip in clips] == [2, 8]
    assert all(Path(str(clip.audio)).is_file() for clip in clips)


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("name", ["creme-d", "crema-d@9.9.9"])
def test_a_name_that_nobody_published_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(AmbiError, match=rf"cannot load '{name}' by audb \("):
        crema_d.prepare(None, tmp_path / "out", from_audb=name)

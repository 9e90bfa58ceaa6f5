"""The cache file of the harness's own task index: the same tasks with it and without it, whatever is wrong with it."""

import os
import shutil
import zlib
from pathlib import Path

import lm_eval.tasks
import pytest
from lm_eval.tasks import _index
from lm_eval.tasks._index import TaskIndex

from ambi_eval.harness import task_index

HARNESS = Path(lm_eval.tasks.__file__).parent


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Some of the harness's own tasks in a folder of their own, with an empty cache."""
    folder = tmp_path / "tasks"
    for name in ("hellaswag", "arc", "glue"):
        shutil.copytree(HARNESS / name, folder / name)
    monkeypatch.setattr(task_index, "harness_tasks", lambda: folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def parsed(monkeypatch):
    """The names of the files that the harness parses from here on."""
    names = []
    load_yaml = _index.load_yaml
    monkeypatch.setattr(_index, "load_yaml", lambda path, **kw: names.append(Path(path).name) or load_yaml(path, **kw))
    return names


def plain(*paths):
    """Build the index as the harness does without us."""
    return TaskIndex.build(paths, resolve_includes=True)  # an option that the cache leaves to the harness


@pytest.mark.slow
def test_all_tasks_of_the_harness_are_the_same_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    expected = plain(HARNESS)
    assert len(expected) > 10_000
    task_index._write(HARNESS, expected)
    found = TaskIndex.build([HARNESS])
    assert list(found) == list(expected)
    assert found == expected


def test_the_second_index_parses_no_file_of_the_harness(folder, parsed):
    first = TaskIndex.build([folder])
    assert "hellaswag.yaml" in parsed
    parsed.clear()
    assert TaskIndex.build([folder]) == first == plain(folder)
    assert len(parsed) == len(list(folder.glob("**/*.yaml")))  # all of them by `plain`


def test_a_later_folder_wins_over_the_cache_as_it_wins_over_the_harness(folder, tmp_path, caplog):
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.yaml").write_text("task: mine\ntag: my_tag\n")
    (own / "hellaswag.yaml").write_text("task: hellaswag\ndataset_path: mine\n")
    TaskIndex.build([folder])
    found = TaskIndex.build([folder, own])
    assert found == plain(folder, own)
    assert list(found) == list(plain(folder, own))
    assert found["hellaswag"].cfg["dataset_path"] == "mine"
    assert "Task 'hellaswag' from " in caplog.text


def _edit(folder):
    (folder / "arc" / "arc_easy.yaml").write_text("task: arc_other\n")


def _add(folder):
    (folder / "arc" / "new.yaml").write_text("task: arc_new\n")


def _remove(folder):
    (folder / "arc" / "arc_easy.yaml").unlink()


@pytest.mark.parametrize("change", [_edit, _add, _remove])
def test_a_changed_file_of_the_harness_is_seen(folder, change):
    before = TaskIndex.build([folder])
    change(folder)
    after = TaskIndex.build([folder])
    assert after != before
    assert after == plain(folder)


def test_a_changed_file_that_another_includes_is_seen(folder):
    (folder / "arc" / "base").write_text("output_type: generate_until\n")
    (folder / "arc" / "new.yaml").write_text("task: arc_new\ninclude: base\n")
    assert TaskIndex.build([folder])["arc_new"].cfg["output_type"] == "generate_until"
    (folder / "arc" / "base").write_text("output_type: multiple_choice\n")
    assert TaskIndex.build([folder])["arc_new"].cfg["output_type"] == "multiple_choice"


def test_another_version_of_the_harness_has_another_key(folder, monkeypatch):
    before = task_index.key(folder)
    monkeypatch.setattr(task_index, "version", lambda _: "0.4.14")
    assert task_index.key(folder) != before


def _not_json(key):
    return f"{key}\n".encode() + zlib.compress(b"[1, 2")


def _another_shape(key):
    return f"{key}\n".encode() + zlib.compress(b'[["name", "TASK"], 3]')


@pytest.mark.parametrize(
    "content",
    [
        lambda key: b"",
        lambda key: b"\xff\xfe\n",
        lambda key: f"{key}\nnot compressed".encode(),
        _not_json,
        _another_shape,
    ],
    ids=["empty", "no text", "not compressed", "not JSON", "another shape"],
)
def test_a_damaged_cache_is_replaced(folder, parsed, content):
    expected = plain(folder)
    file = task_index.cache_file(folder)
    file.parent.mkdir(parents=True)
    file.write_bytes(content(task_index.key(folder)))
    assert TaskIndex.build([folder]) == expected
    parsed.clear()
    assert TaskIndex.build([folder]) == expected
    assert parsed == []


@pytest.mark.parametrize("blocked", ["a file", "no home", "half written"])
def test_a_cache_that_cannot_be_written_is_no_matter(folder, tmp_path, monkeypatch, blocked):
    if blocked == "a file":
        (tmp_path / "cache").write_text("in the way")
    elif blocked == "no home":
        monkeypatch.setattr(task_index, "cache_dir", lambda: (_ for _ in ()).throw(RuntimeError("no home directory")))
    else:
        monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    assert TaskIndex.build([folder]) == TaskIndex.build([folder]) == plain(folder)
    assert not [file for file in (tmp_path / "cache").glob("**/*") if file.is_file()]


def test_a_value_that_json_would_change_is_never_cached(folder):
    (folder / "arc" / "new.yaml").write_text("task: arc_new\nmetadata: {1: one}\n")
    assert TaskIndex.build([folder])["arc_new"].cfg["metadata"] == {1: "one"}
    assert TaskIndex.build([folder])["arc_new"].cfg["metadata"] == {1: "one"}
    assert not task_index.cache_file(folder).exists()


def test_bytecode_beside_the_tasks_changes_nothing(folder):
    before = task_index.key(folder)
    (folder / "arc" / "__pycache__").mkdir()
    (folder / "arc" / "__pycache__" / "utils.cpython-311.pyc").write_bytes(b"")
    assert task_index.key(folder) == before


def test_the_cache_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert task_index.cache_file(HARNESS).parent == tmp_path / ".cache" / "ambi_eval"
    assert os.fspath(task_index.cache_file(tmp_path)) != os.fspath(task_index.cache_file(HARNESS))

"""The task files in which corpora and strategies meet are those that the command writes."""

from pathlib import Path

import pytest

from ambi_eval.config import load, tasks
from ambi_eval.paths import tasks_dir


def test_the_task_files_are_those_that_the_command_writes():
    assert tasks.stale_files() == [], "run: python -m ambi_eval.config.tasks"


def test_a_new_strategy_and_a_new_corpus_are_one_file_each(tmp_path, monkeypatch):
    for module in (load, tasks):
        monkeypatch.setattr(module, "tasks_dir", lambda: tmp_path)
    for name in (*tasks.PAPER_STRATEGIES, "mine"):
        write(tmp_path / "_strategies" / f"{name}.yaml", "pool: greedy\n")
    write(tmp_path / "own" / "_own.yaml", "manifest: own\nlabels: [a, b]\n")
    write(tmp_path / "own" / "ambi_own_removed.yaml", "task: ambi_own_removed\n")
    tasks.write()
    assert tasks.stale_files() == []
    assert not (tmp_path / "own" / "ambi_own_removed.yaml").exists()
    task = load.read_yaml(tmp_path / "own" / "ambi_own_mine.yaml")
    assert (task["task"], task["tag"], task["strategy"]) == ("ambi_own_mine", "ambi_mine", "mine")
    assert task["labels"] == ["a", "b"]
    assert "ambi_own_mine" in load.read_yaml(tmp_path / "own" / "ambi_own.yaml")["task"]
    assert load.read_yaml(tmp_path / "ambi.yaml")["task"] == ["ambi_own"]


def test_a_file_that_somebody_edited_is_stale(tmp_path, monkeypatch):
    path = tasks_dir() / "demo" / "ambi_demo_sc.yaml"
    files = {path: "task: other\n"}
    monkeypatch.setattr(tasks, "generated_files", lambda: files)
    assert path in tasks.stale_files()


@pytest.mark.parametrize("group", ["ambi", "ambi_paper", "ambi_open", "ambi_demo"])
def test_every_member_of_a_group_is_a_file(group):
    files = {path.stem: path for path in tasks_dir().rglob("ambi*.yaml")}
    assert set(load.read_yaml(files[group])["task"]) <= files.keys()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)

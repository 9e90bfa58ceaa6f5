"""Ctrl-C in real processes, and results that the harness could not write."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing

import psutil
import pytest
from support.processes import Command, Script

from ambi_eval.demo.corpus import prepare
from ambi_eval.harness import ending
from ambi_eval.inference import store as candidate_store

TINY = ["--model", "hf-audio", "--model_args", "pretrained=ambi-tiny", "--device", "cpu"]


# One second and less by itself; the tests of other workers keep the processors busy meanwhile.
MOST_SECONDS = 2 if os.environ.get("PYTEST_XDIST_WORKER") is None else 4


def answers_in(store):
    with closing(sqlite3.connect(store)) as opened:
        return opened.execute("SELECT count(*) FROM candidates").fetchone()[0]


def stop_in_the_middle(start, command, store, folder):
    """Start a command, press Ctrl-C when its store holds answers, and return how it ended and what it had started."""
    process = start(*command, cwd=folder, environment={"AMBI_DATA": str(folder), "OMP_NUM_THREADS": "1"}, session=True)
    deadline = time.monotonic() + 240
    while not (store.exists() and store.with_name(f"{store.name}-wal").exists() and answers_in(store)):
        assert process.poll() is None, process.error
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    start = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    process.wait(60)
    assert time.monotonic() - start < MOST_SECONDS
    assert process.returncode == 130
    assert "Traceback" not in process.error
    return process.error.strip().splitlines()[-1], children


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], ["torchrun", "--standalone", "--nproc_per_node", "2", "-m"]])
def test_ctrl_c_under_the_stock_command_says_how_many_answers_are_kept(launcher, tmp_path):
    prepare(tmp_path / "demo")
    store = tmp_path / "candidates.sqlite"
    start = Command if launcher else Script
    said, _ = stop_in_the_middle(start, [*launcher, "lm_eval", *TINY, "--tasks", "ambi_demo_sc"], store, tmp_path)
    kept = "every answer so far is" if launcher else f"{answers_in(store):,} new answers are"
    assert said == f"ambi_eval: stopped; {kept} kept in {store}: run the same command to go on"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_ctrl_c_in_a_sweep_ends_its_processes_too(engine, tmp_path, monkeypatch):
    if engine == "ray":
        pytest.importorskip("ray")
        monkeypatch.setenv("TMPDIR", "/tmp")  # Ray's sockets need short paths
    prepare(tmp_path / "demo")
    model = "{model_args: {pretrained: ambi-tiny, device: cpu}, gpus: 0}"
    (tmp_path / "grid.yaml").write_text(f"models: {{tiny: {model}}}\ncorpora: [demo]\nstrategies: [sc]\n")
    store = tmp_path / "out" / "stores" / "tiny.demo.seed-0.sqlite"
    command = ["ambi-eval", "sweep", "grid.yaml", "-o", "out", "--engine", engine]
    said, children = stop_in_the_middle(Script, command, store, tmp_path)
    assert said == f"ambi_eval: stopped; every answer so far is kept in {store.parent}: run the same command to go on"
    assert children
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "imported"),
    [
        (["lm_eval", *TINY, "--tasks", "ambi_demo_sc"], "requests"),  # on the way to the command's own code
        (["torch.distributed.run", "-m", "lm_eval", *TINY, "--tasks", "ambi_demo_sc"], "torch._C"),
        (["ambi_eval", "baselines", "demo"], "typer"),
    ],
)
def test_ctrl_c_during_the_first_imports_is_one_sentence(program, imported):
    command = [sys.executable, "-X", "importtime", "-m", *program]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not re.search(rf"\b{re.escape(imported)}\b", line := process.stderr.readline()):
        assert line
    process.send_signal(signal.SIGINT)
    error = [line for line in process.communicate(timeout=60)[1].splitlines() if not line.startswith("import time:")]
    assert error == ["", "ambi_eval: stopped: run the same command to begin again"]
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["/bin/lm_eval", "--tasks", "ambi_demo_sc"], True),
        (["/bin/lm_eval", "--model", "hf-audio", "--tasks", "mine", "--include_path", "x"], True),
        (["/bin/lm_eval", "--tasks", "hellaswag"], False),
        (["/bin/torchrun", "-m", "lm_eval", "--tasks", "ambi_demo_sc"], True),
        (["/bin/torchrun", "train.py", "--data", "ambi_demo"], False),
        (["train.py", "ambi_demo"], False),
    ],
)
def test_only_a_command_of_the_harness_that_names_a_part_of_ours_ends_so(words, named, monkeypatch):
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(sys, "orig_argv", ["python", *words])
    assert ending.is_named() == named


def test_ctrl_c_in_a_run_without_a_part_of_ours_is_what_it_always_was():
    before = signal.getsignal(signal.SIGINT)
    try:
        ending.end_at_ctrl_c(only_if=lambda: False)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_results_that_cannot_be_written_are_exit_code_3_and_nothing_is_lost(lm_eval_run, tmp_path, monkeypatch):
    monkeypatch.setattr(candidate_store, "kept_here", Counter())
    prepare(tmp_path / "demo")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "ambi-tiny").write_text("a file where a folder is needed")
    words = [*TINY, "--tasks", "ambi_demo_direct", "--limit", "2", "--log_samples", "--output_path"]
    done = lm_eval_run(*words, "taken", cwd=tmp_path, AMBI_DATA=str(tmp_path))
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == (
        f"ambi_eval: lm_eval could not write its results to taken ([Errno 17] File exists: 'taken/ambi-tiny'); "
        f"2 new answers are kept in {tmp_path}/candidates.sqlite: run the same command with another --output_path"
    )
    again = lm_eval_run(*words, "free", cwd=tmp_path, AMBI_DATA=str(tmp_path))
    assert (again.returncode, ending.not_saved) == (0, [])
    assert next((tmp_path / "free").rglob("results_*.json"))

"""The candidate store as a sweep loads it: many processes on one file, and a file for each process, merged."""

import subprocess
import sys
from contextlib import ExitStack

import pytest

from ambi_eval.inference.store import CandidateStore, merge

pytestmark = pytest.mark.slow

PROCESSES, POOLS, SIZE = 8, 100, 20

# Waits for a line, so that all begin together, and writes its pools, each in a transaction of its own.
WRITER = f"""
import sys
from ambi_eval.answers.candidate import Candidate
from ambi_eval.inference.store import CandidateStore

path, writer = sys.argv[1], int(sys.argv[2])
with CandidateStore(path) as store:
    sys.stdin.readline()
    for clip in range({POOLS}):
        pool = {{k: Candidate(f"{{writer}} {{clip}} {{k}}", logprob=-k / 7) for k in range({SIZE})}}
        store.add_samples({{f"pool {{writer}} {{clip}}": pool}}, {{"writer": writer}})
"""


def write(paths):
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", WRITER, str(path), str(writer)],
                    stdin=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for writer, path in enumerate(paths)
        ]
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        assert [(writer.communicate(timeout=120)[1], writer.returncode) for writer in writers] == [("", 0)] * PROCESSES


def assert_whole(path):
    names = {f"pool {writer} {clip}": f"{writer} {clip}" for writer in range(PROCESSES) for clip in range(POOLS)}
    with CandidateStore(path) as store:
        pools = store.samples(dict.fromkeys(names, range(SIZE)))
        assert len(store.origins(names)) == PROCESSES
    assert all(pools[pool] == {k: f"{name} {k}" for k in range(SIZE)} for pool, name in names.items())


def test_eight_processes_write_one_file_without_a_loss_or_a_lock_error(tmp_path):
    write([tmp_path / "store.sqlite"] * PROCESSES)
    assert_whole(tmp_path / "store.sqlite")


def test_a_file_for_each_process_merges_to_the_same(tmp_path):
    files = [tmp_path / f"{writer}.sqlite" for writer in range(PROCESSES)]
    write(files)
    assert merge(files, into=tmp_path / "all.sqlite") == PROCESSES * POOLS * SIZE
    assert_whole(tmp_path / "all.sqlite")

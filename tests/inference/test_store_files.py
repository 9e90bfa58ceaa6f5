import math
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from ambi_eval.answers.candidate import Candidate
from ambi_eval.errors import AmbiError
from ambi_eval.inference import store as store_module
from ambi_eval.inference.store import CandidateStore, merge

CPU = {"device": "cpu"}
GPU = {"device": "cuda"}
CPU_JSON = '{"device":"cpu"}'
GPU_JSON = '{"device":"cuda"}'

# Every lock of a file fails as on a network file system whose server has no lock service.
NO_LOCKS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#define WITHOUT_LOCKS(name) \\
    int name(int file, int command, ...) { \\
        va_list more; va_start(more, command); void *argument = va_arg(more, void *); va_end(more); \\
        if (command == F_SETLK || command == F_SETLKW) { errno = ENOLCK; return -1; } \\
        return ((int (*)(int, int, ...))dlsym(RTLD_NEXT, #name))(file, command, argument); }
WITHOUT_LOCKS(fcntl)
WITHOUT_LOCKS(fcntl64)
"""

# Writes pools `first` to `last` of so many samples each, and says of each when it is done.
WRITER = """
import sys
from ambi_eval.answers.candidate import Candidate
from ambi_eval.inference.store import CandidateStore

path, first, last, size = sys.argv[1], *map(int, sys.argv[2:])
with CandidateStore(path) as store:
    for clip in range(first, last):
        samples = {k: Candidate(f"{clip} {k}", logprob=-k / 7) for k in range(size)}
        store.add_samples({f"pool {clip}": samples}, {"process": first})
        print(clip, flush=True)
"""


def start_writer(*arguments):
    command = [sys.executable, "-c", WRITER, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def pool(n):
    return {k: Candidate(f"answer {k}", logprob=-k / 7) for k in range(n)}


def run_sql(path, statement):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(statement)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.sqlite"


@pytest.fixture
def store(path):
    with CandidateStore(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """The bytes of a store of short and long answers, and the answers."""
    stored = {f"pool {clip}": pool(20) | {20: Candidate("at length " * 1_000)} for clip in range(10)}
    with CandidateStore(tmp_path_factory.mktemp("filled") / "store.sqlite") as store:
        store.add_samples(stored, CPU)
    return store.path.read_bytes(), stored


def read(path, stored):
    with CandidateStore(path) as store:
        assert store.origins(stored) == {CPU_JSON: 210}
        assert store.samples(dict.fromkeys(stored, range(30))) == stored


class TestFiles:
    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (Path.mkdir, "it is a folder"),
            (lambda path: path.write_text("x"), "it is no SQLite file"),
            (lambda path: path.write_text("id,text\n" * 1_000), "it is no SQLite file"),
            (lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(1_000)), "file is not a database"),
            (lambda path: run_sql(path, "CREATE TABLE candidates (pool)"), "it is the SQLite file of another program"),
            (lambda path: run_sql(path, "PRAGMA application_id=1"), "it is the SQLite file of another program"),
            (
                lambda path: (CandidateStore(path).close(), run_sql(path, "PRAGMA user_version=3")),
                "its schema version is 3, this ambi_eval reads 2",
            ),
        ],
    )
    def test_what_is_no_store_of_ours_is_refused_and_left_as_it_is(self, path, make, reason):
        make(path)
        before = path.is_file() and path.read_bytes()
        with pytest.raises(AmbiError) as caught:
            CandidateStore(path)
        assert str(caught.value) == (
            f"cannot use the candidate store {path} ({reason}): choose another path with store=PATH, or do without one "
            "with store=none."
        )
        assert (path.is_file() and path.read_bytes()) == before

    def test_an_empty_file_becomes_a_store(self, path):
        path.touch()
        with CandidateStore(path) as store:
            store.add_samples({"pool": pool(1)}, CPU)
        assert path.stat().st_size > 0

    @pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
    def test_a_truncated_file_is_refused(self, path, filled, kept):
        content, stored = filled
        path.write_bytes(content[: int(kept * len(content))])
        with pytest.raises(AmbiError, match=r"store\.sqlite .*store=none"):
            read(path, stored)

    @pytest.mark.parametrize("fill", [bytes(4096), random.Random(0).randbytes(4096)], ids=["zeros", "noise"])
    def test_whichever_page_is_overwritten_no_wrong_answer_is_returned(self, path, filled, fill):
        content, stored = filled
        sentences = []
        for start in range(0, len(content), len(fill)):
            path.write_bytes(content[:start] + fill + content[start + len(fill) :])
            try:
                read(path, stored)
            except AmbiError as error:
                sentences.append(str(error))
        assert len(sentences) > 0.9 * len(content) / len(fill)
        assert all("store=none" in sentence and len(sentence) < 400 for sentence in sentences)

    @pytest.mark.parametrize("letter", [b"L", b"\xe9"], ids=["another letter", "not UTF-8"])
    def test_one_changed_letter_in_a_long_answer_is_noticed(self, path, filled, letter):
        content, stored = filled
        path.write_bytes(content.replace(b"length at length", letter + b"ength at length", 1))
        with pytest.raises(AmbiError, match=r"\(it is damaged\)"):
            read(path, stored)

    def test_a_lost_table_is_told_at_its_first_use(self, store):
        run_sql(store.path, "DROP TABLE candidates")
        with pytest.raises(AmbiError, match="no such table: candidates"):
            store.samples({"pool": [0]})
        with pytest.raises(AmbiError, match="no such table: candidates"):
            store.add_samples({"pool": pool(1)}, CPU)

    def test_an_empty_file_is_a_new_store(self, path):
        path.touch()
        with CandidateStore(path) as store:
            assert store.samples({"pool": [0]}) == {"pool": {}}

    def test_the_folder_is_made_and_may_begin_with_a_tilde(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        CandidateStore("~/new/folder/store.sqlite").close()
        assert (tmp_path / "new" / "folder" / "store.sqlite").is_file()

    def test_a_folder_that_cannot_be_made_is_told(self, path):
        path.touch()
        with pytest.raises(AmbiError, match=r"store\.sqlite/folder/a\.sqlite \(Not a directory\)"):
            CandidateStore(path / "folder" / "a.sqlite")

    @pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to build a library without locks")
    def test_a_file_system_without_locks_is_told_at_once(self, tmp_path):
        library = tmp_path / "no_locks.so"
        (tmp_path / "no_locks.c").write_text(NO_LOCKS)
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "no_locks.c", "-ldl"], check=True)
        opening = (
            f"from ambi_eval.inference.store import CandidateStore; CandidateStore({str(tmp_path / 'a.sqlite')!r})"
        )
        done = subprocess.run(
            [sys.executable, "-c", opening],
            env={**os.environ, "LD_PRELOAD": str(library)},
            capture_output=True,
            text=True,
            timeout=30,  # SQLite alone waits for a minute
            check=False,
        )
        assert "(its file system has no locks): choose another path with store=PATH" in done.stderr
        assert not list(tmp_path.glob(".ambi-locks-*"))

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
    @pytest.mark.parametrize(
        ("folder_mode", "file_mode", "reason"),
        [
            (0o700, 0o400, "attempt to write a readonly database"),
            (0o500, None, "Permission denied"),
            (0o000, None, "Permission denied"),
        ],
    )
    def test_what_cannot_be_written_is_told_at_opening(self, path, folder_mode, file_mode, reason):
        if file_mode is not None:
            CandidateStore(path).close()
            path.chmod(file_mode)
        path.parent.chmod(folder_mode)
        try:
            with pytest.raises(AmbiError, match=reason):
                CandidateStore(path)
        finally:
            path.parent.chmod(0o700)


class TestManyAtOnce:
    def test_two_processes_that_make_and_fill_one_store_lose_nothing(self, path):
        writers = [start_writer(path, 0, 1_000, 20), start_writer(path, 500, 1_500, 20)]
        for writer in writers:
            writer.communicate()
        assert [writer.returncode for writer in writers] == [0, 0]
        pools = [f"pool {clip}" for clip in range(1_500)]
        with CandidateStore(path) as store:
            found = store.samples(dict.fromkeys(pools, range(20)))
            assert sum(store.origins(pools).values()) == 30_000
        assert found == {f"pool {clip}": {k: f"{clip} {k}" for k in range(20)} for clip in range(1_500)}

    def test_threads_share_a_file_with_a_store_each(self, path):
        def write(first):
            with CandidateStore(path) as store:
                for clip in range(first, first + 50):
                    store.add_samples({f"pool {clip}": pool(20)}, CPU)

        threads = [threading.Thread(target=write, args=(first,)) for first in (0, 25, 50, 75)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        everything = {f"pool {clip}": pool(20) for clip in range(125)}
        with CandidateStore(path) as store:
            assert store.samples(dict.fromkeys(everything, range(20))) == everything

    def test_a_killed_writer_leaves_whole_transactions_and_all_that_it_had_finished(self, path):
        finished = []
        for first in (0, 1_000, 2_000):
            writer = start_writer(path, first, first + 1_000, 2_000)
            finished += [int(writer.stdout.readline()) for _ in range(3)]
            writer.kill()
            finished += [int(clip) for clip in writer.communicate()[0].split()]
        with CandidateStore(path) as store:
            found = store.samples({f"pool {clip}": range(2_000) for clip in range(3_000)})
        sizes = {clip: len(found[f"pool {clip}"]) for clip in range(3_000)}
        assert set(sizes.values()) == {0, 2_000}
        assert {clip for clip, size in sizes.items() if size} >= set(finished)

    def test_reading_and_writing_do_not_wait_for_each_other(self, path, monkeypatch):
        monkeypatch.setattr(store_module, "BUSY_SECONDS", 0.1)
        with CandidateStore(path) as writer, CandidateStore(path) as reader:
            writer.add_samples({"pool": pool(1)}, CPU)
            with closing(sqlite3.connect(path, isolation_level=None)) as slow_reader:
                slow_reader.execute("BEGIN")
                slow_reader.execute("SELECT * FROM candidates").fetchall()
                writer.add_samples({"pool": pool(2)}, CPU)
                assert reader.samples({"pool": range(2)}) == {"pool": pool(2)}

    def test_a_lock_that_another_never_gives_back_is_told_after_a_while(self, store, monkeypatch):
        monkeypatch.setattr(store_module, "BUSY_SECONDS", 0.1)
        with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(AmbiError, match="database is locked"):
                CandidateStore(store.path)

    @pytest.mark.parametrize("given_back", [True, False])
    def test_the_switch_to_the_write_ahead_log_waits_for_another_writer(self, path, monkeypatch, given_back):
        class OneOfTwo(CandidateStore):
            def _write_ahead(self):
                other.execute("BEGIN IMMEDIATE")
                if given_back:
                    threading.Timer(0.2, other.rollback).start()
                super()._write_ahead()

        monkeypatch.setattr(store_module, "BUSY_SECONDS", 60 if given_back else 0.1)
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            if given_back:
                OneOfTwo(path).close()
            else:
                with pytest.raises(AmbiError, match="database is locked"):
                    OneOfTwo(path)


class TestMerge:
    @pytest.fixture
    def workers(self, tmp_path):
        paths = [tmp_path / "one.sqlite", tmp_path / "two.sqlite"]
        with CandidateStore(paths[0]) as store:
            store.add_samples({"both": pool(3)}, CPU)
            store.add_beams({"beams": list(pool(2).values())}, CPU)
        with CandidateStore(paths[1]) as store:
            store.add_samples({"both": pool(5)}, GPU)
            store.add_likelihoods({"labels": {" \ud83d": (math.nan, False)}}, GPU)
            store.add_ratings({"verifier": {"sad": 4.5}}, GPU)
        return paths

    def test_several_stores_become_one_and_doing_it_again_changes_nothing(self, path, workers):
        assert [merge(workers, path), merge(workers, path), merge(workers[::-1], path)] == [9, 0, 0]
        with CandidateStore(path) as store:
            assert store.samples({"both": range(20)}) == {"both": pool(5)}
            assert store.beams(["beams"]) == {"beams": list(pool(2).values())}
            assert ascii(store.likelihoods({"labels": [" \ud83d"]})["labels"]) == r"{' \ud83d': (nan, False)}"
            assert store.ratings({"verifier": ["sad"]}) == {"verifier": {"sad": 4.5}}
            assert store.origins(["both", "beams", "labels", "verifier"]) == {CPU_JSON: 5, GPU_JSON: 4}

    def test_a_store_merged_into_itself_stays_as_it_is(self, workers):
        assert merge(workers[:1], workers[0]) == 0

    def test_a_missing_store_is_named_before_anything_is_written(self, path, workers):
        with pytest.raises(AmbiError, match=r"no candidate store at .*three\.sqlite: give the path"):
            merge([*workers, path.with_name("three.sqlite")], path)
        assert not path.exists()

    def test_a_damaged_store_is_named_and_nothing_of_it_is_taken(self, path, workers, filled):
        content, stored = filled
        damaged = path.with_name("damaged.sqlite")
        damaged.write_bytes(content.replace(b"length at length", b"Length at length", 1))
        with pytest.raises(AmbiError, match=r"damaged\.sqlite \(it is damaged\)"):
            merge([workers[0], damaged], path)
        with CandidateStore(path) as store:
            assert store.origins(["both", *stored]) == {CPU_JSON: 3}

"""The candidate store: one SQLite file that keeps a model's answers, so that a killed run can continue."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from ambi_eval.answers.candidate import Candidate
from ambi_eval.errors import AmbiError
from ambi_eval.inference.rows import (
    Row,
    candidate_row,
    canonical_json,
    loaded_text,
    row_checksum,
    stored_candidate,
    stored_float,
    stored_text,
)

BUSY_SECONDS = 60.0  # how long to wait for another process that writes
_HEADER = b"SQLite format 3\0"
APPLICATION_ID = int.from_bytes(b"ambi", "big")
SCHEMA_VERSION = 2

# Columns of log-likelihoods and ratings have no type, because a REAL column turns -0.0 into 0.0. Tables without a rowid
# store their rows in the order of the keys, so a pool is read in one piece.
_SCHEMA = (
    "CREATE TABLE provenances (id INTEGER PRIMARY KEY, json TEXT NOT NULL, checksum INTEGER NOT NULL)",
    """CREATE TABLE candidates (
        pool TEXT, k INTEGER, set_size INTEGER, text TEXT NOT NULL, logprob, n_tokens INTEGER, finish TEXT,
        provenance INTEGER NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (pool, k)) WITHOUT ROWID""",
    """CREATE TABLE likelihoods (
        pool TEXT, continuation TEXT, logprob NOT NULL, is_greedy INTEGER NOT NULL,
        provenance INTEGER NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (pool, continuation)) WITHOUT ROWID""",
    """CREATE TABLE ratings (
        pool TEXT, text TEXT, rating NOT NULL,
        provenance INTEGER NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (pool, text)) WITHOUT ROWID""",
    f"PRAGMA application_id={APPLICATION_ID}",
)
# Turns a store of version 1 into one of version 2; the thinking tokens of its answers are unknown (NULL).
_FROM_VERSION_1 = "ALTER TABLE candidates ADD COLUMN thinking_tokens INTEGER"
# Releases before this table ignore it.
_PROMPTS = "CREATE TABLE IF NOT EXISTS prompts (pool TEXT PRIMARY KEY, tokens INTEGER, checksum INTEGER) WITHOUT ROWID"
_ANSWERS = ("candidates", "likelihoods", "ratings")
# The columns that the checksum covers, in their order. It leaves out a last column that is NULL, so that the checksums
# of version 1 stay valid.
_COLUMNS = {
    "provenances": ("id", "json"),
    "candidates": ("pool", "k", "set_size", "text", "logprob", "n_tokens", "finish", "provenance", "thinking_tokens"),
    "likelihoods": ("pool", "continuation", "logprob", "is_greedy", "provenance"),
    "ratings": ("pool", "text", "rating", "provenance"),
    "prompts": ("pool", "tokens"),
}
_POOLS_PER_QUERY = 500  # SQLite before 3.32 takes at most 999 variables

kept_here: Counter[Path] = Counter()  # answers that this process has added, by store


class CandidateStore(AbstractContextManager["CandidateStore"]):
    """Keeps the answers of models in one SQLite file as soon as they are made.

    Answers form pools, each with a key (`pool_key`). To add an answer that is already stored changes nothing: if two
    processes draw the same sample, the first one stays. Each `add_...` is one transaction: after a kill it is stored
    completely or not at all. Its argument has the form that the reader returns.

    Any number of processes and threads of one machine may share the file; each opens its own `CandidateStore`, also
    after a fork. Processes on several machines write one file each, and `merge` joins them.

    Every read and write raises `AmbiError` if the file is damaged, not writable, full, or locked for `BUSY_SECONDS`.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the store; the file and its folder are made if they do not exist.

        Raises:
            AmbiError: If the file cannot be written, is no candidate store, or has a schema version of a later release.
        """
        self.path = Path(path).expanduser().absolute()
        self._prompts: list[Row] = []  # lengths of prompts that are stored with the next answers
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_dir():
                raise self._unusable("it is a folder")
            if self.path.is_file():
                with self.path.open("rb") as file:
                    # SQLite takes a file that is shorter than its header for an empty one, and would write over it.
                    if file.read(len(_HEADER)) not in (b"", _HEADER):
                        raise self._unusable("it is no SQLite file")
            if not _has_locks(self.path.parent):
                raise self._unusable("its file system has no locks")
        except OSError as error:
            raise self._unusable(error.strerror) from error
        kept_here[self.path] += 0
        with self._errors_told():
            # Without an isolation level, Python begins no transactions of its own.
            self._db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            self._db.text_factory = bytes.decode  # sqlite3's own error would repeat the whole text
            try:
                self._prepare()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        self.close()

    def samples(self, wanted: Mapping[str, Collection[int]]) -> dict[str, dict[int, Candidate]]:
        """Return those of the wanted samples that are stored: for each pool in `wanted`, samples by index."""
        found: dict[str, dict[int, Candidate]] = {pool: {} for pool in wanted}
        for pool, k, set_size, *answer in self._of_pools("candidates", wanted):
            if set_size is None and k in wanted[pool]:
                found[pool][k] = stored_candidate(k, *answer)
        return found

    def add_samples(self, samples: Mapping[str, Mapping[int, Candidate]], provenance: Mapping[str, Any]) -> None:
        """Store samples: for each pool, samples by index (`Candidate.number` itself is not stored).

        The provenance is plain JSON: what should not change the samples, such as the device and library versions. A
        sample that is no answer of the model, such as one that was `not_drawn`, is a ValueError.
        """
        rows = [candidate_row(pool, k, None, one) for pool, by_k in samples.items() for k, one in by_k.items()]
        self._add("candidates", rows, provenance)

    def beams(self, pools: Iterable[str]) -> dict[str, list[Candidate]]:
        """Return the stored beam sets of these pools, best beam first; pools without a complete set are left out."""
        sets: dict[str, list[Candidate]] = {}
        sizes: dict[str, set[int | None]] = {}
        for pool, k, set_size, *answer in self._of_pools("candidates", pools):
            sets.setdefault(pool, []).append(stored_candidate(k, *answer))
            sizes.setdefault(pool, set()).add(set_size)
        return {pool: beams for pool, beams in sets.items() if sizes[pool] == {len(beams)}}

    def add_beams(self, sets: Mapping[str, Sequence[Candidate]], provenance: Mapping[str, Any]) -> None:
        """Store complete beam sets: for each pool all of its beams, best first."""
        rows = [candidate_row(pool, k, len(beams), one) for pool, beams in sets.items() for k, one in enumerate(beams)]
        self._add("candidates", rows, provenance)

    def likelihoods(self, wanted: Mapping[str, Collection[str]]) -> dict[str, dict[str, tuple[float, bool]]]:
        """Return those of the wanted likelihoods that are stored: for each pool in `wanted`, by continuation.

        A likelihood is the natural log-likelihood, and whether greedy decoding would give the continuation.
        """
        found: dict[str, dict[str, tuple[float, bool]]] = {pool: {} for pool in wanted}
        for pool, continuation, logprob, is_greedy in self._of_pools("likelihoods", wanted):
            if (text := loaded_text(continuation)) in wanted[pool]:
                found[pool][text] = (float(logprob), bool(is_greedy))
        return found

    def add_likelihoods(
        self, likelihoods: Mapping[str, Mapping[str, tuple[float, bool]]], provenance: Mapping[str, Any]
    ) -> None:
        """Store likelihoods of continuations, in the form that `likelihoods` returns."""
        rows = [
            (pool, stored_text(continuation), stored_float(logprob), int(is_greedy))
            for pool, by_text in likelihoods.items()
            for continuation, (logprob, is_greedy) in by_text.items()
        ]
        self._add("likelihoods", rows, provenance)

    def ratings(self, wanted: Mapping[str, Collection[str]]) -> dict[str, dict[str, float]]:
        """Return those of the wanted ratings that are stored: for each pool in `wanted`, by the text that is rated.

        The key of such a pool is that of verifier, rating prompt and audio.
        """
        found: dict[str, dict[str, float]] = {pool: {} for pool in wanted}
        for pool, text, rating in self._of_pools("ratings", wanted):
            if (rated := loaded_text(text)) in wanted[pool]:
                found[pool][rated] = float(rating)
        return found

    def add_ratings(self, ratings: Mapping[str, Mapping[str, float]], provenance: Mapping[str, Any]) -> None:
        """Store verifier ratings, in the form that `ratings` returns."""
        rows = [
            (pool, stored_text(text), stored_float(rating))
            for pool, by_text in ratings.items()
            for text, rating in by_text.items()
        ]
        self._add("ratings", rows, provenance)

    def prompt_tokens(self, pools: Iterable[str]) -> dict[str, int]:
        """Return the lengths in tokens of these pools' prompts, as far as they are stored."""
        chunks = ((f"WHERE pool IN ({_marks(len(chunk))})", chunk) for chunk in _chunks(pools))
        return {pool: tokens for which, chunk in chunks for pool, tokens in self._rows("prompts", which, chunk)}

    def add_prompt_tokens(self, pool: str, tokens: int) -> None:
        """Store the length of a pool's prompt, in the same transaction as the next answers."""
        self._prompts.append((pool, tokens))

    def origins(self, pools: Iterable[str]) -> dict[str, int]:
        """Return the number of answers in these pools by their provenance (JSON)."""
        counts: Counter[int] = Counter()
        for chunk in _chunks(pools):
            for table in _ANSWERS:
                query = f"SELECT provenance, count(*) FROM {table} WHERE pool IN ({_marks(len(chunk))}) GROUP BY 1"
                with self._errors_told():
                    counts.update(dict(self._db.execute(query, chunk)))
        texts: dict[int, str] = dict(self._rows("provenances"))
        if not counts.keys() <= texts.keys():
            raise self._unusable("it is damaged")
        return {texts[origin]: count for origin, count in counts.items()}

    def _prepare(self) -> None:
        """Make the tables in a new file, and refuse a file that is not ours."""
        self._db.execute("PRAGMA synchronous=NORMAL")
        with self._transaction():
            application, version, tables = (
                self._db.execute(query).fetchone()[0]
                for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
            )
            if not (application or version or tables):
                for statement in (*_SCHEMA, _FROM_VERSION_1):
                    self._db.execute(statement)
            elif application != APPLICATION_ID:
                raise self._unusable("it is the SQLite file of another program")
            elif version == 1:
                self._db.execute(_FROM_VERSION_1)
            elif version != SCHEMA_VERSION:
                raise self._unusable(f"its schema version is {version}, this ambi_eval reads {SCHEMA_VERSION}")
            self._db.execute(_PROMPTS)
            # Write it each time, so that a read-only file is noticed now and not after the first batch.
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._write_ahead()

    def _write_ahead(self) -> None:
        """Switch to a write-ahead log, so that readers need not wait for a process that writes."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                # SQLite does not wait for a writer here: with four processes at a time, one of 1200 openings of new
                # files failed.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _of_pools(self, table: str, pools: Iterable[str]) -> Iterator[Row]:
        """Yield the rows of these pools, ordered by both keys, without provenance."""
        place = _COLUMNS[table].index("provenance")
        for chunk in _chunks(pools):
            for row in self._rows(table, f"WHERE pool IN ({_marks(len(chunk))}) ORDER BY 1, 2", chunk):
                yield row[:place] + row[place + 1 :]

    def _rows(self, table: str, which: str = "", parameters: Sequence[str] = ()) -> Iterator[Row]:
        """Yield whole rows, checked, without their checksum."""
        query = f"SELECT {', '.join(_COLUMNS[table])}, checksum FROM {table} {which}"
        with self._errors_told():
            for stored in self._db.execute(query, parameters):
                row, checksum = stored[:-1], stored[-1]
                # SQLite notices damage to its own structure, but not to the values.
                if checksum != row_checksum(row):
                    raise self._unusable("it is damaged")
                yield row

    def _add(self, table: str, rows: Sequence[Row], provenance: Mapping[str, Any]) -> None:
        text = canonical_json(provenance)
        # The id depends on the text alone, so a provenance has the same id in all stores.
        origin = int.from_bytes(sha256(text.encode()).digest()[:7], "big")
        with self._transaction():
            self._insert("provenances", [(origin, text)])
            place = _COLUMNS[table].index("provenance")
            added = self._insert(table, ((*row[:place], origin, *row[place:]) for row in rows))
            self._insert("prompts", self._prompts)
        self._prompts = []
        kept_here[self.path] += added

    def _insert(self, table: str, rows: Iterable[Row]) -> int:
        """Insert the rows whose keys are new, and return their number."""
        # Not INSERT OR IGNORE, which would also ignore a missing value.
        columns = (*_COLUMNS[table], "checksum")
        query = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({_marks(len(columns))}) ON CONFLICT DO NOTHING"
        return self._db.executemany(query, ((*row, row_checksum(row)) for row in rows)).rowcount

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors_told(), self._db:
            # IMMEDIATE waits for other writers. A transaction that begins with a read would fail instead.
            self._db.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def _errors_told(self) -> Iterator[None]:
        """Turn errors of the file and the disk into an `AmbiError`."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            # The other subclasses (a wrong type, a closed store) are programming errors.
            if type(error) not in (sqlite3.DatabaseError, sqlite3.OperationalError):
                raise
            raise self._unusable(error) from error
        except UnicodeDecodeError as error:
            raise self._unusable("it is damaged") from error

    def _unusable(self, reason: object) -> AmbiError:
        fix = "choose another path with store=PATH, or do without one with store=none."
        return AmbiError(f"cannot use the candidate store {self.path} ({reason}): {fix}")


def _has_locks(folder: Path) -> bool:
    """Return whether files in a folder can be locked; on some network file systems they cannot."""
    # SQLite takes the failure for a lock of another process and would wait for its end.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".ambi-locks-") as own:
        try:
            with closing(sqlite3.connect(Path(own) / "new.sqlite", timeout=0, isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
    return True


def merge(paths: Iterable[str | Path], into: str | Path) -> int:
    """Add the answers of several stores to one, which is made if it does not exist, and return how many were new.

    If two stores hold the same answer, the first one stays. A missing or unusable one is an AmbiError, raised after the
    stores before it are merged.
    """
    sources = [Path(path) for path in paths]
    for source in sources:
        if not source.is_file():
            raise AmbiError(f"no candidate store at {source}: give the path of a file that a run wrote as its store=.")
    added = 0
    with CandidateStore(into) as store:
        for source in sources:
            with CandidateStore(source) as worker, store._transaction():
                for table in ("provenances", "prompts"):
                    store._insert(table, worker._rows(table))
                for table in _ANSWERS:
                    added += store._insert(table, worker._rows(table))
    return added


def _chunks(pools: Iterable[str]) -> Iterator[list[str]]:
    distinct = list(dict.fromkeys(pools))
    for start in range(0, len(distinct), _POOLS_PER_QUERY):
        yield distinct[start : start + _POOLS_PER_QUERY]


def _marks(count: int) -> str:
    return ", ".join("?" * count)

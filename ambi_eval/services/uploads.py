"""Uploads each clip to Google's Files API once; all prompts and later runs use this file until it expires."""

from __future__ import annotations

import hashlib
import io
import sqlite3
import time
from collections import defaultdict
from contextlib import closing
from datetime import datetime
from threading import Lock
from typing import Any

from ambi_eval.paths import data_dir

LIFETIME = 48 * 3600.0  # seconds that the Files API keeps a file
MIME = "audio/wav"


class Uploads:
    """The files of one account of the Files API, by the digest of their content.

    `uploads.sqlite` in the data directory lists the files, so that later runs find them. Any number of threads may use
    an object; two threads with the same audio upload it once.

    Attributes:
        count: How many files this process has uploaded.
    """

    def __init__(self, client: Any, account: str, seconds_left: float = 3600.0) -> None:
        """Set up for a client of google-genai and a name of its account and address, without the API key.

        A file that expires in less than `seconds_left` is uploaded again.
        """
        self._client = client
        self._account = account
        self._seconds_left = seconds_left
        self._known: dict[str, tuple[str, float]] = {}
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)
        self._lock = Lock()
        self.count = 0
        self._read()

    def uri(self, wav: bytes) -> str:
        """Return the address of the file with this content; upload it if there is none."""
        digest = hashlib.sha256(wav).hexdigest()
        with self._lock:
            lock = self._locks[digest]
        with lock:
            uri, expires = self._known.get(digest, ("", 0.0))
            if expires - time.time() < self._seconds_left:
                uri, expires = self._upload(wav)
                self._note(digest, uri, expires)
            return uri

    def forget(self, text: str) -> bool:
        """Forget the files that a text names, and return whether there were any."""
        gone = [digest for digest, (uri, _) in self._known.items() if uri.rpartition("/")[2] in text]
        for digest in gone:
            del self._known[digest]
        rows = [(self._account, each) for each in gone]
        with closing(self._open()) as database, database:
            database.executemany("DELETE FROM uploads WHERE account = ? AND digest = ?", rows)
        return bool(gone)

    def _upload(self, wav: bytes) -> tuple[str, float]:
        file = self._client.files.upload(file=io.BytesIO(wav), config={"mime_type": MIME})
        pause = 0.1
        while _state(file) == "PROCESSING":
            time.sleep(pause)
            pause = min(2 * pause, 5.0)
            file = self._client.files.get(name=file.name)
        if _state(file) == "FAILED" or not file.uri:
            raise ValueError(f"the Files API could not take the audio: {file.error}")
        with self._lock:
            self.count += 1
        expires = file.expiration_time
        return str(file.uri), expires.timestamp() if isinstance(expires, datetime) else time.time() + LIFETIME

    def _read(self) -> None:
        with closing(self._open()) as database, database:
            database.execute("DELETE FROM uploads WHERE expires < ?", (time.time(),))
            rows = database.execute("SELECT digest, uri, expires FROM uploads WHERE account = ?", (self._account,))
            self._known = {digest: (uri, expires) for digest, uri, expires in rows}

    def _note(self, digest: str, uri: str, expires: float) -> None:
        self._known[digest] = (uri, expires)
        with closing(self._open()) as database, database:
            row = (self._account, digest, uri, expires)
            database.execute("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?)", row)

    def _open(self) -> sqlite3.Connection:
        file = data_dir() / "uploads.sqlite"
        file.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(file, timeout=60)
        columns = "account TEXT, digest TEXT, uri TEXT, expires REAL, PRIMARY KEY (account, digest)"
        database.execute(f"CREATE TABLE IF NOT EXISTS uploads ({columns})")
        return database


def _state(file: Any) -> str:
    return str(getattr(file.state, "name", file.state) or "ACTIVE")

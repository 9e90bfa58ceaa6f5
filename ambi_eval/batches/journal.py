"""Notes about open batches: a small file for each, written before it is sent and deleted when it is collected."""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ambi_eval.errors import AmbiError
from ambi_eval.paths import writing


@dataclass
class Batch:
    """A batch of requests."""

    address: str  # the address of the service
    keys: list[str]  # the keys of its requests whose results are not collected yet
    # Our name for the batch, which the service stores with it, so that it can be found there.
    name: str = field(default_factory=lambda: f"ambi-eval-{uuid.uuid4().hex}")
    file: str = ""  # the service's id of the uploaded requests; empty until they are uploaded
    id: str = ""  # the service's id of the batch; empty until the service has confirmed it
    sent: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))  # the time of sending


class Journal:
    """The open batches of one service, as files of a folder."""

    def __init__(self, folder: Path, address: str) -> None:
        """Set up; the first note makes the folder."""
        self.folder = folder
        self.address = address

    def path(self, batch: Batch) -> Path:
        """Return the file of a batch."""
        return self.folder / f"{batch.name}.json"

    def open(self) -> list[Batch]:
        """Return the batches of this service that are not collected."""
        found = []
        for file in sorted(self.folder.glob("ambi-eval-*.json")):
            try:
                batch = Batch(**json.loads(file.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as error:
                fix = "repair it, or delete it to send the batch again"
                raise AmbiError(f"{file} is no note of a batch ({error}); {fix}") from error
            if batch.address == self.address:
                found.append(batch)
        return found

    def write(self, batch: Batch) -> None:
        """Write the note of a batch in its present state."""
        with writing(self.path(batch), "set AMBI_DATA to another folder") as unfinished:
            unfinished.write_text(json.dumps(asdict(batch)), encoding="utf-8")

    def remove(self, batch: Batch) -> None:
        """Delete the note of a batch whose results are all collected."""
        self.path(batch).unlink(missing_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the batches of this service against other processes, or raise an error if another one holds the lock."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(self.address.encode()).hexdigest()[:16]
        with (self.folder / f"{name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                fix = "run this command again when that one has ended"
                raise AmbiError(f"another run waits for batches of {self.address}; {fix}") from error
            yield

"""Sends requests in batches, waits for them, and collects the results; an interrupted run can be continued."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ambi_eval.batches.journal import Batch, Journal
from ambi_eval.errors import AmbiError, NotYetError, counted

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between two queries for the state of a batch
# A batch is lost if the service does not know it this many times in a row; some services know a new batch only later.
UNKNOWN_IN_A_ROW = 5


@dataclass(frozen=True)
class Result:
    """The result of one request."""

    key: str  # the key of the request
    reply: bytes | None = None  # the service's reply, as JSON; None if there is none
    failure: str = ""  # why there is no reply
    refused: str | None = None  # the field of the request that the service refuses, if this is the reason


@dataclass(frozen=True)
class State:
    """The state of a batch."""

    ended: bool  # whether the service has ended the batch
    told: str  # the service's name for the state


class Service(Protocol):
    """A service that takes batches."""

    address: str
    most_requests: int
    most_bytes: int

    def upload(self, file: Path, name: str) -> str:
        """Upload the file of a batch, one request a line, and return the service's id of it."""

    def create(self, file: str, name: str) -> str:
        """Start a batch, and return the service's id of it."""

    def find(self, file: str, name: str) -> str | None:
        """Return the id of the batch with this name or this file; None if there is none."""

    def state(self, batch: str) -> State | None:
        """Return the state of a batch; None if the service does not know it."""

    def results(self, batch: str) -> Iterator[Result]:
        """Yield the results of a batch that has ended, in any order; some may be missing."""


def answers_of(
    service: Service, folder: Path, lines: Mapping[str, Callable[[], bytes]], wait: float, pay: Callable[[str], None]
) -> Iterator[Result]:
    """Send requests in batches, wait for them, and yield the result of each request once.

    A request that an earlier run has sent is not sent again; this run waits for its batch. Each batch has a note, which
    is written before the batch is sent. If sending was interrupted, the service is asked whether the batch arrived, and
    it is sent again only if not. The note is deleted after the last result of the batch, so the caller must store each
    result at once.

    Args:
        service: The service.
        folder: The folder of the notes.
        lines: By key, a function that returns the line of a request; its answer depends on nothing but the key.
        wait: Seconds to wait for batches.
        pay: Called with the key of each request before it is sent; its error stops the sending.

    Raises:
        NotYetError: If the service still works on a batch after `wait` seconds.
        AmbiError: If the service has lost a batch, or if another run waits for batches of this service.
    """
    journal = Journal(folder, service.address)
    with journal.alone():
        for batch in journal.open():
            _settle(service, journal, batch)
        known = {key for batch in journal.open() for key in batch.keys}
        _send(service, journal, {key: line for key, line in lines.items() if key not in known}, pay)
        waiting = [batch for batch in journal.open() if lines.keys() & set(batch.keys)]
        deadline, pause = time.monotonic() + wait, FIRST_PAUSE
        unknown = dict.fromkeys((batch.id for batch in waiting), 0)
        while waiting:
            for batch in list(waiting):
                state = service.state(batch.id)
                unknown[batch.id] = 0 if state else unknown[batch.id] + 1
                if unknown[batch.id] >= UNKNOWN_IN_A_ROW:
                    lost = f"the batch {batch.id} any more ({counted(len(batch.keys), 'request')}, sent {batch.sent})"
                    fix = f"which may have been paid; delete {journal.path(batch)} to send it again"
                    raise AmbiError(f"{service.address} does not know {lost}, {fix}")
                if state and state.ended:
                    waiting.remove(batch)
                    yield from _collect(service, journal, batch, lines.keys(), state)
            left = deadline - time.monotonic()
            if waiting and left <= 0:
                left_over = counted(sum(len(batch.keys) for batch in waiting), "request")
                fix = "all answers so far are kept: run the same command later"
                raise NotYetError(f"{service.address} still works on {left_over}; {fix}")
            if waiting:
                time.sleep(min(pause, left))
                pause = min(pause * 1.5, LONGEST_PAUSE)


def _settle(service: Service, journal: Journal, batch: Batch) -> None:
    """Ask the service for a batch whose sending was interrupted; delete its note if the service does not have it."""
    if batch.id:
        return
    if found := service.find(batch.file, batch.name):
        batch.id = found
        journal.write(batch)
    else:
        journal.remove(batch)


def _send(
    service: Service, journal: Journal, lines: Mapping[str, Callable[[], bytes]], pay: Callable[[str], None]
) -> None:
    left = list(lines)
    while left:
        batch = Batch(service.address, [])
        file = journal.path(batch).with_suffix(".jsonl")
        stopped: AmbiError | None = None
        size = 0
        with file.open("wb") as written:
            while left and len(batch.keys) < service.most_requests:
                line = lines[left[0]]() + b"\n"
                if batch.keys and size + len(line) > service.most_bytes:
                    break
                try:
                    pay(left[0])
                except AmbiError as error:
                    stopped = error
                    break
                size += written.write(line)
                batch.keys.append(left.pop(0))
        try:
            if batch.keys:
                batch.file = service.upload(file, batch.name)
                journal.write(batch)
                batch.id = service.create(batch.file, batch.name)
                journal.write(batch)
                logger.warning("%s: sent %d requests as %s", service.address, len(batch.keys), batch.id)
        finally:
            file.unlink()
        if stopped:
            raise stopped


def _collect(
    service: Service, journal: Journal, batch: Batch, wanted: Container[str], state: State
) -> Iterator[Result]:
    """Yield the wanted results; the service keeps the others until a run asks for them."""
    mine = {key for key in batch.keys if key in wanted}
    missing = set(mine)
    for result in service.results(batch.id):
        if result.key in missing:
            missing.discard(result.key)
            yield result
    for key in sorted(missing):
        yield Result(key, failure=f"the batch {batch.id} ended without it ({state.told})")
    batch.keys = [key for key in batch.keys if key not in mine]
    if batch.keys:
        journal.write(batch)
    else:
        journal.remove(batch)

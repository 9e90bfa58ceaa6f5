"""Grids of ambi-tiny on the demo corpus, an engine that loses processes, and what the stock `lm_eval` makes of it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from rich.console import Console
from support.processes import forked_for_spawned

from ambi_eval.sweep.grid import Cell, read_grid
from ambi_eval.sweep.jobs import Event, SweepJob, results_file
from ambi_eval.sweep.progress import Progress
from ambi_eval.sweep.scheduler import run_cells

TINY = {"model_args": {"pretrained": "ambi-tiny", "device": "cpu"}, "gpus": 0}


@pytest.fixture(scope="session")
def write_grid(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a grid of ambi-tiny on the demo corpus; what is given lies over it."""

    def write(folder: Path | None = None, **given: Any) -> Path:
        content = {"models": {"tiny": TINY}, "corpora": ["demo"], "strategies": ["sc"], **given}
        file = (folder or tmp_path_factory.mktemp("grid")) / "grid.yaml"
        file.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
        return file

    return write


@pytest.fixture(scope="session")
def grid(write_grid: Callable[..., Path]) -> Callable[..., list[Cell]]:
    """Read a grid of ambi-tiny on the demo corpus; what is given lies over it."""
    return lambda **given: read_grid(write_grid(**given))


def count_answers(store: Path) -> int:
    """Return how many answers a store holds."""
    with closing(sqlite3.connect(store)) as opened:
        return opened.execute("SELECT count(*) FROM candidates").fetchone()[0]


class Losing:
    """An engine around another one: it notes the events, and kills a process with -9 in the middle of a cell.

    The process is killed once, as soon as the store of its job holds answers that the cell has made. Of a machine in a
    Ray cluster, all is killed that stands for it here: the process that started the job's as well.
    """

    def __init__(self, engine: Any, job: str = "", task: str = "", machine: bool = False) -> None:
        self.engine, self.job, self.task, self.machine = engine, job, task, machine
        self.jobs: list[SweepJob] = []
        self.seen: list[Event] = []
        self.answers_before: dict[Path, int] = {}
        self.answers_at_death: int | None = None

    def submit(self, job: SweepJob) -> None:
        self.jobs.append(job)
        self.answers_before[job.store] = count_answers(job.store) if job.store.exists() else 0
        self.engine.submit(job)

    def events(self) -> Iterator[Event]:
        for event in self.engine.events():
            asked = event.kind == "started" and self.task and f"/{self.task}." in event.cell
            if asked and event.job.endswith(self.job) and self.answers_at_death is None:
                self._kill(event)
            self.seen.append(event)
            yield event

    def _kill(self, event: Event) -> None:
        job = [job for job in self.jobs if job.name == event.job][-1]
        before = count_answers(job.store)
        deadline = time.monotonic() + 180
        while count_answers(job.store) == before:
            assert time.monotonic() < deadline, f"{event.cell} was over before it could be killed"
            time.sleep(0.01)
        log = (job.folder / event.cell / job.log).read_text()
        process = psutil.Process(int(log.rpartition("sweep.jobs: process ")[2].split()[0]))
        for each in [process.parent(), process] if self.machine else [process]:
            each.kill()
        self.answers_at_death = count_answers(job.store) - before

    def close(self) -> None:
        self.engine.close()


@pytest.fixture(scope="session")
def answers_in() -> Callable[[Path], int]:
    return count_answers


@pytest.fixture(scope="session")
def losing() -> type[Losing]:
    return Losing


@pytest.fixture(scope="session")
def run() -> Callable[..., dict[str, str]]:
    """Run cells on an engine and give what failed, and why."""

    def run_on(cells: list[Cell], folder: Path, engine: Any, replicas: int = 1) -> dict[str, str]:
        skipped = [cell for cell in cells if results_file(folder, cell)]
        showing = Progress(cells, skipped, Console(quiet=True))
        with forked_for_spawned(), closing(engine), showing as progress:
            run_cells(cells, folder, engine, progress, replicas)
        return progress.failures

    return run_on


@pytest.fixture(scope="session")
def results() -> Callable[[Path, Cell], dict[str, Any]]:
    """The harness's results file of a cell."""

    def read(folder: Path, cell: Cell) -> dict[str, Any]:
        file = results_file(folder, cell)
        assert file is not None, f"{cell.name} is not done"
        return json.loads(file.read_text())

    return read

"""Chooses the next job: skips finished cells, tries failed ones once more, and runs all others."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from ambi_eval.engines.base import arguments_of
from ambi_eval.errors import AmbiError
from ambi_eval.inference.store import merge
from ambi_eval.sweep.grid import Cell, by_group
from ambi_eval.sweep.jobs import Event, SweepJob, results_file
from ambi_eval.sweep.progress import Progress

ATTEMPTS = 2


class Runner(Protocol):
    """Runs jobs."""

    def submit(self, job: SweepJob) -> None:
        """Add a job."""

    def events(self) -> Iterator[Event]:
        """Yield events until no job is left; the last event of each job is `ended`."""

    def close(self) -> None:
        """End all running jobs."""


def run_cells(cells: Sequence[Cell], folder: Path, runner: Runner, progress: Progress, replicas: int = 1) -> None:
    """Run the cells that are not done yet.

    Several replicas first answer their shares of the clips, each into a store of its own. Then the stores are merged,
    and an ordinary run over all clips finds every answer there. So results do not depend on the number of replicas.

    Raises:
        AmbiError: If there are several replicas of a model that keeps no store.
    """
    for name, model in {cell.model_name: cell.model for cell in cells}.items():
        if replicas > 1 and arguments_of(model.model) is None:
            what = f"the model {name} ({model.model}) keeps no candidate store, through which replicas share answers"
            raise AmbiError(f"{what}: leave out --replicas")
    missing = [cell for cell in cells if not results_file(folder, cell)]
    groups = {name: _Group(name, of_group, folder, replicas) for name, of_group in by_group(missing).items()}
    jobs: dict[str, tuple[_Group, SweepJob]] = {}

    def submit(group: _Group, job: SweepJob) -> None:
        jobs[job.name] = (group, job)
        runner.submit(job)

    for group in groups.values():
        for job in group.first_jobs():
            submit(group, job)
    for event in runner.events():
        group, job = jobs[event.job]
        progress.show(event, group.weight(job))
        group.note(event)
        if event.kind == "ended":
            for following in group.after(job):
                submit(group, following)


class _Group:
    """The cells of one model, corpus and seed, with their store and the number of tries of each."""

    def __init__(self, name: str, cells: Sequence[Cell], folder: Path, replicas: int) -> None:
        self.name = name
        self.cells = tuple(cells)
        self.folder = folder
        self.shares = [(i, replicas) for i in range(replicas)] if replicas > 1 else []
        self.unfinished = len(self.shares)
        self.store = folder / "stores" / f"{name}.sqlite"
        self.tries: Counter[tuple[str, str]] = Counter()
        self.done: set[tuple[str, str]] = set()

    def first_jobs(self) -> list[SweepJob]:
        """Return the first jobs."""
        self._gather()
        return [self._job_of(share, self.cells) for share in self.shares] or [self._job_of(None, self.cells)]

    def note(self, event: Event) -> None:
        """Record the state of a cell."""
        if event.kind == "started":
            self.tries[event.job, event.cell] += 1
        if event.kind in ("done", "waits"):  # the next sweep asks again; to ask at once is of no use
            self.done.add((event.job, event.cell))

    def after(self, job: SweepJob) -> list[SweepJob]:
        """Return the jobs that follow a job that has ended."""
        if not any(self.tries[job.name, cell.name] for cell in job.cells):
            self.tries[job.name, job.cells[0].name] = ATTEMPTS  # the process was lost before its first cell
        tried = {cell: (job.name, cell.name) for cell in job.cells}
        left = tuple(cell for cell, of in tried.items() if of not in self.done and self.tries[of] < ATTEMPTS)
        if left:
            return [self._job_of(job.share, left)]
        self.unfinished -= job.share is not None
        if job.share is None or self.unfinished:
            return []
        self._gather()
        return [self._job_of(None, self.cells)]

    def weight(self, job: SweepJob) -> float:
        """Return a job's share of the work on its cells."""
        return 1 / job.share[1] if job.share else float(not self.shares)

    def _job_of(self, share: tuple[int, int] | None, cells: tuple[Cell, ...]) -> SweepJob:
        if share is None:
            return SweepJob(self.name, cells, self.folder, self.store)
        name = f"{self.name}.share-{share[0]}-of-{share[1]}"
        # Each try has a file of its own, because a process that counts as lost may still write.
        earlier = self._files(name)
        store = self.store.with_name(f"{name}.{len(earlier)}.sqlite")
        merge([*earlier, *([self.store] if self.store.is_file() else [])], into=store)
        return SweepJob(name, cells, self.folder, store, share)

    def _gather(self) -> None:
        """Merge the answers of all shares, of this sweep or an interrupted one, into the store of the group."""
        files = self._files(f"{self.name}.share-")
        merge(files, into=self.store)
        for file in files:
            file.unlink()

    def _files(self, beginning: str) -> list[Path]:
        return sorted(self.store.parent.glob(f"{glob.escape(beginning)}*.sqlite"))

"""Runs jobs on one machine, each in a process of its own, so that the sweep survives the loss of a process."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from ambi_eval.config.grid import GridModel
from ambi_eval.engines.base import arguments_of, find_engine
from ambi_eval.sweep.jobs import Event, SweepJob, run_job


class LocalRunner:
    """Runs jobs one after another, each in a process of its own."""

    def __init__(self) -> None:
        """Set up without jobs."""
        self.jobs: deque[SweepJob] = deque()
        self.process: BaseProcess | None = None
        self.model: GridModel | None = None
        self.shared = ExitStack()

    def submit(self, job: SweepJob) -> None:
        """Add a job; jobs run in the order in which they were added."""
        self.jobs.append(job)

    def events(self) -> Iterator[Event]:
        """Yield events until no job is left; the last event of each job is `ended`."""
        # Not `fork`, because torch starts threads, and a process with threads must not be forked.
        context = multiprocessing.get_context("spawn")
        while self.jobs:
            job = self.jobs.popleft()
            self._share(job.cells[0].model)
            here, there = context.Pipe(duplex=False)
            self.process = context.Process(target=_work, args=(job, there), name=job.name)
            # Ctrl-C reaches every process of a terminal; the others ignore it, and the sweep ends them.
            answer = signal.signal(signal.SIGINT, signal.SIG_IGN)
            self.process.start()
            signal.signal(signal.SIGINT, answer)
            there.close()  # so that the pipe closes when the process ends
            while True:
                try:
                    yield here.recv()
                except EOFError:
                    break
            self.process.join()
            code = self.process.exitcode
            yield Event(job.name, "ended", reason=f"its process ended with exit code {code}" if code else "")

    def _share(self, model: GridModel) -> None:
        """Start what the jobs of a model share, such as a server, after what earlier jobs shared has ended."""
        if model == self.model:
            return
        self.shared.close()
        self.model = model
        if arguments := arguments_of(model.model):
            given = arguments.read(model.model_args, model.model)
            found = self.shared.enter_context(find_engine(model.model).shared(given))
            os.environ.update(found)  # new processes inherit it
            self.shared.callback(lambda: [os.environ.pop(name) for name in found])

    def close(self) -> None:
        """End the running process and what the jobs share."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
        self.shared.close()


def _work(job: SweepJob, pipe: Connection) -> None:
    run_job(job, pipe.send)

"""Runs jobs on many machines: Ray gives each job a process and GPUs on a machine that has free ones."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from ambi_eval.config.grid import GridModel
from ambi_eval.errors import AmbiError
from ambi_eval.paths import data_dir
from ambi_eval.sweep.jobs import Event, SweepJob, run_job

POLL_SECONDS = 0.5
LONGEST_SOCKET_PATH = 107


class RayRunner:
    """Runs jobs as tasks of Ray, as many at once as there are resources for.

    Only jobs and events are sent between machines. A job writes its results to files, so that nothing is lost with a
    process. Ray repeats no job; the sweep repeats the missing cells.
    """

    def __init__(self, models: Mapping[str, GridModel], address: str | None = None) -> None:
        """Connect to the cluster at an address, or to this machine's (`auto`); None starts one here."""
        try:
            import ray
            from ray.util.queue import Queue
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
        except ImportError as error:
            raise AmbiError("--engine ray needs Ray: pip install 'ambi-eval[ray]'") from error
        self.ray = ray
        if address is None:
            _refuse_long_paths()
        try:
            _refuse_silent_address(address)
            ray.init(
                address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {"AMBI_DATA": str(data_dir())}},
                include_dashboard=None if address else False,
            )
        except (ConnectionError, TimeoutError, socket.gaierror) as error:
            fix = "start one with `ray start --head`, or leave out --address to use this machine alone"
            raise AmbiError(f"no Ray cluster at '{address}': {fix}") from error
        gpus = ray.cluster_resources().get("GPU", 0)
        for name, model in models.items():
            if model.gpus > gpus:
                self.close()
                what = f"the model {name} takes {model.gpus:g} GPU, the Ray cluster has {gpus:g}"
                raise AmbiError(f"{what}: say how many in the grid (models: {name}: gpus: 0)")
        # The queue of events stays on this machine: on another one it could be lost with that machine.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.sent = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self.jobs: dict[Any, SweepJob] = {}

    def submit(self, job: SweepJob) -> None:
        """Add a job; it starts as soon as a machine has room for it."""
        # `max_calls=1` ends the process with its job, which frees the GPU's memory.
        work = self.ray.remote(num_cpus=1, num_gpus=job.cells[0].model.gpus, max_retries=0, max_calls=1)(_work)
        self.jobs[work.remote(job, self.sent)] = job

    def events(self) -> Iterator[Event]:
        """Yield events until no job is left; the last event of each job is `ended`."""
        while self.jobs:
            ended, _ = self.ray.wait(list(self.jobs), num_returns=len(self.jobs), timeout=POLL_SECONDS)
            yield from self.sent.get_nowait_batch(self.sent.qsize())
            for task in ended:
                job = self.jobs.pop(task)
                try:
                    self.ray.get(task)
                    reason = ""
                except self.ray.exceptions.RayError as error:
                    reason = str(error).strip().splitlines()[0]
                yield Event(job.name, "ended", reason=reason)

    def close(self) -> None:
        """Leave the cluster; running jobs end."""
        self.ray.shutdown()


def _refuse_long_paths() -> None:
    """Raise an error if the paths of Ray's sockets would be too long: Ray itself would retry for a long time."""
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    room = LONGEST_SOCKET_PATH - len("/ray/session_2026-01-31_12-00-00_000000_1234567/sockets/plasma_store")
    if len(folder) > room:
        what = f"the folder for temporary files has a path of more than {room} characters ({folder})"
        raise AmbiError(f"{what}, too long for Ray's sockets: set TMPDIR to a shorter one, for example TMPDIR=/tmp")


def _refuse_silent_address(address: str | None) -> None:
    """Raise an error at once if nothing listens at `host:port`: Ray itself would retry for many minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


def _work(job: SweepJob, sent: Any) -> None:
    run_job(job, sent.put)  # `put` waits until the event has arrived, so that it comes before the end of its job

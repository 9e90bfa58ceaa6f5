"""The work of one process of a sweep: it loads a model once, and runs cells of the grid one after another."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ambi_eval.engines.base import arguments_of
from ambi_eval.errors import AmbiError, NotYetError
from ambi_eval.paths import writing
from ambi_eval.sweep.grid import Cell

HEARTBEAT_SECONDS = 1.0
# The last file that is written into the folder of a cell: if it exists, the results are complete.
DONE = "cell.json"
# Counters of a model behind a service; like its `totals` they count on from cell to cell.
SPENT = ("cost", "audio_seconds", "cost_unanswered_at_most")


@dataclass(frozen=True, eq=False)
class SweepJob:
    """Work for one process: cells of one group. Of all clips it writes results; of a share it only fills its store."""

    name: str
    cells: tuple[Cell, ...]
    folder: Path  # folder of the grid
    store: Path  # file for the answers; no other process has it open
    share: tuple[int, int] | None = None  # `(i, n)` for clips i, i + n, i + 2n ... of each cell; None for all clips.

    @property
    def log(self) -> str:
        """Name of the file, in the folder of each cell, for the output of the process."""
        return "log.txt" if self.share is None else f"log.share-{self.share[0]}-of-{self.share[1]}.txt"


@dataclass(frozen=True)
class Event:
    """An event in a job."""

    job: str
    # A cell has `started`, makes `progress`, is `done`, `waits` for a service or has `failed`; or the job has `ended`.
    kind: Literal["started", "progress", "done", "waits", "failed", "ended"]
    cell: str = ""  # name of the cell; empty for `ended`
    fraction: float = 0.0  # share of the cell's clips that is done, 0 to 1
    answers_per_second: float = 0.0  # mean rate since the cell's first answer
    reason: str = ""  # why the cell failed or waits, or why the process of the job was lost; else empty
    # For `done`: `jsd_bits` by pipeline; empty for a share of the clips.
    jsd: Mapping[str, float] = field(default_factory=dict)


Report = Callable[[Event], None]


def results_file(folder: Path, cell: Cell) -> Path | None:
    """Return the results file of a cell; None if it is missing, was changed, or has another configuration."""
    try:
        done = json.loads((folder / cell.name / DONE).read_text(encoding="utf-8"))
        whole = all(_digest(folder / cell.name / name) == digest for name, digest in done["files"].items())
        return folder / cell.name / done["results"] if whole and done["identity"] == cell.identity else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def run_job(job: SweepJob, report: Report) -> None:
    """Run the cells of a job; a cell that fails or must wait does not stop the others."""
    worker = _Worker(job)
    for cell in job.cells:
        folder = job.folder / cell.name
        folder.mkdir(parents=True, exist_ok=True)
        with _output_to(folder / job.log):
            report(Event(job.name, "started", cell.name))
            with _heartbeat(job, cell, report):
                kind, reason = outcome(worker, cell)
        fraction, jsd = (1.0, worker.jsd) if kind == "done" else (0.0, {})
        report(Event(job.name, kind, cell.name, fraction, reason=reason, jsd=jsd))
    del worker
    gc.collect()  # closes the store, which another process opens after the job


def outcome(worker: _Worker, cell: Cell) -> tuple[Literal["done", "waits", "failed"], str]:
    """Run a cell, and return how it ended and why; no error may stop the other cells."""
    try:
        worker.run(cell)
    except NotYetError as error:
        return "waits", str(error)
    except Exception as error:
        with suppress(OSError):  # a full disk may be the failure, and the log lies on it
            traceback.print_exc()
        return "failed", str(error) if isinstance(error, AmbiError) else f"{type(error).__name__}: {error}"
    return "done", ""


class _Worker:
    """Runs cells as the stock `lm_eval` does, except that the model is loaded once for all of them."""

    def __init__(self, job: SweepJob) -> None:
        self.job = job
        self.model = job.cells[0].model
        self.seed = job.cells[0].seed
        self.jsd: dict[str, float] = {}  # of the last cell, by pipeline

    @cached_property
    def model_args(self) -> dict[str, Any]:
        store = {"store": str(self.job.store)} if arguments_of(self.model.model) else {}
        return {**self.model.model_args, **store}

    @cached_property
    def lm(self) -> Any:
        import lm_eval.models  # noqa: F401 - fills the registry
        from lm_eval.api.registry import get_model
        from lm_eval.utils import set_torch_seed

        set_torch_seed(self.seed)  # as the harness does before it loads a model
        return get_model(self.model.model).create_from_arg_obj(self.model_args, {"batch_size": self.model.batch_size})

    def run(self, cell: Cell) -> None:
        from lm_eval import simple_evaluate
        from lm_eval.loggers import EvaluationTracker
        from lm_eval.tasks import TaskManager

        self.jsd = {}
        share = self.job.share
        clips = list(range(share[0], cell.clips, share[1])) if share else None
        if clips == []:
            return  # more processes than clips
        tracker = EvaluationTracker(output_path=str(self.job.folder / cell.name))
        before = self._counts()
        results = simple_evaluate(
            model=self.lm,
            model_args=self.model_args,
            tasks=[cell.task],
            batch_size=self.model.batch_size,
            limit=cell.limit if clips is None else None,
            samples=None if clips is None else {cell.task: clips},
            predict_only=clips is not None,
            evaluation_tracker=tracker,
            task_manager=TaskManager(
                include_path=str(cell.source.parent),
                include_defaults=False,
                metadata={**self.model_args, **cell.metadata},
            ),
            random_seed=self.seed,
            numpy_random_seed=self.seed,
            torch_random_seed=self.seed,
            fewshot_random_seed=self.seed,
        )
        if clips is None:
            self._save(cell, results, tracker, before)

    def _counts(self) -> dict[str, float]:
        names = {*getattr(self.lm, "totals", ()), *SPENT}
        return {name: count for name, count in self._info().items() if name in names}

    def _info(self) -> dict[str, Any]:
        return self.lm.get_model_info().get("ambi", {}) if hasattr(self.lm, "get_model_info") else {}

    def _save(self, cell: Cell, results: Any, tracker: Any, before: Mapping[str, float]) -> None:
        from ambi_eval.harness.evaluation import write_results
        from ambi_eval.harness.results import read_runs

        # The harness names a model by its class if it did not load it itself.
        results["config"]["model"] = tracker.general_config_tracker.model_source = self.model.model
        for name, count in before.items():
            results["config"]["ambi"][name] -= count  # the model's counters continue from cell to cell
        scores = {name.partition(","): score for name, score in results["results"][cell.task].items()}
        self.jsd = {pipeline: score for (metric, _, pipeline), score in scores.items() if metric == "jsd_bits"}
        write_results(results, tracker)
        folder = self.job.folder / cell.name
        file = next(folder.rglob(f"results_{tracker.date_id}.json"))
        read_runs(file)  # the harness only logs a failed write, so read the file back
        files = [file, *file.parent.glob(f"samples_*_{tracker.date_id}.jsonl")]
        note = {
            "results": str(file.relative_to(folder)),
            "files": {str(each.relative_to(folder)): _digest(each) for each in files},
            "identity": cell.identity,
        }
        with writing(folder / DONE, "give another --out") as unfinished:
            unfinished.write_text(json.dumps(note, indent=1))


@contextmanager
def _output_to(log: Path) -> Iterator[None]:
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    with log.open("a", encoding="utf-8") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        logging.getLogger(__name__).info("process %d on %s", os.getpid(), socket.gethostname())
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        for descriptor, before in zip((1, 2), kept, strict=True):
            os.dup2(before, descriptor)
            os.close(before)


@contextmanager
def _heartbeat(job: SweepJob, cell: Cell, report: Report) -> Iterator[None]:
    """Report how far the cell is, every second, from the progress bar that its model shows."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            fraction, speed = _progress()
            try:
                report(Event(job.name, "progress", cell.name, fraction, speed))
            except OSError:
                os._exit(1)  # the sweep has ended, so nobody needs the results

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _progress() -> tuple[float, float]:
    """Return the share of the model's requests that is answered, and the number of answers a second."""
    from tqdm import tqdm

    bars: Any = tqdm
    for bar in list(bars._instances):  # as tqdm's own monitor finds the visible bars
        if bar.unit in ("answers", "likelihoods") and bar.total:
            return bar.n / bar.total, bar.n / max(time.time() - bar.start_t, 1e-9)
    return 0.0, 0.0

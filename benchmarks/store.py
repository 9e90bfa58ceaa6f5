"""How fast the candidate store is written by several processes at once, and read at the start of a run.

    python benchmarks/store.py [--processes 1 2 4] [--rows 20000] [--read-rows 100000] [--json FILE]

Answers are written as a run writes them, a pool of 20 samples in each transaction. The file lies in the folder for
temporary files. Rows per second are those of this machine; the last column compares them within this run. The last
line says which share of its time a model takes to write its answers: ambi-tiny on the demo corpus, of all models the
one for which it is largest.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import perf_counter
from typing import Any

from ambi_eval.answers.candidate import Candidate
from ambi_eval.inference.rows import pool_key
from ambi_eval.inference.store import CandidateStore

POOL = {k: Candidate("neutral", logprob=-0.3 - k / 7, n_tokens=3, finish="stop") for k in range(20)}
PROVENANCE = {"device": "cpu"}


def write(path: Path, pools: list[str], start: Barrier) -> None:
    """Write the pools, one transaction each, once all processes are ready."""
    with CandidateStore(path) as store:
        start.wait()
        for pool in pools:
            store.add_samples({pool: POOL}, PROVENANCE)


def measure_writing(path: Path, n_processes: int, rows: int) -> float:
    """Return the rows per second that all processes together write, `rows` of them each."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(n_processes + 1, timeout=60)
    pools = [[pool_key(process=process, clip=clip) for clip in range(rows // 20)] for process in range(n_processes)]
    writers = [context.Process(target=write, args=(path, own, start)) for own in pools]
    for writer in writers:
        writer.start()
    start.wait()
    began = perf_counter()
    for writer in writers:
        writer.join()
    seconds = perf_counter() - began
    with CandidateStore(path) as store:
        written = sum(store.origins(key for own in pools for key in own).values())
    assert written == n_processes * (rows // 20) * 20
    return written / seconds


def measure_reading(path: Path, rows: int) -> tuple[float, float]:
    """Return the rows per second that one process reads: pool by pool, and all pools at once."""
    wanted = {pool_key(clip=clip): range(20) for clip in range(rows // 20)}
    with CandidateStore(path) as store:
        store.add_samples(dict.fromkeys(wanted, POOL), PROVENANCE)
        began = perf_counter()
        for pool, indices in wanted.items():
            store.samples({pool: indices})
        one_by_one = perf_counter()
        found = store.samples(wanted)
        at_once = perf_counter()
    n_found = sum(map(len, found.values()))
    return n_found / (one_by_one - began), n_found / (at_once - one_by_one)


def share_of_a_run(path: Path) -> float:
    """Return the share of its time that ambi-tiny takes to write what it answers to `sc` of the demo corpus."""
    from lm_eval.tasks import TaskManager

    from ambi_eval.models.hf_audio import HFAudio
    from ambi_eval.paths import tasks_dir

    model = HFAudio("ambi-tiny", device="cpu", store=str(path), seed=0, batch_size=4)
    manager = TaskManager(include_path=str(tasks_dir()), include_defaults=False)
    task = manager.load(["ambi_demo_sc"])["tasks"]["ambi_demo_sc"]
    task.set_config("num_fewshot", 0)
    task.build_all_requests()
    keep, spent = model.cache.keep_answers, 0.0

    def timed(*answers: Any) -> None:
        nonlocal spent
        began = perf_counter()
        keep(*answers)
        spent += perf_counter() - began

    model.cache.keep_answers = timed  # type: ignore[method-assign]
    began = perf_counter()
    model.generate_until([request for request in task.instances for _ in range(request.repeats)], disable_tqdm=True)
    return spent / (perf_counter() - began)


def main() -> None:
    """Measure writing and reading and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rows", type=int, default=20_000, help="rows that each process writes")
    parser.add_argument("--read-rows", type=int, default=100_000, help="rows that are read")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        writing = {
            f"write, processes: {n}": measure_writing(Path(folder, f"{n}.sqlite"), n, arguments.rows)
            for n in arguments.processes
        }
        one_by_one, at_once = measure_reading(Path(folder, "read.sqlite"), arguments.read_rows)
        share = share_of_a_run(Path(folder, "run.sqlite"))
    reading = {"read, pool by pool": one_by_one, "read, all at once": at_once}
    figures = [
        {"what": what, "rows_per_second": round(speed), "ratio_to_first": speed / next(iter(group.values()))}
        for group in (writing, reading)
        for what, speed in group.items()
    ]
    print(f"{'':<22}{'rows/s':>10}{'ratio':>8}")
    for figure in figures:
        print(f"{figure['what']:<22}{figure['rows_per_second']:>10,}{figure['ratio_to_first']:>8.2f}")
    print(f"{share:.1%} of the time in which ambi-tiny answers is writing")
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": figures, "share_of_a_run": share}, indent=1))


if __name__ == "__main__":
    main()

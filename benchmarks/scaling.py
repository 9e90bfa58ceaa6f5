"""What a grid costs, how it scales over processes, and what the slowest of them costs at the end.

    python benchmarks/scaling.py measure [--clips 72] [--workers 1 2]
    python benchmarks/scaling.py cost grids/paper.yaml --clips iemocap=4373 msp_podcast=4114 crema_d=7442
    python benchmarks/scaling.py stragglers runs/demo-grid/ambi-tiny/ambi_demo_cot [--clips 5000] [--gpus 1 8 32 100]

`measure` lets processes of ambi-tiny, one thread each, answer `sc` of the demo corpus, and says how much faster several
are than one, without the start of Python and the loading of the model; and how much more processor time they take in
all, which is steadier where others use the machine. `cost` needs no corpus and no GPU: it multiplies out a grid, and
gives the hours of the models that take GPUs, for the speeds that are asked for; `benchmarks/decoding.py --size 7b
--device cuda` measures one. `stragglers` deals the clips of a real run to many GPUs, as `ambi-eval sweep --replicas`
does, and says how long the others wait for the last.
"""

from __future__ import annotations

import argparse
import heapq
import json
import multiprocessing
import os
import tempfile
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import soundfile


def answer(share: int, shares: int, clips: int, start: Barrier, end: Barrier, spent: Any) -> None:
    """Answer every `shares`-th clip, once all processes have loaded the model; put the processor time into `spent`."""
    import torch

    torch.set_num_threads(1)
    from lm_eval.tasks import TaskManager

    from ambi_eval.models.hf_audio import HFAudio
    from ambi_eval.paths import tasks_dir

    model = HFAudio("ambi-tiny", device="cpu", store="none", seed=0, batch_size=4)
    manager = TaskManager(include_path=str(tasks_dir()), include_defaults=False)
    task = manager.load(["ambi_demo_sc"])["tasks"]["ambi_demo_sc"]
    task.set_config("num_fewshot", 0)
    task.build_all_requests(samples=list(range(share, clips, shares)))
    requests = [request for request in task.instances for _ in range(request.repeats)]
    model.generate_until(requests[:20])  # whatever is done once is done now
    start.wait()
    began = process_time()
    model.generate_until(requests)
    spent.put(process_time() - began)
    end.wait()


def measure(workers: int, clips: int) -> tuple[float, float]:
    """Return the seconds, and the processor time of all together, that so many processes take to answer the clips."""
    context = multiprocessing.get_context("spawn")
    start, end = context.Barrier(workers + 1), context.Barrier(workers + 1)
    spent = context.Queue()
    processes = [context.Process(target=answer, args=(i, workers, clips, start, end, spent)) for i in range(workers)]
    for process in processes:
        process.start()
    start.wait(timeout=300)
    began = perf_counter()
    end.wait(timeout=600)
    seconds = perf_counter() - began
    for process in processes:
        process.join()
    return seconds, sum(spent.get() for _ in processes)


def print_measured(arguments: argparse.Namespace) -> None:
    """Measure, alternating between the numbers of workers, and print how each compares with the first."""
    from ambi_eval.corpora.registry import ensure_manifest

    os.environ.update(OMP_NUM_THREADS="1", TQDM_DISABLE="1")
    ensure_manifest("demo")
    taken: dict[int, list[tuple[float, float]]] = {workers: [] for workers in arguments.workers}
    for _ in range(arguments.repetitions):
        for workers in arguments.workers:
            taken[workers].append(measure(workers, arguments.clips))
    first = np.array(taken[arguments.workers[0]])
    print(f"{'workers':>8}{'times as fast':>26}{'processor time':>26}   ratios: median (least to most)")
    for workers, each in taken.items():
        ratios = [first[:, 0] / np.array(each)[:, 0], np.array(each)[:, 1] / first[:, 1]]
        said = [f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})" for ratio in ratios]
        print(f"{workers:>8}{said[0]:>26}{said[1]:>26}   seconds: {', '.join(f'{seconds:.1f}' for seconds, _ in each)}")


def print_cost(arguments: argparse.Namespace) -> None:
    """Print the clips, answers and tokens of a grid, and GPU hours for a range of speeds."""
    from ambi_eval.config.load import load_corpus
    from ambi_eval.corpora.manifest import Clip, write_manifest
    from ambi_eval.sweep.grid import read_grid

    with tempfile.TemporaryDirectory() as folder:
        os.environ["AMBI_DATA"] = folder
        audio = f"{folder}/silence.wav"  # for all clips: a grid is only read if their files exist
        soundfile.write(audio, np.zeros(1600), 16_000)
        for corpus, count in arguments.clips.items():
            votes = dict.fromkeys(load_corpus(corpus).labels, 1.0)
            clips = (Clip(id=str(i), audio=audio, speaker="0", session="0", votes=votes) for i in range(count))
            write_manifest(Path(folder, corpus, "manifest.parquet"), clips)
        cells = read_grid(arguments.grid)
    rows: dict[str, list[Any]] = {}
    for cell in cells:
        row = rows.setdefault(f"{cell.model_name}, {cell.task.rpartition(f'{cell.corpus}_')[2]}", [0, 0, 0, 0])
        tokens = cell.answers * cell.max_tokens
        for column, value in enumerate((cell.clips, cell.answers, tokens, tokens if cell.model.gpus else 0)):
            row[column] += value
    rows[f"all {len(cells)} runs"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    speeds = arguments.tokens_per_second
    print(f"{'':<34}{'clips':>10}{'answers':>12}{'tokens <=':>14}" + "".join(f"{f'GPU h @ {s:,}':>14}" for s in speeds))
    for name, (clips, answers, tokens, on_gpus) in rows.items():
        hours = "".join(f"{on_gpus / speed / 3600:>14,.1f}" for speed in speeds)
        print(f"{name:<34}{clips:>10,}{answers:>12,}{tokens:>14,}{hours}")


def makespan(lengths: np.ndarray, gpus: int, places: int, in_turn: bool) -> float:
    """Return when the last clip is done, as a multiple of the time that the work would take if it were spread evenly.

    Args:
        lengths: What each clip takes: the tokens of its longest answer, as its answers are generated together.
        gpus: How many GPUs there are.
        places: How many clips a GPU works on at once; a place that gets free takes the next clip.
        in_turn: Whether clip i is given to GPU i modulo `gpus` beforehand, or to the first that is free.
    """
    queues = [lengths[gpu::gpus] for gpu in range(gpus)] if in_turn else [lengths]
    ends = []
    for queue in queues:
        busy = [0.0] * (places if in_turn else places * gpus)
        for length in queue:
            heapq.heapreplace(busy, busy[0] + length)
        ends.append(max(busy))
    return max(ends) / (lengths.sum() / (gpus * places))


def print_stragglers(arguments: argparse.Namespace) -> None:
    """Print what the slowest GPU costs, and how long the answers of the run are."""
    from ambi_eval.harness.results import read_runs

    file = sorted(arguments.run.rglob("samples_*.jsonl"))[-1]
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    first = samples[0]["filter"]
    tokens = np.array([sample["doc"]["candidates"]["n_tokens"] for sample in samples if sample["filter"] == first])
    rng = np.random.default_rng(0)
    model = read_runs(arguments.run)[0].model
    print(
        f"{model}, {file.name.split('_2')[0]}: {len(tokens)} clips x {tokens.shape[1]} answers, tokens of an answer: "
        f"mean {tokens.mean():.1f}, median {np.median(tokens):.0f}, 99 % {np.quantile(tokens, 0.99):.0f}, "
        f"most {tokens.max()}"
    )
    longest = tokens.max(axis=1)
    print(f"{'GPUs':>6}{'clips each':>12}{'shares dealt in turn':>22}{'one queue':>12}   last / even")
    for gpus in arguments.gpus:
        drawn = [longest[rng.integers(len(longest), size=arguments.clips)] for _ in range(20)]
        ways = [np.mean([makespan(each, gpus, arguments.places, way) for each in drawn]) for way in (True, False)]
        print(f"{gpus:>6}{arguments.clips / gpus:>12,.0f}{ways[0]:>22.3f}{ways[1]:>12.3f}")


def count_of(text: str) -> tuple[str, int]:
    """Read `corpus=clips`."""
    corpus, _, clips = text.partition("=")
    return corpus, int(clips)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    measuring = commands.add_parser("measure", help="processes on this machine")
    measuring.add_argument("--clips", type=int, default=72)
    measuring.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    measuring.add_argument("--repetitions", type=int, default=3)
    measuring.set_defaults(run_command=print_measured)
    costing = commands.add_parser("cost", help="a grid multiplied out")
    costing.add_argument("grid", type=Path)
    costing.add_argument("--clips", type=count_of, nargs="+", required=True, metavar="CORPUS=CLIPS")
    costing.add_argument("--tokens-per-second", type=int, nargs="+", default=[1_000, 3_000, 10_000])
    costing.set_defaults(run_command=print_cost)
    waiting = commands.add_parser("stragglers", help="the clips of a run dealt to many GPUs")
    waiting.add_argument("run", type=Path, help="a folder that holds a results file")
    waiting.add_argument("--clips", type=int, default=5_000)
    waiting.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 32, 100])
    waiting.add_argument("--places", type=int, default=16, help="clips that a GPU works on at once")
    waiting.set_defaults(run_command=print_stragglers)
    arguments = parser.parse_args()
    if "clips" in arguments and isinstance(arguments.clips, list):
        arguments.clips = dict(arguments.clips)
    arguments.run_command(arguments)


if __name__ == "__main__":
    main()

"""What strategies cost against one another: `exact` against sampling, and `asc` against the full `sc`.

    python benchmarks/strategies.py exact             `exact` against 20 clones of `sc` and against `sc` at N = 1
    python benchmarks/strategies.py asc runs/demo     answers saved and score lost, from a run of both tasks

For `exact` the model is the random Qwen2-Audio of `benchmarks/decoding.py`. Every label is one token, so that an answer
of `sc` is as short as an answer can be: the label and the end of the turn. The two that are compared take turns; what
counts are the ratios within one turn.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile
import torch
from decoding import QUESTION, build, make_inputs, timed
from lm_eval.api.instance import Instance

from ambi_eval.analysis import estimate as intervals
from ambi_eval.harness.results import TaskRun, read_runs
from ambi_eval.metrics import METRICS
from ambi_eval.models.hf_audio import HFAudio

LABELS = ["angry", "happy", "neutral", "sad"]
CLONES = 20
NAMES = {"sc1": "sc at N = 1", "clones": f"{CLONES} clones of sc"}
ANSWER_TOKENS = 2
COMPARED = ("jsd_bits", "bc", "acc")


def load(size: str, device: torch.device) -> HFAudio:
    """Return the random model behind `hf-audio`, with every label one token."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    family = build(size, device, dtype)
    family.processor.tokenizer.add_tokens(LABELS)
    with tempfile.TemporaryDirectory() as folder:
        family.model.save_pretrained(folder)
        family.processor.save_pretrained(folder)
        return HFAudio(folder, device=str(device), dtype=dtype, seed=0, store="none")


def ways(lm: HFAudio, seconds: float, n_clips: int, folder: Path) -> dict[str, Callable[[], Any]]:
    """Return the three ways to ask about some clips of noise."""
    rng = np.random.default_rng(0)
    heard = []
    for number in range(n_clips):
        path = folder / f"{number}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(int(16_000 * seconds)), 16_000)
        heard.append({"audio": [{"path": str(path)}]})
    context = f"<audio>{QUESTION}"
    sampled = {"do_sample": True, "temperature": 1.0, "max_gen_toks": ANSWER_TOKENS}
    one_each = [Instance("generate_until", {}, (context, sampled, audio), 0, ("sc", 0, 1)) for audio in heard]
    labels = [
        Instance("loglikelihood", {}, (context, label, {**audio, "end_of_turn": True}), i, ("exact", 0, 1))
        for audio in heard
        for i, label in enumerate(LABELS)
    ]
    inputs = make_inputs(lm.engine.family, seconds, n_clips)
    fixed = {"do_sample": True, "top_k": 0, "max_new_tokens": ANSWER_TOKENS, "min_new_tokens": ANSWER_TOKENS}

    def clones() -> None:
        for each in inputs:
            copies = {name: value.repeat_interleave(CLONES, 0) for name, value in each.items()}
            lm.engine.family.model.generate(**copies, **fixed)

    return {
        "exact": lambda: lm.loglikelihood(labels, disable_tqdm=True),
        "sc1": lambda: lm.generate_until(one_each, disable_tqdm=True),
        "clones": clones,
    }


def exact(arguments: argparse.Namespace) -> None:
    """Time `exact` in turn with `sc` at N = 1 and with the clones, and print the ratios."""
    device = torch.device(arguments.device)
    lm = load(arguments.size, device)
    with tempfile.TemporaryDirectory() as folder:
        ask = ways(lm, arguments.seconds, arguments.clips, Path(folder))
        for name, turns in (("sc1", arguments.repetitions), ("clones", arguments.clone_repetitions)):
            for way in ("exact", name):
                ask[way]()  # a round that does not count
            pairs = [(timed(ask["exact"], device), timed(ask[name], device)) for _ in range(turns)]
            ratios = sorted(ours / other for ours, other in pairs)
            ours, other = (median(times) / arguments.clips for times in zip(*pairs, strict=True))
            print(
                f"exact / {NAMES[name]}: {median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f} in {turns} turns; "
                f"{ours:.4f} s and {other:.4f} s per clip)"
            )


def asc(arguments: argparse.Namespace) -> None:
    """Print what every adaptive task of a run saved and lost against the full pool of the same question."""
    for run in read_runs(arguments.run):
        for adaptive in run.tasks.values():
            for full in run.tasks.values():
                if adaptive.settings.stop_rule and _is_full_pool_of(full, adaptive):
                    _compare(adaptive, full)


def _is_full_pool_of(full: TaskRun, adaptive: TaskRun) -> bool:
    same = ("doc_to_text", "generation_kwargs", "repeats", "control", "transcript", "manifest", "labels")
    one, other = full.settings, adaptive.settings
    return not one.stop_rule and all(getattr(one, key) == getattr(other, key) for key in same)


def _compare(adaptive: TaskRun, full: TaskRun) -> None:
    clusters, votes = adaptive.selection.clusters, adaptive.votes
    first = next(iter(adaptive.pipelines.values()))
    drawn = intervals.of_mean(first.logged["answers_per_clip"], clusters)
    size = adaptive.settings.repeats
    print(f"{adaptive.name} against {full.name}, {len(votes)} clips")
    print(f"  answers per clip: {_said(drawn, 1)} of {size}, {1 - drawn.value / size:.0%} saved")
    for name, pipeline in adaptive.pipelines.items():
        for metric in COMPARED:
            scores = [np.asarray(METRICS[metric].per_clip(p, votes)) for p in (pipeline.p, full.pipelines[name].p)]
            lost = intervals.of_mean(scores[0] - scores[1], clusters)
            print(f"  {name} {metric}: {scores[0].mean():.4f} - {scores[1].mean():.4f} = {_said(lost, 4)}")


def _said(estimate: intervals.Estimate, places: int) -> str:
    return f"{estimate.value:.{places}f} [{estimate.low:.{places}f}, {estimate.high:.{places}f}]"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    timing = commands.add_parser("exact")
    timing.add_argument("--size", choices=("mid", "7b"), default="mid")
    timing.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    timing.add_argument("--seconds", type=float, default=10.0, help="of audio per clip")
    timing.add_argument("--clips", type=int, default=2)
    timing.add_argument("--repetitions", type=int, default=15)
    timing.add_argument("--clone-repetitions", type=int, default=2, help="of the clones, which take much longer")
    timing.set_defaults(run_command=exact)
    reading = commands.add_parser("asc")
    reading.add_argument("run", type=Path, help="folder or results file of lm_eval ... --log_samples --output_path")
    reading.set_defaults(run_command=asc)
    arguments = parser.parse_args()
    arguments.run_command(arguments)


if __name__ == "__main__":
    main()

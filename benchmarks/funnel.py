"""What it costs to record states: the likelihoods of four labels about each clip, without the recorder and with it.

    python benchmarks/funnel.py                              the mid-size model of decoding.py, on the CPU
    python benchmarks/funnel.py --size 7b --device cuda      Qwen2-Audio-7B's shape in bfloat16

The last line is the ratio of processor time (of wall time on a GPU), the median over pairs that follow each other.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import torch
from decoding import build, make_inputs

from ambi_eval.engines.hf.prompts import Continuation, Prompt
from ambi_eval.engines.hf.scheduler import Scheduler
from ambi_eval.funnel.recorder import StateRecorder
from ambi_eval.funnel.states import StateFolder

LABELS = ("angry", "happy", "neutral", "sad")


def prompts(family: Any, inputs: list[Any]) -> list[Prompt]:
    """Return a prompt about each clip that asks for the likelihood of every label."""
    tokens = [family.processor.tokenizer.encode(label, add_special_tokens=False) for label in LABELS]
    return [
        Prompt(each, continuations=[Continuation(label, False) for label in tokens], heard=number)
        for number, each in enumerate(inputs)
    ]


def exact(family: Any, inputs: list[Any]) -> None:
    """Read the likelihoods of all labels about each clip."""
    for _ in Scheduler(family).loglikelihoods(prompts(family, inputs)):
        pass


def exact_with_states(family: Any, inputs: list[Any]) -> None:
    """Do the same, record the states of each clip and write them."""
    with TemporaryDirectory() as folder, StateRecorder(family) as recorder:
        kept = StateFolder(Path(folder), {"digest": "benchmark"})
        for prompt, _ in Scheduler(family).loglikelihoods(prompts(family, inputs)):
            kept.add(str(prompt.heard), recorder.take(prompt.length))
        kept.flush()


def main() -> None:
    """Measure both in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="mid", choices=("mid", "7b"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    family = build(arguments.size, device, torch.float32 if device.type == "cpu" else torch.bfloat16)
    inputs = make_inputs(family, arguments.seconds, arguments.clips)
    clock = process_time if device.type == "cpu" else perf_counter

    def timed(way: Any) -> float:
        start = clock()
        way(family, inputs)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return clock() - start

    exact_with_states(family, inputs[:1])  # a round that does not count
    pairs = [(timed(exact), timed(exact_with_states)) for _ in range(arguments.repetitions)]
    for alone, recorded in pairs:
        print(f"exact {alone:.2f} s  with states {recorded:.2f} s")
    print(f"ratio {median(recorded / alone for alone, recorded in pairs):.3f}")


if __name__ == "__main__":
    main()

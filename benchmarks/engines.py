"""hf-audio and a vLLM server on the same questions, in turns: wall time, processor time and tokens a second.

    python benchmarks/engines.py --vllm VENV                    all rows, on two threads in float32
    python benchmarks/engines.py --vllm VENV --rows sampled/8 exact --repetitions 1 --json engines.json

The table is Markdown. With `--json`, a run that was stopped goes on: rows that the file holds are not measured again.

The model has Qwen2-Audio's architecture and random weights (`decoding.py`, size mid), which cost what trained ones do.
Both engines answer the same jobs through the same interface, with answers exactly as long as the row says. Each round
asks about clips that neither has heard, and both may decode all of a round's answers together (`--batch_size auto`).
Processor time is that of all processes of an engine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import numpy as np
import psutil
import soundfile
import torch
from decoding import QUESTION, build

from ambi_eval.audio import AudioSpan
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.config.model_arguments import HFAudioArguments, VLLMAudioArguments
from ambi_eval.engines.base import Engine, Job
from ambi_eval.engines.hf.engine import HFEngine
from ambi_eval.engines.hf.loading import checkpoint
from ambi_eval.serving.engine import VLLMEngine

LABELS = ("angry", "happy", "neutral", "sad")
SAMPLES, BEAMS = 20, 5
# On a CPU (docs/api_models.md). Random weights end a turn now and then, which no answer here may.
SERVE_ARGS = "--no-enable-chunked-prefill --max-num-batched-tokens 8192 --block-size 32 --enforce-eager"


def sampled(tokens: int) -> Callable[[AudioSpan], Job]:
    """Ask for sampled answers of so many tokens."""
    settings = GenerationSettings(temperature=1.0, max_gen_toks=tokens)
    return lambda span: Job(f"<audio>{QUESTION}", (span,), settings, numbers=range(SAMPLES))


def beams(span: AudioSpan) -> Job:
    """Ask for beams of 32 tokens."""
    settings = GenerationSettings(num_beams=BEAMS, max_gen_toks=32)
    return Job(f"<audio>{QUESTION}", (span,), settings, numbers=range(BEAMS))


def exact(span: AudioSpan) -> Job:
    """Ask for the likelihood of each label."""
    return Job(f"<audio>{QUESTION}", (span,), continuations=[(label, True) for label in LABELS])


HEAD = (
    "| row | hf-audio, wall (CPU) s | vLLM, wall (CPU) s | wall ratio | CPU ratio | hf-audio, tokens/s | vLLM |",
    "|---|---|---|---|---|---|---|",
)
# Name of a row -> what is asked about a clip, tokens of all its answers, and clips in a round.
ROWS: dict[str, tuple[Callable[[AudioSpan], Job], int, int]] = {
    "sampled/8": (sampled(8), SAMPLES * 8, 4),
    "sampled/64": (sampled(64), SAMPLES * 64, 4),
    "sampled/256": (sampled(256), SAMPLES * 256, 2),
    "exact": (exact, 0, 4),
    "beams/32": (beams, BEAMS * 32, 4),
}


def write_checkpoint(folder: Path) -> Path:
    """Write the random model with what a server needs of a checkpoint."""
    family = build("mid", torch.device("cpu"), torch.float32)
    family.model.generation_config.update(eos_token_id=2)
    family.model.save_pretrained(folder)
    family.processor.save_pretrained(folder)
    shutil.copy(Path(checkpoint("ambi-tiny")) / "chat_template.jinja", folder)
    return folder


def processor_seconds(processes: Sequence[psutil.Process]) -> float:
    """Return the processor time of processes and of all their children."""
    everyone = {each for process in processes for each in (process, *process.children(recursive=True))}
    return sum(each.cpu_times().user + each.cpu_times().system for each in everyone)


# Who uses less processor time than this in half a second computes nothing.
IDLE = 0.05


def wait_until_idle() -> None:
    """Wait until this process and its children compute nothing: vLLM's go on for a second after their last answer."""
    used, now = -1.0, 0.0
    while now - used >= IDLE:
        sleep(0.5)
        used, now = now, processor_seconds([psutil.Process()])


def measure(engine: Engine, jobs: Sequence[Job]) -> tuple[float, float]:
    """Return wall and processor seconds of an engine for these jobs, from a time on at which all engines are idle.

    Raises:
        AssertionError: If an answer is missing.
    """
    wait_until_idle()
    processes = [psutil.Process()]
    cpu, wall = processor_seconds(processes), perf_counter()
    if jobs[0].continuations:
        done = dict(engine.loglikelihoods(jobs))
    else:
        engine.check(jobs)
        done = {}
        for job, answers in engine.generate(jobs):
            done.setdefault(job, {}).update(answers)
        assert all(len(done[job]) == len(job.numbers) for job in jobs), engine.last_failure
    assert len(done) == len(jobs), engine.last_failure
    return perf_counter() - wall, processor_seconds(processes) - cpu


def clips(folder: Path, round_: int, number: int, seconds: float) -> list[AudioSpan]:
    """Write so many clips of noise."""
    spans = []
    for index in range(number):
        path = folder / f"{round_}_{index}.wav"
        samples = 0.1 * np.random.default_rng([round_, index]).standard_normal(int(16_000 * seconds))
        soundfile.write(path, samples, 16_000)
        spans.append(AudioSpan(str(path)))
    return spans


def measured(row: str, engines: Mapping[str, Engine], given: argparse.Namespace, folder: Path) -> str:
    """Measure a row in rounds, each engine in turn, and return it as a line of the table."""
    ask, tokens, number = ROWS[row]
    found: dict[str, list[tuple[float, float]]] = {each: [] for each in engines}
    for repetition in range(-1, given.repetitions):  # the first round starts the server and warms both up
        spans = clips(folder, 100 * list(ROWS).index(row) + repetition + 1, number, given.seconds)
        for each, engine in engines.items():
            seconds = measure(engine, [ask(span) for span in spans])
            if repetition >= 0:
                found[each].append(seconds)
    wall, cpu = ({each: median(values[i] for values in found[each]) for each in engines} for i in (0, 1))
    pairs = list(zip(found["hf-audio"], found["vLLM"], strict=True))
    wall_ratio, cpu_ratio = (median(theirs[i] / ours[i] for ours, theirs in pairs) for i in (0, 1))
    speed = [f"{tokens * number / wall[each]:.0f}" if tokens else "-" for each in engines]
    cells = [row, *(f"{wall[each]:.2f} ({cpu[each]:.2f})" for each in engines), f"{wall_ratio:.2f}", f"{cpu_ratio:.2f}"]
    return f"| {' | '.join([*cells, *speed])} |"


def main() -> None:
    """Measure what is not measured yet, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", help="environment with vLLM; by default the one on PATH")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a clip")
    parser.add_argument("--json", type=Path, help="file of the rows so far: those of the same settings are kept")
    given = parser.parse_args()
    settings = (
        f"{given.threads} threads, float32, {given.seconds:g} s clips, {given.repetitions} rounds in turns, medians"
    )
    known = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    rows = known.get(settings, {})
    if missing := [row for row in given.rows if row not in rows]:
        torch.set_num_threads(given.threads)
        cpu = {"VLLM_CPU_OMP_THREADS_BIND": f"0-{given.threads - 1}", "VLLM_CPU_KVCACHE_SPACE": "2"}
        os.environ.update({**cpu, "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"})
        with tempfile.TemporaryDirectory(prefix="ambi_eval_engines_") as name:
            folder = Path(name)
            common = {"pretrained": str(write_checkpoint(folder / "mid")), "dtype": "float32", "store": "none"}
            # Each engine chooses how many answers it decodes together.
            local_args = {**common, "device": "cpu", "batch_size": "auto"}
            local = HFEngine(HFAudioArguments.read(local_args, "hf-audio"))
            local.family.end_ids = []
            local.family.model.generation_config.eos_token_id = None
            more = {"vllm": given.vllm, "serve_args": SERVE_ARGS, "max_model_len": 2048, "timeout": 900.0}
            served_args = {**common, **more, "extra_body": {"ignore_eos": True}}
            served = VLLMEngine(VLLMAudioArguments.read(served_args, "vllm-audio"))
            for row in missing:
                rows[row] = measured(row, {"hf-audio": local, "vLLM": served}, given, folder)
                print(rows[row], file=sys.stderr, flush=True)
                if given.json:
                    given.json.write_text(json.dumps({**known, settings: rows}, indent=1))
    print(settings, "", *HEAD, *(rows[row] for row in given.rows), sep="\n")


if __name__ == "__main__":
    main()

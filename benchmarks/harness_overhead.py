"""What a run costs outside the model: building requests and scoring answers, per clip, and how it grows with the clips.

    python benchmarks/harness_overhead.py [--clips 1000 10000 50000] [--json FILE]

The answers are made up (seeded); everything else is what a run does: manifest, task, requests, filters, metrics,
aggregation. Milliseconds are processor time of this machine; what travels is how they grow.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
from pathlib import Path
from time import process_time

import numpy as np
import soundfile

from ambi_eval.answers.candidate import Candidate
from ambi_eval.corpora.manifest import Clip, write_manifest
from ambi_eval.harness.task import AmbiguousEmotionTask

LABELS = ["angry", "happy", "neutral", "sad"]


def make_corpus(folder: Path, n_clips: int, rng: np.random.Generator) -> None:
    """Write a manifest of clips that share one audio file."""
    soundfile.write(folder / "tone.wav", np.zeros(16000), 16000)
    votes = rng.multinomial(8, [0.2, 0.2, 0.4, 0.2], size=n_clips)
    clips = (
        Clip(
            id=f"clip{i:06d}",
            votes=dict(zip(LABELS, map(float, row), strict=True)),
            audio="tone.wav",
            speaker=f"speaker{i % 91}",
        )
        for i, row in enumerate(votes)
    )
    write_manifest(folder / "manifest.parquet", clips)


def make_answers(readout: str, size: int, rng: np.random.Generator) -> list[Candidate]:
    """Return a pool of made-up answers, one in fifty unreadable."""
    if readout == "label":
        texts = rng.choice([*LABELS, "no idea"], size=size, p=[0.245] * 4 + [0.02])
    else:
        shares = rng.dirichlet(np.ones(4), size=size).round(2)
        texts = [json.dumps(dict(zip(LABELS, row.tolist(), strict=True))) for row in shares]
    return [Candidate(text, logprob=-1.0, n_tokens=3, finish="stop") for text in texts]


def measure(strategy: str, n_clips: int) -> dict[str, float | int | str]:
    """Return the processor time that one task of `n_clips` clips takes before and after the model."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_corpus(folder, n_clips, rng)
        start = process_time()
        config = {"task": f"bench_{strategy}", "strategy": strategy, "labels": LABELS, "manifest": "manifest.parquet"}
        task = AmbiguousEmotionTask(config={**config, "metadata": {"config_source": str(folder / "bench.yaml")}})
        task.set_config("num_fewshot", 0)
        task.build_all_requests()
        built = process_time()
        for instance in task.instances:
            instance.resps = make_answers(task.settings.readout, instance.repeats, rng)
        answered = process_time()
        task.apply_filters()
        scores: dict[tuple[str, str], list[float]] = {}
        pipelines = list(task.instances[0].filtered_resps)
        for pipeline in pipelines:
            for doc, instance in zip(task.eval_docs, task.instances, strict=True):
                for metric, value in task.process_results(doc, [instance.filtered_resps[pipeline]]).items():
                    scores.setdefault((metric, pipeline), []).append(value)
        aggregation = task.aggregation()
        for (metric, _), values in scores.items():
            aggregation[metric](values)
        scored = process_time()
    return {
        "strategy": strategy,
        "clips": n_clips,
        "pipelines": len(pipelines),
        "build_ms_per_clip": 1000 * (built - start) / n_clips,
        "score_ms_per_clip_and_pipeline": 1000 * (scored - answered) / n_clips / len(pipelines),
    }


def main() -> None:
    """Measure every strategy at every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[1000, 10000, 50000])
    parser.add_argument("--strategies", nargs="+", default=["direct", "sc", "sc_shares"])
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    os.environ["TQDM_DISABLE"] = "1"
    rows = [measure(strategy, n_clips) for strategy in arguments.strategies for n_clips in arguments.clips]
    print(
        f"{'strategy':<12}{'clips':>8}{'pipelines':>11}{'build':>9}{'score':>9}"
        "   ms of processor time per clip (score: and pipeline)"
    )
    for row in rows:
        print(
            f"{row['strategy']:<12}{row['clips']:>8}{row['pipelines']:>11}{row['build_ms_per_clip']:>9.3f}"
            f"{row['score_ms_per_clip_and_pipeline']:>9.3f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

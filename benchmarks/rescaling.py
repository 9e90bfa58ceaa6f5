"""What the choice does that is made for stated shares with a sum other than 1: the score of a run under each choice.

    python benchmarks/rescaling.py runs/demo [--task ambi_demo_direct]

`divided`: by their sum, as `ambi_eval` does. `spread`: what is missing to 1 goes to all labels alike; sums above 1 are
divided. `unreadable`: such answers count as not read. Divergence in bits of the mean of each clip's answers, mean over
clips.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ambi_eval.answers.lexicon import freeze_synonyms
from ambi_eval.answers.pool import Reader
from ambi_eval.harness.results import TaskRun, read_runs
from ambi_eval.metrics import METRICS


def choices(run: TaskRun) -> dict[str, float]:
    """Return the score under each choice, how often the choice matters, and the mean stated sum."""
    labels = tuple(run.settings.labels)
    reader = Reader(labels, "shares", freeze_synonyms(labels, run.settings.synonyms))
    predictions: dict[str, list[np.ndarray]] = {"divided": [], "spread": [], "unreadable": []}
    stated = []
    for texts in run.texts:
        pool, _ = reader.read(texts)
        sums = pool.stated_sums[:, None]
        stated.append(sums)
        missing = np.clip(1 - np.nan_to_num(sums, nan=1.0), 0, None)
        rescaled = np.abs(sums - 1) > 0.01 + 1e-9
        predictions["divided"].append(pool.shares)
        predictions["spread"].append(pool.shares * (1 - missing) + missing / len(labels))
        predictions["unreadable"].append(np.where(rescaled, np.nan, pool.shares))
    metric, found = METRICS["jsd_bits"], {}
    for name, answers in predictions.items():
        means = np.array([np.nanmean(a, axis=0) if not np.isnan(a).all() else a[0] for a in answers])
        found[name] = metric.value(means, run.selection.votes)
    sums = np.concatenate(stated)
    sums = sums[~np.isnan(sums)]
    return {**found, "rescaled": float((np.abs(sums - 1) > 0.01 + 1e-9).mean()), "stated sum": float(sums.mean())}


def main() -> None:
    """Print a line per task of the run whose answers state shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--task", help="this task alone")
    arguments = parser.parse_args()
    for run in (task for each in read_runs(arguments.run) for task in each.tasks.values()):
        if run.settings.readout == "shares" and arguments.task in (None, run.name):
            print(f"{run.name:<22}" + "  ".join(f"{name} {value:.4f}" for name, value in choices(run).items()))


if __name__ == "__main__":
    main()

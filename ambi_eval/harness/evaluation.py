"""A run of the harness in Python, as the command `lm_eval` makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
from numpy.typing import NDArray

from ambi_eval.config.load import corpus_path, read_yaml, with_metadata
from ambi_eval.harness.task import AmbiguousEmotionTask


def evaluate_tasks(
    model: str,
    tasks: Sequence[str],
    model_args: str | Mapping[str, Any],
    metadata: Mapping[str, Any],
    output_path: str | Path | None,
    options: Any,
) -> dict[str, Any]:
    """Return the harness's results of these tasks, and write them as `lm_eval --log_samples --output_path` does.

    The arguments are those of `lm_eval`; without an `output_path` nothing is written. `options` are further arguments
    of `simple_evaluate`.
    """
    arguments = model_args if isinstance(model_args, str) else dict(model_args)
    tracker = EvaluationTracker(output_path=None if output_path is None else str(output_path))
    results = simple_evaluate(
        model=model,
        model_args=arguments,
        tasks=list(tasks),
        task_manager=TaskManager(metadata=dict(metadata)),
        metadata=dict(metadata),
        evaluation_tracker=tracker,
        # No bootstrap: our tasks compute their own error bars, clustered by speaker.
        **{"bootstrap_iters": 0, **options},
    )
    if results is None:  # in all processes but the first
        return {}
    if output_path is not None:
        write_results(results, tracker)
    return results


def write_results(results: Mapping[str, Any], tracker: EvaluationTracker) -> None:
    """Write the results file and the logged samples of a run, as `lm_eval --log_samples` does."""
    samples = results["samples"]
    tracker.save_results_aggregated({name: each for name, each in results.items() if name != "samples"}, samples)
    for task in results["configs"]:
        tracker.save_results_samples(task, samples[task])


def strategy_task(corpus: str, strategy: str, metadata: Mapping[str, Any]) -> AmbiguousEmotionTask:
    """Return the task of a corpus (one of ours, or the path of a YAML) and one of our strategies.

    An AmbiError says that there is no such corpus, or no such part of it as `metadata` names.
    """
    path = corpus_path(corpus)
    config = {**read_yaml(path), "strategy": strategy, "task": f"ambi_{path.stem.removeprefix('_')}_{strategy}"}
    return AmbiguousEmotionTask(with_metadata(config, path, metadata))


def predictions(model: LM, tasks: Sequence[AmbiguousEmotionTask]) -> list[NDArray[np.float64]]:
    """Run tasks in the harness, and return the predictions of each task's first pipeline.

    They have the shape (clips, labels), clips as in the task's selection; NaN where invalid.
    """
    simple_evaluate(model=model, tasks=list(tasks), bootstrap_iters=0, log_samples=False)
    found = []
    for task in tasks:
        p = np.full(task.selection.votes.shape, np.nan)
        for instance in task.instances:
            scored = next(iter(instance.filtered_resps.values()))
            p[task.rows[instance.doc["id"]]] = scored.prediction.distribution
        found.append(p)
    return found

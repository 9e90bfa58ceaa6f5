"""A run of the harness in Python, as the command `lm_eval` makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager


def evaluate_tasks(
    model: str, tasks: Sequence[str], model_args: str | Mapping[str, Any], metadata: Mapping[str, Any], options: Any
) -> dict[str, Any]:
    """Return the harness's results of these tasks.

    Args:
        model: As `--model`.
        tasks: As `--tasks`.
        model_args: As `--model_args`.
        metadata: As `--metadata`.
        options: Further arguments of `simple_evaluate`.

    Raises:
        AmbiError: For a mistake in what is asked for.
    """
    arguments = model_args if isinstance(model_args, str) else dict(model_args)
    results = simple_evaluate(
        model=model,
        model_args=arguments,
        tasks=list(tasks),
        task_manager=TaskManager(metadata=dict(metadata)),
        metadata=dict(metadata),
        # Our tasks bring error bars of their own, clustered by speaker.
        **{"bootstrap_iters": 0, **options},
    )
    return results or {}  # nothing but in the first of several processes

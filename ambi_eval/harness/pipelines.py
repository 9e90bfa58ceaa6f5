"""Completes the filter pipelines of a task with the task's options, and finds every mistake before the run."""

from __future__ import annotations

from inspect import signature
from typing import Any

import lm_eval.filters  # noqa: F401 - fills the registry
from lm_eval.api.registry import filter_registry

from ambi_eval.config.task_settings import TaskSettings, keys_that
from ambi_eval.errors import AmbiError, did_you_mean


def complete_pipelines(settings: TaskSettings) -> list[dict[str, Any]]:
    """Return the task's `filter_list`; our filters also get the options that are keys of the task.

    Each filter is made once here, so that a wrong option is found before the model answers anything.
    """
    return [
        {"name": pipeline["name"], "filter": [_complete(step, settings) for step in pipeline["filter"]]}
        for pipeline in settings.filter_list
    ]


def _complete(step: dict[str, Any], settings: TaskSettings) -> dict[str, Any]:
    name = step["function"]
    if not name.startswith("ambi_"):
        return step
    if name not in filter_registry:
        fix = "a new one needs an entry point in the group lm_eval.filters, and its package installed again"
        hint = did_you_mean(name, filter_registry)
        raise AmbiError(f"{settings.where}: no filter '{name}'{hint}; {fix} (pip install -e .)")
    made_by = filter_registry.get(name)
    takes = {parameter for each in made_by.__mro__ for parameter in signature(each.__init__).parameters}
    options = takes - set(keys_that("task_wide")) - {"self", "args", "kwargs"}
    for key in step.keys() - options - {"function"}:
        raise AmbiError(f"{settings.where}: {name} has no option '{key}'{did_you_mean(key, options)}")
    stated = {key: getattr(settings, key) for key in type(settings).model_fields if key in takes}
    whole = {**stated, **step}
    try:
        made_by(**{key: value for key, value in whole.items() if key != "function"})
    except AmbiError as error:
        raise AmbiError(f"{settings.where}: {error}") from error
    return whole

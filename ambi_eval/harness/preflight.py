"""Checks the tasks, clips, audio and options of a run of the harness before the run loads its model."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from copy import copy
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any

from ambi_eval.engines.base import find_engine
from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.harness.aggregation import without_errors_of_errors
from ambi_eval.harness.ending import is_named
from ambi_eval.harness.garbage import started
from ambi_eval.paths import check_can_write

# Options of the harness that would make our scores wrong, and why.
REFUSED = {
    "cache_requests": "would give a task the prompts that were cached for another control, transcript or pool size",
    "use_cache": "keeps one answer for the whole pool of a clip",
}


def check_before_loading(evaluator: Any) -> None:
    """Let `simple_evaluate` of the harness check our tasks before it loads the model; other tasks run as before."""
    plain = evaluator.simple_evaluate

    @wraps(plain)
    def simple_evaluate(*args: Any, **kwargs: Any) -> Any:
        run = signature(plain).bind(*args, **kwargs).arguments
        run |= _checked(run)
        started()
        return without_errors_of_errors(plain(**run))

    evaluator.simple_evaluate = simple_evaluate
    evaluator.get_git_commit_hash = git_commit_hash


def git_commit_hash() -> str | None:
    """Return what the harness's function of this name returns, without the error messages that git would print."""
    try:
        asked = subprocess.run(["git", "describe", "--always"], capture_output=True, text=True, check=True)
    except (subprocess.CalledProcessError, OSError):
        from lm_eval.loggers.utils import get_commit_from_path

        found: str | None = get_commit_from_path(Path.cwd())
        return found
    return asked.stdout.strip()


def _checked(run: Mapping[str, Any]) -> dict[str, Any]:
    """Check a run, and return those of its arguments that change.

    The tasks are loaded here; the harness gets the loaded ones. For a model of ours `--apply_chat_template` is always
    set, so that a system instruction becomes the same message with and without it.
    """
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import simple_parse_args_string

    from ambi_eval.harness.task import AmbiguousEmotionTask

    model_args = run.get("model_args") or {}
    arguments = simple_parse_args_string(model_args) if isinstance(model_args, str) else model_args
    manager = run.get("task_manager") or TaskManager(metadata={**arguments, **(run.get("metadata") or {})})
    tasks = run.get("tasks") or []
    if not tasks and is_named():
        raise AmbiError("--tasks: name at least one task; `lm_eval ls tasks` lists all")
    if not any(_has_a_class(each, manager) for each in tasks):
        return {"task_manager": manager}
    loaded = manager.load(tasks)
    ours = [task for task in loaded["tasks"].values() if isinstance(task, AmbiguousEmotionTask)]
    if ours:
        for option, harm in REFUSED.items():
            if run.get(option):
                instead = "ambi_eval keeps every answer in a store of its own (--model_args store=FILE)"
                raise AmbiError(f"{ours[0].config.task}: leave out --{option}: it {harm}. {instead}")
        if output := getattr(run.get("evaluation_tracker"), "output_path", None):
            folder = Path(output).parent if Path(output).suffix == ".json" else Path(output)
            check_can_write(folder, "give another --output_path")
    gen_kwargs = run.get("gen_kwargs") or {}
    given = simple_parse_args_string(gen_kwargs) if isinstance(gen_kwargs, str) else gen_kwargs
    samples = run.get("samples") or {}
    if ours and samples and run.get("limit") is not None:
        raise AmbiError(f"{ours[0].config.task}: --samples and --limit exclude each other; leave out one of the two")
    if ours and not isinstance(samples, dict):
        raise AmbiError(f'--samples: give numbers of clips by task, {{"{ours[0].config.task}": [0, 1]}}, not {samples}')
    for name in samples.keys() - loaded["tasks"].keys() if ours else ():
        raise AmbiError(f"--samples names the task '{name}', which does not run{did_you_mean(name, loaded['tasks'])}")
    for task in ours:
        task.check(given, run.get("limit"), run.get("num_fewshot"), samples.get(task.config.task))
    manager = copy(manager)  # the caller may load other tasks with it later
    manager.load = lambda _: loaded
    changed = {"task_manager": manager}
    from ambi_eval.models.audio_lm import AudioLM

    model = run.get("model")
    kind = _model_class(model)
    # The harness would load the model before it asks this.
    if ours and not getattr(kind if isinstance(model, str) else model, "MULTIMODAL", False):
        fix = "give hf-audio for a checkpoint of transformers, or openai-audio for a server"
        raise AmbiError(f"{ours[0].config.task}: --model {model} hears no audio; {fix}")
    if not issubclass(kind, AudioLM):
        return changed
    find_engine(kind.engine_name)  # imports the engine while the garbage collection is paused
    return {**changed, "apply_chat_template": True}


def _has_a_class(spec: Any, manager: Any) -> bool:
    """Return whether a task, or a member of a group or tag, is made by a class, as all of ours are."""
    if not isinstance(spec, str | dict):
        return True  # a task that is loaded already
    name = spec if isinstance(spec, str) else spec.get("task")
    entry = manager.task_index.get(name) if isinstance(name, str) else None
    if entry is None:
        return isinstance(spec, dict)
    kind = entry.kind.name
    members = (entry.cfg or {}).get("task") or () if kind == "GROUP" else entry.tags if kind == "TAG" else ()
    return kind == "PY_TASK" or any(_has_a_class(member, manager) for member in members if member != name)


def _model_class(model: Any) -> type:
    """Return the class of a model, given by name or itself."""
    import lm_eval.models  # noqa: F401 - fills the registry
    from lm_eval.api.registry import get_model, model_registry

    if isinstance(model, str) and model not in model_registry:
        raise AmbiError(f"--model: there is no model '{model}'{did_you_mean(model, model_registry.keys())}")
    kind: type = get_model(model) if isinstance(model, str) else type(model)
    return kind

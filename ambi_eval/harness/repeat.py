"""The command line that repeats a run, from its results file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ambi_eval.config.task_settings import OVERRIDES
from ambi_eval.paths import tasks_dir


def command(results: Mapping[str, Any], output: Path) -> str:
    """Return the command line that repeats the run of a results file, and writes its results into `output`.

    It leaves out default values, options that change no answer, and `--samples`, which the harness does not record.
    """
    from lm_eval.config.evaluate_config import EvaluatorConfig

    config, tasks, usual = results["config"], our_configs(results), EvaluatorConfig()
    given = {key: value for task in tasks.values() for key, value in task["metadata"].items() if key in OVERRIDES}
    folders = {Path(task["metadata"]["config_source"]).parent for task in tasks.values()}
    own = sorted(str(folder) for folder in folders if tasks_dir() not in folder.parents)
    seeds = [config.get(f"{name}_seed") for name in ("random", "numpy", "torch", "fewshot")]
    here = Path.cwd()
    options = {
        "--model": config["model"],
        "--model_args": _pairs(config.get("model_args")),
        "--tasks": ",".join(_grouped(list(tasks), results.get("group_subtasks") or {})),
        "--include_path": own[0] if own else None,
        "--metadata": _pairs(given),
        "--gen_kwargs": _pairs(config.get("gen_kwargs")),
        "--system_instruction": results.get("system_instruction"),
        "--batch_size": config.get("batch_size") if config.get("batch_size") != usual.batch_size else None,
        "--device": config.get("device") if config.get("device") != usual.device else None,
        "--limit": config.get("limit"),
        "--seed": ",".join(map(str, seeds)) if seeds != usual.seed else None,
        "--output_path": output.relative_to(here) if here in output.parents else output,
    }
    said = [f"{name} {shlex.quote(str(value))}" for name, value in options.items() if value not in (None, "")]
    # Our models (`ambi`) always get the template.
    asked = results.get("chat_template") is not None and "ambi" not in config
    return " ".join(["lm_eval", *said, *["--apply_chat_template"] * asked, "--log_samples"])


def _grouped(tasks: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the tasks of a run; a group of which all tasks ran replaces them, the largest groups first."""
    left, named = set(tasks), []
    for group, members in sorted(groups.items(), key=lambda item: -len(item[1])):
        if len(members) > 1 and left.issuperset(members):
            named.append(group)
            left -= set(members)
    return [*named, *(task for task in tasks if task in left)]


def _pairs(given: Mapping[str, Any] | str | None) -> str:
    """Return `key=value,key=value`, the form of the harness's command line."""
    if isinstance(given, Mapping):
        return ",".join(f"{key}={value}" for key, value in given.items() if value is not None)
    return given or ""


def our_configs(results: Any) -> dict[str, Any]:
    """Return the configurations of our tasks in the content of a results file."""
    configs = results.get("configs") if isinstance(results, dict) else None
    listed = configs.items() if isinstance(configs, dict) else ()
    return {name: config for name, config in listed if isinstance(config, dict) and "manifest" in config}

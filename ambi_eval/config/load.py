"""From the YAML of a task to one checked configuration: strategy laid below, every key known, overrides on top."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.paths import tasks_dir

Config = dict[str, Any]

# Our own keys, each with the values it may take (None: checked where it is read).
OWN_KEYS: dict[str, tuple[str, ...] | None] = {
    "strategy": None,
    "labels": None,
    "manifest": None,
    "merge": None,
    "synonyms": None,
    "prompt_words": None,
    "prompts": None,
    "verifier": None,
    "metrics": None,
    "pool": ("greedy", "samples", "beams", "prompts", "labels"),
    "readout": ("shares", "label", "exact"),
    "outside": ("drop_clip", "renormalise"),
    "transcript": ("none", "given"),
    "control": (
        "none",
        "silence",
        "silence_fixed",
        "noise",
        "shuffle",
        "shuffle_same_sentence",
        "shuffle_same_speaker",
        "transcript",
    ),
    "cluster": ("speaker", "session", "dialogue"),
    "rotations": None,
    "stop_rule": None,
    "calibration": ("none", "silence"),
    "length_normalisation": ("none", "bytes"),
    "weighting": ("softmax", "linear"),
    "weighting_temperature": None,
}
DEFAULTS: Config = {
    "merge": {},
    "synonyms": {},
    "prompt_words": {},
    "prompts": [],
    "outside": "drop_clip",
    "transcript": "none",
    "control": "none",
    "cluster": "speaker",
    "rotations": 1,
    "calibration": "none",
    "length_normalisation": "none",
    "weighting": "softmax",
    "weighting_temperature": 1.0,
    "metrics": ["jsd_bits", "bc", "acc", "macro_f1"],
}
REQUIRED = ("labels", "manifest", "pool", "readout", "doc_to_text", "filter_list")
# Keys whose values are laid over one another one level deep; of every other key the upper file's value stands alone.
MERGED_KEYS = ("generation_kwargs", "metadata", "prompt_words", "verifier", "stop_rule")
# What `--metadata KEY=VALUE` may set, and where it makes sense: for one pool, with a verifier, or (None) everywhere.
OVERRIDES: dict[str, str | None] = {
    "repeats": "samples",
    "beams": "beams",
    "weighting_temperature": "beams",
    "weighting": "verifier",
    "ratings": "verifier",
    "rotations": "labels",
    "calibration": "labels",
    "length_normalisation": "labels",
    "transcript": None,
    "control": None,
}
# `--metadata` also brings what other tasks and models read, so only what looks like one of ours is refused.
NEARLY = 0.8


class _Loader(yaml.SafeLoader):
    """YAML as the harness reads it, with `!function` left as its text: nothing is imported or run."""


_Loader.add_constructor("!function", lambda loader, node: str(node.value))


def strategy_names() -> list[str]:
    """Return the names of our own strategies, sorted."""
    return sorted(path.stem for path in (tasks_dir() / "_strategies").glob("*.yaml"))


def lay_over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> Config:
    """Return `upper` laid over `lower`: upper keys win, and `MERGED_KEYS` are merged one level deep."""
    merged = {key: {**lower[key], **upper[key]} for key in MERGED_KEYS if lower.get(key) and upper.get(key)}
    return {**lower, **upper, **merged}


def read_yaml(path: Path, _above: tuple[Path, ...] = ()) -> Config:
    """Return the content of a task or strategy file, laid over what it includes.

    Raises:
        AmbiError: If the file is missing, is not a YAML mapping, or includes itself.
    """
    path = path.resolve()
    if path in _above:
        raise AmbiError(f"{_above[-1]}: `include: {path.name}` closes a circle of includes; take it out")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError as error:
        by = f"{_above[-1]} includes a file that is not there: {path}" if _above else f"{path} is not there"
        raise AmbiError(by) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AmbiError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise AmbiError(f"{path} must hold `key: value` lines, it holds a {type(content).__name__}")
    includes = content.pop("include", [])
    lower: Config = {}
    for include in includes if isinstance(includes, list) else [includes]:
        lower = lay_over(lower, read_yaml(path.parent / include, (*_above, path)))
    return lay_over(lower, content)


def refuse_broken_yaml(folders: Iterable[str | Path]) -> None:
    """Raise for a task file of ours that the harness could not read and would pass over in silence.

    Only files that name `ambi_eval` are looked at, so nobody else's YAML is judged.

    Raises:
        AmbiError: For the first such file that is broken, with the reason.
    """
    for folder in folders:
        for path in sorted(Path(folder).glob("**/*.yaml")):
            if "ambi_eval" in path.read_text(encoding="utf-8", errors="replace"):
                read_yaml(path)


def load_task(path: Path) -> Config:
    """Return the whole configuration of a task file, outside the harness: what `resolve` makes of it."""
    config = read_yaml(path)
    config["metadata"] = {**config.get("metadata", {}), "config_source": str(path)}
    return resolve(config)


def load_corpus(name: str) -> Config:
    """Return what the YAML of a corpus says about its votes: labels, merge, outside, cluster, manifest; no strategy.

    Args:
        name: A corpus of ours (`crema_d` for `tasks/crema_d/_crema_d.yaml`), or the path of a YAML of one's own.

    Raises:
        AmbiError: If there is no such corpus, or its YAML is wrong.
    """
    ours = {path.stem.removeprefix("_"): path for path in sorted(tasks_dir().glob("[!_]*/_*.yaml"))}
    if not name.endswith(".yaml") and name not in ours:
        raise AmbiError(
            f"no corpus '{name}'{did_you_mean(name, ours)} (ours: {', '.join(ours)}; your own: the path of its YAML)"
        )
    path = Path(name) if name.endswith(".yaml") else ours[name]
    config = {**DEFAULTS, **read_yaml(path)}
    config["metadata"] = {**config.get("metadata", {}), "config_source": str(path)}
    config.setdefault("task", path.stem.removeprefix("_"))
    for key in ("labels", "manifest"):
        if not config.get(key):
            raise AmbiError(f"{path}: the key '{key}' is missing")
    _check_values(config, str(path))
    return config


def resolve(config: Mapping[str, Any]) -> Config:
    """Return a task's configuration with its strategy laid below, defaults filled in, and overrides applied.

    Args:
        config: What the harness read from the task's YAML and its include. `metadata` holds `config_source` (the task
            file, or `inline`), and what the user gave with `--metadata` and `--model_args`.

    Returns:
        A new dict with all keys of the harness and of `OWN_KEYS`.

    Raises:
        AmbiError: For unknown keys and values, missing keys, and overrides that cannot be.
    """
    config = {key: value if callable(value) else deepcopy(value) for key, value in config.items() if key != "class"}
    source = config["metadata"]["config_source"]
    where = f"{config['task']} ({source})"
    if "strategy" in config:
        config = lay_over(read_yaml(_strategy_path(config["strategy"], source)), config)
    config = {**DEFAULTS, **config}
    _check_keys(config, where)
    _apply_overrides(config, where)
    if config["pool"] == "labels":
        config |= {"generation_kwargs": None, "repeats": 1}  # likelihoods: there is nothing to generate or to repeat
    _check_values(config, where)
    return config


def beside(source: str, name: str) -> Path:
    """Return the path of a file that a task's YAML names: relative to that YAML, or to here for an inline task."""
    return (Path.cwd() if source == "inline" else Path(source).parent) / name


def _strategy_path(name: str, source: str) -> Path:
    if str(name).endswith(".yaml"):
        return beside(source, name)
    if name not in strategy_names():
        raise AmbiError(
            f"{source}: no strategy '{name}'{did_you_mean(str(name), strategy_names())} "
            f"(ours: {', '.join(strategy_names())}; your own: a path that ends in .yaml, beside the task's file)"
        )
    return tasks_dir() / "_strategies" / f"{name}.yaml"


def _check_keys(config: Config, where: str) -> None:
    from lm_eval.config.task import TaskConfig

    known = OWN_KEYS.keys() | {field.name for field in fields(TaskConfig)}
    for key in config.keys() - known:
        raise AmbiError(f"{where}: unknown key '{key}'{did_you_mean(key, known)}")
    for key in REQUIRED:
        if not config.get(key):
            hint = "" if "strategy" in config else " (and so is 'strategy')"
            raise AmbiError(f"{where}: the key '{key}' is missing{hint}")


def _apply_overrides(config: Config, where: str) -> None:
    """Let `--metadata` set what makes sense for this task, and only that."""
    given = config["metadata"]
    for key in given.keys() - OVERRIDES.keys():
        if near := get_close_matches(key, OVERRIDES, n=1, cutoff=NEARLY):
            raise AmbiError(f"{where}: --metadata {key}={given[key]} sets nothing, did you mean '{near[0]}'?")
    places = {None, config["pool"], "verifier" if config.get("verifier") else None}
    for key in OVERRIDES.keys() & given.keys():
        if OVERRIDES[key] not in places:
            continue  # `repeats=5` for a group must not make its greedy tasks draw five
        if key == "beams":
            config["generation_kwargs"]["num_beams"] = config["repeats"] = given[key]
        elif key == "ratings":
            config["verifier"][key] = given[key]
        else:
            config[key] = given[key]


def _check_values(config: Config, where: str) -> None:
    for key, allowed in OWN_KEYS.items():
        value = config.get(key)
        if allowed is not None and key in config and value not in allowed:
            hint = did_you_mean(str(value), allowed)
            raise AmbiError(f"{where}: {key} is '{value}'{hint}; it must be one of {', '.join(allowed)}")
    labels = config["labels"]
    if not isinstance(labels, list) or len(labels) < 2 or not all(isinstance(label, str) for label in labels):
        raise AmbiError(f"{where}: labels must be a list of at least two words, it is {labels}")
    if len(set(labels)) < len(labels):
        raise AmbiError(f"{where}: a label stands twice in labels: {labels}")
    for original, label in config["merge"].items():
        if label not in labels:
            hint = did_you_mean(label, labels)
            raise AmbiError(f"{where}: merge sends '{original}' to '{label}', which is no label{hint}")
    size = config.get("repeats", 1)
    if not isinstance(size, int) or size < 1:
        raise AmbiError(f"{where}: a pool cannot hold {size} answers; repeats must be a whole number of at least 1")
    if config["rotations"] not in range(1, len(labels) + 1):
        raise AmbiError(
            f"{where}: rotations is {config['rotations']}; it must be a whole number from 1 to {len(labels)}"
        )

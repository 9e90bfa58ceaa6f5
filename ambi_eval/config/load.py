"""Reads a task's YAML into its settings: the strategy's keys, then the task's over them, then `--metadata`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ambi_eval.config.corpus_settings import FIRST_OR_SECOND, PART_KEYS, CorpusSettings
from ambi_eval.config.settings import show_value
from ambi_eval.config.task_settings import OVERRIDES, TaskSettings, keys_that
from ambi_eval.config.yaml_reader import parse_yaml
from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.paths import tasks_dir

Config = dict[str, Any]

# fmt: off
# The keys of a task in lm_eval (the fields of its `TaskConfig`), of which we read some.
HARNESS_KEYS = (
    "task", "task_alias", "tag", "custom_dataset", "dataset_path", "dataset_name", "dataset_kwargs", "training_split",
    "validation_split", "test_split", "fewshot_split", "process_docs", "doc_to_text", "doc_to_target", "doc_to_image",
    "doc_to_audio", "unsafe_code", "doc_to_choice", "process_results", "use_prompt", "description",
    "target_delimiter", "fewshot_delimiter", "fewshot_config", "num_fewshot", "metric_list", "output_type",
    "generation_kwargs", "repeats", "filter_list", "should_decontaminate", "doc_to_decontamination_query",
    "gen_prefix", "metadata",
)
# fmt: on
OUR_KEYS = [key for key in TaskSettings.model_fields if key != "harness"]
# `--metadata` may hold keys for other tasks and models. An unknown key is refused only if it is this similar to ours.
NEARLY = 0.8


def strategy_names() -> list[str]:
    """Return the names of our own strategies, sorted."""
    return sorted(path.stem for path in (tasks_dir() / "_strategies").glob("*.yaml"))


def lay_over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> Config:
    """Return both mappings in one: `upper` has precedence, and values of `merged` keys are merged key by key."""
    both = [key for key in keys_that("merged") if isinstance(lower.get(key), dict) and isinstance(upper.get(key), dict)]
    return {**lower, **upper, **{key: {**lower[key], **upper[key]} for key in both}}


def read_yaml(path: Path, _above: tuple[Path, ...] = ()) -> Config:
    """Return the content of a task or strategy file, laid over the files that it includes.

    Raises:
        AmbiError: If the file is missing, is not a YAML mapping, or includes itself.
    """
    try:
        path = path.resolve()
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        by = f"{_above[-1]} includes a file that is not there: {path}" if _above else f"{path} is not there"
        raise AmbiError(f"{by}; correct the path") from error
    except (OSError, ValueError) as error:
        raise AmbiError(f"{show_value(str(path))} cannot be read as text: {error}; give a YAML file") from error
    if path in _above:
        raise AmbiError(f"{_above[-1]}: `include: {path.name}` closes a circle of includes; take it out")
    content = parse_yaml(text, str(path), trusted=True)
    if not isinstance(content, dict):
        raise AmbiError(f"{path} must hold `key: value` lines, it holds {show_value(content)}")
    includes = content.pop("include", [])
    lower: Config = {}
    for include in includes if isinstance(includes, list) else [includes]:
        if not isinstance(include, str):
            shown = show_value(include)
            raise AmbiError(f"{path}: include is {shown}; it must be the name of a file, or a list of them")
        lower = lay_over(lower, read_yaml(path.parent / include, (*_above, path)))
    return lay_over(lower, content)


def refuse_broken_yaml(folders: Iterable[str | Path]) -> None:
    """Raise an `AmbiError` for the first broken YAML that names `ambi_eval`, which the harness would skip silently."""
    for folder in folders:
        for path in sorted(Path(folder).glob("**/*.yaml")):
            if "ambi_eval" in path.read_text(encoding="utf-8", errors="replace"):
                read_yaml(path)


def load_task(path: Path, metadata: Mapping[str, Any] | None = None) -> TaskSettings:
    """Return the settings of a task file with the keys of `--metadata`, outside the harness."""
    return resolve(with_metadata(read_yaml(path), path, metadata or {}))


def with_metadata(config: Mapping[str, Any], source: Path, metadata: Mapping[str, Any]) -> Config:
    """Return a task's configuration with the `metadata` that the harness adds: the file's path, and `--metadata`."""
    own = config.get("metadata") or {}
    if not isinstance(own, dict):
        raise AmbiError(f"{source}: metadata is {show_value(own)}; it must be `key: value` lines")
    return {**config, "metadata": {**own, **metadata, "config_source": str(source)}}


def load_corpus(name: str, metadata: str = "") -> CorpusSettings:
    """Return the settings of a corpus, without a strategy.

    Args:
        name: A corpus of ours (`crema_d` for `tasks/crema_d/_crema_d.yaml`), or the path of a user's YAML.
        metadata: A part of the corpus, in the form of lm_eval's `--metadata`: `split=test1,session=5`.

    Raises:
        AmbiError: If there is no such corpus, its YAML is wrong, or `metadata` sets anything else.
    """
    path = corpus_path(name)
    config = {"task": path.stem.removeprefix("_"), **_given(with_metadata(read_yaml(path), path, {}))}
    _check_keys(config, str(path))
    config |= corpus_overrides(metadata)
    return CorpusSettings.read(_only(config, CorpusSettings.model_fields), str(path))


def corpus_overrides(metadata: str) -> Config:
    """Parse `KEY=VALUE,KEY=VALUE` into the keys that choose a part of a corpus, or raise an error for other keys."""
    given = dict(pair.partition("=")[::2] for pair in metadata.split(",") if pair.strip())
    for key, value in given.items():
        if key not in PART_KEYS or not value:
            hint = did_you_mean(key, PART_KEYS) if key not in PART_KEYS else ""
            raise AmbiError(f"--metadata {key}={value} sets nothing{hint}: give KEY=VALUE of {', '.join(PART_KEYS)}")
    return {key: int(value) if value.isdecimal() else value for key, value in given.items()}


def corpus_path(name: str) -> Path:
    """Return the path of the YAML of a corpus of ours, by its name; a path is returned as it is."""
    if name.endswith(".yaml"):
        return Path(name)
    if name not in (ours := corpus_files()):
        hint = did_you_mean(name, ours)
        raise AmbiError(f"no corpus '{name}'{hint} (ours: {', '.join(ours)}; your own: the path of its YAML)")
    return ours[name]


def corpus_files() -> dict[str, Path]:
    """Return the path of the YAML of each corpus of ours, by name."""
    return {path.stem.removeprefix("_"): path for path in sorted(tasks_dir().glob("[!_]*/_*.yaml"))}


def resolve(config: Mapping[str, Any]) -> TaskSettings:
    """Return a task's settings: the strategy's keys, then the task's over them, then `--metadata`.

    Args:
        config: The task's YAML laid over its include, as the harness read them. `metadata` holds `config_source` (the
            path of the task file, or `inline`) and the keys of `--metadata` and `--model_args`.

    Raises:
        AmbiError: For unknown keys and values, missing keys, and impossible overrides.
    """
    config = _given(config)
    source = config["metadata"]["config_source"]
    where = f"{str(config['task'])[:100]} ({source})" if "task" in config else str(source)
    language = _prompt_language(config, where)
    if "strategy" in config:
        path = _strategy_path(config["strategy"], source)
        config = lay_over(lay_over(_given(read_yaml(path)), _wording(path, language)), config)
    if language != "en":
        config |= {"prompt_language": language, "label_words": _label_words(config, language, where)}
        if "prompt_language" in config["metadata"]:  # `corpus` there becomes the language, too
            config["metadata"] = {**config["metadata"], "prompt_language": language}
    _check_keys(config, where)
    if "pool" not in config and "strategy" not in config:
        raise AmbiError(f"{where}: the key 'pool' is missing (and so is 'strategy')")
    _apply_overrides(config, where)
    _labels_of_pairs(config)
    if config.get("pool") == "labels":  # only likelihoods are computed
        config |= {"generation_kwargs": None, "repeats": 1}
    theirs = _only(config, set(HARNESS_KEYS) - set(OUR_KEYS))
    settings = TaskSettings.read({**_given(_only(config, OUR_KEYS)), "harness": theirs}, where)
    settings.generation()
    return settings


def _prompt_language(config: Config, where: str) -> str:
    """Return the language of a task's prompts; `corpus` becomes the language of the corpus."""
    asked = str(config["metadata"].get("prompt_language", config.get("prompt_language", "en")))
    if asked != "corpus":
        return asked
    known = ["en", *prompt_languages()]
    language = config.get("language")
    if language not in known:
        what = f"language is {show_value(language)}" if language else "the key 'language' is missing"
        raise AmbiError(f"{where}: prompt_language: corpus has prompts in {', '.join(known)} only, and {what}")
    return str(language)


def prompt_languages() -> list[str]:
    """Return the languages besides English that have prompts, sorted."""
    return sorted(path.name for path in (tasks_dir() / "_languages").iterdir() if path.is_dir())


def _wording(strategy: Path, language: str) -> Config:
    """Return the prompts of a strategy of ours in another language; empty for English, and for a user's strategy.

    A strategy without prompts of its own has those of the strategy that it includes.
    """
    if language == "en" or strategy.parent != tasks_dir() / "_strategies":
        return {}
    content = parse_yaml(strategy.read_text(encoding="utf-8"), str(strategy), trusted=True)
    below = content.get("include")
    lower = _wording(strategy.parent / below, language) if below else {}
    own = tasks_dir() / "_languages" / language / strategy.name
    untranslated = not own.is_file() and content.keys() & {"doc_to_text", "prompts", "shots"}
    if untranslated and language in prompt_languages():
        raise AmbiError(f"the strategy {strategy.stem} has prompts in English only; leave out prompt_language")
    return lay_over(lower, read_yaml(own)) if own.is_file() else lower


def _label_words(config: Config, language: str, where: str) -> dict[str, str]:
    """Return the word for each label in another language; labels that are numbers have none."""
    if language not in prompt_languages():
        known = ", ".join(["en", "corpus", *prompt_languages()])
        raise AmbiError(f"{where}: prompt_language is {show_value(language)}; it must be one of {known}")
    own = config.get("label_words")
    own = own if isinstance(own, dict) else {}
    words = {**read_yaml(tasks_dir() / "_languages" / language / "labels.yaml"), **own}
    labels = [label for label in config.get("labels", []) if not re.fullmatch(r"-?\d+(\.\d+)?", str(label))]
    for label in labels:
        if label not in words:
            raise AmbiError(f"{where}: no word for the label '{label}' in '{language}': add it to label_words")
    return {**{label: words[label] for label in labels}, **own}


def read_back(logged: Mapping[str, Any], where: str) -> TaskSettings:
    """Return the settings of a task from its configuration in a results file (AmbiError if that was changed)."""
    return TaskSettings.read(_given(_only(logged, OUR_KEYS)), where)


def for_harness(settings: TaskSettings) -> Config:
    """Return the configuration of a task for the harness, without keys that it does not know."""
    return deepcopy({**settings.harness, **settings.model_dump(include=set(HARNESS_KEYS))})


def for_results(settings: TaskSettings) -> Config:
    """Return the keys of a task that the harness does not know, for the results file."""
    return settings.model_dump(exclude=set(HARNESS_KEYS), exclude_none=True)


def beside(source: str, name: str) -> Path:
    """Return the path of a file that a task names: relative to its YAML, or to the working directory if inline."""
    return (Path.cwd() if source == "inline" else Path(source).parent) / name


def _strategy_path(name: str, source: str) -> Path:
    if str(name).endswith(".yaml"):
        return beside(source, name)
    if name not in (ours := strategy_names()):
        told = f"{show_value(str(name))}{did_you_mean(str(name), ours)} (ours: {', '.join(ours)}"
        raise AmbiError(f"{source}: no strategy {told}; your own: a path that ends in .yaml, beside the task's file)")
    return tasks_dir() / "_strategies" / f"{name}.yaml"


def _given(config: Mapping[str, Any]) -> Config:
    """Return a deep copy of a configuration without keys that have no value, and without the harness's `class`."""
    given = {key: value for key, value in config.items() if value is not None and key != "class"}
    return {key: value if callable(value) else deepcopy(value) for key, value in given.items()}


def _only(config: Mapping[str, Any], keys: Iterable[str]) -> Config:
    return {key: config[key] for key in keys if key in config}


def _check_keys(config: Config, where: str) -> None:
    known = {*OUR_KEYS, *HARNESS_KEYS}
    for key in config.keys() - known:
        raise AmbiError(f"{where}: unknown key '{key}'{did_you_mean(str(key), known)}")
    if "process_docs" in config:
        raise AmbiError(f"{where}: take out process_docs; choose the clips of a task in its manifest")


def _apply_overrides(config: Config, where: str) -> None:
    given = config["metadata"]
    for key in given.keys() - OVERRIDES.keys():
        if near := get_close_matches(str(key), OVERRIDES, n=1, cutoff=NEARLY):
            raise AmbiError(f"{where}: --metadata {key}={given[key]} sets nothing, did you mean '{near[0]}'?")
    places = ["everywhere", config.get("pool"), "verifier" if config.get("verifier") else None]
    for key in OVERRIDES.keys() & given.keys():
        if OVERRIDES[key] not in places:
            continue  # `repeats=5` for a group of tasks must not change its greedy tasks
        if key == "beams":
            config["generation_kwargs"] = _plus(config.get("generation_kwargs"), num_beams=given[key])
            config["repeats"] = given[key]
        elif key == "ratings":
            config["verifier"] = _plus(config["verifier"], ratings=given[key])
        else:
            config[key] = given[key]


def _labels_of_pairs(config: Config) -> None:
    """Replace the labels by `first` and `second` in a task about pairs; `pairs.among` keeps those of the corpus."""
    pairs = config.get("pairs")
    if isinstance(pairs, dict) and "among" not in pairs and "labels" in config:
        config |= {"pairs": {**pairs, "among": config["labels"]}, "labels": list(FIRST_OR_SECOND), "synonyms": {}}


def _plus(settings: Any, **more: Any) -> Any:
    """Return a mapping with further keys; anything else is returned as it is, and refused later."""
    return {**settings, **more} if isinstance(settings, dict) else more if settings is None else settings

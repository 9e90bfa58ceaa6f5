"""What a grid's YAML says: models, tasks, seeds and overrides, checked whole before anything is spent."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ambi_eval.config.load import Config, load_corpus, load_task, read_yaml, strategy_names
from ambi_eval.config.task_settings import OVERRIDES, TaskSettings, keys_that
from ambi_eval.corpora.manifest import Clip
from ambi_eval.corpora.selection import corpus_clips, select
from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.paths import tasks_dir

KEYS = ("models", "corpora", "strategies", "tasks", "seeds", "metadata", "limit")
# The sweep sets these itself: one store for each model and corpus, and the seeds of the grid.
NOT_IN_MODEL_ARGS = ("store", "seed")


@dataclass(frozen=True)
class Model:
    """A model of the grid.

    Attributes:
        name: What the grid calls it.
        model: The harness's name for its kind, as after `lm_eval --model`.
        model_args: As after `--model_args`.
        batch_size: As after `--batch_size`.
        gpus: GPUs that one replica takes where an engine shares them out; a part of one may be enough.
        strategies: Those of the grid's strategies that it runs; None for all.
    """

    name: str
    model: str = "hf-audio"
    model_args: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int | str = 1
    gpus: float = 1
    strategies: Sequence[str] | None = None


@dataclass(frozen=True, eq=False)
class Cell:
    """One run of the grid.

    Attributes:
        name: Its name, and its folder within the grid's: model, task, and what sets it apart.
        model: The model.
        task: Name of the task.
        source: File of the task.
        corpus: Name of the corpus.
        pool: As in the task's YAML.
        seed: As after `lm_eval --seed`.
        metadata: As after `--metadata`.
        limit: As after `--limit`; None for all clips.
        clips: Number of clips that are asked about.
        answers: Number of answers to generate for them all: 0 if an earlier cell of the grid makes the same ones.
        max_tokens: The most tokens that one answer can have.
        identity: Everything that the results depend on, as plain JSON.
    """

    name: str
    model: Model
    task: str
    source: Path
    corpus: str
    pool: str
    seed: int
    metadata: Mapping[str, Any]
    limit: int | None
    clips: int
    answers: int
    max_tokens: int
    identity: Mapping[str, Any]

    @property
    def group(self) -> str:
        """Name of the cells that share one loaded model and one store: those of one model, corpus and seed."""
        return f"{self.model.name}.{self.corpus}.seed-{self.seed}"


def read_grid(path: Path, limit: int | None = None) -> list[Cell]:
    """Return the runs of the grid that a YAML file describes: each model with each task, seed and override.

    Seeds and overrides that change nothing about a task make no further run of it.

    Args:
        path: The file. Its keys: `models` (by name, each with `model`, `model_args`, `batch_size`, `gpus`), `corpora`
            and `strategies` of ours (each with each), `tasks` (YAML files of one's own, relative to this one), `seeds`,
            `metadata` (a list of mappings) and `limit`. A model's own `strategies` are those that it runs.
        limit: Ask about the first so many clips only, instead of what the file says.

    Raises:
        AmbiError: For every mistake in the file and in a task that it names, and for a corpus that is not prepared.
    """
    content = read_yaml(path)
    _check_keys(str(path), content, KEYS)
    _check_strategies(path, _of_type(path, content, "strategies", list, []))
    models = [_model(path, name, given) for name, given in _of_type(path, content, "models", dict, {}).items()]
    sources = [*_our_tasks(path, content), *_own_tasks(path, content)]
    if not models or not sources:
        raise AmbiError(f"{path}: a grid needs `models`, and either `corpora` and `strategies` or `tasks`")
    seeds = _of_type(path, content, "seeds", list, [0])
    if not all(type(seed) is int for seed in seeds):
        raise AmbiError(f"{path}: seeds must be whole numbers, they are {seeds}")
    overrides = _of_type(path, content, "metadata", list, [{}])
    for override in overrides:
        _check_keys(f"{path}: metadata", override, OVERRIDES)
    limit = limit or _of_type(path, content, "limit", int, None)
    if limit is not None and limit < 1:
        raise AmbiError(f"{path}: limit is {limit}; it must be at least 1 clip")
    selections = _Selections(limit)
    cells: dict[str, Cell] = {}
    for model in models:
        made: dict[str, int] = {}
        for seed in seeds:
            for source in sources:
                strategy = read_yaml(source).get("strategy")
                if model.strategies is not None and strategy not in model.strategies:
                    continue
                for override in overrides:
                    cell = _cell(model, source, seeds[0], seed, override, selections, made)
                    cells.setdefault(cell.name, cell)
    return list(cells.values())


def _cell(
    model: Model,
    source: Path,
    first_seed: int,
    seed: int,
    override: Mapping[str, Any],
    selections: _Selections,
    made: dict[str, int],
) -> Cell:
    """Return one run.

    Args:
        model: The model.
        source: File of the task.
        first_seed: The seed of runs that do not depend on one.
        seed: The seed of others.
        override: What `--metadata` is to say, where it concerns the task.
        selections: Which clips each task asks about.
        made: How many answers to each question and clip the model has been asked for by cells before; brought up to
            date.
    """
    plain = load_task(source)
    metadata = {key: value for key, value in override.items() if _changes(plain, load_task(source, {key: value}))}
    settings = load_task(source, metadata)
    pool = settings.pool
    if pool != "samples":
        seed = first_seed
    clips, digest = selections.of(settings)
    # Tasks that agree in all that answers depend on share one pool.
    asked = json.dumps([digest, seed, settings.model_dump(include=set(keys_that("answers")))])
    if pool == "beams":
        asked += f" {settings.repeats}"
    wanted = 0 if pool == "labels" else settings.answers_per_clip
    answers = max(0, wanted - made.get(asked, 0)) * clips
    made[asked] = max(wanted, made.get(asked, 0))
    parts = [settings.task, *(f"{key}-{value}" for key, value in metadata.items())]
    if pool == "samples":
        parts.append(f"seed-{seed}")
    own = {key: value for key, value in settings.metadata.items() if key != "config_source"}
    identity = {
        "model": model.model,
        "model_args": model.model_args,
        "task": {**settings.harness, **settings.model_dump(), "metadata": own},
        "seed": seed if pool == "samples" else None,
        "limit": selections.limit,
        "clips": digest,
    }
    return Cell(
        name=f"{model.name}/{'.'.join(parts)}",
        model=model,
        task=settings.task,
        source=source,
        corpus=Path(settings.manifest).stem,
        pool=pool,
        seed=seed,
        metadata=metadata,
        limit=selections.limit,
        clips=clips,
        answers=answers,
        max_tokens=0 if pool == "labels" else settings.generation().max_gen_toks,
        identity=json.loads(json.dumps(identity, default=str)),
    )


def _changes(plain: TaskSettings, overridden: TaskSettings) -> bool:
    """Return whether an override says anything about this task: `repeats` nothing about a greedy one, for example."""
    return plain.model_copy(update={"metadata": {}}) != overridden.model_copy(update={"metadata": {}})


class _Selections:
    """Which clips each task asks about; tasks that ask about the same ones are looked at once."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.manifests: dict[str, list[Clip]] = {}
        self.known: dict[str, tuple[int, str]] = {}

    def of(self, settings: TaskSettings) -> tuple[int, str]:
        """Return the number of clips, and a digest of their ids, votes, clusters and what is heard of each."""
        folder = str(Path(settings.source).parent)
        key = json.dumps([folder, settings.model_dump(include=set(keys_that("clips")))])
        if key not in self.known:
            manifest = f"{folder}/{settings.manifest}"
            if manifest not in self.manifests:
                self.manifests[manifest] = corpus_clips(settings)
            chosen = select(settings, self.manifests[manifest])
            digest = hashlib.sha256(chosen.votes.tobytes())
            digest.update(json.dumps([[c.id for c in chosen.clips], chosen.clusters, chosen.heard]).encode())
            self.known[key] = (min(len(chosen.clips), self.limit or len(chosen.clips)), digest.hexdigest())
        return self.known[key]


def _model(path: Path, name: str, given: Any) -> Model:
    where = f"{path}: models: {name}"
    if not re.fullmatch(r"[\w.-]+", str(name)):
        raise AmbiError(f"{where}: a model's name is the name of a folder: letters, digits, '-', '_' and '.' only")
    _check_keys(where, given, [each.name for each in fields(Model) if each.name != "name"])
    model = Model(str(name), **given)
    _check_strategies(where, model.strategies or [])
    _check_model(where, model)
    return model


def _check_model(where: str, model: Model) -> None:
    """Raise if the harness knows no such model, or if it is one of ours and does not know one of its arguments."""
    import inspect

    import lm_eval.models  # noqa: F401 - fills the registry
    from lm_eval.api.registry import get_model, model_registry

    try:
        kind = get_model(model.model)
    except (KeyError, ValueError) as error:
        hint = did_you_mean(model.model, model_registry.keys())
        raise AmbiError(f"{where}: lm_eval has no model '{model.model}'{hint}") from error
    if not isinstance(model.model_args, dict):
        raise AmbiError(f"{where}: model_args must be `key: value` lines, it is {model.model_args!r}")
    for key in NOT_IN_MODEL_ARGS:
        if key in model.model_args:
            raise AmbiError(f"{where}: take '{key}' out of model_args: the sweep sets it")
    if kind.__module__.startswith("ambi_eval."):
        known = {each.name for each in inspect.signature(kind).parameters.values() if each.kind != each.VAR_KEYWORD}
        _check_keys(f"{where}: model_args", model.model_args, known)


def _check_strategies(where: Path | str, strategies: Sequence[str]) -> None:
    for strategy in strategies:
        if strategy not in strategy_names():
            hint = did_you_mean(str(strategy), strategy_names())
            raise AmbiError(f"{where}: no strategy '{strategy}'{hint} (ours: {', '.join(strategy_names())})")


def _our_tasks(path: Path, content: Config) -> list[Path]:
    """Return the files of our tasks: each corpus with each strategy."""
    corpora, strategies = (_of_type(path, content, key, list, []) for key in ("corpora", "strategies"))
    for corpus in corpora:
        load_corpus(corpus)
    files = {file.stem: file for file in tasks_dir().glob("[!_]*/ambi_*.yaml")}
    return [files[f"ambi_{corpus}_{strategy}"] for corpus in corpora for strategy in strategies]


def _own_tasks(path: Path, content: Config) -> list[Path]:
    return [(path.parent / name).resolve() for name in _of_type(path, content, "tasks", list, [])]


def _check_keys(where: str, given: Any, known: Iterable[str]) -> None:
    if not isinstance(given, dict):
        raise AmbiError(f"{where}: there must be `key: value` lines, there is {given!r}")
    for key in given.keys() - set(known):
        raise AmbiError(f"{where}: unknown key '{key}'{did_you_mean(str(key), known)} ({', '.join(sorted(known))})")


def _of_type(path: Path, content: Config, key: str, kind: type, default: Any) -> Any:
    value = content.get(key, default)
    if value is not default and not isinstance(value, kind):
        words = {dict: "`name: ...` lines", list: "a list", int: "a whole number"}
        raise AmbiError(f"{path}: {key} must be {words[kind]}, it is {value!r}")
    return value


def by_group(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return the cells by group, in their order."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    return groups

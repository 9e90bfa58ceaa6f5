"""Reads the YAML of a grid, and checks its models, tasks, seeds and overrides before the first run."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from ambi_eval.audio import AudioSpan, audio_digest, span_seconds
from ambi_eval.config.grid import Grid, GridModel
from ambi_eval.config.load import load_task, read_yaml
from ambi_eval.config.task_settings import TaskSettings, keys_that
from ambi_eval.corpora.manifest import Clip
from ambi_eval.corpora.registry import published_size
from ambi_eval.corpora.select import corpus_clips, select
from ambi_eval.engines.base import arguments_of
from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.paths import tasks_dir


@dataclass(frozen=True, eq=False)
class Cell:
    """One run of the grid."""

    name: str  # its name and its folder below that of the grid: model, task, and what differs from other runs
    model_name: str  # the model's name in the grid
    model: GridModel
    task: str
    source: Path  # file of the task
    corpus: str
    pool: str  # as in the task's YAML
    seed: int  # as `lm_eval --seed`
    metadata: Mapping[str, Any]  # as `--metadata`
    limit: int | None  # as `--limit`; None for all clips
    clips: int  # number of clips that are asked about
    answers: int  # number of answers to generate for all clips together, without those that an earlier cell generates
    max_tokens: int  # largest number of tokens of one answer, with its thinking
    audio_seconds: float  # total length of the audio, each clip heard once; NaN if unknown
    prepared: bool  # whether its corpus is prepared; if not, the numbers come from its published size
    identity: Mapping[str, Any]  # everything that the results depend on, as plain JSON

    @property
    def group(self) -> str:
        """Name of the group of cells with the same model, corpus and seed, which share the model and the store."""
        return f"{self.model_name}.{self.corpus}.seed-{self.seed}"


def read_grid(
    path: Path, limit: int | None = None, corpora: Sequence[str] | None = None, published: bool = False
) -> list[Cell]:
    """Return the runs of a grid file: each model with each task, seed and override that changes the task.

    Args:
        path: The file; `Grid` describes its content.
        limit: Ask about the first clips only, this many; replaces the file's value.
        corpora: Only these corpora of the grid, without the user's own task files; None for all.
        published: Whether a corpus that is not prepared counts with its published size, for a dry run.

    Raises:
        AmbiError: For every mistake in the file and in a task that it names, and for a corpus that is not prepared.
    """
    grid = Grid.read(read_yaml(path), str(path))
    if corpora is not None:
        for name in corpora:
            if name not in grid.corpora:
                raise AmbiError(f"--corpora {name}: the corpora of {path} are {', '.join(grid.corpora) or 'none'}.")
        grid = grid.model_copy(update={"corpora": list(corpora), "tasks": []})
    for name, model in grid.models.items():
        _check_model(f"{path}: models: {name}", model)
    sources = _sources(path, grid)
    selections = _Selections(limit or grid.limit, published)
    cells: dict[str, Cell] = {}
    for name, model in grid.models.items():
        weights, made = _weights(model), Counter[str]()
        for seed, source, override in product(grid.seeds, sources, grid.metadata):
            task = selections.task(source)
            if model.strategies is None or task.strategy in model.strategies:
                seed = seed if task.pool == "samples" else grid.seeds[0]
                cell = _cell(name, model, weights, source, seed, override, selections, made)
                cells.setdefault(cell.name, cell)
    return list(cells.values())


def _cell(
    name: str,
    model: GridModel,
    weights: str | None,
    source: Path,
    seed: int,
    override: Mapping[str, Any],
    selections: _Selections,
    made: Counter[str],
) -> Cell:
    """Return one run; `made` counts the answers per clip of each pool that earlier cells of the model generate."""
    plain = selections.task(source)
    metadata = {key: value for key, value in override.items() if _changes(plain, selections.task(source, {key: value}))}
    settings = selections.task(source, metadata)
    pool, asked = settings.pool, selections.of(settings)
    # Tasks share one pool of answers if everything that answers depend on is the same.
    shared = json.dumps([asked.digest, seed, settings.model_dump(include=set(keys_that("answers")))])
    if pool == "beams":
        shared += f" {settings.repeats}"
    wanted = 0 if pool == "labels" else settings.answers_per_clip
    answers = max(0, wanted - made[shared]) * asked.clips
    made[shared] = max(wanted, made[shared])
    parts = [settings.task, *(f"{key}-{value}" for key, value in metadata.items())]
    if pool == "samples":
        parts.append(f"seed-{seed}")
    own = {key: value for key, value in settings.metadata.items() if key != "config_source"}
    identity = {
        "model": model.model,
        "model_args": model.model_args,
        "weights": weights,
        "task": {**settings.harness, **settings.model_dump(), "metadata": own},
        "seed": seed if pool == "samples" else None,
        "limit": selections.limit,
        "clips": asked.digest,
    }
    return Cell(
        name=f"{name}/{'.'.join(parts)}",
        model_name=name,
        model=model,
        task=settings.task,
        source=source,
        corpus=Path(settings.manifest).stem,
        pool=pool,
        seed=seed,
        metadata=metadata,
        limit=selections.limit,
        clips=asked.clips,
        answers=answers,
        max_tokens=0 if pool == "labels" else settings.generation().most_tokens,
        audio_seconds=asked.seconds,
        prepared=asked.prepared,
        identity=json.loads(json.dumps(identity, default=str)),
    )


def _changes(plain: TaskSettings, overridden: TaskSettings) -> bool:
    """Return whether an override changes a task: `repeats` does not change a greedy one, for example."""
    return plain.model_copy(update={"metadata": {}}) != overridden.model_copy(update={"metadata": {}})


class _Asked(NamedTuple):
    clips: int
    digest: str  # of their ids, votes, clusters and audio
    seconds: float  # of audio
    prepared: bool


class _Selections:
    """The settings of each task and the clips that it asks about, each read once."""

    def __init__(self, limit: int | None, published: bool) -> None:
        self.limit = limit
        self.published = published
        self.manifests: dict[str, list[Clip]] = {}
        self.known: dict[str, _Asked] = {}
        self.tasks: dict[str, TaskSettings] = {}

    def task(self, source: Path, metadata: Mapping[str, Any] | None = None) -> TaskSettings:
        """Return the settings of a task file, with `--metadata`."""
        key = f"{source} {json.dumps(metadata or {})}"
        if key not in self.tasks:
            self.tasks[key] = load_task(source, metadata or {})
        return self.tasks[key]

    def of(self, settings: TaskSettings) -> _Asked:
        """Return the clips that a task asks about."""
        folder = str(Path(settings.source).parent)
        key = json.dumps([folder, settings.model_dump(include=set(keys_that("clips")))])
        if self.published and (size := published_size(settings.manifest)):
            clips = min(size[0], self.limit or size[0])
            return _Asked(clips, key, size[1] * clips / size[0], prepared=False)
        if key not in self.known:
            manifest = f"{folder}/{settings.manifest}"
            if manifest not in self.manifests:
                self.manifests[manifest] = corpus_clips(settings)
            chosen = select(settings, self.manifests[manifest])
            chosen = chosen.at(range(min(len(chosen.clips), self.limit or len(chosen.clips))))
            digest = hashlib.sha256(chosen.votes.tobytes())
            sounds = [heard and audio_digest(AudioSpan.from_dict(heard)) for heard in chosen.heard]
            digest.update(json.dumps([[clip.id for clip in chosen.clips], chosen.clusters, sounds]).encode())
            if chosen.before:
                before = [[audio_digest(AudioSpan.from_dict(span)) for span in spans] for spans in chosen.before]
                digest.update(json.dumps([before, [votes.tolist() for votes in chosen.shown]]).encode())
            spans = [heard for heard in chosen.heard if heard] + [span for each in chosen.before or () for span in each]
            seconds = sum(span_seconds(AudioSpan.from_dict(span)) for span in spans)
            self.known[key] = _Asked(len(chosen.clips), digest.hexdigest(), seconds, prepared=True)
        return self.known[key]


def _check_model(where: str, model: GridModel) -> None:
    """Raise an error if the harness does not know the model, or if it is one of ours and its arguments are wrong."""
    if arguments := arguments_of(model.model):
        arguments.read(model.model_args, f"{where}: model_args")
        return
    import lm_eval.models  # noqa: F401 - fills the registry
    from lm_eval.api.registry import model_registry

    if model.model not in model_registry:
        hint = did_you_mean(model.model, model_registry.keys())
        raise AmbiError(f"{where}: lm_eval has no model '{model.model}'{hint}")


def _weights(model: GridModel) -> str | None:
    """Return a digest of the folders of checkpoints that the arguments of one of our models name; None without one."""
    # A checkpoint on the hub needs no digest: its repository and revision are arguments.
    folders = [str(value) for value in model.model_args.values() if isinstance(value, str) and Path(value).is_dir()]
    if not folders or arguments_of(model.model) is None:
        return None
    from ambi_eval.engines.hf.loading import processor_digest, weights_digest

    return weights_digest(*folders) + processor_digest(*folders)


def _sources(path: Path, grid: Grid) -> list[Path]:
    """Return the task files of a grid: ours for each corpus and strategy, and the user's own."""
    ours = {file.stem: file for file in tasks_dir().glob("[!_]*/ambi_*.yaml")}
    files = [ours[f"ambi_{corpus}_{strategy}"] for corpus in grid.corpora for strategy in grid.strategies]
    files += [(path.parent / name).resolve() for name in grid.tasks]
    by_task: dict[str, Path] = {}
    for file in files:
        name = load_task(file).task
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise AmbiError(f"{file}: task is '{name}'; a grid needs letters, digits, '-', '_' and '.' only")
        if by_task.setdefault(name, file) != file:
            raise AmbiError(f"{path}: {by_task[name]} and {file} are both called '{name}'; give one another name")
    return list(by_task.values())


def by_group(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return the cells by group, in their order."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    return groups

"""Reads a grid's YAML: models, tasks, seeds and overrides, all checked before the first run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """One run of the grid.

    Attributes:
        name: Its name, also its folder within the grid's: model, task, and what differs from other runs.
        model_name: The model's name in the grid.
        model: The model.
        task: Name of the task.
        source: File of the task.
        corpus: Name of the corpus.
        pool: As in the task's YAML.
        seed: As after `lm_eval --seed`.
        metadata: As after `--metadata`.
        limit: As after `--limit`; None for all clips.
        clips: Number of clips that are asked about.
        answers: Number of answers to generate for all clips: 0 if an earlier cell of the grid makes the same ones.
        max_tokens: Largest number of tokens of one answer, with its thinking.
        audio_seconds: Total length of the audio, each clip heard once; NaN where it is not known.
        prepared: Whether its corpus is prepared; the numbers of one that is not are those published.
        identity: Everything that the results depend on, as plain JSON.
    """

    name: str
    model_name: str
    model: GridModel
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
    audio_seconds: float
    prepared: bool
    identity: Mapping[str, Any]

    @property
    def group(self) -> str:
        """Name of the group of cells with one model, corpus and seed: they share the loaded model and the store."""
        return f"{self.model_name}.{self.corpus}.seed-{self.seed}"


def read_grid(
    path: Path, limit: int | None = None, corpora: Sequence[str] | None = None, published: bool = False
) -> list[Cell]:
    """Return the runs of a grid file: each model with each task, seed and override.

    Seeds and overrides that do not change a task add no run of it.

    Args:
        path: The file; `Grid` describes its content.
        limit: Ask about this many clips only, the first ones; replaces the file's value.
        corpora: Run these corpora of the grid only, and no task file of one's own; None for all.
        published: Whether to count a corpus that is not prepared by its published size. These runs cannot be run.

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
        weights = _weights(model)
        made: dict[str, int] = {}
        for seed in grid.seeds:
            for source in sources:
                if model.strategies is not None and selections.task(source).strategy not in model.strategies:
                    continue
                for override in grid.metadata:
                    cell = _cell(name, model, weights, source, seed, grid.seeds[0], override, selections, made)
                    cells.setdefault(cell.name, cell)
    return list(cells.values())


def _cell(
    name: str,
    model: GridModel,
    weights: str | None,
    source: Path,
    seed: int,
    first_seed: int,
    override: Mapping[str, Any],
    selections: _Selections,
    made: dict[str, int],
) -> Cell:
    """Return one run.

    Args:
        name: The model's name in the grid.
        model: The model.
        weights: Digest of its weights, if they are in a folder.
        source: File of the task.
        seed: The seed, if answers are sampled.
        first_seed: The seed of runs that do not depend on one.
        override: As after `--metadata`; the part of it that changes the task counts.
        selections: Which clips each task asks about.
        made: How many answers to each question and clip earlier cells ask the model for; updated here.
    """
    plain, changed = selections.task(source), override.items()
    metadata = {key: value for key, value in changed if _changes(plain, selections.task(source, {key: value}))}
    settings = selections.task(source, metadata)
    pool = settings.pool
    seed = seed if pool == "samples" else first_seed
    clips, digest, seconds, prepared = selections.of(settings)
    # Tasks share one pool if everything that answers depend on is the same.
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
        "weights": weights,
        "task": {**settings.harness, **settings.model_dump(), "metadata": own},
        "seed": seed if pool == "samples" else None,
        "limit": selections.limit,
        "clips": digest,
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
        clips=clips,
        answers=answers,
        max_tokens=0 if pool == "labels" else settings.generation().most_tokens,
        audio_seconds=seconds,
        prepared=prepared,
        identity=json.loads(json.dumps(identity, default=str)),
    )


def _changes(plain: TaskSettings, overridden: TaskSettings) -> bool:
    """Return whether an override changes this task: `repeats` does not change a greedy one, for example."""
    return plain.model_copy(update={"metadata": {}}) != overridden.model_copy(update={"metadata": {}})


class _Selections:
    """The tasks and which clips each asks about; every task is read once, and so are tasks with the same clips."""

    def __init__(self, limit: int | None, published: bool) -> None:
        self.limit = limit
        self.published = published
        self.manifests: dict[str, list[Clip]] = {}
        self.known: dict[str, tuple[int, str, float, bool]] = {}
        self.tasks: dict[str, TaskSettings] = {}

    def task(self, source: Path, metadata: Mapping[str, Any] | None = None) -> TaskSettings:
        """Return the settings of a task file, with an override."""
        key = f"{source} {json.dumps(metadata or {})}"
        if key not in self.tasks:
            self.tasks[key] = load_task(source, metadata or {})
        return self.tasks[key]

    def of(self, settings: TaskSettings) -> tuple[int, str, float, bool]:
        """Return the number of clips, a digest of their ids, votes, clusters and sounds, and the seconds of audio.

        Last comes whether the corpus is prepared.
        """
        folder = str(Path(settings.source).parent)
        key = json.dumps([folder, settings.model_dump(include=set(keys_that("clips")))])
        if self.published and (size := published_size(settings.manifest)):
            clips = min(size[0], self.limit or size[0])
            return clips, key, size[1] * clips / size[0], False
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
            self.known[key] = (len(chosen.clips), digest.hexdigest(), seconds, True)
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
    """Return a digest of the checkpoints that the arguments of one of our models name, if they are folders.

    A checkpoint on the hub needs none: the arguments hold its repository and revision.
    """
    folders = [str(value) for value in model.model_args.values() if isinstance(value, str) and Path(value).is_dir()]
    if not folders or arguments_of(model.model) is None:
        return None
    from ambi_eval.engines.hf.loading import processor_digest, weights_digest

    return weights_digest(*folders) + processor_digest(*folders)


def _sources(path: Path, grid: Grid) -> list[Path]:
    """Return the task files of a grid: those of ours for each corpus and strategy, and the user's own.

    Raises:
        AmbiError: If two of them name the same task, or a name cannot name a folder.
    """
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

"""Our tasks, which score submitted answers in the same way as new ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from ambi_eval.config.load import read_yaml, resolve, with_metadata
from ambi_eval.config.task_settings import TaskSettings
from ambi_eval.corpora.manifest import Manifest
from ambi_eval.corpora.registry import needs_release
from ambi_eval.corpora.select import corpus_clips
from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.harness.requests import Documents
from ambi_eval.harness.task import AmbiguousEmotionTask
from ambi_eval.leaderboard.submission import Pools
from ambi_eval.paths import manifest_path, tasks_dir

Overrides = tuple[tuple[str, Any], ...]


class ScoringTask(AmbiguousEmotionTask):
    """A task that only scores, so that its clips need no audio on this machine."""

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Read the manifest."""
        whole = corpus_clips(self.settings)
        self.select(Manifest((replace(clip, audio=clip.audio or "not on this machine") for clip in whole), whole.about))
        self.dataset = {"test": Documents({"id": clip.id, "audio": None} for clip, _ in self.asked)}


@cache
def task_files() -> Mapping[str, Path]:
    """Return the files of our tasks, by task."""
    return {path.stem: path for path in sorted(tasks_dir().glob("*/ambi_*.yaml")) if "strategy" in read_yaml(path)}


@cache
def task_settings(name: str, overrides: Overrides = ()) -> TaskSettings:
    """Return the settings of one of our tasks.

    Raises:
        AmbiError: If there is no such task, or the overrides are invalid.
    """
    return resolve(_raw_config(name, overrides))


def new_scoring_task(name: str, overrides: Overrides = ()) -> ScoringTask:
    """Return one of our tasks with its votes.

    Raises:
        AmbiError: If there is no such task, its votes are not on this machine, or the overrides are invalid.
    """
    return ScoringTask(_raw_config(name, overrides))


scoring_task = cache(new_scoring_task)  # callers must not change the tasks


def votes_are_here(settings: TaskSettings) -> bool:
    """Return whether the votes of a task's corpus are on this machine, or can be made here (the demo)."""
    return manifest_path(settings.manifest).is_file() or not needs_release(settings.manifest)


def listed_clips(settings: TaskSettings) -> list[str] | None:
    """Return the ids of the clips of a corpus's tasks from their list in the tasks folder; None if there is no list."""
    path = Path(settings.source).parent / f"_{settings.clips_name}.clips.txt"
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else None


def tokens_per_clip(settings: TaskSettings, pools: Pools) -> float:
    """Return the mean of generated tokens per clip, thinking included: 0 for `exact`, NaN if they were not counted."""
    if settings.pool == "labels":
        return 0.0
    counts = [answer.n_tokens for pool in pools.values() for answer in pool if answer.finish != "not_drawn"]
    return math.nan if None in counts else sum(count or 0 for count in counts) / len(pools) + thinking_per_clip(pools)


def thinking_per_clip(pools: Pools) -> float:
    """Return the mean of thinking tokens per clip; NaN if they are unknown."""
    counts = [answer.thinking_tokens for pool in pools.values() for answer in pool]
    return math.nan if None in counts else sum(count or 0 for count in counts) / len(pools)


def _raw_config(name: str, overrides: Overrides) -> dict[str, Any]:
    if name not in task_files():
        raise AmbiError(f"there is no task '{name}'{did_you_mean(name, task_files())}.")
    path = task_files()[name]
    return with_metadata(read_yaml(path), path, dict(overrides))

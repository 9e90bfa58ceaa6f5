"""Our tasks, ready to score submitted answers as if the model had just given them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from ambi_eval.config.load import Config, read_yaml, resolve
from ambi_eval.corpora.registry import needs_release
from ambi_eval.corpora.selection import Selection, corpus_clips, select
from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.harness.task import AmbiguousEmotionTask, Documents
from ambi_eval.leaderboard.submission import Pools
from ambi_eval.paths import manifest_path, tasks_dir

Overrides = tuple[tuple[str, Any], ...]


class ScoringTask(AmbiguousEmotionTask):
    """A task that only scores: it asks about the same clips whether their audio is on this machine or not."""

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Read the manifest."""
        config = {**self.own, "task": self.config.task, "metadata": self.config.metadata}
        clips = [replace(clip, audio=clip.audio or "not on this machine") for clip in corpus_clips(config)]
        self.selection: Selection = select(config, clips)
        self.rows = {clip.id: number for number, clip in enumerate(self.selection.clips)}
        self.dataset = {"test": Documents({"id": clip.id, "audio": None} for clip in self.selection.clips)}


@cache
def task_files() -> Mapping[str, Path]:
    """Return the files of our tasks, by task."""
    return {path.stem: path for path in sorted(tasks_dir().glob("*/ambi_*.yaml")) if "strategy" in read_yaml(path)}


@cache
def task_config(name: str, overrides: Overrides = ()) -> Config:
    """Return the configuration of one of our tasks.

    Raises:
        AmbiError: If there is no such task, or the overrides make no sense.
    """
    return resolve(_raw_config(name, overrides))


@cache
def scoring_task(name: str, overrides: Overrides = ()) -> ScoringTask:
    """Return one of our tasks, with its votes, ready to score answers.

    Raises:
        AmbiError: If there is no such task, its votes are not on this machine, or the overrides make no sense.
    """
    return ScoringTask(_raw_config(name, overrides))


def votes_are_here(config: Config) -> bool:
    """Return whether the votes of a task's corpus are on this machine, or can be made out of nothing."""
    name = config["manifest"]
    return manifest_path(name).is_file() or not needs_release(name)


def listed_clips(config: Config) -> list[str] | None:
    """Return the ids of the clips that a corpus' tasks ask about, where a list of them comes with the tasks."""
    path = Path(config["metadata"]["config_source"]).parent / f"_{config['metadata']['corpus']}.clips.txt"
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else None


def answers_per_clip(config: Config) -> int:
    """Return how many answers each clip has in a whole run of a task."""
    prompts = (1 + len(config["prompts"])) * config["rotations"]
    if config["pool"] == "labels":
        return prompts * len(config["labels"]) * (1 if config["calibration"] == "none" else 2)
    return prompts * config.get("repeats", 1)


def tokens_per_clip(config: Config, pools: Pools) -> float:
    """Return the mean number of generated tokens of a clip: 0 for likelihoods, NaN where the model does not say."""
    if config["pool"] == "labels":
        return 0.0
    counts = [answer.n_tokens for pool in pools.values() for answer in pool if answer.finish != "not_drawn"]
    return math.nan if None in counts else sum(count or 0 for count in counts) / len(pools)


def _raw_config(name: str, overrides: Overrides) -> Config:
    if name not in task_files():
        raise AmbiError(f"there is no task '{name}'{did_you_mean(name, task_files())}.")
    config = read_yaml(task_files()[name])
    config["metadata"] = {**config.get("metadata", {}), **dict(overrides), "config_source": str(task_files()[name])}
    return config

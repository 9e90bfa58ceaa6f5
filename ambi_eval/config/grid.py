"""`Grid`: the keys of the YAML of a sweep."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ambi_eval.config.load import corpus_files, strategy_names
from ambi_eval.config.settings import Settings
from ambi_eval.config.task_settings import OVERRIDES
from ambi_eval.errors import did_you_mean

# Model arguments that the sweep sets itself: one store for each model and corpus, and the seeds of the grid.
SET_BY_THE_SWEEP = ("store", "seed")
# Folders of the sweep's own files, beside those of the models.
OWN_FOLDERS = ("stores", "probe")


def _one_of(known: Callable[[], Collection[str]]) -> AfterValidator:
    def checked(name: str) -> str:
        if name not in known():
            raise ValueError(f"one of ours: {', '.join(known())}{did_you_mean(name, known())}")
        return name

    return AfterValidator(checked)


def _folder(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", name):
        raise ValueError("the name of a folder: at most 100 letters, digits, '-', '_' and '.'")
    if name in OWN_FOLDERS:
        raise ValueError("another name: the sweep keeps its own files in a folder of this one")
    return name


def _arguments(given: Any) -> Any:
    for key in SET_BY_THE_SWEEP:
        if isinstance(given, Mapping) and key in given:
            raise ValueError(f"without '{key}', which the sweep sets")
    return given


def _override(given: Any) -> Any:
    for key in given if isinstance(given, Mapping) else ():
        if key not in OVERRIDES:
            raise ValueError(f"keys of --metadata: '{key}' is none{did_you_mean(str(key), OVERRIDES)}")
    return given


Corpus = Annotated[str, _one_of(corpus_files)]
Strategy = Annotated[str, _one_of(strategy_names)]
ModelName = Annotated[str, AfterValidator(_folder)]
Override = Annotated[dict[str, Any], BeforeValidator(_override)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy takes


class GridModel(Settings):
    """A model of the grid."""

    model: str = "hf-audio"  # the harness's name for its kind, as after `lm_eval --model`
    model_args: Annotated[dict[str, Any], BeforeValidator(_arguments)] = {}  # as after `--model_args`
    # As after `--batch_size`.
    batch_size: Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern="^auto(:\\d+)?$")] = 1
    # GPUs of one replica where an engine shares them out; a part of one may be enough.
    gpus: Annotated[float, Field(ge=0)] = 1
    strategies: list[Strategy] | None = None  # those of the grid's strategies that it runs; by default all


class Grid(Settings):
    """Models, each with each corpus and strategy, each with each seed and override."""

    models: Annotated[dict[ModelName, GridModel], Field(min_length=1)]  # the models, by the names of their folders
    corpora: list[Corpus] = []  # corpora of ours
    strategies: list[Strategy] = []  # strategies of ours; each runs on each corpus
    tasks: list[str] = []  # task files of one's own, relative to the grid's file
    # As after `--seed`; one run for each where answers are sampled.
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    # As after `--metadata`; one run for each that has an effect.
    metadata: Annotated[list[Override], Field(min_length=1)] = [{}]
    limit: Annotated[int | None, Field(ge=1)] = None  # number of clips of each task, the first ones; by default all

    @model_validator(mode="after")
    def _runs_something(self) -> Grid:
        if not self.tasks and not (self.corpora and self.strategies):
            raise ValueError("a grid needs either `corpora` and `strategies` or `tasks`")
        return self

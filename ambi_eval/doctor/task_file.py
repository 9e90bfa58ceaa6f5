"""Finds everything that is wrong with a task's YAML, its manifest and its audio (`ambi-eval check`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from ambi_eval.answers.score import check_metrics
from ambi_eval.audio import SHORTEST_SECONDS, AudioSpan, load_audio, span_seconds
from ambi_eval.config.load import load_task, read_yaml
from ambi_eval.config.prompts import Prompts
from ambi_eval.config.task_settings import TaskSettings
from ambi_eval.corpora.select import corpus_clips, select
from ambi_eval.corpora.selection import Selection
from ambi_eval.errors import AmbiError
from ambi_eval.metrics.clustered import UNKNOWN
from ambi_eval.paths import tasks_dir

CLASS = "class: !function ambi_eval.task.AmbiguousEmotionTask"
SAMPLE_RATE = 16_000
# A clip that never exceeds this (-80 dB of full scale) is silent.
SILENT = 1e-4
Found = TypeVar("Found")
SHOWN = 5  # mistakes of one source, such as a manifest


@dataclass
class Findings:
    """What a check of a task has found."""

    facts: list[str] = field(default_factory=list)  # what the task asks about, one line each
    # What is wrong, one sentence each; a run would end with the first of them.
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # what is not wrong, but has a disadvantage
    more: int = 0  # number of further mistakes of the same source, beyond the first `SHOWN`

    def attempt(self, work: Callable[[], Found]) -> Found | None:
        """Return what `work` returns; if it finds mistakes, note them and return None."""
        try:
            return work()
        except AmbiError as mistake:
            self.add(mistake.problems)
            return None

    def add(self, problems: Iterable[str]) -> None:
        """Note the mistakes of one source, the first ones by their sentences and the others by their number."""
        every = list(problems)
        self.problems += every[:SHOWN]
        self.more += len(every[SHOWN:])


def check_task(path: Path) -> Findings:
    """Return what is wrong with a task: its keys, filters, prompts, manifest, votes and audio. No model is loaded."""
    found = Findings()
    content = found.attempt(lambda: read_yaml(path))
    found.problems += _without_our_class(path, content)
    settings = found.attempt(lambda: load_task(path)) if content is not None else None
    if settings is None:
        return found
    _check_words(settings, found)
    clips = found.attempt(lambda: corpus_clips(settings))
    selection = found.attempt(lambda: select(settings, clips)) if clips is not None else None
    if selection is not None:
        _tell(path, settings, selection, found)
        _listen(selection, found)
    return found


def _without_our_class(path: Path, content: Any) -> Iterator[str]:
    """Yield a problem if the YAML, with the files that it includes, does not name our class for the harness."""
    if not isinstance(content, dict):
        return
    if "class" not in content:
        yield f"{path}: the line `{CLASS}` is missing, so lm_eval would take it for a task of its own"
    elif re.search(r"^class:(?!\s*!function)", path.read_text(encoding="utf-8"), re.MULTILINE):
        yield f"{path}: write `{CLASS}`; without `!function` lm_eval cannot find the class"


def _check_words(settings: TaskSettings, found: Findings) -> None:
    """Note what is wrong with the metrics, the filters (and the synonyms that they read) and the prompts."""
    from ambi_eval.harness.pipelines import complete_pipelines

    found.attempt(lambda: check_metrics(settings.metrics, settings.task))
    found.attempt(lambda: complete_pipelines(settings))
    prompts = found.attempt(lambda: Prompts(settings))
    if prompts:
        shown = [[1.0] * len(settings.labels)] if settings.shots else ()
        found.attempt(lambda: prompts.about("the words of a clip", shown))
        if settings.verifier:
            found.attempt(lambda: prompts.rating("the words of a clip", "an answer"))


def _tell(path: Path, settings: TaskSettings, selection: Selection, found: Findings) -> None:
    votes = zip(settings.labels, selection.votes.sum(axis=0), strict=True)
    found.facts += [selection.summary(), "votes: " + ", ".join(f"{label} {count:,.10g}" for label, count in votes)]
    found.remarks += selection.warnings
    if any(each.stem == settings.task and each != path.resolve() for each in tasks_dir().resolve().glob("*/*.yaml")):
        found.remarks.append(f"the suite has a task '{settings.task}', too, and lm_eval would run this one: rename it")
    if "version" not in settings.metadata:
        fix = "`metadata: {version: 1}`, counted up when it changes"
        found.remarks.append(f"the task has no version, so results show 0: {fix}")
    if len({*selection.clusters} - {UNKNOWN}) < 2:
        found.remarks.append(f"fewer than two {settings.cluster}s are known, so the scores get no error bars (N/A)")


def _listen(selection: Selection, found: Findings) -> None:
    """Load every audio file; note those that cannot be read, and clips in which there is nothing to hear."""
    every = [*selection.heard, *chain.from_iterable(selection.before)]
    spans = dict.fromkeys(AudioSpan.from_dict(heard) for heard in every if heard)
    broken, silent, short = [], [], []
    for span in tqdm(spans, "audio", unit="clip", disable=None, leave=False):
        try:
            samples = load_audio(span, SAMPLE_RATE)
        except AmbiError as mistake:
            broken.append(str(mistake))
            continue
        if span.control:
            continue
        if np.abs(samples).max() < SILENT:
            silent.append(span.path)
        if span_seconds(span) < SHORTEST_SECONDS:
            short.append(span.path)
    found.add(broken)
    for paths, said in (
        (silent, "nothing but silence, or channels that cancel each other out"),
        (short, f"shorter than {SHORTEST_SECONDS} s, so silence is added up to that length"),
    ):
        if paths:
            others = f" (and {len(paths) - 1:,} more)" if len(paths) > 1 else ""
            found.remarks.append(f"{paths[0]}{others}: {said}")

"""The systems of a section: runs that differ only in the seed are one system, as are pipelines that predict alike."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ambi_eval.analysis import estimate as intervals
from ambi_eval.analysis.ambiguity import Binned, ambiguity_bins
from ambi_eval.analysis.discrimination import two_alternatives
from ambi_eval.analysis.evaluate import SystemScorer
from ambi_eval.analysis.information.calibration import calibration
from ambi_eval.analysis.references.held_out import HeldOutRaters
from ambi_eval.analysis.reliability import ambiguity_auroc, reliability_curve
from ambi_eval.analysis.scaling import Curve
from ambi_eval.analysis.significance import compare, compare_all_pairs
from ambi_eval.analysis.subgroups import subgroups
from ambi_eval.answers.score import OTHER_MEANS
from ambi_eval.config.task_settings import keys_that
from ambi_eval.harness.results import Pipeline, TaskRun
from ambi_eval.metrics import HEADLINE, METRICS
from ambi_eval.metrics.classification import expected_confusion
from ambi_eval.report.content import System, counterpart
from ambi_eval.votes import Array, shares

# Two pipelines predict alike if the mean divergence of their predictions is below this many bits.
ALIKE_BITS = 1e-4


@dataclass(frozen=True, eq=False)
class ModelTask:
    """A task of a run, with the name of the model in the report, and the facts about it.

    `sampling` is what is known about the server's sampling, `info` what the model wrote into the results file, and
    `seconds` how long the run took. `alone` says whether the run had no other task.
    """

    model: str
    seed: int
    sampling: str
    task: TaskRun
    info: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = float("nan")
    alone: bool = False


@dataclass(frozen=True, eq=False)
class Variant:
    """One pipeline of one task of one model, in one or several runs that differ in the seed only.

    Attributes:
        name: Its name in the report: strategy, pipeline and settings.
        members: Each run's task, with the predictions of the pipeline.
        same_as: Names of other variants of the model that predict alike.
    """

    name: str
    members: list[tuple[ModelTask, Pipeline]]
    same_as: list[str] = field(default_factory=list)

    @property
    def model(self) -> str:
        """The model's name in the report."""
        return self.members[0][0].model

    @property
    def full_name(self) -> str:
        """Model and name."""
        return f"{self.model}: {self.name}" if self.name else self.model

    @property
    def control(self) -> str:
        """What the model heard instead of the clip."""
        return self.members[0][0].task.settings.control

    @property
    def p(self) -> Array:
        """Predicted distributions, shape (seeds, clips, labels)."""
        return np.array([pipeline.p for _, pipeline in self.members])

    @property
    def errors(self) -> Array:
        """The divergence of each clip, the mean over seeds, shape (clips,)."""
        votes = self.members[0][0].task.votes
        per_clip = METRICS[HEADLINE].per_clip
        return np.mean([np.asarray(per_clip(p, votes)) for p in self.p], axis=0)

    @property
    def tokens(self) -> float:
        """Generated tokens of all answers of the first run; infinite if unknown."""
        total = float(self.members[0][0].task.tokens.sum())
        return np.inf if np.isnan(total) else total


def variants(asked: Sequence[ModelTask]) -> list[Variant]:
    """Return the variants in the tasks of some runs; runs that differ in the seed only are merged."""
    groups: dict[tuple[str, ...], list[tuple[ModelTask, Pipeline]]] = {}
    for one in asked:
        for pipeline in one.task.pipelines.values():
            key = (one.model, one.task.name, pipeline.name, json.dumps(shown_config(one.task), sort_keys=True))
            groups.setdefault(key, []).append((one, pipeline))
    named: dict[tuple[str, str], list[list[tuple[ModelTask, Pipeline]]]] = {}
    for members in groups.values():
        (one, pipeline), *_ = members
        named.setdefault((one.model, system_name(one.task, pipeline)), []).append(members)
    return [
        Variant(name + suffix, members)
        for (_, name), of_name in named.items()
        for members, suffix in zip(of_name, _suffixes([members[0][0].task for members in of_name]), strict=True)
    ]


def _suffixes(tasks: Sequence[TaskRun]) -> list[str]:
    """Return a suffix for each of several tasks of one name: the settings in which they differ."""
    configs = [shown_config(task) for task in tasks]
    plain = [{key: json.dumps(value, sort_keys=True) for key, value in config.items()} for config in configs]
    keys = [key for key in keys_that("reported") if len({config.get(key) for config in plain}) > 1]
    said = [", ".join(f"{key} {config.get(key, 'none')}" for key in keys) for config in plain]
    return [f" ({text:.80})" if text else "" for text in said]


def shown_config(task: TaskRun) -> dict[str, Any]:
    """Return the reported settings of a task."""
    told = task.settings.model_dump(include=set(keys_that("reported")))
    return {key: value for key, value in told.items() if value}


def without_copies(given: Sequence[Variant]) -> list[Variant]:
    """Return one variant of each group of a model that predicts alike, the cheapest; `same_as` names the others."""
    kept: list[Variant] = []
    for variant in sorted(given, key=lambda each: (each.tokens, len(each.name))):
        same = next((other for other in kept if _alike(other, variant)), None)
        if same:
            same.same_as.append(variant.name)
        else:
            kept.append(replace(variant, same_as=[]))
    return kept


def _alike(a: Variant, b: Variant) -> bool:
    if (a.model, a.control) != (b.model, b.control) or a.p.shape != b.p.shape:
        return False
    p, q, per_clip = a.p, b.p, METRICS[HEADLINE].per_clip
    invalid = np.isnan(p).any(axis=-1)
    if (invalid != np.isnan(q).any(axis=-1)).any() or invalid.all():
        return False
    return bool(np.mean(np.asarray(per_clip(p[~invalid], q[~invalid]))) < ALIKE_BITS)


def systems(given: Sequence[Variant], binned: Binned) -> tuple[list[System], list[System]]:
    """Return the systems and the controls among some variants, the best first, and show a progress bar."""
    selection = given[0].members[0][0].task.selection
    scorer, held_out = SystemScorer(selection, binned), HeldOutRaters(selection, binned)
    ambiguous = ambiguity_bins(selection.votes)[-1].members
    everything = [asked for variant in given for asked, _ in variant.members]
    found = []
    for variant in tqdm(given, "systems", unit="system", disable=None):
        others = [asked.task for asked in everything if asked.model == variant.model]
        of_seeds = [
            _system(variant, asked, pipeline, others, scorer, held_out, ambiguous)
            for asked, pipeline in variant.members
        ]
        found.append(_merged(variant, of_seeds))
    ranked = sorted(zip(found, given, strict=True), key=lambda pair: pair[0].scores[HEADLINE].value)
    real = [(system, variant.errors) for system, variant in ranked if variant.control == "none"]
    pairs = compare_all_pairs(np.array([errors for _, errors in real]), selection.clusters).comparisons
    controls = []
    for control, variant in ranked:
        if variant.control != "none":
            # A control is no system, so its test is not corrected for the number of systems.
            twin = counterpart(control, [system for system, _ in real])
            heard = [errors for system, errors in real if system is twin]
            alone = compare({"": variant.errors - heard[0]}, selection.clusters) if heard else {}
            controls.append(replace(control, against_best=alone.get("")))
    return [replace(system, against_best=pairs.get((place, 0))) for place, (system, _) in enumerate(real)], controls


def _merged(variant: Variant, of_seeds: Sequence[System]) -> System:
    """Return one system from several that differ in the seed only.

    Every number is the mean over seeds, also the ends of intervals; the result is no narrower than the interval of the
    mean.
    """
    if len(of_seeds) == 1:
        return of_seeds[0]
    tasks = [asked.task for asked, _ in variant.members]
    merged: System = _average(of_seeds)
    return replace(
        merged,
        seeds=[asked.seed for asked, _ in variant.members],
        spread=float(np.std([system.scores[HEADLINE].value for system in of_seeds], ddof=1)),
        failed=sum((Counter(task.failed) for task in tasks), Counter()),
        reliability=reliability_curve(
            np.concatenate(list(variant.p)),
            np.concatenate([task.votes for task in tasks]),
            [cluster for task in tasks for cluster in task.selection.clusters],
        ),
    )


def _average(values: Sequence[Any]) -> Any:
    """Return the mean of values of the same structure, number by number; other content is that of the first value."""
    first = values[0]
    if any(value is None for value in values) or isinstance(first, str):
        return first
    if is_dataclass(first) and not isinstance(first, type):
        means = {each.name: _average([getattr(value, each.name) for value in values]) for each in fields(first)}
        return replace(first, **means)
    if isinstance(first, Mapping):
        return {key: _average([value[key] for value in values]) for key in first if all(key in v for v in values)}
    if isinstance(first, list | tuple):
        same = len({len(value) for value in values}) == 1
        return [_average(items) for items in zip(*values, strict=True)] if same else first
    return first if all(value == first for value in values) else float(np.mean(values))


def _system(
    variant: Variant,
    asked: ModelTask,
    pipeline: Pipeline,
    others: Sequence[TaskRun],
    scorer: SystemScorer,
    held_out: HeldOutRaters,
    ambiguous: NDArray[np.bool_],
) -> System:
    task = asked.task
    p, votes, clusters = pipeline.p, task.votes, task.selection.clusters
    overall, binned = scorer.score(p)
    prior = np.broadcast_to(shares(votes).mean(axis=0), votes.shape)
    per_clip = METRICS[HEADLINE].per_clip
    above_prior = np.asarray(per_clip(p, votes)) - np.asarray(per_clip(prior, votes))
    logged = {name: pipeline.logged[name] for name in OTHER_MEANS if name in pipeline.logged}
    curves, name = curves_of(task), pipeline.name
    return System(
        model=asked.model,
        name=variant.name,
        same_as=variant.same_as,
        control=variant.control,
        seeds=[asked.seed],
        spread=float("nan"),
        sampling=asked.sampling,
        task=task.name,
        pipeline=pipeline.name,
        config=shown_config(task),
        pool_size=task.pool_size,
        scores=overall,
        binned=binned,
        invalid_rate=intervals.of_mean(np.isnan(p).any(axis=1).astype(float), clusters, (0, 1)),
        failed=task.failed,
        tokens=intervals.of_mean(task.tokens, clusters),
        thinking=intervals.of_mean(task.thinking, clusters),
        two_alternatives=two_alternatives(p, votes, task.selection.clips, clusters),
        held_out=held_out.judge(p, HEADLINE),
        curves={metric: c.pipelines[name] for metric, c in curves.items()},
        extrapolated={metric: c.extrapolated[name] for metric, c in curves.items() if name in c.extrapolated},
        asymptote=next((f"{asked.model}: {found}" for found in asymptotes(task, pipeline, others)), None),
        confusion=expected_confusion(p, votes).tolist(),
        reliability=reliability_curve(p, votes, clusters),
        ambiguity_auroc=ambiguity_auroc(p, ambiguous, clusters),
        calibration=calibration(p, votes, clusters),
        subgroups=subgroups(above_prior, task.selection),
        diagnostics={
            name: intervals.of_mean(values, clusters)
            for name, values in logged.items()
            if name not in ("invalid_rate", "tokens_per_clip") and not np.isnan(values).all()
        },
        against_best=None,
    )


def curves_of(task: TaskRun) -> dict[str, Curve]:
    """Return the curves over the pool size from the results file, by metric."""
    return {metric: intervals.from_json(Curve, curve) for metric, curve in task.curves.items()}


def system_name(task: TaskRun, pipeline: Pipeline) -> str:
    """Return the name of a system: strategy, pipeline (if there are several), language, transcript and control."""
    if not pipeline.name:  # predictions from a file: the model says it all
        return ""
    strategy = Path(str(task.settings.strategy or task.name)).stem
    several = f" {pipeline.name}" if len(task.pipelines) > 1 else ""
    control = "" if task.settings.control == "none" else f" [{task.settings.control}]"
    transcript = " + transcript" if task.settings.transcript == "given" else ""
    language = "" if task.settings.prompt_language == "en" else f" in {task.settings.prompt_language}"
    return f"{strategy}{several}{language}{transcript}{control}"


def asymptotes(task: TaskRun, pipeline: Pipeline, others: Sequence[TaskRun]) -> list[str]:
    """Return the names of the systems that the histogram of answers to a task tends to for large N: `exact`."""
    return [
        system_name(other, exact)
        for other in others
        if _tends_to(task, pipeline, other)
        for exact in other.pipelines.values()
    ]


def _tends_to(task: TaskRun, pipeline: Pipeline, other: TaskRun) -> bool:
    settings, exact = task.settings, other.settings
    generation = settings.generation()
    steps = [step["function"] for p in settings.filter_list if p["name"] == pipeline.name for step in p["filter"]]
    return (
        (settings.pool, settings.readout, exact.pool) == ("samples", "label", "labels")
        and steps == ["ambi_mean"]
        and (generation.temperature, generation.top_k, generation.top_p) == (1, 0, 1)
        and (exact.rotations, exact.calibration, exact.length_normalisation) == (1, "none", "none")
        and (settings.doc_to_text, settings.control, settings.transcript)
        == (exact.doc_to_text, exact.control, exact.transcript)
        and settings.asked_labels == exact.asked_labels
    )

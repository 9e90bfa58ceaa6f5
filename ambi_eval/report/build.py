"""From runs to the content of the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ambi_eval.analysis import estimate as intervals
from ambi_eval.analysis.ambiguity import Bin, ambiguity_bins
from ambi_eval.analysis.discrimination import human_two_alternatives, two_alternatives
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.evaluate import Scorer
from ambi_eval.analysis.references.agreement import krippendorff_alpha
from ambi_eval.analysis.references.baselines import REFERENCES, baselines
from ambi_eval.analysis.references.held_out import HeldOutRaters
from ambi_eval.analysis.references.panels import certain
from ambi_eval.analysis.reliability import ambiguity_auroc, reliability_curve
from ambi_eval.analysis.scaling import Curve
from ambi_eval.analysis.significance import compare_all_pairs
from ambi_eval.analysis.subgroups import subgroups
from ambi_eval.answers.score import OTHER_MEANS
from ambi_eval.config.task_settings import TaskSettings, keys_that
from ambi_eval.corpora.selection import Selection
from ambi_eval.harness.results import Pipeline, Run, TaskRun
from ambi_eval.metrics import METRICS
from ambi_eval.metrics.classification import expected_confusion
from ambi_eval.report.content import BinFacts, ClipError, Content, Reference, RunFacts, Section, System
from ambi_eval.votes import entropy_bits, majority, shares

Array = NDArray[np.float64]

HEADLINE = "jsd_bits"
CURVES = ("jsd_bits", "bc")
SAMPLERS = ("people", "prior")
# The references that stand beside the systems.
SHOWN_REFERENCES = ("perfect_model", "half_panel", "prior", "one_human", "uniform")
HUMAN_REFERENCES = {"half_panel": lambda raters: raters // 2, "one_human": lambda raters: 1}
CONSTANTS = ("prior", "uniform")
# Of each system, the clips with the largest error.
WORST_CLIPS = 25
# Squares along each side of the map of entropies.
MAP_SIZE = 12


def build(runs: Sequence[Run]) -> Content:
    """Return the content of the report on some runs, with a progress bar."""
    facts = [_run_facts(run, label) for run, label in zip(runs, _labels(runs), strict=True)]
    asked: dict[Any, list[tuple[str, TaskRun]]] = {}
    for run, of_run in zip(runs, facts, strict=True):
        for task in run.tasks.values():
            ids = tuple(clip.id for clip in task.selection.clips)
            same = (tuple(task.settings.labels), ids, task.votes.tobytes(), tuple(task.selection.clusters))
            asked.setdefault(same, []).append((of_run.label, task))
    return Content(
        made=_time(datetime.now(tz=timezone.utc).timestamp()),
        runs=facts,
        sections=[_section(tasks) for tasks in asked.values()],
    )


def _labels(runs: Sequence[Run]) -> list[str]:
    """Return the model of each run, numbered where several runs have the same."""
    count = Counter(run.model for run in runs)
    seen: Counter[str] = Counter()
    labels = []
    for run in runs:
        seen[run.model] += 1
        labels.append(run.model if count[run.model] == 1 else f"{run.model} #{seen[run.model]}")
    return labels


def _run_facts(run: Run, label: str) -> RunFacts:
    results = run.results
    info = dict(results["config"].get("ambi", {}))
    versions = {"lm_eval": results.get("lm_eval_version"), "transformers": results.get("transformers_version")}
    versions |= info.pop("versions", {})
    return RunFacts(
        label=label,
        file=str(run.file),
        date=_time(results["date"]),
        seconds=float(results["total_evaluation_time_seconds"]),
        command=run.command,
        versions={name: version for name, version in versions.items() if version},
        model_info=info,
        environment=results.get("pretty_env_info", ""),
    )


def _time(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _section(tasks: Sequence[tuple[str, TaskRun]]) -> Section:
    task = tasks[0][1]
    selection, settings, votes = task.selection, task.settings, task.votes
    bins = ambiguity_bins(votes)
    raters = votes.sum(axis=1)
    references, notes = _references(selection, settings, bins)
    systems = _systems(tasks, bins)
    left_out = dict(task.left_out)
    if len(votes) < task.clips_of_task:
        left_out["not asked in this run"] = task.clips_of_task - len(votes)
    return Section(
        corpus=settings.corpus,
        simulated=task.simulated,
        labels=settings.labels,
        clips=len(votes),
        left_out=left_out,
        clusters=len(set(selection.clusters)),
        cluster=settings.cluster,
        raters=(float(raters.min()), float(raters.mean()), float(raters.max())),
        ambiguity=float(entropy_bits(shares(votes)).mean()),
        krippendorff_alpha=krippendorff_alpha(selection.panels),
        best_accuracy=float(majority(votes).max(axis=1).mean()),
        bins=[BinFacts(b.name, b.low, b.high, int(b.members.sum())) for b in bins],
        references=references,
        samplers=_samplers([_curves(task) for _, task in tasks]),
        systems=systems,
        notes=notes,
    )


def _curves(task: TaskRun) -> dict[str, Curve]:
    """Return the curves over the pool size that stand in the results file, by metric."""
    return {metric: Curve.from_json(curve) for metric, curve in task.curves.items()}


def _samplers(curves: Sequence[Mapping[str, Curve]]) -> dict[str, dict[str, dict[int, Estimate]]]:
    """Return the curves of mere sampling at all sizes of a section; of the same clips, they agree where they meet."""
    samplers: dict[str, dict[str, dict[int, Estimate]]] = {}
    for source in SAMPLERS:
        for metric in CURVES:
            points = [getattr(of_task[metric], source).items() for of_task in curves if metric in of_task]
            samplers.setdefault(source, {})[metric] = dict(sorted(chain.from_iterable(points)))
    return samplers


def _references(
    selection: Selection, settings: TaskSettings, bins: Sequence[Bin]
) -> tuple[dict[str, Reference], list[str]]:
    found = baselines(selection, settings, bins, acoustic=False)
    prior = np.broadcast_to(shares(selection.votes).mean(axis=0), selection.votes.shape)
    choices = {name: human_two_alternatives(selection, who) for name, who in HUMAN_REFERENCES.items()}
    constant = two_alternatives(prior, selection.votes, selection.clips, selection.clusters)
    choices |= dict.fromkeys(CONSTANTS, constant)
    references = {}
    for name in SHOWN_REFERENCES:
        if name in found.overall:
            choice = choices.get(name)
            references[name] = Reference(
                description=REFERENCES[name],
                clips=found.counts[name],
                scores=found.overall[name],
                binned=[scores[name] for scores in found.binned],
                two_alternatives=choice.score if choice else None,
            )
    return references, [note for note in found.notes if note.startswith((*SHOWN_REFERENCES, "sq_debiased"))]


def _systems(tasks: Sequence[tuple[str, TaskRun]], bins: Sequence[Bin]) -> list[System]:
    """Return all systems of a section, the best first, and the controls after them."""
    selection = tasks[0][1].selection
    scorer = Scorer(selection, [b.members for b in bins])
    held_out = HeldOutRaters(selection)
    work = [(model, task, pipeline) for model, task in tasks for pipeline in task.pipelines.values()]
    systems, errors = [], []
    for model, task, pipeline in tqdm(work, "systems", unit="system", disable=None):
        others = [other for name, other in tasks if name == model]
        systems.append(_system(model, task, pipeline, others, scorer, held_out, bins))
        errors.append(np.asarray(METRICS[HEADLINE].per_clip(pipeline.p, task.votes)))
    # A control is no system: it is never the best, and enters no correction.
    control = [task.settings.control != "none" for _, task, _ in work]
    order = sorted(range(len(work)), key=lambda n: (control[n], systems[n].scores[HEADLINE].value, n))
    real = [number for number in order if not control[number]]
    pairs = compare_all_pairs(np.array(errors)[real], selection.clusters).comparisons if real else {}
    against_best = {number: pairs.get((place, 0)) for place, number in enumerate(real)}
    return [replace(systems[number], against_best=against_best.get(number)) for number in order]


def _system(
    model: str,
    task: TaskRun,
    pipeline: Pipeline,
    others: Sequence[TaskRun],
    scorer: Scorer,
    held_out: HeldOutRaters,
    bins: Sequence[Bin],
) -> System:
    p, votes, clusters = pipeline.p, task.votes, task.selection.clusters
    overall, *binned = scorer.score(certain(task.selection), p)
    errors = np.asarray(METRICS[HEADLINE].per_clip(p, votes))
    prior = np.broadcast_to(shares(votes).mean(axis=0), votes.shape)
    above_prior = errors - np.asarray(METRICS[HEADLINE].per_clip(prior, votes))
    logged = {name: pipeline.logged[name] for name in OTHER_MEANS if name in pipeline.logged}
    curves, name = _curves(task), pipeline.name
    told = task.settings.model_dump(include=set(keys_that("reported")))
    return System(
        model=model,
        name=system_name(task, pipeline),
        task=task.name,
        pipeline=pipeline.name,
        config={key: value for key, value in told.items() if value},
        pool_size=task.pool_size,
        scores=overall,
        binned=binned,
        invalid_rate=intervals.of_mean(np.isnan(p).any(axis=1).astype(float), clusters, (0, 1)),
        failed=task.failed,
        tokens=intervals.of_mean(task.tokens, clusters),
        two_alternatives=two_alternatives(p, votes, task.selection.clips, clusters),
        held_out=held_out.judge(p, HEADLINE, bins),
        curves={metric: c.pipelines[name] for metric, c in curves.items()},
        extrapolated={metric: c.extrapolated[name] for metric, c in curves.items() if name in c.extrapolated},
        asymptote=next((f"{model}: {name}" for name in asymptotes(task, pipeline, others)), None),
        confusion=expected_confusion(p, votes).tolist(),
        reliability=reliability_curve(p, votes, clusters),
        ambiguity_auroc=ambiguity_auroc(p, bins[-1].members, clusters),
        entropy_map=_entropy_map(p, votes),
        subgroups=subgroups(above_prior, task.selection),
        diagnostics={
            name: intervals.of_mean(values, clusters)
            for name, values in logged.items()
            if name not in ("invalid_rate", "tokens_per_clip") and not np.isnan(values).all()
        },
        worst=_worst(task, p, errors),
        against_best=None,
    )


def system_name(task: TaskRun, pipeline: Pipeline) -> str:
    """Return strategy and pipeline, with transcript and control where there are any."""
    strategy = Path(str(task.settings.strategy or task.name)).stem
    control = "" if task.settings.control == "none" else f" [{task.settings.control}]"
    transcript = " + transcript" if task.settings.transcript == "given" else ""
    return f"{strategy} {pipeline.name}{transcript}{control}"


def asymptotes(task: TaskRun, pipeline: Pipeline, others: Sequence[TaskRun]) -> list[str]:
    """Return the names of the read-outs that the histogram of ever more answers to a task tends to."""
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
    )


def _entropy_map(p: Array, votes: Array) -> list[list[int]]:
    valid = ~np.isnan(p).any(axis=1)
    edges = np.linspace(0, np.log2(votes.shape[1]) + 1e-9, MAP_SIZE + 1)
    counts, _, _ = np.histogram2d(entropy_bits(shares(votes))[valid], entropy_bits(p[valid]), bins=(edges, edges))
    return counts.astype(int).tolist()


def _worst(task: TaskRun, p: Array, errors: Array) -> list[ClipError]:
    ambiguity, top = entropy_bits(shares(task.votes)), majority(task.votes)
    labels = np.array(task.settings.labels)
    worst = np.argsort(-errors, kind="stable")[:WORST_CLIPS].tolist()
    return [
        ClipError(
            clip=task.selection.clips[number].id,
            jsd_bits=float(errors[number]),
            ambiguity=float(ambiguity[number]),
            majority="/".join(labels[top[number] > 0]),
            votes=task.votes[number].tolist(),
            predicted=None if np.isnan(p[number]).any() else p[number].tolist(),
            answers=Counter(task.texts[number]).most_common(),
            audio=_audio(task.selection.clips[number]),
        )
        for number in worst
    ]


def _audio(clip: Any) -> str | None:
    """Return the address of a clip's audio on this machine, with the span that was heard."""
    if clip.audio is None or not Path(clip.audio).is_file():
        return None
    span = f"#t={clip.start or 0:g},{clip.end:g}" if clip.end is not None else ""
    return Path(clip.audio).absolute().as_uri() + span

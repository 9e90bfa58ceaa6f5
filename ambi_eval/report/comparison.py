"""Compares two runs, or two strategies of a run, on the same clips: the difference in every metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from rich.console import Group
from rich.table import Table

from ambi_eval.analysis.significance import Comparison, compare, linearized
from ambi_eval.errors import AmbiError, counted, did_you_mean
from ambi_eval.harness.results import Pipeline, Run, TaskRun, read_runs
from ambi_eval.metrics import HEADLINE, METRICS
from ambi_eval.report import verdict
from ambi_eval.report.build import by_clips, notices
from ambi_eval.report.systems import ModelTask
from ambi_eval.web.format import DASH, with_interval

# One system: its name in the output, its task in a run, and one pipeline of the task.
Side = tuple[str, ModelTask, Pipeline]


@dataclass(frozen=True)
class Pair:
    """The comparison of two systems.

    Attributes:
        first: Model, task, pipeline, control and run of the first.
        second: Those of the second.
        verdict: Which of the two is better, if the difference is significant.
        left_out: Number of clips that only one of them was asked about.
        partial: Warnings about clips and answers that are missing; those of one system only begin with A or B.
        other_models: Sentences about servers that answered with another model than the one asked for.
        cautions: Further warnings of the runs.
        metrics: First minus second, by metric; p-values are corrected for all metrics of the pair.
    """

    first: str
    second: str
    verdict: str
    clips: int
    left_out: int
    simulated: bool
    partial: list[str]
    other_models: list[str]
    cautions: list[str]
    metrics: dict[str, Comparison]


@dataclass(frozen=True, eq=False)
class Found:
    """One argument of `--compare`, resolved.

    Attributes:
        named: The argument, such as `RUN:TASK`.
        systems: The systems of the run that the argument names, by `TASK:PIPELINE`.
    """

    named: str
    run: Run
    systems: Mapping[str, Side]


def compare_runs(first: Found, second: Found) -> list[Pair]:
    """Return the comparison of two systems, or of all systems that two runs have in common.

    If each argument names exactly one system, these two are compared, whatever their names are; otherwise systems of
    the same task and pipeline.

    Raises:
        AmbiError: If there is nothing to compare.
    """
    a, b = first.systems, second.systems
    if len(a) == len(b) == 1:
        return [_pair(next(iter(a.values())), next(iter(b.values())))]
    common = [name for name in a if name in b]
    if not common:
        name = next(iter(a))
        run = first.named.removesuffix(f":{name.partition(':')[0]}")
        raise AmbiError(
            f"{first.named} and {second.named} have no task and pipeline in common ({', '.join(a)}; {', '.join(b)}): "
            f"name one of each, such as {run}:{name}."
        )
    return [_pair(a[name], b[name]) for name in common]


def table(pairs: list[Pair]) -> Group:
    """Return the tables for the terminal."""
    blocks: list[Table | str] = []
    for pair in pairs:
        left = f"{counted(pair.left_out, 'clip')} that only one of the two has: left out"
        missing = [left] if pair.left_out else []
        shown = Table("", "A minus B [95 % interval]", "p", "p corrected", box=None)
        for name, comparison in pair.metrics.items():
            up = "higher is better" if METRICS[name].higher_is_better else "lower is better"
            p_values = (f"{p:.2g}".replace("nan", DASH) for p in (comparison.p, comparison.p_corrected))
            shown.add_row(f"{name} ({up})", with_interval(comparison.difference), *p_values)
        any_metric = next(iter(pair.metrics.values()))
        blocks += [
            *verdict.warnings(pair.simulated, [*missing, *pair.partial], pair.other_models, pair.cautions),
            f"A: {pair.first}",
            f"B: {pair.second}",
            f"{counted(pair.clips, 'clip')}. {pair.verdict}",
            shown,
            f"Sign-flip test over {counted(any_metric.clusters, 'cluster')} (least possible p: "
            f"{any_metric.smallest_p:.2g}), corrected for {counted(len(pair.metrics), 'metric')} (max-T).",
            "",
        ]
    return Group(*blocks)


def find(named: str) -> Found:
    """Return the run that an argument of `--compare` names, and its systems.

    The argument is a folder or results file of `lm_eval`; a suffix `:TASK` or `:TASK:PIPELINE` chooses a part of it.

    Raises:
        AmbiError: If the run cannot be read, or has no such part.
    """
    parts = named.split(":")
    depth = next((end for end in range(len(parts), 1, -1) if Path(":".join(parts[:end])).exists()), 1)
    path, wanted = ":".join(parts[:depth]), ":".join(parts[depth:])
    runs = read_runs(Path(path))
    if len(runs) > 1:
        raise AmbiError(f"{path} holds {len(runs)} runs: name one of their folders, such as {runs[0].file.parent}.")
    systems = {
        f"{one.task.name}:{pipeline.name}": (_name(runs[0], one.task, pipeline), one, pipeline)
        for one in chain.from_iterable(by_clips(runs))
        for pipeline in one.task.pipelines.values()
    }
    found = {name: system for name, system in systems.items() if f"{name}:".startswith(f"{wanted}:") or not wanted}
    if not found:
        raise AmbiError(f"{path} has no '{wanted}'{did_you_mean(wanted, systems)} (it has {', '.join(systems)}).")
    return Found(named, runs[0], found)


def _name(run: Run, task: TaskRun, pipeline: Pipeline) -> str:
    control = "" if task.settings.control == "none" else f" [{task.settings.control}]"
    return f"{run.model} {task.name}:{pipeline.name}{control} ({run.file.parent})"


def _pair(first: Side, second: Side) -> Pair:
    (first_name, one, p), (second_name, other, q) = first, second
    a, b = one.task, other.task
    rows_a, rows_b = ({clip.id: row for row, clip in enumerate(task.selection.clips)} for task in (a, b))
    common = [clip for clip in rows_a if clip in rows_b]
    here, there = [rows_a[clip] for clip in common], [rows_b[clip] for clip in common]
    if not common or a.settings.labels != b.settings.labels or (a.votes[here] != b.votes[there]).any():
        raise AmbiError(
            f"{first_name} and {second_name} cannot be compared: they share {counted(len(common), 'clip')}, and the "
            f"labels ({', '.join(a.settings.labels)}; {', '.join(b.settings.labels)}) and votes of these must be equal."
        )
    votes, noise, differences = a.votes[here], a.selection.noise[here], {}
    for name, metric in METRICS.items():
        of_first, of_second = (linearized(metric, each, votes, noise) for each in (p.p[here], q.p[there]))
        if of_first is not None and of_second is not None:
            differences[name] = of_first - of_second
    clusters = [a.selection.clusters[row] for row in here]
    told = (notices([asked], {name: float(np.isnan(of.p).any(axis=1).mean())}) for name, asked, of in (first, second))
    partial, others, cautions = (_either(*both) for both in zip(*told, strict=True))
    headline = compare({HEADLINE: differences[HEADLINE]}, clusters)[HEADLINE]  # one metric, so no correction
    return Pair(
        first=first_name,
        second=second_name,
        verdict=verdict.winner("A", "B", headline),
        clips=len(common),
        left_out=len(rows_a) + len(rows_b) - 2 * len(common),
        simulated=a.selection.simulated,
        partial=partial,
        other_models=others,
        cautions=cautions,
        metrics=compare(differences, clusters),
    )


def _either(of_first: Sequence[str], of_second: Sequence[str]) -> list[str]:
    """Return the sentences about both systems, and after `A:` or `B:` those about one of them."""
    both = [each for each in of_first if each in of_second]
    sides = {"A": of_first, "B": of_second}
    return both + [f"{side}: {each}" for side, said in sides.items() for each in said if each not in both]

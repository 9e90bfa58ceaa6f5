"""Aggregates the clips' scores for the harness: the overall score of each metric and its error bar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ambi_eval.answers.reducers import Prediction
from ambi_eval.answers.score import CURVE_METRICS, CURVE_SIZES, OTHER_MEANS, wording_names
from ambi_eval.metrics import METRICS, SetMetric
from ambi_eval.metrics.clustered import clustered_standard_error, influence_on_mean, mean_of_defined


@dataclass(frozen=True, slots=True)
class ClipResult:
    """What every score of one clip under one pipeline is computed from."""

    clip: str  # the clip's id
    cluster: str  # its cluster for error bars: the speaker, the session ...
    distribution: NDArray[np.float64]  # predicted shares, shape (C,); NaN if invalid
    votes: NDArray[np.float64]  # human votes, shape (C,)


class ClipScore(float):
    """The score of one clip: a number for the logs, with the data for the overall score and its error bar."""

    __slots__ = ("result",)

    result: ClipResult

    def __new__(cls, value: float, result: ClipResult) -> ClipScore:
        """Make a score from its value and the clip's result."""
        self = super().__new__(cls, value)
        self.result = result
        return self

    def __reduce__(self) -> tuple[type[ClipScore], tuple[float, ClipResult]]:
        """Pickle with the result, as the harness does between processes."""
        return ClipScore, (float(self), self.result)


@dataclass(frozen=True, slots=True)
class ScoredClip:
    """A prediction with its scores: the content of the harness's `filtered_resps` after the filters."""

    prediction: Prediction  # one pipeline's prediction for the clip
    scores: dict[str, ClipScore]  # every metric; under `<metric>_stderr` the same score again, for the error bar
    # Further fields for the log of the clip: the digest of the answers, and their attributes (`candidates`). Only the
    # first pipeline has them.
    logged: Mapping[str, Any] = field(default_factory=dict)

    def add(self, scores: Mapping[str, float], result: ClipResult) -> None:
        """Add the scores of the clip, by metric."""
        for name, value in scores.items():
            self.scores[name] = self.scores[f"{name}_stderr"] = ClipScore(value, result)

    def __str__(self) -> str:
        """Return the text for the log."""
        return str(self.prediction)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """Pickle as the text of the log; the scores are sent between processes separately."""
        return str, (str(self),)


@dataclass(frozen=True, eq=False)
class PipelineScores:
    """The results of a pipeline over all clips."""

    # Every number of the harness's table: scores, and under `<metric>_stderr` their standard errors.
    metrics: Mapping[str, float]
    # Predicted distributions, shape (clips, labels), clips as in the task's selection; NaN where invalid.
    p: NDArray[np.float64]


BY_CLIP = attrgetter("result.clip")


def _names(metrics: Sequence[str], wordings: int) -> list[str]:
    curves = [f"{name}@{n}" for name in CURVE_METRICS if name in metrics for n in CURVE_SIZES]
    return [*metrics, *curves, *wording_names(metrics, wordings), *OTHER_MEANS]


def aggregations(metrics: Sequence[str], wordings: int = 0) -> dict[str, Callable[[Sequence[ClipScore]], float | str]]:
    """Return how the scores of all clips become one number, by metric name; `<metric>_stderr` for its error bar."""
    functions: dict[str, Callable[[Sequence[ClipScore]], float | str]] = {}
    for name in _names(metrics, wordings):
        metric = METRICS.get(name)
        of_sets = metric if isinstance(metric, SetMetric) else None
        functions[name] = partial(overall, metric=of_sets)
        functions[f"{name}_stderr"] = partial(standard_error, metric=of_sets)
    return functions


def higher_is_better(metrics: Sequence[str], wordings: int = 0) -> dict[str, bool]:
    """Return whether a higher score is better, by metric name."""
    up = {name: METRICS[name].higher_is_better for name in METRICS} | OTHER_MEANS
    return {key: up[name.partition("@")[0]] for name in _names(metrics, wordings) for key in (name, f"{name}_stderr")}


def overall(scores: Sequence[ClipScore], metric: SetMetric | None) -> float:
    """Return the score over all clips: the mean, or the value of a metric that is defined for sets of clips.

    A mean leaves out clips whose score is undefined (NaN). Clips are sorted by id first, so that the last digit does
    not depend on the order of processes.
    """
    ordered = sorted(scores, key=BY_CLIP)
    if metric is not None:
        return metric.value(*_stacked(ordered))
    return mean_of_defined(np.array(ordered, dtype=float))


def standard_error(scores: Sequence[ClipScore], metric: SetMetric | None) -> float | str:
    """Return the cluster-robust standard error of `overall`; "N/A" for one cluster, or if there is no closed form."""
    ordered = sorted(scores, key=BY_CLIP)
    values = np.array(ordered, dtype=float)
    influence = influence_on_mean(values) if metric is None else metric.influence(*_stacked(ordered))
    if influence is None:
        return "N/A"
    error, clusters = clustered_standard_error(influence, [score.result.cluster for score in ordered])
    return error if clusters > 1 else "N/A"


def _stacked(scores: Sequence[ClipScore]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    results = [score.result for score in scores]
    return np.array([result.distribution for result in results]), np.array([result.votes for result in results])


def without_errors_of_errors(results: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a run's results without `<metric>_stderr_stderr`, which the harness adds for each error bar of ours."""
    for row in (results or {}).get("results", {}).values():
        for key in [key for key in row if "_stderr_stderr," in key]:
            del row[key]
    return results

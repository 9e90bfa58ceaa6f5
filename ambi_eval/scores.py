"""From a prediction and the votes to the harness's metrics: a value per clip, the overall score, its error bar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.filters.pool import Prediction
from ambi_eval.metrics import METRICS, ClipMetric, SetMetric
from ambi_eval.metrics.clustered import clustered_standard_error, influence_on_mean, mean_of_defined

# The points of the curve over the pool size N; a pool smaller than a point has no such point.
CURVE_SIZES = (1, 3, 5, 10, 20)
CURVE_METRICS = ("jsd_bits", "bc")
# Means over clips that are no function of prediction and votes, and whether higher is better.
OTHER_MEANS = {"invalid_rate": False, "tokens_per_clip": False, "label_mass": True}


@dataclass(frozen=True, slots=True)
class ClipResult:
    """What every score of one clip under one pipeline is computed from.

    Attributes:
        clip: The clip's id.
        cluster: The speaker or session that it depends on.
        distribution: Predicted shares, shape (C,); NaN if invalid.
        votes: Human votes, shape (C,).
    """

    clip: str
    cluster: str
    distribution: NDArray[np.float64]
    votes: NDArray[np.float64]


class ClipScore(float):
    """The score of one clip: a plain number in the harness's logs, with what the overall score and error bar need."""

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


def check_metrics(names: Sequence[str], task: str) -> tuple[str, ...]:
    """Return the names of a task's metrics.

    Raises:
        AmbiError: If one is not known.
    """
    known = [*METRICS, "tokens_per_clip"]
    for name in names:
        if name not in known:
            raise AmbiError(f"{task}: unknown metric '{name}'{did_you_mean(name, known)} (known: {', '.join(known)})")
    return tuple(names)


def clip_scores(prediction: Prediction, metrics: Sequence[str], result: ClipResult) -> dict[str, ClipScore]:
    """Return every score of one clip; under `<metric>_stderr` stands the same score again, for the error bar.

    A metric that only a set of clips has (macro F1 ...) shows the clip's accuracy in the logs; its overall value is
    computed from all clips' results.

    Args:
        prediction: What one pipeline predicts for the clip.
        metrics: Names of the metrics asked for.
        result: The clip with its votes.
    """
    size = len(prediction.pool.shares)
    points = [n for n in CURVE_SIZES if n <= size] if size > 1 else []
    # One row for the whole pool, then all subsets of all sizes, so that a curve costs one call per metric.
    subsets = [prediction.at(n) for n in points]
    rows = np.concatenate([prediction.distribution[None], *subsets])
    votes = result.votes[None]
    values: dict[str, float] = {}
    for name in metrics:
        if name in CURVE_METRICS:
            whole, *parts = np.split(METRICS[name].per_clip(rows, votes), np.cumsum([1, *map(len, subsets)])[:-1])
            values[name] = whole[0]
            values |= {f"{name}@{n}": part.mean() for n, part in zip(points, parts, strict=True)}
        elif name == "tokens_per_clip":
            values[name] = prediction.pool.tokens
        else:
            metric = METRICS[name] if isinstance(METRICS[name], ClipMetric) else METRICS["acc"]
            values[name] = metric.per_clip(rows[:1], votes)[0]
    values |= {"invalid_rate": prediction.invalid, **prediction.diagnostics}
    return {key: ClipScore(value, result) for name, value in values.items() for key in (name, f"{name}_stderr")}


def _names(metrics: Sequence[str]) -> list[str]:
    curves = [f"{name}@{n}" for name in CURVE_METRICS if name in metrics for n in CURVE_SIZES]
    return [*metrics, *curves, *OTHER_MEANS]


def _set_metric(name: str) -> SetMetric | None:
    metric = METRICS.get(name)
    return metric if isinstance(metric, SetMetric) else None


def aggregations(metrics: Sequence[str]) -> dict[str, Callable[[Sequence[ClipScore]], float]]:
    """Return how the scores of all clips become one number, by metric name; `<metric>_stderr` for its error bar."""
    functions: dict[str, Callable[[Sequence[ClipScore]], float]] = {}
    for name in _names(metrics):
        functions[name] = partial(overall, metric=_set_metric(name))
        functions[f"{name}_stderr"] = partial(standard_error, metric=_set_metric(name))
    return functions


def higher_is_better(metrics: Sequence[str]) -> dict[str, bool]:
    """Return which way is up, by metric name."""
    up = {name: METRICS[name].higher_is_better for name in METRICS} | OTHER_MEANS
    return {key: up[name.partition("@")[0]] for name in _names(metrics) for key in (name, f"{name}_stderr")}


def overall(scores: Sequence[ClipScore], metric: SetMetric | None) -> float:
    """Return the score over all clips: the mean of theirs, or what a metric of sets makes of their results.

    Clips are put in the order of their ids first, so that the last digit does not hang on the order of processes. Clips
    whose votes leave the score undefined (NaN) are left out of a mean.
    """
    ordered = sorted(scores, key=lambda score: score.result.clip)
    if metric is not None:
        return metric.value(*_stacked(ordered))
    return mean_of_defined(np.array(ordered, dtype=float))


def standard_error(scores: Sequence[ClipScore], metric: SetMetric | None) -> float | str:
    """Return the cluster-robust standard error of `overall`, or the harness's "N/A" where there is no closed form."""
    ordered = sorted(scores, key=lambda score: score.result.clip)
    if metric is None:
        influence = influence_on_mean(np.array(ordered, dtype=float))
    else:
        influence = metric.influence(*_stacked(ordered))
        if influence is None:
            return "N/A"
    error, clusters = clustered_standard_error(influence, [score.result.cluster for score in ordered])
    return error if clusters > 1 else "N/A"


def _stacked(scores: Sequence[ClipScore]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    results = [score.result for score in scores]
    return np.array([result.distribution for result in results]), np.array([result.votes for result in results])

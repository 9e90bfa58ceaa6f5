"""From a prediction and the votes to the harness's metrics: a value per clip, the overall score, its error bar."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.filters.pool import Pool, Prediction, subsets
from ambi_eval.metrics import METRICS, ClipMetric, SetMetric
from ambi_eval.metrics.clustered import clustered_standard_error, influence_on_mean, mean_of_defined

# The points of the curve over the pool size N; a pool smaller than a point has no such point.
CURVE_SIZES = (1, 3, 5, 10, 20)
CURVE_METRICS = ("jsd_bits", "bc")
# With 20 answers a clip has 257 subsets; arrays of this many clips still fit a processor's cache.
CLIPS_AT_ONCE = 64
# Means over clips that are no function of prediction and votes, and whether higher is better.
OTHER_MEANS = {
    "invalid_rate": False,
    "tokens_per_clip": False,
    "answers_per_clip": False,
    "label_mass": True,
    "ess": True,
    "near_uniform": False,
    "distinct": True,
    "jsd_to_mean": True,
    "jsd_to_best": True,
    "unrated": False,
    "oracle_jsd_bits": False,
    "oracle_control_jsd_bits": False,
}


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
    known = [*METRICS, "tokens_per_clip", "answers_per_clip"]
    for name in names:
        if name not in known:
            raise AmbiError(f"{task}: unknown metric '{name}'{did_you_mean(name, known)} (known: {', '.join(known)})")
    return tuple(names)


@dataclass(frozen=True, slots=True)
class ScoredClip:
    """A prediction with its scores: what stands in the harness's `filtered_resps` when the filters have run.

    Attributes:
        prediction: What one pipeline predicts for the clip.
        scores: Every metric; under `<metric>_stderr` the same score again, for the error bar.
        candidates: What to log of the clip's answers beside their texts; None on all pipelines but the first.
    """

    prediction: Prediction
    scores: dict[str, ClipScore]
    candidates: Mapping[str, list[Any]] | None = None

    def __str__(self) -> str:
        """Return what the log holds."""
        return str(self.prediction)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """Travel between processes as what the log holds; the scores travel on their own."""
        return str, (str(self),)


def score_clips(
    predictions: Sequence[Prediction],
    clips: Sequence[str],
    clusters: Sequence[str],
    votes: NDArray[np.float64],
    metrics: Sequence[str],
    *,
    curve: bool = False,
    oracle: bool = False,
) -> list[ScoredClip]:
    """Score the predictions of one pipeline, a few hundred clips at once.

    A metric that only a set of clips has (macro F1 ...) shows the clip's accuracy in the logs; its overall value is
    computed from all clips' results.

    Args:
        predictions: One per clip.
        clips: The clips' ids.
        clusters: The speaker or session of each clip.
        votes: Human votes, shape (clips, C).
        metrics: Names of the metrics asked for.
        curve: Whether a part of a pool is a smaller pool of its kind, so that `jsd_bits@5` means something.
        oracle: Whether to add `oracle_jsd_bits`, the divergence of the one answer of the pool that is nearest to the
            votes: no system, since it looks at them, but a bound to every choice from the pool. Beside it stands
            `oracle_control_jsd_bits`, the same with the pool of another clip: what looking at the votes alone gives.
    """
    scored: dict[int, ScoredClip] = {}
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for number, prediction in enumerate(predictions):
        by_size[prediction.pool.size].append(number)
    for numbers in by_size.values():
        for start in range(0, len(numbers), CLIPS_AT_ONCE):
            chunk = numbers[start : start + CLIPS_AT_ONCE]
            columns = _columns([predictions[number] for number in chunk], votes[chunk], metrics, curve)
            if oracle and predictions[chunk[0]].pool.size > 1:
                columns["oracle_jsd_bits"] = _nearest([predictions[number] for number in chunk], votes[chunk])
                # The clips half the corpus away, where other speakers stand.
                others = np.roll(numbers, len(numbers) // 2)[start : start + CLIPS_AT_ONCE]
                columns["oracle_control_jsd_bits"] = _nearest([predictions[number] for number in others], votes[chunk])
            for row, number in enumerate(chunk):
                prediction = predictions[number]
                result = ClipResult(clips[number], clusters[number], prediction.distribution, votes[number])
                values = {name: column[row] for name, column in columns.items()} | dict(prediction.diagnostics)
                scores = {}
                for name, value in values.items():
                    scores[name] = scores[f"{name}_stderr"] = ClipScore(value, result)
                scored[number] = ScoredClip(prediction, scores)
    return [scored[number] for number in range(len(predictions))]


def _columns(
    predictions: Sequence[Prediction], votes: NDArray[np.float64], metrics: Sequence[str], curve: bool
) -> dict[str, Sequence[float]]:
    """Return each metric's scores of clips whose pools have one size, one per clip."""
    pools, reducer = Pool.stack([prediction.pool for prediction in predictions]), predictions[0].reducer
    points = [n for n in CURVE_SIZES if n <= pools.size] if curve else []
    members = [subsets(pools.size, n) for n in points]
    ends = np.cumsum([1, *map(len, members)])
    # One row for the whole pool, then all subsets of all sizes, so that a curve costs one call per metric.
    parts = [np.array([prediction.distribution for prediction in predictions])[:, None]]
    if members:
        parts.append(reducer.reduce(pools, np.concatenate(members)))
    # Label by label in memory: sums over a handful of labels are then several times faster.
    rows = np.moveaxis(np.concatenate([np.moveaxis(part, -1, 0) for part in parts], axis=2), 0, -1)
    votes = votes[:, None]
    columns: dict[str, Sequence[float]] = {}
    for name in metrics:
        if name == "tokens_per_clip":
            columns[name] = [prediction.tokens for prediction in predictions]
        elif name == "answers_per_clip":
            columns[name] = [float(pools.size)] * len(predictions)
        elif name in CURVE_METRICS:
            scores = _clip_metric(name).per_clip(rows, votes)
            columns[name] = scores[:, 0].tolist()
            for n, start, end in zip(points, ends, ends[1:], strict=False):
                columns[f"{name}@{n}"] = scores[:, start:end].mean(axis=1).tolist()
        else:
            columns[name] = _clip_metric(name).per_clip(rows[:, :1], votes)[:, 0].tolist()
    columns["invalid_rate"] = [float(prediction.invalid) for prediction in predictions]
    return columns


def _nearest(predictions: Sequence[Prediction], votes: NDArray[np.float64]) -> list[float]:
    """Return the divergence in bits between each clip's votes and the nearest answer of a pool."""
    answers = Pool.stack([prediction.pool for prediction in predictions]).shares
    return _clip_metric("jsd_bits").per_clip(answers, votes[:, None]).min(axis=1).tolist()


def _clip_metric(name: str) -> ClipMetric:
    """Return the metric of a clip that goes under this name: accuracy where only a set of clips has a score."""
    metric = METRICS[name]
    return metric if isinstance(metric, ClipMetric) else _clip_metric("acc")


BY_CLIP = attrgetter("result.clip")


def _names(metrics: Sequence[str]) -> list[str]:
    curves = [f"{name}@{n}" for name in CURVE_METRICS if name in metrics for n in CURVE_SIZES]
    return [*metrics, *curves, *OTHER_MEANS]


def _set_metric(name: str) -> SetMetric | None:
    metric = METRICS.get(name)
    return metric if isinstance(metric, SetMetric) else None


def aggregations(metrics: Sequence[str]) -> dict[str, Callable[[Sequence[ClipScore]], float | str]]:
    """Return how the scores of all clips become one number, by metric name; `<metric>_stderr` for its error bar."""
    functions: dict[str, Callable[[Sequence[ClipScore]], float | str]] = {}
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
    ordered = sorted(scores, key=BY_CLIP)
    if metric is not None:
        return metric.value(*_stacked(ordered))
    return mean_of_defined(np.array(ordered, dtype=float))


def standard_error(scores: Sequence[ClipScore], metric: SetMetric | None) -> float | str:
    """Return the cluster-robust standard error of `overall`, or the harness's "N/A" where there is no closed form."""
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

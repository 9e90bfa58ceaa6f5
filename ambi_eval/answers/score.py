"""From predictions and votes to the scores of each clip: every metric, its curve over the pool size, its bounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ambi_eval.answers.pool import Pool, subsets
from ambi_eval.answers.reducers import Prediction
from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.metrics import METRICS, ClipMetric

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


def check_metrics(names: Sequence[str], task: str) -> tuple[str, ...]:
    """Return the names of a task's metrics; `all` stands for all of them.

    Raises:
        AmbiError: If one is not known.
    """
    known = [*METRICS, "tokens_per_clip", "answers_per_clip"]
    if list(names) == ["all"]:
        return tuple(METRICS)
    for name in names:
        if name not in known:
            raise AmbiError(f"{task}: unknown metric '{name}'{did_you_mean(name, known)} (known: {', '.join(known)})")
    return tuple(names)


def score_clips(
    predictions: Sequence[Prediction],
    votes: NDArray[np.float64],
    noise: NDArray[np.float64],
    metrics: Sequence[str],
    *,
    curve: bool = False,
    oracle: bool = False,
) -> list[dict[str, float]]:
    """Return the scores of each clip under one pipeline, by metric.

    A metric that only a set of clips has (macro F1 ...) shows the clip's accuracy in the logs; its overall value is
    computed from all clips' results.

    Args:
        predictions: One per clip.
        votes: Human votes, shape (clips, C).
        noise: The noise of each panel, shape (clips,): `Panel.noise`.
        metrics: Names of the metrics asked for.
        curve: Whether a part of a pool is a smaller pool of its kind, so that `jsd_bits@5` means something.
        oracle: Whether to add `oracle_jsd_bits`, the divergence of the one answer of the pool that is nearest to the
            votes: no system, since it looks at them, but a bound to every choice from the pool. Beside it stands
            `oracle_control_jsd_bits`, the same with the pool of another clip: what looking at the votes alone gives.
    """
    scored: dict[int, dict[str, float]] = {}
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for number, prediction in enumerate(predictions):
        by_size[prediction.pool.size].append(number)
    for numbers in by_size.values():
        for start in range(0, len(numbers), CLIPS_AT_ONCE):
            chunk = numbers[start : start + CLIPS_AT_ONCE]
            columns = _columns([predictions[number] for number in chunk], votes[chunk], noise[chunk], metrics, curve)
            if oracle and predictions[chunk[0]].pool.size > 1:
                columns["oracle_jsd_bits"] = _nearest([predictions[number] for number in chunk], votes[chunk])
                # The clips half the corpus away, where other speakers stand.
                others = np.roll(numbers, len(numbers) // 2)[start : start + CLIPS_AT_ONCE]
                columns["oracle_control_jsd_bits"] = _nearest([predictions[number] for number in others], votes[chunk])
            for row, number in enumerate(chunk):
                prediction = predictions[number]
                scored[number] = {name: column[row] for name, column in columns.items()} | dict(prediction.diagnostics)
    return [scored[number] for number in range(len(predictions))]


def _columns(
    predictions: Sequence[Prediction],
    votes: NDArray[np.float64],
    noise: NDArray[np.float64],
    metrics: Sequence[str],
    curve: bool,
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
    votes, noise = votes[:, None], noise[:, None]
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
            columns[name] = _clip_metric(name).per_clip(rows[:, :1], votes, noise)[:, 0].tolist()
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

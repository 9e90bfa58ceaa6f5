"""Scores the predictions of clips against their votes: every metric, and its curve over the pool size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ambi_eval.answers.pool import Pool, draws, of_equal_size, subsets
from ambi_eval.answers.reducers import Prediction, Reducer
from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.metrics import METRICS, ClipMetric
from ambi_eval.votes import Array

Columns = dict[str, Sequence[float]]  # scores by name, one for each clip

# Pool sizes N at which the curve is computed; a pool has the points up to its own size.
CURVE_SIZES = (1, 3, 5, 10, 20)
CURVE_METRICS = ("jsd_bits", "bc")
# If answers state shares: the minimum number of subsets at each point, per clip and over all clips. The mean over clips
# is then within .0005 of the mean over all subsets (tests/answers/test_score.py).
LEAST_SUBSETS = 64
SUBSETS_OF_ALL_CLIPS = 20_000
# With 20 answers a clip has 257 subsets; arrays of this many clips still fit a processor's cache.
CLIPS_AT_ONCE = 64
# Means over clips of numbers other than metrics, and whether higher is better.
OTHER_MEANS = {
    "invalid_rate": False,
    "refusal_rate": False,
    "truncated_rate": False,
    "rescaled_rate": False,
    "stated_sum": True,
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


def wording_names(metrics: Sequence[str], wordings: int) -> list[str]:
    """Return the names of the scores of single wordings, such as `jsd_bits@wording2` for the second one."""
    return [f"{name}@wording{k}" for name in CURVE_METRICS if name in metrics for k in range(1, wordings + 1)]


def check_metrics(names: Sequence[str], task: str) -> tuple[str, ...]:
    """Return the names of a task's metrics (AmbiError if one is not known); `all` means all of them."""
    known = [*METRICS, "tokens_per_clip", "answers_per_clip"]
    if list(names) == ["all"]:
        return tuple(METRICS)
    for name in names:
        if name not in known:
            raise AmbiError(f"{task}: unknown metric '{name}'{did_you_mean(name, known)} (known: {', '.join(known)})")
    return tuple(names)


def score_clips(
    predictions: Sequence[Prediction],
    votes: Array,
    noise: Array,
    metrics: Sequence[str],
    *,
    curve: bool = False,
    wordings: int = 0,
    oracle: bool = False,
) -> list[dict[str, float]]:
    """Return the scores of each clip under one pipeline, by metric.

    For a metric that only a set of clips has (macro F1 ...), a clip's score is its accuracy; the overall value is
    computed elsewhere from the results of all clips.

    Args:
        predictions: One per clip.
        votes: Human votes, shape (clips, C).
        noise: The noise of each panel, shape (clips,): `Panel.noise`.
        metrics: Names of the metrics asked for.
        curve: Whether to add the scores of smaller pools, such as `jsd_bits@5`: the expected score of 5 of the clip's
            answers. It is exact if answers name one label, else a mean over subsets. Only for pools of which every part
            is a valid smaller pool.
        wordings: Number of wordings of the prompt, to add a score of each; the pool must have one answer to each.
        oracle: Whether to add `oracle_jsd_bits`, the divergence of the answer that is nearest to the votes. No method
            that selects one answer of the pool can score better. Its control `oracle_control_jsd_bits` selects from the
            pool of another clip, and shows how much the use of the votes gains by itself.
    """
    scored: dict[int, dict[str, float]] = {}
    points = CURVE_SIZES if curve else ()
    n_subsets = max(LEAST_SUBSETS, -(-SUBSETS_OF_ALL_CLIPS // max(1, len(predictions))))
    states_shares = any(np.isfinite(prediction.pool.stated_sums).any() for prediction in predictions)
    for chunk, of_size in of_equal_size([prediction.pool for prediction in predictions], CLIPS_AT_ONCE):
        these, their_votes = [predictions[number] for number in chunk], votes[chunk]
        columns = _columns(these, their_votes, noise[chunk], metrics, points, n_subsets)
        if wordings:
            columns |= _wordings(these, their_votes, metrics, wordings)
        if states_shares:
            columns |= _stated(these)
        if oracle and these[0].pool.size > 1:
            columns["oracle_jsd_bits"] = _nearest(these, their_votes)
            # The control uses the clip half the corpus away, which has another speaker; a single clip has no control.
            others = np.roll(of_size, len(of_size) // 2)[of_size.index(chunk[0]) :][: len(chunk)]
            apart = _nearest([predictions[number] for number in others], their_votes)
            columns["oracle_control_jsd_bits"] = apart if len(of_size) > 1 else [np.nan]
        for row, (number, prediction) in enumerate(zip(chunk, these, strict=True)):
            scored[number] = {name: column[row] for name, column in columns.items()} | dict(prediction.diagnostics)
    return [scored[number] for number in range(len(predictions))]


def _columns(
    predictions: Sequence[Prediction],
    votes: Array,
    noise: Array,
    metrics: Sequence[str],
    points: Sequence[int],
    n_subsets: int,
) -> Columns:
    """Return each metric's scores of clips whose pools have one size, one per clip."""
    pools, reducer = Pool.stack([prediction.pool for prediction in predictions]), predictions[0].reducer
    whole = np.array([prediction.distribution for prediction in predictions])
    columns: Columns = {}
    for name in metrics:
        if name == "tokens_per_clip":
            columns[name] = [prediction.tokens for prediction in predictions]
        elif name == "answers_per_clip":
            columns[name] = [float(pools.size)] * len(predictions)
        else:
            columns[name] = _clip_metric(name).per_clip(whole, votes, noise).tolist()
    curves = [name for name in CURVE_METRICS if name in metrics]
    points = [n for n in points if n <= pools.size]
    if points and curves:
        counts = pools.counts if reducer.of_counts(np.zeros(1)) is not None else None
        if counts is not None:
            columns |= _exact_curves(reducer, counts, votes, curves, points)
        else:
            columns |= _sampled_curves(reducer, pools, votes, curves, points, n_subsets)
    columns["invalid_rate"] = [float(prediction.invalid) for prediction in predictions]
    for name, reason in (("refusal_rate", "refused"), ("truncated_rate", "truncated")):
        columns[name] = [prediction.failed.get(reason, 0) / pools.size for prediction in predictions]
    return columns


def _exact_curves(
    reducer: Reducer, counts: NDArray[np.intp], votes: Array, curves: Sequence[str], points: Sequence[int]
) -> Columns:
    """Return the expected score of n answers drawn from a clip's pool, where each answer names one label."""
    # The score of a draw depends only on the number of its answers for each label, which is hypergeometric.
    # Clips whose counts are permutations of each other share their cases: each clip's counts are sorted, and `back`
    # restores the order of the labels.
    back = counts.argsort(axis=1).argsort(axis=1)
    ordered = [tuple(row) for row in np.sort(counts, axis=1).tolist()]
    cases = [draws(row, n) for n in points for row in ordered]
    first = np.cumsum([0, *(len(probability) for _, probability in cases[:-1])])
    orders = [*back] * len(points)
    drawn = np.concatenate([drawn[:, order] for (drawn, _), order in zip(cases, orders, strict=True)])[:, :-1]
    probability = np.concatenate([probability for _, probability in cases])
    clips = np.repeat(np.tile(np.arange(len(votes)), len(points)), [len(p) for _, p in cases])
    # With the labels as the outer axis in memory, sums over a handful of labels are several times faster.
    p, of_clip = (np.asfortranarray(each) for each in (reducer.of_counts(drawn), votes[clips]))
    columns: Columns = {}
    for name in curves:
        expected = np.add.reduceat(probability * _clip_metric(name).per_clip(p, of_clip), first)
        for n, scores in zip(points, expected.reshape(len(points), -1), strict=True):
            columns[f"{name}@{n}"] = scores.tolist()
    return columns


def _sampled_curves(
    reducer: Reducer, pools: Pool, votes: Array, curves: Sequence[str], points: Sequence[int], n_subsets: int
) -> Columns:
    """Return the mean score over subsets of n of each clip's answers."""
    members = [subsets(pools.size, n, n_subsets) for n in points]
    ends = np.cumsum([0, *map(len, members)])
    rows = reducer.reduce(pools, np.concatenate(members))
    columns: Columns = {}
    for name in curves:
        scores = _clip_metric(name).per_clip(rows, votes[:, None])
        for n, start, end in zip(points, ends, ends[1:], strict=False):
            columns[f"{name}@{n}"] = scores[:, start:end].mean(axis=1).tolist()
    return columns


def _wordings(predictions: Sequence[Prediction], votes: Array, metrics: Sequence[str], wordings: int) -> Columns:
    shares = Pool.stack([prediction.pool for prediction in predictions]).shares
    alone = [_clip_metric(name).per_clip(shares, votes[:, None]) for name in CURVE_METRICS if name in metrics]
    columns = [of_wording for of_metric in alone for of_wording in of_metric.T.tolist()]
    return dict(zip(wording_names(metrics, wordings), columns, strict=True))


def _stated(predictions: Sequence[Prediction]) -> Columns:
    """Return how many of a clip's stated distributions were rescaled, and their mean sum; NaN where none is stated."""
    sums = np.array([prediction.pool.stated_sums for prediction in predictions])
    stated = np.isfinite(sums).sum(axis=1)
    stated = np.where(stated == 0, np.nan, stated)
    rescaled = np.array([prediction.rescaled for prediction in predictions])
    return {"rescaled_rate": (rescaled / stated).tolist(), "stated_sum": (np.nansum(sums, axis=1) / stated).tolist()}


def _nearest(predictions: Sequence[Prediction], votes: Array) -> list[float]:
    """Return the divergence in bits between each clip's votes and the nearest answer of a pool."""
    answers = Pool.stack([prediction.pool for prediction in predictions]).shares
    return _clip_metric("jsd_bits").per_clip(answers, votes[:, None]).min(axis=1).tolist()


def _clip_metric(name: str) -> ClipMetric:
    """Return the metric of this name for one clip: accuracy if the metric needs a set of clips."""
    metric = METRICS[name]
    return metric if isinstance(metric, ClipMetric) else _clip_metric("acc")

"""What more samples buy: a score against the pool size N, and what mere sampling would have bought."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ambi_eval.analysis import intervals
from ambi_eval.analysis.intervals import Estimate
from ambi_eval.analysis.runs import Pipeline
from ambi_eval.distribution import shares
from ambi_eval.metrics import METRICS

Array = NDArray[np.float64]

# Random pools of each size; the mean over clips is taken of them as well.
DRAWS = 32


def curve(pipeline: Pipeline, metric: str, pool_size: int, clusters: Sequence[str]) -> dict[int, Estimate]:
    """Return the mean score at each pool size that the run logged, the whole pool the last.

    Args:
        pipeline: The predictions with what the harness logged: `jsd_bits@5` is the mean over pools of 5 answers.
        metric: `jsd_bits` or `bc`.
        pool_size: Number of answers of a clip.
        clusters: Whom each clip depends on.
    """
    points = {pool_size: metric} | {
        int(size): name for name in pipeline.logged for of, _, size in [name.partition("@")] if of == metric and size
    }
    return {
        size: intervals.of_mean(pipeline.logged[name], clusters)
        for size, name in sorted(points.items())
        if name in pipeline.logged
    }


def sampler_curve(
    p: ArrayLike, votes: Array, metric: str, sizes: Sequence[int], clusters: Sequence[str]
) -> dict[int, Estimate]:
    """Return what the histogram of N draws from a distribution would score.

    Whatever `p` is, the curve gets better with N, because the histogram gets finer. A model's curve shows more than
    that only where it differs in shape. Drawn from the raters' own shares it is a perfect model's curve, and ends near
    the best score there is; drawn from the prior, it is the curve of a model that does not listen.

    Args:
        p: Distribution to draw from, shape (labels,) or (clips, labels).
        votes: Votes, shape (clips, labels).
        metric: Name of a metric that single clips have.
        sizes: Pool sizes N.
        clusters: Whom each clip depends on.
    """
    p = np.broadcast_to(shares(p), votes.shape)
    points = {}
    for size in sizes:
        drawn = np.random.default_rng(intervals.SEED).multinomial(size, p, size=(DRAWS, len(votes)))
        scores = np.asarray(METRICS[metric].per_clip(shares(drawn), votes))
        points[size] = intervals.of_mean(scores.mean(axis=0), clusters)
    return points

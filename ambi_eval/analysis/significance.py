"""Whether a difference is more than chance: bootstraps and sign flips of whole clusters, one or many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

from ambi_eval.analysis import estimate
from ambi_eval.analysis.estimate import SEED, Estimate
from ambi_eval.metrics import Metric

Array = NDArray[np.float64]

RESAMPLES = 10_000
# A bootstrap of fewer clusters is too narrow, whatever is done to its percentiles: Student's t takes its place.
FEW_CLUSTERS = 30
# Up to this many clusters all sign flips are tried; of more, RESAMPLES random ones.
ENUMERATED_CLUSTERS = 14
# Resamples worked on at once: bounds memory to some 100 MB at 10,000 clusters.
BLOCK = 500


@dataclass(frozen=True)
class Comparison:
    """A difference on the same clips, and how surprising it would be if there were none.

    Attributes:
        difference: Mean over clips of first minus second, with its 95% interval.
        p: Two-sided p-value of the sign-flip test.
        p_holm: The same, corrected by Holm's method for all comparisons made together.
        smallest_p: The least value that `p` can take with so many clusters: above 0.05, nothing can be significant.
        clusters: Number of clusters.
    """

    difference: Estimate
    p: float
    p_holm: float
    smallest_p: float
    clusters: int


def compare(differences: Mapping[str, ArrayLike], clusters: Sequence[str]) -> dict[str, Comparison]:
    """Return each difference with its bootstrap interval and p-values, Holm's correction taken over all of them.

    Args:
        differences: By name, the difference of each clip, shape (clips,); NaN where it is undefined. Of metrics that
            only a set of clips has, take differences of `linearised` values.
        clusters: Whom each clip depends on, shape (clips,).
    """
    tested = {name: sign_flip_test(values, clusters) for name, values in differences.items()}
    corrected = dict(zip(tested, holm([p for p, _ in tested.values()]), strict=True))
    return {
        name: Comparison(
            difference=bootstrap_mean(values, clusters),
            p=tested[name][0],
            p_holm=float(corrected[name]),
            smallest_p=tested[name][1],
            clusters=len(_sums(values, clusters)[0]),
        )
        for name, values in differences.items()
    }


def linearised(metric: Metric, p: ArrayLike, votes: ArrayLike, noise: ArrayLike | None = None) -> Array | None:
    """Return a number per clip whose mean is the metric's value and whose spread is that of the value.

    The value plus each clip's influence on it. Of a mean over clips these are as good as the clips' scores; of F1 and
    UAR they are what one clip more or less does to the whole (the delta method).

    Args:
        metric: The metric.
        p: Predicted distributions, shape (clips, labels).
        votes: Votes, shape (clips, labels).
        noise: The noise of each panel, shape (clips,), as `Metric` takes it.

    Returns:
        Values, shape (clips,), or None where the metric has no closed form of its influence.
    """
    influence = metric.influence(p, votes, noise)
    return None if influence is None else metric.value(p, votes, noise) + influence


def bootstrap_mean(scores: ArrayLike, clusters: Sequence[str], resamples: int = RESAMPLES) -> Estimate:
    """Return the mean over clips with its 95% interval from a seeded bootstrap of whole clusters.

    Clusters are drawn with replacement, as many as there are; the interval lies between percentiles of
    the means. These are not the 2.5th and the 97.5th but the somewhat outer ones at which a normal distribution too
    narrow by sqrt((G - 1) / G), as a bootstrap of G clusters is, has Student's quantiles. With fewer than 30 clusters
    the interval is the closed form, mean -+ t(G - 1) standard errors.

    Sources: Field and Welsh (2007), Bootstrapping clustered data; Hesterberg (2015), What teachers should know about
    the bootstrap (the expanded percentiles).

    Args:
        scores: One per clip, shape (clips,); a NaN is left out.
        clusters: Whom each clip depends on, shape (clips,).
        resamples: How often to draw.
    """
    scores = np.asarray(scores, dtype=float)
    sums, counts = _sums(scores, clusters)
    n_clusters = len(sums)
    if n_clusters < FEW_CLUSTERS:
        return estimate.of_mean(scores, clusters)
    rng = np.random.default_rng(SEED)
    means = []
    for size in _blocks(resamples):
        drawn = rng.integers(n_clusters, size=(size, n_clusters))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    tail = float(ndtr(np.sqrt(n_clusters / (n_clusters - 1)) * stdtrit(n_clusters - 1, 0.025)))
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Estimate(float(sums.sum() / counts.sum()), float(low), float(high))


def sign_flip_test(differences: ArrayLike, clusters: Sequence[str]) -> tuple[float, float]:
    """Return the two-sided p-value of "the mean difference is 0", and the least value that it could take.

    If two systems are equally good, which of them came first does not matter, so the sign of a whole cluster's
    differences may be flipped. The p-value is the share of flips whose mean is as far from 0 as the mean found. Up to
    14 clusters all 2^G flips are tried, and the least value is 2^(1 - G): 0.0625 with five sessions. Otherwise 10,000
    seeded flips are drawn, and the one found counts as one more.

    Sources: Fisher (1935), The design of experiments; Phipson and Smyth (2010), Permutation p-values should never be
    zero.

    Args:
        differences: One per clip, shape (clips,); a NaN is left out.
        clusters: Whom each clip depends on, shape (clips,).

    >>> sign_flip_test([0.1, 0.2, 0.1], ["anna", "ben", "carl"])
    (0.25, 0.25)
    """
    sums, _ = _sums(differences, clusters)
    found = abs(sums.sum()) * (1 - 1e-9)  # so that a sum in another order is as large as itself
    if len(sums) <= ENUMERATED_CLUSTERS:
        # The first cluster keeps its sign: flipping all signs leaves the distance from 0 as it is.
        signs = np.array([(1, *rest) for rest in product((1, -1), repeat=max(len(sums) - 1, 0))], dtype=float)
        return float((np.abs(signs @ sums) >= found).mean()), 1 / len(signs)
    rng = np.random.default_rng(SEED)
    as_far = 1
    for size in _blocks(RESAMPLES):
        signs = 2.0 * rng.integers(2, size=(size, len(sums))) - 1
        as_far += int((np.abs(signs @ sums) >= found).sum())
    return as_far / (RESAMPLES + 1), 1 / (RESAMPLES + 1)


def holm(p: ArrayLike) -> Array:
    """Return p-values corrected for their number: the chance of one false finding among them stays as it was for one.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.

    Args:
        p: P-values, shape (comparisons,).

    >>> holm([0.01, 0.04, 0.03]).round(4).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return corrected


def _blocks(resamples: int) -> list[int]:
    return [min(BLOCK, resamples - start) for start in range(0, resamples, BLOCK)]


def _sums(values: ArrayLike, clusters: Sequence[str]) -> tuple[Array, Array]:
    """Return the sum of the defined values in each cluster, and their number; a cluster without any is left out."""
    values = np.asarray(values, dtype=float)
    defined = ~np.isnan(values)
    _, index = np.unique(np.asarray(clusters)[defined], return_inverse=True)
    return np.bincount(index, weights=values[defined]).astype(float), np.bincount(index).astype(float)

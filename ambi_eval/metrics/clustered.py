"""Standard errors for scores of clips that depend on each other because they share a speaker or a session."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ambi_eval.votes import Array

# The cluster of clips whose dependence on other clips is unknown.
UNKNOWN = "unknown"


def mean_of_defined(scores: ArrayLike) -> float:
    """Return the mean of the scores, shape (clips,), that are not NaN; NaN if there is none.

    >>> mean_of_defined([1.0, float("nan"), 2.0])
    1.5
    """
    scores = np.asarray(scores, dtype=float)
    defined = ~np.isnan(scores)
    return float(scores[defined].mean()) if defined.any() else float("nan")


def influence_on_mean(scores: ArrayLike) -> Array:
    """Return each clip's influence on `mean_of_defined`, shape (clips,): its score minus the mean; NaN stays NaN.

    >>> influence_on_mean([1.0, float("nan"), 2.0]).tolist()
    [-0.5, nan, 0.5]
    """
    return np.asarray(scores, dtype=float) - mean_of_defined(scores)


def cluster_numbers(clusters: Sequence[Hashable]) -> NDArray[np.intp]:
    """Return the number of each clip's cluster, shape (clips,): 0, 1 ... in the order of appearance, -1 for `UNKNOWN`.

    >>> cluster_numbers(["ben", "unknown", "anna", "ben"]).tolist()
    [0, -1, 1, 0]
    """
    return _numbers(tuple(clusters))


@lru_cache(maxsize=32)  # every metric of a prediction asks for those of the same clips
def _numbers(clusters: tuple[Hashable, ...]) -> NDArray[np.intp]:
    numbers: dict[Hashable, int] = {}
    found = np.array([-1 if c == UNKNOWN else numbers.setdefault(c, len(numbers)) for c in clusters], dtype=np.intp)
    found.flags.writeable = False
    return found


def jackknife(influence: ArrayLike, clusters: Sequence[Hashable]) -> Array:
    """Return how much a score changes when one cluster is left out, for each of G clusters, shape (G, ...).

    Clips of the cluster `UNKNOWN` are left out, and clips with a value that is NaN.

    Args:
        influence: Each clip's influence on the score, shape (clips, ...), as for `clustered_standard_error`.
        clusters: Each clip's cluster, in the same order: anything hashable.

    Raises:
        ValueError: If there are not as many clusters as clips.
    """
    values, clusters = np.asarray(influence, dtype=float), list(clusters)
    if len(values) != len(clusters):
        raise ValueError(f"values and clusters must have the same length, they have {len(values)} and {len(clusters)}")
    defined = ~np.isnan(values).any(axis=tuple(range(1, values.ndim)))
    if not defined.all():
        clusters = [c if known else UNKNOWN for c, known in zip(clusters, defined.tolist(), strict=True)]
    numbers = cluster_numbers(clusters)
    used = numbers >= 0
    sums = np.zeros((numbers.max(initial=-1) + 1, *values.shape[1:]))
    np.add.at(sums, numbers[used], values[used])
    sizes = np.bincount(numbers[used], minlength=len(sums)).astype(float)
    if not len(sizes):
        return sums

    sizes = sizes.reshape(-1, *[1] * (sums.ndim - 1))
    centered = sums - sizes * sums.sum(axis=0) / sizes.sum()  # without clips of unknown clusters the mean is not 0
    others = sizes.sum() - sizes
    return -centered / np.where(others > 0, others, np.nan)


def clustered_standard_error(influence: ArrayLike, clusters: Sequence[Hashable]) -> tuple[float, int]:
    """Return the cluster-robust standard error of a score, and the number of clusters G.

    sqrt((G - 1) / G * sum over clusters of d^2), where d is the change of the score when a cluster is left out: the
    jackknife over clusters (CV3). If all clusters have the same number of clips, it equals the usual sandwich estimator
    with the factor G / (G - 1). If some clusters have many more clips than others, that estimator is too small, and the
    jackknife is less so. Confidence intervals use Student's t with G - 1 degrees of freedom.

    Clips of unknown clusters count in the score but not in its error. The result is the error of a score of fewer
    clips, so it is too large rather than too small.

    Sources: Cameron and Miller (2015), A practitioner's guide to cluster-robust inference; MacKinnon, Nielsen and Webb
    (2023), Cluster-robust inference: a guide to empirical practice.

    Args:
        influence: Each clip's influence on the score, shape (clips,): the derivative of the score by the weight of the
            clip, scaled such that for a mean over clips it is the clip's value minus the mean. A clip with NaN does not
            count.
        clusters: Each clip's cluster, in the same order: anything hashable; `UNKNOWN` where it is not known.

    Returns:
        The standard error (NaN for fewer than two clusters) and G.

    Raises:
        ValueError: If there are not as many clusters as influence values.

    >>> standard_error, n_clusters = clustered_standard_error([1.0, 1.0, -1.0, -1.0], ["anna", "anna", "ben", "ben"])
    >>> round(standard_error, 4), n_clusters
    (1.0, 2)
    """
    moves = jackknife(influence, clusters)
    n_clusters = len(moves)
    if n_clusters < 2:
        return float("nan"), n_clusters
    return float(np.sqrt((n_clusters - 1) / n_clusters * np.square(moves).sum())), n_clusters


def two_way_standard_error(
    influence: ArrayLike, first: Sequence[Hashable], second: Sequence[Hashable]
) -> tuple[float, int]:
    """Return the standard error of a score whose observations depend on each other in two ways, and the number G.

    sqrt(V1 + V2 - V12): the variance with clusters of the first kind, plus that with clusters of the second kind, minus
    that with their intersections, which both contain. If this is negative by chance, the larger of V1 and V2 replaces
    it. An observation counts for a kind only if its cluster of that kind is known.

    Source: Cameron, Gelbach and Miller (2011), Robust inference with multiway clustering, equation 2.11.

    Args:
        influence: Each observation's influence on the score, shape (observations,), as for `clustered_standard_error`.
        first: Each observation's cluster of the first kind, such as the speaker.
        second: Its cluster of the second kind, such as the rater.

    Returns:
        The standard error (NaN for fewer than two clusters of either kind), and G, the smaller of the two numbers of
        clusters: intervals use Student's t with G - 1 degrees of freedom.

    >>> error, n_clusters = two_way_standard_error([1.0, -1.0, 1.0, -1.0], ["a", "a", "b", "b"], ["x", "y", "x", "y"])
    >>> round(error, 4), n_clusters
    (0.8165, 2)
    """
    of_first, n_first = clustered_standard_error(influence, first)
    of_second, n_second = clustered_standard_error(influence, second)
    both = [UNKNOWN if UNKNOWN in pair else pair for pair in zip(first, second, strict=True)]
    of_both, _ = clustered_standard_error(influence, both)
    variance = of_first**2 + of_second**2 - of_both**2
    error = np.sqrt(variance) if variance > 0 else np.maximum(of_first, of_second)
    return float(error), min(n_first, n_second)

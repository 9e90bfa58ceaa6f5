"""Error bars for scores of clips that depend on each other, because they share a speaker or session."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

# The cluster of clips whose dependence on other clips is unknown.
UNKNOWN = "unknown"


def mean_of_defined(scores: ArrayLike) -> float:
    """Return the mean of the scores that are not NaN; NaN if there is none.

    Args:
        scores: One per clip, shape (clips,); NaN where the clip's votes leave the score undefined.

    >>> mean_of_defined([1.0, float("nan"), 2.0])
    1.5
    """
    scores = np.asarray(scores, dtype=float)
    defined = ~np.isnan(scores)
    return float(scores[defined].mean()) if defined.any() else float("nan")


def influence_on_mean(scores: ArrayLike) -> NDArray[np.float64]:
    """Return each clip's influence on `mean_of_defined`, shape (clips,): its score minus the mean, NaN if undefined.

    >>> influence_on_mean([1.0, float("nan"), 2.0]).tolist()
    [-0.5, nan, 0.5]
    """
    return np.asarray(scores, dtype=float) - mean_of_defined(scores)


def cluster_sums(values: ArrayLike, clusters: Sequence[Hashable]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum of the values in each cluster and the number of its clips, shapes (G, ...) and (G,).

    Clips whose value is NaN, and those in the cluster `UNKNOWN`, are left out.

    Args:
        values: Shape (clips, ...). A clip is left out if any of its values is NaN.
        clusters: Each clip's cluster, in the same order: anything hashable.

    Raises:
        ValueError: If there are not as many clusters as clips.
    """
    values = np.asarray(values, dtype=float)
    if len(values) != len(clusters):
        raise ValueError(f"values and clusters must have the same length, they have {len(values)} and {len(clusters)}")
    defined = ~np.isnan(values).any(axis=tuple(range(1, values.ndim)))
    numbers: dict[Hashable, int] = {}
    index = [
        numbers.setdefault(cluster, len(numbers)) if known and cluster != UNKNOWN else -1
        for cluster, known in zip(clusters, defined.tolist(), strict=True)
    ]
    rows = np.array(index, dtype=int)
    used = rows >= 0
    sums = np.zeros((len(numbers), *values.shape[1:]))
    np.add.at(sums, rows[used], values[used])
    return sums, np.bincount(rows[used], minlength=len(numbers)).astype(float)


def jackknife(influence: ArrayLike, clusters: Sequence[Hashable]) -> NDArray[np.float64]:
    """Return how much a score moves when each cluster is left out, shape (G, ...), from the influence of the clips.

    Args:
        influence: Each clip's influence on the score, shape (clips, ...), as for `clustered_standard_error`.
        clusters: Each clip's cluster.
    """
    sums, sizes = cluster_sums(influence, clusters)
    if not len(sizes):
        return sums
    sizes = sizes.reshape(-1, *[1] * (sums.ndim - 1))
    centered = sums - sizes * sums.sum(axis=0) / sizes.sum()  # where clips of unknown clusters are left out
    others = sizes.sum() - sizes
    return -centered / np.where(others > 0, others, np.nan)


def clustered_standard_error(influence: ArrayLike, clusters: Sequence[Hashable]) -> tuple[float, int]:
    """Return the cluster-robust standard error of a score, and the number of clusters G.

    sqrt((G - 1) / G * sum over clusters of d^2), where d is how much the score moves when a cluster is left out: the
    jackknife over clusters (CV3). Where all clusters have equally many clips, it equals the usual sandwich estimator
    with the factor G / (G - 1). Where some have many more clips than others, that estimator is too small, and this one
    is less so. Confidence intervals take Student's t with G - 1 degrees of freedom.

    The clips of unknown clusters count in the score but not here: the error is that of a score of the other clips
    alone, which are fewer. So it is rather too large than too small, if both kinds of clips are similar.

    Sources: Cameron and Miller (2015), A practitioner's guide to cluster-robust inference; MacKinnon, Nielsen and Webb
    (2023), Cluster-robust inference: a guide to empirical practice.

    Args:
        influence: Each clip's influence on the score, shape (clips,): how fast the score moves as the clip's weight
            grows, scaled so that for a mean over clips it is the clip's value minus the mean. NaN: the clip does not
            count.
        clusters: Each clip's cluster, in the same order: anything hashable; `UNKNOWN` where it is not known.

    Returns:
        The standard error (NaN with fewer than two clusters, which do not show how clusters vary) and G.

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

    sqrt(V1 + V2 - V12): the variance with clusters of the first kind, plus that of the second kind, minus that of the
    intersections, which both counted. If the difference is below zero by chance, the larger of V1 and V2 is taken. An
    observation counts in a kind only where its cluster is known.

    Source: Cameron, Gelbach and Miller (2011), Robust inference with multiway clustering, equation 2.11.

    Args:
        influence: Each observation's influence on the score, shape (observations,), as for `clustered_standard_error`.
        first: Each observation's cluster of the first kind, such as the speaker.
        second: Its cluster of the second kind, such as the rater.

    Returns:
        The standard error (NaN with fewer than two clusters of either kind), and the number of clusters of the kind
        that has fewer: intervals take Student's t with one degree of freedom less.

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

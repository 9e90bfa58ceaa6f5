"""Error bars for scores of clips that are not independent, because one speaker or one session gave several of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
    """Return each clip's influence on `mean_of_defined`, shape (clips,): its score minus the mean.

    A clip whose score is undefined has none, which makes the others weigh more.

    >>> influence_on_mean([1.0, float("nan"), 2.0]).tolist()
    [-0.75, 0.0, 0.75]
    """
    scores = np.asarray(scores, dtype=float)
    defined = ~np.isnan(scores)
    if not defined.any():
        return scores
    return np.where(defined, scores - mean_of_defined(scores), 0.0) / defined.mean()


def clustered_standard_error(influence: ArrayLike, clusters: Sequence[Hashable]) -> tuple[float, int]:
    """Return the cluster-robust standard error of a score, and the number of clusters G.

    sqrt(G / (G - 1) * sum over clusters of (sum of the cluster's influence)^2) / clips: the sandwich estimator with the
    small-sample factor of CR1, equal to that of a regression on a constant. Confidence intervals take Student's t with
    G - 1 degrees of freedom.

    Sources: Liang and Zeger (1986), Longitudinal data analysis using generalized linear models; Cameron and Miller
    (2015), A practitioner's guide to cluster-robust inference.

    Args:
        influence: Each clip's influence on the score, shape (clips,): how fast the score moves as the clip's weight
            grows, scaled so that for a mean over clips it is the clip's value minus the mean. Sums to 0.
        clusters: Each clip's cluster, in the same order: anything hashable.

    Returns:
        The standard error (NaN with fewer than two clusters, which do not show how clusters vary) and G.

    Raises:
        ValueError: If there are not as many clusters as influence values.

    >>> standard_error, n_clusters = clustered_standard_error([1.0, 1.0, -1.0, -1.0], ["anna", "anna", "ben", "ben"])
    >>> round(standard_error, 4), n_clusters
    (1.0, 2)
    """
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=int)
    sums = np.bincount(index, weights=np.asarray(influence, dtype=float))
    n_clusters = len(numbers)
    if n_clusters < 2:
        return float("nan"), n_clusters
    return float(np.sqrt(n_clusters / (n_clusters - 1) * np.square(sums).sum()) / len(index)), n_clusters

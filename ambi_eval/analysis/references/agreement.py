"""How far the raters of a clip agree with each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ambi_eval.metrics.distribution import squared_error_debiased
from ambi_eval.votes import TIE_TOLERANCE, shares


def krippendorff_alpha(votes: ArrayLike) -> float:
    """Return Krippendorff's alpha for nominal labels and panels of any size.

    1 - D_o / D_e: of all pairs of votes on the same clip, each clip weighing as its number of votes, the share that
    disagrees (D_o), against the share among all pairs of votes whatsoever (D_e).

    Source: Krippendorff (2011), Computing Krippendorff's alpha-reliability.

    Args:
        votes: Votes, shape (clips, labels). A clip with one vote or less shows no agreement and does not count.

    Returns:
        Alpha: 1 where all raters of each clip agree, 0 where they agree as chance would have it, negative below.
        NaN where it is undefined: no clip with two votes, or one label only.

    >>> round(krippendorff_alpha([[4, 0], [1, 3], [0, 4]]), 4)
    0.6857
    """
    counts = np.asarray(votes, dtype=float)
    sizes = counts.sum(axis=1, keepdims=True)
    pairable = sizes[:, 0] > 1
    counts, sizes = counts[pairable], sizes[pairable]
    total, of_label = counts.sum(), counts.sum(axis=0)
    chance = (of_label * (total - of_label)).sum()
    if chance == 0:
        return float("nan")
    disagreeing = (counts * (sizes - counts) / (sizes - 1)).sum()
    return float(1 - (total - 1) * disagreeing / chance)


def squared_error_of_one_rater(votes: ArrayLike) -> NDArray[np.float64]:
    """Return the `sq_debiased` that a random rater of the panel gets on average: n / (n - 1) sum q (1 - q).

    A rater's vote, as a distribution, is off the true shares t by sum (e - t)^2, in expectation 1 - sum t^2, of which
    this is the unbiased estimate from n votes with shares q. The mean of k raters is off by 1/k of that.

    Args:
        votes: Votes, shape (..., labels).

    Returns:
        Squared errors, shape (...), 0 (unanimous) to 1; NaN for a clip with one vote or less.

    >>> round(float(squared_error_of_one_rater([3, 1])), 4)
    0.5
    """
    n, q = np.sum(votes, axis=-1, dtype=float), shares(votes)
    return n / np.where(n > 1, n - 1, np.nan) * (q * (1 - q)).sum(axis=-1)


def prior_worth(votes: ArrayLike) -> float:
    """Return how many raters the mean distribution of all clips is worth: the prior votes that shrink a panel best.

    The squared error of one rater divided by that of the mean distribution, both against the true shares. The mean of k
    raters plus so many votes of the prior has the least expected squared error of all such mixtures.

    Source: Buehlmann (1967), Experience rating and credibility.

    Args:
        votes: Votes, shape (clips, labels).

    Returns:
        Number of raters, above 0; very large where clips do not differ. NaN if no clip has two votes.

    >>> round(prior_worth([[4, 0], [1, 3], [0, 4]]), 4)
    0.5217
    """
    paired = np.asarray(votes, dtype=float)
    paired = paired[paired.sum(axis=-1) > 1]
    if not len(paired):
        return float("nan")
    prior = shares(paired).mean(axis=0)
    between = squared_error_debiased(np.broadcast_to(prior, paired.shape), paired).mean()
    return float(squared_error_of_one_rater(paired).mean() / max(between, TIE_TOLERANCE))

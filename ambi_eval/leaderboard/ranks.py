"""The rank of each system, with the interval of the ranks that are possible with other speakers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ambi_eval.analysis.significance import compare_all_pairs

# Means are compared to this many decimals, because sums in another order differ in the last digit.
DECIMALS = 12


@dataclass(frozen=True)
class Rank:
    """A rank, 1 is best, with its 95% interval; equal systems share the better rank."""

    value: int
    low: int
    high: int


def rank_intervals(errors: NDArray[np.float64], clusters: Sequence[str]) -> list[Rank]:
    """Return the rank of each system by its mean error, with an interval.

    The lower end of the interval is 1 + the number of systems that are significantly better; the upper end is 1 + the
    number of other systems that are not significantly worse. All pairs of systems are tested together, so that with
    probability 95% the intervals of all systems hold their true ranks. With one cluster every rank is possible.
    `errors`, lower is better, have shape (systems, clips).

    Source: Mogstad, Romano, Shaikh and Wilhelm (2024), Inference for ranks with applications to mobility across
    neighbourhoods and academic achievement across countries.
    """
    values = rankdata(errors.mean(axis=1).round(DECIMALS), method="min").astype(int).tolist()
    pairs = compare_all_pairs(errors, clusters)
    low = 1 + pairs.better.sum(axis=0)
    high = 1 + (~pairs.better & ~pairs.same).sum(axis=1)
    return [
        Rank(value, min(value, at_least), max(value, at_most))
        for value, at_least, at_most in zip(values, low.tolist(), high.tolist(), strict=True)
    ]

"""Which rank a system has, and which ranks it could have had with other speakers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit
from scipy.stats import rankdata

from ambi_eval.analysis.estimate import SEED
from ambi_eval.analysis.significance import BLOCK, RESAMPLES

# Means that differ by less are the same: sums in another order differ in the last digit.
DECIMALS = 12


@dataclass(frozen=True)
class Rank:
    """A rank, 1 is best, with its 95% interval; equal systems share the better rank."""

    value: int
    low: int
    high: int


def rank_intervals(errors: NDArray[np.float64], clusters: Sequence[str]) -> list[Rank]:
    """Return the rank of each system by its mean error, with an interval from a paired bootstrap of whole clusters.

    In each of 10,000 seeded resamples the same clusters are drawn for all systems, and these are ranked by their means.
    The percentiles are the somewhat outer ones of `significance.bootstrap_mean`. With one cluster every rank is
    possible.

    Source: Goldstein and Spiegelhalter (1996), League tables and their limitations; Mogstad et al. (2024), Inference
    for ranks, on why such intervals are a little too narrow where many systems are close.

    Args:
        errors: Error of each clip, lower is better, shape (systems, clips).
        clusters: Whom each clip depends on, shape (clips,).
    """
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    n = len(names)
    counts = np.bincount(index).astype(float)
    sums = np.stack([np.bincount(index, weights=of_system) for of_system in errors], axis=1)
    values = _ranks(errors.mean(axis=1)[None])[0]
    if n < 2:
        return [Rank(int(value), 1, len(errors)) for value in values]
    rng = np.random.default_rng(SEED)
    drawn = []
    for start in range(0, RESAMPLES, BLOCK):
        weights = rng.multinomial(n, np.full(n, 1 / n), size=min(BLOCK, RESAMPLES - start)).astype(float)
        drawn.append(_ranks(weights @ sums / (weights @ counts)[:, None]))
    tail = float(ndtr(np.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.025)))
    ranks = np.concatenate(drawn)
    low = np.quantile(ranks, tail, axis=0, method="lower")
    high = np.quantile(ranks, 1 - tail, axis=0, method="higher")
    return [Rank(int(v), min(int(v), int(a)), max(int(v), int(b))) for v, a, b in zip(values, low, high, strict=True)]


def _ranks(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each system in each resample, shape (resamples, systems)."""
    return rankdata(means.round(DECIMALS), method="min", axis=1)

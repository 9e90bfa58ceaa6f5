"""Variance components: how much of the spread of scores comes from clips, speakers, raters, wordings and chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ambi_eval.analysis.estimate import SEED

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Effect = tuple[str, ...]

DRAWS = 4000
# Up to this many combinations of two groupings are counted in a table, which is faster than to sort them.
MOST_CELLS = 10_000_000


@dataclass(frozen=True, eq=False)
class Components:
    """The variance components of some scores.

    Attributes:
        effects: The random effects: a factor alone, or several of them together (an interaction). The last one also
            holds the chance that is left (the residual).
        variances: The variance of each effect, shape (effects,). Estimates are free of bias, so they may fall below 0
            where the true variance is near 0.
        draws: Draws from the fiducial distribution of the variances, shape (draws, effects): what the true ones may be.
        degrees: Degrees of freedom of each effect, shape (effects,).
    """

    effects: Sequence[Effect]
    variances: Array
    draws: Array
    degrees: Array

    @cached_property
    def positive(self) -> Array:
        """The variances, those below 0 set to 0, shape (effects,)."""
        return np.maximum(self.variances, 0.0)

    @cached_property
    def positive_draws(self) -> Array:
        """The draws, those below 0 set to 0, shape (draws, effects)."""
        return np.maximum(self.draws, 0.0)


def variance_components(scores: ArrayLike, factors: Mapping[str, ArrayLike], effects: Iterable[Effect]) -> Components:
    """Return the variance components of scores in a crossed or nested design.

    The model is score = mean + sum of random effects. Each effect has one independent value of its variance for each
    combination of its factors' levels that occurs. The sum of squares of an effect is what its group means explain
    beyond those of all coarser effects; the variances solve the equations between the mean squares and their
    expectations. In balanced designs this is the analysis of variance, and equals REML where no estimate is below 0. In
    unbalanced ones (speakers with different numbers of clips, raters who each heard some of the clips) the estimates
    are free of bias, too.

    The draws follow from the mean squares: each is its expectation times chi-squared / degrees of freedom, independent
    of the others. So its expectation may be the mean square times degrees of freedom / chi-squared. Where raters heard
    different clips that is an approximation.

    Sources: Henderson (1953), Estimation of variance and covariance components, method 1 (the estimates); Weerahandi
    (1993), Generalized confidence intervals (the draws).

    Args:
        scores: Shape (n,).
        factors: By name, the level that each score belongs to, shape (n,): anything that can be sorted. A level of a
            nested factor needs a name of its own: clip 3 of one speaker is another level than clip 3 of another.
        effects: The effects, each by its factors. One that has a level for each score is the residual; it is added (all
            factors together) where it is missing.

    Raises:
        ValueError: If two effects group the scores alike, so that their variances cannot be told apart.
    """
    y = np.asarray(scores, dtype=float)
    codes = {name: _codes(np.asarray(levels)) for name, levels in factors.items()}
    named = [*effects]
    groups = [joint_codes([codes[name] for name in effect]) for effect in named]
    if not any(group.max() + 1 == len(y) for group in groups):
        named.append(tuple(factors))
        groups.append(np.arange(len(y)))
    order = sorted(range(len(named)), key=lambda number: int(groups[number].max()))
    named, groups = [named[number] for number in order], [groups[number] for number in order]
    below = [
        [other for other in range(number) if _refines(groups[number], groups[other])] for number in range(len(named))
    ]
    sizes = [np.bincount(group) for group in groups]
    # Of each effect: the sum of squares, the degrees of freedom, and what a unit of each variance adds to the former.
    squares, degrees = np.zeros(len(named)), np.zeros(len(named))
    expected = np.zeros((len(named), len(named)))
    centered = y - y.mean()
    of_mean = np.array([np.square(size).sum() / len(y) for size in sizes])
    for number, group in enumerate(groups):
        squares[number] = (np.square(np.bincount(group, centered)) / sizes[number]).sum()
        squares[number] -= squares[below[number]].sum()
        degrees[number] = len(sizes[number]) - 1 - degrees[below[number]].sum()
        expected[number] = [_shared(group, sizes[number], other) for other in groups] - of_mean
        expected[number] -= expected[below[number]].sum(axis=0)
    if (degrees < 1).any():
        same = "; ".join(" x ".join(named[number]) for number in np.flatnonzero(degrees < 1))
        raise ValueError(f"nothing is left to estimate the variance of: {same}")
    unmix = np.linalg.inv(expected / degrees[:, None])
    mean_squares = squares / degrees
    chances = np.random.default_rng(SEED).chisquare(degrees, size=(DRAWS, len(named))) / degrees
    back = np.argsort(order)
    return Components(
        effects=[named[number] for number in back],
        variances=(unmix @ mean_squares)[back],
        draws=((np.maximum(mean_squares, 0.0) / chances) @ unmix.T)[:, back],
        degrees=degrees[back],
    )


def _codes(levels: NDArray[np.generic]) -> Codes:
    return np.unique(levels, return_inverse=True)[1].astype(np.int64)


def joint_codes(levels: Sequence[NDArray[np.generic]]) -> Codes:
    """Return the number of each score's combination of levels of one factor or several."""
    joint = _codes(levels[0])
    for other in map(_codes, levels[1:]):
        joint = _codes(joint * (other.max() + 1) + other)
    return joint


def _refines(fine: Codes, coarse: Codes) -> bool:
    """Return whether all scores of each fine group lie in one coarse group."""
    of_group = np.zeros(fine.max() + 1, dtype=np.int64)
    of_group[fine] = coarse
    return bool((of_group[fine] == coarse).all())


def _shared(group: Codes, sizes: NDArray[np.intp], other: Codes) -> float:
    """Return what a unit of another effect's variance adds to the uncorrected sum of squares of a grouping."""
    width = int(other.max()) + 1
    cells = group * width + other
    if len(sizes) * width <= MOST_CELLS:
        of_cells = np.bincount(cells)
        pairs = np.flatnonzero(of_cells)
        counts = of_cells[pairs]
    else:
        pairs, counts = np.unique(cells, return_counts=True)
    return float((np.square(counts) / sizes[pairs // width]).sum())

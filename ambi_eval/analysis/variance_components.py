"""Variance components: the parts of the variance of scores due to clips, speakers, raters, wordings and chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ambi_eval.analysis.estimate import SEED
from ambi_eval.votes import Array

Codes = NDArray[np.int64]
Effect = tuple[str, ...]

DRAWS = 4000
# Up to this many combinations of two groupings are counted in a table, which is faster than sorting.
MOST_CELLS = 10_000_000


@dataclass(frozen=True, eq=False)
class Components:
    """The variance components of some scores.

    Attributes:
        variances: The variance of each effect, shape (effects,). The estimates are unbiased, so they may be below 0 if
            the true variance is near 0.
        draws: Draws from the fiducial distribution of the variances, shape (draws, effects).
    """

    variances: Array
    draws: Array


def variance_components(scores: ArrayLike, factors: Mapping[str, ArrayLike], effects: Iterable[Effect]) -> Components:
    """Return the variance components of scores in a crossed or nested design.

    The model is score = mean + sum of random effects. An effect has one independent random value for each combination
    of levels of its factors. Its sum of squares is what its group means explain beyond all coarser effects. The
    variances are those for which the expected mean squares equal the observed ones. In balanced designs this is the
    analysis of variance, and equals REML if no estimate is below 0. In unbalanced designs (speakers with different
    numbers of clips, raters who each heard some of the clips) the estimates are unbiased, too.

    Each mean square is distributed as its expectation times chi-squared / degrees of freedom, independent of the
    others. So a draw of the expectation is the mean square times degrees of freedom / chi-squared. If raters heard
    different clips, this is an approximation.

    Sources: Henderson (1953), Estimation of variance and covariance components, method 1 (the estimates); Weerahandi
    (1993), Generalized confidence intervals (the draws).

    Args:
        scores: Shape (n,).
        factors: By name, the level of each score, shape (n,): anything that can be sorted. Levels of a nested factor
            must have different names: clip 3 of one speaker is not clip 3 of another speaker.
        effects: The random effects, each a tuple of factors: a single factor, or several together (an interaction). An
            effect with as many levels as scores is the residual; if there is none, the interaction of all factors is
            added.

    Raises:
        ValueError: If two effects group the scores in the same way, so that their variances cannot be separated.
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
    # For each effect: its sum of squares, its degrees of freedom, and the expected contribution of a unit of each
    # variance to that sum.
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
        variances=(unmix @ mean_squares)[back], draws=((np.maximum(mean_squares, 0.0) / chances) @ unmix.T)[:, back]
    )


def _codes(levels: NDArray[np.generic]) -> Codes:
    return np.unique(levels, return_inverse=True)[1].astype(np.int64)


def joint_codes(levels: Sequence[NDArray[np.generic]]) -> Codes:
    """Return the index of each score's combination of levels of one factor or several, shape (n,)."""
    joint = _codes(levels[0])
    for other in map(_codes, levels[1:]):
        joint = _codes(joint * (other.max() + 1) + other)
    return joint


def _refines(fine: Codes, coarse: Codes) -> bool:
    """Return whether each fine group lies in one coarse group."""
    of_group = np.zeros(fine.max() + 1, dtype=np.int64)
    of_group[fine] = coarse
    return bool((of_group[fine] == coarse).all())


def _shared(group: Codes, sizes: NDArray[np.intp], other: Codes) -> float:
    """Return how much a unit of another effect's variance adds to the uncorrected sum of squares of a grouping."""
    width = int(other.max()) + 1
    cells = group * width + other
    if len(sizes) * width <= MOST_CELLS:
        of_cells = np.bincount(cells)
        pairs = np.flatnonzero(of_cells)
        counts = of_cells[pairs]
    else:
        pairs, counts = np.unique(cells, return_counts=True)
    return float((np.square(counts) / sizes[pairs // width]).sum())

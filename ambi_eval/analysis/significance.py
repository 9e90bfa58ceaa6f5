"""Tests whether differences are more than chance: sign-flip tests over clusters, corrected for many differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from ambi_eval.analysis import estimate
from ambi_eval.analysis.estimate import SEED, Estimate
from ambi_eval.metrics import Metric
from ambi_eval.metrics.clustered import UNKNOWN, jackknife
from ambi_eval.votes import Array

# For up to this many clusters all sign flips are enumerated; for more, FLIPS random ones are drawn.
ENUMERATED_CLUSTERS = 14
FLIPS = 10_000
# Number of flips computed at once; for 25,000 differences they need about 100 MB.
BLOCK = 500
LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """The difference of two systems on the same clips, with a test of no difference.

    Attributes:
        difference: Mean over clips of first minus second, with its 95% interval.
        p_corrected: The p-value corrected for all comparisons made together (max-T): the probability that the largest
            of all standardized differences is as large as this one by chance.
        smallest_p: The smallest possible `p` for this number of clusters. If it is above 0.05, nothing can be
            significant.
    """

    difference: Estimate
    p: float
    p_corrected: float
    smallest_p: float
    clusters: int


@dataclass(frozen=True, eq=False)
class Pairs:
    """The comparisons of all pairs of systems, corrected for all pairs together.

    Attributes:
        comparisons: First minus second, by the indices of the two systems. The intervals are simultaneous: in 95 % of
            samples all of them contain the true differences.
        better: Whether system i is significantly better than system j, shape (systems, systems).
        same: Whether both score the same on every cluster, shape (systems, systems).
    """

    comparisons: Mapping[tuple[int, int], Comparison]
    better: NDArray[np.bool_]
    same: NDArray[np.bool_]


def compare(differences: Mapping[str, ArrayLike], clusters: Sequence[str]) -> dict[str, Comparison]:
    """Return each difference with its own 95% interval and its p-values.

    If two systems are equally good, exchanging them changes nothing, so the signs of all differences in a cluster may
    be flipped. The p-value is the share of flips whose mean is at least as far from 0 as the observed mean. For up to
    14 clusters all 2^G flips are enumerated, and the smallest possible value is 2^(1 - G): 0.0625 for five sessions.
    For more clusters 10,000 seeded flips are drawn, and the observed signs count as one more flip. A difference that is
    undefined on every clip has NaN as its p-values.

    Sources: Fisher (1935), The design of experiments; Phipson and Smyth (2010), Permutation p-values should never be
    zero.

    Args:
        differences: By name, the difference of each clip, shape (clips,); NaN where it is undefined. For a metric that
            only a set of clips has, give differences of `linearized` values.
        clusters: The cluster of each clip, its speaker for example, shape (clips,).

    >>> compare({"jsd_bits": [0.1, 0.2, 0.1]}, ["anna", "ben", "carl"])["jsd_bits"].p
    0.25
    """
    values = [np.asarray(of_clips, dtype=float) for of_clips in differences.values()]
    tested = _flip_signs(_sums(values, clusters))
    known = np.where([np.isnan(of_clips).all() for of_clips in values], np.nan, 1.0)
    return {
        name: Comparison(
            difference=estimate.of_mean(of_clips, clusters),
            p=float(p),
            p_corrected=float(corrected),
            smallest_p=tested.smallest_p,
            clusters=tested.clusters,
        )
        for name, of_clips, p, corrected in zip(
            differences, values, known * tested.p, known * tested.p_corrected, strict=True
        )
    }


def compare_all_pairs(errors: Array, clusters: Sequence[str]) -> Pairs:
    """Return the comparison of every pair of systems, corrected so that any pair may be chosen after seeing the scores.

    Without a correction, the best of ten equal systems differs "significantly" from another one in more than half of
    all samples. So all pairs form one family, and the critical value is that of the largest of all differences
    (Westfall and Young's max-T). `errors`, lower is better, have shape (systems, clips).

    Sources: Westfall and Young (1993), Resampling-based multiple testing; Hsu (1996), Multiple comparisons.
    """
    systems = len(errors)
    first, second = np.triu_indices(systems, 1)
    sums = _sums(errors, clusters)
    tested = _flip_signs(sums[:, first] - sums[:, second])
    better, same = np.zeros((systems, systems), dtype=bool), np.eye(systems, dtype=bool)
    comparisons = {}
    means = np.mean(errors, axis=1)
    moves = jackknife((errors - means[:, None]).T, clusters)
    for pair, (i, j) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        mean = float(means[i] - means[j])
        error = np.sqrt((len(moves) - 1) / len(moves) * np.square(moves[:, i] - moves[:, j]).sum())
        margin = float(tested.critical * error) if tested.spread[pair] else 0.0
        for one, other, sign in ((i, j, 1), (j, i, -1)):
            comparisons[one, other] = Comparison(
                difference=Estimate(sign * mean, sign * mean - margin, sign * mean + margin),
                p=float(tested.p[pair]),
                p_corrected=float(tested.p_corrected[pair]),
                smallest_p=tested.smallest_p,
                clusters=tested.clusters,
            )
            better[one, other] = tested.p_corrected[pair] <= LEVEL and sign * mean < 0
        same[i, j] = same[j, i] = not tested.spread[pair]
    return Pairs(comparisons, better, same)


def linearized(metric: Metric, p: ArrayLike, votes: ArrayLike, noise: ArrayLike | None = None) -> Array | None:
    """Return one number per clip such that their mean is the metric's value, with the same standard error.

    Each number is the value plus the clip's influence on it (the delta method). For a mean over clips these are the
    scores of the clips; for F1 and UAR they show how much one clip changes the whole. `p` and `votes` have shape
    (clips, labels), and `noise` and the result (clips,). The result is None where the influence has no closed form.
    """
    influence = metric.influence(p, votes, noise)
    return None if influence is None else metric.value(p, votes, noise) + influence


@dataclass(frozen=True, eq=False)
class _Flipped:
    """The result of the sign-flip test of several differences together.

    Attributes:
        p_corrected: P-value of each difference, corrected for all, shape (differences,).
        critical: The number of standard errors from 0 at which a difference is significant after the correction.
        spread: Square root of the sum of squared cluster sums of each difference, shape (differences,).
    """

    p: Array
    p_corrected: Array
    critical: float
    spread: Array
    smallest_p: float
    clusters: int


def _flip_signs(sums: Array) -> _Flipped:
    """Return p-values from flips of the signs of whole clusters, the same flips for all differences.

    `sums` are those of each difference over the clips of each cluster, shape (clusters, differences).
    """
    clusters, differences = sums.shape
    spread = np.sqrt(np.square(sums).sum(axis=0))
    spread[spread < 1e-12 * max(1.0, np.abs(sums).max(initial=0.0))] = 0.0
    # Dividing by the spread makes differences comparable, so that none dominates the largest of them.
    units = np.where(spread > 0, sums / np.where(spread > 0, spread, 1.0), 0.0)
    found = np.abs(units.sum(axis=0)) * (1 - 1e-9)  # rounding must not make a sum smaller than itself
    as_far, largest_as_far, largest = np.zeros(differences), np.zeros(differences), []
    for signs in _signs(clusters):
        flipped = np.abs(signs @ units)
        as_far += (flipped >= found).sum(axis=0)
        of_flip = flipped.max(axis=1, initial=0.0)
        largest.append(of_flip)
        ordered = np.sort(of_flip)
        largest_as_far += len(ordered) - np.searchsorted(ordered, found)
    maxima = np.concatenate(largest)
    if len(maxima) > 1 / LEVEL:
        # |sum| / root of the sum of squares = u is Student's t = u sqrt((G - 1) / (G - u^2)).
        limit = float(np.quantile(maxima, 1 - LEVEL, method="higher"))
        critical = limit * np.sqrt((clusters - 1) / max(clusters - limit**2, 1e-9))
    else:  # with so few flips that quantile does not exist: use Bonferroni's bound, which is wider
        critical = stdtrit(clusters - 1, 1 - LEVEL / 2 / max(differences, 1)) if clusters > 1 else np.nan
    return _Flipped(
        p=as_far / len(maxima),
        p_corrected=largest_as_far / len(maxima),
        critical=float(critical),
        spread=spread,
        smallest_p=1 / len(maxima),
        clusters=clusters,
    )


def _signs(clusters: int) -> Iterator[Array]:
    """Yield blocks of signs (1 or -1) of all clusters, shape (flips, clusters); the first row is all 1."""
    if clusters <= ENUMERATED_CLUSTERS:
        # The first cluster keeps its sign, because flipping all signs does not change the distance from 0.
        yield np.array([(1.0, *rest)[:clusters] for rest in product((1.0, -1.0), repeat=max(clusters - 1, 0))])
        return
    rng = np.random.default_rng(SEED)
    yield np.ones((1, clusters))
    for start in range(0, FLIPS, BLOCK):
        yield rng.choice([-1.0, 1.0], size=(min(BLOCK, FLIPS - start), clusters))


def _sums(values: Sequence[Array] | Array, clusters: Sequence[str]) -> Array:
    """Return the sum of the defined values of each system in each cluster, shape (clusters, systems).

    It leaves out clips of unknown clusters, and clips without a defined value.
    """
    columns = np.column_stack(list(values))
    used = ~np.isnan(columns).all(axis=1) & (np.asarray(clusters) != UNKNOWN)
    names, index = np.unique(np.asarray(clusters)[used], return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, index, np.nan_to_num(columns[used]))
    return sums

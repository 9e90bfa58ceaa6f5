"""Whether differences are more than chance: sign flips of whole clusters, for one difference or for many at once."""

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

Array = NDArray[np.float64]

# Up to this many clusters all sign flips are tried; of more, FLIPS random ones.
ENUMERATED_CLUSTERS = 14
FLIPS = 10_000
# Flips worked on at once: bounds memory to some 100 MB at 25,000 differences.
BLOCK = 500
LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """A difference on the same clips, and how surprising it would be if there were none.

    Attributes:
        difference: Mean over clips of first minus second, with its 95% interval.
        p: Two-sided p-value of the sign-flip test.
        p_corrected: The same for all comparisons made together: how often the largest of all differences, in units of
            its own spread, would by chance be as large as this one.
        smallest_p: The least value that `p` can take with so many clusters: above 0.05, nothing can be significant.
        clusters: Number of clusters.
    """

    difference: Estimate
    p: float
    p_corrected: float
    smallest_p: float
    clusters: int


@dataclass(frozen=True, eq=False)
class Pairs:
    """Each system against each other one, all tested together.

    Attributes:
        comparisons: First minus second, by their numbers. The intervals hold together: in 95 of 100 samples all of them
            hold the true differences.
        better: Whether system i is better than system j beyond chance, shape (systems, systems).
        same: Whether both score the same on every cluster, shape (systems, systems).
    """

    comparisons: Mapping[tuple[int, int], Comparison]
    better: NDArray[np.bool_]
    same: NDArray[np.bool_]


def compare(differences: Mapping[str, ArrayLike], clusters: Sequence[str]) -> dict[str, Comparison]:
    """Return each difference with its own 95% interval and its p-values.

    If two systems are equally good, which of them came first does not matter, so the sign of a whole cluster's
    differences may be flipped. The p-value is the share of flips whose mean is as far from 0 as the mean found. Up to
    14 clusters all 2^G flips are tried, and the least value is 2^(1 - G): 0.0625 with five sessions. Otherwise 10,000
    seeded flips are drawn, and the one found counts as one more.

    Sources: Fisher (1935), The design of experiments; Phipson and Smyth (2010), Permutation p-values should never be
    zero.

    Args:
        differences: By name, the difference of each clip, shape (clips,); NaN where it is undefined. Of metrics that
            only a set of clips has, take differences of `linearised` values.
        clusters: Whom each clip depends on, shape (clips,).

    >>> compare({"jsd_bits": [0.1, 0.2, 0.1]}, ["anna", "ben", "carl"])["jsd_bits"].p
    0.25
    """
    values = [np.asarray(of_clips, dtype=float) for of_clips in differences.values()]
    tested = _flip_signs(_sums(values, clusters))
    return {
        name: Comparison(
            difference=estimate.of_mean(of_clips, clusters),
            p=float(p),
            p_corrected=float(corrected),
            smallest_p=tested.smallest_p,
            clusters=tested.clusters,
        )
        for name, of_clips, p, corrected in zip(differences, values, tested.p, tested.p_corrected, strict=True)
    }


def compare_all_pairs(errors: Array, clusters: Sequence[str]) -> Pairs:
    """Return every system against every other one, safe for looking at the best or at any other pair afterwards.

    Which system is found best hangs on the clips. Tested on the same clips as if it had been named before, the best of
    ten equal systems differs "significantly" from some other in more than half of all samples. So all pairs make one
    family: the critical value is that of the largest of all differences (Westfall and Young's max-T).

    Sources: Westfall and Young (1993), Resampling-based multiple testing; Hsu (1996), Multiple comparisons.

    Args:
        errors: Error of each clip, lower is better, shape (systems, clips).
        clusters: Whom each clip depends on, shape (clips,).
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


def linearised(metric: Metric, p: ArrayLike, votes: ArrayLike, noise: ArrayLike | None = None) -> Array | None:
    """Return a number per clip whose mean is the metric's value and whose spread is that of the value.

    The value plus each clip's influence on it. Of a mean over clips these are the clips' scores; of F1 and UAR they are
    what one clip more or less does to the whole (the delta method).

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


@dataclass(frozen=True, eq=False)
class _Flipped:
    """What sign flips say about several differences together.

    Attributes:
        p: P-value of each difference alone, shape (differences,).
        p_corrected: P-value of each among all, shape (differences,).
        critical: How many standard errors a difference must be from 0 to be significant among all.
        spread: Root of the sum of squares over clusters of each difference, shape (differences,).
        smallest_p: The least p-value that so many clusters allow.
        clusters: Number of clusters.
    """

    p: Array
    p_corrected: Array
    critical: float
    spread: Array
    smallest_p: float
    clusters: int


def _flip_signs(sums: Array) -> _Flipped:
    """Return p-values from flips of the signs of whole clusters, the same flips for all differences.

    Args:
        sums: The sum of each difference over the clips of each cluster, shape (clusters, differences).
    """
    clusters, differences = sums.shape
    spread = np.sqrt(np.square(sums).sum(axis=0))
    spread[spread < 1e-12 * max(1.0, np.abs(sums).max(initial=0.0))] = 0.0
    # In units of its spread a difference varies as any other does, and equal differences count once in the largest.
    units = np.where(spread > 0, sums / np.where(spread > 0, spread, 1.0), 0.0)
    found = np.abs(units.sum(axis=0)) * (1 - 1e-9)  # so that a sum in another order is as large as itself
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
    else:  # so few flips have no such quantile: Bonferroni's bound is wider
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
    """Yield flips of the signs of so many clusters, shape (flips, clusters); the first one flips nothing."""
    if clusters <= ENUMERATED_CLUSTERS:
        # The first cluster keeps its sign: flipping all signs leaves the distance from 0 as it is.
        yield np.array([(1.0, *rest)[:clusters] for rest in product((1.0, -1.0), repeat=max(clusters - 1, 0))])
        return
    rng = np.random.default_rng(SEED)
    yield np.ones((1, clusters))
    for start in range(0, FLIPS, BLOCK):
        yield rng.choice([-1.0, 1.0], size=(min(BLOCK, FLIPS - start), clusters))


def _sums(values: Sequence[Array] | Array, clusters: Sequence[str]) -> Array:
    """Return the sum of the defined values of each system in each cluster, shape (clusters, systems).

    Clusters in which no value is defined, and clips of unknown clusters, are left out.
    """
    columns = np.column_stack(list(values))
    used = ~np.isnan(columns).all(axis=1) & (np.asarray(clusters) != UNKNOWN)
    names, index = np.unique(np.asarray(clusters)[used], return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, index, np.nan_to_num(columns[used]))
    return sums

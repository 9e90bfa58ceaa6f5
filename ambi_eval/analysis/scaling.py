"""What more answers buy: a score against the pool size N, what mere sampling would have bought, and where it ends."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ambi_eval.analysis import estimate
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.metrics import METRICS
from ambi_eval.votes import shares

Array = NDArray[np.float64]
Points = Mapping[int, Estimate]

# Random pools of each size; the mean over clips is taken of them as well, so that many clips need fewer.
DRAWS = 32
MOST_POOLS = 60_000


@dataclass(frozen=True)
class Curve:
    """A score against the pool size N.

    Attributes:
        people: What the histogram of N draws from the shares of a clip's own raters would score, by N.
        prior: What the histogram of N draws from the mean of all clips' shares would score, by N.
        pipelines: What pools of N answers score, by pipeline and N.
        extrapolated: By pipeline, what its score tends to as N grows; pipelines that are no mean have none.
    """

    people: Points
    prior: Points
    pipelines: Mapping[str, Points]
    extrapolated: Mapping[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        """Return the curve as JSON takes it: an end of an interval that is not defined is null."""
        return {
            "people": _to_json(self.people),
            "prior": _to_json(self.prior),
            "pipelines": {name: _to_json(points) for name, points in self.pipelines.items()},
            "extrapolated": _to_json(self.extrapolated),
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Curve:
        """Return the curve that `to_json` wrote."""

        def points(of: Mapping[str, Any]) -> Points:
            return {int(size): _estimate(values) for size, values in of.items()}

        return cls(
            people=points(given["people"]),
            prior=points(given["prior"]),
            pipelines={name: points(of) for name, of in given["pipelines"].items()},
            extrapolated={name: _estimate(values) for name, values in given["extrapolated"].items()},
        )


def _to_json(estimates: Mapping[Any, Estimate]) -> dict[str, dict[str, float | None]]:
    return {
        str(key): {name: None if math.isnan(number) else number for name, number in asdict(estimate).items()}
        for key, estimate in estimates.items()
    }


def _estimate(values: Mapping[str, float | None]) -> Estimate:
    return Estimate(**{name: math.nan if number is None else number for name, number in values.items()})


def scaling_curve(
    scores: Mapping[str, Mapping[int, Array]],
    metric: str,
    votes: Array,
    clusters: Sequence[str],
    *,
    means: Collection[str],
) -> Curve:
    """Return the curve of one metric.

    Args:
        scores: By pipeline and pool size N, the score of each clip, shape (clips,).
        metric: `jsd_bits` or `bc`.
        votes: Votes, shape (clips, labels).
        clusters: Whom each clip depends on.
        means: The pipelines that tend to a limit smoothly: means of answers that are drawn independently.
    """
    bounds = METRICS[metric].bounds(votes.shape[1])
    sizes = sorted({size for of_pipeline in scores.values() for size in of_pipeline})
    return Curve(
        people=sampler_curve(shares(votes), votes, metric, sizes, clusters),
        prior=sampler_curve(shares(votes).mean(axis=0), votes, metric, sizes, clusters),
        pipelines={
            name: {size: estimate.of_mean(of_pipeline[size], clusters, bounds) for size in sorted(of_pipeline)}
            for name, of_pipeline in scores.items()
        },
        extrapolated={name: extrapolate(scores[name], clusters, bounds) for name in means},
    )


def sampler_curve(
    p: ArrayLike, votes: Array, metric: str, sizes: Sequence[int], clusters: Sequence[str]
) -> dict[int, Estimate]:
    """Return what the histogram of N draws from a distribution would score.

    Whatever `p` is, the curve gets better with N, because the histogram gets finer. A model's curve shows more than
    that only where it differs in shape. Drawn from the raters' own shares it is a perfect model's curve, and ends near
    the best score there is; drawn from the prior, it is the curve of a model that does not listen.

    Args:
        p: Distribution to draw from, shape (labels,) or (clips, labels).
        votes: Votes, shape (clips, labels).
        metric: Name of a metric that single clips have.
        sizes: Pool sizes N.
        clusters: Whom each clip depends on.
    """
    p = np.broadcast_to(shares(p), votes.shape)
    draws = min(DRAWS, max(1, MOST_POOLS // len(votes)))
    points = {}
    for size in sizes:
        drawn = np.random.default_rng(estimate.SEED).multinomial(size, p, size=(draws, len(votes)))
        scores = np.asarray(METRICS[metric].per_clip(shares(drawn), votes))
        points[size] = estimate.of_mean(scores.mean(axis=0), clusters, METRICS[metric].bounds(votes.shape[1]))
    return points


def extrapolate(scores: Mapping[int, Array], clusters: Sequence[str], bounds: tuple[float, float]) -> Estimate:
    """Return what a score tends to as N grows: the straight line in 1/N through the whole pool and its half.

    A smooth function of a mean of N independent answers has the expectation f + a/N + O(1/N^2), so that
    (N f(N) - n f(n)) / (N - n) is free of the first-order term (Quenouille 1956, Notes on bias in estimation). It is no
    more than that: of `jsd_bits` and `bc`, which are not smooth where a label has next to no share, some bias remains.

    Args:
        scores: By pool size, the score of each clip, shape (clips,).
        clusters: Whom each clip depends on.
        bounds: The range of the metric. What the straight line reaches beyond it is cut off.

    Returns:
        The estimate; undefined if no size is half of the largest or less.
    """
    most = max(scores)
    half = max((size for size in scores if 2 * size <= most), default=None)
    if half is None:
        return estimate.UNDEFINED
    beyond = estimate.of_mean((most * scores[most] - half * scores[half]) / (most - half), clusters)
    return Estimate(*np.clip([beyond.value, beyond.low, beyond.high], *bounds).tolist())

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
from ambi_eval.corpora.selection import Selection
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
        people: A perfect model's curve, by N: what the histogram of N draws from the shares of a clip's own raters
            would score against new panels of such raters.
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
    scores: Mapping[str, Mapping[int, Array]], metric: str, selection: Selection, *, means: Collection[str]
) -> Curve:
    """Return the curve of one metric.

    Args:
        scores: By pipeline and pool size N, the score of each clip, shape (clips,).
        metric: `jsd_bits` or `bc`.
        selection: The clips.
        means: The pipelines that tend to a limit smoothly: means of answers that are drawn independently.
    """
    human, clusters = shares(selection.votes), selection.clusters
    bounds = METRICS[metric].bounds(human.shape[1])
    sizes = sorted({size for of_pipeline in scores.values() for size in of_pipeline})
    return Curve(
        people=sampler_curve(human, selection, metric, sizes, new_panels=True),
        prior=sampler_curve(human.mean(axis=0), selection, metric, sizes),
        pipelines={
            name: {size: estimate.of_mean(of_pipeline[size], clusters, bounds) for size in sorted(of_pipeline)}
            for name, of_pipeline in scores.items()
        },
        extrapolated={name: extrapolate(scores[name], clusters, bounds) for name in means},
    )


def sampler_curve(
    p: ArrayLike, selection: Selection, metric: str, sizes: Sequence[int], *, new_panels: bool = False
) -> dict[int, Estimate]:
    """Return what the histogram of N draws from a distribution would score.

    Whatever `p` is, the curve gets better with N, because the histogram gets finer. A model's curve shows more than
    that only where it differs in shape. Drawn from the raters' own shares and judged by new panels, it is the curve of
    a perfect model, and tends to the sampling floor (`perfect_model`). Drawn from the prior, it is the curve of a model
    that does not listen.

    Args:
        p: Distribution to draw from, shape (labels,) or (clips, labels).
        selection: The clips.
        metric: Name of a metric that single clips have.
        sizes: Pool sizes N.
        new_panels: Whether panels of the same size, drawn from each clip's own raters, judge in place of the votes, so
            that the votes that were drawn from do not judge. Clips whose raters are not known are then left out.
    """
    votes = selection.votes
    p = np.broadcast_to(shares(p), votes.shape)
    draws = min(DRAWS, max(1, MOST_POOLS // len(votes)))
    per_clip, bounds = METRICS[metric].per_clip, METRICS[metric].bounds(votes.shape[1])
    points = {}
    for size in sizes:
        rng = np.random.default_rng(estimate.SEED)
        drawn = shares(rng.multinomial(size, p, size=(draws, len(votes))))
        judges = _new_panels(selection, draws, rng) if new_panels else np.broadcast_to(votes, drawn.shape)
        known = ~np.isnan(judges[0]).any(axis=1)
        scores = np.full(len(votes), np.nan)
        scores[known] = np.mean(np.asarray(per_clip(drawn[:, known], judges[:, known])), axis=0)
        points[size] = estimate.of_mean(scores, selection.clusters, bounds)
    return points


def _new_panels(selection: Selection, draws: int, rng: np.random.Generator) -> Array:
    """Return the votes of new panels drawn from each clip's raters, shape (draws, clips, labels); NaN where unknown."""
    judges = np.full((draws, *selection.votes.shape), np.nan)
    for clip, panel in enumerate(selection.panels):
        if panel is not None:
            judges[:, clip] = panel.votes(rng.multinomial(panel.size, shares(panel.raters), size=draws))
    return judges


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

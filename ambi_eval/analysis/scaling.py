"""The value of more answers: a score by pool size N, the same score of pure sampling, and the limit for large N."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ambi_eval.analysis import estimate
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.references.agreement import prior_worth
from ambi_eval.corpora.selection import Selection
from ambi_eval.metrics import METRICS
from ambi_eval.votes import Array, shares

Points = Mapping[int, Estimate]

# Random pools of each size per clip. A mean over many clips needs fewer of them: MOST_POOLS in all.
DRAWS = 32
MOST_POOLS = 60_000


@dataclass(frozen=True)
class Curve:
    """A score by pool size N.

    Attributes:
        people: The score of a perfect model by N: the histogram of N draws from the shares of a clip's own raters,
            scored against new panels of such raters.
        prior: The score by N of the histogram of N draws from the mean of all clips' shares.
        pipelines: The score of pools of N answers, by pipeline and N.
        extrapolated: By pipeline, the limit of its score for large N; only for pipelines that average answers.
    """

    people: Points
    prior: Points
    pipelines: Mapping[str, Points]
    extrapolated: Mapping[str, Estimate]


def scaling_curve(
    scores: Mapping[str, Mapping[int, Array]], metric: str, selection: Selection, *, means: Collection[str]
) -> Curve:
    """Return the curve of one metric, `jsd_bits` or `bc`.

    `scores` are those of each clip, shape (clips,), by pipeline and pool size N. The pipelines `means` average
    independent answers, so that their scores can be extrapolated.
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
    """Return the scores of the histogram of N draws from a distribution, by N.

    For every `p`, shape (labels,) or (clips, labels), the score improves with N, because the histogram becomes finer.
    So only a model's curve of another shape shows an effect of inference. Draws from the raters' own shares, scored
    against new panels, give the curve of a perfect model, whose limit is the sampling floor (`perfect_model`). Draws
    from the prior give the curve of a model that does not listen.

    With `new_panels`, new panels of the same size, drawn from each clip's own raters, score instead of the votes. This
    is needed if `p` are the shares of the votes themselves. Clips with unknown raters are then left out.
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


def perfect_sampler(selection: Selection, metric: str, size: int) -> Array:
    """Return the expected score of each clip for `size` answers of a perfect model, shape (clips,).

    A perfect model answers as further raters of the clip would. Their distribution is unknown, so it is drawn from its
    posterior: a Dirichlet distribution of the clip's votes plus `prior_worth` votes of the prior. The clip's votes
    score it, as they score a model. Draws from the shares of the votes would be wrong: with panels of six raters, ten
    times the answers would gain .03 bits less for them than for a model that draws from the truth. The scores are NaN
    if no clip has two known raters.
    """
    votes = selection.votes
    worth = prior_worth(votes, selection.noise, selection.one_rater)
    if math.isnan(worth):
        return np.full(len(votes), np.nan)
    rng = np.random.default_rng(estimate.SEED)
    draws = min(DRAWS, max(1, MOST_POOLS // len(votes)))
    weights = rng.standard_gamma(votes + worth * shares(votes).mean(axis=0), size=(draws, *votes.shape))
    drawn = shares(rng.multinomial(size, shares(weights)))
    return np.asarray(METRICS[metric].per_clip(drawn, np.broadcast_to(votes, drawn.shape))).mean(axis=0)


def _new_panels(selection: Selection, draws: int, rng: np.random.Generator) -> Array:
    """Return the votes of new panels drawn from each clip's raters, shape (draws, clips, labels); NaN where unknown."""
    judges = np.full((draws, *selection.votes.shape), np.nan)
    for clip, panel in enumerate(selection.panels):
        if panel is not None:
            judges[:, clip] = panel.votes(rng.multinomial(panel.size, shares(panel.raters), size=draws))
    return judges


def extrapolate(scores: Mapping[int, Array], clusters: Sequence[str], bounds: tuple[float, float]) -> Estimate:
    """Return the limit of a score for large N, by a straight line in 1/N through the scores of the pool and of half.

    A smooth function of a mean of N independent answers has the expectation f + a/N + O(1/N^2). So for the pool size N
    and its half n, (N f(N) - n f(n)) / (N - n) has no first-order term. Some bias remains for `jsd_bits` and `bc`,
    which are not smooth where the share of a label is near 0.

    `scores` are those of each clip, shape (clips,), by pool size. The result is clipped to the bounds, and undefined if
    no pool size is at most half of the largest.

    Source: Quenouille (1956), Notes on bias in estimation.
    """
    most = max(scores)
    half = max((size for size in scores if 2 * size <= most), default=None)
    if half is None:
        return estimate.UNDEFINED
    beyond = estimate.of_mean((most * scores[most] - half * scores[half]) / (most - half), clusters)
    return Estimate(*np.clip([beyond.value, beyond.low, beyond.high], *bounds).tolist())

"""What more inference buys: which systems are best at their cost, and what ten times the answers gain over sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ambi_eval.analysis import estimate
from ambi_eval.analysis.estimate import Estimate

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """Where a system stands among those that cost as much or less.

    Attributes:
        cost: What it costs a clip.
        on_frontier: Whether no other system of the same cost or less has less error.
        rival: The system of the same cost or less with the least error, other than itself; empty for the cheapest.
        less_than_rival: Its error less that of the rival, on the same clips; below 0 is better. Undefined without one.
    """

    cost: float
    on_frontier: bool
    rival: str
    less_than_rival: Estimate


def frontier(errors: Mapping[str, Array], costs: Mapping[str, float], clusters: Sequence[str]) -> dict[str, Place]:
    """Return the place of each system, the cheapest first: the Pareto frontier of error and cost.

    Args:
        errors: By system, the error of each clip, shape (clips,), lower is better.
        costs: By system, what it costs a clip; systems of unknown cost (NaN) have no place.
        clusters: Whom each clip depends on.
    """
    known = sorted((name for name in errors if not math.isnan(costs[name])), key=lambda name: costs[name])
    means = {name: float(np.mean(errors[name])) for name in known}
    places = {}
    for name in known:
        rivals = [other for other in known if other != name and costs[other] <= costs[name]]
        rival = min(rivals, key=lambda other: means[other], default="")
        gap = estimate.of_mean(errors[name] - errors[rival], clusters) if rival else estimate.UNDEFINED
        places[name] = Place(costs[name], not rival or means[name] < means[rival], rival, gap)
    return places


@dataclass(frozen=True)
class TenTimes:
    """What ten times as many sampled answers buy.

    Attributes:
        few: The smaller number of answers; the larger is ten times that.
        gain: How much less error the larger pool has, on the same clips.
        of_sampling: The same for a perfect model's answers, drawn from the votes of the clip's own raters: what the
            finer histogram alone brings. NaN where the prediction is no histogram of labels.
        beyond_sampling: The gain less that of sampling, undefined where that is. The interval is that of the model's
            gain on these clips.
    """

    few: int
    gain: Estimate
    of_sampling: float
    beyond_sampling: Estimate


def ten_times(
    scores: Mapping[int, Array], clusters: Sequence[str], people: Mapping[int, Estimate] | None = None
) -> TenTimes | None:
    """Return what ten times the answers buy at the largest pool that has ten times another one; None if none has.

    Args:
        scores: By pool size, the error of each clip.
        clusters: Whom each clip depends on.
        people: By pool size, the error of draws from the raters' own shares (`scaling.Curve.people`), for predictions
            that are histograms of labels.
    """
    pairs = [few for few in scores if 10 * few in scores]
    if not pairs:
        return None
    few = max(pairs)
    gain = estimate.of_mean(scores[few] - scores[10 * few], clusters)
    sampling = people[few].value - people[10 * few].value if people else math.nan
    beyond = Estimate(*(end - sampling for end in (gain.value, gain.low, gain.high)))
    return TenTimes(few, gain, sampling, beyond)

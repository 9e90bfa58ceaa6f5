"""The value of more inference: the Pareto frontier of error and cost, and the gain from ten times as many answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ambi_eval.analysis import estimate
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.votes import Array


@dataclass(frozen=True)
class Place:
    """How a system compares with those of the same or lower cost.

    Attributes:
        on_frontier: Whether its error is smaller than that of every other system of the same or lower cost.
        rival: The best other system of the same or lower cost; empty for the cheapest system.
        minus_rival: Its error minus that of the rival, on the same clips; below 0 is better. Undefined without a
            rival.
    """

    cost: float
    on_frontier: bool
    rival: str
    minus_rival: Estimate


def frontier(errors: Mapping[str, Array], costs: Mapping[str, float], clusters: Sequence[str]) -> dict[str, Place]:
    """Return the place of each system, the cheapest first: the Pareto frontier of error and cost.

    `errors` are those of each clip, shape (clips,), lower is better. Systems whose cost per clip is unknown (NaN) are
    left out.
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
    """The gain from ten times as many sampled answers.

    Attributes:
        few: The smaller number of answers; the larger is ten times that.
        gain: The error of the smaller pool minus that of the larger one, on the same clips.
        of_sampling: The same gain for a perfect model, which answers as further raters would: the effect of a finer
            histogram alone. Undefined if the prediction is no histogram of labels.
        beyond_sampling: `gain` minus `of_sampling`, the mean of the differences by clip; undefined if `of_sampling` is.
            Its interval includes the chance of sampling, because the answers of each clip are drawn independently.
    """

    few: int
    gain: Estimate
    of_sampling: Estimate
    beyond_sampling: Estimate


def ten_times(
    scores: Mapping[int, Array], clusters: Sequence[str], people: Callable[[int], Array] | None = None
) -> TenTimes | None:
    """Return the gain at the largest pool that is ten times another pool; None if there is none.

    `scores` are the errors of the clips by pool size. `people` is a function from a number of answers of a perfect
    model to the error of each clip (`scaling.perfect_sampler`); None if the predictions are no histograms of labels.
    """
    pairs = [few for few in scores if 10 * few in scores]
    if not pairs:
        return None
    few = max(pairs)
    gain = scores[few] - scores[10 * few]
    sampling = people(few) - people(10 * few) if people else np.full(len(gain), np.nan)
    return TenTimes(few, *(estimate.of_mean(each, clusters) for each in (gain, sampling, gain - sampling)))

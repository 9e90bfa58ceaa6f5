"""Estimates: scores with 95% intervals, for clips that depend on each other because they share a speaker."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit, stdtrit

from ambi_eval.metrics.clustered import (
    cluster_numbers,
    clustered_standard_error,
    influence_on_mean,
    jackknife,
    mean_of_defined,
)
from ambi_eval.votes import Array

RESAMPLES = 100
SEED = 0
# If the margin is more than this many times the distance from the score to the nearer end of its range, the scale of
# log(x / (1 - x)) is not used: the interval would be far too wide, up to the whole range.
FARTHEST = 4
UNBOUNDED = (-math.inf, math.inf)
T = TypeVar("T")


@dataclass(frozen=True)
class Estimate:
    """A score and its 95% interval.

    NaN means undefined; both ends are NaN for fewer than two clusters. An end may be infinite: `Estimate(40, 10.7,
    inf)` is a value of 40 whose interval has no upper end.
    """

    value: float
    low: float
    high: float


UNDEFINED = Estimate(float("nan"), float("nan"), float("nan"))


def as_json(value: Any) -> Any:
    """Return dataclasses, mappings and lists, nested to any depth, as JSON values; NaN and infinities become null.

    >>> as_json({5: [Estimate(0.5, 0.25, float("inf"))]})
    {'5': [{'value': 0.5, 'low': 0.25, 'high': None}]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def from_json(kind: type[T], content: Any) -> T:
    """Return the dataclass that `as_json` wrote; the value or end of an `Estimate` that is null becomes NaN.

    Raises:
        ValueError: If the content does not fit the dataclass.

    >>> from_json(Estimate, {"value": 0.5, "low": None, "high": None})
    Estimate(value=0.5, low=nan, high=nan)
    """
    from pydantic import TypeAdapter

    found: T = TypeAdapter(kind).validate_python(_with_nan(content))
    return found


def _with_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_nan(each) for each in value]
    if not isinstance(value, dict):
        return value
    is_estimate = value.keys() == {"value", "low", "high"}
    return {name: math.nan if is_estimate and each is None else _with_nan(each) for name, each in value.items()}


def interval(value: float, standard_error: float, clusters: int, bounds: tuple[float, float] = UNBOUNDED) -> Estimate:
    """Return the estimate with a 95% interval that stays inside the range of the score.

    The interval is value -+ t standard errors, where t is the 97.5 % quantile of Student's t with G - 1 degrees of
    freedom for G clusters. For a score with finite bounds it is computed on the scale of log(x / (1 - x)), where x is
    the score rescaled to 0..1, and transformed back. If the margin is more than four times the distance to an end of
    the range, it is value -+ margin, cut off at that end. It is wide enough for few clusters; a percentile bootstrap is
    not (its coverage is 84 % for 5 clusters).
    """
    margin = float(stdtrit(clusters - 1, 0.975)) * standard_error if clusters > 1 else float("nan")
    low, high = bounds
    if not math.isfinite(high - low) or math.isnan(margin):
        return Estimate(value, value - margin, value + margin)
    place = (value - low) / (high - low)
    nearer = min(place, 1 - place)
    if nearer <= 0 or margin > FARTHEST * nearer * (high - low):
        return Estimate(value, max(value - margin, low), min(value + margin, high))
    ends = expit(logit(place) + np.array([-1, 1]) * margin / (high - low) / (place * (1 - place)))
    return Estimate(value, *(low + (high - low) * ends).tolist())


def from_influence(
    value: float, influence: ArrayLike, clusters: Sequence[Hashable], bounds: tuple[float, float] = UNBOUNDED
) -> Estimate:
    """Return the estimate of a score from each clip's influence on it (`clustered_standard_error`)."""
    return interval(value, *clustered_standard_error(influence, clusters), bounds)


def of_mean(scores: Array, clusters: Sequence[Hashable], bounds: tuple[float, float] = UNBOUNDED) -> Estimate:
    """Return the estimate of a mean over clips. Clips with an undefined score (NaN) are left out."""
    value = mean_of_defined(scores)
    return UNDEFINED if np.isnan(value) else from_influence(value, influence_on_mean(scores), clusters, bounds)


def of_ratio(numerator: Array, denominator: Array, clusters: Sequence[Hashable]) -> Estimate:
    """Return the estimate of mean(numerator) / mean(denominator), over clips where both are defined.

    The interval consists of every ratio r for which mean(numerator - r denominator) is within t standard errors of 0.
    Its ends are NaN if the mean denominator is itself within t standard errors of 0, because then any ratio is
    possible. The ratio is NaN if the mean denominator is not above 0.

    Source: Fieller (1954), Some problems in interval estimation.
    """
    defined = ~np.isnan(numerator) & ~np.isnan(denominator)
    if not defined.any() or denominator[defined].mean() < 1e-9:
        return UNDEFINED
    both = np.column_stack([numerator, denominator])
    a, b = both[defined].mean(axis=0)
    moves = jackknife(both - [a, b], clusters)
    groups = len(moves)
    if groups < 2:
        return Estimate(float(a / b), float("nan"), float("nan"))
    t = float(stdtrit(groups - 1, 0.975))
    (aa, ab), (_, bb) = t**2 * (groups - 1) / groups * moves.T @ moves
    if b**2 <= bb:
        return Estimate(float(a / b), float("nan"), float("nan"))
    middle, half = (a * b - ab), math.sqrt(max((a * b - ab) ** 2 - (b**2 - bb) * (a**2 - aa), 0.0))
    return Estimate(float(a / b), float((middle - half) / (b**2 - bb)), float((middle + half) / (b**2 - bb)))


def reciprocal(ratio: Estimate) -> Estimate:
    """Return 1 / ratio for a ratio whose true value is not negative: the reciprocal of 0 or less is infinity.

    >>> reciprocal(Estimate(0.025, -0.04, 0.08))
    Estimate(value=40.0, low=12.5, high=inf)
    """
    value, low, high = (
        end if math.isnan(end) else 1 / end if end > 1e-9 else math.inf for end in (ratio.value, ratio.high, ratio.low)
    )
    return Estimate(value, low, high)


def bootstrap(
    value: float,
    statistic: Callable[[Array], Array],
    clusters: Sequence[Hashable],
    bounds: tuple[float, float] = UNBOUNDED,
) -> Estimate:
    """Return the estimate of a score whose influence has no closed form, by a seeded bootstrap of whole clusters.

    The standard error is the standard deviation over resamples, times sqrt(G / (G - 1)) for G clusters. Resamples leave
    out clips of unknown clusters. `statistic` is a function from the number of times that each clip is in each
    resample, shape (resamples, clips), to the scores of the resamples, shape (resamples,).
    """
    of_clip = cluster_numbers(clusters)
    groups = int(of_clip.max(initial=-1)) + 1
    if groups < 2:
        return interval(value, float("nan"), groups)
    rng = np.random.default_rng(SEED)
    drawn = rng.integers(groups, size=(RESAMPLES, groups)) + (groups + 1) * np.arange(RESAMPLES)[:, None]
    # One column for each cluster and a last one, always 0, for unknown clusters.
    counts = np.bincount(drawn.ravel(), minlength=RESAMPLES * (groups + 1)).reshape(RESAMPLES, groups + 1)
    scores = statistic(counts[:, of_clip].astype(float))
    return interval(value, float(np.std(scores, ddof=1) * np.sqrt(groups / (groups - 1))), groups, bounds)

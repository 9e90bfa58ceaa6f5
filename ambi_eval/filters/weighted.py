"""`ambi_best` and `ambi_weighted`: answers that the model or a verifier finds better count more, up to all of it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from lm_eval.api.registry import register_filter
from numpy.typing import NDArray

from ambi_eval.errors import AmbiError
from ambi_eval.filters.pool import Array, Pool, PoolFilter, subsets, weighted_mean
from ambi_eval.metrics.distribution import jensen_shannon_divergence_bits

MERITS = ("logprob", "mean_logprob", "rating")
# Above this share of the pool's size, the effective pool size says that the weights are the unweighted mean's.
NEAR_UNIFORM = 0.98


class _Weighting(PoolFilter):
    """The mean of the answers under weights that follow from each answer's merit."""

    def __init__(self, by: str | None = None, **kwargs: Any) -> None:
        """Keep which merit counts.

        Args:
            by: `logprob` (summed log-likelihood), `mean_logprob` (the same per token) or `rating` (a verifier's).
            kwargs: As for every pool filter.

        Raises:
            AmbiError: If the merit is not known, or not given.
        """
        super().__init__(**kwargs)
        if by not in MERITS:
            raise AmbiError(f"by is '{by}'; it must be one of {', '.join(MERITS)}")
        self.by = by

    @abstractmethod
    def weigh(self, merits: Array) -> Array:
        """Return weights that are not negative, shape (..., S, N).

        Args:
            merits: Shape (..., S, N); -inf for an answer that must weigh nothing. At least one of each row is finite.
        """

    def reduce(self, pool: Pool, members: NDArray[np.bool_]) -> Array:
        """Return the weighted mean of each subset, shape (..., S, C)."""
        return weighted_mean(pool.shares, self.weights(pool, members))

    def weights(self, pool: Pool, members: NDArray[np.bool_]) -> Array:
        """Return the weights of each subset's answers, shape (..., S, N).

        An answer that failed to parse or has no merit weighs nothing. A subset in which no answer has a merit is
        weighted uniformly.
        """
        merits = self.merits(pool)
        usable = members & pool.valid[..., None, :]
        rated = usable & np.isfinite(merits)[..., None, :]
        unrated = ~rated.any(axis=-1, keepdims=True)
        weights = self.weigh(np.where(rated, merits[..., None, :], np.where(unrated, 0.0, -np.inf)))
        return np.where(unrated, usable, weights)

    def merits(self, pool: Pool) -> Array:
        """Return the merit of each answer, shape (..., N); NaN where the model or the verifier gave none."""
        if self.by == "rating":
            return pool.ratings
        return pool.logprobs / pool.lengths if self.by == "mean_logprob" else pool.logprobs

    def diagnose(self, pool: Pool, distribution: Array) -> dict[str, float]:
        """Return what tells whether the weights mattered; nothing for an invalid clip.

        `ess`: the effective pool size, 1 / sum of squared weights. `near_uniform`: whether it is over 0.98 of the pool
        (if that holds for over half of the clips, the strategy is indistinguishable from the unweighted mean).
        `distinct`: the number of different distributions in the pool. `jsd_to_mean`, `jsd_to_best`: the divergence in
        bits from the unweighted mean and from the answer of most merit. `unrated`: the number of answers that parsed
        but have no merit (a verifier that failed, a server that gives no log-probabilities).
        """
        everyone = subsets(pool.size, pool.size)
        weights = self.weights(pool, everyone)[0]
        if not weights.any():
            return {}
        ess = float(weights.sum() ** 2 / np.square(weights).sum())
        mean, best = weighted_mean(pool.shares, everyone)[0], pool.shares[weights.argmax()]
        return {
            "ess": ess,
            "near_uniform": float(ess > NEAR_UNIFORM * pool.size),
            "distinct": float(len(np.unique(pool.shares[pool.valid].round(6), axis=0))),
            "jsd_to_mean": float(jensen_shannon_divergence_bits(distribution, mean)),
            "jsd_to_best": float(jensen_shannon_divergence_bits(distribution, best)),
            "unrated": float((pool.valid & ~np.isfinite(self.merits(pool))).sum()),
        }


@register_filter("ambi_best")
class Best(_Weighting):
    """The answer of most merit; answers that tie for it count the same."""

    def weigh(self, merits: Array) -> Array:
        """Return 1 for the answers of most merit, 0 for the others."""
        return (merits == merits.max(axis=-1, keepdims=True)).astype(float)


@register_filter("ambi_weighted")
class Weighted(_Weighting):
    """The mean weighted by softmax(merit / weighting_temperature), or by the merit itself."""

    def __init__(self, weighting: str = "softmax", weighting_temperature: float = 1.0, **kwargs: Any) -> None:
        """Keep how merits become weights.

        Args:
            weighting: `softmax`, or `linear` for ratings, which are above 0 (log-likelihoods are below).
            weighting_temperature: Of the softmax: towards 0 the best answer alone counts, towards infinity all count
                the same.
            kwargs: `by`, and as for every pool filter.

        Raises:
            AmbiError: If the weighting is not known or not possible.
        """
        super().__init__(**kwargs)
        if weighting not in ("softmax", "linear") or (weighting == "linear" and self.by != "rating"):
            raise AmbiError(f"weighting is '{weighting}'; it must be softmax, or linear with `by: rating`")
        if not isinstance(weighting_temperature, int | float) or not weighting_temperature > 0:
            raise AmbiError(f"weighting_temperature is {weighting_temperature}; it must be a number above 0")
        self.linear, self.temperature = weighting == "linear", weighting_temperature

    def weigh(self, merits: Array) -> Array:
        """Return the weights, shape (..., S, N); the softmax is taken relative to the best, so it cannot overflow."""
        if self.linear:
            return np.maximum(merits, 0.0)
        return np.exp((merits - merits.max(axis=-1, keepdims=True)) / self.temperature)

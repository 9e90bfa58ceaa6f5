"""`ambi_vote`: majority vote; every answer votes for its top label, ties are split, and the winner takes all."""

from __future__ import annotations

import numpy as np
from lm_eval.api.registry import register_filter
from numpy.typing import NDArray

from ambi_eval.filters.pool import Array, Pool, PoolFilter, weighted_mean
from ambi_eval.votes import majority


@register_filter("ambi_vote")
class Vote(PoolFilter):
    """The label with the most votes gets everything; labels that tie for it share it equally."""

    def reduce(self, pool: Pool, members: NDArray[np.bool_]) -> Array:
        """Return the majority label of each subset as a distribution, shape (..., S, C)."""
        votes = np.where(pool.valid[..., None], majority(pool.shares), np.nan)
        tally = weighted_mean(votes, members)
        return np.where(np.isnan(tally), np.nan, majority(tally))

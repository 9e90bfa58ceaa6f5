"""`ambi_mean`: the mean of the answers' distributions; with one label an answer, the histogram of the votes."""

from __future__ import annotations

import numpy as np
from lm_eval.api.registry import register_filter
from numpy.typing import NDArray

from ambi_eval.filters.pool import Array, Pool, PoolFilter, weighted_mean


@register_filter("ambi_mean")
class Mean(PoolFilter):
    """Every answer that parsed counts the same; the mean of one answer is that answer."""

    def reduce(self, pool: Pool, members: NDArray[np.bool_]) -> Array:
        """Return the mean over the valid answers of each subset, shape (..., S, C)."""
        return weighted_mean(pool.shares, members)

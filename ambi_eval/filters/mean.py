"""`ambi_mean`: the mean of the answers' distributions."""

from __future__ import annotations

from ambi_eval.answers import reducers
from ambi_eval.filters.base import PoolFilter


class Mean(PoolFilter):
    """Every answer that could be read counts the same; with one label per answer, this is the histogram of votes."""

    reducer = reducers.Mean()

"""`ambi_vote`: majority vote."""

from __future__ import annotations

from ambi_eval.answers import reducers
from ambi_eval.filters.base import PoolFilter


class Vote(PoolFilter):
    """Every answer votes for its top label; the label with the most votes gets everything, tied labels share it."""

    reducer = reducers.Vote()

"""`ambi_vote`: majority vote."""

from __future__ import annotations

from lm_eval.api.registry import register_filter

from ambi_eval.answers import reducers
from ambi_eval.filters.base import PoolFilter


@register_filter("ambi_vote")
class Vote(PoolFilter):
    """Every answer votes for its top label; the label with the most votes gets everything, tied labels share it."""

    reducer = reducers.Vote()

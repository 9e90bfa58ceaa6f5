"""The filters `ambi_best` and `ambi_weighted`: better answers, as the model or a verifier rates them, count more."""

from __future__ import annotations

from typing import Any

from ambi_eval.answers import reducers
from ambi_eval.filters.base import PoolFilter


class Best(PoolFilter):
    """Keeps the best answer of a pool; if several are equally good, it takes their mean."""

    def __init__(self, by: str | None = None, **kwargs: Any) -> None:
        """Create the filter: `by` names what makes an answer good (`logprob`, `mean_logprob` or `rating`)."""
        super().__init__(**kwargs)
        self.reducer = reducers.Best(by)


class Weighted(PoolFilter):
    """Takes the mean of the answers of a pool, where better answers have larger weights."""

    def __init__(
        self, by: str | None = None, weighting: str = "softmax", weighting_temperature: float = 1.0, **kwargs: Any
    ) -> None:
        """Create the filter: `by` as for `Best`; the other two turn it into weights (see `reducers.Weighted`)."""
        super().__init__(**kwargs)
        self.reducer = reducers.Weighted(by, weighting, weighting_temperature)

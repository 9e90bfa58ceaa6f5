"""`ambi_best` and `ambi_weighted`: answers that the model or a verifier finds better count more, up to all of it."""

from __future__ import annotations

from typing import Any

from ambi_eval.answers import reducers
from ambi_eval.filters.base import PoolFilter


class Best(PoolFilter):
    """The answer of most merit; answers that tie for it count the same."""

    def __init__(self, by: str | None = None, **kwargs: Any) -> None:
        """Take the merit (`logprob`, `mean_logprob` or `rating`), and what every pool filter takes."""
        super().__init__(**kwargs)
        self.reducer = reducers.Best(by)


class Weighted(PoolFilter):
    """The mean of the answers, weighted by their merit."""

    def __init__(
        self,
        by: str | None = None,
        weighting: str = "softmax",
        weighting_temperature: float = 1.0,
        **kwargs: Any,
    ) -> None:
        """Set up: `by` is the merit of an answer, the other two say how merits become weights (`reducers.Weighted`)."""
        super().__init__(**kwargs)
        self.reducer = reducers.Weighted(by, weighting, weighting_temperature)

"""`ambi_exact`: the likelihood of each label as the whole answer, normalized over the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ambi_eval.answers import reducers
from ambi_eval.answers.reducers import Prediction
from ambi_eval.filters.base import PoolFilter


class Exact(PoolFilter):
    """Answers are not texts here but (log-likelihood, is it the greedy answer) of each label, in the task's order."""

    reducer: reducers.Exact

    def __init__(self, calibration: str = "none", length_normalisation: str = "none", **kwargs: Any) -> None:
        """Take the options of `exact`, and what every pool filter takes."""
        super().__init__(**kwargs)
        self.reducer = reducers.Exact(
            self.reader.labels,
            calibrated=calibration != "none",
            per_byte=length_normalisation == "bytes",
            asked=[self.label_words.get(label, label) for label in self.reader.labels],
        )

    def apply(self, resps: Sequence[Sequence[Any]], docs: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Return one prediction per clip."""
        return [self.reducer.predict([logprob for logprob, _ in likelihoods]) for likelihoods in resps]

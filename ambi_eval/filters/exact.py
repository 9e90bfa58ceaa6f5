"""`ambi_exact`: the likelihood of each label as the whole answer, normalised over the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval.api.registry import register_filter

from ambi_eval.filters.mean import Mean
from ambi_eval.filters.pool import Pool, Prediction


@register_filter("ambi_exact")
class Exact(Mean):
    """Answers are not texts here but (log-likelihood, is it the greedy answer) of each label, in the task's order.

    The prediction is p(label) / sum of p over the labels. `label_mass` is that sum: the probability that a sampled
    answer is exactly one of the labels.
    """

    def apply(
        self, resps: Sequence[Sequence[tuple[float, bool]]], docs: Sequence[Mapping[str, Any]]
    ) -> list[Prediction]:
        """Return one prediction per clip."""
        return [self._from_likelihoods(np.array([logprob for logprob, _ in labels])) for labels in resps]

    def _from_likelihoods(self, logprobs: np.ndarray) -> Prediction:
        likelihoods = np.exp(logprobs - logprobs.max())
        shares = likelihoods / likelihoods.sum()
        mass = float(np.exp(logprobs).sum())
        return Prediction(self.labels, shares, Pool(shares[None]), self, {"label_mass": mass})

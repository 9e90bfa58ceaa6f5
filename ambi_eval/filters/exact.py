"""`ambi_exact`: the likelihood of each label as the whole answer, normalised over the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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

    def predict(self, answers: Sequence[Any]) -> Prediction:
        """Return the prediction of one clip."""
        logprobs = np.array([logprob for logprob, _ in answers])
        likelihoods = np.exp(logprobs - logprobs.max())
        unknown = np.full(1, np.nan)
        pool = Pool((likelihoods / likelihoods.sum())[None], unknown, unknown, unknown)
        return replace(self.prediction(pool, {}, 0), diagnostics={"label_mass": float(np.exp(logprobs).sum())})

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

    The prediction is p(label) / sum of p over the labels, the mean over the rotations of the labels in the prompt.
    `label_mass` is that sum: the probability that a sampled answer is exactly one of the labels.

    With `calibration: silence` each p is first divided by the p of the same label when the model hears silence
    (contextual calibration; Zhao et al. 2021, Calibrate before use). With `length_normalisation: bytes` log p is then
    divided by the label's length in bytes, as in the harness's `acc_bytes` (Gao 2021, Multiple Choice Normalization in
    LM Evaluation). Neither touches `label_mass`, and `sc` does not tend to a prediction made with either.
    """

    def __init__(self, calibration: str = "none", length_normalisation: str = "none", **kwargs: Any) -> None:
        """Keep whether likelihoods of a silent clip follow those of the clip, and what to divide by."""
        super().__init__(**kwargs)
        self.calibrated = calibration != "none"
        normalised = length_normalisation == "bytes"
        self.lengths = np.array([len(label.encode()) if normalised else 1 for label in self.labels])

    def apply(self, resps: Sequence[Sequence[Any]], docs: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Return one prediction per clip."""
        return [self.predict(likelihoods) for likelihoods in resps]

    def predict(self, answers: Sequence[tuple[float, bool]]) -> Prediction:
        """Return the prediction of one clip."""
        logprobs = np.array([logprob for logprob, _ in answers]).reshape(-1, len(self.labels))
        mass = np.exp(logprobs).sum(axis=1)
        if self.calibrated:
            clip, silence = np.split(logprobs, 2)
            logprobs, mass = clip - silence, mass[: len(clip)]
        logprobs = logprobs / self.lengths
        likelihoods = np.exp(logprobs - logprobs.max(axis=1, keepdims=True))
        shares = (likelihoods / likelihoods.sum(axis=1, keepdims=True)).mean(axis=0)
        unknown = np.full(1, np.nan)
        pool = Pool(shares[None], unknown, unknown, unknown)
        return Prediction(self.labels, shares, pool, self, {}, 0, {"label_mass": float(mass.mean())})

"""The table of all metrics, `METRICS`: description, best and worst score, and the function of each."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ambi_eval.metrics import calibration, classification, distribution
from ambi_eval.metrics.clustered import influence_on_mean, mean_of_defined
from ambi_eval.metrics.distribution import NLL_FLOOR
from ambi_eval.votes import Array


@dataclass(frozen=True)
class Metric(ABC):
    """A measure of how well predictions `p` fit `votes`, both of shape (clips, labels).

    `noise`, shape (clips,), is the sampling noise of each panel (`votes.Panel.noise`), which only `sq_debiased` uses;
    None means that each vote comes from one rater.

    A row of `p` that holds NaN is an invalid clip: the model gave no valid prediction. Such a clip is never left out.

    Attributes:
        name: The name in results and tables, with the unit if there is one.
        best: The score of a perfect prediction.
        worst_score: The worst score there is; with `worst_is_per_label` it is divided by the number of labels.
    """

    name: str
    best: float
    worst_score: float
    worst_is_per_label: bool = field(default=False, kw_only=True)

    @property
    def description(self) -> str:
        """One line that ends with the range."""
        return _DESCRIPTIONS[self.name]

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher score is a better one."""
        return self.best > self.worst_score

    def worst(self, n_labels: int) -> float:
        """Return the worst score for this number of labels, which an invalid clip gets."""
        return self.worst_score / (n_labels if self.worst_is_per_label else 1)

    def bounds(self, n_labels: int) -> tuple[float, float]:
        """Return the lowest and the highest score for this number of labels; infinite if there is none."""
        low, high = sorted((self.best, self.worst(n_labels)))
        return low, high

    @abstractmethod
    def per_clip(self, p: ArrayLike, votes: ArrayLike, noise: ArrayLike | None = None) -> Array | None:
        """Return the score of each clip, shape (clips,), or None if only a set of clips has a score."""

    @abstractmethod
    def value(self, p: ArrayLike, votes: ArrayLike, noise: ArrayLike | None = None) -> float:
        """Return the score of all clips; NaN if there is none."""

    @abstractmethod
    def influence(self, p: ArrayLike, votes: ArrayLike, noise: ArrayLike | None = None) -> Array | None:
        """Return each clip's influence on the value, shape (clips,), or None where there is no closed form.

        `clustered.clustered_standard_error` turns influences into an error bar.
        """


@dataclass(frozen=True)
class ClipMetric(Metric):
    """A metric that scores every clip. Its value is the mean over clips.

    Some votes make the score of a clip undefined. It is then NaN for every prediction, and the mean leaves the clip
    out, so all models are scored on the same clips.

    Attributes:
        of_clip: Function of p and votes, shape (..., labels), that returns scores, shape (...).
        needs_noise: Whether `of_clip` also takes the noise of the panels, shape (...).
    """

    of_clip: Callable[..., Array]
    needs_noise: bool = field(default=False, kw_only=True)

    def bounds(self, n_labels: int) -> tuple[float, float]:
        """Return the range of the score; an unbiased estimate (`sq_debiased`) has no bounds."""
        return (-math.inf, math.inf) if self.needs_noise else super().bounds(n_labels)

    def per_clip(self, p: ArrayLike, votes: ArrayLike, noise: ArrayLike | None = None) -> Array:
        """Return the score of each clip, shape (...) for inputs of shape (..., labels)."""
        p = np.asarray(p, dtype=float)
        invalid = np.isnan(p).any(axis=-1)
        given = np.where(invalid[..., None], 0.0, p)  # NaN in the scores can then come from the votes only
        scores = self.of_clip(given, votes, noise) if self.needs_noise else self.of_clip(given, votes)
        scores = np.clip(scores, *self.bounds(p.shape[-1]))  # rounding leaves a divergence of 1 + 1e-15
        return np.where(invalid & ~np.isnan(scores), self.worst(p.shape[-1]), scores)

    def value(self, p: ArrayLike, votes: ArrayLike, noise: ArrayLike | None = None) -> float:
        """Return the mean over the clips where the score is defined; NaN if there is none."""
        return mean_of_defined(self.per_clip(p, votes, noise))

    def influence(self, p: ArrayLike, votes: ArrayLike, noise: ArrayLike | None = None) -> Array:
        """Return each clip's score minus the mean; NaN where the score is undefined."""
        return influence_on_mean(self.per_clip(p, votes, noise))


@dataclass(frozen=True)
class SetMetric(Metric):
    """A metric that scores a set of clips, such as F1. A single clip has no score.

    Attributes:
        of_set: Function of p and votes, shape (clips, labels), that returns the score. Its docstring says how an
            invalid clip counts.
        influence_of_set: Function of p and votes that returns each clip's influence, shape (clips,). None: there is no
            closed form, and `of_set` also takes `weights`, see `resampled`.
    """

    of_set: Callable[..., Any]
    influence_of_set: Callable[[ArrayLike, ArrayLike], Array] | None = None

    def per_clip(self, p: ArrayLike, votes: ArrayLike, noise: ArrayLike | None = None) -> None:
        """Return None: a single clip has no score."""

    def value(self, p: ArrayLike, votes: ArrayLike, noise: ArrayLike | None = None) -> float:
        """Return the score of the set; NaN if it is empty or the score is undefined."""
        return self.of_set(p, votes) if len(np.asarray(p)) else float("nan")

    def resampled(self, p: ArrayLike, votes: ArrayLike, weights: ArrayLike) -> Array:
        """Return the score of each resample of the clips, shape (resamples,); for metrics without a closed form only.

        `weights` holds how often each clip is in each resample, shape (resamples, clips).
        """
        return np.asarray(self.of_set(p, votes, weights=weights))

    def influence(self, p: ArrayLike, votes: ArrayLike, noise: ArrayLike | None = None) -> Array | None:
        """Return each clip's influence on the value by the delta method, or None where there is no closed form."""
        return self.influence_of_set(p, votes) if self.influence_of_set else None


_DESCRIPTIONS = {
    "jsd_bits": "Jensen-Shannon divergence, in bits: 0 (equal) to 1 (no label shared)",
    "jsd_sqrt_nats": "Jensen-Shannon distance, the square root of the divergence in nats: 0 (equal) to 0.8326",
    "bc": "Bhattacharyya coefficient: 0 (no label shared) to 1 (equal)",
    "r_pearson": "Pearson's correlation across the labels of a clip: -1 to 1, 0 for a constant distribution",
    "r2_pearson": "Square of r_pearson, blind to its sign: 0 to 1, 1 / (labels - 1) by chance",
    "nll_bits": f"Negative log-likelihood per vote, in bits, shares below {NLL_FLOOR} counted as that: 0 to 13.29",
    "sq_debiased": "Squared error less what a finite panel adds to it: 0 (equal to the true shares, on average) to 2",
    "acc": "Accuracy of the top label against the majority label, ties by expectation: 0 to 1",
    "macro_f1": "F1 against the majority label, mean over labels: 0 to 1",
    "weighted_f1": "F1 against the majority label, mean over labels weighted by their frequency: 0 to 1",
    "uar": "Unweighted average recall of the majority label (balanced accuracy): 0 to 1",
    "ece_votes": "Expected calibration error of the top label against the share of raters who chose it: 0 to 1",
    "ece_majority": "Expected calibration error of the top label against the majority label, for papers only: 0 to 1",
    "brier_sum": "Squared error against the votes' shares, summed over labels: 0 to 2",
    "brier_mean": "Squared error against the votes' shares, mean over labels: 0 to 2 / labels",
    "rps": "Ranked probability score, for labels that stand in order: 0 (equal) to 1",
    "entropy_rho": "Spearman's correlation over clips between the entropies of prediction and votes: -1 to 1",
    "kl_bits": f"Kullback-Leibler divergence, in bits, shares below {NLL_FLOOR} counted as that: 0 to 13.29",
    "manhattan": "Manhattan distance, sum over labels of |p - q|: 0 (equal) to 2 (no label shared)",
    "tvd": "Total variation distance, half of manhattan: 0 (equal) to 1 (no label shared)",
    "cosine": "Cosine similarity of p and q: 0 (no label shared) to 1 (equal)",
    "r2_classes": "Variance across clips that is predicted (R2), mean over labels: at most 1, 0 for the prior",
    "macro_f1_multilabel": "F1 of the labels with a share above 1 / labels, mean over labels: 0 to 1",
    "ece_majority_5": "ece_majority in five bins instead of ten: 0 to 1",
}
# Name, best and worst score, function, and the function of the influence if there is a closed form.
_ROWS = (
    ClipMetric("jsd_bits", 0, 1, distribution.jensen_shannon_divergence_bits),
    ClipMetric("jsd_sqrt_nats", 0, math.sqrt(math.log(2)), distribution.jensen_shannon_distance_nats),
    ClipMetric("bc", 1, 0, distribution.bhattacharyya_coefficient),
    ClipMetric("r_pearson", 1, -1, distribution.pearson_r),
    ClipMetric("r2_pearson", 1, 0, distribution.pearson_r_squared),
    ClipMetric("nll_bits", 0, -math.log2(NLL_FLOOR), distribution.negative_log_likelihood_bits),
    ClipMetric("sq_debiased", 0, 2, distribution.squared_error_debiased, needs_noise=True),
    ClipMetric("acc", 1, 0, classification.expected_accuracy),
    SetMetric("macro_f1", 1, 0, classification.macro_f1, classification.macro_f1_influence),
    SetMetric("weighted_f1", 1, 0, classification.weighted_f1, classification.weighted_f1_influence),
    SetMetric(
        "uar", 1, 0, classification.unweighted_average_recall, classification.unweighted_average_recall_influence
    ),
    SetMetric("ece_votes", 0, 1, calibration.expected_calibration_error_votes),
    SetMetric("ece_majority", 0, 1, calibration.expected_calibration_error_majority),
    ClipMetric("brier_sum", 0, 2, distribution.brier_sum),
    ClipMetric("brier_mean", 0, 2, distribution.brier_mean, worst_is_per_label=True),
    ClipMetric("rps", 0, 1, distribution.ranked_probability_score),
    SetMetric("entropy_rho", 1, -1, calibration.entropy_correlation),
    ClipMetric("kl_bits", 0, -math.log2(NLL_FLOOR), distribution.kullback_leibler_bits),
    ClipMetric("manhattan", 0, 2, distribution.manhattan_distance),
    ClipMetric("tvd", 0, 1, distribution.total_variation_distance),
    ClipMetric("cosine", 1, 0, distribution.cosine_similarity),
    SetMetric("r2_classes", 1, -math.inf, distribution.r2_of_classes, distribution.r2_of_classes_influence),
    SetMetric(
        "macro_f1_multilabel", 1, 0, classification.macro_f1_multilabel, classification.macro_f1_multilabel_influence
    ),
    SetMetric("ece_majority_5", 0, 1, calibration.expected_calibration_error_majority_5),
)
# The metric by which systems are ranked.
HEADLINE = "jsd_bits"
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ROWS}

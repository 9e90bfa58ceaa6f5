"""The table of all metrics, `METRICS`: description, best and worst score, and the function of each."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ambi_eval.metrics import calibration, classification, distribution
from ambi_eval.metrics.clustered import influence_on_mean, mean_of_defined
from ambi_eval.metrics.distribution import NLL_FLOOR
from ambi_eval.votes import Array


@dataclass(frozen=True, kw_only=True)
class Metric(ABC):
    """A measure of how well predictions `p` fit `votes`, both of shape (clips, labels).

    `noise`, shape (clips,), is the sampling noise of each panel (`votes.Panel.noise`), which only `sq_debiased` uses;
    None means that each vote comes from one rater.

    A row of `p` that holds NaN is an invalid clip: the model gave no valid prediction. Such a clip is never left out.

    Attributes:
        name: The name in results and tables, with the unit if there is one.
        description: One line that ends with the range.
        best: The score of a perfect prediction.
        worst_score: The worst score there is.
        worst_is_per_label: Whether the worst score is `worst_score` divided by the number of labels.
    """

    name: str
    description: str
    best: float
    worst_score: float
    worst_is_per_label: bool = False

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


@dataclass(frozen=True, kw_only=True)
class ClipMetric(Metric):
    """A metric that scores every clip. Its value is the mean over clips.

    Some votes make the score of a clip undefined. It is then NaN for every prediction, and the mean leaves the clip
    out, so all models are scored on the same clips.

    Attributes:
        of_clip: Function of p and votes, shape (..., labels), that returns scores, shape (...).
        needs_noise: Whether `of_clip` also takes the noise of the panels, shape (...).
    """

    of_clip: Callable[..., Array]
    needs_noise: bool = False

    def bounds(self, n_labels: int) -> tuple[float, float]:
        """Return the range of the score; an unbiased estimate (`sq_debiased`) has no bounds."""
        return (-math.inf, math.inf) if self.needs_noise else super().bounds(n_labels)

    def per_clip(self, p: ArrayLike, votes: ArrayLike, noise: ArrayLike | None = None) -> Array:
        """Return the score of each clip, shape (...) for inputs of shape (..., labels)."""
        p = np.asarray(p, dtype=float)
        invalid = np.isnan(p).any(axis=-1)
        given = np.where(invalid[..., None], 0.0, p)  # NaN in the scores can then come from the votes only
        scores = self.of_clip(given, votes, noise) if self.needs_noise else self.of_clip(given, votes)
        return np.where(invalid & ~np.isnan(scores), self.worst(p.shape[-1]), scores)

    def value(self, p: ArrayLike, votes: ArrayLike, noise: ArrayLike | None = None) -> float:
        """Return the mean over the clips where the score is defined; NaN if there is none."""
        return mean_of_defined(self.per_clip(p, votes, noise))

    def influence(self, p: ArrayLike, votes: ArrayLike, noise: ArrayLike | None = None) -> Array:
        """Return each clip's score minus the mean; NaN where the score is undefined."""
        return influence_on_mean(self.per_clip(p, votes, noise))


@dataclass(frozen=True, kw_only=True)
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

        Args:
            p: Predicted distributions, shape (clips, labels).
            votes: Votes, shape (clips, labels).
            weights: How often each clip is in each resample, shape (resamples, clips).
        """
        return np.asarray(self.of_set(p, votes, weights=weights))

    def influence(self, p: ArrayLike, votes: ArrayLike, noise: ArrayLike | None = None) -> Array | None:
        """Return each clip's influence on the value by the delta method, or None where there is no closed form."""
        return self.influence_of_set(p, votes) if self.influence_of_set else None


_ROWS = (
    ClipMetric(
        name="jsd_bits",
        description="Jensen-Shannon divergence, in bits: 0 (equal) to 1 (no label shared)",
        best=0,
        worst_score=1,
        of_clip=distribution.jensen_shannon_divergence_bits,
    ),
    ClipMetric(
        name="jsd_sqrt_nats",
        description="Jensen-Shannon distance, the square root of the divergence in nats: 0 (equal) to 0.8326",
        best=0,
        worst_score=math.sqrt(math.log(2)),
        of_clip=distribution.jensen_shannon_distance_nats,
    ),
    ClipMetric(
        name="bc",
        description="Bhattacharyya coefficient: 0 (no label shared) to 1 (equal)",
        best=1,
        worst_score=0,
        of_clip=distribution.bhattacharyya_coefficient,
    ),
    ClipMetric(
        name="r_pearson",
        description="Pearson's correlation across the labels of a clip: -1 to 1, 0 for a constant distribution",
        best=1,
        worst_score=-1,
        of_clip=distribution.pearson_r,
    ),
    ClipMetric(
        name="r2_pearson",
        description="Square of r_pearson, blind to its sign: 0 to 1, 1 / (labels - 1) by chance",
        best=1,
        worst_score=0,
        of_clip=distribution.pearson_r_squared,
    ),
    ClipMetric(
        name="nll_bits",
        description=f"Negative log-likelihood per vote, in bits, shares below {NLL_FLOOR} counted as that: 0 to 13.29",
        best=0,
        worst_score=-math.log2(NLL_FLOOR),
        of_clip=distribution.negative_log_likelihood_bits,
    ),
    ClipMetric(
        name="sq_debiased",
        description="Squared error less what a finite panel adds to it: 0 (equal to the true shares, on average) to 2",
        best=0,
        worst_score=2,
        of_clip=distribution.squared_error_debiased,
        needs_noise=True,
    ),
    ClipMetric(
        name="acc",
        description="Accuracy of the top label against the majority label, ties by expectation: 0 to 1",
        best=1,
        worst_score=0,
        of_clip=classification.expected_accuracy,
    ),
    SetMetric(
        name="macro_f1",
        description="F1 against the majority label, mean over labels: 0 to 1",
        best=1,
        worst_score=0,
        of_set=classification.macro_f1,
        influence_of_set=classification.macro_f1_influence,
    ),
    SetMetric(
        name="weighted_f1",
        description="F1 against the majority label, mean over labels weighted by their frequency: 0 to 1",
        best=1,
        worst_score=0,
        of_set=classification.weighted_f1,
        influence_of_set=classification.weighted_f1_influence,
    ),
    SetMetric(
        name="uar",
        description="Unweighted average recall of the majority label (balanced accuracy): 0 to 1",
        best=1,
        worst_score=0,
        of_set=classification.unweighted_average_recall,
        influence_of_set=classification.unweighted_average_recall_influence,
    ),
    SetMetric(
        name="ece_votes",
        description="Expected calibration error of the top label against the share of raters who chose it: 0 to 1",
        best=0,
        worst_score=1,
        of_set=calibration.expected_calibration_error_votes,
    ),
    SetMetric(
        name="ece_majority",
        description="Expected calibration error of the top label against the majority label, for papers only: 0 to 1",
        best=0,
        worst_score=1,
        of_set=calibration.expected_calibration_error_majority,
    ),
    ClipMetric(
        name="brier_sum",
        description="Squared error against the votes' shares, summed over labels: 0 to 2",
        best=0,
        worst_score=2,
        of_clip=distribution.brier_sum,
    ),
    ClipMetric(
        name="brier_mean",
        description="Squared error against the votes' shares, mean over labels: 0 to 2 / labels",
        best=0,
        worst_score=2,
        worst_is_per_label=True,
        of_clip=distribution.brier_mean,
    ),
    ClipMetric(
        name="rps",
        description="Ranked probability score, for labels that stand in order: 0 (equal) to 1",
        best=0,
        worst_score=1,
        of_clip=distribution.ranked_probability_score,
    ),
    SetMetric(
        name="entropy_rho",
        description="Spearman's correlation over clips between the entropies of prediction and votes: -1 to 1",
        best=1,
        worst_score=-1,
        of_set=calibration.entropy_correlation,
    ),
    ClipMetric(
        name="kl_bits",
        description=f"Kullback-Leibler divergence, in bits, shares below {NLL_FLOOR} counted as that: 0 to 13.29",
        best=0,
        worst_score=-math.log2(NLL_FLOOR),
        of_clip=distribution.kullback_leibler_bits,
    ),
    ClipMetric(
        name="manhattan",
        description="Manhattan distance, sum over labels of |p - q|: 0 (equal) to 2 (no label shared)",
        best=0,
        worst_score=2,
        of_clip=distribution.manhattan_distance,
    ),
    ClipMetric(
        name="tvd",
        description="Total variation distance, half of manhattan: 0 (equal) to 1 (no label shared)",
        best=0,
        worst_score=1,
        of_clip=distribution.total_variation_distance,
    ),
    ClipMetric(
        name="cosine",
        description="Cosine similarity of p and q: 0 (no label shared) to 1 (equal)",
        best=1,
        worst_score=0,
        of_clip=distribution.cosine_similarity,
    ),
    SetMetric(
        name="r2_classes",
        description="Variance across clips that is predicted (R2), mean over labels: at most 1, 0 for the prior",
        best=1,
        worst_score=-math.inf,
        of_set=distribution.r2_of_classes,
        influence_of_set=distribution.r2_of_classes_influence,
    ),
    SetMetric(
        name="macro_f1_multilabel",
        description="F1 of the labels with a share above 1 / labels, mean over labels: 0 to 1",
        best=1,
        worst_score=0,
        of_set=classification.macro_f1_multilabel,
        influence_of_set=classification.macro_f1_multilabel_influence,
    ),
    SetMetric(
        name="ece_majority_5",
        description="ece_majority in five bins instead of ten: 0 to 1",
        best=0,
        worst_score=1,
        of_set=calibration.expected_calibration_error_majority_5,
    ),
)
# The metric by which systems are ranked.
HEADLINE = "jsd_bits"
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ROWS}

"""Every score that a set of predictions gets against the raters' votes, in one table: `METRICS`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ambi_eval.metrics.calibration import (
    entropy_correlation,
    expected_calibration_error_majority,
    expected_calibration_error_votes,
)
from ambi_eval.metrics.classification import (
    expected_accuracy,
    macro_f1,
    macro_f1_influence,
    unweighted_average_recall,
    unweighted_average_recall_influence,
    weighted_f1,
    weighted_f1_influence,
)
from ambi_eval.metrics.clustered import influence_on_mean, mean_of_defined
from ambi_eval.metrics.distribution import (
    NLL_FLOOR,
    bhattacharyya_coefficient,
    brier_mean,
    brier_sum,
    jensen_shannon_distance_nats,
    jensen_shannon_divergence_bits,
    negative_log_likelihood_bits,
    pearson_r,
    pearson_r_squared,
    squared_error_debiased,
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Metric(ABC):
    """One score of predictions `p` against `votes`, both of shape (clips, labels).

    A row of `p` that holds NaN is an invalid clip: one without a valid prediction. It is never left out.

    Attributes:
        name: As in results and tables; says the unit where there is one.
        description: One line with the range.
        higher_is_better: Which way is up.
        worst: Number of labels -> the worst value there is, which is what an invalid clip scores.
    """

    name: str
    description: str
    higher_is_better: bool
    worst: Callable[[int], float]

    @abstractmethod
    def per_clip(self, p: ArrayLike, votes: ArrayLike) -> Array | None:
        """Return the score of each clip, shape (clips,), or None if only a set of clips has one."""

    @abstractmethod
    def value(self, p: ArrayLike, votes: ArrayLike) -> float:
        """Return the score of all clips; NaN if there is none."""

    @abstractmethod
    def influence(self, p: ArrayLike, votes: ArrayLike) -> Array | None:
        """Return each clip's influence on the value, shape (clips,), or None where there is no closed form.

        What `clustered.clustered_standard_error` makes an error bar of.
        """


@dataclass(frozen=True)
class ClipMetric(Metric):
    """A score that every clip has, and whose value is the mean over clips.

    An invalid clip scores `worst`. A clip whose votes alone leave the score undefined is NaN, whatever the prediction,
    and is left out of the mean: all models leave out the same clips.

    Attributes:
        of_clip: (p, votes), each of shape (..., labels) -> scores, shape (...).
    """

    of_clip: Callable[[ArrayLike, ArrayLike], Array]

    def per_clip(self, p: ArrayLike, votes: ArrayLike) -> Array:
        """Return the score of each clip, shape (...) for inputs of shape (..., labels)."""
        p = np.asarray(p, dtype=float)
        invalid = np.isnan(p).any(axis=-1)
        scores = self.of_clip(np.where(invalid[..., None], 0.0, p), votes)  # so that NaN can come from the votes only
        return np.where(invalid & ~np.isnan(scores), self.worst(p.shape[-1]), scores)

    def value(self, p: ArrayLike, votes: ArrayLike) -> float:
        """Return the mean over the clips where the score is defined; NaN if there is none."""
        return mean_of_defined(self.per_clip(p, votes))

    def influence(self, p: ArrayLike, votes: ArrayLike) -> Array:
        """Return each clip's score minus the mean (0 where undefined, which makes the others weigh more)."""
        return influence_on_mean(self.per_clip(p, votes))


@dataclass(frozen=True)
class SetMetric(Metric):
    """A score that only a set of clips has.

    Attributes:
        of_set: (p, votes), each of shape (clips, labels) -> the score. What it does with invalid clips stands there.
        influence_of_set: The same -> each clip's influence, shape (clips,), or None where there is no closed form.
    """

    of_set: Callable[[ArrayLike, ArrayLike], float]
    influence_of_set: Callable[[ArrayLike, ArrayLike], Array] | None = None

    def per_clip(self, p: ArrayLike, votes: ArrayLike) -> None:
        """Return None: a single clip has no such score."""

    def value(self, p: ArrayLike, votes: ArrayLike) -> float:
        """Return the score of the set; NaN if it is empty or does not define one."""
        return self.of_set(p, votes) if len(np.asarray(p)) else float("nan")

    def influence(self, p: ArrayLike, votes: ArrayLike) -> Array | None:
        """Return each clip's influence on the value by the delta method, or None where there is no closed form."""
        return self.influence_of_set(p, votes) if self.influence_of_set else None


def _always(score: float) -> Callable[[int], float]:
    return lambda n_labels: score


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        ClipMetric(
            "jsd_bits",
            "Jensen-Shannon divergence, in bits: 0 (equal) to 1 (no label shared)",
            higher_is_better=False,
            worst=_always(1.0),
            of_clip=jensen_shannon_divergence_bits,
        ),
        ClipMetric(
            "jsd_sqrt_nats",
            "Jensen-Shannon distance, the square root of the divergence in nats: 0 (equal) to 0.8326",
            higher_is_better=False,
            worst=_always(math.sqrt(math.log(2))),
            of_clip=jensen_shannon_distance_nats,
        ),
        ClipMetric(
            "bc",
            "Bhattacharyya coefficient: 0 (no label shared) to 1 (equal)",
            higher_is_better=True,
            worst=_always(0.0),
            of_clip=bhattacharyya_coefficient,
        ),
        ClipMetric(
            "r_pearson",
            "Pearson's correlation across the labels of a clip: -1 to 1, 0 for a constant distribution",
            higher_is_better=True,
            worst=_always(-1.0),
            of_clip=pearson_r,
        ),
        ClipMetric(
            "r2_pearson",
            "Square of r_pearson, blind to its sign: 0 to 1, 1 / (labels - 1) by chance",
            higher_is_better=True,
            worst=_always(0.0),
            of_clip=pearson_r_squared,
        ),
        ClipMetric(
            "nll_bits",
            f"Negative log-likelihood per vote, in bits, shares below {NLL_FLOOR} counted as that: 0 to 13.29",
            higher_is_better=False,
            worst=_always(-math.log2(NLL_FLOOR)),
            of_clip=negative_log_likelihood_bits,
        ),
        ClipMetric(
            "sq_debiased",
            "Squared error less what a finite panel adds to it: 0 (equal to the true shares, on average) to 2",
            higher_is_better=False,
            worst=_always(2.0),
            of_clip=squared_error_debiased,
        ),
        ClipMetric(
            "acc",
            "Accuracy of the top label against the majority label, ties by expectation: 0 to 1",
            higher_is_better=True,
            worst=_always(0.0),
            of_clip=expected_accuracy,
        ),
        SetMetric(
            "macro_f1",
            "F1 against the majority label, mean over labels: 0 to 1",
            higher_is_better=True,
            worst=_always(0.0),
            of_set=macro_f1,
            influence_of_set=macro_f1_influence,
        ),
        SetMetric(
            "weighted_f1",
            "F1 against the majority label, mean over labels weighted by their frequency: 0 to 1",
            higher_is_better=True,
            worst=_always(0.0),
            of_set=weighted_f1,
            influence_of_set=weighted_f1_influence,
        ),
        SetMetric(
            "uar",
            "Unweighted average recall of the majority label (balanced accuracy): 0 to 1",
            higher_is_better=True,
            worst=_always(0.0),
            of_set=unweighted_average_recall,
            influence_of_set=unweighted_average_recall_influence,
        ),
        SetMetric(
            "ece_votes",
            "Expected calibration error of the top label against the share of raters who chose it: 0 to 1",
            higher_is_better=False,
            worst=_always(1.0),
            of_set=expected_calibration_error_votes,
        ),
        SetMetric(
            "ece_majority",
            "Expected calibration error of the top label against the majority label, for papers only: 0 to 1",
            higher_is_better=False,
            worst=_always(1.0),
            of_set=expected_calibration_error_majority,
        ),
        ClipMetric(
            "brier_sum",
            "Squared error against the votes' shares, summed over labels: 0 to 2",
            higher_is_better=False,
            worst=_always(2.0),
            of_clip=brier_sum,
        ),
        ClipMetric(
            "brier_mean",
            "Squared error against the votes' shares, mean over labels: 0 to 2 / labels",
            higher_is_better=False,
            worst=lambda n_labels: 2 / n_labels,
            of_clip=brier_mean,
        ),
        SetMetric(
            "entropy_rho",
            "Spearman's correlation over clips between the entropies of prediction and votes: -1 to 1",
            higher_is_better=True,
            worst=_always(-1.0),
            of_set=entropy_correlation,
        ),
    )
}

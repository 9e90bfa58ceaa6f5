"""Whether a model knows when people disagree: its entropy as a detector of ambiguous clips, and its confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ambi_eval.analysis import estimate
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.votes import TIE_TOLERANCE, entropy_bits, majority, shares

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ConfidenceBin:
    """Clips whose top label was predicted with about the same share.

    Attributes:
        low: Lower end of the bin of confidence, exclusive.
        high: Upper end, inclusive.
        clips: Number of clips.
        confidence: Mean predicted share of the top label.
        agreement: Mean share of the raters who chose that label.
    """

    low: float
    high: float
    clips: int
    confidence: float
    agreement: Estimate


def reliability_curve(p: Array, votes: Array, clusters: Sequence[str], bins: int = 10) -> list[ConfidenceBin]:
    """Return confidence against agreement in the bins of `ece_votes`, those without clips left out.

    The sum over bins of clips * |confidence - agreement| / all clips is the `ece_votes` of valid predictions.

    Args:
        p: Predicted distributions, shape (clips, labels); a row of NaN, an invalid one, is in no bin.
        votes: Votes, shape (clips, labels).
        clusters: Whom each clip depends on.
        bins: Number of equal-width bins from 0 to 1.
    """
    confidence = p.max(axis=1)
    agreement = (majority(p) * shares(votes)).sum(axis=1)
    number = np.ceil(confidence * bins - TIE_TOLERANCE)  # NaN is in no bin
    curve = []
    for upper in range(1, bins + 1):
        here = number == upper
        if here.any():
            inside = [cluster for cluster, member in zip(clusters, here, strict=True) if member]
            curve.append(
                ConfidenceBin(
                    low=(upper - 1) / bins,
                    high=upper / bins,
                    clips=int(here.sum()),
                    confidence=float(confidence[here].mean()),
                    agreement=estimate.of_mean(agreement[here], inside, (0, 1)),
                )
            )
    return curve


def ambiguity_auroc(p: Array, ambiguous: NDArray[np.bool_], clusters: Sequence[str]) -> Estimate:
    """Return how well the entropy of predictions tells ambiguous clips from the others: the area under the ROC curve.

    The probability that an ambiguous clip is predicted with more entropy than another clip, ties counting half. Failing
    never pays: an invalid prediction loses all its comparisons.

    Sources: Hanley and McNeil (1982), The meaning and use of the area under a ROC curve; Obuchowski (1997),
    Nonparametric analysis of clustered ROC curve data (the interval).

    Args:
        p: Predicted distributions, shape (clips, labels).
        ambiguous: Which clips are ambiguous, shape (clips,).
        clusters: Whom each clip depends on.

    Returns:
        The area, 0 to 1, 0.5 for a constant prediction; undefined unless there are clips of both kinds.
    """
    n_ambiguous, n_clear = ambiguous.sum(), (~ambiguous).sum()
    if not n_ambiguous or not n_clear:
        return estimate.UNDEFINED
    entropy = np.round(entropy_bits(p), 9)  # so that the same shares in another order tie
    entropy = np.where(np.isnan(entropy), np.where(ambiguous, -np.inf, np.inf), entropy)
    # Each clip's share of won comparisons with the clips of the other kind: its rank among all less that in its kind.
    ranks, won = rankdata(entropy), np.empty(len(p))
    won[ambiguous] = (ranks[ambiguous] - rankdata(entropy[ambiguous])) / n_clear
    won[~ambiguous] = 1 - (ranks[~ambiguous] - rankdata(entropy[~ambiguous])) / n_ambiguous
    area = won[ambiguous].mean()
    influence = (won - area) * len(p) / np.where(ambiguous, n_ambiguous, n_clear)
    return estimate.from_influence(float(area), influence, clusters, (0, 1))

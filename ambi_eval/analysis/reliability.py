"""Does a model know when people disagree? Its calibration, and its entropy as a detector of ambiguous clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ambi_eval.analysis import estimate
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.votes import TIE_TOLERANCE, Array, entropy_bits, majority, shares

# Equal-width bins of confidence, as in `ece_votes`.
BINS = 10


@dataclass(frozen=True)
class ConfidenceBin:
    """Clips whose top label was predicted with about the same share, above `low` and at most `high`.

    `confidence` is the mean predicted share of the top label, `agreement` the mean share of the raters who chose it.
    """

    low: float
    high: float
    clips: int
    confidence: float
    agreement: Estimate


def reliability_curve(p: Array, votes: Array, clusters: Sequence[str]) -> list[ConfidenceBin]:
    """Return mean confidence and agreement in each of the ten bins of `ece_votes` that has clips.

    The sum over bins of clips * |confidence - agreement|, divided by the number of clips, is the `ece_votes` of the
    valid predictions. `p` and `votes` have shape (clips, labels); a row of NaN (an invalid prediction) is in no bin.
    """
    confidence = p.max(axis=1)
    agreement = (majority(p) * shares(votes)).sum(axis=1)
    number = np.ceil(confidence * BINS - TIE_TOLERANCE)  # NaN is in no bin
    curve = []
    for upper in range(1, BINS + 1):
        here = number == upper
        if here.any():
            curve.append(
                ConfidenceBin(
                    low=(upper - 1) / BINS,
                    high=upper / BINS,
                    clips=int(here.sum()),
                    confidence=float(confidence[here].mean()),
                    agreement=estimate.of_mean(agreement[here], list(compress(clusters, here)), (0, 1)),
                )
            )
    return curve


def ambiguity_auroc(p: Array, ambiguous: NDArray[np.bool_], clusters: Sequence[str]) -> Estimate:
    """Return the area under the ROC curve of the predicted entropy as a detector of ambiguous clips: 0 to 1.

    It is the probability that the prediction of an ambiguous clip has more entropy than that of a clear clip; ties
    count half, so a constant prediction has 0.5. An invalid prediction loses all its comparisons. The area is undefined
    unless there are clips of both kinds. `p` has shape (clips, labels), `ambiguous` (clips,).

    Sources: Hanley and McNeil (1982), The meaning and use of the area under a ROC curve; Obuchowski (1997),
    Nonparametric analysis of clustered ROC curve data (the interval).
    """
    n_ambiguous, n_clear = ambiguous.sum(), (~ambiguous).sum()
    if not n_ambiguous or not n_clear:
        return estimate.UNDEFINED
    entropy = np.round(entropy_bits(p), 9)  # rounded, so that the order of the shares does not change the value
    entropy = np.where(np.isnan(entropy), np.where(ambiguous, -np.inf, np.inf), entropy)
    # The number of comparisons that a clip wins against clips of the other kind is its rank among all clips minus its
    # rank among clips of its own kind.
    ranks, won = rankdata(entropy), np.empty(len(p))
    won[ambiguous] = (ranks[ambiguous] - rankdata(entropy[ambiguous])) / n_clear
    won[~ambiguous] = 1 - (ranks[~ambiguous] - rankdata(entropy[~ambiguous])) / n_ambiguous
    area = won[ambiguous].mean()
    influence = (won - area) * len(p) / np.where(ambiguous, n_ambiguous, n_clear)
    return estimate.from_influence(float(area), influence, clusters, (0, 1))

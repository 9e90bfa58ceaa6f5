"""How reliable each rater is: the agreement with the other raters of the same clips, shrunk towards the mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ambi_eval.analysis.raters.ballots import Ballots


@dataclass(frozen=True)
class Reliability:
    """Each rater's agreement with the other raters, and how much raters differ beyond chance.

    Attributes:
        agreement: Mean share of the clip's other raters who chose the same label, for each rater; the clips' own
            difficulty is taken out.
        shrunk: The same after shrinkage towards the mean of all raters.
        mean: Mean agreement of all raters, 0 to 1.
        spread: Standard deviation of the raters' true agreement; 0 if chance explains the differences.
        reliability: Share of the variance of single ballots that the raters explain, 0 to 1 (intraclass correlation).
            Near 0, it hardly matters who rated.
    """

    names: tuple[str, ...]
    ballots: tuple[int, ...]
    agreement: tuple[float, ...]
    shrunk: tuple[float, ...]
    mean: float
    spread: float
    reliability: float


def rater_reliability(ballots: Ballots) -> Reliability | None:
    """Return how much each rater agrees with the others, with shrinkage.

    The agreement of a ballot b with the shares q of the clip's other ballots is b . q. Some clips are easier than
    others, so the mean of the clip's ballots is subtracted, and the mean of all clips is added. The agreement of rater
    r is the mean a_r over n_r ballots. Let t be the variance of the true agreement between raters, s the variance of
    ballots within a rater, and m the mean of all ballots. Then the shrunk agreement is m + t / (t + s / n_r) (a_r - m).
    s and t come from the analysis of variance (method of moments).

    The mean of a clip includes the ballot itself, so all differences are too small by a factor of about 1 - 1/n for n
    raters per clip; the order of the raters is not affected.

    Sources: Efron and Morris (1975), Data analysis using Stein's estimator; Searle, Casella and McCulloch (1992),
    Variance components, chapter 3 (unbalanced one-way classification).

    Returns:
        The reliability; None if raters are known within a clip only, or if there is only one rater.
    """
    if not ballots.raters_are_known or len(ballots.names) < 2:
        return None
    agrees = (ballots.votes * ballots.others).sum(axis=1)
    of_clip = np.bincount(ballots.clip, weights=agrees)[ballots.clip] / ballots.per_clip
    mean = float((agrees / ballots.per_clip).sum() / ballots.clips)
    values = agrees - of_clip + mean
    counts = np.bincount(ballots.rater, minlength=len(ballots.names))
    agreement = np.bincount(ballots.rater, weights=values, minlength=len(ballots.names)) / counts
    total, raters = len(values), len(counts)
    within = np.square(values - agreement[ballots.rater]).sum() / max(total - raters, 1)
    grand = values.mean()
    between = (counts * np.square(agreement - grand)).sum() / (raters - 1)
    typical = (total - np.square(counts).sum() / total) / (raters - 1)
    true = max((between - within) / typical, 0.0)
    weight = true / (true + within / counts) if true + within > 0 else np.zeros(raters)
    return Reliability(
        names=tuple(ballots.names),
        ballots=tuple(counts.tolist()),
        agreement=tuple(agreement.tolist()),
        shrunk=tuple((grand + weight * (agreement - grand)).tolist()),
        mean=mean,
        spread=float(np.sqrt(true)),
        reliability=float(true / (true + within)) if true + within > 0 else 0.0,
    )

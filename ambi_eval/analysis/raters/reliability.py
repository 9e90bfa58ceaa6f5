"""How reliable each rater is: agreement with the other raters of the same clips, drawn towards that of all raters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ambi_eval.analysis.raters.ballots import Ballots


@dataclass(frozen=True)
class Reliability:
    """Each rater's agreement with others, and how much raters truly differ.

    Attributes:
        names: The raters.
        ballots: How many ballots of each count.
        agreement: Share of the other raters of the same clips who said the same, the mean over the rater's ballots,
            less what the clips owe to being easy or hard.
        shrunk: The same, drawn towards the mean of all raters by as much as chance explains.
        mean: Agreement of all raters, 0 to 1.
        spread: Standard deviation of the raters' true agreement; 0 where chance alone explains the differences.
        reliability: Share of the variance between single ballots that the raters explain, 0 to 1 (intraclass
            correlation): near 0 means that it hardly matters who rated.
    """

    names: tuple[str, ...]
    ballots: tuple[int, ...]
    agreement: tuple[float, ...]
    shrunk: tuple[float, ...]
    mean: float
    spread: float
    reliability: float


def rater_reliability(ballots: Ballots) -> Reliability | None:
    """Return how far each rater agrees with the others, with shrinkage.

    A ballot b agrees with the shares q of the clip's other ballots by b . q. From this the mean of the clip's ballots
    is subtracted, since some clips are easier, and the mean of all clips added back. The agreement of rater r is the
    mean a_r over n_r ballots. Of raters whose true agreements have the variance t, with the variance s within a rater,
    the best guess is m + t / (t + s / n_r) (a_r - m). s and t come from the analysis of variance (method of moments).

    The clip's mean holds the ballot itself, so differences are too small by a factor of about 1 - 1/n for n raters a
    clip; that of raters to each other is not touched.

    Sources: Efron and Morris (1975), Data analysis using Stein's estimator; Searle, Casella and McCulloch (1992),
    Variance components, chapter 3 (unbalanced one-way classification).

    Returns:
        The reliability; None where raters are known within a clip only, or there is one rater.
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

"""How much the raters of a clip agree, and how many raters the prior is worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ambi_eval.metrics.distribution import brier_sum
from ambi_eval.votes import TIE_TOLERANCE, Array, Panel, shares


def krippendorff_alpha(panels: Sequence[Panel | None]) -> float:
    """Return Krippendorff's alpha for nominal labels and panels of any size.

    1 - D_o / D_e. D_o is the mean disagreement of two ballots on the same clip, where a clip's weight is its number of
    raters; D_e is the mean disagreement of any two ballots. Two ballots a and b disagree by |a - b|^2 / 2: 1 for two
    different labels, 0 for the same label, and between 0 and 1 if a rater splits the vote between several labels.

    It is 1 if all raters of each clip agree, 0 if they agree as often as by chance, negative if less often. Clips of
    unknown raters (None) or of one rater do not count. It is NaN if no clip has two raters, or if all ballots name the
    same label.

    Source: Krippendorff (2011), Computing Krippendorff's alpha-reliability.

    >>> yes, no = (1.0, 0.0), (0.0, 1.0)
    >>> round(krippendorff_alpha([Panel((yes,), (4,)), Panel((yes, no), (1, 3)), Panel((no,), (4,))]), 4)
    0.6857
    """
    paired = [panel for panel in panels if panel is not None and panel.size > 1]
    if not paired:
        return float("nan")
    ballots = shares(np.concatenate([panel.ballots for panel in paired]))
    raters = np.concatenate([panel.raters for panel in paired]).astype(float)
    clip = np.repeat(np.arange(len(paired)), [len(panel.raters) for panel in paired])
    size = np.array([panel.size for panel in paired], dtype=float)
    total = size.sum()

    # Over all ordered pairs among m ballots b, sum |a - b|^2 / 2 = m sum |b|^2 - |sum b|^2.
    lengths = raters * np.square(ballots).sum(axis=1)
    sums = np.zeros((len(paired), ballots.shape[1]))
    np.add.at(sums, clip, raters[:, None] * ballots)
    within = size * np.bincount(clip, weights=lengths) - np.square(sums).sum(axis=1)
    chance = (total * lengths.sum() - np.square(sums.sum(axis=0)).sum()) / (total - 1)
    if chance < TIE_TOLERANCE:
        return float("nan")
    return float(1 - (within / (size - 1)).sum() / chance)


def prior_worth(votes: Array, noise: Array, one_rater: Array) -> float:
    """Return how many raters the mean distribution of all clips (the prior) is worth.

    It is the squared error of one rater divided by that of the prior, both against infinitely many raters. Among all
    mixtures of k raters' votes with votes of the prior, the one with this many votes of the prior has the smallest
    expected squared error.

    `votes` have shape (clips, labels); `noise` and `one_rater` are those of the selection, shape (clips,). The result
    is above 0, very large where clips do not differ, and NaN if no clip has two known raters.

    Source: Buehlmann (1967), Experience rating and credibility.
    """
    known = ~np.isnan(noise)
    if not known.any():
        return float("nan")
    prior = shares(votes[known]).mean(axis=0)
    between = (brier_sum(prior, votes[known]) - noise[known]).mean()
    return float(one_rater[known].mean() / max(between, TIE_TOLERANCE))

"""Whether predictions fit one group of raters, such as women or old people, better than the other raters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.raters.ballots import Ballots
from ambi_eval.analysis.subgroups import age_band, group_order
from ambi_eval.votes import Array


@dataclass(frozen=True, eq=False)
class RaterGroup:
    """The raters of one kind.

    Attributes:
        clips: Number of clips with raters of this group and raters of another known group.
        weights: The weight of each ballot in the paired difference, shape (B,). On each such clip, the weights of the
            group's ballots sum to 1 / clips, and those of the other ballots to -1 / clips.
    """

    trait: str
    name: str
    raters: int
    clips: int
    weights: Array

    def difference(self, ballots: Ballots, scores: Array) -> Estimate:
        """Return the mean score of the group's ballots minus that of the others on the same clips.

        Scores have shape (B,). The difference is paired by clip, so it does not depend on which clips a group judged.
        The interval is two-way: ballots depend on each other by speaker and by rater.
        """
        value = (self.weights * scores).sum()
        # Expected score: the two sides of a clip lie half of the difference above and below the middle of the clip.
        middle = np.bincount(ballots.clip, weights=np.abs(self.weights) * scores * self.clips)[ballots.clip] / 2
        expected = middle + np.sign(self.weights) * value / 2
        return ballots.weighted(scores, self.weights, expected=expected)


def rater_groups(ballots: Ballots, traits: Mapping[str, Mapping[str, Any]]) -> list[RaterGroup]:
    """Return the groups of raters by sex and by age band that have clips in common with other raters.

    `traits` says, by the rater's name, what is known of `sex` and `age`.
    """
    found = []
    for trait in ("sex", "age"):
        values = [traits.get(name, {}).get(trait) for name in ballots.names]
        kinds = ["" if value is None else age_band(value) if trait == "age" else str(value) for value in values]
        kind_of = np.array(kinds)[ballots.rater]
        for name in sorted({*kinds} - {""}, key=group_order):
            inside, outside = kind_of == name, (kind_of != name) & (kind_of != "")
            n_inside, n_outside = (np.bincount(ballots.clip, weights=side)[ballots.clip] for side in (inside, outside))
            paired = (n_inside > 0) & (n_outside > 0)
            clips = len(np.unique(ballots.clip[paired]))
            if not clips:
                continue
            weights = np.where(inside, 1 / np.maximum(n_inside, 1), -1 / np.maximum(n_outside, 1))
            weights *= paired & (inside | outside)
            raters = len(np.unique(ballots.rater[inside & paired]))
            found.append(RaterGroup(trait, name, raters, clips, weights / clips))
    return found

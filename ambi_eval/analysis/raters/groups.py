"""Whether a prediction fits one group of raters better than the others, such as women or the old."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.raters.ballots import Ballots
from ambi_eval.analysis.subgroups import age_band

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RaterGroup:
    """The raters of one kind.

    Attributes:
        trait: `sex` or `age`.
        name: `female`, `30-44` ...
        raters: Number of raters.
        clips: Number of clips that raters of this kind and raters of another known kind judged.
        weights: What weighs each ballot in the paired difference, shape (B,): within each such clip the ballots of the
            group sum to 1 / clips, those of the others to -1 / clips.
    """

    trait: str
    name: str
    raters: int
    clips: int
    weights: Array

    def difference(self, ballots: Ballots, scores: Array) -> Estimate:
        """Return the mean score of the group's ballots minus that of the others on the same clips.

        The clip is the pair, so that it does not matter which clips a group happened to judge. The interval knows that
        ballots depend on each other by speaker and by rater.

        Args:
            ballots: The ballots that the group was formed of.
            scores: Shape (B,).
        """
        value = (self.weights * scores).sum()
        # Without chance, the two sides of a clip are half of the difference above and below the clip's middle.
        middle = np.bincount(ballots.clip, weights=np.abs(self.weights) * scores * self.clips)[ballots.clip] / 2
        expected = middle + np.sign(self.weights) * value / 2
        return ballots.weighted(scores, self.weights, expected=expected)


def rater_groups(ballots: Ballots, traits: Mapping[str, Mapping[str, Any]]) -> list[RaterGroup]:
    """Return the groups by sex and by band of age that can be compared with the other raters of the same clips.

    Args:
        ballots: The ballots.
        traits: What is known about each rater, by name: `sex`, `age`.
    """
    found = []
    for trait in ("sex", "age"):
        values = [traits.get(name, {}).get(trait) for name in ballots.names]
        kinds = [None if value is None else age_band(value) if trait == "age" else str(value) for value in values]
        kind_of = np.array([kind or "" for kind in kinds])[ballots.rater]
        for name in sorted(set(kinds) - {None}, key=lambda kind: (not str(kind).startswith("under"), str(kind))):
            inside, outside = kind_of == name, (kind_of != name) & (kind_of != "")
            n_inside, n_outside = (np.bincount(ballots.clip, weights=side)[ballots.clip] for side in (inside, outside))
            paired = (n_inside > 0) & (n_outside > 0)
            clips = len(np.unique(ballots.clip[paired]))
            if not clips:
                continue
            weights = np.where(inside, 1 / np.maximum(n_inside, 1), -1 / np.maximum(n_outside, 1))
            weights *= paired & (inside | outside)
            raters = len(np.unique(ballots.rater[inside & paired]))
            found.append(RaterGroup(trait, str(name), raters, clips, weights / clips))
    return found

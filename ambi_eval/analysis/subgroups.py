"""Compares scores between groups of speakers, by sex and by age if the corpus has them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from ambi_eval.analysis import estimate
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.corpora.selection import Selection
from ambi_eval.votes import Array

# The ages in years at which the second, third and fourth band begin.
AGE_BANDS = (30, 45, 60)


@dataclass(frozen=True)
class Subgroup:
    """The clips of one kind of speaker (trait `sex` or `age`), such as `female` or `30-44`.

    `mean` is the mean score of its clips, `gap` that mean minus the mean of all other clips whose trait is known.
    """

    trait: str
    name: str
    clips: int
    speakers: int
    mean: Estimate
    gap: Estimate


def subgroups(scores: Array, selection: Selection) -> list[Subgroup]:
    """Return the groups of speakers by sex and by age band; a trait with only one group is left out.

    A group's mean score depends on the ambiguity of its clips. To see whether a model is worse for a group, give the
    differences from the prior's scores on the same clips. `scores` has shape (clips,); NaN does not count.
    """
    found = []
    traits = {
        "sex": [clip.sex for clip in selection.clips],
        "age": [None if clip.age is None else age_band(clip.age) for clip in selection.clips],
    }
    for trait, names in traits.items():
        known = np.array([name is not None for name in names])
        groups = sorted({name for name in names if name is not None}, key=group_order)
        for name in groups if len(groups) > 1 else ():
            here = np.array([other == name for other in names])
            found.append(
                Subgroup(
                    trait=trait,
                    name=name,
                    clips=int(here.sum()),
                    speakers=len({clip.speaker for clip in compress(selection.clips, here)}),
                    mean=estimate.of_mean(scores[here], list(compress(selection.clusters, here))),
                    gap=_gap(scores[known], here[known], list(compress(selection.clusters, known))),
                )
            )
    return found


def _gap(scores: Array, inside: NDArray[np.bool_], clusters: list[str]) -> Estimate:
    """Return the mean score inside a group minus that outside, with its interval in closed form."""
    defined = ~np.isnan(scores)
    value, influence = 0.0, np.zeros(len(scores))
    for sign, part in ((1, inside & defined), (-1, ~inside & defined)):
        if not part.any():
            return estimate.UNDEFINED
        value += sign * scores[part].mean()
        influence[part] = sign * (scores[part] - scores[part].mean()) * len(scores) / part.sum()
    return estimate.from_influence(float(value), influence, clusters)


def age_band(age: float) -> str:
    """Return the band of an age in years: `under 30`, `30-44`, `45-59`, `60 and over`."""
    band = int(np.searchsorted(AGE_BANDS, age, side="right"))
    if band == 0:
        return f"under {AGE_BANDS[0]}"
    return f"{AGE_BANDS[band - 1]}-{AGE_BANDS[band] - 1}" if band < len(AGE_BANDS) else f"{AGE_BANDS[-1]} and over"


def group_order(name: str) -> tuple[bool, str]:
    """Return the sort key of a group's name: the youngest age band, `under 30`, comes first."""
    return not name.startswith("under"), name

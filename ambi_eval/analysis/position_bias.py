"""The position bias of a model: how the probability of a label depends on its position in the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ambi_eval.analysis import estimate
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.votes import Array


@dataclass(frozen=True)
class PositionBias:
    """How predictions depend on the order in which the prompt names the labels.

    Attributes:
        first: The mean gain in probability of a label that the prompt names first, -1 to 1; 0 for a model that ignores
            the order.
        by_label: The same for each label that is first in one of the orders.
        by_place: For each position, how much more probable a label is there than on average over all positions. Empty
            unless each label is once in each position.
    """

    first: Estimate
    by_label: dict[str, Estimate]
    by_place: Sequence[Estimate]


def position_bias(p: Array, labels: Sequence[str], clusters: Sequence[str]) -> PositionBias:
    """Return the position bias from predictions under several rotations of the labels.

    `p` has shape (clips, rotations, labels), labels in the task's order. Rotation t names label t first, then the
    labels after it, then those before it.

    Raises:
        ValueError: If there is only one rotation.
    """
    rotations = p.shape[1]
    if rotations < 2:
        raise ValueError("one order of the labels shows no bias")
    firsts = range(rotations)
    gains = np.stack([p[:, t, t] - np.delete(p[:, :, t], t, axis=1).mean(axis=1) for t in firsts], axis=1)
    by_place = []
    if rotations == len(labels):
        above = p - p.mean(axis=1, keepdims=True)
        for place in range(len(labels)):
            there = [above[:, t, (t + place) % len(labels)] for t in firsts]
            by_place.append(estimate.of_mean(np.mean(there, axis=0), clusters))
    return PositionBias(
        first=estimate.of_mean(gains.mean(axis=1), clusters),
        by_label={labels[t]: estimate.of_mean(gains[:, t], clusters) for t in firsts},
        by_place=by_place,
    )

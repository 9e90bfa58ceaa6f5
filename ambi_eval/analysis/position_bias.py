"""What a label gains by the place in which the prompt names it: the position bias of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ambi_eval.analysis import estimate
from ambi_eval.analysis.estimate import Estimate

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PositionBias:
    """How predictions move with the order in which the prompt names the labels.

    Attributes:
        first: The probability that a label gains, on average, when it stands first: 0 for a model that the order does
            not move, at most 1.
        by_label: The same for each label that stands first in one of the orders.
        by_place: For each place, the probability of the label there less its mean over all places. Empty unless each
            label stands once in each place.
    """

    first: Estimate
    by_label: dict[str, Estimate]
    by_place: Sequence[Estimate]


def position_bias(p: Array, labels: Sequence[str], clusters: Sequence[str]) -> PositionBias:
    """Return the position bias from predictions under several rotations of the labels.

    Args:
        p: Predicted distributions, shape (clips, rotations, labels), labels in the task's order. Rotation t names
            the labels from number t on, and then those before it, so that label t stands first.
        labels: The labels.
        clusters: Whom each clip depends on.

    Raises:
        ValueError: If there is but one rotation.
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

"""From votes to a distribution over labels: shares, ambiguity, ties, and what happens to labels outside the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Outside = str  # "drop_clip" or "renormalise"

# Two shares nearer than this are one value: 1/3 summed in another order must still tie.
TIE_TOLERANCE = 1e-9


def shares(votes: ArrayLike) -> NDArray[np.float64]:
    """Return each label's share of the votes.

    Args:
        votes: Non-negative counts, shape (..., labels). Half a vote for each of two labels is fine.

    Returns:
        Shares of the same shape; each last axis sums to 1.

    Raises:
        ValueError: If a count is negative or not finite, or if a clip has no vote at all.

    >>> shares([3, 1, 0, 0]).tolist()
    [0.75, 0.25, 0.0, 0.0]
    """
    counts = np.asarray(votes, dtype=float)
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError(f"votes must be finite and not negative, got {counts.tolist()}")
    total = counts.sum(axis=-1, keepdims=True)
    if (total == 0).any():
        raise ValueError("a clip without any vote has no distribution")
    return counts / total


def entropy_bits(p: ArrayLike) -> NDArray[np.float64]:
    """Return the Shannon entropy of each distribution in bits, 0 to log2(labels); 0 log 0 counts as 0.

    Args:
        p: Distributions, shape (..., labels).

    Returns:
        Entropies, shape (...).

    >>> float(entropy_bits([0.5, 0.5, 0.0]))
    1.0
    """
    p = np.asarray(p, dtype=float)
    # `+ 0.0` turns the -0.0 of a unanimous clip into 0.0.
    return -(p * np.log2(np.where(p > 0, p, 1.0))).sum(axis=-1) + 0.0


def majority(p: ArrayLike) -> NDArray[np.float64]:
    """Return the majority label as a distribution: 1/m on each of the m labels that share the highest value.

    Args:
        p: Distributions or vote counts, shape (..., labels). A row that holds NaN (no prediction) gives a row of zeros.

    Returns:
        Array of the same shape; each last axis sums to 1 (or to 0 where there was no prediction).

    >>> majority([0.4, 0.4, 0.2]).tolist()
    [0.5, 0.5, 0.0]
    """
    p = np.asarray(p, dtype=float)
    top = p >= p.max(axis=-1, keepdims=True) - TIE_TOLERANCE  # every comparison with NaN is False
    return top / np.maximum(top.sum(axis=-1, keepdims=True), 1)


def select_labels(
    votes: Mapping[str, float],
    labels: Sequence[str],
    merge: Mapping[str, str],
    outside: Outside,
) -> NDArray[np.float64] | None:
    """Return the votes of one clip over the task's labels, or None if the clip is to be left out.

    Args:
        votes: Votes per original label of the corpus.
        labels: The task's labels, in order.
        merge: Original label -> task label, for original labels that count as another one (`excited` -> `happy`).
        outside: What to do with a clip that has votes for labels outside the task: `drop_clip` leaves the whole clip
            out, `renormalise` keeps the votes that are inside and forgets the others.

    Returns:
        Counts, shape (labels,), or None: dropped by `outside`, or no vote left inside the labels.
    """
    counts = dict.fromkeys(labels, 0.0)
    for original, count in votes.items():
        label = merge.get(original, original)
        if label in counts:
            counts[label] += count
        elif count > 0 and outside == "drop_clip":
            return None
    inside = np.array(list(counts.values()))
    return inside if inside.sum() > 0 else None

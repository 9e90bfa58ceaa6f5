"""From votes to distributions over labels: shares, entropy, ties, single raters, and labels outside the task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Outside = Literal["drop_clip", "renormalise"]

# Shares that differ by less than this are equal, because sums in different orders differ by rounding.
TIE_TOLERANCE = 1e-9


def shares(votes: ArrayLike) -> Array:
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


def entropy_bits(p: ArrayLike) -> Array:
    """Return the Shannon entropy, shape (...), of distributions, shape (..., labels): 0 to log2(labels) bits.

    0 log 0 counts as 0.

    >>> float(entropy_bits([0.5, 0.5, 0.0]))
    1.0
    """
    p = np.asarray(p, dtype=float)
    # `+ 0.0` turns the -0.0 of a unanimous clip into 0.0.
    return -(p * np.log2(np.where(p > 0, p, 1.0))).sum(axis=-1) + 0.0


def majority(p: ArrayLike) -> Array:
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


@dataclass(frozen=True, slots=True)
class Panel:
    """The raters of one clip. Raters with the same ballot form one kind."""

    ballots: tuple[tuple[float, ...], ...]
    """The ballot of each kind of rater, shape (kinds, labels): one vote for one label, or a whole vote or an equal part
    of a vote for each of several labels."""
    raters: tuple[int, ...]
    """The number of raters of each kind."""

    @property
    def size(self) -> int:
        """The number of raters."""
        return sum(self.raters)

    def votes(self, counts: ArrayLike) -> Array:
        """Return the votes, shape (..., labels), of some of the raters: `counts` of each kind, shape (..., kinds)."""
        return np.asarray(counts, dtype=float) @ np.array(self.ballots)

    def noise(self, counts: ArrayLike) -> Array:
        """Return the sampling noise of the shares of some raters.

        This is the expected squared distance between their shares and those of infinitely many such raters, estimated
        from the differences between the n ballots. Rater i gives the ballot v_i, whose sum is w_i. The shares are
        q = V / W with V = sum v_i and W = sum w_i, and the noise is n / (n - 1) sum |v_i - w_i q|^2 / W^2. If each
        rater gives one vote, this equals sum q (1 - q) / (n - 1). If all w_i are 1, the estimate has no bias: the
        squared error of a prediction p minus the noise is the mean of (p - v_i) . (p - v_j) over all pairs of raters.
        If the w_i differ, it is the usual estimate for a ratio.

        Source: Cochran (1977), Sampling techniques, chapter 6 (ratio estimators).

        Args:
            counts: Number of raters of each kind, shape (..., kinds).

        Returns:
            Squared distances, shape (...). NaN for fewer than two raters.

        >>> one_label, two_labels = (1.0, 0.0), (0.5, 0.5)
        >>> float(Panel((one_label, two_labels), (1, 1)).noise([1, 1]))
        0.125
        """
        counts = np.asarray(counts, dtype=float)
        ballots = np.array(self.ballots)
        weights = ballots.sum(axis=1)
        n, weight = counts.sum(axis=-1), counts @ weights
        q = self.votes(counts) / np.where(weight > 0, weight, np.nan)[..., None]
        spread = (
            counts @ np.square(ballots).sum(axis=1)
            - 2 * (q * (counts @ (weights[:, None] * ballots))).sum(axis=-1)
            + np.square(q).sum(axis=-1) * (counts @ np.square(weights))
        )
        return np.maximum(spread, 0.0) / np.square(weight) * n / np.where(n > 1, n - 1, np.nan)


def panel_of(
    votes: ArrayLike, ratings: Sequence[Sequence[str]], labels: Sequence[str], merge: Mapping[str, str]
) -> Panel | None:
    """Return the raters of a clip, or None if its votes do not show who gave which.

    If every rating names one label (or there are no ratings), each vote is one rater; the result is None if a count is
    not whole. If some rating names k > 1 labels, either each label got 1/k of a vote or each got a whole vote: the one
    whose sum equals the votes is taken. If neither does, the result is None.

    Args:
        votes: Votes over the task's labels, shape (labels,).
        ratings: The labels that each rater named, as the corpus spells them; empty if the corpus has no ratings.
        labels: The task's labels.
        merge: Original label -> task label, as for `select_labels`.
    """
    several = sorted(map(tuple, ratings)) if any(len(rating) > 1 for rating in ratings) else []
    counts = tuple(np.asarray(votes, dtype=float).tolist())
    return _panel(counts, tuple(several), tuple(labels), tuple(merge.items()))


@lru_cache(maxsize=100_000)
def _panel(
    votes: tuple[float, ...],
    ratings: tuple[tuple[str, ...], ...],
    labels: tuple[str, ...],
    merge: tuple[tuple[str, str], ...],
) -> Panel | None:
    if not ratings:
        if any(count % 1 for count in votes):
            return None
        kinds = [number for number, count in enumerate(votes) if count]
        ballots = np.eye(len(votes))[kinds].tolist()
        return Panel(tuple(map(tuple, ballots)), tuple(int(votes[kind]) for kind in kinds))
    for split in (True, False):
        counted: Counter[tuple[float, ...]] = Counter()
        for rating in ratings:
            parts = dict.fromkeys(rating, 1 / len(rating) if split else 1.0)
            inside = select_labels(parts, labels, dict(merge), "renormalise")
            if inside is not None:
                counted[tuple(inside.tolist())] += 1
        panel = Panel(tuple(counted), tuple(counted.values()))
        if counted and np.allclose(panel.votes(panel.raters), votes):
            return panel
    return None


def noise_of_whole_votes(votes: ArrayLike) -> Array:
    """Return `Panel.noise`, shape (...), of votes, shape (..., labels), of one rater each: sum q (1 - q) / (n - 1).

    NaN for fewer than two votes, and if a count is not whole, because then the raters are unknown.

    >>> noise_of_whole_votes([[3, 1], [2.5, 1.5]]).tolist()
    [0.125, nan]
    """
    counts, q = np.asarray(votes, dtype=float), shares(votes)
    n = counts.sum(axis=-1)
    known = (n > 1) & (counts == np.round(counts)).all(axis=-1)
    return (q * (1 - q)).sum(axis=-1) / np.where(known, n - 1, np.nan)


def select_labels(
    votes: Mapping[str, float], labels: Sequence[str], merge: Mapping[str, str], outside: Outside
) -> Array | None:
    """Return the votes of one clip over the task's labels, or None if the clip is to be left out.

    Args:
        votes: Votes per original label of the corpus.
        labels: The task's labels, in order.
        merge: Original label -> task label, for original labels that count as another one (`excited` -> `happy`).
        outside: What happens to a clip with votes for other labels than the task's: `drop_clip` leaves out the clip,
            `renormalise` leaves out these votes.

    Returns:
        Counts, shape (labels,). None if `outside` drops the clip, or if it has no vote for any of the labels.
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


def mean_of_others(values: Array, clusters: Sequence[Hashable], within: Sequence[Hashable] | None = None) -> Array:
    """Return for each clip the mean over the clips of other clusters, NaN if there are none.

    Args:
        values: Non-negative values to average, shape (clips, C).
        clusters: Each clip's cluster.
        within: Each clip's group; the mean is over clips of the same group only. None: all clips are one group.

    Returns:
        Means, shape (clips, C).

    >>> mean_of_others(np.array([[1.0], [2.0], [6.0]]), ["anna", "ben", "ben"]).tolist()
    [[4.0], [1.0], [1.0]]
    """
    within = [None] * len(values) if within is None else within
    counted = np.column_stack([values, np.ones(len(values))])
    others = _total(counted, within) - _total(counted, list(zip(within, clusters, strict=True)))
    means = others[:, :-1] / np.where(others[:, -1:] > 0, others[:, -1:], np.nan)
    return np.maximum(means, 0.0)  # rounding may give -1e-16


def _total(values: Array, groups: Sequence[Hashable]) -> Array:
    """Return for each row the sum of the rows of its group, in the shape of `values`."""
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(group, len(numbers)) for group in groups])
    sums = np.zeros((len(numbers), values.shape[1]))
    np.add.at(sums, index, values)
    return sums[index]

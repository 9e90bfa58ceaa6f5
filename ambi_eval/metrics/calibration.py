"""Calibration: whether a prediction's confidence matches the raters' agreement, over a set of clips."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ambi_eval.metrics.classification import expected_accuracy
from ambi_eval.votes import TIE_TOLERANCE, Array, entropy_bits, majority, shares


def expected_calibration_error_votes(
    p: ArrayLike, votes: ArrayLike, bins: int = 10, weights: ArrayLike | None = None
) -> Any:
    """Return the expected calibration error of the top label against the SHARE of raters who chose it.

    The clips are sorted into equal-width bins (a, b] of confidence, the highest predicted share; the error is the mean
    over bins, weighted by their clips, of |mean confidence - mean share of raters for the top label|. Labels that tie
    for the top each count by expectation. A perfect prediction scores 0.

    Clips without a prediction (rows of `p` that hold NaN) form a bin of their own with error 1, as if the model were
    certain of a label that no rater chose. So they cannot cancel underconfidence on other clips.

    Sources: Guo et al. (2017), On calibration of modern neural networks; Baan et al. (2022), Stop measuring calibration
    when humans disagree.

    Args:
        p: Predicted distributions, shape (clips, labels).
        votes: Votes, shape (clips, labels).
        bins: Number of equal-width bins from 0 to 1.
        weights: How often each clip counts, as in a bootstrap: whole numbers, shape (..., clips). None: once.

    Returns:
        Calibration error, 0 to 1, shape (...): one number without weights.

    >>> round(expected_calibration_error_votes([[0.8, 0.2], [0.8, 0.2]], [[3, 1], [2, 2]]), 4)
    0.175
    """
    top_share = (majority(p) * shares(votes)).sum(axis=-1)
    return _expected_calibration_error(p, top_share, bins, weights)


def expected_calibration_error_majority(
    p: ArrayLike, votes: ArrayLike, bins: int = 10, weights: ArrayLike | None = None
) -> Any:
    """Return the expected calibration error of the top label against the raters' MAJORITY label.

    Only for comparison with papers: where raters disagree, even the prediction that equals the votes has an error,
    because its confidence is the majority's share while its top label is always right. Ties count by expectation on
    both sides; otherwise as `expected_calibration_error_votes`.

    Source: Guo et al. (2017), On calibration of modern neural networks.

    >>> round(expected_calibration_error_majority([[0.8, 0.2], [0.8, 0.2]], [[3, 1], [2, 2]]), 4)
    0.05
    """
    return _expected_calibration_error(p, expected_accuracy(p, votes), bins, weights)


def entropy_correlation(p: ArrayLike, votes: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Return Spearman's rank correlation over clips between the entropy of p and that of the votes.

    It shows whether predictions are less confident on clips where raters agree less. Ties get average ranks.

    Clips without a prediction (rows of `p` that hold NaN) get the ranks that make the correlation smallest, so no valid
    prediction could score less. (Exception: if the correlation is negative, tied predicted entropies can score slightly
    less, because ties shrink the denominator.) If 1 % of the clips have none, the correlation falls by about 0.02.

    Source: Spearman (1904), The proof and measurement of association between two things.

    Arguments and shape are those of `expected_calibration_error_votes`. The result, -1 to 1, is NaN where it is
    undefined: fewer than two clips, or all entropies on one side equal.

    >>> p = [[0.9, 0.1], [0.5, 0.5], [0.7, 0.3]]
    >>> entropy_correlation(p, [[4, 0], [3, 1], [2, 2]])
    0.5
    """
    # Rounded, so that (3, 1) and (1, 3) tie although the last digits of their entropies differ.
    human, predicted = np.round(entropy_bits(shares(votes)), 9), np.round(entropy_bits(p), 9)
    counts = np.ones(len(human)) if weights is None else np.asarray(weights)
    if np.isnan(predicted).any():
        rows = [np.repeat(np.arange(len(human)), times) for times in counts.reshape(-1, len(human)).astype(int)]
        worst = [_least_favorable(predicted[clips], human[clips]) for clips in rows]
        each = [_rank_correlation(p, human[clips], np.ones(len(p))) for p, clips in zip(worst, rows, strict=True)]
        found = np.array(each).reshape(counts.shape[:-1])
    else:
        found = _rank_correlation(predicted, human, counts)
    return float(found) if weights is None else found


def expected_calibration_error_majority_5(p: ArrayLike, votes: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Return `expected_calibration_error_majority` in five bins, as AER-LLM (arXiv 2409.18339) computes it.

    >>> round(expected_calibration_error_majority_5([[0.8, 0.2], [0.6, 0.4]], [[3, 1], [2, 2]]), 4)
    0.15
    """
    return expected_calibration_error_majority(p, votes, 5, weights)


def _expected_calibration_error(p: ArrayLike, outcome: Array, bins: int, weights: ArrayLike | None) -> Any:
    """Return the calibration error of the highest share in `p` against `outcome`, both per clip."""
    confidence = np.max(np.asarray(p, dtype=float), axis=-1)
    valid = ~np.isnan(confidence)
    # 0.1 + 0.2 belongs to the bin that ends at 0.3. Clips without a prediction are in the last column.
    column = np.where(valid, np.ceil(np.where(valid, confidence, 0) * bins - TIE_TOLERANCE), bins + 1).astype(int)
    gaps = np.zeros((len(confidence), bins + 2))
    gaps[np.arange(len(confidence)), column] = np.where(valid, confidence - outcome, 1.0)
    counts = np.ones(len(confidence)) if weights is None else np.asarray(weights, dtype=float)
    errors = np.abs(counts @ gaps).sum(axis=-1) / counts.sum(axis=-1)
    return float(errors) if weights is None else errors


def _rank_correlation(x: Array, y: Array, weights: NDArray[Any]) -> Array:
    """Return Spearman's correlation of x and y, shape (...), where clips count `weights` times, shape (..., clips)."""
    x, y = _centered_ranks(x, weights), _centered_ranks(y, weights)
    spread = np.sqrt((weights * x**2).sum(axis=-1) * (weights * y**2).sum(axis=-1))
    return (weights * x * y).sum(axis=-1) / np.where(spread > 0, spread, np.nan)


def _centered_ranks(values: Array, weights: NDArray[Any]) -> Array:
    """Return the ranks of the values minus their mean, shape of `weights`; ties share the average of their ranks."""
    order = np.argsort(values, kind="stable")
    rising = values[order]
    first = np.append(True, rising[1:] != rising[:-1])[: len(values)]
    starts = np.flatnonzero(first)
    counts = np.add.reduceat(weights[..., order], starts, axis=-1)
    ranks = np.cumsum(counts, axis=-1) - (counts + counts.sum(axis=-1, keepdims=True)) / 2
    level = np.empty(len(values), dtype=int)
    level[order] = np.cumsum(first) - 1
    return ranks[..., level]


def _least_favorable(predicted: Array, human: Array) -> Array:
    """Return values for all clips, where the missing ones (NaN) are such that the correlation with `human` is smallest.

    The covariance of ranks is a sum over pairs of clips of (human_i - human_j) * sign(predicted_i - predicted_j) / 2.
    So the worst place of a missing clip among the valid ones depends on its own human rank only: the higher the rank,
    the lower the place. Missing clips with the same place are put in falling order of `human`, the worst order.

    """
    missing = np.isnan(predicted)
    if not missing.any():
        return predicted
    human = _centered_ranks(human, np.ones(len(human)))
    _, level, counts = np.unique(predicted[~missing], return_inverse=True, return_counts=True)
    n_below = np.concatenate([[0], np.cumsum(counts)])
    human_below = np.concatenate([[0], np.cumsum(np.bincount(level, weights=human[~missing]))])
    place = np.array([np.argmin(rank * n_below - human_below) for rank in human[missing]])
    rising = np.argsort(np.argsort(human[missing]))
    order = np.empty(len(predicted))
    order[~missing] = level
    order[missing] = place - (rising + 1) / (len(rising) + 1)  # between the levels place - 1 and place
    return order

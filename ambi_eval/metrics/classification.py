"""Classification metrics: how often the predicted top label is the raters' majority label, over a set of clips.

Every function takes `p` (predicted distributions) and `votes` (counts per label), both of shape (clips, labels). Ties
in the prediction and in the votes count by expectation: a clip whose raters chose two labels equally often counts as
half a clip of each label. A clip without a valid prediction (a row of `p` that holds NaN) counts for its true label
and for no predicted label.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ambi_eval.votes import TIE_TOLERANCE, Array, majority, shares


def expected_accuracy(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return the probability that the predicted label is the majority label, ties broken at random on both sides.

    The arguments have shape (..., labels), and the result (...): 0 without a prediction, at most 1/m if m labels tie
    for the majority.

    >>> float(expected_accuracy([0.4, 0.4, 0.2], [5, 3, 1]))
    0.5
    """
    return (majority(p) * majority(votes)).sum(axis=-1)


def expected_confusion(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return the confusion matrix of majority labels, in expected numbers of clips, ties broken at random.

    Its shape is (labels, labels + 1): a row per true label, a column per predicted label, and a last column for the
    clips without a prediction. It sums to the number of clips.

    >>> expected_confusion([[0.9, 0.1], [0.5, 0.5], [np.nan, np.nan]], [[3, 0], [1, 2], [0, 3]]).tolist()
    [[1.0, 0.0, 0.0], [0.5, 0.5, 1.0]]
    """
    predicted = majority(p)
    return majority(votes).T @ np.column_stack([predicted, 1 - predicted.sum(axis=-1)])


def macro_f1(p: ArrayLike, votes: ArrayLike) -> float:
    """Return the mean over labels of F1, 2 hits / (true + predicted), from expected counts: 0 to 1.

    The mean leaves out a label that no clip has as its true or predicted label, as scikit-learn does. A clip without a
    prediction lowers the recall of its label and no label's precision, so it costs less than a wrong prediction.

    >>> round(macro_f1([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.7, 0.3, 0.0]], [[3, 0, 0], [0, 3, 0], [1, 2, 0]]), 4)
    0.6667
    """
    f1, _ = _f1_per_label(p, votes)
    return float(np.nanmean(f1))


def macro_f1_influence(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return each clip's influence on `macro_f1`, shape (clips,): see `clustered.clustered_standard_error`.

    >>> macro_f1_influence([[0.9, 0.1], [0.8, 0.2]], [[3, 0], [0, 3]]).round(4).tolist()
    [0.2222, -0.2222]
    """
    _, influence = _f1_per_label(p, votes)
    return np.nanmean(influence, axis=-1)


def weighted_f1(p: ArrayLike, votes: ArrayLike) -> float:
    """Return the mean over labels of F1, 0 to 1, weighted by how often each label is the true one; else as `macro_f1`.

    >>> round(weighted_f1([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]], [[3, 0], [0, 3], [1, 2], [0, 3]]), 4)
    0.5
    """
    f1, _ = _f1_per_label(p, votes)
    return float(np.nansum(majority(votes).mean(axis=0) * f1))


def weighted_f1_influence(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return each clip's influence on `weighted_f1`, shape (clips,): see `clustered.clustered_standard_error`.

    >>> weighted_f1_influence([[0.9, 0.1], [0.8, 0.2]], [[3, 0], [0, 3]]).round(4).tolist()
    [0.5556, -0.5556]
    """
    f1, influence = _f1_per_label(p, votes)
    truth = majority(votes)
    weight = truth.mean(axis=0)
    return np.nansum((truth - weight) * f1 + weight * influence, axis=-1)


def unweighted_average_recall(p: ArrayLike, votes: ArrayLike) -> float:
    """Return the mean over labels of recall, hits / true, from expected counts: the balanced accuracy, 0 to 1.

    The mean leaves out a label that is never the true one, since it has no recall. A clip without a prediction costs as
    much as a wrong prediction.

    >>> round(unweighted_average_recall([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], [[3, 0], [0, 3], [1, 2]]), 4)
    0.75
    """
    recall, _ = _recall_per_label(p, votes)
    return float(np.nanmean(recall))


def unweighted_average_recall_influence(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return each clip's influence on `unweighted_average_recall`, shape (clips,).

    >>> unweighted_average_recall_influence([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], [[3, 0], [0, 3], [1, 2]]).tolist()
    [0.0, 0.375, -0.375]
    """
    _, influence = _recall_per_label(p, votes)
    return np.nanmean(influence, axis=-1)


def macro_f1_multilabel(p: ArrayLike, votes: ArrayLike) -> float:
    """Return the mean over labels of F1, 0 to 1, where every label with a share above 1 / labels counts as present.

    A clip can have several true and several predicted labels. A label that no clip has as a true or predicted label
    counts 0, as in scikit-learn. A clip without a prediction lowers recall and no label's precision.

    Source: EMO-SUPERB (Wu et al. 2024, arXiv 2402.13018).

    >>> round(macro_f1_multilabel([[0.6, 0.4, 0.0], [0.0, 0.5, 0.5]], [[3, 2, 0], [0, 0, 5]]), 4)
    0.8889
    """
    f1, _ = _f1_of_present(p, votes)
    return float(np.nan_to_num(f1).mean())


def macro_f1_multilabel_influence(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return each clip's influence on `macro_f1_multilabel`, shape (clips,).

    >>> macro_f1_multilabel_influence([[0.9, 0.1], [0.8, 0.2]], [[3, 0], [0, 3]]).round(4).tolist()
    [0.2222, -0.2222]
    """
    _, influence = _f1_of_present(p, votes)
    return np.nan_to_num(influence).mean(axis=-1)


def _f1_of_present(p: ArrayLike, votes: ArrayLike) -> tuple[Array, Array]:
    least = 1 / np.shape(votes)[-1] + TIE_TOLERANCE
    truth, predicted = (shares(votes) > least).astype(float), (np.asarray(p, dtype=float) > least).astype(float)
    return _ratio_of_sums(2 * truth * predicted, truth + predicted)


def _f1_per_label(p: ArrayLike, votes: ArrayLike) -> tuple[Array, Array]:
    truth, predicted = majority(votes), majority(p)
    return _ratio_of_sums(2 * truth * predicted, truth + predicted)


def _recall_per_label(p: ArrayLike, votes: ArrayLike) -> tuple[Array, Array]:
    truth, predicted = majority(votes), majority(p)
    return _ratio_of_sums(truth * predicted, truth)


def _ratio_of_sums(numerator: Array, denominator: Array) -> tuple[Array, Array]:
    """Return the ratio of the sums over clips for each label, and each clip's influence on it by the delta method.

    The arguments and the influence have shape (clips, labels). The influence is clips * (numerator - ratio *
    denominator) / sum(denominator). Both results are NaN for a label whose denominators are all 0.
    """
    total = denominator.sum(axis=0)
    total = np.where(total > 0, total, np.nan)
    ratio = numerator.sum(axis=0) / total
    return ratio, len(numerator) * (numerator - ratio * denominator) / total

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, recall_score

from ambi_eval.metrics.classification import (
    expected_accuracy,
    expected_confusion,
    macro_f1,
    macro_f1_influence,
    unweighted_average_recall,
    unweighted_average_recall_influence,
    weighted_f1,
    weighted_f1_influence,
)

NO_PREDICTION = -1


def tie_free(seed: int, labels: int = 5, clips: int = 60, invalid: int = 0):
    """Labels, and predictions and votes whose unique tops they are; the last label is never the truth."""
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(labels - 1, size=clips), rng.integers(labels, size=clips)
    p = rng.dirichlet([1.0] * labels, clips) + 1.5 * np.eye(labels)[predicted]
    p /= p.sum(axis=-1, keepdims=True)
    p[:invalid], predicted[:invalid] = np.nan, NO_PREDICTION
    return truth, predicted, p, rng.integers(4, size=(clips, labels)) + 5 * np.eye(labels)[truth]


@pytest.mark.parametrize("invalid", [0, 7])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("score", "reference"),
    [
        (lambda p, votes: expected_accuracy(p, votes).mean(), lambda t, y, seen: accuracy_score(t, y)),
        (macro_f1, lambda t, y, seen: f1_score(t, y, labels=seen, average="macro", zero_division=0)),
        (weighted_f1, lambda t, y, seen: f1_score(t, y, labels=seen, average="weighted", zero_division=0)),
        (unweighted_average_recall, lambda t, y, seen: recall_score(t, y, labels=np.unique(t), average="macro")),
    ],
)
def test_equals_scikit_learn_without_ties(score, reference, seed, invalid):
    truth, predicted, p, votes = tie_free(seed, invalid=invalid)
    seen = np.setdiff1d(np.union1d(truth, predicted), [NO_PREDICTION])
    assert_allclose(score(p, votes), reference(truth, predicted, seen), rtol=1e-14)


def test_equals_the_balanced_accuracy_of_scikit_learn():
    truth, predicted, _, votes = tie_free(seed=11)
    predicted = np.where(predicted == 4, 0, predicted)  # scikit-learn warns of labels that are nowhere the truth
    assert_allclose(
        unweighted_average_recall(np.eye(5)[predicted], votes), balanced_accuracy_score(truth, predicted), rtol=1e-14
    )


def test_the_confusion_is_the_mean_over_all_ways_to_break_the_ties():
    p = np.array([[0.4, 0.4, 0.2], [1 / 3, 1 / 3, 1 / 3], [0.1, 0.7, 0.2], [0.0, 0.5, 0.5]])
    votes = np.array([[2, 2, 1], [0, 3, 3], [4, 0, 0], [1, 1, 1]])
    truths = product([0, 1], [1, 2], [0], [0, 1, 2])
    predictions = list(product([0, 1], [0, 1, 2], [1], [1, 2]))
    each = [confusion_matrix(t, y, labels=[0, 1, 2]) for t in truths for y in predictions]
    expected = np.column_stack([np.mean(each, axis=0), [0, 0, 0]])
    assert_allclose(expected_confusion(p, votes), expected, atol=1e-12)
    assert_allclose(expected_accuracy(p, votes).sum(), np.trace(expected))


def test_the_confusion_of_a_clip_without_a_prediction_stands_in_the_last_column():
    _, _, p, votes = tie_free(seed=5, invalid=9)
    confusion = expected_confusion(p, votes)
    assert_allclose(confusion.sum(), len(p))
    assert_allclose(confusion[:, -1].sum(), 9)
    assert_allclose(confusion[:, :-1], expected_confusion(p[9:], votes[9:])[:, :-1])


@pytest.mark.parametrize(
    ("p", "votes", "expected"),
    [
        ([0.6, 0.3, 0.1], [3, 2, 0], 1.0),
        ([0.3, 0.6, 0.1], [3, 2, 0], 0.0),
        ([0.5, 0.5, 0.0], [3, 2, 0], 0.5),
        ([0.6, 0.3, 0.1], [2, 2, 2], 1 / 3),
        ([0.5, 0.5, 0.0], [0, 2, 2], 1 / 4),
        ([0.1 + 0.2, 0.3, 0.4 - 0.1], [1, 0, 0], 1 / 3),  # 0.30000000000000004 ties with 0.3
        ([np.nan] * 3, [3, 2, 0], 0.0),
    ],
)
def test_accuracy_of_a_clip(p, votes, expected):
    assert_allclose(expected_accuracy(p, votes), expected)


@pytest.mark.parametrize(
    ("score", "missing", "wrong"),
    [(macro_f1, 5 / 6, 11 / 15), (weighted_f1, 5 / 6, 11 / 15), (unweighted_average_recall, 3 / 4, 3 / 4)],
)
def test_a_missing_prediction_costs_recall_and_a_wrong_one_precision_too(score, missing, wrong):
    votes = np.array([[3, 0], [3, 0], [0, 3], [0, 3]])
    assert_allclose(score([[1, 0], [1, 0], [0, 1], [0, 1]], votes), 1)
    assert_allclose(score([[1, 0], [np.nan] * 2, [0, 1], [0, 1]], votes), missing)
    assert_allclose(score([[1, 0], [0, 1], [0, 1], [0, 1]], votes), wrong)


@pytest.mark.parametrize("invalid", [0, 4])
@pytest.mark.parametrize(
    ("score", "influence"),
    [
        (macro_f1, macro_f1_influence),
        (weighted_f1, weighted_f1_influence),
        (unweighted_average_recall, unweighted_average_recall_influence),
    ],
)
def test_the_influence_is_the_derivative_by_the_weight_of_a_clip(score, influence, invalid):
    rng = np.random.default_rng(3)
    p, votes = rng.multinomial(4, [0.2] * 5, 25) / 4, rng.multinomial(5, [0.4, 0.3, 0.2, 0.1, 0.0], 25)  # many ties
    p[:invalid] = np.nan
    copies = 400
    many_p, many_votes = np.tile(p, (copies, 1)), np.tile(votes, (copies, 1))
    base = score(many_p, many_votes)
    one_more = [score(np.vstack([many_p, p[[i]]]), np.vstack([many_votes, votes[[i]]])) for i in range(25)]
    derivative = (np.array(one_more) - base) * (25 * copies + 1)
    assert_allclose(influence(p, votes), derivative, atol=5e-3)
    assert_allclose(influence(p, votes).sum(), 0, atol=1e-12)

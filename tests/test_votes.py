import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import entropy

from ambi_eval.votes import entropy_bits, majority, select_labels, shares

COUNTS = arrays(float, st.tuples(st.integers(1, 5), st.integers(2, 6)), elements=st.integers(0, 12).map(float))


@given(COUNTS)
def test_shares_sum_to_one_and_keep_the_order(votes):
    votes = votes + np.eye(votes.shape[1])[0]
    p = shares(votes)
    np.testing.assert_allclose(p.sum(axis=-1), 1)
    assert (np.argsort(p, kind="stable") == np.argsort(votes, kind="stable")).all()


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        ([0, 0, 0], "without any vote"),
        ([[1, 2], [0, 0]], "without any vote"),
        ([3, -1], "not negative"),
        ([np.nan, 1], "finite"),
        ([np.inf, 1], "finite"),
    ],
)
def test_votes_that_cannot_be_are_refused(votes, message):
    with pytest.raises(ValueError, match=message):
        shares(votes)


@given(COUNTS)
def test_entropy_equals_scipy(votes):
    p = shares(votes + 1)
    np.testing.assert_allclose(entropy_bits(p), entropy(p, base=2, axis=-1), atol=1e-12)


@pytest.mark.parametrize(("p", "bits"), [([1, 0, 0], 0.0), ([0.5, 0.5], 1.0), ([0.25] * 4, 2.0)])
def test_entropy_of_known_distributions(p, bits):
    assert entropy_bits(p) == bits
    assert np.copysign(1, entropy_bits(p)) == 1


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ([0.2, 0.5, 0.3], [0, 1, 0]),
        ([0.4, 0.2, 0.4], [0.5, 0, 0.5]),
        ([1 / 3, 1 / 3, 1 / 3], [1 / 3] * 3),
        ([0.1 + 0.2, 0.3, 0.4 - 1e-12], [0, 0, 1]),
        ([0.1 + 0.2, 0.3, 0.0], [0.5, 0.5, 0]),
        ([np.nan] * 3, [0, 0, 0]),
    ],
)
def test_majority_splits_ties_and_gives_nothing_for_no_prediction(p, expected):
    np.testing.assert_allclose(majority(p), expected)


LABELS = ["angry", "happy", "neutral"]


@pytest.mark.parametrize(
    ("votes", "merge", "outside", "expected"),
    [
        ({"angry": 2, "neutral": 1}, {}, "drop_clip", [2, 0, 1]),
        ({"happy": 1, "excited": 2}, {"excited": "happy"}, "drop_clip", [0, 3, 0]),
        ({"happy": 1, "excited": 2}, {}, "drop_clip", None),
        ({"happy": 1, "excited": 2}, {}, "renormalise", [0, 1, 0]),
        ({"happy": 1, "excited": 0}, {}, "drop_clip", [0, 1, 0]),
        ({"excited": 2}, {}, "renormalise", None),
    ],
)
def test_labels_are_merged_dropped_or_renormalised(votes, merge, outside, expected):
    counts = select_labels(votes, LABELS, merge, outside)
    assert (None if counts is None else counts.tolist()) == expected

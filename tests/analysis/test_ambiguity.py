from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ambi_eval.analysis.ambiguity import ambiguity_bins
from ambi_eval.errors import AmbiError
from ambi_eval.votes import entropy_bits, shares

VOTES = arrays(float, st.tuples(st.integers(1, 40), st.just(4)), elements=st.integers(0, 6).map(float))


@given(VOTES)
def test_every_clip_is_in_one_bin_and_bins_rise(votes):
    votes = votes + np.eye(4)[0]
    bins = ambiguity_bins(votes)
    assert (sum(b.members.astype(int) for b in bins) == 1).all()
    entropy = entropy_bits(shares(votes))
    for b in bins:
        assert b.low == pytest.approx(entropy[b.members].min(), abs=1e-8)
        assert b.high == pytest.approx(entropy[b.members].max(), abs=1e-8)
    assert all(lower.high < upper.low for lower, upper in pairwise(bins))


def test_tertiles_where_entropies_differ():
    rng = np.random.default_rng(0)
    sizes = [b.members.sum() for b in ambiguity_bins(rng.dirichlet(np.ones(4), 300))]
    assert sizes == [100, 100, 100]


def test_the_tertiles_of_the_real_votes(crema_d_selection):
    bins = ambiguity_bins(crema_d_selection.votes)
    assert [(round(b.low, 3), round(b.high, 3)) for b in bins] == [(0, 0.971), (0.985, 1.447), (1.449, 2.522)]
    assert [int(b.members.sum()) for b in bins] == [2483, 2517, 2442]
    assert [b.name for b in bins] == ["0.00-0.97 bits", "0.99-1.45 bits", "1.45-2.52 bits"]


def test_panels_of_three_give_a_bin_for_each_value_and_rare_values_join_the_nearest():
    votes = [[3, 0, 0]] * 50 + [[2, 1, 0]] * 40 + [[1, 1, 1]] * 9 + [[3, 1, 0]]
    bins = ambiguity_bins(votes)
    assert [(b.name, int(b.members.sum())) for b in bins] == [
        ("0.00 bits", 50),
        ("0.81-0.92 bits", 41),
        ("1.58 bits", 9),
    ]


def test_the_same_votes_in_another_order_are_the_same_ambiguity():
    votes = np.array([[0.1, 0.2, 0.7], [0.7, 0.2, 0.1], [0.2, 0.7, 0.1]])
    assert len(ambiguity_bins(votes)) == 1


def test_a_clip_on_an_edge_is_below_it():
    bins = ambiguity_bins([[2, 0], [1, 1], [3, 1]], edges=[0.0, float(entropy_bits([0.75, 0.25]))])
    assert [b.members.tolist() for b in bins] == [[True, False, False], [False, False, True], [False, True, False]]


@pytest.mark.parametrize(
    ("edges", "message"),
    [([1.0, 0.5], "must rise, they are 1, 0.5"), ([0.1, 0.2], r"no clip has an entropy between 0\.1 and 0\.2 bits")],
)
def test_edges_that_cannot_be(edges, message):
    with pytest.raises(AmbiError, match=message):
        ambiguity_bins([[2, 0], [1, 1], [3, 1]], edges=edges)

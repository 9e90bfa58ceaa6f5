from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.selections import rated_selection, selection_of

from ambi_eval.analysis.ambiguity import Binned, ambiguity_bins, bin_clips
from ambi_eval.analysis.references.held_out import HeldOutRaters
from ambi_eval.errors import AmbiError
from ambi_eval.votes import Panel, entropy_bits, shares

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


@pytest.mark.slow
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


def test_who_makes_the_bins_judges_nothing_and_no_rater_is_lost():
    votes = np.array([[4.0, 3.0], [1.0, 0.0], [0.0, 6.0], [2.0, 2.0], [3.0, 1.0]])
    binned = bin_clips(selection_of(votes))
    assert binned.numbers.tolist() == [0, 2, 3, 4]
    assert [clip.id for clip in binned.judged.clips] == ["s0", "s2", "s3", "s4"]
    assert binned.judged.votes.sum(axis=1).tolist() == [4, 3, 2, 2]
    assert (binned.judged.votes <= votes[binned.numbers]).all()
    assert [panel.size for panel in binned.judged.panels] == [4, 3, 2, 2]
    assert "judged by the others; in no bin: 1 clip with fewer than 4 known raters" in binned.note
    assert np.sum([b.members for b in binned.bins], axis=0).tolist() == [1, 1, 1, 1]


def test_raters_who_split_their_vote_make_bins_with_whole_ballots():
    panel = Panel(((0.5, 0.5, 0.0), (0.0, 0.0, 1.0)), (3, 3))
    binned = bin_clips(rated_selection([panel] * 20))
    for judges, votes in zip(binned.judged.panels, binned.judged.votes, strict=True):
        assert judges.size == 3
        np.testing.assert_allclose(judges.votes(judges.raters), votes)


def test_bins_of_other_raters_are_blind_to_the_noise_of_the_target():
    votes = np.random.default_rng(0).multinomial(9, [0.5, 0.5], size=4000).astype(float)
    binned = bin_clips(selection_of(votes))
    own = [entropy_bits(shares(votes[b.members])).mean() for b in ambiguity_bins(votes)]
    other = [entropy_bits(shares(binned.judged.votes[b.members])).mean() for b in binned.bins]
    assert max(own) - min(own) > 0.1, "all clips are alike, yet their own votes seem to tell them apart"
    assert max(other) - min(other) < 0.03


@pytest.mark.parametrize("votes", [[[2.0, 1.0], [1.0, 2.0]], [[2.5, 2.5], [4.5, 0.5]]])
def test_small_panels_and_unknown_raters_make_bins_of_the_votes_that_judge_and_say_so(votes):
    binned = bin_clips(selection_of(votes))
    assert binned.judged.votes.tolist() == votes
    assert "the same votes that judge" in binned.note


@pytest.mark.slow
def test_on_crema_d_the_prior_beats_people_in_bins_of_the_votes_that_judge_and_not_in_bins_of_others(crema_d_selection):
    selection = crema_d_selection
    prior = np.broadcast_to(shares(selection.votes).mean(axis=0), selection.votes.shape)
    own = Binned(ambiguity_bins(selection.votes), selection, np.arange(len(prior)), "")
    by_own_votes, by_others = (
        HeldOutRaters(selection, binned).judge(prior, "jsd_bits")[-1] for binned in (own, bin_clips(selection))
    )
    assert by_own_votes.human_minus_prior.low > 0.05
    assert by_others.human_minus_prior.value < 0

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import entropy

from ambi_eval.votes import (
    Panel,
    entropy_bits,
    majority,
    mean_of_others,
    noise_of_whole_votes,
    panel_of,
    select_labels,
    shares,
)

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


@pytest.mark.parametrize(
    ("ratings", "votes", "ballots"),
    [
        ([["angry"], ["happy", "sad"]], [1, 0.5, 0.5], {(1, 0, 0): 1, (0, 0.5, 0.5): 1}),
        ([["angry"], ["happy", "sad"], ["sad", "happy"]], [1, 1, 1], {(1, 0, 0): 1, (0, 0.5, 0.5): 2}),
        ([["angry"], ["happy", "sad"]], [1, 1, 1], {(1, 0, 0): 1, (0, 1, 1): 1}),
        ([["excited", "happy"], ["sad"]], [0, 1, 1], {(0, 1, 0): 1, (0, 0, 1): 1}),
        ([["angry", "fear"], ["sad"], ["fear"]], [0.5, 0, 1], {(0.5, 0, 0): 1, (0, 0, 1): 1}),
        ([["angry"], ["angry"], ["sad"]], [2, 0, 1], {(1, 0, 0): 2, (0, 0, 1): 1}),
        ([], [2, 0, 1], {(1, 0, 0): 2, (0, 0, 1): 1}),
    ],
)
def test_single_ratings_tell_which_raters_split_their_vote(ratings, votes, ballots):
    read = panel_of(votes, ratings, ["angry", "happy", "sad"], {"excited": "happy"})
    assert dict(zip(read.ballots, read.raters, strict=True)) == ballots


@pytest.mark.parametrize(("ratings", "votes"), [([], [0.5, 0.5, 1]), ([["angry", "sad"], ["sad"]], [1, 0, 0])])
def test_votes_that_no_single_ratings_add_up_to_have_no_panel(ratings, votes):
    assert panel_of(votes, ratings, ["angry", "happy", "sad"], {"excited": "happy"}) is None


BALLOTS = st.lists(
    st.sampled_from([(1.0, 0, 0), (0, 1.0, 0), (0, 0.5, 0.5), (1 / 3, 1 / 3, 1 / 3)]), min_size=2, max_size=6
)


@given(BALLOTS, arrays(float, 3, elements=st.floats(0.01, 1)).map(shares))
def test_the_squared_error_less_the_noise_is_the_mean_over_pairs_of_different_ballots(ballots, p):
    panel = Panel(tuple(ballots), (1,) * len(ballots))
    pairs = [(p - a) @ (p - b) for a, b in permutations(np.array(ballots), 2)]
    q = shares(panel.votes(panel.raters))
    assert np.square(p - q).sum() - panel.noise(panel.raters) == pytest.approx(np.mean(pairs))


@given(st.lists(st.integers(0, 5), min_size=3, max_size=3).filter(lambda votes: sum(votes) > 1))
def test_the_noise_of_whole_votes_is_that_of_their_panel(votes):
    panel = panel_of(votes, [], ["a", "b", "c"], {})
    assert noise_of_whole_votes(votes) == pytest.approx(panel.noise(panel.raters))


@pytest.mark.parametrize("weights", [[1.0], [0.5, 1.0], [1.0, 2.0]])
def test_the_noise_is_the_expected_squared_distance_of_a_panel_from_infinitely_many_raters(weights):
    rng = np.random.default_rng(0)
    kinds = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0.5, 0.5], [0, 0, 1.0]])
    ballots = np.concatenate([weight * kinds for weight in weights])
    chance = shares(rng.random(len(ballots)))
    truth = shares(chance @ ballots)
    panel = Panel(tuple(map(tuple, ballots.tolist())), (1,) * len(ballots))
    hands = rng.multinomial(12, chance, 40_000)
    distance = np.square(shares(panel.votes(hands)) - truth).sum(axis=1).mean()
    tolerance = 0.01 if len(weights) == 1 else 0.03  # where raters weigh differently the estimate is for large panels
    assert panel.noise(hands).mean() == pytest.approx(distance, rel=tolerance)


@pytest.mark.parametrize("hands", [[0, 0], [1, 0]])
def test_fewer_than_two_raters_do_not_show_how_much_raters_differ(hands):
    assert np.isnan(Panel(((1.0, 0.0), (0.0, 1.0)), (2, 2)).noise(hands))


@pytest.mark.parametrize("within", [None, ["s", "s", "t", "t", "s", "t"]])
def test_the_mean_of_others_leaves_out_the_clip_s_own_cluster(within):
    values = np.random.default_rng(0).dirichlet([1, 1], 6)
    clusters = ["a", "a", "a", "b", "b", "c"]
    means = mean_of_others(values, clusters, within)
    for clip in range(6):
        others = [
            values[other]
            for other in range(6)
            if clusters[other] != clusters[clip] and (within is None or within[other] == within[clip])
        ]
        np.testing.assert_allclose(means[clip], np.mean(others, axis=0))


def test_the_mean_of_no_others_is_undefined():
    assert np.isnan(mean_of_others(np.ones((2, 3)), ["a", "a"])).all()

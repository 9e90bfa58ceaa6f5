"""Ranks and their intervals, against resampling one cluster at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambi_eval.leaderboard.ranks import Rank, rank_intervals

SPEAKERS = [f"s{number}" for number in range(10) for _ in range(5)]


def test_systems_that_are_far_apart_have_one_rank_and_close_ones_several():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.05, (3, 50))
    far = rank_intervals(np.array([[0.9], [0.1], [0.5]]) + noise, SPEAKERS)
    assert far == [Rank(3, 3, 3), Rank(1, 1, 1), Rank(2, 2, 2)]
    close = rank_intervals(0.5 + noise, SPEAKERS)
    assert {(rank.low, rank.high) for rank in close} == {(1, 3)}


def test_equal_systems_share_a_rank():
    errors = np.random.default_rng(1).random((1, 50))
    assert rank_intervals(np.vstack([errors, errors, errors + 1]), SPEAKERS) == [
        Rank(1, 1, 1),
        Rank(1, 1, 1),
        Rank(3, 3, 3),
    ]


def test_a_paired_difference_counts_not_the_spread_of_the_clips():
    hard = np.random.default_rng(2).random(50)
    better, worse = hard, hard + 0.001
    assert rank_intervals(np.vstack([worse, better]), SPEAKERS) == [Rank(2, 2, 2), Rank(1, 1, 1)]


def test_one_cluster_says_nothing_about_other_speakers():
    assert rank_intervals(np.array([[0.1, 0.2], [0.9, 0.8]]), ["a", "a"]) == [Rank(1, 1, 2), Rank(2, 1, 2)]


def test_it_is_the_bootstrap_that_draws_speakers_one_by_one():
    rng = np.random.default_rng(3)
    errors = rng.normal([[0.50], [0.52], [0.56], [0.70]], 0.1, (4, 50)).clip(0, 1)
    clips_of = {name: [i for i, speaker in enumerate(SPEAKERS) if speaker == name] for name in set(SPEAKERS)}
    names = sorted(clips_of)
    ranks = []
    for _ in range(4000):
        clips = [clip for name in rng.choice(names, len(names)) for clip in clips_of[name]]
        ranks.append(errors[:, clips].mean(axis=1).argsort().argsort() + 1)
    # The percentiles of Student's t with 9 degrees of freedom on a normal scale, as documented.
    low, high = np.quantile(ranks, [0.0086, 0.9914], axis=0)
    found = rank_intervals(errors, SPEAKERS)
    assert [rank.low for rank in found] == pytest.approx(low.tolist(), abs=1)
    assert [rank.high for rank in found] == pytest.approx(high.tolist(), abs=1)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 1000))
def test_a_rank_lies_in_its_interval_and_that_among_the_systems(systems, clusters, seed):
    errors = np.random.default_rng(seed).random((systems, 3 * clusters))
    ranks = rank_intervals(errors, [str(clip % clusters) for clip in range(3 * clusters)])
    assert all(1 <= rank.low <= rank.value <= rank.high <= systems for rank in ranks)
    assert sorted(rank.value for rank in ranks) == list(range(1, systems + 1))

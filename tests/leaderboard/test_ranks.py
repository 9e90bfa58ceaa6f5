"""Ranks and their intervals on simulated systems."""

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


@pytest.mark.parametrize("systems", [5, 10, 20])
def test_among_equal_systems_every_rank_stays_possible(systems):
    rng = np.random.default_rng(systems)
    narrow = 0
    for _ in range(100):
        errors = rng.normal(size=(systems, 10)).repeat(5, axis=1) + rng.normal(size=(systems, 50))
        narrow += any((rank.low, rank.high) != (1, systems) for rank in rank_intervals(errors, SPEAKERS))
    assert narrow / 100 <= 0.07


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 1000))
def test_a_rank_lies_in_its_interval_and_that_among_the_systems(systems, clusters, seed):
    errors = np.random.default_rng(seed).random((systems, 3 * clusters))
    ranks = rank_intervals(errors, [str(clip % clusters) for clip in range(3 * clusters)])
    assert all(1 <= rank.low <= rank.value <= rank.high <= systems for rank in ranks)
    assert sorted(rank.value for rank in ranks) == list(range(1, systems + 1))

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, hypergeom
from support.selections import selection_of

from ambi_eval.analysis.references import panels
from ambi_eval.analysis.references.panels import full_panels, resampled_panels, split_panels, tied_labels
from ambi_eval.metrics import METRICS
from ambi_eval.votes import Panel, panel_of, shares

LABELS = ["angry", "happy", "sad"]
JSD = METRICS["jsd_bits"]
COUNTS = st.lists(st.integers(0, 4), min_size=3, max_size=3).filter(any)


def panel(*votes):
    return panel_of(votes, [], LABELS, {})


def one_by_one(votes):
    return [np.eye(len(votes))[label] for label, n in enumerate(votes) for _ in range(n)]


@pytest.mark.parametrize(
    ("votes", "guessers"),
    [((3, 1, 2), 1), ((3, 1, 2), 3), ((5, 0, 0), 2), ((2, 2, 2), 4), ((1, 1, 0), 1), ((0, 7, 1), 4)],
)
def test_expectations_over_deals_equal_the_mean_over_all_choices_of_raters(votes, guessers):
    raters = one_by_one(votes)
    expected = []
    for chosen in combinations(range(len(raters)), guessers):
        given_votes = sum(raters[i] for i in chosen)
        expected.append(JSD.per_clip(shares(given_votes), np.array(votes) - given_votes))
    trials = split_panels([panel(*votes)], lambda _: guessers)
    scores = JSD.per_clip(shares(trials.given), trials.votes)
    np.testing.assert_allclose(trials.expected(scores), [np.mean(expected)])


def test_a_panel_of_more_raters_than_a_float_has_binomials_for_is_dealt_exactly():
    trials = split_panels([panel(1500, 100, 0)], lambda n: n // 2)
    wanted = hypergeom.pmf(trials.given[:, 1], 1600, 100, 800)
    np.testing.assert_allclose(trials.probability, wanted, rtol=1e-8)
    assert trials.probability.sum() == pytest.approx(1)


@pytest.mark.parametrize("votes", [(2, 1, 0), (1, 1, 1), (3, 0, 0), (2, 1, 2)])
def test_expectations_over_redrawn_panels_equal_the_mean_over_all_sequences_of_raters(votes):
    raters = one_by_one(votes)
    every = [sum(drawn) for drawn in product(raters, repeat=len(raters))]
    trials = resampled_panels([panel(*votes)])
    scores = JSD.per_clip(shares(trials.given), trials.votes)
    np.testing.assert_allclose(trials.expected(scores), [JSD.per_clip(shares(votes), np.array(every)).mean()])


@given(st.lists(COUNTS, min_size=1, max_size=5), st.integers(1, 4))
def test_deals_give_each_rater_the_same_chance_and_share_out_all_votes(votes, guessers):
    trials = split_panels([panel(*row) for row in votes], lambda _: guessers)
    enough = [clip for clip, row in enumerate(votes) if sum(row) > guessers]
    if trials is None:
        assert not enough
        return
    assert trials.clips.tolist() == enough
    q = shares(np.array(votes)[enough])
    np.testing.assert_allclose(trials.expected(np.ones(len(trials.votes))), 1)
    for label in range(3):
        np.testing.assert_allclose(trials.expected(trials.given[:, label]) / guessers, q[:, label])
        whole = trials.given[:, label] + trials.votes[:, label]
        np.testing.assert_allclose(trials.expected(whole), np.array(votes)[enough, label])


def test_too_many_cases_are_drawn_at_random_from_large_panels_only(monkeypatch):
    small, large = panel(2, 1, 0), panel(40, 30, 30)
    exact = split_panels([small, large], lambda n: n // 2), resampled_panels([small, large])
    monkeypatch.setattr(panels, "MOST_CASES", 1000)
    drawn = split_panels([small, large], lambda n: n // 2), resampled_panels([small, large])
    for all_cases, some_cases in zip(exact, drawn, strict=True):
        assert len(some_cases.votes) == 500 + all_cases.first[1]
        assert len(all_cases.votes) != len(some_cases.votes)
        wanted, got = (t.expected(JSD.per_clip(shares(t.given), t.votes)) for t in (all_cases, some_cases))
        assert got[0] == wanted[0]
        assert got[1] == pytest.approx(wanted[1], rel=0.1)
    np.testing.assert_array_equal(split_panels([small, large], lambda n: n // 2).votes, drawn[0].votes)


def test_one_rater_of_a_huge_panel_is_exact_and_its_halves_are_random_cases(monkeypatch):
    monkeypatch.setattr(panels, "MOST_RANDOM", 50)
    huge = [panel(300_000, 200_000, 100_000)]
    one = split_panels(huge, lambda _: 1)
    assert one.given.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    np.testing.assert_allclose(one.probability, [1 / 6, 1 / 3, 1 / 2])
    assert len(split_panels(huge, lambda n: n // 2).votes) == len(resampled_panels(huge).votes) == 50


def test_one_rater_of_a_panel_whose_splits_exceed_64_bits_is_exact():
    kinds = tuple(tuple(float(one == other) for other in range(12)) for one in range(12))
    trials = split_panels([Panel(kinds, (60,) * 12)], lambda _: 1)
    np.testing.assert_allclose(trials.probability, [1 / 12] * 12)


def test_tied_labels_are_equally_likely():
    trials = tied_labels(selection_of([[2.0, 2, 1], [0, 0, 3], [1, 1, 1]]))
    assert trials.given.tolist() == np.eye(3)[[0, 1, 2, 0, 1, 2]].tolist()
    np.testing.assert_allclose(trials.probability, [1 / 2, 1 / 2, 1, 1 / 3, 1 / 3, 1 / 3])


def test_draws_follow_the_probabilities_and_stay_in_their_panel():
    trials = split_panels([panel(3, 1, 2), panel(0, 1, 1), panel(3, 1, 2)], lambda _: 1)
    rng = np.random.default_rng(0)
    rows = np.array([trials.draw(rng) for _ in range(3000)])
    assert (np.sort(np.unique(rows[:, 1])) == np.arange(trials.first[1], trials.first[1] + 2)).all()
    for clip in (0, 2):
        counts = np.bincount(rows[:, clip], minlength=3)
        assert chisquare(counts, 3000 * trials.probability[:3]).pvalue > 0.001
    assert (rows[:, 0] != rows[:, 2]).any()  # clips with the same panel draw on their own


def test_certain_trials_are_the_votes_of_the_clips_kept():
    trials = full_panels(selection_of([[1.0, 2], [3, 0], [0, 1]]), np.array([0, 2]))
    assert not trials.random
    assert trials.clips.tolist() == [0, 2]
    assert trials.expected(trials.votes[:, 1]).tolist() == [2, 1]
    assert trials.draw(np.random.default_rng(0)).tolist() == [0, 1]


def test_raters_who_split_votes_are_dealt_whole():
    split = Panel(ballots=((0.5, 0.5), (1.0, 0.0)), raters=(1, 1))
    trials = split_panels([None, split], lambda _: 1)
    assert trials.clips.tolist() == [1]
    assert sorted(trials.given.tolist()) == [[0.5, 0.5], [1.0, 0.0]]


def test_without_a_panel_nothing_is_redrawn():
    assert resampled_panels([None]) is None

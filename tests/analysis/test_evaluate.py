from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.selections import rated_selection, selection_of

from ambi_eval.analysis.estimate import from_influence
from ambi_eval.analysis.evaluate import WORTH, Scorer
from ambi_eval.analysis.references.panels import full_panels, split_panels, tied_labels
from ambi_eval.metrics import METRICS
from ambi_eval.votes import Panel, shares

RNG = np.random.default_rng(0)
VOTES = RNG.multinomial(7, RNG.dirichlet([1, 1, 1], 60)).astype(float)
CLUSTERS = [f"speaker {number % 6}" for number in range(60)]
P = RNG.dirichlet([1, 1, 1], 60)
SELECTION = selection_of(VOTES, CLUSTERS)


@pytest.mark.parametrize("name", METRICS)
def test_a_certain_prediction_scores_what_the_metric_says_over_all_clips_and_in_each_bin(name):
    p = P.copy()
    p[::9] = np.nan  # without a valid answer
    first = np.arange(60) < 20
    overall, *bins = Scorer(SELECTION, [first, ~first]).score(full_panels(SELECTION), p)
    for scores, clips in ((overall, np.full(60, True)), (bins[0], first), (bins[1], ~first)):
        assert scores[name].value == pytest.approx(METRICS[name].value(p[clips], VOTES[clips]))


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.influence(P, VOTES) is not None])
def test_intervals_come_from_the_influence_of_each_clip(name):
    (scores,) = Scorer(SELECTION).score(full_panels(SELECTION), P)
    metric = METRICS[name]
    expected = from_influence(metric.value(P, VOTES), metric.influence(P, VOTES), CLUSTERS, metric.bounds(3))
    low, high = metric.bounds(3)
    assert low <= scores[name].low < scores[name].value < scores[name].high <= high
    np.testing.assert_allclose([scores[name].low, scores[name].high], [expected.low, expected.high])


@pytest.mark.parametrize("name", ["ece_votes", "ece_majority", "entropy_rho"])
def test_metrics_without_a_closed_form_have_a_seeded_interval(name):
    (scores,), (again,) = (Scorer(SELECTION).score(full_panels(SELECTION), P) for _ in range(2))
    assert scores[name].low < scores[name].value < scores[name].high
    assert scores[name] == again[name]


@pytest.mark.slow
@settings(deadline=None)
@given(
    arrays(float, st.tuples(st.integers(2, 4), st.just(3)), elements=st.integers(0, 3).map(float)).filter(
        lambda votes: (votes.sum(axis=1) > 2).all()
    )
)
def test_k_raters_are_worth_exactly_k_raters(votes):
    selection = selection_of(votes)
    trials = split_panels(selection.panels, lambda _: 1)
    (scores,) = Scorer(selection).score(trials, shares(trials.given))
    if scores["sq_debiased"].value > 1e-9:
        assert scores[WORTH].value == pytest.approx(1)
    else:
        assert scores[WORTH].value == np.inf or np.isnan(scores[WORTH].value)


def test_two_raters_are_worth_two():
    trials = split_panels(SELECTION.panels, lambda _: 2)
    (scores,) = Scorer(SELECTION).score(trials, shares(trials.given))
    np.testing.assert_allclose([scores[WORTH].value, scores[WORTH].low, scores[WORTH].high], 2)


def test_metrics_of_sets_are_near_their_expectation_over_all_draws():
    votes = np.array([[2.0, 2, 0], [0, 2, 2], [1, 1, 1], [4, 0, 0]])
    selection = selection_of(votes)
    trials = tied_labels(selection)
    picks = [np.flatnonzero(row == row.max()) for row in votes]
    expected = np.mean([METRICS["macro_f1"].value(np.eye(3)[list(pick)], votes) for pick in product(*picks)])
    (scores,) = Scorer(selection).score(trials, trials.given)
    assert scores["macro_f1"].value == pytest.approx(expected, abs=0.05)
    assert scores["acc"].value == pytest.approx((1 / 2 + 1 / 2 + 1 / 3 + 1) / 4)


def test_a_bin_without_a_scored_clip_is_undefined():
    nobody = np.zeros(60, dtype=bool)
    _, scores = Scorer(SELECTION, [nobody]).score(full_panels(SELECTION), P)
    assert all(np.isnan(estimate.value) for estimate in scores.values())


def mixed_ballots(seed, clips=400, splitting=0.2):
    """Panels of nine raters, some of whom split their vote between two labels, who differ from clip to clip."""
    rng = np.random.default_rng(seed)
    one = np.eye(4)
    two = np.array([(one[a] + one[b]) / 2 for a, b in combinations(range(4), 2)])
    ballots = np.concatenate([one, two])
    panels = []
    for truth in rng.dirichlet([0.7] * 4, clips):
        together = np.array([truth[a] * truth[b] for a, b in combinations(range(4), 2)]) + 1e-6
        chance = np.concatenate([(1 - splitting) * truth, splitting * shares(together)])
        raters = rng.multinomial(9, chance)
        kinds = np.flatnonzero(raters)
        panels.append(Panel(tuple(map(tuple, ballots[kinds].tolist())), tuple(raters[kinds].tolist())))
    return rated_selection(panels)


@pytest.mark.parametrize("splitting", [0.0, 0.2, 0.6])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_k_raters_are_worth_k_raters_when_some_split_their_vote(k, splitting):
    selection = mixed_ballots(0, splitting=splitting)
    trials = split_panels(selection.panels, lambda _: k)
    (scores,) = Scorer(selection).score(trials, shares(trials.given))
    assert scores[WORTH].value == pytest.approx(k)


def test_a_perfect_model_scores_zero_when_some_raters_split_their_vote():
    rng = np.random.default_rng(1)
    ballots = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0], [0, 0.5, 0.5]])
    chance = rng.dirichlet([0.5] * 5, 3000)
    raters = [rng.multinomial(5, each) for each in chance]
    panels = [Panel(tuple(map(tuple, ballots.tolist())), tuple(each.tolist())) for each in raters]
    selection = rated_selection(panels)
    (scores,) = Scorer(selection, metrics=["sq_debiased"]).score(full_panels(selection), chance @ ballots)
    assert scores["sq_debiased"].low < 0 < scores["sq_debiased"].high
    assert abs(scores["sq_debiased"].value) < 0.01
    (wrong,) = (METRICS["brier_sum"].value(chance @ ballots, selection.votes),)
    assert wrong > 0.05, "what the noise of the panels adds is far from nothing"


def test_votes_without_single_ballots_have_no_debiased_error():
    selection = selection_of([[1.5, 0.5], [2.5, 1.5]])
    (scores,) = Scorer(selection).score(full_panels(selection), shares(selection.votes))
    assert np.isnan(scores["sq_debiased"].value)
    assert np.isnan(scores[WORTH].value)


def test_a_prediction_that_may_be_perfect_is_worth_at_least_so_many_raters():
    rng = np.random.default_rng(2)
    truth = rng.dirichlet([1, 1, 1], 200)
    selection = selection_of(rng.multinomial(6, truth), [str(number % 20) for number in range(200)])
    (scores,) = Scorer(selection).score(full_panels(selection), truth)
    assert 5 < scores[WORTH].low < np.inf
    assert scores[WORTH].high == np.inf

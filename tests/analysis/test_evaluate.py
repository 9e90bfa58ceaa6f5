from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ambi_eval.analysis.evaluate import WORTH, Scorer
from ambi_eval.analysis.references.panels import Panel, certain, dealt, tied
from ambi_eval.metrics import METRICS
from ambi_eval.metrics.clustered import clustered_standard_error
from ambi_eval.votes import shares

RNG = np.random.default_rng(0)
VOTES = RNG.multinomial(7, RNG.dirichlet([1, 1, 1], 60)).astype(float)
CLUSTERS = [f"speaker {number % 6}" for number in range(60)]
P = RNG.dirichlet([1, 1, 1], 60)
PANELS = [
    Panel(tuple(map(tuple, np.eye(3)[row > 0].tolist())), tuple(row[row > 0].astype(int).tolist())) for row in VOTES
]


@pytest.mark.parametrize("name", METRICS)
def test_a_certain_prediction_scores_what_the_metric_says_over_all_clips_and_in_each_bin(name):
    p = P.copy()
    p[::9] = np.nan  # without a valid answer
    first = np.arange(60) < 20
    overall, *bins = Scorer(VOTES, CLUSTERS, [first, ~first]).score(certain(VOTES), p)
    for scores, clips in ((overall, np.full(60, True)), (bins[0], first), (bins[1], ~first)):
        assert scores[name].value == pytest.approx(METRICS[name].value(p[clips], VOTES[clips]))


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.influence(P, VOTES) is not None])
def test_intervals_come_from_the_influence_of_each_clip(name):
    (scores,) = Scorer(VOTES, CLUSTERS).score(certain(VOTES), P)
    error, _ = clustered_standard_error(METRICS[name].influence(P, VOTES), CLUSTERS)
    assert scores[name].high - scores[name].value == pytest.approx(2.5706 * error, rel=1e-4)  # t of 5 degrees


@pytest.mark.parametrize("name", ["ece_votes", "ece_majority", "entropy_rho"])
def test_metrics_without_a_closed_form_have_a_seeded_interval(name):
    (scores,), (again,) = (Scorer(VOTES, CLUSTERS).score(certain(VOTES), P) for _ in range(2))
    assert scores[name].low < scores[name].value < scores[name].high
    assert scores[name] == again[name]


@settings(deadline=None)
@given(
    arrays(float, st.tuples(st.integers(2, 4), st.just(3)), elements=st.integers(0, 3).map(float)).filter(
        lambda votes: (votes.sum(axis=1) > 2).all()
    )
)
def test_k_raters_are_worth_exactly_k_raters(votes):
    panels = [
        Panel(tuple(map(tuple, np.eye(3)[row > 0].tolist())), tuple(row[row > 0].astype(int).tolist())) for row in votes
    ]
    trials = dealt(panels, lambda _: 1)
    (scores,) = Scorer(votes, ["x"] * len(votes)).score(trials, shares(trials.given))
    if scores["sq_debiased"].value > 1e-9:
        assert scores[WORTH].value == pytest.approx(1)
    else:
        assert np.isnan(scores[WORTH].value)


def test_two_raters_are_worth_two():
    trials = dealt(PANELS, lambda _: 2)
    (scores,) = Scorer(VOTES, CLUSTERS).score(trials, shares(trials.given))
    np.testing.assert_allclose([scores[WORTH].value, scores[WORTH].low, scores[WORTH].high], 2)


def test_metrics_of_sets_are_near_their_expectation_over_all_draws():
    votes = np.array([[2.0, 2, 0], [0, 2, 2], [1, 1, 1], [4, 0, 0]])
    trials = tied(votes)
    picks = [np.flatnonzero(row == row.max()) for row in votes]
    expected = np.mean([METRICS["macro_f1"].value(np.eye(3)[list(pick)], votes) for pick in product(*picks)])
    (scores,) = Scorer(votes, ["a", "b", "c", "d"]).score(trials, trials.given)
    assert scores["macro_f1"].value == pytest.approx(expected, abs=0.05)
    assert scores["acc"].value == pytest.approx((1 / 2 + 1 / 2 + 1 / 3 + 1) / 4)


def test_a_bin_without_a_scored_clip_is_undefined():
    nobody = np.zeros(60, dtype=bool)
    _, scores = Scorer(VOTES, CLUSTERS, [nobody]).score(certain(VOTES), P)
    assert all(np.isnan(estimate.value) for estimate in scores.values())

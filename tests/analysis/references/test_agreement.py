from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.selections import rated_selection, selection_of

from ambi_eval.analysis.references.agreement import krippendorff_alpha, prior_worth
from ambi_eval.metrics import METRICS
from ambi_eval.votes import Panel, shares

# Krippendorff (2011), Computing Krippendorff's alpha-reliability: what each observer says, unit by unit.
BINARY = ["0100000010", "1110010000"]
NOMINAL = ["aabbdcccedda", "babbbccceddd"]
MISSING = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]


def alpha_of(votes):
    rated = [row for row in np.asarray(votes, dtype=float) if row.any()]
    return krippendorff_alpha(selection_of(rated).panels) if rated else krippendorff_alpha([])


def worth_of(votes):
    selection = selection_of(votes)
    return prior_worth(selection.votes, selection.noise, selection.one_rater)


def votes_of(observers):
    values = sorted(set("".join(observers)) - {"."})
    return [[sum(o[unit] == value for o in observers) for value in values] for unit in range(len(observers[0]))]


@pytest.mark.parametrize(("observers", "alpha"), [(BINARY, 0.095), (NOMINAL, 0.692), (MISSING, 0.743)])
def test_alpha_of_the_worked_examples_of_krippendorff(observers, alpha):
    assert krippendorff_alpha(selection_of(votes_of(observers)).panels) == pytest.approx(alpha, abs=5e-4)


@given(arrays(float, st.tuples(st.integers(2, 8), st.just(3)), elements=st.integers(0, 4).map(float)))
def test_alpha_is_one_minus_observed_over_chance_disagreement_of_pairs(votes):
    units = [[label for label, n in enumerate(row) for _ in range(int(n))] for row in votes]
    units = [unit for unit in units if len(unit) > 1]
    everyone = [vote for unit in units for vote in unit]
    chance = np.mean([a != b for a, b in combinations(everyone, 2)]) if len(everyone) > 1 else 0
    if chance == 0:
        assert np.isnan(alpha_of(votes))
        return
    observed = sum(len(unit) * np.mean([a != b for a, b in combinations(unit, 2)]) for unit in units) / len(everyone)
    assert alpha_of(votes) == pytest.approx(1 - observed / chance)


@pytest.mark.parametrize("votes", [[[1, 0], [0, 1]], [[3, 0], [5, 0]]])
def test_alpha_is_undefined_without_pairs_or_with_one_label(votes):
    assert np.isnan(alpha_of(votes))


@given(arrays(float, 4, elements=st.integers(0, 5).map(float)).filter(lambda votes: votes.sum() > 2))
def test_the_error_of_one_rater_is_the_mean_over_raters_of_sq_debiased_against_the_others(votes):
    error = sum(
        n * METRICS["sq_debiased"].per_clip(np.eye(4)[label], votes - np.eye(4)[label])
        for label, n in enumerate(votes)
        if n
    )
    assert selection_of([votes]).one_rater[0] == pytest.approx(error / votes.sum())


def test_a_single_vote_says_nothing_about_the_error_of_one_rater():
    assert np.isnan(selection_of([[0, 1]]).one_rater[0])
    assert np.isnan(worth_of([[0, 1], [1, 0]]))


@pytest.mark.parametrize("concentration", [0.5, 2.0, 6.0])
def test_the_prior_is_worth_the_concentration_of_dirichlet_distributed_clips(concentration):
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(concentration * np.array([0.5, 0.3, 0.2]), 20_000)
    votes = rng.multinomial(9, truth)
    assert worth_of(votes) == pytest.approx(concentration, rel=0.05)


@pytest.mark.slow
def test_the_worth_of_the_prior_is_the_best_number_of_pseudo_votes_on_other_raters(crema_d_selection):
    rng = np.random.default_rng(0)
    votes = crema_d_selection.votes
    given_votes = rng.multivariate_hypergeometric
    guess = np.array([given_votes(row, int(row.sum()) // 2) for row in votes.astype(int)])
    prior, best = shares(votes).mean(axis=0), worth_of(votes)
    error = [METRICS["sq_debiased"].value(shares(guess + k * prior), votes - guess) for k in (best / 2, best, 2 * best)]
    assert error[1] == min(error)
    assert best == pytest.approx(2.59, abs=0.01)


SPLIT = [
    Panel(((1.0, 0.0, 0.0), (0.5, 0.5, 0.0)), (2, 1)),
    Panel(((0.0, 0.0, 1.0), (0.0, 0.5, 0.5), (1 / 3, 1 / 3, 1 / 3)), (1, 2, 1)),
    Panel(((0.0, 1.0, 0.0),), (3,)),
]


def test_alpha_of_split_ballots_is_one_minus_observed_over_chance_disagreement_of_all_pairs():
    clips = [np.repeat(panel.ballots, panel.raters, axis=0) for panel in SPLIT]
    disagree = [[np.square(a - b).sum() / 2 for a, b in combinations(clip, 2)] for clip in clips]
    everyone = np.concatenate(clips)
    observed = sum(len(clip) * np.mean(each) for clip, each in zip(clips, disagree, strict=True)) / len(everyone)
    chance = np.mean([np.square(a - b).sum() / 2 for a, b in combinations(everyone, 2)])
    assert krippendorff_alpha(SPLIT) == pytest.approx(1 - observed / chance)
    assert krippendorff_alpha([*SPLIT, None]) == pytest.approx(1 - observed / chance)


def test_the_error_of_one_rater_who_may_split_the_vote_is_that_against_the_other_ballots():
    for panel in SPLIT:
        ballots = np.repeat(panel.ballots, panel.raters, axis=0)
        errors = []
        for number, ballot in enumerate(ballots):
            others = np.delete(ballots, number, axis=0)
            errors.append(np.mean([(ballot - a) @ (ballot - b) for a, b in combinations(others, 2)]))
        assert rated_selection([panel]).one_rater[0] == pytest.approx(np.mean(errors))

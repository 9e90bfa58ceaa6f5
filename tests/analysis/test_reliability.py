"""Reliability and detection of ambiguous clips, against scikit-learn and on simulated speakers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ambi_eval.analysis.reliability import ambiguity_auroc, reliability_curve
from ambi_eval.metrics import METRICS
from ambi_eval.votes import entropy_bits, shares


def clips(seed, n=200):
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet([0.6] * 4, n)
    votes = np.array([rng.multinomial(8, t) for t in truth])
    p = shares(0.7 * truth + 0.3 * rng.dirichlet([1.0] * 4, n))
    return p, votes, (np.arange(n) // 10).astype(str)


@given(st.integers(0, 1000))
def test_the_curve_holds_what_the_calibration_error_is_made_of(seed):
    p, votes, clusters = clips(seed)
    curve = reliability_curve(p, votes, clusters)
    assert sum(b.clips for b in curve) == len(p)
    gap = sum(b.clips * abs(b.confidence - b.agreement.value) for b in curve) / len(p)
    assert gap == pytest.approx(METRICS["ece_votes"].value(p, votes), abs=1e-12)


def test_a_perfect_prediction_lies_on_the_diagonal():
    _, votes, clusters = clips(1)
    for b in reliability_curve(shares(votes), votes, clusters):
        assert b.confidence == pytest.approx(b.agreement.value)
        assert b.low < b.confidence <= b.high + 1e-9


def test_invalid_predictions_are_in_no_bin():
    p, votes, clusters = clips(2)
    p[:7] = np.nan
    assert sum(b.clips for b in reliability_curve(p, votes, clusters)) == len(p) - 7


@given(st.integers(0, 1000), st.sampled_from([1, 2, 9]))
def test_the_area_is_that_of_scikit_learn(seed, digits):
    p, votes, clusters = clips(seed)
    p = np.round(p, digits)  # with one digit many entropies tie
    ambiguous = entropy_bits(shares(votes)) > 1
    area = ambiguity_auroc(p, ambiguous, clusters).value
    assert area == pytest.approx(roc_auc_score(ambiguous, np.round(entropy_bits(p), 9)), abs=1e-12)


@pytest.mark.parametrize(("invalid", "expected"), [("ambiguous", 0.5), ("clear", 0.5), ("all", 0.0)])
def test_failing_never_pays(invalid, expected):
    ambiguous = np.array([True, True, False, False])
    p = np.array([[0.5, 0.5], [0.6, 0.4], [0.9, 0.1], [1.0, 0.0]])
    assert ambiguity_auroc(p, ambiguous, list("abcd")).value == 1
    rows = {"ambiguous": [0], "clear": [3], "all": [0, 1, 2, 3]}[invalid]
    p[rows] = np.nan
    assert ambiguity_auroc(p, ambiguous, list("abcd")).value == expected


def test_a_constant_cannot_tell_and_one_kind_of_clip_gives_no_area():
    constant = np.full((4, 2), 0.5)
    assert ambiguity_auroc(constant, np.array([True, False, True, False]), list("abcd")).value == 0.5
    assert np.isnan(ambiguity_auroc(constant, np.ones(4, dtype=bool), list("abcd")).value)


def test_the_interval_of_the_area_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(3)
    speaker = np.repeat(np.arange(40), 10)
    hits, truth = 0, 0.760250  # Phi(1 / sqrt(2)): two normal variables one standard deviation apart
    for _ in range(300):
        ambiguous = rng.random(400) < 0.4
        # Speakers differ in how ambiguous they sound; spread 0.6 and 0.8 make a variance of 1.
        sounds = 0.6 * rng.normal(size=40)[speaker] + 0.8 * rng.normal(size=400) + ambiguous
        share = 0.5 / (1 + np.exp(-sounds))  # rising in `sounds`, and entropy rises with it up to one half
        estimate = ambiguity_auroc(np.column_stack([share, 1 - share]), ambiguous, speaker.astype(str))
        hits += estimate.low <= truth <= estimate.high
    assert 0.92 <= hits / 300 <= 0.98

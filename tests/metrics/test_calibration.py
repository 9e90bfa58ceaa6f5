from __future__ import annotations

import math
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import spearmanr
from sklearn.calibration import calibration_curve

from ambi_eval.metrics import METRICS
from ambi_eval.metrics.calibration import (
    entropy_correlation,
    expected_calibration_error_majority,
    expected_calibration_error_votes,
)
from ambi_eval.votes import entropy_bits, shares

NAN = [math.nan, math.nan]
PERMUTED = list(permutations([1, 3, 5]))  # one entropy, in two versions that differ by rounding


def soft_clips(seed: int, clips: int = 40, labels: int = 4):
    rng = np.random.default_rng(seed)
    return rng.dirichlet([0.7] * labels, clips), rng.multinomial(7, [1 / labels] * labels, clips)


@pytest.mark.parametrize("bins", [5, 10, 15])
def test_the_majority_error_equals_scikit_learn_without_ties(bins):
    p, _ = soft_clips(seed=0, clips=500)
    truth = np.random.default_rng(1).integers(4, size=500)
    confidence, right = p.max(axis=-1), p.argmax(axis=-1) == truth
    hit_rate, mean_confidence = calibration_curve(right, confidence, n_bins=bins)
    weight, _ = np.histogram(confidence, bins=bins, range=(0, 1))
    expected = weight[weight > 0] / 500 @ np.abs(hit_rate - mean_confidence)
    assert_allclose(expected_calibration_error_majority(p, 3 * np.eye(4)[truth], bins), expected)


@pytest.mark.parametrize(
    ("p", "votes", "against_share", "against_majority"),
    [
        pytest.param([[0.8, 0.2]], [[4, 1]], 0.0, 0.2, id="a perfect prediction"),
        pytest.param([[0.8, 0.2]], [[1, 4]], 0.6, 0.8, id="sure of the wrong label"),
        pytest.param([[0.5, 0.5]], [[4, 0]], 0.0, 0.0, id="tied tops take the mean of their shares"),
        pytest.param([[0.75, 0.25]], [[2, 2]], 0.25, 0.25, id="tied raters are half right"),
        pytest.param([[0.65, 0.35], [0.7, 0.3]], [[1, 0], [1, 4]], 0.075, 0.175, id="one bin: errors cancel"),
        pytest.param([[0.65, 0.35], [0.75, 0.25]], [[1, 0], [1, 4]], 0.45, 0.55, id="two bins: they do not"),
        pytest.param([[0.7, 0.3], [0.1 * 7, 0.3]], [[4, 1], [3, 2]], 0.0, 0.3, id="0.7000000000000001 is 0.7"),
        pytest.param([NAN], [[4, 1]], 1.0, 1.0, id="no prediction at all"),
        pytest.param([[0.8, 0.2], NAN], [[5, 0], [4, 1]], 0.6, 0.6, id="does not make up for underconfidence"),
    ],
)
def test_calibration_error_of(p, votes, against_share, against_majority):
    assert expected_calibration_error_votes(p, votes) == pytest.approx(against_share, abs=1e-12)
    assert expected_calibration_error_majority(p, votes) == pytest.approx(against_majority, abs=1e-12)


def test_the_votes_themselves_are_calibrated_against_the_share_of_raters_only():
    _, votes = soft_clips(seed=2, clips=200)
    assert expected_calibration_error_votes(shares(votes), votes) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error_majority(shares(votes), votes) > 0.2


@pytest.mark.parametrize("raters", [2, 5, 30])
def test_the_entropy_correlation_equals_scipy_with_ties(raters):
    rng = np.random.default_rng(raters)
    p, votes = rng.multinomial(5, [0.3] * 3 + [0.1], 80) / 5, rng.multinomial(raters, [0.4, 0.3, 0.2, 0.1], 80)
    entropies = np.round(entropy_bits(p), 9), np.round(entropy_bits(shares(votes)), 9)
    assert entropy_correlation(p, votes) == pytest.approx(spearmanr(*entropies).statistic, abs=1e-12)


@pytest.mark.parametrize(
    ("p", "votes"),
    [
        pytest.param([[0.7, 0.3], [0.3, 0.7], [0.7, 0.3]], [[3, 0], [2, 1], [1, 1]], id="equally sure of all clips"),
        pytest.param(shares(PERMUTED), [[4, 1, c] for c in range(6)], id="equally sure but for the last digit"),
        pytest.param(shares([[4, 1, c] for c in range(6)]), PERMUTED, id="equally ambiguous but for the last digit"),
        pytest.param([[0.7, 0.3], [0.6, 0.4], [0.9, 0.1]], [[3, 0], [0, 3], [3, 0]], id="no clip is ambiguous"),
        pytest.param([NAN, NAN, NAN], [[3, 0], [0, 3], [3, 0]], id="no clip is ambiguous nor predicted"),
        pytest.param([[0.7, 0.3]], [[3, 1]], id="a single clip"),
    ],
)
def test_the_entropy_correlation_is_undefined_where(p, votes):
    assert math.isnan(entropy_correlation(p, votes))


def test_without_any_prediction_the_entropy_correlation_is_minus_one():
    assert entropy_correlation([NAN] * 4, [[3, 0], [2, 1], [1, 1], [9, 1]]) == pytest.approx(-1)


@pytest.mark.parametrize("seed", range(12))
def test_missing_predictions_take_the_entropies_that_correlate_least(seed):
    rng = np.random.default_rng(seed)
    p, votes = rng.dirichlet([1.0] * 3, 7), rng.multinomial(4, [0.5, 0.3, 0.2], 7)
    p[5] = p[4]  # two valid predictions tie
    human, predicted = entropy_bits(shares(votes)).round(9), entropy_bits(p)
    missing = rng.choice(7, size=3, replace=False)
    p[missing] = np.nan
    levels = np.unique(predicted[np.isfinite(p).all(axis=-1)])
    gaps = [levels[0] - 1, *(levels[:-1] + levels[1:]) / 2, levels[-1] + 1]
    scores = []
    for places in product(gaps, repeat=3):
        for order in ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]):
            predicted[missing] = np.array(places) + 1e-6 * np.array(order)
            scores.append(spearmanr(predicted, human).statistic)
    assert entropy_correlation(p, votes) == pytest.approx(min(scores), abs=1e-9)


@given(seed=st.integers(0, 10_000), failures=st.integers(1, 8), bins=st.sampled_from([1, 10]))
def test_failing_never_lowers_a_calibration_error(seed, failures, bins):
    p, votes = soft_clips(seed, clips=8)
    failed = p.copy()
    failed[:failures] = np.nan
    for error in (expected_calibration_error_votes, expected_calibration_error_majority):
        assert error(failed, votes, bins) >= error(p, votes, bins) - 1e-12


@given(seed=st.integers(0, 10_000), failures=st.integers(1, 11))
def test_failing_never_raises_the_entropy_correlation(seed, failures):
    p, votes = soft_clips(seed, clips=12)
    complete = entropy_correlation(p, votes)
    p[:failures] = np.nan
    assert entropy_correlation(p, votes) <= complete + 1e-12


@pytest.mark.parametrize("name", ["ece_votes", "ece_majority", "ece_majority_5", "entropy_rho"])
@pytest.mark.parametrize("failures", [0, 3])
def test_a_clip_that_counts_twice_is_two_clips(name, failures):
    p, votes = soft_clips(seed=4, clips=30)
    p, votes = np.vstack([p, p[:5]]), np.vstack([votes, votes[5:10]])  # ties in the prediction
    p[:failures] = np.nan
    weights = np.random.default_rng(5).integers(0, 4, (6, len(p)))
    rows = [np.repeat(np.arange(len(p)), each) for each in weights]
    expected = [METRICS[name].value(p[clips], votes[clips]) for clips in rows]
    assert METRICS[name].resampled(p, votes, weights) == pytest.approx(expected, abs=1e-12)

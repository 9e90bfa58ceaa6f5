from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from scipy.spatial.distance import jensenshannon
from scipy.stats import energy_distance, entropy, multinomial, pearsonr

from ambi_eval.metrics.distribution import (
    NLL_FLOOR,
    bhattacharyya_coefficient,
    brier_mean,
    brier_sum,
    jensen_shannon_distance_nats,
    jensen_shannon_divergence_bits,
    negative_log_likelihood_bits,
    pearson_r,
    pearson_r_squared,
    ranked_probability_score,
    squared_error_debiased,
)
from ambi_eval.votes import entropy_bits, shares

PER_CLIP = [
    jensen_shannon_divergence_bits,
    jensen_shannon_distance_nats,
    bhattacharyya_coefficient,
    pearson_r,
    pearson_r_squared,
    negative_log_likelihood_bits,
    brier_sum,
    brier_mean,
    ranked_probability_score,
    squared_error_debiased,
]
SYMMETRIC = [f for f in PER_CLIP if f not in (negative_log_likelihood_bits, squared_error_debiased)]
UNORDERED = [f for f in PER_CLIP if f is not ranked_probability_score]
THIRD = 1 / 3


def panels(raters: int, labels: int) -> np.ndarray:
    """Every way in which so many raters can vote, shape (panels, labels)."""
    return np.array([v for v in product(range(raters + 1), repeat=labels) if sum(v) == raters])


@st.composite
def predictions_and_votes(draw, min_votes=1):
    labels = draw(st.integers(2, 9))
    weights = draw(arrays(float, labels, elements=st.floats(0, 1)).filter(lambda w: w.sum() > 1e-3))
    votes = draw(arrays(int, labels, elements=st.integers(0, 12)).filter(lambda v: v.sum() >= min_votes))
    return weights / weights.sum(), votes


@pytest.fixture(scope="module")
def random_clips():
    """Soft and sparse predictions with votes: shape (300, 5) each."""
    rng = np.random.default_rng(7)
    p = np.concatenate([rng.dirichlet([2.0] * 5, 150), rng.multinomial(4, [0.4, 0.3, 0.2, 0.1, 0.0], 150) / 4])
    return p, rng.multinomial(9, rng.dirichlet([0.6] * 5), 300)


@pytest.mark.parametrize(
    ("metric", "reference"),
    [
        (jensen_shannon_divergence_bits, lambda p, q: jensenshannon(p, q, base=2) ** 2),
        (jensen_shannon_distance_nats, jensenshannon),
        # The energy distance of numbers one apart is twice the integral of the squared difference of their CDFs.
        (ranked_probability_score, lambda p, q: energy_distance(range(5), range(5), p, q) ** 2 / 2 / 4),
        (pearson_r, lambda p, q: pearsonr(p, q).statistic),
        (pearson_r_squared, lambda p, q: pearsonr(p, q).statistic ** 2),
        (
            negative_log_likelihood_bits,
            lambda p, q: entropy(q, base=2) + np.sum(q[q > 0] * np.log2(q[q > 0] / np.maximum(p[q > 0], 1e-4))),
        ),
    ],
)
def test_equals_the_independent_implementation(metric, reference, random_clips):
    p, votes = random_clips
    expected = [reference(a, b / b.sum()) for a, b in zip(p, votes, strict=True)]
    assert_allclose(metric(p, votes), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("metric", "p", "votes", "expected"),
    [
        (jensen_shannon_divergence_bits, [0.25, 0.25, 0.5], [1, 1, 2], 0.0),
        (jensen_shannon_divergence_bits, [1, 0, 0], [0, 2, 3], 1.0),
        (jensen_shannon_divergence_bits, [0.5, 0.5], [1, 0], 0.75 * math.log2(4 / 3)),
        (jensen_shannon_distance_nats, [1, 0, 0], [0, 2, 3], math.sqrt(math.log(2))),
        (jensen_shannon_distance_nats, [2 / 3 + 1e-10, 1 / 3 - 1e-10], [2, 1], 0.0),  # rounding must not make it NaN
        (bhattacharyya_coefficient, [1, 0, 0], [0, 2, 3], 0.0),
        (bhattacharyya_coefficient, [0.25, 0.25, 0.5], [1, 1, 2], 1.0),
        (bhattacharyya_coefficient, [0.5, 0.5], [9, 1], math.sqrt(0.45) + math.sqrt(0.05)),
        (pearson_r, [0, THIRD, THIRD, THIRD], [1, 0, 0, 0], -1.0),
        (pearson_r_squared, [0, THIRD, THIRD, THIRD], [1, 0, 0, 0], 1.0),
        (pearson_r, [0.7, 0.2, 0.1], [7, 2, 1], 1.0),
        (pearson_r, [0.1 + 0.2 - 0.05, 0.25, 0.25, 0.25], [3, 1, 0, 0], 0.0),
        (pearson_r, [0.7, 0.2, 0.1], [2, 2, 2], 0.0),
        (negative_log_likelihood_bits, [1, 0], [4, 0], 0.0),
        (negative_log_likelihood_bits, [1, 0], [3, 1], -math.log2(NLL_FLOOR) / 4),
        (negative_log_likelihood_bits, [1, 0], [0, 4], -math.log2(NLL_FLOOR)),
        (brier_sum, [1, 0, 0, 0], [0, 0, 0, 3], 2.0),
        (brier_mean, [1, 0, 0, 0], [0, 0, 0, 3], 0.5),
        (ranked_probability_score, [1, 0, 0, 0], [0, 0, 0, 3], 1.0),
        (ranked_probability_score, [1, 0, 0, 0], [0, 3, 0, 0], 1 / 3),
        (squared_error_debiased, [0.5, 0.5], [1, 1], -0.5),
        (squared_error_debiased, [1, 0], [0, 5], 2.0),
        (squared_error_debiased, [0.5, 0.5], [1, 0], math.nan),
        (squared_error_debiased, [0.5, 0.5], [0.5, 0.5], math.nan),
        (squared_error_debiased, [0.5, 0.5, 0], [2.5, 0.5, 0], math.nan),
    ],
)
def test_known_value(metric, p, votes, expected):
    assert_allclose(metric(p, votes), expected, atol=1e-12)


@pytest.mark.parametrize("metric", PER_CLIP)
def test_a_clip_without_a_prediction_is_nan_and_leaves_the_others_alone(metric):
    p = np.array([[0.5, 0.3, 0.2], [np.nan] * 3, [0.5, np.nan, 0.5]])
    votes = np.array([[3, 1, 0], [3, 1, 0], [3, 1, 0]])
    assert_allclose(metric(p, votes), [metric(p[0], votes[0]), np.nan, np.nan])


@pytest.mark.parametrize("metric", PER_CLIP)
def test_leading_axes_broadcast(metric, random_clips):
    p, votes = random_clips[0][:3], random_clips[1][:2]
    table = metric(p[None], votes[:, None])
    assert table.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        assert_allclose(table[i, j], metric(p[j], votes[i]), atol=1e-15)


@given(case=predictions_and_votes())
def test_the_ranked_score_is_the_same_from_either_end(case):
    p, votes = case
    assert_allclose(ranked_probability_score(p[::-1], votes[::-1]), ranked_probability_score(p, votes), atol=1e-12)


@given(case=predictions_and_votes(min_votes=2), seed=st.integers(0, 99))
def test_the_order_of_the_labels_matters_to_the_ranked_score_alone(case, seed):
    p, votes = case
    order = np.random.default_rng(seed).permutation(len(p))
    for metric in UNORDERED:
        assert_allclose(metric(p[order], votes[order]), metric(p, votes), atol=1e-7, err_msg=metric.__name__)


@given(case=predictions_and_votes())
def test_prediction_and_votes_can_change_places(case):
    p, votes = case
    for metric in SYMMETRIC:
        assert_allclose(metric(p, votes), metric(shares(votes), p), atol=1e-7, err_msg=metric.__name__)


@given(predictions_and_votes(min_votes=2))
def test_every_score_keeps_its_bounds(case):
    p, votes = case
    labels = len(p)
    for metric, low, high in [
        (jensen_shannon_divergence_bits, 0, 1),
        (jensen_shannon_distance_nats, 0, math.sqrt(math.log(2))),
        (bhattacharyya_coefficient, 0, 1),
        (pearson_r, -1, 1),
        (pearson_r_squared, 0, 1),
        (negative_log_likelihood_bits, 0, -math.log2(NLL_FLOOR)),
        (brier_sum, 0, 2),
        (brier_mean, 0, 2 / labels),
        (squared_error_debiased, -0.5, 2),
    ]:
        assert low - 1e-12 <= metric(p, votes) <= high + 1e-12, metric.__name__


@given(predictions_and_votes())
def test_bhattacharyya_bounds_the_divergence(case):
    gap = 1 - bhattacharyya_coefficient(*case)
    assert gap - 1e-9 <= jensen_shannon_divergence_bits(*case) <= gap / math.log(2) + 1e-9


@given(predictions_and_votes())
def test_the_votes_themselves_score_best(case):
    _, votes = case
    perfect = shares(votes)
    assert jensen_shannon_divergence_bits(perfect, votes) == 0
    assert_allclose(bhattacharyya_coefficient(perfect, votes), 1)
    assert brier_sum(perfect, votes) == 0
    assert_allclose(negative_log_likelihood_bits(perfect, votes), entropy_bits(perfect), atol=1e-12)


def expected_over_panels(metric, p, truth, raters):
    """Expectation of the metric if so many raters vote independently by the shares `truth`."""
    votes = panels(raters, len(truth))
    return multinomial.pmf(votes, raters, truth) @ metric(np.asarray(p)[..., None, :], votes).T


@pytest.mark.parametrize("raters", [2, 3, 5, 9])
@pytest.mark.parametrize("p", [[1 / 3, 1 / 3, 1 / 3], [0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [0.1, 0.2, 0.7]])
def test_sq_debiased_does_not_depend_on_the_size_of_the_panel(p, raters):
    truth = np.array([0.5, 0.3, 0.2])
    expected = expected_over_panels(squared_error_debiased, p, truth, raters)
    assert_allclose(expected, np.square(p - truth).sum(), atol=1e-12)
    assert expected_over_panels(brier_sum, p, truth, raters) > expected + 0.05


@pytest.mark.parametrize(
    ("metric", "best"),
    [
        (jensen_shannon_divergence_bits, (0.55, 0.29, 0.16)),  # not proper: sharper than the truth
        (negative_log_likelihood_bits, (0.5, 0.3, 0.2)),
        (squared_error_debiased, (0.5, 0.3, 0.2)),
        (brier_sum, (0.5, 0.3, 0.2)),
    ],
)
def test_which_prediction_a_panel_of_three_rewards_most(metric, best):
    grid = panels(100, 3) / 100
    scores = expected_over_panels(metric, grid, [0.5, 0.3, 0.2], 3)
    assert_allclose(grid[np.argmin(scores)], best)


@pytest.mark.parametrize("labels", [3, 4, 6])
def test_two_unrelated_vectors_have_an_r_squared_of_one_over_labels_minus_one(labels):
    rng = np.random.default_rng(0)
    p, unrelated = rng.dirichlet([1.0] * labels, (2, 20_000))
    assert pearson_r_squared(p, unrelated).mean() == pytest.approx(1 / (labels - 1), abs=0.01)


@pytest.mark.parametrize(
    ("votes", "message"), [([0, 0], "without any vote"), ([-1, 2], "not negative"), ([np.nan, 1], "finite")]
)
@pytest.mark.parametrize("metric", PER_CLIP)
def test_impossible_votes_raise(metric, votes, message):
    with pytest.raises(ValueError, match=message):
        metric([0.5, 0.5], votes)

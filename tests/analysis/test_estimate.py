import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import spearmanr

from ambi_eval.analysis.estimate import (
    Estimate,
    as_json,
    bootstrap,
    from_influence,
    interval,
    of_mean,
    of_ratio,
    reciprocal,
)


def clips(n_clusters, seed=0, size=12, unequal=True):
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(n_clusters), rng.integers(1, size, n_clusters) if unequal else size)
    return rng, clusters, rng.normal(size=n_clusters)[clusters] + rng.normal(size=len(clusters))


@pytest.mark.parametrize("n_clusters", [2, 5, 91])
def test_the_interval_of_a_mean_equals_statsmodels(n_clusters):
    _, clusters, scores = clips(n_clusters, unequal=False)
    options = {"groups": clusters, "use_correction": False}
    fit = sm.OLS(scores, np.ones(len(scores))).fit(cov_type="cluster", cov_kwds=options, use_t=True)
    low, high = fit.conf_int()[0]
    factor = np.sqrt(n_clusters / (n_clusters - 1))
    estimate = of_mean(scores, clusters.tolist())
    assert estimate.value == pytest.approx(fit.params[0])
    assert estimate.high - estimate.value == pytest.approx((high - low) / 2 * factor)
    assert estimate.value - estimate.low == pytest.approx((high - low) / 2 * factor)


def test_a_ratio_to_a_constant_is_a_mean():
    _, clusters, scores = clips(20)
    mean, ratio = of_mean(scores, clusters.tolist()), of_ratio(scores, np.full(len(scores), 4.0), clusters.tolist())
    assert np.isfinite([ratio.low, ratio.high]).all()
    np.testing.assert_allclose([ratio.value, ratio.low, ratio.high], np.array([mean.value, mean.low, mean.high]) / 4)


def test_a_ratio_of_proportional_scores_is_sure():
    _, clusters, scores = clips(20)
    estimate = of_ratio(3 * scores**2, scores**2, clusters.tolist())
    np.testing.assert_allclose([estimate.low, estimate.high], 3)


@pytest.mark.parametrize(
    ("above", "below"),
    [([1.0, 2.0], [0.0, 0.0]), ([1.0, 2.0], [-1.0, 0.5]), ([np.nan, 1.0], [1.0, np.nan])],
)
def test_a_ratio_to_nothing_is_undefined(above, below):
    assert np.isnan(of_ratio(np.array(above), np.array(below), ["a", "b"]).value)


def test_undefined_clips_are_left_out():
    estimate = of_mean(np.array([1.0, np.nan, 3.0]), ["a", "b", "c"])
    assert estimate.value == 2
    assert np.isnan(of_mean(np.array([np.nan]), ["a"]).value)


def test_one_cluster_has_a_value_and_no_interval():
    for estimate in (from_influence(0.3, [0.1, -0.1], ["a", "a"]), bootstrap(0.3, lambda weights: 0.3, ["a", "a"])):
        assert estimate.value == 0.3
        assert np.isnan([estimate.low, estimate.high]).all()


def test_the_bootstrap_of_a_mean_agrees_with_the_closed_form():
    _, clusters, scores = clips(40)
    closed = of_mean(scores, clusters.tolist())
    drawn = bootstrap(closed.value, lambda weights: weights @ scores / weights.sum(axis=1), clusters.tolist())
    assert drawn.high - drawn.low == pytest.approx(closed.high - closed.low, rel=0.15)
    assert drawn == bootstrap(closed.value, lambda weights: weights @ scores / weights.sum(axis=1), clusters.tolist())


@pytest.mark.parametrize("n_clusters", [5, 30])
def test_intervals_cover_the_truth_in_95_of_100_samples(n_clusters):
    estimates = [
        of_mean(scores, clusters.tolist()) for _, clusters, scores in (clips(n_clusters, s, 2) for s in range(800))
    ]
    assert np.mean([e.low <= 0 <= e.high for e in estimates]) == pytest.approx(0.95, abs=0.02)


def test_the_bootstrap_covers_a_rank_correlation():
    def covers(seed):
        rng, clusters, x = clips(20, seed, 6)
        y = x + rng.normal(size=len(x))
        whole = float(spearmanr(x, y).statistic)

        def of_resamples(weights):
            rows = [np.repeat(np.arange(len(x)), each.astype(int)) for each in weights]
            return np.array([spearmanr(x[each], y[each]).statistic for each in rows])

        e = bootstrap(whole, of_resamples, clusters.tolist())
        return e.low <= 0.803 <= e.high  # 6 / pi asin(r / 2) of normal variables with Pearson's r = sqrt(2 / 3)

    assert np.mean([covers(seed) for seed in range(20)]) >= 0.8


def test_student_s_t_is_wide_on_few_clusters():
    assert interval(0.0, 1.0, 5).high == pytest.approx(2.776, abs=1e-3)
    assert interval(0.0, 1.0, 91).high == pytest.approx(1.987, abs=1e-3)


@pytest.mark.parametrize("value", [0.001, 0.2, 0.5, 0.97])
@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1), (0, 13.29)])
def test_an_interval_stays_inside_the_range_of_the_score(value, bounds):
    low, high = bounds
    place = low + (high - low) * value
    estimate = interval(place, (high - low) * value * (1 - value), 10, bounds)
    assert low < estimate.low < place < estimate.high < high


def test_far_from_the_ends_of_the_range_the_interval_is_the_plain_one():
    plain, ranged = interval(0.3, 0.001, 40), interval(0.3, 0.001, 40, (0, 1))
    assert (ranged.low, ranged.high) == pytest.approx((plain.low, plain.high), abs=1e-5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, (0.0, 0.226)), (1.0, (0.774, 1.0)), (1e-17, (0.0, 0.226)), (0.01, (0.0, 0.236)), (0.99, (0.764, 1.0))],
)
def test_at_an_end_of_the_range_the_interval_is_cut_off(value, expected):
    estimate = interval(value, 0.1, 10, (0, 1))
    assert (estimate.low, estimate.high) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_of_a_ratio_holds_the_ratios_that_a_test_does_not_refute(seed):
    rng, clusters, above = clips(12, seed)
    below = 1.5 + 0.5 * above + rng.normal(size=len(above))
    ratio = of_ratio(above, below, clusters.tolist())
    for end in (ratio.low, ratio.high):
        difference = of_mean(above - end * below, clusters.tolist())
        assert min(abs(difference.low), abs(difference.high)) == pytest.approx(0, abs=1e-9)


def test_a_ratio_to_what_may_be_nothing_has_no_interval():
    rng, clusters, above = clips(12)
    below = rng.normal(size=len(above))
    ratio = of_ratio(above, below - below.mean() + 1e-3, clusters.tolist())
    assert np.isfinite(ratio.value)
    assert np.isnan([ratio.low, ratio.high]).all()


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (Estimate(0.5, 0.25, 1.0), Estimate(2.0, 1.0, 4.0)),
        (Estimate(0.05, -0.1, 0.1), Estimate(20.0, 10.0, np.inf)),
        (Estimate(-0.01, -0.1, 0.1), Estimate(np.inf, 10.0, np.inf)),
        (Estimate(-0.1, -0.2, -0.05), Estimate(np.inf, np.inf, np.inf)),
    ],
)
def test_what_cannot_be_told_from_nothing_has_an_open_reciprocal(ratio, expected):
    assert reciprocal(ratio) == expected


def test_clips_of_unknown_speakers_are_in_no_resample():
    drawn = []
    bootstrap(0.5, lambda weights: drawn.append(weights) or np.full(len(weights), 0.5), ["a", "b", "unknown", "c"])
    (weights,) = drawn
    assert (weights[:, 2] == 0).all()
    assert (weights.sum(axis=1) == 3).all()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Estimate(0.5, float("nan"), math.inf), {"value": 0.5, "low": None, "high": None}),
        ({1: [Estimate(1, 2, 3)]}, {"1": [{"value": 1, "low": 2, "high": 3}]}),
        (("a", 1, None, True), ["a", 1, None, True]),
    ],
)
def test_dataclasses_become_objects_and_what_is_undefined_null(value, expected):
    assert as_json(value) == expected

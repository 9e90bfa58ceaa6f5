"""Intervals and tests on simulated clips whose truth is known, and against scipy and statsmodels."""

from itertools import product

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

from ambi_eval.analysis import estimate as intervals
from ambi_eval.analysis.significance import (
    FEW_CLUSTERS,
    bootstrap_mean,
    compare,
    holm,
    linearised,
    sign_flip_test,
)
from ambi_eval.metrics import METRICS

SIMULATIONS = 500
CLOSED_FORM = [name for name, m in METRICS.items() if m.influence([[1, 0], [0, 1]], [[3, 1], [1, 2]]) is not None]


def simulated(rng, n_clusters, mean=0.0):
    """Scores of speakers who differ as much as their clips do, with 20 to 30 clips each."""
    cluster = np.repeat(np.arange(n_clusters), rng.integers(20, 31, n_clusters))
    scores = mean + rng.normal(size=n_clusters)[cluster] + rng.normal(size=len(cluster))
    return scores, cluster.astype(str)


@pytest.mark.parametrize("n_clusters", [8, 10, 30, 91])
def test_intervals_hold_the_truth_as_often_as_they_say(n_clusters):
    rng = np.random.default_rng(n_clusters)
    estimates = [bootstrap_mean(*simulated(rng, n_clusters), resamples=1000) for _ in range(SIMULATIONS)]
    assert 0.93 <= np.mean([e.low <= 0 <= e.high for e in estimates]) <= 0.97


@pytest.mark.parametrize("n_clusters", [8, 30])
def test_intervals_that_took_clips_for_independent_would_be_far_too_narrow(n_clusters):
    rng = np.random.default_rng(n_clusters)
    hits = 0
    for _ in range(SIMULATIONS):
        scores, _ = simulated(rng, n_clusters)
        hits += abs(scores.mean()) < 1.96 * scores.std(ddof=1) / np.sqrt(len(scores))
    assert hits / SIMULATIONS < 0.6


@pytest.mark.parametrize("n_clusters", [6, 10, 40])
def test_without_a_difference_one_sign_flip_test_in_twenty_is_significant(n_clusters):
    rng = np.random.default_rng(n_clusters)
    p = np.array([sign_flip_test(*simulated(rng, n_clusters))[0] for _ in range(SIMULATIONS)])
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.025)
    assert p.mean() == pytest.approx(0.5, abs=0.05)


def test_a_true_difference_is_found():
    scores, clusters = simulated(np.random.default_rng(0), 40, mean=1.0)
    p, smallest = sign_flip_test(scores, clusters)
    assert p == smallest == 1 / 10_001


@pytest.mark.parametrize(("n_clusters", "smallest"), [(1, 1.0), (2, 0.5), (5, 0.0625), (6, 1 / 32), (15, 1 / 10_001)])
def test_the_least_p_value_that_so_many_clusters_allow_is_returned(n_clusters, smallest):
    scores = np.ones(2 * n_clusters)
    assert sign_flip_test(scores, [f"s{i // 2}" for i in range(len(scores))]) == (
        pytest.approx(smallest),
        pytest.approx(smallest),
    )


def test_equal_systems_have_a_p_value_of_one():
    for n_clusters in (4, 40):
        assert sign_flip_test(np.zeros(n_clusters), np.arange(n_clusters).astype(str))[0] == 1


def test_exact_p_values_agree_with_all_flips_written_out_and_with_scipy():
    scores = np.random.default_rng(3).normal(0.4, 1, 9)
    names = [f"s{i}" for i in range(9)]
    p, _ = sign_flip_test(scores, names)
    flips = [abs(np.dot(signs, scores)) for signs in product((1, -1), repeat=9)]
    assert p == np.mean(np.array(flips) >= abs(scores.sum()) - 1e-12)
    reference = scipy.stats.permutation_test(
        (scores,), lambda x, axis: np.abs(x.sum(axis=axis)), permutation_type="samples", alternative="greater"
    )
    assert p == pytest.approx(reference.pvalue)


def test_random_flips_come_near_the_exact_p_value():
    sums = np.random.default_rng(5).normal(0.35, 1, 14)
    exact, _ = sign_flip_test(sums, [f"s{i:02d}" for i in range(14)])
    # A cluster of zeros flips nothing, but makes one too many to try all flips.
    drawn, _ = sign_flip_test(np.append(sums, 0.0), [f"s{i:02d}" for i in range(15)])
    assert drawn == pytest.approx(exact, abs=0.01)


def test_the_bootstrap_agrees_with_scipy_and_with_the_closed_form_where_clips_are_clusters():
    scores = np.random.default_rng(11).gamma(2.0, size=300)
    names = [f"s{i:03d}" for i in range(300)]
    estimate = bootstrap_mean(scores, names)
    reference = scipy.stats.bootstrap((scores,), np.mean, method="percentile", n_resamples=10_000, rng=1)
    assert estimate.value == pytest.approx(scores.mean())
    assert (estimate.low, estimate.high) == pytest.approx(tuple(reference.confidence_interval), abs=0.01)
    closed = intervals.of_mean(scores, names)
    assert (estimate.low, estimate.high) == pytest.approx((closed.low, closed.high), abs=0.015)


def test_few_clusters_get_students_t():
    scores, clusters = simulated(np.random.default_rng(0), FEW_CLUSTERS - 1)
    assert bootstrap_mean(scores, clusters) == intervals.of_mean(scores, clusters)


def test_clips_without_a_score_are_left_out():
    scores, clusters = simulated(np.random.default_rng(0), 40)
    extra = np.append(scores, [np.nan, np.nan]), np.append(clusters, ["0", "alone"])
    assert bootstrap_mean(*extra) == bootstrap_mean(scores, clusters)
    assert sign_flip_test(*extra) == sign_flip_test(scores, clusters)


def test_the_same_clips_in_another_order_give_the_same_numbers():
    scores, clusters = simulated(np.random.default_rng(0), 40)
    order = np.random.default_rng(1).permutation(len(scores))
    here, there = bootstrap_mean(scores, clusters), bootstrap_mean(scores[order], clusters[order])
    assert (there.value, there.low, there.high) == pytest.approx((here.value, here.low, here.high), abs=1e-12)


@pytest.mark.parametrize("p", [[0.2], [0.01, 0.01, 0.01], [0, 1, 0.5], np.random.default_rng(0).beta(0.3, 2, 30)])
def test_holm_is_that_of_statsmodels(p):
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_among_many_comparisons_without_a_difference_one_family_in_twenty_has_a_finding():
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(200):
        clusters = np.repeat(np.arange(10), 20).astype(str)
        families = {str(i): rng.normal(size=10).repeat(20) + rng.normal(size=200) for i in range(6)}
        found += any(holm([sign_flip_test(d, clusters)[0] for d in families.values()]) <= 0.05)
    assert found / 200 <= 0.08


def test_a_comparison_holds_interval_p_values_and_clusters():
    scores, clusters = simulated(np.random.default_rng(0), 12, mean=0.8)
    table = compare({"big": scores, "none": np.zeros(len(scores))}, clusters)
    assert table["big"].difference == bootstrap_mean(scores, clusters)
    assert table["big"].p_holm == 2 * table["big"].p
    assert table["none"].p == table["none"].p_holm == 1
    assert {c.clusters for c in table.values()} == {12}
    assert {c.smallest_p for c in table.values()} == {2 ** (1 - 12)}


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_linearised_values_average_to_the_metric_and_vary_as_it_does(name):
    rng = np.random.default_rng(4)
    metric = METRICS[name]
    p, votes = rng.dirichlet(np.ones(4), 400), rng.multinomial(7, [0.4, 0.3, 0.2, 0.1], 400)
    p[:5] = np.nan
    values = linearised(metric, p, votes)
    assert values.mean() == pytest.approx(metric.value(p, votes), abs=1e-12)
    resampled = [metric.value(p[drawn], votes[drawn]) for drawn in rng.integers(400, size=(300, 400))]
    assert values.std() / np.sqrt(400) == pytest.approx(np.std(resampled), rel=0.15)


def test_metrics_without_an_influence_are_not_linearised():
    assert linearised(METRICS["ece_votes"], [[1.0, 0.0]], [[2, 1]]) is None

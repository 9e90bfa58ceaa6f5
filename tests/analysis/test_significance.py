"""Intervals and tests on simulated clips whose truth is known, and against scipy and statsmodels."""

from itertools import product

import numpy as np
import pytest
import scipy.stats

from ambi_eval.analysis import estimate
from ambi_eval.analysis.significance import compare, compare_all_pairs, linearized
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
    estimates = [estimate.of_mean(*simulated(rng, n_clusters)) for _ in range(SIMULATIONS)]
    assert 0.93 <= np.mean([e.low <= 0 <= e.high for e in estimates]) <= 0.97


@pytest.mark.parametrize("n_clusters", [8, 30])
def test_intervals_that_took_clips_for_independent_would_be_far_too_narrow(n_clusters):
    rng = np.random.default_rng(n_clusters)
    hits = 0
    for _ in range(SIMULATIONS):
        scores, _ = simulated(rng, n_clusters)
        hits += abs(scores.mean()) < 1.96 * scores.std(ddof=1) / np.sqrt(len(scores))
    assert hits / SIMULATIONS < 0.6


def sign_flip_test(differences, clusters):
    """Return the p-value of one difference, and the least that it could take."""
    found = compare({"one": differences}, clusters)["one"]
    return found.p, found.smallest_p


@pytest.mark.slow
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


def test_clips_without_a_score_are_left_out():
    scores, clusters = simulated(np.random.default_rng(0), 40)
    extra = np.append(scores, [np.nan, np.nan]), np.append(clusters, ["0", "alone"])
    assert sign_flip_test(*extra) == sign_flip_test(scores, clusters)


def families(rng, systems, n_clusters=12):
    """Errors of equally good systems that share what is hard about a clip, and are good at different speakers."""
    speaker = np.repeat(np.arange(n_clusters), 8)
    hard = rng.normal(size=n_clusters)[speaker] + rng.normal(size=len(speaker))
    own = 0.7 * rng.normal(size=(systems, n_clusters))[:, speaker] + rng.normal(size=(systems, len(speaker)))
    return hard + own, speaker.astype(str)


@pytest.mark.slow
@pytest.mark.parametrize("systems", [5, 10, 20])
def test_the_best_of_equal_systems_is_seldom_better_than_another_one(systems):
    rng = np.random.default_rng(systems)
    found, alone = 0, 0
    for _ in range(200):
        errors, clusters = families(rng, systems)
        best = int(errors.mean(axis=1).argmin())
        pairs = compare_all_pairs(errors, clusters)
        against = [pairs.comparisons[other, best] for other in range(systems) if other != best]
        excluded = any(c.difference.low > 0 or c.difference.high < 0 for c in against)
        assert excluded == any(c.p_corrected <= 0.05 for c in against) or excluded  # the interval is no wider
        found += excluded or any(c.p_corrected <= 0.05 for c in against)
        alone += any(c.p <= 0.05 for c in against)
    assert found / 200 <= 0.07
    assert alone / 200 > 0.2, "uncorrected, a best one that is none is found far more often"


def test_a_best_system_that_is_better_is_found():
    errors, clusters = families(np.random.default_rng(0), 10, n_clusters=30)
    errors[3] -= 1.5
    pairs = compare_all_pairs(errors, clusters)
    assert pairs.better[3].sum() == 9
    assert pairs.better.sum() == 9
    assert all(pairs.comparisons[other, 3].difference.low > 0 for other in range(10) if other != 3)


def test_simultaneous_intervals_hold_all_differences_together():
    rng = np.random.default_rng(1)
    shift = np.linspace(0, 1, 6)[:, None]
    held = 0
    for _ in range(150):
        errors, clusters = families(rng, 6, n_clusters=20)
        pairs = compare_all_pairs(errors + shift, clusters)
        truth = {(i, j): shift[i, 0] - shift[j, 0] for i, j in pairs.comparisons}
        held += all(c.difference.low <= truth[pair] <= c.difference.high for pair, c in pairs.comparisons.items())
    assert held / 150 >= 0.92


def test_a_difference_that_stands_there_several_times_counts_once():
    scores, clusters = simulated(np.random.default_rng(0), 12, mean=0.8)
    alone = compare({"sum": scores}, clusters)["sum"]
    table = compare({"sum": scores, "mean": scores / 4, "debiased": 2 * scores}, clusters)
    assert {c.p_corrected for c in table.values()} == {alone.p}


def test_systems_that_are_the_same_are_not_better_than_one_another():
    errors, clusters = families(np.random.default_rng(3), 2)
    pairs = compare_all_pairs(np.vstack([errors, errors[:1]]), clusters)
    assert pairs.same[0, 2]
    assert not pairs.same[0, 1]
    same = pairs.comparisons[0, 2]
    assert (same.difference.low, same.difference.high, same.p, same.p_corrected) == (0, 0, 1, 1)


@pytest.mark.parametrize("n_clusters", [1, 2, 5])
def test_too_few_clusters_show_no_difference_between_systems(n_clusters):
    errors, clusters = families(np.random.default_rng(4), 4, n_clusters)
    errors[0] -= 100
    pairs = compare_all_pairs(errors, clusters)
    assert not pairs.better.any()
    assert min(c.p_corrected for c in pairs.comparisons.values()) == 2.0 ** (1 - n_clusters)


def test_a_comparison_holds_interval_p_values_and_clusters():
    scores, clusters = simulated(np.random.default_rng(0), 12, mean=0.8)
    table = compare({"big": scores, "none": np.zeros(len(scores))}, clusters)
    assert table["big"].difference == estimate.of_mean(scores, clusters)
    assert table["big"].p_corrected == table["big"].p, "what never differs adds nothing to the largest difference"
    assert table["none"].p == table["none"].p_corrected == 1
    assert {c.clusters for c in table.values()} == {12}
    assert {c.smallest_p for c in table.values()} == {2 ** (1 - 12)}


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_linearized_values_average_to_the_metric_and_vary_as_it_does(name):
    rng = np.random.default_rng(4)
    metric = METRICS[name]
    p, votes = rng.dirichlet(np.ones(4), 400), rng.multinomial(7, [0.4, 0.3, 0.2, 0.1], 400)
    p[:5] = np.nan
    values = linearized(metric, p, votes)
    assert values.mean() == pytest.approx(metric.value(p, votes), abs=1e-12)
    resampled = [metric.value(p[drawn], votes[drawn]) for drawn in rng.integers(400, size=(300, 400))]
    assert values.std() / np.sqrt(400) == pytest.approx(np.std(resampled), rel=0.15)


def test_metrics_without_an_influence_are_not_linearized():
    assert linearized(METRICS["ece_votes"], [[1.0, 0.0]], [[2, 1]]) is None


def test_a_difference_that_is_defined_on_no_clip_has_no_p_value_and_leaves_the_others_alone():
    differences, speakers = {"bc": [0.1, 0.2, 0.3, 0.1]}, ["anna", "ben", "carl", "dora"]
    found = compare({**differences, "sq_debiased": [np.nan] * 4}, speakers)
    assert np.isnan([found["sq_debiased"].p, found["sq_debiased"].p_corrected]).all()
    assert found["bc"] == compare(differences, speakers)["bc"]

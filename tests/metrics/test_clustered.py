from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from ambi_eval.metrics.clustered import (
    UNKNOWN,
    clustered_standard_error,
    influence_on_mean,
    jackknife,
    mean_of_defined,
    two_way_standard_error,
)


@pytest.mark.parametrize(("clips", "speakers"), [(12, 2), (50, 10), (300, 91)])
def test_equals_a_regression_on_a_constant_with_clustered_errors(clips, speakers):
    rng = np.random.default_rng(clips)
    speaker = np.resize(np.arange(speakers), clips // speakers * speakers)  # equally many clips of each
    clips = len(speaker)
    values = rng.normal(size=speakers)[speaker] + rng.normal(size=clips)
    fit = sm.OLS(values, np.ones(clips)).fit(cov_type="cluster", cov_kwds={"groups": speaker})
    standard_error, n_clusters = clustered_standard_error(values - values.mean(), speaker.tolist())
    assert n_clusters == speakers
    assert standard_error == pytest.approx(fit.bse[0], rel=1e-12)


def test_a_cluster_per_clip_gives_the_plain_standard_error_of_the_mean():
    values = np.random.default_rng(1).normal(size=40)
    standard_error, _ = clustered_standard_error(values - values.mean(), range(40))
    assert standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(40))


@pytest.mark.parametrize(
    ("influence", "clusters", "expected"),
    [
        ([1, 1, -1, -1], ["a", "a", "b", "b"], (1.0, 2)),  # as if there were two values, 1 and -1
        ([1, -1, 1, -1], ["a", "a", "b", "b"], (0.0, 2)),
        ([1, 1, -1, -1], [("s1", 1), ("s1", 1), None, None], (1.0, 2)),
        ([1, -1], ["a", "a"], (math.nan, 1)),
        ([], [], (math.nan, 0)),
        ([math.nan, math.nan], ["a", "b"], (math.nan, 0)),
    ],
)
def test_known_value(influence, clusters, expected):
    assert clustered_standard_error(influence, clusters) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("scores", "mean", "influence"),
    [
        ([1.0, 2.0, 6.0], 3.0, [-2.0, -1.0, 3.0]),
        ([1.0, math.nan, 3.0, math.nan], 2.0, [-1.0, math.nan, 1.0, math.nan]),
        ([math.nan, math.nan], math.nan, [math.nan, math.nan]),
        ([], math.nan, []),
    ],
)
def test_undefined_scores_are_left_out_of_the_mean(scores, mean, influence):
    assert mean_of_defined(scores) == pytest.approx(mean, nan_ok=True)
    assert influence_on_mean(scores).tolist() == pytest.approx(influence, nan_ok=True)


def test_undefined_scores_leave_the_standard_error_as_if_they_were_not_there():
    scores, speakers = np.array([0.2, math.nan, 0.9, 0.4, math.nan, 0.5]), list("aabbcc")
    defined = np.flatnonzero(~np.isnan(scores))
    alone = clustered_standard_error(influence_on_mean(scores[defined]), [speakers[i] for i in defined])
    assert clustered_standard_error(influence_on_mean(scores), speakers) == pytest.approx(alone)


@given(st.lists(st.tuples(st.floats(-5, 5), st.sampled_from("abcde")), min_size=2, max_size=30), st.randoms())
def test_neither_order_nor_names_of_the_clusters_matter(clips, random):
    shuffled = random.sample(clips, len(clips))
    renamed = dict(zip("abcde", random.sample(range(5), 5), strict=True))
    result = clustered_standard_error(*zip(*clips, strict=True))
    again = clustered_standard_error([v for v, _ in shuffled], [renamed[c] for _, c in shuffled])
    assert again == pytest.approx(result, nan_ok=True)


@pytest.mark.parametrize("clusters", [["a"], ["a", "b", "a", "b"]])
def test_every_clip_needs_its_cluster(clusters):
    with pytest.raises(ValueError, match="same length"):
        clustered_standard_error([1.0, 0.0, -1.0], clusters)


@pytest.mark.parametrize("speakers", [3, 20])
def test_it_is_the_jackknife_over_clusters_of_unequal_size(speakers):
    rng = np.random.default_rng(speakers)
    speaker = np.repeat(np.arange(speakers), rng.integers(1, 40, speakers))
    values = rng.normal(size=speakers)[speaker] + rng.normal(size=len(speaker))
    without = np.array([values[speaker != each].mean() for each in range(speakers)])
    np.testing.assert_allclose(jackknife(values - values.mean(), speaker.tolist()), without - values.mean())
    expected = math.sqrt((speakers - 1) / speakers * np.square(without - values.mean()).sum())
    assert clustered_standard_error(values - values.mean(), speaker.tolist())[0] == pytest.approx(expected)


def test_clips_of_unknown_clusters_leave_the_error_of_the_others_alone():
    values = np.random.default_rng(0).normal(size=30)
    known = [f"s{number % 5}" for number in range(20)]
    alone = clustered_standard_error(values[:20] - values[:20].mean(), known)
    assert clustered_standard_error(values - values.mean(), [*known, *[UNKNOWN] * 10]) == pytest.approx(alone)


@pytest.mark.parametrize("whole_speakers", [True, False])
def test_intervals_hold_the_truth_where_most_speakers_are_unknown(whole_speakers):
    rng = np.random.default_rng(0)
    held, as_one = 0, 0
    for _ in range(600):
        speaker = np.repeat(np.arange(60), 10)
        values = rng.normal(size=60)[speaker] + rng.normal(size=600)
        unknown = speaker < 42 if whole_speakers else rng.random(600) < 0.7
        influence = values - values.mean()
        for one_cluster in (False, True):
            name = "a cluster like any other" if one_cluster else UNKNOWN
            clusters = [name if hidden else str(who) for hidden, who in zip(unknown, speaker, strict=True)]
            error, n_clusters = clustered_standard_error(influence, clusters)
            inside = abs(values.mean()) <= t.ppf(0.975, n_clusters - 1) * error
            held, as_one = held + (inside and not one_cluster), as_one + (inside and one_cluster)
    assert held / 600 >= 0.93
    assert as_one / 600 < held / 600


def test_two_ways_equal_a_regression_on_a_constant_with_errors_clustered_in_two_ways():
    rng = np.random.default_rng(5)
    speaker, rater = (each.ravel() for each in np.meshgrid(np.repeat(np.arange(8), 3), np.arange(6)))
    values = rng.normal(size=8)[speaker] + rng.normal(size=6)[rater] + rng.normal(size=len(speaker))
    groups = np.column_stack([speaker, rater])
    fit = sm.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": groups})
    error, n_clusters = two_way_standard_error(values - values.mean(), speaker.tolist(), rater.tolist())
    assert n_clusters == 6
    assert error == pytest.approx(fit.bse[0], rel=1e-9)


def test_a_difference_of_variances_below_zero_gives_way_to_the_larger_of_the_two():
    values = np.array([1.0, -1.0, -1.0, 1.0])
    first, second = ["a", "a", "b", "b"], ["x", "y", "x", "y"]
    assert two_way_standard_error(values, first, second)[0] == 0
    assert math.isnan(two_way_standard_error(values, first, ["x"] * 4)[0])

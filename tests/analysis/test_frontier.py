"""The frontier of error and cost, and what ten times the answers buy beyond sampling."""

import math

import numpy as np
import pytest
from scipy.stats import t

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.frontier import frontier, ten_times

RNG = np.random.default_rng(0)
BASE = RNG.uniform(0.2, 0.6, 40)
CLUSTERS = [f"speaker {clip}" for clip in range(40)]
ERRORS = {"small": BASE, "wasteful": BASE + 0.1, "large": BASE - 0.1 + RNG.normal(0, 0.01, 40), "unknown": BASE - 0.2}
COSTS = {"small": 1.0, "wasteful": 3.0, "large": 9.0, "unknown": math.nan}


def test_a_system_is_on_the_frontier_if_nothing_as_cheap_is_better():
    found = frontier(ERRORS, COSTS, CLUSTERS)
    assert {name: place.on_frontier for name, place in found.items()} == {
        "small": True,
        "wasteful": False,
        "large": True,
    }
    assert {name: place.rival for name, place in found.items()} == {"small": "", "wasteful": "small", "large": "small"}


def test_the_difference_from_the_best_that_is_as_cheap_is_paired():
    found = frontier(ERRORS, COSTS, CLUSTERS)["large"].less_than_rival
    gap = ERRORS["large"] - ERRORS["small"]
    half = t.ppf(0.975, 39) * gap.std(ddof=1) / np.sqrt(40)
    assert (found.value, found.high - found.low) == pytest.approx((gap.mean(), 2 * half))


def test_equal_systems_of_one_cost_are_neither_better():
    found = frontier({"a": BASE, "b": BASE}, {"a": 1.0, "b": 1.0}, CLUSTERS)
    assert not found["a"].on_frontier
    assert found["a"].less_than_rival.value == 0


def test_a_pure_sampler_gains_nothing_beyond_sampling():
    people = {n: Estimate(0.5 / n, 0, 1) for n in (1, 3, 10)}
    found = ten_times({n: BASE + 0.5 / n for n in (1, 3, 10)}, CLUSTERS, people)
    assert found.few == 1
    assert found.gain.value == pytest.approx(0.45)
    assert found.beyond_sampling.value == pytest.approx(0)


def test_a_curve_without_ten_times_has_none():
    assert ten_times({1: BASE, 5: BASE}, CLUSTERS) is None


def test_without_a_sampler_to_compare_with_only_the_gain_is_told():
    found = ten_times({2: BASE, 20: BASE - 0.1}, CLUSTERS)
    assert found.gain.value == pytest.approx(0.1)
    assert math.isnan(found.of_sampling)
    assert math.isnan(found.beyond_sampling.value)

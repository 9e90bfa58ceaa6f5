"""The frontier of error and cost, and what ten times the answers buy beyond sampling."""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import t

from ambi_eval.analysis import scaling
from ambi_eval.analysis.frontier import frontier, ten_times
from ambi_eval.metrics import METRICS
from ambi_eval.votes import shares

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
    found = frontier(ERRORS, COSTS, CLUSTERS)["large"].minus_rival
    gap = ERRORS["large"] - ERRORS["small"]
    half = t.ppf(0.975, 39) * gap.std(ddof=1) / np.sqrt(40)
    assert (found.value, found.high - found.low) == pytest.approx((gap.mean(), 2 * half))


def test_equal_systems_of_one_cost_are_neither_better():
    found = frontier({"a": BASE, "b": BASE}, {"a": 1.0, "b": 1.0}, CLUSTERS)
    assert not found["a"].on_frontier
    assert found["a"].minus_rival.value == 0


def test_a_pure_sampler_gains_nothing_beyond_sampling():
    found = ten_times({n: BASE + 0.5 / n for n in (1, 3, 10)}, CLUSTERS, lambda n: np.full(40, 0.5 / n))
    assert found.few == 1
    assert found.gain.value == pytest.approx(0.45)
    assert found.of_sampling.value == pytest.approx(0.45)
    assert found.beyond_sampling.value == pytest.approx(0)


@pytest.mark.parametrize("raters", [4, 10])
def test_of_a_sampler_from_the_truth_the_interval_beyond_sampling_holds_0_nearly_always(raters, monkeypatch):
    """150 corpora of 48 clips with ten answers each; draws from the votes' own shares would hold 0 in 45 to 66 %."""
    monkeypatch.setattr(scaling, "DRAWS", 8)
    clusters, jsd, held, values = [str(clip % 12) for clip in range(48)], METRICS["jsd_bits"].per_clip, 0, []
    for seed in range(150):
        rng = np.random.default_rng([raters, seed])
        truth = rng.dirichlet([0.6] * 4, 48)
        votes = rng.multinomial(raters, truth).astype(float)
        answers = rng.multinomial(1, truth, size=(10, 48)).astype(float)
        singles = np.mean([jsd(answer, votes) for answer in answers], axis=0)
        errors = {1: singles, 10: jsd(shares(answers.sum(axis=0)), votes)}
        one_rater = 1 - np.square(shares(votes)).sum(axis=1)
        spread = one_rater * raters / (raters - 1)
        clips = SimpleNamespace(votes=votes, noise=spread / raters, one_rater=spread)
        found = ten_times(errors, clusters, partial(scaling.perfect_sampler, clips, "jsd_bits"))
        held += found.beyond_sampling.low <= 0 <= found.beyond_sampling.high
        values.append(found.beyond_sampling.value)
    assert held >= 0.88 * 150
    assert abs(np.mean(values)) < 0.01


def test_a_curve_without_ten_times_has_none():
    assert ten_times({1: BASE, 5: BASE}, CLUSTERS) is None


def test_without_a_sampler_to_compare_with_only_the_gain_is_told():
    found = ten_times({2: BASE, 20: BASE - 0.1}, CLUSTERS)
    assert found.gain.value == pytest.approx(0.1)
    assert math.isnan(found.of_sampling.value)
    assert math.isnan(found.beyond_sampling.value)

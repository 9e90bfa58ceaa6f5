"""Curves over the pool size, against all pools written out and the figures of CREMA-D."""

from itertools import product

import numpy as np
import pytest

from ambi_eval.analysis.runs import Pipeline
from ambi_eval.analysis.scaling import curve, sampler_curve
from ambi_eval.distribution import shares
from ambi_eval.metrics import METRICS

VOTES = np.array([[3.0, 1, 0], [0, 2, 2], [1, 1, 4]] * 40)
SPEAKERS = (np.arange(120) // 10).astype(str)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_sampler_is_the_expectation_over_all_draws(size):
    expected = []
    for votes in VOTES[:3]:
        q = shares(votes)
        draws = list(product(range(3), repeat=size))
        scores = [METRICS["bc"].per_clip(np.bincount(draw, minlength=3) / size, votes) for draw in draws]
        expected.append(np.dot([np.prod(q[list(draw)]) for draw in draws], scores))
    estimate = sampler_curve(shares(VOTES), VOTES, "bc", [size], SPEAKERS)[size]
    assert estimate.value == pytest.approx(np.mean(expected), abs=0.01)


def test_one_distribution_for_all_clips_is_a_sampler_too():
    many = sampler_curve(shares(VOTES).mean(axis=0), VOTES, "jsd_bits", [1000], SPEAKERS)[1000]
    constant = np.broadcast_to(shares(VOTES).mean(axis=0), VOTES.shape)
    assert many.value == pytest.approx(METRICS["jsd_bits"].value(constant, VOTES), abs=0.003)


def test_the_logged_curve_ends_with_the_whole_pool():
    logged = {"jsd_bits@1": np.full(120, 0.5), "jsd_bits@5": np.full(120, 0.3), "jsd_bits": np.full(120, 0.2)}
    logged |= {"bc@1": np.zeros(120), "acc": np.zeros(120)}
    points = curve(Pipeline("dist", shares(VOTES), logged), "jsd_bits", 7, SPEAKERS)
    assert list(points) == [1, 5, 7]
    assert [e.value for e in points.values()] == pytest.approx([0.5, 0.3, 0.2])


@pytest.mark.parametrize(
    ("listens", "expected"),
    [(True, {1: 0.330, 4: 0.118, 8: 0.059, 16: 0.027, 32: 0.012}), (False, {1: 0.644, 20: 0.321})],
)
def test_sampling_alone_fakes_a_scaling_curve_on_crema_d(crema_d_selection, listens, expected):
    selection = crema_d_selection
    human = shares(selection.votes)
    p = human if listens else human.mean(axis=0)
    points = sampler_curve(p, selection.votes, "jsd_bits", list(expected), selection.clusters)
    assert {n: e.value for n, e in points.items()} == pytest.approx(expected, abs=0.003)

"""Curves over the pool size, against all pools written out and the figures of CREMA-D."""

import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.selections import rated_selection, selection_of

from ambi_eval.analysis.ambiguity import bin_clips
from ambi_eval.analysis.estimate import UNDEFINED, as_json, from_json, of_mean
from ambi_eval.analysis.references.baselines import baselines
from ambi_eval.analysis.scaling import Curve, extrapolate, sampler_curve, scaling_curve
from ambi_eval.metrics import METRICS
from ambi_eval.votes import Panel, shares

VOTES = np.array([[3.0, 1, 0], [0, 2, 2], [1, 1, 4]] * 40)
SPEAKERS = (np.arange(120) // 10).astype(str)
SELECTION = selection_of(VOTES, SPEAKERS)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_sampler_is_the_expectation_over_all_draws(size):
    expected = []
    for votes in VOTES[:3]:
        q = shares(votes)
        draws = list(product(range(3), repeat=size))
        scores = [METRICS["bc"].per_clip(np.bincount(draw, minlength=3) / size, votes) for draw in draws]
        expected.append(np.dot([np.prod(q[list(draw)]) for draw in draws], scores))
    estimate = sampler_curve(shares(VOTES), SELECTION, "bc", [size])[size]
    assert estimate.value == pytest.approx(np.mean(expected), abs=0.01)


def test_one_distribution_for_all_clips_is_a_sampler_too():
    many = sampler_curve(shares(VOTES).mean(axis=0), SELECTION, "jsd_bits", [1000])[1000]
    constant = np.broadcast_to(shares(VOTES).mean(axis=0), VOTES.shape)
    assert many.value == pytest.approx(METRICS["jsd_bits"].value(constant, VOTES), abs=0.003)


def scores_of(*sizes):
    rng = np.random.default_rng(0)
    return {size: rng.random(120) for size in sizes}


def test_each_pipeline_has_its_points_and_only_a_mean_has_a_limit():
    scores = {"dist": scores_of(7, 1, 5), "vote": scores_of(1, 5, 7)}
    curve = scaling_curve(scores, "jsd_bits", SELECTION, means=["dist"])
    assert list(curve.pipelines["dist"]) == list(curve.people) == list(curve.prior) == [1, 5, 7]
    assert curve.pipelines["vote"][5] == of_mean(scores["vote"][5], SPEAKERS, (0, 1))
    assert list(curve.extrapolated) == ["dist"]
    assert curve.people[7].value < curve.prior[7].value


@pytest.mark.parametrize("clusters", [SPEAKERS, ["one"] * 120], ids=["with interval", "without"])
def test_a_curve_survives_json(clusters):
    curve = scaling_curve({"dist": scores_of(1, 2)}, "bc", selection_of(VOTES, clusters), means=["dist"])
    written = json.loads(json.dumps(as_json(curve), allow_nan=False))
    assert repr(from_json(Curve, written)) == repr(curve)  # NaN equals nothing, not even itself


@given(st.floats(0, 1), st.floats(-1, 1), st.lists(st.integers(1, 40), min_size=2, max_size=6, unique=True).map(sorted))
def test_what_is_straight_in_1_over_n_is_extrapolated_without_error(limit, slope, sizes):
    scores = {size: np.full(4, limit + slope / size) for size in sizes}
    found = extrapolate(scores, list("aabb"), (-2, 2))
    if 2 * sizes[0] <= sizes[-1]:
        assert found.value == pytest.approx(limit, abs=1e-9)
    else:
        assert repr(found) == repr(UNDEFINED)


def test_a_limit_beyond_the_range_of_the_metric_is_cut_off():
    found = extrapolate({1: np.full(4, 0.7), 2: np.full(4, 0.9)}, list("aabb"), (0, 1))
    assert (found.value, found.low, found.high) == (1, 1, 1)


@pytest.mark.parametrize("metric", ["jsd_bits", "bc"])
def test_the_extrapolated_limit_is_near_the_score_of_the_distribution_that_was_drawn_from(metric):
    rng = np.random.default_rng(1)
    p = rng.dirichlet([1, 1, 1], size=3000)
    votes = np.array([rng.multinomial(8, 0.5 * row + 0.5 / 3) for row in p]).astype(float)
    clusters = np.arange(3000) // 10
    scores = {
        size: METRICS[metric].per_clip(shares(rng.multinomial(size, p, size=(64, 3000))), votes).mean(axis=0)
        for size in (10, 20)
    }
    limit, at_20 = METRICS[metric].value(p, votes), scores[20].mean()
    assert abs(extrapolate(scores, clusters, METRICS[metric].bounds(3)).value - limit) < 0.2 * abs(at_20 - limit)


@pytest.mark.parametrize(
    ("listens", "expected"),
    [(True, {1: 0.330, 4: 0.118, 8: 0.059, 16: 0.027, 32: 0.012}), (False, {1: 0.644, 20: 0.321})],
)
def test_sampling_alone_fakes_a_scaling_curve_on_crema_d(crema_d_selection, listens, expected):
    selection = crema_d_selection
    human = shares(selection.votes)
    p = human if listens else human.mean(axis=0)
    points = sampler_curve(p, selection, "jsd_bits", list(expected))
    assert {n: e.value for n, e in points.items()} == pytest.approx(expected, abs=0.003)


@pytest.mark.slow
def test_a_perfect_model_is_judged_by_new_panels_and_tends_to_the_sampling_floor(crema_d_selection, crema_d_config):
    points = sampler_curve(
        shares(crema_d_selection.votes), crema_d_selection, "jsd_bits", [1, 20, 10_000], new_panels=True
    )
    binned = bin_clips(crema_d_selection)
    perfect = {"names": ["perfect_model"], "metrics": ["jsd_bits"], "acoustic": False}
    reference = baselines(crema_d_selection, crema_d_config, binned, **perfect)
    floor = reference.overall["perfect_model"]["jsd_bits"].value
    assert points[10_000].value == pytest.approx(floor, abs=0.001)
    assert points[20].value > floor
    assert points[1].value > sampler_curve(shares(crema_d_selection.votes), crema_d_selection, "jsd_bits", [1])[1].value


def test_new_panels_are_drawn_from_ballots_and_clips_of_unknown_raters_left_out():
    split, unanimous = Panel(((0.5, 0.5),), (3,)), Panel(((1.0, 0.0),), (4,))
    selection = rated_selection([split, unanimous, unanimous])
    selection = selection_of(selection.votes, panels=[split, unanimous, None])
    points = sampler_curve(shares(selection.votes), selection, "bc", [1], new_panels=True)
    assert points[1].value == pytest.approx((np.sqrt(0.5) + 1) / 2)

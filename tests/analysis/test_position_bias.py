"""Position bias: what is put into predictions is found, and a model that does not mind the order has none."""

import numpy as np
import pytest

from ambi_eval.analysis.position_bias import position_bias

LABELS = ["angry", "happy", "neutral", "sad"]
CLUSTERS = [f"speaker {clip // 4}" for clip in range(40)]


def predictions(gain, rotations=4):
    """Predictions in which a part `gain` of the probability goes to the label that stands first."""
    p = np.random.default_rng(0).dirichlet(np.ones(4), size=40)[:, None].repeat(rotations, axis=1)
    return (1 - gain) * p + gain * np.eye(4)[None, :rotations]


def test_the_gain_of_standing_first_is_found():
    found = position_bias(predictions(0.2), LABELS, CLUSTERS)
    assert found.first.value == pytest.approx(0.2)
    assert [gain.value for gain in found.by_label.values()] == pytest.approx([0.2] * 4)
    assert [place.value for place in found.by_place] == pytest.approx([0.15, -0.05, -0.05, -0.05])


def test_a_model_that_does_not_mind_the_order_has_none():
    found = position_bias(predictions(0.0), LABELS, CLUSTERS)
    assert found.first.value == pytest.approx(0, abs=1e-12)
    assert found.first.low <= 1e-12


def test_its_interval_is_clustered_by_speaker():
    p = predictions(0.0)
    p[::4] = 0.7 * p[::4] + 0.3 * np.eye(4)  # every speaker has one clip with a bias
    alike = position_bias(p, LABELS, CLUSTERS).first
    p = predictions(0.0)
    p[:10] = 0.7 * p[:10] + 0.3 * np.eye(4)  # a few speakers have all of it
    unlike = position_bias(p, LABELS, CLUSTERS).first
    assert alike.value == pytest.approx(unlike.value) == 0.075
    assert unlike.high - unlike.low > 3 * (alike.high - alike.low)


def test_some_orders_give_the_labels_that_stood_first():
    found = position_bias(predictions(0.2, rotations=2), LABELS, CLUSTERS)
    assert list(found.by_label) == ["angry", "happy"]
    assert not found.by_place


def test_one_order_shows_no_bias():
    with pytest.raises(ValueError, match="one order"):
        position_bias(predictions(0.2, rotations=1), LABELS, CLUSTERS)

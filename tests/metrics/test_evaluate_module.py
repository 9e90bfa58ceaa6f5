from __future__ import annotations

import evaluate
import numpy as np
import pytest

import ambi_eval
from ambi_eval.errors import AmbiError
from ambi_eval.metrics import METRICS

RNG = np.random.default_rng(0)
VOTES = RNG.multinomial(9, [0.5, 0.3, 0.2], size=40).astype(float)
PREDICTIONS = RNG.dirichlet([1.0, 1.0, 1.0], size=40)
PREDICTIONS[3] = np.nan  # no valid prediction


@pytest.fixture(autouse=True)
def modules_cache(tmp_path, monkeypatch):
    """`evaluate` copies a module to its cache; nothing of a test stays in the user's."""
    monkeypatch.setattr("evaluate.config.HF_MODULES_CACHE", str(tmp_path))
    monkeypatch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_loaded_by_its_name_gives_the_value_of_ours(name):
    loaded = evaluate.load(ambi_eval.evaluate_module, name)
    result = loaded.compute(predictions=PREDICTIONS, references=VOTES)
    assert result == {name: pytest.approx(METRICS[name].value(PREDICTIONS, VOTES), rel=1e-12)}
    assert METRICS[name].description in loaded.description


def test_without_a_name_all_metrics_are_computed_also_in_batches():
    loaded = evaluate.load(ambi_eval.evaluate_module)
    for start in range(0, 40, 16):
        loaded.add_batch(predictions=PREDICTIONS[start : start + 16], references=VOTES[start : start + 16])
    assert loaded.compute() == {name: pytest.approx(each.value(PREDICTIONS, VOTES)) for name, each in METRICS.items()}


def test_a_name_that_no_metric_has_is_refused_with_the_nearest():
    with pytest.raises(AmbiError, match=r"no metric 'jsd_bit', did you mean 'jsd_bits'\?"):
        evaluate.load(ambi_eval.evaluate_module, "jsd_bit")

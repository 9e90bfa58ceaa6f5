"""The content as JSON."""

import json
import math

import pytest

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.web.format import as_json


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


def test_all_of_the_content_is_json(content):
    plain = json.loads(json.dumps(as_json(content), allow_nan=False))
    first = plain["sections"][0]["systems"][0]
    assert first["scores"]["jsd_bits"]["value"] == content.sections[0].systems[0].scores["jsd_bits"].value
    assert plain["runs"][0]["command"].startswith("lm_eval --model")

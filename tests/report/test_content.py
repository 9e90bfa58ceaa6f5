"""The content as JSON."""

import json

from ambi_eval.analysis.estimate import as_json


def test_all_of_the_content_is_json(content):
    plain = json.loads(json.dumps(as_json(content), allow_nan=False))
    first = plain["sections"][0]["systems"][0]
    assert first["scores"]["jsd_bits"]["value"] == content.sections[0].systems[0].scores["jsd_bits"].value
    assert plain["runs"][0]["command"].startswith("lm_eval --model")

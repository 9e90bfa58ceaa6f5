"""A key that is not known, missing, of another type or out of range is refused by name."""

import json
from typing import get_args

import jsonschema
import pytest
import yaml

from ambi_eval.answers.candidate import Finish
from ambi_eval.errors import AmbiError
from ambi_eval.leaderboard.schema import ANSWER, CARD, CLAIMS, check, json_schema

ANSWERED = {"clip": "a", "sample": 0, "answer": "sad", "finish": "stop", "tokens": 2, "logprob": -0.1, "rating": None}


@pytest.fixture
def card(shipped):
    return yaml.safe_load((next(shipped.glob("*-sc")) / "submission.yaml").read_text())


def lay(content, path, value):
    *above, last = path.split(".")
    for key in above:
        content = content[key]
    content[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("votes", {}, "votes: Extra inputs are not permitted"),
        ("model.sponsor", "x", r"model\.sponsor: Extra inputs"),
        ("format", 2, "format: Input should be 1"),
        ("name", "", "name: String should have at least 1 character"),
        ("name", "x" * 301, "at most 300 characters"),
        ("name", "a\nb", "one line of printable characters"),
        ("name", "evil\u202egnp.exe", "one line of printable characters"),
        ("name", "\x1b[2J", "one line of printable characters"),
        ("model.parameters", "7B", r"model\.parameters: Input should be a valid integer"),
        ("model.parameters", -1, "greater than or equal to 0"),
        ("model.parameters", 10**400, r"model\.parameters"),
        ("model.digest", "abc", "should match pattern"),
        ("wall_seconds", float("nan"), "finite number"),
        ("wall_seconds", float("inf"), "finite number"),
        ("tasks", {}, "at least 1 item"),
        ("tasks", {"../../etc/passwd": {}}, "should match pattern"),
        ("tasks", [1], "valid dictionary"),
        ("tasks.ambi_demo_sc.overrides", {"votes": 3}, "must be one of split, session"),
        ("tasks.ambi_demo_sc.overrides", {"repeats": [1]}, "overrides.repeats"),
        ("tasks.ambi_demo_sc.generation", {"best_of": 3}, "generation.best_of: Extra inputs"),
        ("backend.arguments", {"a b": 1}, "should match pattern"),
        ("tasks.ambi_demo_sc.notices", "x", "valid tuple"),
        ("tasks.ambi_demo_sc.notices", ["\x1b[2J"], r"notices\.0: .*one line of printable characters"),
        ("tasks.ambi_demo_sc.notices", ["x" * 301], "at most 300 characters"),
        ("tasks.ambi_demo_sc.notices", ["x"] * 51, "at most 50 items"),
        ("date", "today", "should match pattern"),
        ("seeds.random", 1.5, "valid integer"),
    ],
)
def test_a_card_with_anything_odd_is_refused(card, path, value, message):
    check(CARD, card, "submission.yaml")
    lay(card, path, value)
    with pytest.raises(AmbiError, match=f"^submission.yaml: .*{message}"):
        check(CARD, card, "submission.yaml")


@pytest.mark.parametrize("key", ["contact", "hardware", "training_data", "seeds", "backend", "model", "tasks"])
def test_a_card_that_lacks_a_key_is_refused(card, key):
    del card[key]
    with pytest.raises(AmbiError, match=f"{key}: Field required"):
        check(CARD, card, "submission.yaml")


def test_an_answer_may_end_in_every_way_that_a_run_logs():
    for finish in (*get_args(Finish), None):
        assert check(ANSWER, {**ANSWERED, "finish": finish}, "line 1")["finish"] == finish


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"votes": {"sad": 3}}, "votes: Extra inputs"),
        ({"transcript": "hello"}, "transcript: Extra inputs"),
        ({"audio": "UklGRg=="}, "audio: Extra inputs"),
        ({"answer": None}, "answer: Input should be a valid string"),
        ({"answer": "\ud800"}, "answer: .*unicode"),
        ({"answer": "x" * 20_001}, "answer: String should have at most 20000 characters"),
        ({"sample": True}, "sample: Input should be a valid integer"),
        ({"sample": -1}, "sample"),
        ({"tokens": 10**9}, "tokens"),
        ({"logprob": 5.0}, "logprob: Input should be less than"),
        ({"logprob": float("-inf")}, "logprob: .*finite"),
        ({"finish": "tired"}, "finish"),
        ({"clip": ""}, "clip"),
    ],
)
def test_an_answer_with_anything_odd_is_refused(changed, message):
    assert check(ANSWER, ANSWERED, "line 1") == ANSWERED
    with pytest.raises(AmbiError, match=f"^line 1: {message}"):
        check(ANSWER, {**ANSWERED, **changed}, "line 1")


@pytest.mark.parametrize("claims", [[], {"ambi_x": 1}, {"ambi_x": {"dist": {"jsd_bits": "0.1"}}}, {"X": {}}])
def test_claims_are_numbers_by_task_pipeline_and_metric(claims):
    with pytest.raises(AmbiError, match=r"^results\.json: "):
        check(CLAIMS, claims, "results.json")


def test_the_json_schema_beside_the_submissions_is_this_one(shipped, card):
    file = json.loads((shipped.parent / "submission.schema.json").read_text())
    assert file == json_schema(), "ambi-eval leaderboard schema > leaderboard/submission.schema.json"
    jsonschema.validate(card, file)
    with pytest.raises(jsonschema.ValidationError, match="votes"):
        jsonschema.validate({**card, "votes": {}}, file)

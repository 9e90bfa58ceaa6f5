"""Settings: unknown keys and wrong values end in one sentence that names the place, the key, the value and the fix."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from ambi_eval.config.settings import Settings
from ambi_eval.errors import AmbiError


class Inner(Settings):
    ratings: Annotated[int, Field(ge=2, le=9)] = 5


class Example(Settings):
    pool: Literal["greedy", "samples"]
    size: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    temperature: float = 1.0
    words: dict[str, str] = Field(default_factory=dict)
    inner: Inner = Inner()
    many: dict[str, Inner] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"pol": "greedy", "pool": "greedy"}, "mine.yaml: unknown key 'pol', did you mean 'pool'?"),
        ({}, "mine.yaml: the key 'pool' is missing"),
        ({"pool": "sample"}, "mine.yaml: pool is 'sample', did you mean 'samples'? It must be one of greedy, samples"),
        ({"pool": "x"}, "mine.yaml: pool is 'x'; it must be one of greedy, samples"),
        ({"pool": "greedy", "size": 0}, "mine.yaml: size is 0; it must be at least 1 or auto"),
        ({"pool": "greedy", "size": 1.5}, "mine.yaml: size is 1.5; it must be a whole number or auto"),
        ({"pool": "greedy", "size": True}, "mine.yaml: size is True; it must be a whole number or auto"),
        ({"pool": "greedy", "temperature": "1"}, "mine.yaml: temperature is '1'; it must be a number"),
        ({"pool": "greedy", "temperature": float("nan")}, "mine.yaml: temperature is nan; it must be a finite number"),
        ({"pool": "greedy", "words": {"a": 3}}, "mine.yaml: words.a is 3; it must be text"),
        (
            {"pool": "greedy", "inner": {"rating": 3}},
            "mine.yaml: unknown key 'inner.rating', did you mean 'ratings'?",
        ),
        (
            {"pool": "greedy", "many": {"a": {"ratting": 3}}},
            "mine.yaml: unknown key 'many.a.ratting', did you mean 'ratings'?",
        ),
        ({"pool": "greedy", "inner": [1]}, "mine.yaml: inner is [1]; it must be `key: value` lines"),
        ({"pool": "greedy", "inner": {"ratings": 99}}, "mine.yaml: inner.ratings is 99; it must be at most 9"),
        ([1], "mine.yaml: it must hold `key: value` lines, it holds [1]"),
        (None, "mine.yaml: it must hold `key: value` lines, it holds None"),
        ({"pool": "x", "size": 0}, "mine.yaml: pool is 'x'; it must be one of greedy, samples (and 1 more mistake)"),
        ({"pool": 10**5000}, "mine.yaml: pool is a number of thousands of digits; it must be one of greedy, samples"),
    ],
)
def test_a_mistake_is_one_sentence_with_place_key_value_and_fix(given, sentence):
    with pytest.raises(AmbiError) as raised:
        Example.read(given, "mine.yaml")
    assert str(raised.value) == sentence


def test_what_is_given_is_kept_and_the_rest_has_its_default():
    made = Example.read({"pool": "samples", "inner": {"ratings": 7}}, "mine.yaml")
    assert (made.pool, made.size, made.inner.ratings, made.temperature) == ("samples", 1, 7, 1.0)

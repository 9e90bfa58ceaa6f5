"""Generation settings: every way to say the same gives equal settings, and what cannot be is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambi_eval.config.generation import SAMPLING_KEYS, GenerationSettings
from ambi_eval.errors import AmbiError


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, GenerationSettings()),
        ({"do_sample": False, "temperature": 0.7, "top_p": 0.5, "top_k": 3}, GenerationSettings()),
        ({"temperature": 0.7}, GenerationSettings(temperature=0.7)),
        ({"temperature": 0, "do_sample": True, "top_k": 5}, GenerationSettings()),
        ({"do_sample": True}, GenerationSettings(temperature=1.0)),
        ({"do_sample": True, "top_k": 5, "top_p": 1}, GenerationSettings(temperature=1.0, top_k=5)),
        ({"until": "\n", "max_gen_toks": 16}, GenerationSettings(until=("\n",), max_gen_toks=16)),
        ({"until": ["\n\n", "."], "num_beams": 5}, GenerationSettings(until=("\n\n", "."), num_beams=5)),
        ({"do_sample": None, "top_k": None}, GenerationSettings()),
    ],
)
def test_generation_kwargs_become_settings(kwargs, expected):
    assert GenerationSettings.read(kwargs, "generation_kwargs") == expected


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"temprature": 1.0}, "unknown key 'temprature', did you mean 'temperature'"),
        ({"max_new_tokens": 8}, "unknown key 'max_new_tokens'"),
        ({"num_return_sequences": 5}, "give the size of a pool as `repeats`"),
        ({"temperature": -1}, "temperature is -1; it must be at least 0"),
        ({"temperature": "hot"}, "temperature is 'hot'; it must be a number"),
        ({"do_sample": True, "top_p": 0}, "top_p is 0; it must be more than 0"),
        ({"do_sample": True, "top_k": 2.5}, "top_k is 2.5; it must be a whole number"),
        ({"max_gen_toks": 0}, "max_gen_toks is 0; it must be at least 1"),
        ({"max_gen_toks": True}, "max_gen_toks is True; it must be a whole number"),
        ({"until": [""]}, r"until.0 is ''; it must be text of at least 1 character"),
        ({"min_p": 0.1}, "unknown key 'min_p'"),
        ({"until": 3}, "until is 3; it must be a list"),
        ({"num_beams": 3, "do_sample": True}, "give num_beams or do_sample, not both"),
    ],
)
def test_impossible_generation_kwargs_are_refused(kwargs, sentence):
    with pytest.raises(AmbiError, match=sentence):
        GenerationSettings.read(kwargs, "generation_kwargs")


KWARGS = st.fixed_dictionaries(
    {},
    optional={
        "do_sample": st.sampled_from([None, True, False]),
        "temperature": st.floats(0, 2),
        "top_k": st.integers(0, 50),
        "top_p": st.floats(0.1, 1),
        "until": st.sampled_from(["\n", [], ["a", "b"]]),
    },
)


@given(KWARGS)
def test_settings_written_out_mean_the_same_settings(kwargs):
    settings = GenerationSettings.read(kwargs, "generation_kwargs")
    assert GenerationSettings.read(settings.model_dump(mode="json"), "generation_kwargs") == settings
    assert settings.sampled == (settings.temperature > 0)


@given(KWARGS)
def test_greedy_settings_know_nothing_of_sampling(kwargs):
    plain = {key: value for key, value in kwargs.items() if key not in SAMPLING_KEYS}
    assert GenerationSettings.read({**kwargs, "do_sample": False}, "generation_kwargs") == GenerationSettings.read(
        plain, "generation_kwargs"
    )

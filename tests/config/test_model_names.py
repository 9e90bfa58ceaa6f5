import json

import pytest

from ambi_eval.config.model_names import folder_name, is_same_model, other_models


@pytest.mark.parametrize(
    ("named", "asked", "same"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o-2024-08-06", "gpt-4o", True),
        ("GPT-4o-2024-08-06", "openai/gpt-4o", True),
        ("gpt-4o", "openai/gpt-4o", True),
        ("voxtral-small-2507", "mistral/voxtral-small-latest", True),
        ("models/gemini-2.5-pro-002", "gemini-2.5-pro", True),
        ("gemini-2.5-pro-preview-05-06", "gemini-2.5-pro-preview", True),
        ("claude@20240229", "claude", True),
        ("llama3:latest", "llama3", True),
        ("Qwen/Qwen2-Audio-7B-Instruct@main", "Qwen/Qwen2-Audio-7B-Instruct", True),
        ("/models/qwen", "/models/qwen", True),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-05-13", False),
        ("gpt-4o-mini", "gpt-4o", False),
        ("gpt-4o-mini-2024-07-18", "gpt-4o", False),
        ("other/qwen2-audio", "qwen/qwen2-audio", False),
        ("llama-3-70b", "llama-3", False),
        ("gpt-5", "gpt-4o", False),
        ("qwen3:70b", "qwen3:8b", False),
        ("my-gpt-4o", "gpt-4o", False),
        ("a@main", "a@dev", False),
        ("-latest", "2024", False),
    ],
)
def test_two_names_are_of_one_model_if_only_provider_or_version_is_added(named, asked, same):
    assert is_same_model(named, asked) == is_same_model(asked, named) == same


def test_replies_and_stored_answers_of_other_models_are_told_and_those_of_the_verifier():
    stored = {json.dumps({"versions": {}, "answered_as": "b"}): 1, json.dumps({"versions": {}}): 5}
    info = {"model": "a", "answered_as": {"a": 3, "b": 2}, "stored_answers_from": stored}
    assert other_models(info) == [
        "'a' was asked for, but the server named another model: 'b' (2 replies, 1 stored answer)."
    ]
    assert other_models({"model": "a", "verifier": info}) == other_models(info)
    assert other_models({"model": "a", "verifier": "self", "stored_answers_from": {"{}": 4}}) == []
    assert other_models({}) == []


def test_several_versions_of_the_model_that_was_asked_for_are_told():
    names = {"gpt-4o-2024-05-13": 2, "openai/gpt-4o": 1}
    assert other_models({"model": "gpt-4o", "answered_as": names}) == []
    (told,) = other_models({"model": "gpt-4o", "answered_as": {**names, "gpt-4o-2024-08-06": 1}})
    assert told.startswith("several versions of 'gpt-4o' answered: 'gpt-4o-2024-05-13' (2 replies), ")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("/home/anna/runs/checkpoint-1500/", "checkpoint-1500"),
        ("./mine", "mine"),
        ("~/models/mine", "mine"),
        ("/", "/"),
        ("Qwen/Qwen2-Audio-7B-Instruct", "Qwen/Qwen2-Audio-7B-Instruct"),
        ("openrouter/google/gemini", "openrouter/google/gemini"),
        ("ambi-tiny", "ambi-tiny"),
    ],
)
def test_a_checkpoint_in_a_folder_is_shown_without_the_path_to_it(given, shown):
    assert folder_name(given) == shown

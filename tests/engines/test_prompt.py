import pytest

from ambi_eval.engines.prompt import as_messages, as_prompt
from ambi_eval.errors import AmbiError

AUDIO = [{"type": "audio", "audio": n} for n in range(2)]


def text(words):
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    ("prompt", "content"),
    [
        ("Which?", [text("Which?")]),
        ("<audio>Which?", [AUDIO[0], text("Which?")]),
        ("Hear <audio> and\n<audio>!", [text("Hear "), AUDIO[0], text(" and\n"), AUDIO[1], text("!")]),
        ("", []),
        ("no <system>x</system>\n here", [text("no <system>x</system>\n here")]),
    ],
)
def test_audio_takes_the_place_of_its_mark(prompt, content):
    assert as_messages(prompt, AUDIO[: prompt.count("<audio>")]) == [{"role": "user", "content": content}]


def test_a_question_alone_comes_back_as_it_is():
    assert as_prompt([{"role": "user", "content": "<audio>Which?\n"}]) == "<audio>Which?\n"


@pytest.mark.parametrize("system", ["Be brief.", "Two\nlines"])
def test_a_system_message_survives(system):
    prompt = as_prompt([{"role": "system", "content": system}, {"role": "user", "content": "<audio>Which?"}])
    assert as_messages(prompt, AUDIO[:1]) == [
        {"role": "system", "content": [text(system)]},
        {"role": "user", "content": [AUDIO[0], text("Which?")]},
    ]


@pytest.mark.parametrize("roles", [["user", "assistant", "user"], ["system"], [], ["user", "assistant"]])
def test_examples_and_answers_begun_are_refused(roles):
    with pytest.raises(AmbiError, match=r"takes one question.*leave out --num_fewshot"):
        as_prompt([{"role": role, "content": "x"} for role in roles])

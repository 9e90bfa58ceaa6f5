import pytest

from ambi_eval.audio import AudioSpan
from ambi_eval.errors import AmbiError
from ambi_eval.inference.question import as_context, as_messages, asked_pools, multimodal, shared_prompts

AUDIO = [{"type": "audio", "audio": n} for n in range(2)]


def text(words):
    return {"type": "text", "text": words}


def test_clones_of_a_request_are_one_pool_and_equal_requests_are_not(ask, voice):
    first, second = (ask("<audio>Which?", voice(1.0), repeats=3) for _ in range(2))
    questions = asked_pools([first] * 3 + [second] * 3)
    assert [question.positions for question in questions] == [[0, 1, 2], [3, 4, 5]]
    assert [question.pool_size for question in questions] == [3, 3]
    assert questions[0].spans == (AudioSpan(voice(1.0)),)


@pytest.mark.parametrize(("clones", "repeats", "size"), [(6, 3, 3), (2, 3, 2), (1, 1, 1), (1, None, 1)])
def test_the_clones_of_data_parallel_padding_are_no_part_of_the_pool(ask, clones, repeats, size):
    (question,) = asked_pools([ask("Which?", repeats=repeats)] * clones)
    assert question.pool_size == size
    assert question.positions == list(range(clones))


def test_requests_with_the_same_prompt_and_audio_share_one_question(ask, voice):
    def label(name, context, path):
        return ask(context, path, continuation=name)

    questions = shared_prompts(
        [
            label("happy", "<audio>A?", voice(1.0)),
            label("sad", "<audio>A?", voice(1.0)),
            label("happy", "<audio>B?", voice(1.0)),
            label("happy", "<audio>A?", voice(0.5)),
            label("angry", "<audio>A?", voice(1.0)),
        ]
    )
    assert [question.positions for question in questions] == [[0, 1, 4], [2], [3]]
    assert [request.args[1] for request in questions[0].requests] == ["happy", "sad", "angry"]


def test_a_request_may_have_no_audio_at_all(ask):
    request = ask("Which?")
    request.arguments = request.arguments[:2]
    assert multimodal(request) == {}
    assert asked_pools([request])[0].spans == ()


@pytest.mark.parametrize(
    ("context", "clips", "sentence"),
    [
        ("Which?", 1, "task: 0 <audio> in a prompt with 1 audios; write <audio> in doc_to_text"),
        ("<audio>Which?", 0, "1 <audio> in a prompt with 0 audios"),
        ("<audio><audio>Which?", 1, "2 <audio> in a prompt with 1 audios"),
    ],
)
def test_every_audio_needs_its_mark(ask, voice, context, clips, sentence):
    with pytest.raises(AmbiError, match=sentence):
        asked_pools([ask(context, *[voice(1.0)] * clips)])


def test_a_missing_file_is_said_before_anything_is_computed(ask, voice, tmp_path):
    requests = [ask("<audio>Which?", voice(1.0)), ask("<audio>Which?", str(tmp_path / "gone.wav"))]
    for collect in (asked_pools, shared_prompts):
        with pytest.raises(AmbiError, match=r"gone\.wav: there is no such audio file"):
            collect(requests)


@pytest.mark.parametrize(
    ("context", "content"),
    [
        ("Which?", [text("Which?")]),
        ("<audio>Which?", [AUDIO[0], text("Which?")]),
        ("Hear <audio> and\n<audio>!", [text("Hear "), AUDIO[0], text(" and\n"), AUDIO[1], text("!")]),
        ("", []),
        ("no <system>x</system>\n here", [text("no <system>x</system>\n here")]),
    ],
)
def test_audio_takes_the_place_of_its_mark(context, content):
    assert as_messages(context, AUDIO[: context.count("<audio>")]) == [{"role": "user", "content": content}]


def test_a_question_alone_comes_back_as_it_is():
    assert as_context([{"role": "user", "content": "<audio>Which?\n"}]) == "<audio>Which?\n"


@pytest.mark.parametrize("system", ["Be brief.", "Two\nlines"])
def test_a_system_message_survives(system):
    context = as_context([{"role": "system", "content": system}, {"role": "user", "content": "<audio>Which?"}])
    assert as_messages(context, AUDIO[:1]) == [
        {"role": "system", "content": [text(system)]},
        {"role": "user", "content": [AUDIO[0], text("Which?")]},
    ]


@pytest.mark.parametrize("roles", [["user", "assistant", "user"], ["system"], [], ["user", "assistant"]])
def test_examples_and_answers_begun_are_refused(roles):
    with pytest.raises(AmbiError, match=r"takes one question.*leave out --num_fewshot"):
        as_context([{"role": role, "content": "x"} for role in roles])

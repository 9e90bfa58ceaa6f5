import pytest

from ambi_eval.audio import AudioSpan
from ambi_eval.errors import AmbiError
from ambi_eval.models.requests import asked_questions, shared_prompts


def test_clones_of_a_request_are_one_pool_and_equal_requests_are_not(ask, voice):
    first, second = (ask("<audio>Which?", voice(1.0), repeats=3) for _ in range(2))
    questions = asked_questions([first] * 3 + [second] * 3)
    assert list(questions.values()) == [[0, 1, 2], [3, 4, 5]]
    assert [question.pool_size for question in questions] == [3, 3]
    assert next(iter(questions)).spans == (AudioSpan(voice(1.0)),)


@pytest.mark.parametrize(("clones", "repeats", "size"), [(6, 3, 3), (2, 3, 2), (1, 1, 1), (1, None, 1)])
def test_the_clones_of_data_parallel_padding_are_no_part_of_the_pool(ask, clones, repeats, size):
    ((question, positions),) = asked_questions([ask("Which?", repeats=repeats)] * clones).items()
    assert question.pool_size == size
    assert positions == list(range(clones))


def test_requests_with_the_same_prompt_and_audio_share_one_job(ask, voice):
    def label(name, context, path):
        return ask(context, path, continuation=name)

    jobs = shared_prompts(
        [
            label("happy", "<audio>A?", voice(1.0)),
            label("sad", "<audio>A?", voice(1.0)),
            label("happy", "<audio>B?", voice(1.0)),
            label("happy", "<audio>A?", voice(0.5)),
            label("angry", "<audio>A?", voice(1.0)),
        ]
    )
    assert list(jobs.values()) == [[0, 1, 4], [2], [3]]
    assert next(iter(jobs)).continuations == [("happy", False), ("sad", False), ("angry", False)]


def test_a_request_may_have_no_audio_at_all(ask):
    request = ask("Which?")
    request.arguments = request.arguments[:2]
    assert [question.spans for question in asked_questions([request])] == [()]


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
        asked_questions([ask(context, *[voice(1.0)] * clips)])


def test_a_missing_file_is_said_before_anything_is_computed(ask, voice, tmp_path):
    requests = [ask("<audio>Which?", voice(1.0)), ask("<audio>Which?", str(tmp_path / "gone.wav"))]
    for collect in (asked_questions, shared_prompts):
        with pytest.raises(AmbiError, match=r"gone\.wav: there is no such audio file"):
            collect(requests)

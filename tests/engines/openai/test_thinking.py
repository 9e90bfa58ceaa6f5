"""A chat model that thinks first: its thinking is no part of the answer, and is counted apart."""

import pytest

from ambi_eval.config.generation import GenerationSettings
from ambi_eval.config.model_arguments import OpenAIAudioArguments
from ambi_eval.engines.base import Job
from ambi_eval.engines.openai.choices import after_thinking, candidates_of, thinking_length
from ambi_eval.engines.openai.engine import OpenAIEngine
from ambi_eval.engines.openai.replies import Choice, Reply

END = "</think>"


def choice(text, tokens=(), finish="stop", **message):
    listed = [{"token": token, "logprob": -float(number)} for number, token in enumerate(tokens, 1)]
    message = {"content": text, **message}
    return {"index": 0, "message": message, "finish_reason": finish, "logprobs": {"content": listed}}


@pytest.mark.parametrize(
    ("given", "end", "room", "text", "tokens", "thought"),
    [
        (choice("hm</think>\nsad", ["hm", "</think>", "\n", "sad"]), END, 9, "sad", ["\n", "sad"], 2),
        (choice("hm</think>sad", ["hm", "</", "think>", "sad"]), END, 0, "sad", ["sad"], 3),
        (choice("hm</think>sad", []), END, 9, "sad", [], 0),
        (choice("a</think>b</think>sad", ["a</think>", "b</think>", "sad"]), END, 9, "sad", ["sad"], 2),
        (choice("sad", ["sad"]), END, 9, "sad", ["sad"], 0),
        (choice("sad", ["sad"]), None, 0, "sad", ["sad"], 0),
        (choice("hm hm", ["hm", " hm"], "length"), END, 9, "", [], 0),
        (choice("sad and", ["sad", " and"], "length"), END, 0, "sad and", ["sad", " and"], 0),
        (choice("sad", ["hm", END, "sad"], reasoning="hm"), END, 9, "sad", ["sad"], 2),
        (choice("sad", ["hm", END, "sad"], reasoning_content="hm"), None, 9, "sad", [], 0),
    ],
)
def test_an_answer_begins_after_the_thinking(given, end, room, text, tokens, thought):
    read, settings = Choice.model_validate(given), GenerationSettings(max_thinking_toks=room)
    found, listed = after_thinking(read, end, settings)
    assert (found, [token.token for token in listed]) == (text, tokens)
    assert thinking_length(read, end) == thought


@pytest.fixture
def ask(chat_server):
    """Ask a server that gives this choice and this usage; return answer, counts and the body of the request."""

    def asked(reply, usage, owner="a test", end=None, **settings):
        chat_server.owner = owner
        chat_server.answer = lambda body: {"choices": [reply], "usage": usage}
        given = {"model": "listener", "base_url": chat_server.url, "think_end_token": end}
        engine = OpenAIEngine(OpenAIAudioArguments.read(given, "test"))
        ((_, found),) = engine.generate([Job("Which?", settings=GenerationSettings(**settings))])
        return found[0], engine.counts(), chat_server.bodies[-1]

    return asked


def test_what_the_server_counts_as_reasoning_is_counted_apart(ask):
    usage = {"prompt_tokens": 5, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 7}}
    answer, counts, body = ask({**choice("sad"), "logprobs": None}, usage, max_gen_toks=4, max_thinking_toks=20)
    assert (str(answer), answer.n_tokens, answer.thinking_tokens, answer.logprob) == ("sad", 2, 7, None)
    assert (counts["generated_tokens"], counts["thinking_tokens"]) == (9, 7)
    assert (body["max_tokens"], "thinking_token_budget" in body) == (24, False)


@pytest.mark.parametrize(
    ("made", "thought", "total", "answer", "generated"),
    [(9, 7, 14, 2, 9), (9, 7, None, 2, 9), (2, 7, 14, 2, 9), (9, 7, 21, 9, 16), (2, 7, None, 2, 9), (9, 0, 14, 9, 9)],
)
def test_thinking_that_a_server_counts_beside_the_answer_is_counted_too(made, thought, total, answer, generated, ask):
    details = {"completion_tokens_details": {"reasoning_tokens": thought}}
    usage = {"prompt_tokens": 5, "completion_tokens": made, "total_tokens": total, **details}
    found, counts, _ = ask({**choice("sad"), "logprobs": None}, usage)
    assert (found.n_tokens, found.thinking_tokens) == (answer, thought)
    assert (counts["generated_tokens"], counts["thinking_tokens"]) == (generated, thought)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("LENGTH", "length"),
        ("max_tokens", "length"),
        ("model_length", "length"),
        ("end_turn", "stop"),
        ("eos", "stop"),
        ("SAFETY", "content_filter"),
        ("odd", None),
        (None, None),
    ],
)
def test_why_an_answer_ended_is_read_in_several_words(reason, finish, ask):
    assert ask({**choice("sad"), "finish_reason": reason}, None)[0].finish == finish


def test_thinking_in_the_text_is_counted_by_its_tokens(ask):
    reply = choice("hm</think>sad", ["hm", END, "sad"])
    answer, counts, _ = ask(reply, {"completion_tokens": 3}, end=END)
    assert (str(answer), answer.n_tokens, answer.thinking_tokens, answer.logprob) == ("sad", 1, 2, -3.0)
    assert (counts["generated_tokens"], counts["thinking_tokens"]) == (3, 2)


@pytest.mark.parametrize(
    ("choices", "reasoning", "end", "found"),
    [
        ([choice("sad")], 0, None, [(4, 0)]),
        ([choice("sad")], None, None, [(4, 0)]),
        ([choice("sad")] * 3, 8, None, [(None, 3), (None, 3), (None, 2)]),  # counted together
        ([choice("sad", reasoning="hm")], None, None, [(None, None)]),
        ([choice("hm</think>sad")], None, END, [(None, None)]),
        ([choice("hm</think>sad", ["hm", END, "sad"])] * 2, None, END, [(1, 2), (1, 2)]),
        ([{**choice("sad"), "ambi_n_tokens": 2, "ambi_thinking_tokens": 9}], 9, None, [(2, 9)]),
    ],
)
def test_thinking_is_counted_for_each_answer_and_what_nobody_counts_is_unknown(choices, reasoning, end, found):
    details = {} if reasoning is None else {"completion_tokens_details": {"reasoning_tokens": reasoning}}
    reply = Reply.model_validate({"choices": choices, "usage": {"completion_tokens": 4 + (reasoning or 0), **details}})
    answers = candidates_of(reply, Job("Which?"), end)
    assert [(answer.n_tokens, answer.thinking_tokens) for answer in answers] == found


def test_vllm_is_told_how_long_to_think(ask):
    _, _, body = ask(
        choice("sad", ["sad"]), {"completion_tokens": 1}, owner="vllm", max_gen_toks=4, max_thinking_toks=20
    )
    assert (body["max_tokens"], body["thinking_token_budget"]) == (24, 20)

import base64
import io
import threading
import time

import numpy as np
import pytest
import soundfile

from ambi_eval.audio import AudioSpan, audio_digest, load_audio
from ambi_eval.engines.base import Job
from ambi_eval.engines.openai.client import FAILURES_IN_A_ROW, OPTIONAL, ChatServer, RequestFailedError, concurrently
from ambi_eval.errors import AmbiError

KEY = "sk-secret-0123456789"
BODY = {
    "messages": [{"role": "user", "content": "Which?"}],
    "temperature": 0.5,
    "max_tokens": 9,
    "logprobs": True,
    "top_logprobs": 5,
    "n": 2,
    "seed": 3,
    "stop": ["\n"],
}


@pytest.fixture
def connect(chat_server):
    def to(**options):
        return ChatServer("listener", chat_server.url, **{"max_retries": 1, "timeout": 1.0, **options})

    return to


def error(status, code=None, message="no", param=None, **headers):
    return status, headers, {"error": {"message": message, "code": code, "param": param}}


def hear(part):
    return soundfile.read(io.BytesIO(base64.b64decode(part["input_audio"]["data"])), dtype="float32")


# ---------------------------------------------------------------------------------------------- the question


def test_the_server_hears_16_bit_samples_before_the_words(connect, voice):
    span = AudioSpan(voice(0.5), control="noise")
    system, user = connect().question(Job("<system>Be short.</system>\n<audio>Which?", (span,)))["messages"]
    assert system == {"role": "system", "content": "Be short."}
    audio, words = user["content"]
    samples, rate = hear(audio)
    assert (audio["type"], audio["input_audio"]["format"], rate) == ("input_audio", "wav", 16000)
    np.testing.assert_allclose(samples, load_audio(span, 16000), atol=2**-15)
    assert words == {"type": "text", "text": "Which?"}


def test_the_bridge_hears_the_very_samples_and_is_told_which_they_are(connect, chat_server, voice):
    chat_server.owner = "ambi-eval-bridge"
    span = AudioSpan(voice(0.5))
    asked = connect().question(Job("<audio>Which?", (span,)))
    samples, _ = hear(asked["messages"][0]["content"][0])
    np.testing.assert_array_equal(samples, load_audio(span, 16000))
    assert asked["ambi_audio_digests"] == [audio_digest(span)]


def test_a_prompt_without_audio_is_plain_text(connect):
    assert connect().question(Job("Which?")) == {"messages": [{"role": "user", "content": "Which?"}]}


# ---------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    "fault",
    [
        error(429, "rate_limit", **{"Retry-After": "0.2"}),
        error(500),
        error(503),
        "cut",
        "hang",
        (200, {}, b'{"choices": [{"message"'),
        (200, {"Content-Type": "text/html"}, b"<h1>Welcome</h1>"),
        (200, {}, {"choices": []}),
        (200, {}, {"choices": None}),
        (200, {}, {"choices": [{"message": None}]}),
        (200, {}, []),
    ],
    ids=str,
)
def test_a_request_is_repeated_after(fault, connect, chat_server):
    chat_server.faults = [fault]
    server = connect()
    assert len(server.ask(BODY)["choices"]) == 2
    assert (server.counts["requests"], server.counts["retries"], server.counts["failed"]) == (2, 1, 0)
    chat_server.faults = [fault, fault, fault]
    with pytest.raises(RequestFailedError):
        server.ask(BODY)
    assert (server.counts["requests"], server.counts["retries"], server.counts["failed"]) == (4, 2, 1)


def test_retry_after_is_waited_for(connect, chat_server):
    chat_server.faults = [error(429, **{"Retry-After": "1.2"})]
    start = time.monotonic()
    connect().ask(BODY)
    assert time.monotonic() - start >= 1.2


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (error(401, "invalid_api_key", f"Incorrect key {KEY}"), r"refuses the key in LISTENER_KEY .*\[key\]"),
        (error(403, "country"), "refuses the key in LISTENER_KEY"),
        (error(404, "model_not_found"), "has no model 'listenre', did you mean 'listener'"),
        (error(429, "insufficient_quota"), "has no quota left"),
        (error(400, "unsupported"), "cannot do what this strategy needs"),
    ],
)
def test_what_no_request_can_mend_ends_the_run_at_once(fault, sentence, connect, chat_server, monkeypatch):
    monkeypatch.setenv("LISTENER_KEY", KEY)
    chat_server.faults = [fault]
    server = connect(api_key_env="LISTENER_KEY", max_retries=0)
    server.model = "listenre"
    with pytest.raises(AmbiError, match=sentence) as told:
        server.ask(BODY)
    assert KEY not in str(told.value)
    assert chat_server.keys == [f"Bearer {KEY}"]


def test_a_request_that_is_refused_is_not_repeated_and_others_go_on(connect, chat_server):
    chat_server.faults = [error(400, message="audio too long")]
    server = connect()
    with pytest.raises(RequestFailedError, match="audio too long"):
        server.ask(BODY)
    server.ask(BODY)
    assert len(chat_server.bodies) == 2


def test_many_failures_in_a_row_end_the_run(connect, chat_server):
    chat_server.faults = [lambda body: error(400, message="no audio here")]
    server = connect(num_concurrent=1)
    for _ in range(FAILURES_IN_A_ROW - 1):
        with pytest.raises(RequestFailedError):
            server.ask(BODY)
    with pytest.raises(AmbiError, match=r"10 requests in a row failed, the last one with: .*no audio here"):
        server.ask(BODY)


@pytest.mark.parametrize("field", OPTIONAL)
@pytest.mark.parametrize("names_it", ["param", "message", "detail"])
def test_a_field_that_the_server_refuses_by_name_is_left_out_and_said_once(
    field, names_it, connect, chat_server, caplog
):
    refusal = {
        "param": error(400, param=field),
        "message": error(400, message=f"Unsupported parameter: '{field}' is not supported"),
        "detail": (422, {}, {"detail": [{"loc": ["body", field], "msg": "Extra inputs are not permitted"}]}),
    }[names_it]
    chat_server.faults = [lambda body: refusal if field in body else None]
    server = connect()
    for _ in range(2):
        server.ask(BODY)
    with_it, without, again = chat_server.bodies
    assert field in with_it
    assert without == again
    expected = {name: value for name, value in with_it.items() if name != field}
    assert without == expected | ({"max_completion_tokens": 9} if field == "max_tokens" else {})
    assert caplog.text.count(f"refuses '{field}'") == 1


@pytest.mark.parametrize("code", ["content_filter", "content_policy_violation"])
def test_a_prompt_that_a_filter_rejects_has_filtered_answers(code, connect, chat_server):
    chat_server.faults = [error(400, code)]
    reply = connect().ask(BODY)
    assert [choice["finish_reason"] for choice in reply["choices"]] == ["content_filter"] * 2


def test_further_fields_are_sent_and_null_takes_one_out(connect, chat_server):
    connect(extra_body={"reasoning_effort": "low", "stop": None}).ask(BODY)
    (sent,) = chat_server.bodies
    assert sent["reasoning_effort"] == "low"
    assert "stop" not in sent


def test_what_was_used_is_added_up(connect):
    server = connect()
    for _ in range(3):
        server.ask(BODY)
    assert server.counts == {
        "requests": 3,
        "retries": 0,
        "failed": 0,
        "prompt_tokens": 300,
        "generated_tokens": 12,
        "audio_tokens": 240,
    }
    assert server.fingerprints == {"fp_1": 3}


def test_requests_repeated_ones_included_keep_to_the_rate(connect, chat_server):
    chat_server.faults = [error(429, **{"Retry-After": "0.01"})]
    server = connect(requests_per_minute=300)
    start = time.monotonic()
    for _ in range(4):
        server.ask(BODY)
    assert time.monotonic() - start >= 4 * 0.2


# ---------------------------------------------------------------------------------------------- concurrency


def test_no_more_requests_than_allowed_are_under_way_and_no_fewer(connect, chat_server):
    server = connect(num_concurrent=3)
    items = iter(range(12))
    done = list(concurrently(lambda item: server.ask({**BODY, "seed": item}), lambda: next(items, None), 3))
    assert chat_server.at_once == 3
    assert sorted(item for item, _ in done) == list(range(12))


def test_work_that_comes_up_on_the_way_is_done_too():
    queue = [3]
    done = []
    for item, result in concurrently(lambda item: item * 10, lambda: queue.pop() if queue else None, 2):
        done.append((item, result))
        if item:
            queue.append(item - 1)
    assert done == [(3, 30), (2, 20), (1, 10), (0, 0)]


def test_what_is_done_comes_before_more_is_taken():
    """A model that takes its time over each item must not hold back what the server has answered already."""
    taken = iter(range(5))

    def take():
        time.sleep(0.05)
        return next(taken, None)

    first, _ = next(concurrently(lambda item: item, take, 100))
    assert first == 0
    assert next(taken) <= 2


def test_after_an_error_what_is_under_way_is_still_given_and_nothing_more_begun():
    items = iter([2, 0, 1, 3])
    all_there = threading.Barrier(3, timeout=10)

    def work(item):
        all_there.wait()
        time.sleep(0.1 * item)
        return 1 / item

    results = concurrently(work, lambda: next(items, None), 3)
    assert [next(results), next(results)] == [(1, 1.0), (2, 0.5)]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert next(items) == 3


# ---------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x/v1", "http://", "http://me:secret@host/v1", "http://host/v1?key=secret"]
)
def test_an_address_that_is_none_or_holds_a_password_is_refused(url):
    with pytest.raises(AmbiError, match="is no address of a server") as told:
        ChatServer("listener", url)
    assert "secret" not in str(told.value)


def test_openai_and_named_variables_need_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(AmbiError, match=r"api\.openai\.com.* set the environment variable OPENAI_API_KEY"):
        ChatServer("gpt-4o-audio-preview")
    with pytest.raises(AmbiError, match="set the environment variable GEMINI_API_KEY"):
        ChatServer("gemini", "http://localhost:1/v1", api_key_env="GEMINI_API_KEY")


def test_a_server_that_is_not_there_is_said(chat_server, connect):
    chat_server.close()
    with pytest.raises(AmbiError, match=r"no server answers at http://127\.0\.0\.1"):
        assert connect(max_retries=0).is_bridge


def test_a_password_less_server_gets_no_key_of_openai(connect, chat_server):
    connect().ask(BODY)
    assert chat_server.keys == ["Bearer none"]

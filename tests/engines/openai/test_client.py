import base64
import contextlib
import io
import json
import math
import re
import socket
import threading
import time
from email.utils import formatdate
from urllib.parse import quote, quote_plus

import numpy as np
import pytest
import soundfile
from support.chat_server import ChatTestServer

from ambi_eval.audio import AudioSpan, audio_digest, load_audio
from ambi_eval.config.model_arguments import OpenAIAudioArguments
from ambi_eval.engines.base import Job
from ambi_eval.engines.openai.client import FAILURES_IN_A_ROW, OPTIONAL, ChatServer, RequestFailedError
from ambi_eval.engines.openai.concurrency import concurrently
from ambi_eval.engines.openai.transport import pause_after
from ambi_eval.errors import AmbiError

KEY = "sk-secret-0123456789"
BODY = {
    "messages": [{"role": "user", "content": "Which?"}],
    "temperature": 0.5,
    "top_p": 0.9,
    "max_tokens": 9,
    "logprobs": True,
    "top_logprobs": 5,
    "n": 2,
    "seed": 3,
    "thinking_token_budget": 8,
    "stop": ["\n"],
}


def server_at(url, model="listener", **options):
    return ChatServer(OpenAIAudioArguments(model=model, base_url=url, **options))


@pytest.fixture
def connect(chat_server):
    def to(**options):
        return server_at(chat_server.url, **{"max_retries": 1, "timeout": 10.0, **options})

    return to


def error(status, code=None, message="no", param=None, **headers):
    return status, headers, {"error": {"message": message, "code": code, "param": param}}


def hear(part):
    return soundfile.read(io.BytesIO(base64.b64decode(part["input_audio"]["data"])), dtype="float32")


# ---------------------------------------------------------------------------------------------- the question


def test_the_server_hears_16_bit_samples_before_the_words(connect, voice):
    span = AudioSpan(voice(0.5), control="noise")
    system, user = connect().question(Job("<system>Be short.</system>\n<audio>Which?"), [load_audio(span, 16000)])[
        "messages"
    ]
    assert system == {"role": "system", "content": "Be short."}
    audio, words = user["content"]
    samples, rate = hear(audio)
    assert (audio["type"], audio["input_audio"]["format"], rate) == ("input_audio", "wav", 16000)
    np.testing.assert_allclose(samples, load_audio(span, 16000), atol=2**-15)
    assert words == {"type": "text", "text": "Which?"}


def test_the_bridge_hears_the_very_samples_and_is_told_which_they_are(connect, chat_server, voice):
    chat_server.owner = "ambi-eval-bridge"
    span = AudioSpan(voice(0.5))
    asked = connect().question(Job("<audio>Which?", (span,)), [load_audio(span, 16000)])
    samples, _ = hear(asked["messages"][0]["content"][0])
    np.testing.assert_array_equal(samples, load_audio(span, 16000))
    assert asked["ambi_audio_digests"] == [audio_digest(span)]


def test_a_prompt_without_audio_is_plain_text(connect):
    assert connect().question(Job("Which?"), []) == {"messages": [{"role": "user", "content": "Which?"}]}


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
        # The same with a right form and a wrong type somewhere.
        (200, {}, {"choices": [{"message": "happy"}]}),
        (200, {}, {"choices": [{"message": {"content": 7}}]}),
        (200, {}, {"choices": [{"message": {"content": {"text": "happy"}}}]}),
        (200, {}, {"choices": [{"message": {"content": [{"type": "text", "text": 1}]}}]}),
        (200, {}, {"choices": [{"message": {"content": "happy", "refusal": []}}]}),
        (200, {}, {"choices": [{"message": {"content": "happy"}, "finish_reason": 1}]}),
        (200, {}, {"choices": [{"message": {"content": "happy"}, "logprobs": [1]}]}),
        (200, {}, {"choices": [{"message": {"content": "happy"}, "logprobs": {"content": "happy"}}]}),
        (200, {}, {"choices": [{"message": {"content": "happy"}, "logprobs": {"content": [{"logprob": 0}]}}]}),
        (200, {}, {"choices": [{"message": {"content": "x"}, "logprobs": {"content": [{"token": 1}]}}]}),
        (200, {}, {"choices": [{"message": {"content": "x"}, "ambi_logprob": "low"}]}),
        (200, {}, b'{"choices": [{"message": {"content": "x"}, "ambi_logprob": NaN}]}'),
        (200, {}, {"choices": [{"message": {"content": "x"}}], "ambi_beams": "three"}),
        (200, {}, {"ambi_loglikelihoods": [[-1.0, True]]}),
        (200, {}, {"error": {"message": "overloaded", "code": 502}}),
        (200, {}, b'{"choices": ' + 100_000 * b"["),
        (200, {}, b"\x1f\x8b\x00nonsense"),
        (200, {"Content-Encoding": "gzip"}, b"no gzip"),
        (200, {}, b""),
        (200, {}, b"null"),
        (200, {}, b'{"choices": [{"message": {"content": "' + 11_000_000 * b"a" + b'"}}]}'),
        (500, {}, 11_000_000 * b"a"),
    ],
    ids=lambda fault: str(fault)[:80],
)
def test_a_request_is_repeated_after(fault, connect, chat_server):
    chat_server.faults = [fault]
    server = connect(timeout=1.0 if fault == "hang" else 10.0)
    assert len(server.ask(BODY).choices) == 2
    assert (server.counts["requests"], server.counts["retries"], server.counts["failed"]) == (2, 1, 0)
    chat_server.faults = [fault, fault, fault]
    with pytest.raises(RequestFailedError):
        server.ask(BODY)
    assert (server.counts["requests"], server.counts["retries"], server.counts["failed"]) == (4, 2, 1)


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": "100", "completion_tokens": "40"}, (100, 40, 0)),
        ({"prompt_tokens": 100.0, "completion_tokens": 40.0}, (100, 40, 0)),
        ({"prompt_tokens": "many", "completion_tokens": 40}, (0, 40, 1)),
        ({"prompt_tokens": 100, "completion_tokens": -3}, (100, 0, 1)),
        ({"prompt_tokens": True, "completion_tokens": 2.5}, (0, 0, 1)),
        ({"prompt_tokens": float("inf"), "completion_tokens": float("nan")}, (0, 0, 1)),
        ([1], (0, 0, 1)),
        (None, (0, 0, 1)),
    ],
)
def test_an_answer_is_not_asked_for_again_because_its_tokens_are_miscounted(usage, counted, connect, chat_server):
    chat_server.faults = [(200, {}, {"choices": [{"message": {"content": "happy"}}], "usage": usage})]
    counts = connect()
    assert counts.ask(BODY).choices[0].text == "happy"
    assert tuple(counts.counts[name] for name in ("prompt_tokens", "generated_tokens", "uncounted_replies")) == counted
    assert len(chat_server.bodies) == 1


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"message": {"content": ["hap", {"type": "text", "text": "py"}]}}, "happy"),
        ({"message": {"content": [{"type": "thinking", "thinking": "sad?"}, {"type": "text", "text": None}]}}, ""),
        ({"message": {"content": "happy", "reasoning_content": {"text": "hm"}}}, "happy"),
        ({"message": {"content": "happy"}, "index": "first"}, "happy"),
        ({"message": {"content": "happy"}, "logprobs": {"content": [{"token": "", "logprob": -math.inf}]}}, "happy"),
    ],
)
def test_an_answer_in_an_odd_form_is_read(choice, text, connect, chat_server):
    content = {"choices": [choice], "system_fingerprint": 7, "error": ""}
    chat_server.faults = [(200, {}, b"\xef\xbb\xbf" + json.dumps(content).encode())]
    assert connect().ask(BODY).choices[0].text == text
    assert len(chat_server.bodies) == 1


def test_choices_are_put_in_order_also_where_their_index_is_a_text(connect, chat_server):
    choices = [{"message": {"content": f"{n}"}, "index": f"{n}"} for n in (2, 0, 10, 1)]
    chat_server.faults = [(200, {}, {"choices": choices})]
    assert [each.text for each in connect().ask(BODY).choices] == ["0", "1", "2", "10"]


def test_thinking_without_an_answer_is_told_once(connect, chat_server, caplog):
    message = {"content": None, "reasoning_content": "The voice is sad."}
    chat_server.faults = [lambda body: (200, {}, {"choices": [{"message": message, "finish_reason": "stop"}]})]
    server = connect()
    assert [server.ask(BODY).choices[0].text for _ in range(2)] == ["", ""]
    assert caplog.text.count("gives thinking without an answer") == 1


def test_an_error_with_status_200_is_told_in_the_servers_words(connect, chat_server):
    chat_server.faults = [lambda body: (200, {}, {"error": {"message": "upstream overloaded", "code": 502}})]
    with pytest.raises(RequestFailedError, match="no chat completion: it is the error upstream overloaded"):
        connect(max_retries=0).ask(BODY)
    chat_server.faults = [lambda body: (200, {}, {"error": "upstream overloaded", "choices": None})]
    with pytest.raises(RequestFailedError, match="no chat completion: it is the error upstream overloaded"):
        connect(max_retries=0).ask(BODY)
    chat_server.faults = [lambda body: (200, {}, {"error": {"message": "no", "code": "content_filter"}})]
    server = connect()
    reply = server.ask({**BODY, "n": 3})
    assert [(each.text, each.finish_reason) for each in reply.choices] == [("", "content_filter")] * 3
    assert server.counts["retries"] == 0


def test_an_error_of_any_length_is_read_no_further_than_a_reply(connect, chat_server):
    chat_server.faults = [lambda body: (400, {"Content-Type": "text/html"}, 11_000_000 * b"a")]
    with pytest.raises(RequestFailedError, match=r"^a reply that is no chat completion: it is larger than 10 MB$"):
        connect(max_retries=0).ask(BODY)


def test_a_reason_for_an_end_that_is_not_known_is_said_once(connect, chat_server, caplog):
    choices = [{"message": {"content": "sad"}, "finish_reason": reason} for reason in ("odd", "STOP", "error", None)]
    chat_server.faults = [lambda body: (200, {}, {"choices": choices})]
    server = connect()
    for _ in range(2):
        server.ask(BODY)
    assert re.findall("finish_reason '(.*)'", caplog.text) == ["odd"]


def test_a_log_probability_above_0_is_unknown(connect, chat_server):
    tokens = [{"token": "a", "logprob": 2.0}, {"token": "b", "logprob": 1e-7}, {"token": "c", "logprob": -9999.0}]
    content = {"choices": [{"message": {"content": "abc"}, "logprobs": {"content": tokens}}]}
    chat_server.faults = [(200, {}, content)]
    assert [token.logprob for token in connect().ask(BODY).choices[0].tokens] == [None, 1e-7, -9999.0]


def test_a_longer_pause_than_the_limit_is_cut_to_the_limit(connect, chat_server, monkeypatch):
    monkeypatch.setattr("ambi_eval.engines.openai.transport.LONGEST_WAIT", 0.3)
    tomorrow = formatdate(time.time() + 86_400, usegmt=True)
    for asked in ("3600", tomorrow, "inf"):
        chat_server.faults = [error(429, **{"Retry-After": asked})]
        start = time.monotonic()
        assert connect().ask(BODY).choices
        assert 0.3 <= time.monotonic() - start < 5


@pytest.mark.parametrize(
    "head",
    ["HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n", ""],
    ids=["body", "head"],
)
def test_a_reply_that_trickles_in_does_not_hold_the_run(head):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connections = []

        def trickle():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connections.append(connection)
                threading.Thread(target=drip, args=(connection,), daemon=True).start()

        def drip(connection):
            with contextlib.suppress(OSError):
                connection.sendall(head.encode())
                while True:
                    connection.sendall(b"H" if head else b"HTTP/1.1 200 OK"[:1])
                    time.sleep(0.1)

        threading.Thread(target=trickle, daemon=True).start()
        server = server_at(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", max_retries=1, timeout=0.5)
        start = time.monotonic()
        with pytest.raises(RequestFailedError, match=r"no whole reply within 0\.5 s"):
            server.ask(BODY)
        assert time.monotonic() - start < 5
        assert server.counts["requests"] == 2
        for connection in connections:
            connection.close()


def test_a_redirect_is_not_followed(connect, chat_server):
    with ChatTestServer() as other:
        chat_server.faults = [(307, {"Location": f"{other.url}/chat/completions"}, {})]
        with pytest.raises(AmbiError, match=rf"redirects to another address \(HTTP 307, to {other.url}"):
            connect().ask(BODY)
        assert other.bodies == []


def test_choices_come_in_the_order_of_their_index(connect, chat_server):
    choices = [{"index": n, "message": {"content": str(n)}} for n in (2, 0, 1)]
    chat_server.faults = [(200, {}, {"choices": choices})]
    assert [choice.text for choice in connect().ask(BODY).choices] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": [{"type": "text", "text": "hap"}, {"type": "text", "text": "py"}]}, "happy"),
        ({"content": [{"type": "thinking", "thinking": "sad?"}, {"type": "text", "text": "happy"}]}, "happy"),
        ({"content": []}, ""),
        ({"content": None, "refusal": "I will not."}, "I will not."),
        ({"content": None}, ""),
    ],
)
def test_the_parts_of_an_answer_are_joined(message, text, connect, chat_server):
    chat_server.faults = [(200, {}, {"choices": [{"message": message}]})]
    assert connect().ask(BODY).choices[0].text == text


def test_half_a_surrogate_pair_becomes_a_replacement_character(connect, chat_server):
    reply = b'{"choices": [{"message": {"content": "happy \\ud83d \\ud83d\\ude00 \\\\ud83d"}}]}'
    chat_server.faults = [(200, {}, reply)]
    (choice,) = connect().ask(BODY).choices
    assert choice.text == "happy \ufffd \U0001f600 \\ud83d"
    assert choice.text.encode()


def test_without_retry_after_the_pause_doubles_up_to_8_seconds():
    for attempt, longest in enumerate([0.5, 1, 2, 4, 8, 8, 8]):
        pauses = [pause_after(TimeoutError(), attempt) for _ in range(100)]
        assert 0.75 * longest <= min(pauses) < max(pauses) <= longest


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
        (error(402), "has no quota left"),
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


def test_a_model_that_is_listed_but_does_not_answer_is_not_said_to_be_misspelt(connect, chat_server):
    chat_server.faults = [error(404, "model_not_found")]
    with pytest.raises(AmbiError, match=r"has no model 'listener' \(") as told:
        connect(max_retries=0).ask(BODY)
    assert "did you mean" not in str(told.value)


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
    assert [choice.finish_reason for choice in reply.choices] == ["content_filter"] * 2


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
        "uncounted_replies": 0,
        "prompt_tokens": 300,
        "generated_tokens": 12,
        "audio_tokens": 240,
        "thinking_tokens": 0,
    }
    assert server.tally.fingerprints == {"fp_1": 3}


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
        server_at(url)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "url", ["http://localhost:x/v1", "http://[::1/v1", "http://localhost:99999/v1", "http://a b/v1", "http://h/v1\n"]
)
def test_an_address_that_cannot_be_read_is_one_sentence(url):
    with pytest.raises(AmbiError, match=r"base_url=.* is no address of a server; give one such as"):
        server_at(url)


@pytest.mark.parametrize("key", ["sk-secret-0123\r", "sk-secret\n-0123", "sk secret", "sk-secret-\u00e4"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(key, monkeypatch):
    monkeypatch.setenv("LISTENER_KEY", key)
    with pytest.raises(AmbiError, match="the key in LISTENER_KEY holds a blank, a line break") as told:
        server_at("http://localhost:1/v1", api_key_env="LISTENER_KEY")
    assert "secret" not in str(told.value)


SPECIAL_KEY = "sk-se%cr/et+\"0123'\\456"


@pytest.mark.parametrize(
    "write", [str, lambda key: repr(key)[1:-1], lambda key: json.dumps(key)[1:-1], quote, quote_plus]
)
def test_a_key_that_the_server_repeats_is_masked_in_errors_and_answers(write, connect, chat_server, monkeypatch):
    monkeypatch.setenv("LISTENER_KEY", SPECIAL_KEY)
    written = write(SPECIAL_KEY)
    server = connect(api_key_env="LISTENER_KEY", max_retries=0)
    chat_server.faults = [
        error(400, message=f"bad: {written}!"),
        (200, {}, {"choices": [{"message": {"content": written}}]}),
    ]
    with pytest.raises(RequestFailedError, match=r"bad: \[key\]!"):
        server.ask(BODY)
    assert server.ask(BODY).choices[0].text == "[key]"


def test_a_connection_that_cannot_be_set_up_is_one_sentence(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "ftp://me:secret@x")
    with pytest.raises(AmbiError, match=r"no connection to https://x/v1 can be set up \(Unknown scheme") as told:
        server_at("https://x/v1")
    assert "secret" not in str(told.value)


def test_openai_and_named_variables_need_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(AmbiError, match=r"api\.openai\.com.* set the environment variable OPENAI_API_KEY"):
        server_at(None, "gpt-4o-audio-preview")
    with pytest.raises(AmbiError, match="set the environment variable GEMINI_API_KEY"):
        server_at("http://localhost:1/v1", "gemini", api_key_env="GEMINI_API_KEY")


def test_a_server_that_is_not_there_is_said(chat_server, connect):
    chat_server.stop()
    with pytest.raises(AmbiError, match=r"no server answers at http://127\.0\.0\.1"):
        assert connect(max_retries=0).is_bridge


@pytest.mark.parametrize("status", [502, 503, 429])
def test_a_server_that_fails_to_say_what_it_is_is_asked_again_and_never_taken_for_another(status, connect, chat_server):
    chat_server.owner = "ambi-eval-bridge"
    chat_server.list_faults = [error(status)]
    assert connect().is_bridge
    chat_server.list_faults = [error(status)] * 2
    with pytest.raises(AmbiError, match="no server answers at"):
        assert connect(max_retries=1).served


@pytest.mark.parametrize("fault", [error(404), error(403), (200, {}, {"models": []}), (200, {}, b"<h1>Welcome</h1>")])
def test_a_server_that_lists_no_models_is_a_chat_server(fault, connect, chat_server):
    chat_server.list_faults = [fault]
    server = connect()
    assert (server.served, server.kind) == ({}, "chat")


def test_a_server_that_cannot_list_its_models_is_asked_twice_and_is_a_chat_server(connect, chat_server):
    chat_server.list_faults = [error(500)] * 2
    assert connect(max_retries=5).kind == "chat"
    assert chat_server.list_faults == []


def test_what_a_server_was_is_remembered_for_when_none_answers(connect, chat_server):
    chat_server.owner = "ambi-eval-bridge"
    assert connect().kind == "bridge"
    chat_server.stop()
    assert connect(max_retries=0).kind == "bridge"


def test_a_password_less_server_gets_no_key_of_openai(connect, chat_server):
    connect().ask(BODY)
    assert chat_server.keys == ["Bearer none"]

"""The bridge around functions, over real connections: the official client, raw HTTP, and the program by itself."""

from __future__ import annotations

import ast
import base64
import contextlib
import http.client
import inspect
import io
import json
import logging
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT

from ambi_eval.models import bridge as module
from ambi_eval.models.bridge import Bridge, BridgeError, Function, read_chat

EXAMPLES = sorted((ROOT / "docs" / "bridge_examples").glob("*.py"))
ARGUMENTS = ["audio_path", "prompt", "n", "temperature", "top_p", "max_tokens", "seed", "stop", "system"]
TOY = """
from pathlib import Path

def generate(audio_path, prompt, n, *, temperature, top_p, max_tokens, seed, stop, system):
    heard = len(Path(audio_path).read_bytes()) if audio_path else 0
    return [f"{prompt} {k}: {heard} bytes at {audio_path}" for k in range(n)]
"""


def wav(seconds: float = 0.1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 16000, 0, "NONE", ""))
        out.writeframes(bytes(2 * round(seconds * 16000)))
    return file.getvalue()


def audio_part(content: bytes, form: str = "wav") -> dict:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(content).decode(), "format": form}}


def user(*parts) -> list[dict]:
    return [{"role": "user", "content": list(parts) if parts else "Hello"}]


@pytest.fixture
def serve():
    """Serve a function under the name `toy`, and give the bridge."""
    bridges = []

    def start(generate, **options):
        bridge = Bridge(Function(generate, "toy"), port=0, **options)
        threading.Thread(target=bridge.serve_forever, args=(0.01,), daemon=True).start()
        bridges.append(bridge)
        return bridge

    yield start
    for bridge in bridges:
        bridge.shutdown()
        bridge.server_close()


@pytest.fixture
def echo(serve):
    """A bridge whose answers are the prompt and their number."""
    return serve(lambda audio_path, prompt, n, **options: [f"{prompt} {k}" for k in range(n)])


def client(bridge, key="none", **options):
    return openai.OpenAI(base_url=bridge.url, api_key=key, max_retries=0, **options)


def chat(bridge, **options):
    return client(bridge).chat.completions.create(**{"model": "toy", "messages": user(), **options})


def connect(bridge):
    return http.client.HTTPConnection("127.0.0.1", bridge.server_port, timeout=20)


def post(connection, body, method="POST", path="/v1/chat/completions", **headers):
    connection.request(method, path, body if isinstance(body, (bytes, str)) else json.dumps(body), headers)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


# ------------------------------------------------------------------------------------------- answers


def test_the_function_gets_what_the_official_client_asks_for(serve):
    calls = []

    def generate(audio_path, prompt, n, **options):
        calls.append({"heard": Path(audio_path).read_bytes(), "prompt": prompt, "n": n, **options})
        return [("angry", -1.5), "sad"]

    system = {"role": "system", "content": "You are a listener."}
    text = {"type": "text", "text": "Which emotion?"}
    sampling = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 16, "seed": 3, "stop": ["\n"]}
    answer = chat(serve(generate), messages=[system, *user(audio_part(wav()), text)], n=2, **sampling)
    assert calls == [{"heard": wav(), "prompt": "Which emotion?", "n": 2, "system": "You are a listener.", **sampling}]
    assert [choice.message.content for choice in answer.choices] == ["angry", "sad"]
    assert [(choice.index, choice.finish_reason) for choice in answer.choices] == [(0, "stop"), (1, "stop")]
    assert [choice.model_extra["ambi_logprob"] for choice in answer.choices] == [-1.5, None]
    assert (answer.model, answer.usage) == ("toy", None)


def test_what_a_request_leaves_out_is_as_with_openai(serve):
    calls = []
    bridge = serve(lambda audio_path, prompt, n, **options: calls.append((audio_path, n, options)) or ["yes"])
    assert chat(bridge).choices[0].message.content == "yes"
    defaults = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 256, "seed": None, "stop": [], "system": None}
    assert calls == [(None, 1, defaults)]


def test_the_audio_is_a_file_only_while_the_function_answers(serve):
    paths = []

    def generate(audio_path, prompt, n, **options):
        paths.append(Path(audio_path))
        return [str(paths[-1].is_file())]

    bridge = serve(generate)
    for content in (wav(0.1), wav(0.2), wav(0.1)):
        assert chat(bridge, messages=user(audio_part(content))).choices[0].message.content == "True"
    assert paths[0] == paths[2] != paths[1]
    deadline = time.monotonic() + 10  # the last answer arrives a moment before its file is gone
    while any(paths[0].parent.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [list(path.parent.iterdir()) for path in paths] == [[], [], []]


def test_the_list_of_models_holds_the_one_that_is_served(echo):
    (one,) = client(echo).models.list().data
    assert (one.id, one.owned_by) == ("toy", "ambi-eval-bridge")


def test_eight_requests_at_once_are_answered_one_after_another_each_with_its_own(serve):
    busy = threading.Lock()

    def generate(audio_path, prompt, n, **options):
        assert busy.acquire(blocking=False), "two requests in the function at the same time"
        time.sleep(0.01)
        busy.release()
        return [prompt] * n

    bridge = serve(generate)
    asked = [f"question {number}" for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda text: chat(bridge, messages=[{"role": "user", "content": text}]), asked))
    assert [answer.choices[0].message.content for answer in answers] == asked


def test_one_connection_answers_many_requests(echo):
    connection = connect(echo)
    for _ in range(3):
        assert post(connection, {"model": "toy", "messages": user()})[0] == 200
        assert post(connection, {"model": "toys", "messages": user()})[0] == 404


def test_ten_minutes_of_audio_arrive_whole(serve):
    bridge = serve(lambda audio_path, prompt, n, **options: [str(Path(audio_path).stat().st_size)])
    content = wav(600)
    assert chat(bridge, messages=user(audio_part(content))).choices[0].message.content == str(len(content))


# ------------------------------------------------------------------------------------------- refusals


AUDIO = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}


@pytest.mark.parametrize(
    ("changed", "status", "code", "sentence"),
    [
        ({"model": "gpt-4o"}, 404, "model_not_found", "there is no model 'gpt-4o' here, only toy"),
        ({"model": None}, 404, "model_not_found", "there is no model None here, only toy"),
        ({"messages": None}, 400, "invalid_value", "`messages` is no list of messages"),
        ({"messages": ["Hello"]}, 400, "invalid_value", "`messages` is no list of messages"),
        ({"messages": []}, 400, "invalid_value", "takes one question, after a system message or none; not []"),
        ({"messages": [*user(), *user()]}, 400, "invalid_value", "takes one question"),
        ({"messages": user("Hello")}, 400, "invalid_value", "the parts of a message are `text` with its text"),
        ({"messages": user({"type": "image_url"})}, 400, "invalid_value", "the parts of a message"),
        ({"messages": user({"type": "input_audio"})}, 400, "invalid_value", "the parts of a message"),
        ({"messages": [{"role": "user", "content": 3}]}, 400, "invalid_value", "the parts of a message"),
        ({"messages": user(audio_part(wav(), "m4a"))}, 400, "invalid_value", "the format 'm4a' is none of wav, flac"),
        ({"messages": user(audio_part(b"noise"))}, 400, "invalid_audio", "input_audio: the data is no wav file"),
        ({"messages": user(audio_part(b"", "mp3"))}, 400, "invalid_audio", "input_audio: the data is no mp3 file"),
        (
            {"messages": user({"type": "input_audio", "input_audio": {"data": "§", "format": "wav"}})},
            400,
            "invalid_value",
            "the data is not base64",
        ),
        (
            {"messages": [{"role": "system", "content": [audio_part(wav())]}, *user()]},
            400,
            "invalid_value",
            "the system message is text",
        ),
        ({"messages": user(*[audio_part(wav())] * 2)}, 400, "unsupported", "toy hears one audio, not 2"),
        ({"n": 0}, 400, "invalid_value", "n=0 is no whole number from 1 to 1024"),
        ({"n": True}, 400, "invalid_value", "n=True is no whole number"),
        ({"n": 1.5}, 400, "invalid_value", "n=1.5 is no whole number"),
        ({"seed": "3"}, 400, "invalid_value", "seed='3' is no whole number"),
        ({"seed": 1 << 64}, 400, "invalid_value", "is no whole number"),
        ({"temperature": -1}, 400, "invalid_value", "temperature=-1 is no number from 0"),
        ({"temperature": float("nan")}, 400, "invalid_value", "temperature=nan is no number"),
        ({"max_tokens": 0}, 400, "invalid_value", "max_tokens=0 is no whole number from 1"),
        ({"max_completion_tokens": 0}, 400, "invalid_value", "max_tokens=0 is no whole number from 1"),
        ({"stop": 3}, 400, "invalid_value", "stop=3 is no list of texts"),
        ({"stop": ["\ud83d"]}, 400, "invalid_value", "is no valid Unicode"),
        ({"messages": [{"role": "user", "content": "\ud83d"}]}, 400, "invalid_value", "is no valid Unicode"),
        ({"stop": [""]}, 400, "invalid_value", "is no list of texts that are not empty"),
        ({"stream": True}, 400, "unsupported", "does not stream"),
        ({"tools": []}, 400, "unknown_field", "does not know the field 'tools'"),
        ({"top_k": 5}, 400, "unsupported", "toy takes no top_k: it only answers and samples"),
        ({"ambi_beams": 2}, 400, "unsupported", "toy takes no ambi_beams"),
        ({"ambi_continuations": ["sad"]}, 400, "unsupported", "toy takes no ambi_continuations"),
        ({"ambi_beams": 2, "n": 3}, 400, "invalid_value", "ambi_beams=2 is for temperature 0 and at most as many"),
        ({"ambi_beams": 2, "temperature": 1}, 400, "invalid_value", "ambi_beams=2 is for temperature 0"),
        ({"ambi_samples": [0, 1]}, 400, "invalid_value", "ambi_samples are n=1 numbers from 0, not [0, 1]"),
        ({"ambi_samples": [-1]}, 400, "invalid_value", "ambi_samples are n=1 numbers from 0"),
        ({"ambi_samples": [True]}, 400, "invalid_value", "ambi_samples=[True] is no list of whole numbers"),
        ({"ambi_audio_digests": ["ab"]}, 400, "invalid_value", "1 ambi_audio_digests for 0 audios"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_an_impossible_request_is_refused_with_a_sentence(echo, changed, status, code, sentence):
    given, response = post(connect(echo), {"model": "toy", "messages": user(), **changed})
    assert (given, response["error"]["code"]) == (status, code)
    assert sentence in response["error"]["message"]
    assert response["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/chat/completions", "no JSON", 400, "invalid_json"),
        ("POST", "/v1/chat/completions", "[1]", 400, "invalid_value"),
        ("POST", "/v1/chat/completions", b"\xff", 400, "invalid_json"),
        ("POST", "/v1/chat/completions", "[" * 100_000, 400, "invalid_json"),
        ("GET", "/v1/chat/completions", "", 405, "method_not_allowed"),
        ("POST", "/v1/models", "{}", 405, "method_not_allowed"),
        ("GET", "/etc/passwd", "", 404, "not_found"),
        ("PATCH", "/v1/models", "", 501, "bad_request"),
    ],
)
def test_what_is_no_request_at_all_is_refused_in_json(echo, method, path, body, status, code):
    given, response = post(connect(echo), body, method, path)
    assert (given, response["error"]["code"]) == (status, code)


def test_a_body_of_unknown_length_is_refused(echo):
    status, response = post(connect(echo), "", **{"Transfer-Encoding": "chunked"})
    assert (status, response["error"]["code"]) == (411, "length_required")


def test_a_body_that_is_too_large_is_refused_and_the_connection_goes_on(echo, monkeypatch):
    monkeypatch.setattr(module, "MAX_BODY", 1000)
    connection = connect(echo)
    status, response = post(connection, "x" * 5_000_000)
    assert (status, response["error"]["code"]) == (413, "too_large")
    assert "5,000,000 bytes is larger than 1,000" in response["error"]["message"]
    assert post(connection, {"model": "toy", "messages": user()})[0] == 200


@pytest.mark.parametrize("key", [None, "wrong", "pass word", "pässword"])
def test_without_the_api_key_nothing_is_answered(serve, key):
    bridge = serve(lambda audio_path, prompt, n, **options: ["yes"], key="password")
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions")):
        status, response = post(connect(bridge), "", method, path, **headers)
        assert (status, response["error"]["type"]) == (401, "authentication_error")
        assert "password" not in response["error"]["message"]
    assert client(bridge, key="password").models.list().data[0].id == "toy"


def test_of_a_body_without_the_key_no_more_than_a_little_is_read(serve):
    bridge = serve(lambda audio_path, prompt, n, **options: ["yes"], key="password")
    with socket.create_connection(("127.0.0.1", bridge.server_port), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n"
        )
        connection.sendall(bytes(1 << 20))
        assert connection.recv(100).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example:8000"}, "wrong_host"),
        ({"Origin": "http://evil.example"}, "wrong_origin"),
        ({"Origin": "null"}, "wrong_origin"),
        ({"Host": "LOCALHOST"}, None),
        ({"Host": "[::1]:8000"}, None),
        ({"Host": "localhost:8000", "Origin": "http://localhost:8000"}, None),
    ],
    ids=str,
)
def test_pages_in_a_browser_cannot_ask(echo, headers, code):
    status, response = post(connect(echo), {"model": "toy", "messages": user()}, **headers)
    assert (status, response.get("error", {}).get("code")) == (403 if code else 200, code)


def test_other_machines_may_know_it_by_any_name(serve):
    bridge = serve(lambda audio_path, prompt, n, **options: ["yes"], host="0.0.0.0")
    assert post(connect(bridge), {"model": "toy", "messages": user()}, Host="gpu7:8000")[0] == 200


@pytest.mark.parametrize("length", [10**9, 10**30])
def test_a_body_beyond_all_limits_is_refused_and_the_connection_closed(echo, monkeypatch, length):
    monkeypatch.setattr(module, "MAX_DISCARDED", 1000)
    with socket.create_connection(("127.0.0.1", echo.server_port), timeout=20) as connection:
        connection.sendall(f"POST /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode())
        connection.sendall(bytes(1000))
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_body_that_trickles_in_is_given_up(echo, monkeypatch):
    monkeypatch.setattr(module, "BODY_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", echo.server_port), timeout=20) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.sendall(b"x")
                time.sleep(0.05)
            raise AssertionError("the bridge still listens")


def test_more_connections_than_allowed_are_turned_away_and_later_ones_answered(serve, monkeypatch):
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)
    bridge = serve(lambda audio_path, prompt, n, **options: ["yes"])
    idle = [socket.create_connection(("127.0.0.1", bridge.server_port), timeout=20) for _ in range(2)]
    wait_until(lambda: bridge.connections._value == 0)
    with socket.create_connection(("127.0.0.1", bridge.server_port), timeout=20) as third:
        assert third.recv(100).startswith(b"HTTP/1.1 503")
    for connection in idle:
        connection.close()
    wait_until(lambda: bridge.connections._value == 2)
    assert post(connect(bridge), {"model": "toy", "messages": user()})[0] == 200


class Stopped(BaseException):
    """Not even SystemExit."""


def test_a_model_that_has_stopped_is_said_by_every_later_request(serve, caplog):
    def stop(audio_path, prompt, n, **options):
        raise Stopped

    bridge = serve(stop)
    assert post(connect(bridge), "", "GET", "/health") == (200, {"status": "ok", "model": "toy"})
    for _ in range(2):
        status, response = post(connect(bridge), {"model": "toy", "messages": user()})
        assert (status, response["error"]["code"]) == (503, "model_stopped")
    status, response = post(connect(bridge), "", "GET", "/health")
    assert (status, response["error"]["type"]) == (503, "server_error")
    assert "the model has stopped (Stopped)" in response["error"]["message"]


def test_the_audio_of_a_bridge_that_was_killed_is_removed_by_the_next_one(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    left, own, other = (tmp_path / f"ambi-bridge-{n}-x" for n in (gone.stdout.strip(), os.getpid(), "somebody"))
    for folder in (left, own, other):
        folder.mkdir()
        (folder / "voice.wav").write_bytes(wav())
    serve(lambda audio_path, prompt, n, **options: ["yes"])
    assert (left.exists(), own.exists(), other.exists()) == (False, True, True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_process_that_the_model_forks_does_not_keep_the_port(serve):
    children = []

    def generate(audio_path, prompt, n, **options):
        child = os.fork()
        if child == 0:
            time.sleep(20)
            os._exit(0)
        children.append(child)
        return ["yes"]

    bridge = serve(generate)
    assert chat(bridge).choices
    bridge.shutdown()
    bridge.server_close()
    try:
        deadline = time.monotonic() + 10  # a child lets the port go when it first runs
        while True:
            try:
                Bridge(Function(generate, "toy"), port=bridge.server_port).server_close()
                break
            except BridgeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def test_thinking_is_told_apart_and_only_where_there_is_some():
    thought = module.Answer("sad", None, 2, "stop", 7)
    assert module._choice(0, thought)["ambi_thinking_tokens"] == 7
    used = module._usage(module.Reply([thought, module.Answer("sad", None, 2)], (), 5))
    assert (used["completion_tokens"], used["completion_tokens_details"]) == (11, {"reasoning_tokens": 7})
    plain = module.Answer("sad", None, 2)
    assert "ambi_thinking_tokens" not in module._choice(0, plain)
    assert module._usage(module.Reply([plain], (), 5)).keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}


NAMES = [*module.NUMBERS, *module.LISTS, *module.OTHER_FIELDS, "stream", "max_completion_tokens"]
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "input_audio"]) | JSON},
    optional={
        "text": JSON,
        "input_audio": st.fixed_dictionaries({}, optional={"data": st.text() | JSON, "format": JSON}) | JSON,
    },
)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.just("user") | JSON, "content": st.lists(PARTS) | JSON}))


@pytest.mark.slow
@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(NAMES), JSON), MESSAGES)
def test_no_json_is_more_than_refused(body, messages):
    for content in (body, {**body, "messages": messages}):
        with contextlib.suppress(BridgeError):
            assert read_chat(content, Path("folder")).n >= 1


# ------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("behave", "sentence"),
    [
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: Path("/a/secret/place").read_text(), "FileNotFoundError"),
        (lambda: sys.exit("out of memory"), "SystemExit"),
        (lambda: socket.create_connection(("127.0.0.1", 1)), "ConnectionRefusedError"),
        (lambda: "angry", "TypeError"),
        (lambda: ["angry", "sad"], "TypeError"),
        (lambda: [3], "TypeError"),
        (lambda: [("angry", float("nan"))], "TypeError"),
        (lambda: [("angry", "sad")], "TypeError"),
    ],
)
def test_a_function_that_fails_is_an_error_of_one_request_without_its_secrets(serve, behave, sentence, caplog):
    bridge = serve(lambda audio_path, prompt, n, **options: behave() if prompt == "Hello" else ["yes"])
    status, response = post(connect(bridge), {"model": "toy", "messages": user()})
    assert (status, response["error"]["type"]) == (500, "server_error")
    assert response["error"]["message"] == (
        f"the model failed on this request ({sentence}); the bridge's log says more"
    )
    assert "Traceback" in caplog.text
    assert chat(bridge, messages=[{"role": "user", "content": "Again"}]).choices[0].message.content == "yes"


@pytest.fixture
def gate(serve):
    """A bridge that is busy with the request `first` until the gate opens; and the prompts that the function got."""
    opened, prompts = threading.Event(), []

    def generate(audio_path, prompt, n, **options):
        prompts.append(prompt)
        if prompt == "first":
            assert opened.wait(20)
        return [prompt] if prompt != "bad" else []

    return serve(generate), opened, prompts


def wait_until(holds):
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_of_requests_that_wait_together_only_the_one_at_fault_fails(gate):
    bridge, opened, prompts = gate
    asked = ["first", "one", "bad", "two", "three"]

    def ask(text):
        return post(connect(bridge), {"model": "toy", "messages": [{"role": "user", "content": text}]})[0]

    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(ask, asked[0])
        wait_until(lambda: prompts)
        others = [threads.submit(ask, text) for text in asked[1:]]
        wait_until(lambda: bridge.waiting.qsize() == 4)
        opened.set()
        assert [future.result() for future in (first, *others)] == [200, 200, 500, 200, 200]
    # Whatever the order they came in, an answer that was there is not made again.
    assert {text: prompts.count(text) for text in asked} == {"first": 1, "one": 1, "bad": 2, "two": 1, "three": 1}


def test_a_client_that_left_is_not_answered(gate):
    bridge, opened, prompts = gate
    connections = []
    for text in ("first", "impatient", "patient"):
        connections.append(connect(bridge))
        body = json.dumps({"model": "toy", "messages": [{"role": "user", "content": text}]})
        connections[-1].request("POST", "/v1/chat/completions", body)
        wait_until(lambda: prompts)
    wait_until(lambda: bridge.waiting.qsize() == 2)
    connections[1].close()
    opened.set()
    assert json.loads(connections[2].getresponse().read())["choices"][0]["message"]["content"] == "patient"
    assert prompts == ["first", "patient"]


def test_a_client_that_leaves_while_its_answer_is_made_is_no_failure_of_the_model(gate, caplog):
    bridge, opened, prompts = gate
    caplog.set_level(logging.INFO)
    with socket.create_connection(("127.0.0.1", bridge.server_port)) as connection:
        body = json.dumps({"model": "toy", "messages": [{"role": "user", "content": "first"}]}).encode()
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        wait_until(lambda: prompts)
        # With this, closing is a reset, as when a machine is switched off.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    opened.set()
    wait_until(lambda: "a connection broke off" in caplog.text)
    assert "Traceback" not in caplog.text
    assert chat(bridge).choices[0].message.content == "Hello"


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET",
        b"nonsense\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\n{",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: many\r\n\r\n{}",
    ],
)
def test_a_cut_connection_does_not_disturb_the_next_one(echo, sent, caplog):
    with socket.create_connection(("127.0.0.1", echo.server_port)) as connection:
        connection.sendall(sent)
    assert chat(echo).choices[0].message.content == "Hello 0"
    assert "Traceback" not in caplog.text


# ------------------------------------------------------------------------------------------- the program


@pytest.fixture
def folder(tmp_path):
    """An empty folder with the file alone and a function."""
    shutil.copy(module.__file__, tmp_path / "bridge.py")
    (tmp_path / "toy.py").write_text(TOY)
    return tmp_path


def start(folder, *arguments, python=sys.executable, **environment):
    """Start the program without any package, not even those of this environment."""
    return subprocess.Popen(
        [python, "-I", "-S", "bridge.py", *arguments],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("python", [sys.executable, *(f"python3.{minor}" for minor in range(8, 15))])
def test_the_file_alone_serves_a_function_where_there_are_no_packages(folder, python):
    if shutil.which(python) is None or subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"{python} is not installed")
    program = start(folder, "toy:generate", "--port", "0", python=python, AMBI_BRIDGE_KEY="password")
    try:
        line = program.stderr.readline().strip()
        assert line.startswith("bridge: serving toy at http://127.0.0.1:")
        sdk = openai.OpenAI(base_url=line.split()[-1], api_key="password", max_retries=0)
        text = {"type": "text", "text": "Which emotion?"}
        answers = sdk.chat.completions.create(model="toy", messages=user(audio_part(wav()), text), n=2).choices
        said, path = answers[1].message.content.split(" at ")
        assert said == f"Which emotion? 1: {len(wav())} bytes"
        assert Path(path).parent.is_dir()
        deadline = time.monotonic() + 10
        while Path(path).exists():  # it goes after the answer
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        program.send_signal(signal.SIGTERM)
        assert program.wait(20) == 0
    assert not Path(path).parent.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing:generate", "--port", "0"], "there is no module 'nothing' in "),
        ([":generate", "--port", "0"], "the module '' has no function 'generate'"),
        (["toy:generat", "--port", "0"], "the module 'toy' has no function 'generat'"),
        (["toy", "--port", "0"], "the module 'toy' has no function ''"),
        (["toy:generate", "--host", "192.0.2.1"], "cannot listen on 192.0.2.1, port 8000"),
        (["nothing:generate", "--port", "99999"], "cannot listen on 127.0.0.1, port 99999"),
    ],
)
def test_a_program_that_cannot_start_says_why_in_one_sentence(folder, arguments, sentence):
    program = start(folder, *arguments)
    said = program.communicate(timeout=20)[1]
    assert program.returncode == 2
    assert sentence in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("import a_package_that_is_not_there", "ModuleNotFoundError: No module named 'a_package"),
        ("raise ValueError('no GPU')", "ValueError: no GPU"),
    ],
)
def test_what_is_wrong_in_the_module_itself_is_not_hidden(folder, line, error):
    (folder / "toy.py").write_text(line)
    assert error in start(folder, "toy:generate").communicate(timeout=20)[1]


def test_a_taken_port_is_refused(echo):
    with pytest.raises(BridgeError, match=f"cannot listen on 127.0.0.1, port {echo.server_port} .*give another"):
        Bridge(Function(print, "toy"), port=echo.server_port)


@pytest.mark.parametrize(("key", "said"), [("", "without a key"), ("password", "with the API key")])
def test_listening_to_other_machines_is_said(folder, key, said):
    program = start(folder, "toy:generate", "--host", "0.0.0.0", "--port", "0", AMBI_BRIDGE_KEY=key)
    lines = [program.stderr.readline(), program.stderr.readline()]
    program.terminate()
    assert program.wait(20) == 0
    assert lines[0].startswith(f"bridge: everybody who reaches 0.0.0.0 can use the model, {said}")
    assert lines[1].startswith("bridge: serving toy at http://0.0.0.0:")


def test_it_is_written_for_old_environments():
    tree = ast.parse(inspect.getsource(module), feature_version=(3, 8))
    lines = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    imported = {
        name
        for node in lines
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module])
    }
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_in_the_docs_fit_the_interface(path):
    functions = {node.name: node.args for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
    generate = functions["generate"]
    assert [argument.arg for argument in generate.args + generate.kwonlyargs] == ARGUMENTS
    assert len(generate.args) == 3

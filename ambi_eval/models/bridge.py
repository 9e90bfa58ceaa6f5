"""Any audio-language model as an OpenAI-compatible server: one file that runs in the model's own environment.

    python bridge.py my_model:generate

It needs the standard library only. Copy it to where the model runs, and put beside it a module with a function

    generate(audio_path, prompt, n, *, temperature, top_p, max_tokens, seed, stop, system)

that returns n answers: texts, or pairs of a text and its summed log-likelihood. `audio_path` and `system` are None
where a request has none, `seed` where the client gives none; temperature 0 is greedy.

The server answers `POST /v1/chat/completions`, `GET /v1/models` and `GET /health`.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import hmac
import importlib
import json
import logging
import math
import os
import queue
import reprlib
import selectors
import shutil
import signal
import socket
import socketserver
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

logger = logging.getLogger("bridge")

MAX_BODY = 128 << 20  # 25 minutes of 16 kHz float32 audio in base64
MAX_DISCARDED = 128 << 20  # of a refused body; after a longer one, the connection is closed
MAX_CONNECTIONS = 256
BODY_SECONDS = 300.0  # time limit for a body
LOOPBACK = ("127.0.0.1", "localhost", "::1")
FOLDER = "ambi-bridge-"  # for the audio; the process id follows
MAX_SEED = (1 << 64) - 1
FORMATS = {"wav": b"RIFF", "flac": b"fLaC", "ogg": b"OggS", "mp3": b""}
ROUTES = {"/v1/models": "GET", "/v1/chat/completions": "POST", "/health": "GET"}
# Type, minimum, maximum and default. By default the server samples, as OpenAI's does.
NUMBERS: dict[str, tuple[type, float, float, float | None]] = {
    "n": (int, 1, 1024, 1),
    "seed": (int, -MAX_SEED, MAX_SEED, None),
    "temperature": (float, 0, 100, 1.0),
    "top_p": (float, 1e-9, 1, 1.0),
    "top_k": (int, -1, 1 << 31, 0),
    "max_tokens": (int, 1, 1 << 20, 256),
    "ambi_seed": (int, -MAX_SEED, MAX_SEED, None),
    "ambi_beams": (int, 1, 1024, None),
    "length_penalty": (float, -100, 100, 0.0),
}
LISTS = {"stop": str, "ambi_samples": int, "ambi_audio_digests": str, "ambi_continuations": str}
# Model code that calls exit() must not end the thread in which the model answers.
FAILURES = (Exception, SystemExit)
# Fields that are read elsewhere, or do not change the answers.
OTHER_FIELDS = ("model", "messages", "logprobs", "top_logprobs", "user")


class BridgeError(Exception):
    """A request that fails: one sentence for people, with an HTTP status and an error code for programs."""

    def __init__(self, message: str, status: int = HTTPStatus.BAD_REQUEST, code: str = "invalid_value") -> None:
        """Keep the sentence, the status and the code."""
        super().__init__(message)
        self.status, self.code = status, code


class ClientLeftError(Exception):
    """A client that closed its connection before it had its answer."""


@dataclass(frozen=True)
class Audio:
    """One audio; its file exists only while the model answers, and the same path means the same content."""

    content: bytes
    path: Path


@dataclass(eq=False)
class Chat:
    """A checked request; its fields have the names of the JSON."""

    system: str | None
    parts: list[str | Audio]  # of the user's message, in their order
    n: int
    seed: int | None
    temperature: float  # 0 is greedy
    top_p: float
    top_k: int  # 0 is all
    max_tokens: int
    stop: list[str] | None
    ambi_samples: list[int] | None  # indices of the n samples that are wanted of this prompt
    ambi_seed: int | None  # seed of these samples
    ambi_audio_digests: list[str] | None  # identifies each audio in the random numbers of the samples
    ambi_beams: int | None  # the width of a beam search
    length_penalty: float  # beams are ranked by log-likelihood / tokens ** length_penalty
    ambi_continuations: list[str] | None  # texts whose likelihoods are wanted instead of answers
    gone: Callable[[], bool] = lambda: False  # whether the client has closed its connection
    reply: Future[Reply] = field(default_factory=Future)

    @property
    def audios(self) -> list[Audio]:
        """The audios of the message."""
        return [part for part in self.parts if isinstance(part, Audio)]


@dataclass(frozen=True)
class Answer:
    """One answer, with its summed log-likelihood and number of tokens where the model gives them.

    The tokens of the thinking before it are counted apart.
    """

    text: str
    logprob: float | None = None
    n_tokens: int | None = None
    finish: str | None = "stop"
    thinking_tokens: int = 0


@dataclass(frozen=True)
class Reply:
    """The answers to a request; or for each continuation its log-likelihood, and whether it is the greedy answer."""

    answers: Sequence[Answer] = ()
    loglikelihoods: Sequence[tuple[float, bool]] = ()
    prompt_tokens: int | None = None


class Model(Protocol):
    """What a bridge can serve: a model with its name for clients, and a fingerprint of its weights (or None)."""

    served_name: str
    fingerprint: str | None

    def answer(self, chats: Sequence[Chat]) -> Iterator[tuple[Chat, Reply]]:
        """Yield each of several waiting requests with its reply; after an error the others are answered one by one."""


class Function:
    """A model that is a function `generate`, called for one request at a time."""

    fingerprint: str | None = None

    def __init__(self, generate: Callable[..., Any], served_name: str) -> None:
        """Wrap a function as the docstring of this module describes it."""
        self.generate, self.served_name = generate, served_name

    def answer(self, chats: Sequence[Chat]) -> Iterator[tuple[Chat, Reply]]:
        """Yield each request with what the function returns for it."""
        for chat in chats:
            for name in ("top_k", "ambi_beams", "ambi_continuations"):
                if getattr(chat, name):
                    instead = "it only answers and samples (direct, cot, sc, ens ...)"
                    raise BridgeError(f"{self.served_name} takes no {name}: {instead}", code="unsupported")
            if len(chat.audios) > 1:
                raise BridgeError(f"{self.served_name} hears one audio, not {len(chat.audios)}", code="unsupported")
            returned = self.generate(
                str(chat.audios[0].path) if chat.audios else None,
                "".join(part for part in chat.parts if isinstance(part, str)),
                chat.n,
                temperature=chat.temperature,
                top_p=chat.top_p,
                max_tokens=chat.max_tokens,
                seed=chat.seed,
                stop=chat.stop or [],
                system=chat.system,
            )
            if not isinstance(returned, (list, tuple)) or len(returned) != chat.n:
                raise TypeError(f"generate() returned {reprlib.repr(returned)}, which is no list of {chat.n} answers")
            yield chat, Reply([_as_answer(each) for each in returned])


def _as_answer(returned: Any) -> Answer:
    text, logprob = returned if isinstance(returned, (list, tuple)) and len(returned) == 2 else (returned, None)
    if not isinstance(text, str) or not (logprob is None or math.isfinite(logprob)):
        raise TypeError(f"generate() returned {reprlib.repr(returned)}: no text, nor a text with its log-likelihood")
    return Answer(text, None if logprob is None else float(logprob))


# ----------------------------------------------------------------------------------------------------- requests


def read_chat(body: dict[str, Any], folder: Path) -> Chat:
    """Check the JSON of a request; the files of its audios will be in `folder`.

    A field that is missing, impossible or unknown (it might have changed the answer) is a `BridgeError`.
    """
    given = {name: value for name, value in body.items() if value is not None}
    if given.pop("stream", False):
        raise BridgeError("this server does not stream: leave out `stream`", code="unsupported")
    if "max_completion_tokens" in given:
        given["max_tokens"] = given.pop("max_completion_tokens")
    if isinstance(given.get("stop"), str):
        given["stop"] = [given["stop"]]
    if "ambi_beams" in given:
        given.setdefault("temperature", 0)
    for name in given:
        if name not in (*NUMBERS, *LISTS, *OTHER_FIELDS):
            raise BridgeError(f"this server does not know the field {reprlib.repr(name)}", code="unknown_field")
    system, parts = _read_messages(given.get("messages"), folder)
    numbers = {name: _read_number(name, given.get(name), *limits) for name, limits in NUMBERS.items()}
    lists = {name: _read_list(name, given.get(name), kind) for name, kind in LISTS.items()}
    chat = Chat(system, parts, **numbers, **lists)
    chat.top_k = max(chat.top_k, 0)  # clients of vLLM write -1 for all
    if chat.ambi_samples is not None and (len(chat.ambi_samples) != chat.n or min(chat.ambi_samples) < 0):
        raise BridgeError(f"ambi_samples are n={chat.n} numbers from 0, not {reprlib.repr(chat.ambi_samples)}")
    if chat.ambi_audio_digests is not None and len(chat.ambi_audio_digests) != len(chat.audios):
        raise BridgeError(f"{len(chat.ambi_audio_digests)} ambi_audio_digests for {len(chat.audios)} audios")
    if chat.ambi_beams is not None and (chat.temperature > 0 or chat.ambi_beams < chat.n):
        raise BridgeError(f"ambi_beams={chat.ambi_beams} is for temperature 0 and at most as many answers")
    return chat


def _read_messages(messages: Any, folder: Path) -> tuple[str | None, list[str | Audio]]:
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise BridgeError("`messages` is no list of messages")
    roles = [message.get("role") for message in messages]
    if roles not in (["user"], ["system", "user"], ["developer", "user"]):
        raise BridgeError(f"this server takes one question, after a system message or none; not {reprlib.repr(roles)}")
    contents = [message.get("content") for message in messages]
    contents = [each if isinstance(each, list) else [{"type": "text", "text": each}] for each in contents]
    *before, parts = ([_read_part(part, folder) for part in content] for content in contents)
    if any(isinstance(part, Audio) for system in before for part in system):
        raise BridgeError("the system message is text, without audio")
    return "".join(map(str, before[0])) if before else None, parts


def _read_part(part: Any, folder: Path) -> str | Audio:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return _valid(part["text"])
    audio = part.get("input_audio") if kind == "input_audio" else None
    if not isinstance(audio, dict) or not isinstance(audio.get("data"), str):
        raise BridgeError("the parts of a message are `text` with its text and `input_audio` with data and format")
    form = audio.get("format")
    if form not in FORMATS:
        raise BridgeError(f"input_audio: the format {reprlib.repr(form)} is none of {', '.join(FORMATS)}")
    try:
        content = base64.b64decode(audio["data"], validate=True)
    except ValueError:
        raise BridgeError("input_audio: the data is not base64") from None
    if not content or not content.startswith(FORMATS[form]):
        raise BridgeError(f"input_audio: the data is no {form} file", code="invalid_audio")
    return Audio(content, folder / f"{hashlib.sha256(content).hexdigest()}.{form}")


def _valid(text: str) -> str:
    """Refuse half of a surrogate pair, which no tokenizer reads."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BridgeError(f"the text {reprlib.repr(text)} is no valid Unicode") from None
    return text


def _read_number(name: str, value: Any, kind: type, least: float, most: float, default: Any) -> Any:
    if value is None:
        return default
    if type(value) not in (int, float) or not least <= value <= most or kind(value) != value:
        what = "whole number" if kind is int else "number"
        raise BridgeError(f"{name}={reprlib.repr(value)} is no {what} from {least:g} to {most:g}")
    return kind(value)


def _read_list(name: str, value: Any, kind: type) -> Any:
    if value is None or value == []:
        return None
    if not isinstance(value, list) or not all(type(each) is kind and each != "" for each in value):
        what = "whole numbers" if kind is int else "texts that are not empty"
        raise BridgeError(f"{name}={reprlib.repr(value)} is no list of {what}")
    return [_valid(each) for each in value] if kind is str else value


# ----------------------------------------------------------------------------------------------------- server


class Bridge(ThreadingHTTPServer):
    """The server: a thread for each connection, and one thread in which the model answers what is waiting."""

    request_queue_size = 128

    def __init__(self, model: Model, host: str = "127.0.0.1", port: int = 8000, key: str | None = None) -> None:
        """Listen at an address (port 0: any that is free) for clients with the API key; `serve_forever()` answers."""
        self.model, self.key = model, key
        self.hosts = LOOPBACK if host in LOOPBACK else None  # None: clients may know this machine by any name
        self.started = int(time.time())
        _remove_left_folders()
        self.folder = tempfile.TemporaryDirectory(prefix=f"{FOLDER}{os.getpid()}-")
        self.waiting: queue.SimpleQueue[Chat] = queue.SimpleQueue()
        self.connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.failure: BaseException | None = None  # of the thread in which the model answers
        with _listening(host, port):
            super().__init__((host, port), Handler)
        self.url = f"http://{host}:{self.server_port}/v1"
        if hasattr(os, "register_at_fork"):  # a process that the model's code forks must not keep the port
            os.register_at_fork(after_in_child=self.socket.close)
        threading.Thread(target=self._work, name="model", daemon=True).start()

    def server_bind(self) -> None:
        """Bind the address without looking up its host name, which may take a minute."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "bridge", int(self.server_address[1])

    def server_close(self) -> None:
        """Stop listening, and remove what is left of the audio files."""
        super().server_close()
        self.folder.cleanup()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own, if there are not too many."""
        if not self.connections.acquire(blocking=False):
            with contextlib.suppress(OSError):
                request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection, and make room for another one."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.release()

    def check_alive(self) -> None:
        """Raise an error if the thread in which the model answers has ended."""
        if self.failure is not None:
            failed = type(self.failure).__name__
            message = f"the model has stopped ({failed}); the bridge's log says more: start it anew"
            raise BridgeError(message, HTTPStatus.SERVICE_UNAVAILABLE, "model_stopped")

    def health(self) -> dict[str, Any]:
        """Return that all is well, if it is."""
        self.check_alive()
        return {"status": "ok", "model": self.model.served_name}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log that an answer could not be sent, in one line if the connection was only cut."""
        cut = isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError))
        logger.log(logging.INFO if cut else logging.ERROR, "a connection broke off", exc_info=not cut)

    def models(self) -> dict[str, Any]:
        """Return the list of models: one."""
        one = {"id": self.model.served_name, "object": "model", "created": self.started, "owned_by": "ambi-eval-bridge"}
        return {"object": "list", "data": [one]}

    def complete(self, body: Any, gone: Callable[[], bool]) -> dict[str, Any]:
        """Return the response to the JSON of a request; `gone` tells whether the client has left."""
        name = self.model.served_name
        if not isinstance(body, dict):
            raise BridgeError("the body is no JSON object")
        if body.get("model") != name:
            message = f"there is no model {reprlib.repr(body.get('model'))} here, only {name}"
            raise BridgeError(message, HTTPStatus.NOT_FOUND, "model_not_found")
        chat = read_chat(body, Path(self.folder.name))
        chat.gone = gone
        self.check_alive()
        self.waiting.put(chat)
        while not chat.reply.done():
            # The model's thread may end after the check above.
            self.check_alive()
            wait([chat.reply], 1.0)
        reply = chat.reply.result()
        response = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": name,
            "system_fingerprint": self.model.fingerprint,
            "choices": [_choice(index, answer) for index, answer in enumerate(reply.answers)],
            "usage": _usage(reply),
        }
        if chat.ambi_beams is not None:
            response["ambi_beams"] = chat.ambi_beams
        if chat.ambi_continuations is not None:
            response["ambi_loglikelihoods"] = reply.loglikelihoods
        return response

    def _work(self) -> None:
        try:
            self._answer_all()
        except BaseException as failure:
            logger.exception("the model has stopped")
            self.failure = failure

    def _answer_all(self) -> None:
        while True:
            waiting = [self.waiting.get()]
            while not self.waiting.empty():
                waiting.append(self.waiting.get())
            # Clients that gave up ask again. If a slow model answered the old requests too, it would never catch up.
            left = {chat for chat in waiting if chat.gone()}
            for chat in left:
                chat.reply.set_exception(ClientLeftError())
            self._answer([chat for chat in waiting if chat not in left])

    def _answer(self, chats: Sequence[Chat]) -> None:
        files = {audio.path: audio.content for chat in chats for audio in chat.audios}
        try:
            for path, content in files.items():
                path.write_bytes(content)
            for chat, reply in self.model.answer(chats):
                chat.reply.set_result(reply)
        except FAILURES as error:
            # One request caused the error; the others are answered one by one.
            for chat in chats:
                if len(chats) == 1:
                    chat.reply.set_exception(error)
                elif not chat.reply.done():
                    self._answer([chat])
        finally:
            for path in files:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except (OSError, OverflowError) as error:
        raise BridgeError(f"cannot listen on {host}, port {port} ({error}): give another --host or --port") from error


def check_address(host: str, port: int) -> None:
    """Check that a server can listen at an address, before a model is loaded for it."""
    with _listening(host, port), socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tried.bind((host, port))


def _remove_left_folders() -> None:
    """Remove the audio of bridges that were killed before they could remove it."""
    if os.name != "posix":
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*-*"):
        process = folder.name[len(FOLDER) :].partition("-")[0]
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, OverflowError, OSError):
            continue  # another name, or a process of somebody else's


def _choice(index: int, answer: Answer) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": answer.text},
        "finish_reason": answer.finish,
        "logprobs": None,
        "ambi_logprob": answer.logprob,
        "ambi_n_tokens": answer.n_tokens,
        **({"ambi_thinking_tokens": answer.thinking_tokens} if answer.thinking_tokens else {}),
    }


def _usage(reply: Reply) -> dict[str, Any] | None:
    if reply.prompt_tokens is None:
        return None
    thought = sum(answer.thinking_tokens for answer in reply.answers)
    made = thought + sum(answer.n_tokens or 0 for answer in reply.answers)
    used = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": made, "total_tokens": reply.prompt_tokens + made}
    return {**used, **({"completion_tokens_details": {"reasoning_tokens": thought}} if thought else {})}


class Handler(BaseHTTPRequestHandler):
    """One connection: HTTP in, JSON out."""

    server: Bridge
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "ambi-eval-bridge", ""
    timeout = 300  # seconds without a byte
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer a request, whatever its method."""
        try:
            body = json.dumps(self._response(), allow_nan=False)
        except BridgeError as error:
            self._refuse(error.status, str(error), error.code)
        except ClientLeftError:
            self.close_connection = True
            logger.info("%s left before it had its answer", self.address_string())
        except FAILURES as error:
            logger.exception("the model failed on a request")
            message = f"the model failed on this request ({type(error).__name__}); the bridge's log says more"
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, message, "model_failed")
        else:
            self._send(HTTPStatus.OK, body)

    do_POST = do_GET  # noqa: N815

    def _response(self) -> dict[str, Any]:
        try:
            self._check_sender()
        except BridgeError:
            # A refused body is not kept. Part of it is read, so that a client that is still sending sees the refusal.
            self.close_connection = True
            length = self.headers.get("Content-Length", "0")
            self._discard(min(int(length), 1 << 20) if length.isascii() and length.isdigit() else 0)
            raise
        # Read the body in any case: the next request follows on the same connection.
        body = self._body()
        path = self.path.partition("?")[0]
        if path not in ROUTES:
            raise BridgeError(f"this server has only {' and '.join(ROUTES)}", HTTPStatus.NOT_FOUND, "not_found")
        if self.command != ROUTES[path]:
            raise BridgeError(f"{path} takes {ROUTES[path]}", HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed")
        if self.command == "GET":
            return self.server.health() if path == "/health" else self.server.models()
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            raise BridgeError("the body is not JSON", code="invalid_json") from None
        return self.server.complete(content, self._gone)

    def _check_sender(self) -> None:
        """Refuse requests without the key, and requests that a web page sends from a browser."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if host and self.server.hosts is not None and name.strip("[]").lower() not in self.server.hosts:
            message = f"this server is not known as {reprlib.repr(host)}: ask {self.server.url}"
            raise BridgeError(message, HTTPStatus.FORBIDDEN, "wrong_host")
        if origin is not None and origin.partition("://")[2] != host:
            message = f"web pages of {reprlib.repr(origin)} may not use this server"
            raise BridgeError(message, HTTPStatus.FORBIDDEN, "wrong_origin")
        given, key = self.headers.get("Authorization", ""), self.server.key
        if key is not None and not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
            raise BridgeError("the API key is missing or wrong", HTTPStatus.UNAUTHORIZED, "invalid_api_key")

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            self.close_connection = True
            raise BridgeError("send the body with a Content-Length", HTTPStatus.LENGTH_REQUIRED, "length_required")
        size = int(length) if len(length) < 20 else sys.maxsize
        if size <= MAX_BODY:
            return b"".join(self._read(size))
        # A client that is still sending would not see the refusal.
        self.close_connection = size > MAX_DISCARDED
        self._discard(min(size, MAX_DISCARDED))
        message = f"a body of {size:,} bytes is larger than {MAX_BODY:,}: send shorter audio"
        raise BridgeError(message, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large")

    def _discard(self, size: int) -> None:
        for _ in self._read(size):
            pass

    def _read(self, size: int) -> Iterator[bytes]:
        """Yield the next bytes of the body in parts, within the time limit for the whole body."""
        end = time.monotonic() + BODY_SECONDS
        while size > 0:
            try:
                self.connection.settimeout(max(0.001, min(float(self.timeout), end - time.monotonic())))
                part = self.rfile.read1(min(size, 1 << 20))
            except OSError as error:
                raise ClientLeftError from error
            if not part:
                raise ClientLeftError
            size -= len(part)
            yield part
        self.connection.settimeout(self.timeout)

    def _gone(self) -> bool:
        """Whether the client has closed the connection; a client that waits sends nothing."""
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self.connection, selectors.EVENT_READ)
                return bool(selector.select(0)) and not self.connection.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True

    def _send(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body.encode())

    def _refuse(self, status: int, message: str, code: str) -> None:
        kinds = {401: "authentication_error", 500: "server_error", 503: "server_error"}
        kind = kinds.get(status, "invalid_request_error")
        self._send(status, json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer in JSON, too, where http.server refuses a request."""
        self.close_connection = True
        self._refuse(code, message or HTTPStatus(code).phrase, "bad_request")

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Log the request line and the status, nothing of the content."""
        logger.info("%s %r %s", self.address_string(), self.requestline, int(code))

    def log_message(self, format: str, *args: Any) -> None:
        """Log other messages of http.server."""
        logger.info("%s %s", self.address_string(), format % args)


# ----------------------------------------------------------------------------------------------------- start


def serve(model: Model, host: str, port: int) -> None:
    """Serve a model until the process is interrupted or terminated; AMBI_BRIDGE_KEY in the environment is the key."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    key = os.environ.get("AMBI_BRIDGE_KEY") or None
    try:
        with Bridge(model, host, port, key) as bridge:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            if host not in ("127.0.0.1", "localhost"):
                said = "with the API key" if key else "without a key (AMBI_BRIDGE_KEY sets one)"
                logger.warning("everybody who reaches %s can use the model, %s", host, said)
            logger.info("serving %s at %s", model.served_name, bridge.url)
            bridge.serve_forever()
    except KeyboardInterrupt:
        logger.info("stopped")


def load_function(name: str) -> Callable[..., Any]:
    """Return the function that `module:function` names; modules in the working directory are found."""
    module, _, function = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), function, None) if module else None
    except ModuleNotFoundError as error:
        if error.name != module:
            raise  # the module exists, but one of its own imports is missing
        raise BridgeError(f"there is no module '{module}' in {Path.cwd()}: give MODULE:FUNCTION") from error
    if not callable(found):
        raise BridgeError(f"the module '{module}' has no function '{function}': give MODULE:FUNCTION")
    return found


def main() -> None:
    """Run `python bridge.py`."""
    parser = argparse.ArgumentParser(description="Serve a function as an OpenAI-compatible audio-language model.")
    parser.add_argument("function", metavar="MODULE:FUNCTION")
    parser.add_argument("--name", help="the model's name for clients; by default the module's")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="%(default)s; 0 for any that is free")
    given = parser.parse_args()
    try:
        check_address(given.host, given.port)
        model = Function(load_function(given.function), given.name or given.function.partition(":")[0])
        serve(model, given.host, given.port)
    except BridgeError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

"""An OpenAI-compatible chat server for tests, whose answers follow from what it is asked."""

from __future__ import annotations

import http.server
import json
import random
import socket
import threading
import time
import zlib
from collections.abc import Sequence
from typing import Any

from support.loopback import JsonReplies, LoopbackServer


class ChatTestServer:
    """An OpenAI-compatible chat server whose answers follow from what it is asked, and that can be told to fail.

    Attributes:
        url: Where it is.
        bodies: Every request for answers that arrived.
        keys: The keys that came with them.
        faults: What happens to the next requests instead of an answer, in turn: `(status, headers, content)`, "cut" or
            "hang"; None is an answer. A callable is asked with each body for as long as it is there.
        list_faults: What happens to the next requests for the list of models, in turn: `(status, headers, content)`.
        most: The most choices that it gives, whatever `n` says.
        owner, root: Who owns the model in its list of models, and which checkpoint it is.
        named: The model's names in the replies, in turn and then from the first one again; by default none.
        at_once: The most requests that were there at the same time.
    """

    def __init__(self, port: int = 0) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.faults: list[Any] = []
        self.list_faults: list[Any] = []
        self.most = 100
        self.owner, self.root = "a test", None
        self.named: list[Any] = []
        self.at_once = self._now = 0
        self.lock = threading.Lock()
        chat = self

        class Handler(JsonReplies, http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fault = chat.list_faults.pop(0) if chat.list_faults else None
                listed = {"object": "list", "data": [{"id": "listener", "owned_by": chat.owner, "root": chat.root}]}
                self.send(*(fault or (200, {}, listed)))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with chat.lock:
                    chat.bodies.append(body)
                    chat.keys.append(self.headers["Authorization"])
                    chat._now += 1
                    chat.at_once = max(chat.at_once, chat._now)
                    fault = chat.faults[0] if chat.faults else None
                    if callable(fault):
                        fault = fault(body)
                    elif chat.faults:
                        chat.faults.pop(0)
                time.sleep(0.02)
                with chat.lock:
                    chat._now -= 1
                if fault == "cut":
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                elif fault == "hang":
                    time.sleep(1.5)
                    self.close_connection = True
                else:
                    self.send(*(fault or (200, {}, chat.answer(body))))

        self._server = LoopbackServer(Handler, port)
        self.url = f"{self._server.origin}/v1"

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return an answer that hangs on the messages and on the seed of each choice."""
        asked = json.dumps(body["messages"])
        digits = "Rate it" in asked
        choices = []
        for number in range(min(body.get("n") or 1, self.most)):
            drawn = body.get("seed", 0) + number if body.get("temperature", 1) else 0
            words = "12345" if digits else ["angry", "happy", "neutral", "sad"]
            # Even seeds give one word, odd ones another: only equal choices would be taken for copies.
            other = random.Random(f"{asked}{drawn}").randrange(1, len(words)) if drawn % 2 else 0
            word = words[(random.Random(asked).randrange(len(words)) + other) % len(words)]
            others = [("1", -1.0), (" 5", -1.0), ("x", 0.0)] if "top_logprobs" in body else []
            alternatives = [{"token": token, "logprob": logprob} for token, logprob in others]
            token = {"token": word, "logprob": -0.5, "top_logprobs": alternatives}
            choices.append(
                {
                    "index": number,
                    "message": {"role": "assistant", "content": word},
                    "finish_reason": "stop",
                    "logprobs": {"content": [token, {"token": "", "logprob": -0.25}]} if body.get("logprobs") else None,
                }
            )
        usage = {
            "prompt_tokens": 100,
            "completion_tokens": 2 * len(choices),
            "prompt_tokens_details": {"audio_tokens": 80},
        }
        content = {"choices": choices, "usage": usage, "system_fingerprint": "fp_1"}
        if self.named:
            with self.lock:
                self.named.append(self.named.pop(0))
                content["model"] = self.named[-1]
        return content

    def __enter__(self) -> ChatTestServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def stop(self) -> None:
        """Stop listening; nobody else gets the port before `close`."""
        self._server.stop()

    def close(self) -> None:
        """Stop listening."""
        self._server.close()


def described(heard: object, seed: object, stops: Sequence[str]) -> str:
    """Return numbers that follow from what is heard and from the seed, cut at the first stop string."""
    text = f"{zlib.crc32(repr(heard).encode())}" + ("" if seed is None else f", {seed}")
    for stop in stops:
        text = text.split(stop)[0]
    return text

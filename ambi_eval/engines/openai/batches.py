"""Sends parts of jobs in batches, through the batch mode of chat servers (`/v1/files` and `/v1/batches`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ambi_eval.batches.run import Result, State, answers_of
from ambi_eval.engines.base import Job
from ambi_eval.engines.openai.client import ChatServer, RequestFailedError
from ambi_eval.engines.openai.questions import AUDIO_SECONDS, OPTIONAL, is_about, most_tokens, text_of
from ambi_eval.engines.openai.replies import WITHHELD, Reply, why_unreadable, withheld_reply
from ambi_eval.errors import AmbiError
from ambi_eval.paths import data_dir

ENDPOINT = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")
MANY = 1_000_000_000  # jobs at once in batch mode: all


@dataclass(frozen=True)
class Part:
    """The part of a job that one request asks for."""

    job: Job
    numbers: Sequence[int]
    attempt: int = 0  # how often the server has failed to give them
    alone: bool = False  # whether each answer needs a request of its own


class ChatBatches:
    """The batch interface of OpenAI's server; `batches.run.Service` documents the methods."""

    most_requests = 50_000
    most_bytes = 190_000_000  # the service allows 200 MB

    def __init__(self, server: ChatServer) -> None:
        """Set up for a server."""
        self.server = server
        self.address = server.base_url
        self._sdk = server.client.with_options(max_retries=server.given.max_retries)
        self.errors = server.errors

    def line(self, key: str, body: Mapping[str, Any]) -> bytes:
        """Return a request as a line of the file that is uploaded."""
        return json.dumps({"custom_id": key, "method": "POST", "url": ENDPOINT, "body": body}).encode()

    def upload(self, file: Path, name: str) -> str:
        """Upload the lines."""
        with file.open("rb") as lines:
            return str(self._sdk.files.create(file=(f"{name}.jsonl", lines), purpose="batch").id)

    def create(self, file: str, name: str) -> str:
        """Create the batch without retries, because after an error it may exist already."""
        create = self.server.client.with_options(max_retries=0).batches.create
        made = create(input_file_id=file, endpoint=ENDPOINT, completion_window="24h", metadata={"ambi_eval": name})
        return str(made.id)

    def find(self, file: str, name: str) -> str | None:
        """Look for the batch among those of the account."""
        for batch in self._sdk.batches.list(limit=100):
            if batch.input_file_id == file or (batch.metadata or {}).get("ambi_eval") == name:
                return str(batch.id)
        return None

    def state(self, batch: str) -> State | None:
        """Return the state of a batch, None if it does not exist."""
        import openai

        try:
            found = self._sdk.batches.retrieve(batch)
        except openai.NotFoundError:
            return None
        errors = [str(each.message) for each in (found.errors.data or [] if found.errors else [])]
        return State(found.status in ENDED, "; ".join([found.status, *errors]))

    def results(self, batch: str) -> Iterator[Result]:
        """Yield the results of a finished batch from its two files, of answers and of errors."""
        found = self._sdk.batches.retrieve(batch)
        for file in (found.output_file_id, found.error_file_id):
            if file:
                yield from map(_result, self._sdk.files.content(file).content.splitlines())


def _result(line: bytes) -> Result:
    content = json.loads(line)
    response, error = content.get("response") or {}, content.get("error")
    body = response.get("body") or {}
    if response.get("status_code") == 200 and not error:
        return Result(content["custom_id"], json.dumps(body).encode())
    told = error or body.get("error") or {}
    if told.get("code") in WITHHELD:
        return Result(content["custom_id"], withheld_reply().model_dump_json().encode())
    message = str(told.get("message") or told)
    about = SimpleNamespace(body=body, message=message, param=told.get("param"))
    refused = next((name for name in OPTIONAL if is_about(about, name)), None)
    return Result(content["custom_id"], failure=message, refused=refused)


def in_batches(
    server: Any, identity: Mapping[str, Any], take: Callable[[], Part | None], body_of: Callable[[Part], dict[str, Any]]
) -> Iterator[tuple[Part, Reply | RequestFailedError]]:
    """Send all parts in batches, and yield the reply to each, or why it failed.

    Parts that the engine adds later, and those with a field that the server refused, are sent in further batches.
    `take` returns the next part, or None if there is none at the moment.

    Raises:
        NotYetError: If the service has not answered in time.
        AmbiError: If the service takes no batches, or `answers_of` raises it.
    """
    again: list[Part] = []
    service = server.batches if hasattr(server, "batches") else ChatBatches(server)
    while parts := {_key(identity, part): part for part in (*again, *iter(take, None))}:
        again = []
        bodies = _Bodies(server, service, parts, body_of)
        try:
            lines = {key: bodies.line(key) for key in parts}
            for result in answers_of(service, data_dir() / "batches", lines, server.given.batch_wait, bodies.pay):
                part = parts[result.key]
                if result.reply is None and result.refused and result.refused not in server.refused:
                    server.refuse(result.refused, result.failure)
                if result.reply is None and result.refused:
                    server.budget.release(bodies.reserved.pop(result.key, 0.0), cost=0.0)
                    again.append(part)
                    continue
                yield part, _outcome(server, bodies, result)
        except service.errors as error:
            fix = "what was sent is noted: run the same command again, or without batch=true if it has no batch mode"
            raise AmbiError(f"{server.base_url} took no batch ({server.told(error)}); {fix}") from error


def _outcome(server: Any, bodies: _Bodies, result: Result) -> Reply | RequestFailedError:
    most = bodies.reserved.pop(result.key, 0.0)
    if result.reply is None:
        server.budget.release(most)
        return RequestFailedError(result.failure)
    try:
        reply: Reply = server.read(result.reply)
    except ValueError as error:
        server.budget.release(most)
        return RequestFailedError(f"a reply that is no chat completion: {why_unreadable(error)}")
    server.budget.release(most, bodies.seconds(result.key), server.count(reply))
    return reply


class _Bodies:
    """The requests of parts, each made when it is needed, because all audio together does not fit into memory.

    Attributes:
        reserved: The highest possible cost of each request that this run has sent and that has no result yet, by key.
    """

    def __init__(
        self, server: Any, service: Any, parts: Mapping[str, Part], body_of: Callable[[Part], dict[str, Any]]
    ) -> None:
        self.server, self.service, self.parts, self.body_of = server, service, parts, body_of
        self._last: tuple[str, dict[str, Any]] = ("", {})
        self.reserved: dict[str, float] = {}

    def body(self, key: str) -> dict[str, Any]:
        if self._last[0] != key:
            body = {"model": self.server.model, **self.body_of(self.parts[key]), **self.server.given.extra_body}
            self._last = (key, body)
        return self._last[1]

    def line(self, key: str) -> Callable[[], bytes]:
        def made() -> bytes:
            sent = {name: value for name, value in self.body(key).items() if name != AUDIO_SECONDS}
            line: bytes = self.service.line(key, self.server.accepted(sent))
            return line

        return made

    def pay(self, key: str) -> None:
        body = self.body(key)
        seconds = body.get(AUDIO_SECONDS, 0.0)
        most = self.server.budget.most(text_of(body["messages"]), seconds, most_tokens(body))
        self.server.budget.reserve(most)
        self.reserved[key] = most

    def seconds(self, key: str) -> float:
        return float(self.body(key).get(AUDIO_SECONDS, 0.0))


def _key(identity: Mapping[str, Any], part: Part) -> str:
    """Return the key of a request: a digest of everything that its answers depend on."""
    job, numbers = part.job, list(part.numbers)
    told = [dict(identity), job.prompt, job.heard, job.settings.model_dump(), job.seed, numbers, job.alternatives]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()

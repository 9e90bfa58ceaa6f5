"""A chat server that hears audio, over HTTP: requests at once, retries, a rate limit, and what it all cost."""

from __future__ import annotations

import base64
import io
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cached_property
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import urlsplit

import soundfile

from ambi_eval.audio import AudioSpan, load_audio
from ambi_eval.engines.base import Job
from ambi_eval.engines.prompt import as_messages
from ambi_eval.errors import AmbiError, did_you_mean

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

OPENAI = "https://api.openai.com/v1"
BRIDGE = "ambi-eval-bridge"  # what our own bridge says it is, in its list of models
SAMPLE_RATE = 16_000  # what audio encoders of language models hear
# Fields that change what an answer carries or costs, but not which answers are likely: a server that refuses one by
# name is asked without it (without `stop`, the answer is cut here).
OPTIONAL = {
    "logprobs": "answers come without log-probabilities",
    "top_logprobs": "answers come without the log-probabilities of other tokens",
    "n": "each answer takes a request of its own",
    "seed": "samples cannot be drawn again",
    "stop": "answers are cut here, where the server would have stopped",
    "max_tokens": "max_completion_tokens takes its place",
}
COUNTERS = ("requests", "retries", "failed", "prompt_tokens", "generated_tokens", "audio_tokens")
# So many failures without one answer between them are not about single clips.
FAILURES_IN_A_ROW = 10


class RequestFailedError(Exception):
    """The server gave no usable reply to one request, with all retries."""


class ChatServer:
    """One model of an OpenAI-compatible server.

    Any number of threads may ask at once. The official SDK repeats a request after a time-out, a cut connection, and
    status 408, 409, 429 and 5xx, waiting as long as `Retry-After` says or else longer each time.

    Attributes:
        counts: `requests` (HTTP requests for answers, repeated ones included), `retries`, `failed` (requests given up),
            `prompt_tokens`, `generated_tokens`, `audio_tokens` (those of the prompt tokens that were audio, where the
            server says).
        fingerprints: How many replies came from each system fingerprint.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        api_key_env: str | None = None,
        num_concurrent: int = 8,
        timeout: float = 300.0,
        max_retries: int = 5,
        requests_per_minute: float | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        """Set up; the server is not asked before the first question.

        Args:
            model: The name under which the server knows the model.
            base_url: Where the server is, up to and with `/v1`; by default OPENAI_BASE_URL, else OpenAI's own.
            api_key_env: Environment variable that holds the key; by default OPENAI_API_KEY, which only OpenAI's own
                server needs to be set.
            num_concurrent: Requests at the same time.
            timeout: Seconds after which a request is given up and repeated.
            max_retries: How often a request is repeated.
            requests_per_minute: The most requests that are sent in a minute, evenly spaced; None is no limit.
            extra_body: Further fields of each request; None as a value takes a field out.

        Raises:
            AmbiError: If the SDK is not installed, the key is missing, or the address is none.
        """
        try:
            import openai
        except ImportError as error:
            raise AmbiError("chat servers need the openai package: pip install 'ambi-eval[openai]'") from error
        self._sdk = openai
        self.model = model
        self.base_url = (base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI).rstrip("/")
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query:
            raise AmbiError(
                f"base_url={url._replace(netloc=url.netloc.rpartition('@')[2], query='').geturl()} is no address of a "
                f"server; give one such as http://localhost:8000/v1, without key or password"
            )
        self.host = url.netloc
        self.key_variable = api_key_env or "OPENAI_API_KEY"
        self._key = os.environ.get(self.key_variable) or "none"
        if self._key == "none" and (api_key_env or self.base_url == OPENAI):
            raise AmbiError(f"{self.base_url} needs a key; set the environment variable {self.key_variable}")
        self.num_concurrent = num_concurrent
        self.max_retries = max_retries
        self.extra_body = dict(extra_body or {})
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.fingerprints: Counter[str] = Counter()
        self._refused: set[str] = set()
        self._failed_in_a_row = 0
        self._lock = Lock()
        self._seconds_between = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next_slot = 0.0
        self._client = openai.OpenAI(
            api_key=self._key,
            base_url=self.base_url,
            timeout=timeout,
            max_retries=max_retries,
            http_client=openai.DefaultHttpxClient(event_hooks={"request": [self._before_request]}),
        )

    @cached_property
    def served(self) -> dict[str, str]:
        """The models that the server lists, each with its owner; empty where it lists none.

        Raises:
            AmbiError: If no server answers.
        """
        try:
            reply: Any = self._client.with_options(max_retries=1).get("/models", cast_to=object)
            return {str(each["id"]): str(each.get("owned_by")) for each in reply["data"]}
        except self._sdk.APIConnectionError as error:
            told = self._told(error)
            raise AmbiError(f"no server answers at {self.base_url} ({told}); start it or correct base_url") from error
        except (self._sdk.APIStatusError, ValueError, TypeError, KeyError, AttributeError):
            return {}  # a list of models is more than a chat server owes

    @property
    def is_bridge(self) -> bool:
        """Whether this is our own bridge, which takes more than chat servers do (`ambi_...` fields)."""
        return BRIDGE in self.served.values()

    def question(self, job: Job) -> dict[str, Any]:
        """Return the part of a request that holds the question.

        Ordinary servers hear 16-bit samples. The bridge hears the very samples that a local model would, and is told
        which audio they are, so that it can give the very same answers.
        """
        parts = [_audio_part(span, "FLOAT" if self.is_bridge else "PCM_16") for span in job.spans]
        messages = [
            # Plain text as a string is what every server takes; only audio needs a list of parts.
            {**message, "content": content[0]["text"]} if len(content) == 1 and "text" in content[0] else message
            for message in as_messages(job.prompt, parts)
            for content in [message["content"]]
        ]
        return {"messages": messages, **({"ambi_audio_digests": job.heard} if self.is_bridge else {})}

    def ask(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the server's reply to one request.

        Args:
            body: The request without the model.

        Raises:
            RequestFailedError: If this request failed, with all retries; the next one may do better.
            AmbiError: If no request can succeed: wrong key, no such model, no money left, no server.
        """
        try:
            reply = self._send({"model": self.model, **body, **self.extra_body})
        except self._sdk.OpenAIError as error:
            raise self._failure(error) from error
        usage = reply.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        with self._lock:
            self._failed_in_a_row = 0
            self.counts["prompt_tokens"] += usage.get("prompt_tokens") or 0
            self.counts["generated_tokens"] += usage.get("completion_tokens") or 0
            self.counts["audio_tokens"] += details.get("audio_tokens") or 0
            if reply.get("system_fingerprint"):
                self.fingerprints[reply["system_fingerprint"]] += 1
        return reply

    def _send(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request, without the fields that the server refuses."""
        with self._lock:
            self.counts["retries"] -= 1  # the first sending is none
        while True:
            sent = {name: value for name, value in body.items() if value is not None and name not in self._refused}
            if "max_tokens" in self._refused:
                sent["max_completion_tokens"] = body["max_tokens"]
            try:
                return self._readable_reply(sent)
            except (self._sdk.BadRequestError, self._sdk.UnprocessableEntityError) as error:
                if error.code in ("content_filter", "content_policy_violation"):
                    choice = {"message": {"content": ""}, "finish_reason": "content_filter"}
                    return {"choices": [choice] * (body.get("n") or 1)}
                name = next((name for name in OPTIONAL if name in sent and _is_about(error, name)), None)
                if name is None:
                    raise
                with self._lock:
                    if name not in self._refused:
                        logger.warning(
                            "%s refuses '%s' (%s): %s", self.base_url, name, self._told(error), OPTIONAL[name]
                        )
                    self._refused.add(name)

    def _readable_reply(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Post a request; a reply that makes no sense is asked for again, as the SDK does after errors."""
        for attempt in range(self.max_retries + 1):
            if attempt:
                time.sleep(min(0.25 * 2**attempt, 8.0))
            try:
                reply: Any = self._client.post("/chat/completions", body=body, cast_to=object)
            except ValueError:
                continue
            if _is_readable(reply):
                return reply
        raise self._sdk.OpenAIError(f"{self.max_retries + 1} replies were no chat completion")

    def _before_request(self, request: Any) -> None:
        """Count an HTTP request, the SDK's repetitions included, and hold it back until its time has come."""
        if not request.url.path.endswith("/chat/completions"):
            return
        with self._lock:
            self.counts["requests"] += 1
            self.counts["retries"] += 1
            now = time.monotonic()
            slot = self._next_slot = max(now, self._next_slot + self._seconds_between)
        time.sleep(slot - now)

    def _failure(self, error: Exception) -> Exception:
        """Return what a request's error means: the end of the run, or of this request only."""
        sdk, told = self._sdk, self._told(error)
        if isinstance(error, (sdk.AuthenticationError, sdk.PermissionDeniedError)):
            return AmbiError(f"{self.base_url} refuses the key in {self.key_variable} ({told}); set a valid one")
        if isinstance(error, sdk.NotFoundError):
            hint = did_you_mean(self.model, self.served)
            return AmbiError(f"{self.base_url} has no model '{self.model}'{hint} ({told}); correct model or base_url")
        if isinstance(error, sdk.RateLimitError) and error.code == "insufficient_quota":
            return AmbiError(f"{self.base_url}: the account has no quota left ({told}); add some, then run again")
        if getattr(error, "code", None) == "unsupported":
            return AmbiError(f"{self.base_url} cannot do what this strategy needs ({told}); leave the strategy out")
        with self._lock:
            self.counts["failed"] += 1
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= max(FAILURES_IN_A_ROW, 2 * self.num_concurrent):
                return AmbiError(
                    f"{self.base_url}: {self._failed_in_a_row} requests in a row failed, the last one with: {told}; "
                    f"run the same command again when that is mended"
                )
        return RequestFailedError(told)

    def _told(self, error: Any) -> str:
        """Return an error in one line of at most 300 characters, without the key, which some servers repeat."""
        told = str(error)
        if told == f"Error code: {getattr(error, 'status_code', None)}":
            told += f" - {error.body}"  # not in the form that the SDK knows
        cause = f" {error.__cause__}" if error.__cause__ else ""
        return re.sub(r"\s+", " ", told + cause).replace(self._key, "[key]")[:300]


def concurrently(
    work: Callable[[Item], Result], take: Callable[[], Item | None], at_once: int
) -> Iterator[tuple[Item, Result]]:
    """Yield every item with what the work on it gave, as soon as it is there, in no particular order.

    After an error no more items are taken; what is under way is still yielded, and then the error raised.

    Args:
        work: What is done in threads.
        take: Gives the next item, or None where there is none at the moment; it is asked as long as work is under way.
        at_once: How many items are worked on at the same time.
    """
    running: dict[Future[Result], Item] = {}
    error: BaseException | None = None
    with ThreadPoolExecutor(at_once, thread_name_prefix="ask") as threads:
        while True:
            item = take() if error is None and len(running) < at_once else None
            if item is not None:
                running[threads.submit(work, item)] = item
                done = {future for future in running if future.done()}
            elif running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
            elif error is not None:
                raise error
            else:
                return
            for future in done:
                item = running.pop(future)
                if (failed := future.exception()) is None:
                    yield item, future.result()
                else:
                    error = error or failed


def _audio_part(span: AudioSpan, subtype: str) -> dict[str, Any]:
    """Return an audio as a part of a message: a wav file in base64."""
    file = io.BytesIO()
    soundfile.write(file, load_audio(span, SAMPLE_RATE), SAMPLE_RATE, format="WAV", subtype=subtype)
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(file.getvalue()).decode(), "format": "wav"}}


def _is_readable(reply: Any) -> bool:
    """Return whether a reply holds what was asked for: choices with messages, or the bridge's likelihoods."""
    if not isinstance(reply, dict):
        return False
    if "ambi_loglikelihoods" in reply:
        return True
    choices = reply.get("choices")
    return (
        isinstance(choices, list)
        and bool(choices)
        and all(isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices)
    )


def _is_about(error: Any, field: str) -> bool:
    """Return whether an error names a field of the request: as its parameter, in quotes, or as the place of a fault."""
    details = error.body.get("detail") if isinstance(error.body, dict) else None
    places = [each.get("loc", ()) for each in details if isinstance(each, dict)] if isinstance(details, list) else []
    quoted = re.search(f"[\"'`]{field}[\"'`]", error.message)
    return error.param == field or quoted is not None or any(field in place for place in places)

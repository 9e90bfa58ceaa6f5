"""A client of a chat server: parallel requests, retries, a rate limit, and counts of tokens and costs."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from ambi_eval.audio import Samples
from ambi_eval.config.model_arguments import GeminiAudioArguments, LiteLLMAudioArguments, OpenAIAudioArguments
from ambi_eval.config.prices import Price
from ambi_eval.costs.budget import Budget
from ambi_eval.engines.base import Job
from ambi_eval.engines.openai.address import key_of, masked, server_address, without_key
from ambi_eval.engines.openai.known_servers import known, note
from ambi_eval.engines.openai.questions import (
    AUDIO_SECONDS,
    OPTIONAL,
    SAMPLE_RATE,
    audio_part,
    is_about,
    most_tokens,
    text_of,
)
from ambi_eval.engines.openai.replies import (
    WITHHELD,
    Reply,
    ServedModel,
    Usage,
    WithheldError,
    read_models,
    read_reply,
    why_unreadable,
    withheld_reply,
)
from ambi_eval.engines.openai.tally import Tally
from ambi_eval.engines.openai.transport import body_of, keep_error, pause_after, transport_errors, within
from ambi_eval.engines.prompt import as_messages
from ambi_eval.errors import AmbiError, did_you_mean

logger = logging.getLogger(__name__)

PaidArguments = OpenAIAudioArguments | GeminiAudioArguments | LiteLLMAudioArguments

OPENAI = "https://api.openai.com/v1"
# The kind of server by `owned_by` in its list of models.
KINDS = {"ambi-eval-bridge": "bridge", "vllm": "vllm"}
LOOPBACK = ("127.0.0.1", "::1", "localhost")
# After so many failed requests in a row the run ends, because the cause is no single clip.
FAILURES_IN_A_ROW = 10
# After these status codes the same request may succeed later; every other 4xx means that the request is wrong.
PASSING = (408, 409, 429)
# Status codes of servers that do not list their models; they count as ordinary chat servers.
NO_LIST = (400, 401, 403, 404, 405, 501)


class RequestFailedError(Exception):
    """The server gave no usable reply to one request in any attempt."""


class ChatServer:
    """One model of an OpenAI-compatible server.

    Any number of threads may ask at the same time. A request is repeated after a time-out, a broken connection, an
    invalid reply, and status 408, 409, 429 and 5xx. The pause before is the server's `Retry-After`; without one it
    grows with each attempt.

    Attributes:
        base_url: Scheme, host, port and path of the server.
        counts: `requests` (HTTP requests for answers, repeated ones included), `retries`, `failed` (requests given up),
            `prompt_tokens`, `audio_tokens` (among the prompt tokens, if the server counts them), `generated_tokens`,
            `thinking_tokens` (among the generated tokens).
        budget: What the replies cost.
        tally: Counts what the replies hold; `counts` is a part of it.
        refused: Optional fields that the server refuses.
    """

    def __init__(self, given: PaidArguments, key: str | None = None) -> None:
        """Set up from the `--model_args`; the server is not asked before the first question.

        `key` is that of a server that this process has started; None: an environment variable holds it.
        """
        try:
            import openai
        except ImportError as error:
            raise AmbiError("chat servers need the openai package: pip install 'ambi-eval[openai]'") from error
        self._sdk = openai
        self.errors: tuple[type[Exception], ...] = (openai.OpenAIError,)
        self.given = given
        self.model = given.model
        self.base_url = self._address(given.base_url)
        self.key_variable = given.api_key_env or self._usual_key_variable()
        self._key = key or key_of(self.key_variable)
        if self._key == "none" and (given.api_key_env or self._needs_key()):
            raise AmbiError(f"{self.base_url} needs a key; set the environment variable {self.key_variable}")
        self.tally = Tally(self.base_url, self.model, given.think_end_token)
        self.counts = self.tally.counts
        self.budget = Budget(self.model, self._price(), self.counts, max_cost=given.max_cost, batch=given.batch)
        self.refused: set[str] = set()
        self._failed_in_a_row = 0
        self._lock = Lock()
        self._seconds_between = 60.0 / given.requests_per_minute if given.requests_per_minute else 0.0
        self._next_slot = 0.0
        try:
            self.client = self._open()
        except (ImportError, ValueError, OSError) as error:
            what = f"no connection to {self.base_url} can be set up ({masked(str(error), self._key)})"
            fix = "correct the environment variables of the proxy (HTTPS_PROXY ...) and of certificates (SSL_CERT_FILE)"
            raise AmbiError(f"{what}; {fix}") from error

    def _address(self, base_url: str | None) -> str:
        """Return the address of the server; clients of other services have another default."""
        return server_address(base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI)

    def _usual_key_variable(self) -> str:
        """Return the environment variable that holds the key, unless `api_key_env` names another."""
        return "OPENAI_API_KEY"

    def _needs_key(self) -> bool:
        return self.base_url == OPENAI

    def _price(self) -> Price | None:
        return self.given.price(self.base_url)

    def _open(self) -> Any:
        return self._sdk.OpenAI(
            api_key=self._key,
            base_url=self.base_url,
            timeout=self.given.timeout,
            max_retries=0,
            http_client=self._http_client(),
        )

    def _http_client(self) -> Any:
        """Return a client that follows no redirect, and asks a server on this machine directly, without a proxy."""
        local = urlsplit(self.base_url).hostname in LOOPBACK
        hooks = {"response": [keep_error]}
        return self._sdk.DefaultHttpxClient(follow_redirects=False, trust_env=not local, event_hooks=hooks)

    @cached_property
    def served(self) -> dict[str, ServedModel]:
        """The models that the server lists; empty where it lists none, AmbiError if no server answers."""
        for attempt in range(self.given.max_retries + 1):
            try:
                # A list comes at once, so its time limit is shorter than that of an answer.
                return read_models(within(min(self.given.timeout, 30.0), self._list_models))
            except Exception as error:
                status = error.status_code if isinstance(error, self._sdk.APIStatusError) else None
                # `transformers serve` cannot list its models without a network, and says 500 each time.
                if status in NO_LIST or (status == 500 and attempt == min(1, self.given.max_retries)):
                    return {}
                told = self.told(error)
                if not self._passes(error):
                    raise AmbiError(f"{self.base_url} does not list its models ({told}); correct base_url") from error
                if attempt == self.given.max_retries:
                    break
                time.sleep(pause_after(error, attempt))
        raise AmbiError(f"no server answers at {self.base_url} ({told}); start it or correct base_url")

    def _list_models(self) -> bytes:
        with self.client.models.with_streaming_response.list() as response:
            return body_of(response)

    @cached_property
    def kind(self) -> str:
        """The kind of server: `bridge` (our own) and `vllm` do more than the chat protocol, `chat` does not.

        If no server answers, it is the kind that an earlier run noted, because a run whose answers are all stored needs
        no server; an AmbiError if no run did.
        """
        try:
            owners = [model.owned_by for model in self.served.values()]
            kind = KINDS.get(owners[0] or "", "chat") if owners else "chat"
        except AmbiError:
            if remembered := known(self.base_url).get("kind"):
                return str(remembered)
            raise
        note(self.base_url, kind=kind)
        return kind

    @property
    def is_bridge(self) -> bool:
        """Whether the server is our own bridge."""
        return self.kind == "bridge"

    @property
    def budgets_thinking(self) -> bool:
        """Whether the server takes a limit of the tokens of thinking (`thinking_token_budget`)."""
        return self.is_vllm

    @property
    def is_vllm(self) -> bool:
        """Whether the server is vLLM, which has beam search and likelihoods (`engines.openai.vllm`)."""
        return self.kind == "vllm"

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the reply to a request outside the chat protocol; `path` is below the server's root, without `/v1`."""
        address = self.base_url.removesuffix("/v1") + path
        client = self.client.with_options(max_retries=self.given.max_retries)
        whole = {"model": self.model, **body}
        try:
            return within(self.given.timeout, lambda: client.post(address, body=whole, cast_to=object))
        except Exception as error:
            if not self._is_failure(error):
                raise
            if isinstance(error, self._sdk.NotFoundError):
                raise AmbiError(f"{address} is not there ({self.told(error)}); give vLLM's own base_url") from error
            raise self._failure(error) from error

    def question(self, job: Job, audios: Sequence[Samples]) -> dict[str, Any]:
        """Return the fields of a request that hold the question and its audios.

        vLLM and the bridge get float samples, as a local model does; other servers get 16-bit samples. The bridge also
        gets the digest of each audio, so that it draws the same answers as a local model.
        """
        exact = self.is_bridge or self.is_vllm
        parts = [audio_part(samples, "FLOAT" if exact else "PCM_16") for samples in audios]
        messages = [
            # A text alone is sent as a string, which every server takes; only audio needs a list of parts.
            {**message, "content": content[0]["text"]} if len(content) == 1 and "text" in content[0] else message
            for message in as_messages(job.prompt, parts)
            for content in [message["content"]]
        ]
        seconds = {AUDIO_SECONDS: sum(map(len, audios)) / SAMPLE_RATE} if audios else {}
        return {"messages": messages, **seconds, **({"ambi_audio_digests": job.heard} if self.is_bridge else {})}

    def ask(self, body: Mapping[str, Any]) -> Reply:
        """Return the server's reply to one request, given without the model.

        Raises:
            RequestFailedError: If this request failed in every attempt; others may succeed.
            AmbiError: If no request can succeed: the key is wrong, there is no such model, the quota is used up, no
                server answers, or the request could exceed `max_cost`.
        """
        seconds = body.get(AUDIO_SECONDS, 0.0)
        whole = {"model": self.model, **body, **self.given.extra_body}
        sent = {name: value for name, value in whole.items() if name != AUDIO_SECONDS}
        with self.budget.spending(text_of(sent["messages"]), seconds, most_tokens(sent)) as request:
            try:
                reply = self._send(sent)
            except Exception as error:
                if isinstance(error, AmbiError) or not self._is_failure(error):
                    raise
                raise self._failure(error) from error
            request.cost = self.count(reply)
        return reply

    def count(self, reply: Reply) -> float | None:
        """Add the tokens of a reply to the counts, and return its cost; None if the server did not count them."""
        is_counted = self.tally.add(reply)
        with self._lock:
            self._failed_in_a_row = 0
        return self.budget.cost(**(reply.usage or Usage()).paid) if is_counted else None

    def _send(self, body: Mapping[str, Any]) -> Reply:
        """Send a request; leave out an optional field that the server refuses, now and later."""
        while True:
            sent = self.accepted(body)
            try:
                return self._with_retries(sent)
            except WithheldError:
                return withheld_reply(body.get("n") or 1)
            except (self._sdk.BadRequestError, self._sdk.UnprocessableEntityError) as error:
                if error.code in WITHHELD:
                    return withheld_reply(body.get("n") or 1)
                name = next((name for name in OPTIONAL if name in sent and is_about(error, name)), None)
                if name is None:
                    raise
                self.refuse(name, self.told(error))

    def refuse(self, name: str, told: str) -> None:
        """Leave out a field from now on, and log it once."""
        with self._lock:
            if name not in self.refused:
                logger.warning("%s refuses '%s' (%s): %s", self.base_url, name, told, OPTIONAL[name])
            self.refused.add(name)

    def read(self, content: bytes, likelihoods: int | None = None) -> Reply:
        """Return the reply in a body, without the key; raises ValueError if the body is no valid reply."""
        return read_reply(without_key(content, self._key), likelihoods)

    def accepted(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request without the fields that the server refuses."""
        sent = {name: value for name, value in body.items() if value is not None and name not in self.refused}
        return {**sent, "max_completion_tokens": body["max_tokens"]} if "max_tokens" in self.refused else sent

    def _with_retries(self, body: Mapping[str, Any]) -> Reply:
        wanted = body.get("ambi_continuations")
        for attempt in range(self.given.max_retries + 1):
            self._wait_for_turn()
            with self._lock:
                self.counts["requests"] += 1
                self.counts["retries"] += attempt > 0
            try:
                content = within(self.given.timeout, lambda: self._post(body))
                return self.read(content, len(wanted) if wanted is not None else None)
            except Exception as error:
                if attempt == self.given.max_retries or not self._passes(error):
                    raise
                pause = pause_after(error, attempt)
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _post(self, body: Mapping[str, Any]) -> bytes:
        more = {name: value for name, value in body.items() if name not in ("model", "messages")}
        create = self.client.chat.completions.with_streaming_response.create
        with create(model=body["model"], messages=body["messages"], extra_body=more) as response:
            return body_of(response)

    def _wait_for_turn(self) -> None:
        """Wait until the rate limit permits the next request."""
        with self._lock:
            now = time.monotonic()
            slot = self._next_slot = max(now, self._next_slot + self._seconds_between)
        time.sleep(slot - now)

    def _is_failure(self, error: Exception) -> bool:
        """Return whether an error comes from the server or the network, not from a mistake in this program."""
        return isinstance(error, (self._sdk.OpenAIError, ValueError, OSError, TimeoutError, *transport_errors()))

    def _passes(self, error: Exception) -> bool:
        """Return whether the same request may succeed later."""
        if isinstance(error, WithheldError):
            return False
        if status := getattr(error, "status_code", None):
            return not self._no_quota(error) and (status in PASSING or status >= 500)
        return self._is_failure(error)

    def _no_quota(self, error: Any) -> bool:
        """Return whether the account is empty."""
        return getattr(error, "status_code", None) == 402 or getattr(error, "code", None) == "insufficient_quota"

    def _failure(self, error: Exception) -> Exception:
        """Return the error to raise: an `AmbiError` ends the run, a `RequestFailedError` concerns this request only."""
        sdk, told = self._sdk, self.told(error)
        if isinstance(error, (sdk.AuthenticationError, sdk.PermissionDeniedError)):
            return AmbiError(f"{self.base_url} refuses the key in {self.key_variable} ({told}); set a valid one")
        if isinstance(error, sdk.NotFoundError):
            hint = did_you_mean(self.model, {*self.served} - {self.model})
            return AmbiError(f"{self.base_url} has no model '{self.model}'{hint} ({told}); correct model or base_url")
        if isinstance(error, sdk.APIStatusError) and 300 <= error.status_code < 400:
            where = f"{self.base_url} redirects to another address ({told}), to which neither audio nor key are sent"
            return AmbiError(f"{where}; give it as base_url if it is the right one")
        if self._no_quota(error):
            return AmbiError(f"{self.base_url}: the account has no quota left ({told}); add some, then run again")
        if getattr(error, "code", None) == "unsupported":
            return AmbiError(f"{self.base_url} cannot do what this strategy needs ({told}); leave the strategy out")
        return self.note_failure(told)

    def note_failure(self, told: str) -> Exception:
        """Count a failed request, and return the error to raise; many failures in a row end the run."""
        with self._lock:
            self.counts["failed"] += 1
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= max(FAILURES_IN_A_ROW, 2 * self.given.num_concurrent):
                failed = f"{self._failed_in_a_row} requests in a row failed, the last one with: {told}"
                return AmbiError(f"{self.base_url}: {failed}; run the same command again when that is mended")
        return RequestFailedError(told)

    def told(self, error: Any) -> str:
        """Return an error in one line of at most 300 characters, without the key."""
        if isinstance(error, self._sdk.APIStatusError) and 300 <= error.status_code < 400:
            told = f"HTTP {error.status_code}, to {error.response.headers.get('location')}"
        elif isinstance(error, (TimeoutError, self._sdk.APITimeoutError)):
            told = f"no whole reply within {self.given.timeout:g} s"
        elif isinstance(error, ValueError):
            told = f"a reply that is no chat completion: {why_unreadable(error)}"
        else:
            told = str(error)
            if told == f"Error code: {getattr(error, 'status_code', None)}":
                told += f" - {error.body}"  # a body in a form that the SDK does not know
            told += f" {error.__cause__}" if error.__cause__ and str(error.__cause__) not in told else ""
        return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", masked(told, self._key))[:300]

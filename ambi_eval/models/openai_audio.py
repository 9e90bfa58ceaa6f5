"""The harness model `openai-audio`: any OpenAI-compatible chat server that hears audio."""

from __future__ import annotations

import json
import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, TypeVar, get_args

import torch

from ambi_eval.answers.candidate import Candidate, Finish
from ambi_eval.audio import audio_digest
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.engines.hf.sampling import row_key
from ambi_eval.engines.openai.client import ChatServer, RequestFailedError, concurrently
from ambi_eval.errors import AmbiError
from ambi_eval.inference.answer_cache import Recall
from ambi_eval.inference.pools import Order, Pools
from ambi_eval.inference.question import Question
from ambi_eval.inference.verifier import ChatVerifier, Verifier
from ambi_eval.models.audio_lm import (
    AudioLM,
    Continuations,
    Likelihoods,
    open_store,
    open_verifier,
    refuse_unknown,
    whole_number,
)

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


class OpenAIAudio(AudioLM):
    """A model behind an OpenAI-compatible chat server: OpenAI, Gemini, vLLM, SGLang, `transformers serve`, our bridge.

    Chat servers sample and answer greedily. They have no beams and give no likelihoods of given answers; our bridge
    does both.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        api_key_env: str | None = None,
        seed: int | None = None,
        num_concurrent: int = 8,
        samples_per_request: int | None = None,
        timeout: float = 300.0,
        max_retries: int = 5,
        requests_per_minute: float | None = None,
        input_price: float | None = None,
        output_price: float | None = None,
        audio_price: float | None = None,
        extra_body: Mapping[str, Any] | str | None = None,
        store: str | None = None,
        verifier: str = "self",
        verifier_base_url: str | None = None,
        verifier_api_key_env: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        **unknown: Any,
    ) -> None:
        """Set up; the server is not asked before the first question.

        Args:
            model: The name under which the server knows the model.
            base_url: Where the server is, up to and with `/v1`; by default OPENAI_BASE_URL, else OpenAI's own.
            api_key_env: Environment variable that holds the key; by default OPENAI_API_KEY.
            seed: Of the sampling; by default the harness's `--seed`.
            num_concurrent: Requests at the same time.
            samples_per_request: The most samples that one request asks for (`n`); by default all of a clip's. A server
                that gives fewer is asked again for the rest.
            timeout: Seconds after which a request is given up and repeated.
            max_retries: How often a request is repeated.
            requests_per_minute: The most requests that are sent in a minute; by default no limit.
            input_price: Price of a million prompt tokens, for the cost in the results.
            output_price: Price of a million generated tokens.
            audio_price: Price of a million audio tokens, where it is not `input_price`.
            extra_body: Further fields of each request, as JSON; null takes a field out.
            store: File in which answers are kept and found again; by default `candidates.sqlite` in the data directory,
                `none` for no store.
            verifier: Who rates answers: `self`, `openai:MODEL` at `verifier_base_url`, or a checkpoint for `hf-audio`.
            verifier_base_url: Where the verifier's server is; by default OPENAI_BASE_URL, else OpenAI's own.
            verifier_api_key_env: Environment variable that holds the verifier's key; by default OPENAI_API_KEY.
            batch_size: Of no meaning here, as are `max_batch_size` and `device`: the server decides.
            max_batch_size: See `batch_size`.
            device: See `batch_size`.
            **unknown: Refused.

        Raises:
            AmbiError: If an argument is unknown or impossible, or if there are several processes.
        """
        super().__init__()
        if "api_key" in unknown:
            raise AmbiError("keys do not belong on the command line; name an environment variable with api_key_env=")
        refuse_unknown("openai-audio", OpenAIAudio, unknown)
        if model is None:
            raise AmbiError("openai-audio needs a model: --model_args model=gpt-audio, for example")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise AmbiError("openai-audio, as a verifier too, runs in one process; leave out torchrun")
        self.server = ChatServer(
            model,
            base_url,
            api_key_env=api_key_env,
            num_concurrent=whole_number("num_concurrent", num_concurrent, least=1),
            timeout=_positive("timeout", timeout),
            max_retries=whole_number("max_retries", max_retries, least=0),
            requests_per_minute=requests_per_minute and _positive("requests_per_minute", requests_per_minute),
            extra_body=_json_object("extra_body", extra_body),
        )
        prices = {"input_price": input_price, "output_price": output_price, "audio_price": audio_price}
        self.prices = {name: _positive(name, price) for name, price in prices.items() if price is not None}
        self.seed = torch.initial_seed() if seed is None else whole_number("seed", seed)
        # How many answers a request brings; falls where the server gives fewer.
        self.per_request = (
            math.inf
            if samples_per_request is None
            else whole_number("samples_per_request", samples_per_request, least=1)
        )
        self.content_filtered = 0
        identity = {"server": self.server.host, "model": model, "extra_body": self.server.extra_body}
        self.recall = Recall(open_store(store), identity, _provenance())
        self.pools = Pools(self.recall, self.seed, self._make)
        self.rated_by = open_verifier(
            self, verifier, base_url=verifier_base_url, api_key_env=verifier_api_key_env, seed=self.seed, store=store
        )
        self.totals = self.counts()

    @property
    def name(self) -> str:
        """What messages call the model."""
        return self.server.model

    @property
    def verifier(self) -> Verifier:
        """How this model rates answers."""
        return ChatVerifier(self.server, self.recall)

    # ------------------------------------------------------------------------------------------- answers

    def check(self, questions: Sequence[Question]) -> None:
        """Refuse beams, except from our bridge.

        Raises:
            AmbiError: If a request asks for beams that the server does not have.
        """
        for question in questions:
            if question.settings.num_beams > 1 and not self.server.is_bridge:
                raise AmbiError(
                    f"{question.requests[0].task_name}: chat servers have no beam search, and "
                    f"{self.server.base_url} is no ambi-eval bridge; use a strategy that samples (sc, sc_shares), or "
                    f"serve the model with `ambi-eval bridge`"
                )

    def _make(self, orders: Sequence[Order]) -> Iterator[tuple[Order, list[Candidate]]]:
        """Ask for answers, and yield each reply's as soon as they are there; orders that fail are left out."""
        queue = deque(orders)

        def take() -> Order | None:
            if not queue:
                return None
            order = queue.popleft()
            beams = order.question.settings.num_beams > 1
            together = len(order.numbers) if beams else min(len(order.numbers), self.per_request)
            if together < len(order.numbers):
                queue.appendleft(Order(order.question, order.numbers[int(together) :], order.key))
            return Order(order.question, order.numbers[: int(together)], order.key)

        for order, answers in self._ask_all(self._answers, take):
            self.content_filtered += sum(answer.finish == "content_filter" for answer in answers)
            if len(answers) < len(order.numbers):
                self._note_fewer(len(order.numbers), len(answers))
                queue.appendleft(Order(order.question, order.numbers[len(answers) :], order.key))
            yield Order(order.question, order.numbers[: len(answers)], order.key), answers

    def _ask_all(
        self, work: Callable[[Item], Result], take: Callable[[], Item | None]
    ) -> Iterator[tuple[Item, Result]]:
        """Work on many items at the same time, and leave out those whose requests fail."""

        def attempt(item: Item) -> Result | RequestFailedError:
            try:
                return work(item)
            except RequestFailedError as failure:
                return failure

        for item, outcome in concurrently(attempt, take, self.server.num_concurrent):
            if isinstance(outcome, RequestFailedError):
                self.last_failure = str(outcome)
            else:
                yield item, outcome

    def _note_fewer(self, asked: int, given: int) -> None:
        """Ask for no more answers at once than the server gives; said once for each number."""
        if given < self.per_request:
            logger.warning(
                "%s gives %d of %d answers to one request (n): the others are asked for by further requests",
                self.server.base_url,
                given,
                asked,
            )
            self.per_request = given

    def _answers(self, order: Order) -> list[Candidate]:
        """Ask for the answers of one order; the reply may hold fewer."""
        question, numbers, settings = order.question, order.numbers, order.question.settings
        body = {
            **self.server.question(question.context, question.spans),
            "temperature": settings.temperature,
            "max_tokens": settings.max_gen_toks,
            "stop": list(settings.until) or None,
            "logprobs": True,
        }
        if settings.num_beams > 1:
            body |= {"n": len(numbers), "ambi_beams": settings.num_beams, "length_penalty": settings.length_penalty}
        elif settings.sampled:
            # Engines give sample i of a request the seed + i: so sample k of a clip has the same seed in any request.
            body["seed"] = self._first_seed(question, settings) + numbers[0]
            body["n"] = len(numbers) if len(numbers) > 1 else None
            # Also where it is 1: some servers would take the checkpoint's own otherwise.
            body["top_p"] = settings.top_p
            body["top_k"] = settings.top_k or None
            if self.server.is_bridge:
                body |= {"ambi_samples": numbers, "ambi_seed": self.seed}
        reply = self.server.ask(body)
        alone = len(reply["choices"]) == 1
        tokens = (reply.get("usage") or {}).get("completion_tokens") if alone else None
        answers = [_candidate(choice, settings, tokens) for choice in reply["choices"][: len(numbers)]]
        ranked = len(answers) == len(numbers) and all(answer.logprob is not None for answer in answers)
        if settings.num_beams > 1 and not (ranked and reply.get("ambi_beams") == settings.num_beams):
            raise AmbiError(
                f"{question.requests[0].task_name}: the model behind {self.server.base_url} has no beam search with "
                f"likelihoods; use a strategy that samples (sc, sc_shares)"
            )
        return answers

    def _first_seed(self, question: Question, settings: GenerationSettings) -> int:
        """Return the seed of a clip's first sample; some servers take no more than 31 bits."""
        heard = [audio_digest(span) for span in question.spans]
        drawn = (settings.temperature, settings.top_k, settings.top_p)
        return row_key(self.seed, self.name, question.context, *heard, *drawn) % 2**30

    # ------------------------------------------------------------------------------------------- likelihoods

    def make_scores(self, wanted: Mapping[Question, Continuations]) -> Iterator[tuple[Question, Likelihoods]]:
        """Yield every question with the likelihoods of its continuations, which only our bridge gives.

        Raises:
            AmbiError: If the server does not give them.
        """
        if not self.server.is_bridge:
            task = next(iter(wanted)).requests[0].task_name
            raise AmbiError(
                f"{task}: chat servers give no likelihoods of given answers, and {self.server.base_url} is no "
                f"ambi-eval bridge; use sc, which samples answers to the same question, or serve the model with "
                f"`ambi-eval bridge`"
            )
        questions = iter(wanted)
        yield from self._ask_all(lambda each: self._likelihoods(each, wanted[each]), lambda: next(questions, None))

    def _likelihoods(self, question: Question, continuations: Continuations) -> Likelihoods:
        task = question.requests[0].task_name
        if not all(ends for _, ends in continuations):
            raise AmbiError(f"{task}: the bridge scores whole answers only; give the requests end_of_turn: true")
        texts = [text for text, _ in continuations]
        asked = self.server.question(question.context, question.spans)
        # A model that does not know the field gives an answer instead: a short one.
        reply = self.server.ask({**asked, "temperature": 0, "max_tokens": 1, "ambi_continuations": texts})
        found = reply.get("ambi_loglikelihoods")
        if found is None:
            raise AmbiError(
                f"{task}: the model behind {self.server.base_url} gives no likelihoods of given answers; use sc, which "
                f"samples answers to the same question"
            )
        return [(float(logprob), bool(is_greedy)) for logprob, is_greedy in found]

    # ------------------------------------------------------------------------------------------- results

    def counts(self) -> dict[str, int]:
        """Return what was asked and paid for."""
        return {
            "store_hits": self.recall.hits,
            **self.server.counts,
            "content_filtered": self.content_filtered,
        }

    def get_model_info(self) -> dict[str, Any]:
        """Return what stands with the results: which model it was, how it was asked, and what it cost."""
        common = super().get_model_info()["ambi"]
        return {
            "ambi": {
                **common,
                "seed": self.seed,
                "model": self.name,
                "base_url": self.server.base_url,
                "system_fingerprints": dict(self.server.fingerprints),
                **({"cost": self.cost, **self.prices} if self.prices else {}),
                **_provenance(),
            }
        }

    @property
    def cost(self) -> float:
        """What the tokens of this run cost, in the currency of the prices."""
        counts, prices = self.server.counts, self.prices
        audio = counts["audio_tokens"] if "audio_price" in prices else 0
        million = (
            (counts["prompt_tokens"] - audio) * prices.get("input_price", 0)
            + audio * prices.get("audio_price", 0)
            + counts["generated_tokens"] * prices.get("output_price", 0)
        )
        return round(million / 1e6, 6)


def _candidate(choice: Mapping[str, Any], settings: GenerationSettings, tokens: int | None) -> Candidate:
    """Return an answer, cut at the first stop string where the server went on.

    Args:
        choice: Of the reply; `ambi_logprob` and `ambi_n_tokens` are the bridge's.
        settings: With the stop strings.
        tokens: How many tokens it has, where the reply says nothing more exact.
    """
    whole = choice["message"].get("content") or choice["message"].get("refusal") or ""
    text = whole
    for stop in settings.until:
        text = text.split(stop)[0]
    logprobs = [each["logprob"] for each in (choice.get("logprobs") or {}).get("content") or ()]
    logprob, n_tokens = choice.get("ambi_logprob"), choice.get("ambi_n_tokens")
    if logprob is None and logprobs and text == whole:
        logprob = sum(logprobs)
    if n_tokens is None:
        n_tokens = len(logprobs) or tokens
    finish = choice.get("finish_reason")
    return Candidate(text, logprob, n_tokens, finish if finish in get_args(Finish) else None)


def _provenance() -> dict[str, Any]:
    """Return what answers should not depend on."""
    return {"versions": {name: metadata.version(name) for name in ("ambi-eval", "openai")}}


def _positive(name: str, value: Any) -> float:
    try:
        if float(value) > 0:
            return float(value)
    except (TypeError, ValueError):
        pass
    raise AmbiError(f"{name}={value} is not a number above 0")


def _json_object(name: str, value: Mapping[str, Any] | str | None) -> dict[str, Any]:
    try:
        found = json.loads(value) if isinstance(value, str) else dict(value or {})
    except ValueError as error:
        raise AmbiError(f"{name}={value} is no JSON ({error}); give all of --model_args as one JSON object") from error
    if not isinstance(found, dict):
        raise AmbiError(f"{name}={value} is no JSON object; give the fields by name")
    return found

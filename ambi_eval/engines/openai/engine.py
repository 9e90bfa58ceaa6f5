"""The engine `openai-audio`: any OpenAI-compatible chat server that hears audio."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import torch

from ambi_eval.answers.candidate import Candidate
from ambi_eval.config.model_arguments import ChatServerArguments, ModelArguments, OpenAIAudioArguments
from ambi_eval.engines.base import SAMPLING, Capabilities, Engine, Job, Likelihood, Sampling, versions
from ambi_eval.engines.openai.batches import MANY, Part, in_batches
from ambi_eval.engines.openai.choices import candidates_of
from ambi_eval.engines.openai.client import ChatServer, RequestFailedError
from ambi_eval.engines.openai.concurrency import concurrently, is_ending
from ambi_eval.engines.openai.copies import Copies
from ambi_eval.engines.openai.known_servers import known, note
from ambi_eval.engines.openai.replies import Reply
from ambi_eval.engines.openai.vllm import VLLM
from ambi_eval.engines.openai.window import heard, window_of
from ambi_eval.errors import AmbiError
from ambi_eval.sampling.keys import row_key

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Out = TypeVar("Out")


class OpenAIEngine(Engine):
    """A model behind an OpenAI-compatible chat server: OpenAI, Gemini, vLLM, SGLang, `transformers serve`, our bridge.

    Every server samples and answers greedily; only vLLM and our bridge have beams and likelihoods of given answers.

    Attributes:
        per_request: The most answers that one request asks for; it falls if the server gives fewer.
    """

    Arguments: ClassVar[type[ModelArguments]] = OpenAIAudioArguments
    Server: ClassVar[type[ChatServer]] = ChatServer
    library: ClassVar[str] = "openai"  # the package that sends the requests

    def __init__(self, arguments: ChatServerArguments, device: torch.device | None = None) -> None:
        """Set up; the server is not asked before the first job."""
        super().__init__(arguments, device)
        self.server = self._connect()
        self.vllm = VLLM(self.server)
        self.jobs_at_once = MANY if self.server.given.batch else arguments.num_concurrent
        self.per_request: float = arguments.samples_per_request or math.inf
        self.copies = Copies(self.server.base_url)
        self._answered_as: str | None = None  # the model's name in the reply whose answers were handed out last

    def _connect(self) -> ChatServer:
        return self.Server(self.arguments)

    @property
    def name(self) -> str:
        """The model's name for the server."""
        return self.server.model

    @property
    def identity(self) -> dict[str, Any]:
        """Address and kind of the server, and the model's name; which weights these are only the server knows."""
        kind = {} if self.server.kind == "chat" else {"kind": self.server.kind}
        named = {"server": self.server.base_url, "model": self.name, "extra_body": self.arguments.extra_body}
        window = self.arguments.max_audio_seconds
        return {**named, **kind, **self.thinking_identity, **({} if window is None else {"max_audio_seconds": window})}

    @property
    def capabilities(self) -> Capabilities:
        """What the server can do; raises AmbiError if no server answers, and none has before."""
        more = "beams" in self.pools(self.server.kind)
        return Capabilities(
            seeds="seed" not in self.server.refused,
            beams=more,
            likelihoods=more,
            answers_per_request=None if self.per_request == math.inf else int(self.per_request),
            sampling_is=self._sampling(),
        )

    @classmethod
    def pools(cls, server: str = "") -> frozenset[str]:
        """Return the possible pools; those of beams and labels need vLLM or our bridge."""
        return super().pools(server) | ({"beams", "labels"} if server in ("vllm", "bridge") else frozenset())

    def _sampling(self) -> Sampling:
        """Return whether the server follows the sampling settings: as this run saw, else as `doctor` noted."""
        if self.server.refused & {"temperature", "top_p"}:
            self.note_sampling("fixed by the provider")  # a later run from stored answers asks nothing
            return "fixed by the provider"  # also where notes cannot be written
        found = known(self._known_as).get("sampling")
        return SAMPLING.get(found.get(self.name), "unknown") if isinstance(found, dict) else "unknown"

    def note_sampling(self, sampling: Sampling) -> None:
        """Note it for later runs with this model of this server."""
        noted = known(self._known_as).get("sampling", {})
        note(self._known_as, sampling={**noted, self.name: sampling})

    @property
    def _known_as(self) -> str:
        """The server's name in these notes."""
        return self.server.base_url

    @property
    def may_think(self) -> bool:
        """True: a model behind a server may think without being told to."""
        return True

    def check(self, jobs: Sequence[Job]) -> None:
        """Check the jobs with beams; the server is asked what it can do only if there are any."""
        searches = [job for job in jobs if job.settings.num_beams > 1]
        super().check(searches)
        for job in searches:
            if self.server.is_vllm:
                self.vllm.beam_fields(job)

    def lacks(self, job: Job, what: str, instead: str) -> AmbiError:
        """Return the error of a job that asks for what chat servers do not do."""
        why = f"a model behind a chat server {what}, and {self.server.base_url} is neither vLLM nor an ambi-eval bridge"
        fix = f"use {instead}, or serve the model with `vllm serve` or `ambi-eval bridge`"
        return AmbiError(f"{job.task}: {why}; {fix}")

    def generate(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, dict[int, Candidate]]]:
        """Ask for answers, and yield those of each reply as soon as it is there.

        If the run ends early, the answers that are held back are yielded, too, unless they may be copies.
        """
        try:
            for answered in self._generate([Part(job, job.numbers) for job in jobs]):
                yield answered
                if self.copies.draws or (is_ending() and not self.copies.copied):
                    yield from self.copies.take_held()
        except AmbiError:
            if not self.copies.copied:
                yield from self.copies.take_held()
            raise
        held = self.copies.take_held()
        if self.copies.copied and not self.copies.draws:
            yield from self._generate([Part(job, list(answers), alone=True) for job, answers in held])
        else:
            yield from held

    def _generate(self, parts: Sequence[Part]) -> Iterator[tuple[Job, dict[int, Candidate]]]:
        queue = deque(parts)

        def take() -> Part | None:
            if not queue:
                return None
            part = queue.popleft()
            together = self._together(part)
            if together < len(part.numbers):
                queue.appendleft(replace(part, numbers=part.numbers[together:]))
            return replace(part, numbers=part.numbers[:together])

        for part, choices in self._choices(take):
            if len(choices) < len(part.numbers):
                # A server that withholds its answers may give one choice instead of n.
                if len(choices) < self.per_request and not all(
                    each is not None and each.finish == "content_filter" for each in choices
                ):
                    what = "%s gives %d of %d answers to one request (n): the others are asked for by further requests"
                    logger.warning(what, self.server.base_url, len(choices), len(part.numbers))
                    self.per_request = len(choices)
                queue.appendleft(replace(part, numbers=part.numbers[len(choices) :]))
            failed = [number for number, each in zip(part.numbers, choices, strict=False) if each is None]
            if failed and part.attempt < self.arguments.max_retries:
                queue.appendleft(replace(part, numbers=failed, attempt=part.attempt + 1))
            elif failed:
                self._note_failure(self.server.note_failure("the server could not finish the answer"))
            numbered = zip(part.numbers, choices, strict=False)
            answers: Mapping[int, Candidate] = {number: each for number, each in numbered if each is not None}
            if answers and part.job.settings.sampled and not self.server.is_bridge:
                answers, again = self.copies.sift(part.job, answers)
                if again:
                    queue.appendleft(replace(part, numbers=again, alone=True))
            if answers:
                yield part.job, dict(answers)

    def _choices(self, take: Callable[[], Part | None]) -> Iterator[tuple[Part, list[Candidate | None]]]:
        """Ask for the answers of each part, by single requests or in batches, and yield them."""

        def ask(part: Part) -> tuple[list[Candidate | None], str | None]:
            reply = self.server.ask(self._body(part))
            return self._read(part, reply), reply.model

        if not self.server.given.batch:
            for part, (choices, named) in self._ask_all(ask, take):
                self._answered_as = named
                yield part, choices
            return
        for part, outcome in in_batches(self.server, self.identity, take, self._body):
            if isinstance(outcome, Reply):
                self._answered_as = outcome.model
                yield part, self._read(part, outcome)
            else:
                self._note_failure(outcome)

    def _together(self, part: Part) -> int:
        """Return how many of the first answers of a part one request can ask for.

        Servers draw sample i of a request with the request's seed + i, so the numbers must be consecutive. The bridge
        takes any numbers.
        """
        numbers = part.numbers
        if part.job.settings.num_beams > 1:
            return len(numbers)
        if part.alone or self.copies.found:
            return 1
        together = int(min(len(numbers), self.per_request))
        if not self.server.is_bridge:
            together = next((i for i in range(1, together) if numbers[i] != numbers[0] + i), together)
        return together

    def _ask_all(self, work: Callable[[Item], Out], take: Callable[[], Item | None]) -> Iterator[tuple[Item, Out]]:
        """Work on several items at the same time, and leave out those whose requests fail."""

        def attempt(item: Item) -> Out | RequestFailedError:
            try:
                return work(item)
            except RequestFailedError as failure:
                return failure

        for item, outcome in concurrently(attempt, take, self.arguments.num_concurrent):
            if isinstance(outcome, RequestFailedError):
                self._note_failure(outcome)
            else:
                yield item, outcome

    def _note_failure(self, failure: Exception) -> None:
        """Note why a request failed; raise every other error."""
        if not isinstance(failure, RequestFailedError):
            raise failure
        self.last_failure = str(failure)

    def _body(self, part: Part) -> dict[str, Any]:
        job, numbers = part.job, part.numbers
        settings = job.settings
        body = {
            **self._question(job),
            "temperature": settings.temperature,
            "max_tokens": settings.most_tokens,
            "thinking_token_budget": (settings.max_thinking_toks or None) if self.server.budgets_thinking else None,
            "stop": list(settings.until) or None,
            "logprobs": True,
            "top_logprobs": job.alternatives or None,
        }
        if settings.num_beams > 1 and self.server.is_vllm:
            body |= self.vllm.beam_fields(job)
        elif settings.num_beams > 1:
            body |= {"n": len(numbers), "ambi_beams": settings.num_beams, "length_penalty": settings.length_penalty}
        elif settings.sampled:
            # Sample k of a clip has the same seed in every request.
            body["seed"] = self._first_seed(job) + numbers[0]
            body["n"] = len(numbers) if len(numbers) > 1 else None
            # Always sent, because some servers otherwise take the value of the checkpoint.
            body["top_p"] = settings.top_p
            body["top_k"] = settings.top_k or None
            if self.server.is_bridge:
                body |= {"ambi_samples": list(numbers), "ambi_seed": job.seed}
        return body

    def _read(self, part: Part, reply: Reply) -> list[Candidate | None]:
        """Return the answers in a reply, which may be fewer than asked for; None for those that failed."""
        job, numbers, settings = part.job, part.numbers, part.job.settings
        if reply.prompt_withheld:
            reply = reply.model_copy(update={"choices": reply.choices * len(numbers)})
        answers = candidates_of(reply, job, self.arguments.think_end_token)[: len(numbers)]
        ranked = len(answers) == len(numbers) and all(each and each.logprob is not None for each in answers)
        searched = self.server.is_vllm or reply.ambi_beams == settings.num_beams
        if settings.num_beams > 1 and not (ranked and searched):
            what = f"the model behind {self.server.base_url} has no beam search with likelihoods"
            raise AmbiError(f"{job.task}: {what}; use a strategy that samples (sc, sc_shares)")
        return answers

    def _question(self, job: Job) -> dict[str, Any]:
        """Return the fields of a request that hold the question and the audio, cut to what the model hears."""
        return self.server.question(job, heard(job, self.window_seconds))

    @cached_property
    def window_seconds(self) -> float | None:
        """The longest audio that the model hears, as the arguments or vLLM's checkpoint say.

        If the server does not answer, it is what an earlier run noted: stored answers need no server.
        """
        given: float | None = self.arguments.max_audio_seconds
        if given is not None or not self.server.is_vllm:
            return given
        noted = known(self._known_as).get("window_seconds", {})
        try:
            served = self.server.served.get(self.server.model)
        except AmbiError:
            window: float | None = noted.get(self.name)
            return window
        window = window_of(served.root or served.id) if served else None
        note(self._known_as, window_seconds={**noted, self.name: window})
        return window

    def _first_seed(self, job: Job) -> int:
        """Return the seed of a clip's first sample, of 30 bits, because some servers take no more than 31."""
        settings = job.settings
        drawn = (settings.temperature, settings.top_k, settings.top_p)
        return row_key(job.seed, self.server.model, job.prompt, *job.heard, *drawn) % 2**30

    def loglikelihoods(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, list[Likelihood]]]:
        """Yield each job with the likelihoods of its continuations, which only vLLM and our bridge give."""
        if not self.capabilities.likelihoods:
            yield from super().loglikelihoods(jobs)
        left = iter(jobs)
        ask = self._from_vllm if self.server.is_vllm else self._from_bridge
        yield from self._ask_all(ask, lambda: next(left, None))

    def _from_vllm(self, job: Job) -> list[Likelihood]:
        return self.vllm.loglikelihoods(job, self._question(job))

    def _from_bridge(self, job: Job) -> list[Likelihood]:
        if not all(ends for _, ends in job.continuations):
            what = "the bridge gives likelihoods of whole answers only"
            raise AmbiError(f"{job.task}: {what}; set end_of_turn: true in the requests")
        texts = [text for text, _ in job.continuations]
        # A server that does not know the field generates an answer instead, of one token.
        short = {"temperature": 0, "max_tokens": 1}
        reply = self.server.ask({**self._question(job), **short, "ambi_continuations": texts})
        if reply.ambi_loglikelihoods is None:
            what = f"the model behind {self.server.base_url} gives no likelihoods of given answers"
            raise AmbiError(f"{job.task}: {what}; use sc, which samples answers to the same question")
        return reply.ambi_loglikelihoods

    def counts(self) -> dict[str, int]:
        """Return the counts of requests and tokens."""
        return dict(self.server.counts)

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions of the local packages, and the model's name in the reply if it is not the one that was asked for."""
        named = {"answered_as": self._answered_as} if self._answered_as not in (None, self.name) else {}
        return {"versions": versions("ambi-eval", self.library), **named}

    def info(self) -> dict[str, Any]:
        """Return the model, its server, and what the answers cost."""
        return {
            "model": self.name,
            "base_url": self.server.base_url,
            "answered_as": dict(self.server.tally.names),
            "system_fingerprints": dict(self.server.tally.fingerprints),
            **self.server.budget.info(),
            "versions": self.provenance["versions"],
        }

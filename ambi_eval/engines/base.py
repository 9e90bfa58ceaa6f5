"""The seam between strategies and models: an engine answers jobs, and says what it is and what it can do."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from ambi_eval.answers.candidate import Candidate
from ambi_eval.audio import AudioSpan, audio_digest, span_seconds
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.config.model_arguments import ARGUMENTS, ModelArguments
from ambi_eval.errors import AmbiError, did_you_mean

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

# Each engine is registered as an entry point of this group; the harness then knows it as a model of the same name.
ENGINES = "ambi_eval.engines"

Continuation = tuple[str, bool]  # a text, and whether the model must end its turn after it
Likelihood = tuple[float, bool]  # natural log-likelihood of a continuation, and whether greedy decoding gives it


@dataclass(eq=False)
class Job:
    """One prompt with its audios, and what is wanted of it: answers, or the likelihoods of given continuations."""

    prompt: str
    """The text, with one `<audio>` where each audio goes (`engines.prompt` says how a system message is put in front).
    """
    spans: tuple[AudioSpan, ...] = ()
    """The audios."""
    settings: GenerationSettings = field(default_factory=GenerationSettings)
    """How answers are generated."""
    seed: int = 0
    """Seed of the sampling. Answer k of a pool depends on it and on k, not on what is generated beside it."""
    numbers: Sequence[int] = (0,)
    """Which answers of the pool are wanted, counted from 0. All greedy answers are one: number 0. Beams are numbered
    from the best one on."""
    continuations: Sequence[Continuation] = ()
    """The continuations whose likelihoods are wanted."""
    alternatives: int = 0
    """How many alternatives of each token an answer should carry (`TokenizedAnswer`)."""
    digests: Sequence[str] | None = None
    """What identifies each audio in the choice of samples; None: `audio_digest` of each span."""
    task: str = "a prompt"
    """The task that asks, for messages."""
    prompt_tokens: int | None = None
    """Number of tokens of the prompt; the engine fills it in where it knows."""

    @property
    def heard(self) -> list[str]:
        """The digest of each audio."""
        return list(self.digests) if self.digests is not None else [audio_digest(span) for span in self.spans]


@dataclass(frozen=True)
class Token:
    """A generated token."""

    text: str
    """Its text."""
    alternatives: Mapping[str, float]
    """The natural log-probability of each token that the model gave in its place, its own included."""


class TokenizedAnswer(Candidate):
    """An answer that carries its tokens, where a job asks for alternatives and the engine gives them."""

    __slots__ = ("tokens",)

    tokens: Sequence[Token]


Sampling = Literal["honoured", "fixed by the provider", "unknown"]
SAMPLING: dict[str | None, Sampling] = {name: name for name in get_args(Sampling)}


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do with its model, besides greedy answers, which every engine gives."""

    sampling: bool = True
    """Whether it draws samples."""
    seeds: bool = True
    """Whether the same seed gives the same samples again."""
    beams: bool = False
    """Whether it has beam search with likelihoods."""
    likelihoods: bool = False
    """Whether it gives the likelihoods of given continuations."""
    sampling_is: Sampling = "unknown"
    """Whether samples are drawn as the settings say: `honoured`, `fixed by the provider` (temperature and top-p have no
    effect), or `unknown`."""
    answers_per_request: int | None = None
    """The most answers that one request brings; None is any number."""


@cache
def versions(*packages: str) -> dict[str, str]:
    """Return the versions of installed packages; they are looked up once, as this takes milliseconds."""
    return {name: version(name) for name in packages}


class Engine(ABC):
    """Something that answers jobs about audio: a model in this process, on a server, or anywhere else.

    To add one, write a subclass and name it in an entry point of the group `ambi_eval.engines`. `lm_eval --model NAME`,
    `ambi-eval doctor --model NAME` and the contract suite (`ambi_eval.testing`) then find it.

    Attributes:
        Arguments: The settings that `--model_args` may hold.
        arguments: Those that it was given.
        data_parallel: Whether it computes in this process, so that each process of `torchrun` can have its own.
        jobs_at_once: How many jobs it works on at the same time, where they come one after the other.
        ready: How many answered jobs `generate` hands over before it computes again.
        last_failure: Why the engine left out a job, the last time it did.
        cut_audio: Number of audios of the jobs of which the model hears only the beginning.
        is_cut: For each audio that was looked at, whether it is cut. An audio in here is not counted again; a server
            that runs for long may clear it.
    """

    Arguments: ClassVar[type[ModelArguments]] = ModelArguments
    data_parallel: ClassVar[bool] = False
    arguments: Any
    jobs_at_once = 1
    ready = 0
    last_failure = ""

    def __init__(self, arguments: Any, device: torch.device | None = None) -> None:
        """Set up from an instance of `Arguments`.

        Engines that compute in this process use the `device`; None: as the arguments say.

        Raises:
            AmbiError: If the model cannot be loaded or reached.
        """
        self.arguments = arguments
        self.cut_audio = 0
        self.is_cut: dict[AudioSpan, bool] = {}

    @classmethod
    def check_arguments(cls, arguments: Any) -> None:
        """Look for what the arguments name (checkpoint, adapter, packages, keys), before any model is loaded.

        Raises:
            AmbiError: If something is missing.
        """
        return

    @classmethod
    def device(cls, arguments: Any) -> torch.device:
        """Return the device on which this process will compute, of an engine that is `data_parallel`."""
        raise NotImplementedError

    @classmethod
    def shared(cls, arguments: Any) -> AbstractContextManager[dict[str, str]]:
        """Start what the processes of one machine can share that use such an engine, one after another.

        It lasts as long as the context, whose value is the environment variables by which they find it.
        """
        return nullcontext({})

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call the model."""

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """What answers depend on besides their job: weights, processor, precision ...; plain JSON.

        It is part of every key of the answer cache, so a change of it makes all stored answers unreachable.
        """

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the engine can do with its model."""

    @abstractmethod
    def generate(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, dict[int, Candidate]]]:
        """Yield answers by their number, as soon as they are there, in any order.

        A job may come several times, each time with other answers of it. Answers on which the engine fails are left
        out, and `last_failure` says why; the next run asks for them again.

        Raises:
            AmbiError: If no further job can succeed.
        """

    def loglikelihoods(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, list[Likelihood]]]:
        """Yield each job with the likelihoods of its continuations, in any order; leave out those that fail.

        Raises:
            AmbiError: If the engine has none, or if no further job can succeed.
        """
        for job in jobs:
            raise self.lacks(job, "gives no likelihoods of given answers", "sc, which samples answers")
        yield from ()

    @property
    def thinking_identity(self) -> dict[str, Any]:
        """The part of the `identity` that says where a model's thinking ends."""
        end = self.arguments.think_end_token
        return {} if end is None else {"think_end_token": end}

    @property
    def window_seconds(self) -> float | None:
        """The longest audio that the model hears as a whole; None if there is no limit, or if it is unknown.

        The engine cuts longer audio in silence; `note_audio` counts it.
        """
        return None

    def note_audio(self, spans: Sequence[AudioSpan]) -> None:
        """Count the audios of which the model hears only the beginning, also where its answers are stored already.

        Raises:
            AmbiError: If there is one, and the arguments refuse it (`long_audio=refuse`).
        """
        for span in dict.fromkeys(spans):
            if span in self.is_cut or (window := self.window_seconds) is None:
                continue
            seconds = span_seconds(span)
            if seconds > window:
                what = f"{span.path}: {seconds:.1f} s of audio, of which {self.name} hears {window:g} s"
                if getattr(self.arguments, "long_audio", "cut") == "refuse":
                    raise AmbiError(f"{what}; give long_audio=cut to go on with these")
                if not self.cut_audio:
                    logger.warning("%s; the rest is cut off, for this and all other long audios", what)
                self.cut_audio += 1
            self.is_cut[span] = seconds > window

    @property
    def may_think(self) -> bool:
        """Whether answers may come after thinking; how much is not known of answers that an older version stored."""
        return bool(self.thinking_identity)

    def check(self, jobs: Sequence[Job]) -> None:
        """Look at all jobs of a run before the first is answered; raises AmbiError if one asks for the impossible."""
        for job in jobs:
            if job.settings.num_beams > 1 and not self.capabilities.beams:
                raise self.lacks(job, "has no beam search", "a strategy that samples (sc, sc_shares)")
            if job.settings.sampled and not self.capabilities.sampling:
                raise self.lacks(job, "draws no samples", "a strategy with greedy answers (direct, cot, ens)")

    def lacks(self, job: Job, what: str, instead: str) -> AmbiError:
        """Return the error of a job that asks for what the engine cannot do."""
        return AmbiError(f"{job.task}: {self.name} {what}; use {instead}")

    @classmethod
    def pools(cls, server: str = "") -> frozenset[str]:
        """Return the pools (a strategy's `pool:`) that the engine can make, with a server such as `vllm` or `chat`."""
        return frozenset({"greedy", "samples", "prompts"})

    @property
    def provenance(self) -> dict[str, Any]:
        """What should not change an answer, but may change its last digit: device, versions ...; plain JSON."""
        return {}

    def counts(self) -> dict[str, int]:
        """Return what has been computed so far, by name."""
        return {}

    def info(self) -> dict[str, Any]:
        """Return what else should be in the results: which model it was, and how it ran; plain JSON."""
        return {}

    def note_sampling(self, sampling: Sampling) -> None:
        """Note what `doctor` found out about the sampling, where later runs should know."""
        return

    @property
    def chat_template(self) -> str | None:
        """The chat template that the engine applies, for the log; None where a server applies its own."""
        return None


def arguments_of(name: str) -> type[ModelArguments] | None:
    """Return the arguments of an engine, None if there is no such engine; imports no engine of this package."""
    if name in ARGUMENTS:
        return ARGUMENTS[name]
    return find_engine(name).Arguments if entry_points(group=ENGINES, name=name) else None


def find_engine(name: str) -> type[Engine]:
    """Return the engine of this name; raises AmbiError if there is none."""
    known = {each.name: each for each in entry_points(group=ENGINES)}
    if name not in known:
        raise AmbiError(f"there is no engine '{name}'{did_you_mean(name, known)}; give {' or '.join(sorted(known))}")
    engine = known[name].load()
    assert issubclass(engine, Engine), f"the entry point {name} names no engine"
    return engine

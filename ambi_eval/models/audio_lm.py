"""The harness model of any engine: turns the harness's requests into questions, and returns answers and ratings."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from lm_eval.api.instance import Instance
from lm_eval.utils import simple_parse_args_string
from tqdm import tqdm

from ambi_eval.answers.candidate import Candidate
from ambi_eval.audio import clipped
from ambi_eval.config.model_arguments import ModelArguments
from ambi_eval.engines.base import Engine, Likelihood, find_engine
from ambi_eval.engines.prompt import as_prompt
from ambi_eval.errors import AmbiError, counted
from ambi_eval.inference.answer_cache import AnswerCache
from ambi_eval.inference.likelihoods import loglikelihoods
from ambi_eval.inference.pools import Answered, Pools
from ambi_eval.inference.question import Question, RatingScale
from ambi_eval.inference.store import CandidateStore
from ambi_eval.inference.verifier import Ratings, Verifier
from ambi_eval.models.processes import DataParallelLM
from ambi_eval.models.requests import asked_questions, shared_prompts
from ambi_eval.paths import data_dir

logger = logging.getLogger(__name__)
AnyAudioLM = TypeVar("AnyAudioLM", bound="AudioLM")


class AudioLM(DataParallelLM):
    """A harness model that answers questions about audio, made of an engine, its answer cache, and a verifier.

    A request's arguments are `(context, generation_kwargs, {"audio": [...]})` for `generate_until` and
    `(context, continuation, {"audio": [...], "end_of_turn": bool})` for `loglikelihood`; an audio is a dict of path,
    start, end and control. `<audio>` in the context marks where each audio goes. The engine applies the chat template,
    with or without `--apply_chat_template`.

    Attributes:
        engine_name: The name of the engine, which is also the harness's name for the model.
        seed: Seed of the sampling.
        verifier: Rates answers.
        totals: Counts of what was computed, over all processes.
        verifier_totals: The same counts of the verifier.
    """

    MULTIMODAL = True
    engine_name: ClassVar[str]

    def __init__(self, model: str | None = None, /, **arguments: Any) -> None:
        """Load or connect to the model; a server is not asked before the first question.

        `model` is the argument `pretrained` or `model`, as the engine calls it; its `Arguments` describe the others.

        Raises:
            AmbiError: If an argument is unknown or impossible, or if the engine cannot be used.
        """
        super().__init__()
        clipped.clear()  # the clips that an earlier model of this process heard do not count
        kind = find_engine(self.engine_name)
        named = {} if model is None else {kind.Arguments.example[0]: model}
        given = kind.Arguments.read({**named, **arguments}, self.engine_name)
        wanted = {"answers": (kind, given)}
        if given.verifier != "self":
            wanted["ratings"] = _verifier(given)
        # Loading may take minutes, so every missing file, package or key is found first.
        for each, its in wanted.values():
            each.check_arguments(its)
        store = None if given.store == "none" else CandidateStore(given.store or data_dir() / "candidates.sqlite")
        device = None
        if kind.data_parallel:
            self.join_other_processes(kind.device(given))
            device = self._device
        # Servers first: whether they can be used is known at once, before a checkpoint is loaded.
        order = sorted(wanted, key=lambda use: wanted[use][0].data_parallel)
        opened = {use: _open(*wanted[use], device) for use in order}
        self.engine = opened["answers"]
        self.seed = torch.initial_seed() if given.seed is None else given.seed
        self.cache = AnswerCache(store, self.engine)
        self.pools = Pools(self.cache, self.seed)
        rates = opened.get("ratings")
        self.verifier = Verifier(AnswerCache(store, rates) if rates else self.cache)
        self.totals, self.verifier_totals = self._counts()

    @classmethod
    def create_from_arg_string(
        cls: type[AnyAudioLM], arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> AnyAudioLM:
        """Set up from `--model_args` as text."""
        stated = simple_parse_args_string(arg_string)
        if "store" in stated and stated["store"] is None:  # lm_eval reads `none` as None, which is the default store
            stated["store"] = "none"
        return cls.create_from_arg_obj(stated, additional_config)

    @classmethod
    def create_from_arg_obj(
        cls: type[AnyAudioLM], arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> AnyAudioLM:
        """Set up from `--model_args` as a dict; it overrides `--batch_size`, `--max_batch_size` and `--device`."""
        harness = {name: value for name, value in (additional_config or {}).items() if value is not None}
        return cls(**{**harness, **arg_dict})

    @property
    def name(self) -> str:
        """What messages call the model."""
        return self.engine.name

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Candidate]:
        """Answer requests; the repeats of one request (the same object several times) are its pool.

        Returns:
            One `Candidate` for each request, in their order: answer k of a pool for repeat k.

        Raises:
            AmbiError: If a request is impossible, which is found before the first is answered; or if the engine failed
                on some, after all others are answered and stored.
        """
        questions = asked_questions(requests)
        self.engine.check([question.job(self.seed) for question in questions])
        answers: list[Any] = [None] * len(requests)
        done = 0
        with self._progress(len(requests), "answers", disable_tqdm) as bar:
            for (question, pool), ratings in self._rated(list(questions)):
                rated = [
                    Candidate(one, one.logprob, one.n_tokens, one.finish, k, ratings.get(one), one.thinking_tokens)
                    for k, one in enumerate(pool)
                ]
                for number, position in enumerate(questions[question]):
                    # Clones of a data-parallel run get the last answer, and repeats of a greedy one all the same.
                    answers[position] = rated[min(number, question.pool_size - 1, len(rated) - 1)]
                done += 1
                bar.update(len(questions[question]))
        self._refuse_gaps(done, len(questions))
        return answers

    def _rated(self, questions: Sequence[Question]) -> Iterator[tuple[Answered, Ratings]]:
        """Yield every question with its answers, and the ratings of their texts if its strategy has a verifier.

        Questions with equal answers and the same scale, as of `almv` and `walmv`, are rated once.
        """
        alike: dict[Question, list[Answered]] = {}

        def one_of_each() -> Iterator[Answered]:
            for pool in self.pools.answers(questions):
                groups: dict[tuple[RatingScale | None, tuple[str, ...]], list[Answered]] = {}
                for question, answers in pool:
                    groups.setdefault((question.scale, tuple(map(str, answers))), []).append((question, answers))
                for group in groups.values():
                    alike[group[0][0]] = group
                    yield group[0]

        if any(question.scale for question in questions):
            rated = self.verifier.rate(one_of_each(), self.engine)
        else:
            rated = ((pool, {}) for pool in one_of_each())
        for (question, _), ratings in rated:
            for each in alike.pop(question):
                yield each, ratings

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Likelihood]:
        """Return the natural log-likelihood of each continuation, and whether greedy decoding gives it."""
        positions = shared_prompts(requests)
        jobs = sorted(positions, key=lambda job: str(job.spans))
        likelihoods: list[Any] = [None] * len(requests)
        done = 0
        with self._progress(len(requests), "likelihoods", disable_tqdm) as bar:
            for job, found in loglikelihoods(self.cache, jobs):
                for position, likelihood in zip(positions[job], found, strict=True):
                    likelihoods[position] = likelihood
                done += 1
                bar.update(len(found))
        self._refuse_gaps(done, len(jobs))
        return likelihoods

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Refuse: the perplexity of a text has nothing to do with audio."""
        raise AmbiError("loglikelihood_rolling: audio models give no perplexity; use --model hf for such tasks")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return the conversation as one string that still holds its `<audio>` marks.

        The engine applies the chat template later, together with the audio, with or without `--apply_chat_template`.
        """
        return as_prompt(chat_history)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the engine's own template, for the log, or raise an error if another one is asked for by name."""
        if isinstance(chat_template, str):
            raise AmbiError(f"{self.engine_name} has one chat template, the model's own: there is no '{chat_template}'")
        return self.engine.chat_template

    @property
    def tokenizer_name(self) -> str:
        """Name of tokenizer and template, part of the names of the harness's caches."""
        return self.name.replace("/", "__")

    def get_model_info(self) -> dict[str, Any]:
        """Return the part of the results about the model: the store, the verifier, the seed and the counts."""
        other: Any = "self"
        if self.verifier.engine is not self.engine:
            other = {"name": self.verifier.engine.name, **_info(self.verifier, self.verifier_totals)}
        store = {"store": str(self.cache.store.path) if self.cache.store else "none"}
        own = {"seed": self.seed, "sampling": self.engine.capabilities.sampling_is}
        return {"ambi": {**store, "verifier": other, **own, **_info(self, self.totals)}}

    def _counts(self) -> tuple[dict[str, int], dict[str, int]]:
        own, verifier = (
            {
                **{"store_hits": each.cache.hits, "content_filtered": each.cache.withheld},
                **{"truncated_audio": each.engine.cut_audio, **each.engine.counts()},
            }
            for each in (self, self.verifier)
        )
        return {**own, "clipped_audio": len(clipped)}, verifier

    def _refuse_gaps(self, done: int, asked: int) -> None:
        """Add up the counts, and raise an error if the engine failed on some prompts."""
        # The first process keeps the sums, because it writes the results.
        if gathered := self.gather_object(self._counts()):
            self.totals, self.verifier_totals = (
                {name: sum(counts[name] for counts in of_all) for name in of_all[0]}
                for of_all in zip(*gathered, strict=True)
            )
        if done < asked:
            kept = "kept in the candidate store" if self.cache.store else "lost (store=none)"
            failed = f"{self.name} failed on {asked - done} of {counted(asked, 'prompt')} ({self.engine.last_failure})"
            fix = "run the same command again to ask only for the missing ones"
            raise AmbiError(f"{failed}, so there is no score; the other answers are {kept}: {fix}")

    def _progress(self, total: int, unit: str, disable: bool) -> Any:
        return tqdm(total=total, unit=unit, desc=f"{self.name}: {unit}", disable=disable or self.rank != 0)


def _info(answering: AudioLM | Verifier, totals: dict[str, int]) -> dict[str, Any]:
    cache = answering.cache
    origins = {"stored_answers_from": dict(cache.origins), "set_ups": list(cache.set_ups)}
    prompts = {"prompt_tokens_by_task": found} if (found := cache.prompt_tokens_by_task()) else {}
    return {**totals, **origins, **prompts, **answering.engine.info()}


def open_engine(name: str, model_args: str, **defaults: Any) -> Engine:
    """Return an engine that is set up from `--model_args`, for use without the harness.

    An AmbiError says that there is no such engine, that an argument is impossible, or why the engine cannot be used.
    """
    kind, stated = find_engine(name), _stated(model_args)
    given = kind.Arguments.read({**defaults, **stated}, name)
    if unread := stated.keys() & {"seed", "store", "verifier", "verifier_base_url", "verifier_api_key_env"}:
        logger.warning("--model_args %s: only lm_eval reads this, here it has no effect", ", ".join(sorted(unread)))
    kind.check_arguments(given)
    return _open(kind, given, None)


def _stated(model_args: str) -> dict[str, Any]:
    """Return `--model_args`, which are `key=value,...` or JSON, as for `lm_eval`."""
    if not model_args.lstrip().startswith("{"):
        return dict(simple_parse_args_string(model_args))
    try:
        return dict(json.loads(model_args))
    except ValueError as error:
        raise AmbiError(f"--model_args {model_args} is no JSON ({error}); correct it, or give key=value,...") from error


def _open(kind: type[Engine], arguments: ModelArguments, device: torch.device | None) -> Engine:
    """Return an engine that is ready to answer; one that asks a server runs in no processes of torchrun."""
    if not kind.data_parallel and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise AmbiError(f"{kind.__name__} (as the model or as its verifier) runs in one process; leave out torchrun")
    return kind(arguments, device)


def _verifier(arguments: ModelArguments) -> tuple[type[Engine], ModelArguments]:
    """Return the class and the arguments of the engine that `verifier=` names."""
    if arguments.verifier.startswith("openai:"):
        server = {"base_url": arguments.verifier_base_url, "api_key_env": arguments.verifier_api_key_env}
        kind, given = find_engine("openai-audio"), {"model": arguments.verifier.removeprefix("openai:"), **server}
    else:
        kind, given = find_engine("hf-audio"), {"pretrained": arguments.verifier}
    return kind, kind.Arguments.read(given, f"verifier={arguments.verifier}")

"""What our harness models share: requests become questions, questions get their answers, and answers their ratings."""

from __future__ import annotations

import inspect
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

from lm_eval.api.instance import Instance
from tqdm import tqdm

from ambi_eval.answers.candidate import Candidate
from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.inference.answer_cache import Recall
from ambi_eval.inference.pools import Answered, Pools
from ambi_eval.inference.question import Question, as_context, asked_pools, multimodal, shared_prompts
from ambi_eval.inference.store import CandidateStore
from ambi_eval.inference.verifier import Verifier
from ambi_eval.models.processes import DataParallelLM
from ambi_eval.paths import data_dir

Continuations = Sequence[tuple[str, bool]]  # each with whether the model must end its turn behind it
Likelihoods = list[tuple[float, bool]]  # each with whether greedy decoding would give it


class AudioLM(DataParallelLM):
    """A harness model that answers questions about audio.

    A request's arguments are `(context, generation_kwargs, {"audio": [...]})` for `generate_until` and
    `(context, continuation, {"audio": [...], "end_of_turn": bool})` for `loglikelihood`; an audio is a dict of path,
    start, end and control. `<audio>` in the context marks where each audio goes. The chat template is applied behind
    this, with or without `--apply_chat_template`.

    Attributes:
        recall: What it has answered before.
        pools: Its pools of answers.
        rated_by: The model that rates answers: this one, or another.
        totals: What has been computed, in all processes together.
        last_failure: Why the model failed on a question, the last time it did.
    """

    MULTIMODAL = True
    last_failure = ""

    recall: Recall
    pools: Pools
    rated_by: AudioLM
    totals: dict[str, int]

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call the model."""

    @property
    @abstractmethod
    def verifier(self) -> Verifier:
        """How this model rates answers."""

    @abstractmethod
    def check(self, questions: Sequence[Question]) -> None:
        """Look at all that is asked, before the first question is answered.

        Raises:
            AmbiError: If the model cannot do it.
        """

    @abstractmethod
    def make_scores(self, wanted: Mapping[Question, Continuations]) -> Iterator[tuple[Question, Likelihoods]]:
        """Yield every question with the likelihoods of its continuations; leave out those on which the model fails."""

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """Return what this process has computed."""

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Candidate]:
        """Answer requests; the repeats of one request (the same object, as the harness clones it) are its pool.

        Returns:
            One `Candidate` for each request, in their order: candidate k of a pool for its k-th clone.

        Raises:
            AmbiError: If a request is impossible; all of them are checked before the first is answered. Or if the model
                failed on some; the others are answered and kept before that.
        """
        questions = asked_pools(requests)
        self.check(questions)
        answers: list[Any] = [None] * len(requests)
        done = 0
        with self._progress(len(requests), "answers", disable_tqdm) as bar:
            for question, pool, ratings in self._rated(questions):
                rated = [
                    Candidate(str(each), each.logprob, each.n_tokens, each.finish, number, ratings.get(str(each)))
                    for number, each in enumerate(pool)
                ]
                for number, position in enumerate(question.positions):
                    answers[position] = rated[min(number, question.pool_size - 1, len(rated) - 1)]
                done += 1
                bar.update(len(question.positions))
        self._refuse_gaps(done, len(questions))
        return answers

    def _rated(self, questions: Sequence[Question]) -> Iterator[tuple[Question, list[Candidate], dict[str, float]]]:
        """Yield every question with its answers and the ratings of their texts, where the request names a verifier.

        What `almv` and `walmv` share is rated once.
        """
        alike: dict[Question, list[Answered]] = {}

        def one_of_each() -> Iterator[Answered]:
            for pool in self.pools.answers(questions):
                groups: dict[tuple[str, ...], list[Answered]] = {}
                for question, answers in pool:
                    asked = multimodal(question.requests[0]).get("verifier")
                    groups.setdefault((json.dumps(asked), *map(str, answers)), []).append((question, answers))
                for group in groups.values():
                    alike[group[0][0]] = group
                    yield group[0]

        if any("verifier" in multimodal(question.requests[0]) for question in questions):
            rated = self.rated_by.verifier.rate(one_of_each())
        else:
            rated = ((question, answers, {}) for question, answers in one_of_each())
        for question, _, ratings in rated:
            for each, answers in alike.pop(question):
                yield each, answers, ratings

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> Likelihoods:
        """Return the log-likelihood of each continuation and whether it is the greedy one; one prefill per prompt.

        Raises:
            AmbiError: If a request is impossible; all of them are checked before the first is scored. Or if the model
                failed on some; the others are scored and kept before that.
        """
        questions = sorted(shared_prompts(requests), key=lambda each: str(each.spans))
        wanted = {question: [_continuation(request) for request in question.requests] for question in questions}
        scores: list[Any] = [None] * len(requests)
        done = 0
        with self._progress(len(requests), "likelihoods", disable_tqdm) as bar:
            for question, found in self.score(wanted):
                for position, score in zip(question.positions, found, strict=True):
                    scores[position] = score
                done += 1
                bar.update(len(found))
        self._refuse_gaps(done, len(questions))
        return scores

    def score(self, wanted: Mapping[Question, Continuations]) -> Iterator[tuple[Question, Likelihoods]]:
        """Yield every question with the likelihoods of its continuations: text, and whether the turn must end there."""
        keys = {question: self.recall.key(question, method="likelihood") for question in wanted}
        known = self.recall.likelihoods({keys[question]: each for question, each in wanted.items()})
        to_do = {}
        for question, continuations in wanted.items():
            found = [score for score in known[keys[question]] if score is not None]
            if len(found) == len(continuations):
                yield question, found
            else:
                to_do[question] = continuations
        for question, made in self.make_scores(to_do) if to_do else ():
            self.recall.keep_likelihoods(keys[question], wanted[question], made)
            yield question, made

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Refuse: the perplexity of a text has nothing to do with audio."""
        raise AmbiError(
            "audio models give no perplexity of texts (loglikelihood_rolling); use --model hf for such tasks"
        )

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return the conversation as one string that still holds its `<audio>` marks.

        The template is applied when the audio is there, with `--apply_chat_template` or without. So results do not
        depend on it: a question alone comes back as it is.

        Raises:
            AmbiError: If there is more than a system message and one question.
        """
        return as_context(chat_history)

    @property
    def tokenizer_name(self) -> str:
        """Name of tokenizer and template, part of the names of the harness's caches."""
        return self.name.replace("/", "__")

    def get_model_info(self) -> dict[str, Any]:
        """Return what stands with the results: what was computed, what was remembered, and who rated."""
        other = self.rated_by is not self
        return {
            "ambi": {
                **self.totals,
                "store": str(self.recall.store.path) if self.recall.store else "none",
                "stored_answers_from": self.recall.origins,
                "verifier": {"name": self.rated_by.name, **self.rated_by.get_model_info()["ambi"]} if other else "self",
            }
        }

    def add_up_counts(self) -> None:
        """Add up what all processes have computed; only the first one is asked for it, and when the others are gone."""
        if gathered := self.gather_object(self.counts()):
            self.totals = {name: sum(counts[name] for counts in gathered) for name in gathered[0]}
        if self.rated_by is not self:
            self.rated_by.add_up_counts()

    def _refuse_gaps(self, done: int, asked: int) -> None:
        """End a run in which the model failed on some questions."""
        self.add_up_counts()
        if done < asked:
            kept = (
                "the others are kept in the candidate store"
                if self.recall.store
                else "the others are lost (store=none)"
            )
            raise AmbiError(
                f"{self.name} failed on {asked - done} of {asked} prompts ({self.last_failure}), so there is no score; "
                f"{kept}: run the same command again to ask only for what is missing"
            )

    def _progress(self, total: int, unit: str, disable: bool) -> Any:
        return tqdm(total=total, unit=unit, desc=f"{self.name}: {unit}", disable=disable or self.rank != 0)


def _continuation(request: Instance) -> tuple[str, bool]:
    """Return the text whose likelihood is asked for, and whether the model must end its turn behind it."""
    return request.args[1], bool(multimodal(request).get("end_of_turn"))


def open_verifier(
    own: AudioLM, verifier: str, *, base_url: str | None, api_key_env: str | None, **options: Any
) -> AudioLM:
    """Return the model that rates the answers of another one.

    Args:
        own: The model whose answers are rated.
        verifier: `self` for that model, `openai:MODEL`, or a checkpoint for `hf-audio`.
        base_url: Where the server of `openai:MODEL` is.
        api_key_env: Environment variable with its key.
        options: Further arguments of the other model.

    Raises:
        AmbiError: If the other model cannot be used.
    """
    if verifier.startswith("openai:"):
        server = {"base_url": base_url, "api_key_env": api_key_env}
        return _ours("openai-audio")(verifier.removeprefix("openai:"), **server, **options)
    if base_url or api_key_env:
        raise AmbiError(f"verifier={verifier} is no server; give verifier=openai:MODEL with verifier_base_url and key")
    return own if verifier == "self" else _ours("hf-audio")(verifier, **options)


def _ours(name: str) -> type[AudioLM]:
    """Return one of our harness models; they import this module, so it finds them as the harness does."""
    return next(iter(entry_points(group="lm_eval.models", name=name))).load()


def refuse_unknown(model: str, cls: type, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that a model does not have.

    Raises:
        AmbiError: If there are any; names the first one.
    """
    for name in arguments:
        known = list(inspect.signature(cls).parameters)
        raise AmbiError(f"{model} has no argument '{name}'{did_you_mean(name, known)}")


def whole_number(name: str, value: Any, least: int | None = None) -> int:
    """Return the value of an argument as an integer.

    Raises:
        AmbiError: If it is none, or below `least`.
    """
    whole = not isinstance(value, float) and str(value).lstrip("-").isdigit()
    if not whole or (least is not None and int(value) < least):
        raise AmbiError(f"{name}={value} is not a whole number{'' if least is None else f' of at least {least}'}")
    return int(value)


def open_store(path: str | None) -> CandidateStore | None:
    """Return the candidate store at a path, the one in the data directory for None, and none for `none`."""
    return None if path == "none" else CandidateStore(path or data_dir() / "candidates.sqlite")

"""The answer cache: finds an engine's earlier answers in a store, and stores new ones."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from ambi_eval.answers.candidate import Candidate
from ambi_eval.audio import AudioSpan, audio_digest
from ambi_eval.engines.base import Continuation, Engine, Likelihood
from ambi_eval.inference.question import Question
from ambi_eval.inference.rows import canonical_json, pool_key
from ambi_eval.inference.store import CandidateStore

logger = logging.getLogger(__name__)

# Appended to a stored continuation if its likelihood includes the end of the turn.
_END_OF_TURN = "\0end of turn"


@dataclass
class AnswerCache:
    """Finds stored answers, and stores new ones as soon as they are made; without a store it does nothing."""

    store: CandidateStore | None  # where answers are stored; None: nowhere
    engine: Engine  # The engine. Its `identity` is part of every key; its `provenance` is stored with each answer.
    hits: int = 0  # number of answers, likelihoods and ratings that came from the store
    withheld: int = 0  # number of answers, stored and new, that the model's provider withheld
    origins: Counter[str] = field(default_factory=Counter)  # number of stored answers by their provenance (JSON)
    set_ups: dict[str, None] = field(default_factory=dict)  # the provenances of stored and new answers
    prompt_tokens: dict[str, int] = field(default_factory=dict)  # length of the prompt of each pool, where known
    pools_of: dict[str, set[str]] = field(default_factory=dict)  # the keys of the pools that each task asks for

    def key(self, prompt: str, spans: Sequence[AudioSpan], task: str | None = None, **decoding: Any) -> str:
        """Return the key of a pool: a hash of exactly what its answers depend on; remember the task that asks.

        Raises:
            AmbiError: If an audio is missing, or longer than the model hears where that is refused.
        """
        self.engine.note_audio(spans)
        heard = [audio_digest(span) for span in spans]
        key = pool_key(model=dict(self.engine.identity), prompt=prompt, audio=heard, decoding=decoding)
        if task is not None:
            self.pools_of.setdefault(task, set()).add(key)
        return key

    def pool_key(self, question: Question, seed: int) -> str:
        """Return the key of a pool of generated answers; settings that its decoding method ignores do not count."""
        settings = question.settings
        decoding: dict[str, Any] = {"max_tokens": settings.max_gen_toks, "until": list(settings.until)}
        if settings.max_thinking_toks:
            decoding["max_thinking_tokens"] = settings.max_thinking_toks
        if settings.sampled:
            drawn = {"temperature": settings.temperature, "top_k": settings.top_k, "top_p": settings.top_p}
            decoding |= {"method": "samples", "seed": seed, **drawn}
        elif settings.num_beams > 1:
            ranked = {"beams": settings.num_beams, "length_penalty": settings.length_penalty}
            decoding |= {"method": "beams", "size": question.pool_size, **ranked}
        else:
            decoding |= {"method": "greedy"}
        return self.key(question.prompt, question.spans, question.task, **decoding)

    def prompt_tokens_by_task(self) -> dict[str, float]:
        """Return the mean length of each task's prompts in tokens; tasks with prompts of unknown length are missing."""
        known = {task: keys for task, keys in self.pools_of.items() if keys <= self.prompt_tokens.keys()}
        return {task: sum(self.prompt_tokens[key] for key in keys) / len(keys) for task, keys in known.items()}

    def keep_prompt(self, key: str, tokens: int | None) -> None:
        """Keep the length of a pool's prompt, if the engine knows it; stored answers then cost what new ones do."""
        if tokens is not None and key not in self.prompt_tokens:
            self.prompt_tokens[key] = tokens
            if self.store is not None:
                self.store.add_prompt_tokens(key, tokens)

    def answers(self, pools: Mapping[Question, str]) -> dict[Question, dict[int, Candidate]]:
        """Return the stored answers of each pool by number; of a beam set, all or none."""
        if self.store is None:
            return {question: {} for question in pools}
        searched = {question: pool for question, pool in pools.items() if question.settings.num_beams > 1}
        sets = self.store.beams(searched.values())
        drawn = [question for question in pools if question not in searched]
        samples = self.store.samples({pools[question]: range(question.n_answers) for question in drawn})
        found = {
            question: dict(enumerate(sets.get(pool, []))) if question in searched else samples[pool]
            for question, pool in pools.items()
        }
        for answer in chain.from_iterable(of_pool.values() for of_pool in found.values()):
            if answer.thinking_tokens is None and not self.engine.may_think:
                answer.thinking_tokens = 0
        self.hits += sum(map(len, found.values()))
        self.prompt_tokens |= self.store.prompt_tokens(pools.values())
        self._note_origins(pools.values())
        for answers in found.values():
            self._count_withheld(answers)
        return found

    def keep_answers(self, question: Question, pool: str, answers: Mapping[int, Candidate]) -> None:
        """Store the answers of one pool: samples one by one, beams as a set."""
        self._count_withheld(answers)
        if self.store is None:
            return
        if question.settings.num_beams > 1:
            self.store.add_beams({pool: [answers[number] for number in sorted(answers)]}, self._provenance())
        else:
            self.store.add_samples({pool: answers}, self._provenance())

    def likelihoods(self, wanted: Mapping[str, Sequence[Continuation]]) -> dict[str, list[Likelihood | None]]:
        """Return the stored likelihoods of the continuations of each key; None for each that is not stored."""
        if self.store is None:
            return {key: [None] * len(continuations) for key, continuations in wanted.items()}
        names = {key: [_name(*continuation) for continuation in continuations] for key, continuations in wanted.items()}
        stored = self.store.likelihoods(names)
        found = {key: [stored[key].get(name) for name in names[key]] for key in names}
        self.hits += sum(each is not None for likelihoods in found.values() for each in likelihoods)
        self.prompt_tokens |= self.store.prompt_tokens(wanted)
        self._note_origins(wanted)
        return found

    def keep_likelihoods(self, key: str, continuations: Sequence[Continuation], made: Sequence[Likelihood]) -> None:
        """Store the likelihoods of one prompt's continuations."""
        if self.store is not None:
            named = {_name(*each): likelihood for each, likelihood in zip(continuations, made, strict=True)}
            self.store.add_likelihoods({key: named}, self._provenance())

    def ratings(self, key: str, texts: Sequence[str]) -> dict[str, float]:
        """Return the stored ratings of these texts, by text."""
        if self.store is None:
            return {}
        found = self.store.ratings({key: texts})[key]
        self.hits += len(found)
        return found

    def keep_ratings(self, key: str, ratings: Mapping[str, float]) -> None:
        """Store a verifier's ratings of texts."""
        if self.store is not None and ratings:
            self.store.add_ratings({key: ratings}, self._provenance())

    def _count_withheld(self, answers: Mapping[int, Candidate]) -> None:
        self.withheld += sum(answer.finish == "content_filter" for answer in answers.values())

    def _note_origins(self, keys: Iterable[str]) -> None:
        """Note the provenances of the stored answers of these pools."""
        assert self.store is not None, "only stored answers have origins"
        found = self.store.origins(keys)
        self.origins.update(found)
        self._note_set_ups(found)

    def _provenance(self) -> Mapping[str, Any]:
        """Return the provenance of a new answer, and note it."""
        provenance = self.engine.provenance
        self._note_set_ups([canonical_json(provenance)])
        return provenance

    def _note_set_ups(self, provenances: Iterable[str]) -> None:
        """Warn once if the answers of this run, stored and new, come from several set-ups."""
        before = len(self.set_ups)
        self.set_ups |= dict.fromkeys(provenances)
        if before < 2 <= len(self.set_ups):
            told = ", ".join(self.set_ups)
            logger.warning("the answers come from %d different set-ups: %s", len(self.set_ups), told)


def _name(text: str, end_of_turn: bool) -> str:
    return text + _END_OF_TURN if end_of_turn else text

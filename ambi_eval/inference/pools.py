"""Pools of answers: takes stored ones, asks the engine for the rest, and stops adaptive pools that have enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ambi_eval.answers.candidate import Candidate
from ambi_eval.engines.base import Engine
from ambi_eval.inference.answer_cache import AnswerCache
from ambi_eval.inference.question import Question

Answered = tuple[Question, list[Candidate]]


class Pools:
    """Gives every question its answers; questions of several tasks that ask for the same pool share it."""

    def __init__(self, engine: Engine, cache: AnswerCache, seed: int) -> None:
        """Set up for an engine.

        Args:
            engine: Makes the answers.
            cache: The engine's earlier answers.
            seed: Seed of the sampling.
        """
        self.engine = engine
        self.cache = cache
        self.seed = seed

    def answers(self, questions: Sequence[Question]) -> Iterator[list[Answered]]:
        """Yield each question with its answers as soon as they are complete, in no particular order.

        Adaptive questions are answered in rounds: a question that is not settled after one gets another job in the
        next. A question is left out if the engine failed on some of its answers.
        """
        groups: dict[str, list[Question]] = {}
        for question in questions:
            groups.setdefault(self.cache.pool_key(question, self.seed), []).append(question)
        largest = {max(group, key=lambda each: each.n_answers): key for key, group in groups.items()}
        known = {largest[question]: found for question, found in self.cache.answers(largest).items()}
        pending = dict.fromkeys(groups)
        while pending:
            jobs = {}
            for key in list(pending):
                if numbers := _missing(groups[key], known[key]):
                    jobs[groups[key][0].job(self.seed, numbers)] = key
                else:
                    del pending[key]
                    yield _answered(groups[key], known.pop(key))
            # Prompts about the same audio follow one another, so that it is encoded once.
            for job, made in self.engine.generate(sorted(jobs, key=lambda job: str(job.spans))) if jobs else ():
                key = jobs[job]
                self.cache.keep_answers(groups[key][0], key, made)
                known[key] |= made
                if not _missing(groups[key], known[key]):
                    del pending[key]
                    yield _answered(groups[key], known.pop(key))
            for job, key in jobs.items():
                if key in pending and not known[key].keys() >= set(job.numbers):
                    del pending[key]


def _missing(group: Sequence[Question], known: Mapping[int, Candidate]) -> list[int]:
    wanted = max(_wanted(question, known) for question in group)
    return [number for number in range(wanted) if number not in known]


def _wanted(question: Question, known: Mapping[int, Candidate]) -> int:
    """Return how many answers the question needs: all, or those up to the round after which it is settled.

    If some answers of a round are missing, it needs the answers up to that round.
    """
    size, rule = question.n_answers, question.stop_rule
    if rule is None:
        return size
    for drawn in range(rule.round, size, rule.round):
        answers = [known[number] for number in range(drawn) if number in known]
        if len(answers) < drawn or rule.settled(answers):
            return drawn
    return size


def _answered(group: Sequence[Question], known: Mapping[int, Candidate]) -> list[Answered]:
    """Return the questions of one pool with their answers; those that an adaptive one did not need are `not_drawn`."""
    answered = []
    for question in group:
        wanted = _wanted(question, known)
        left = question.n_answers - wanted
        drawn = [known[number] for number in range(wanted)]
        answered.append((question, drawn + [Candidate(finish="not_drawn")] * left))
    return answered

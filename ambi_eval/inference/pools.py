"""Completes pools of answers: takes the stored ones, asks the engine for the others, and stops adaptive pools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ambi_eval.answers.candidate import Candidate
from ambi_eval.inference.answer_cache import AnswerCache
from ambi_eval.inference.question import Question

Answered = tuple[Question, list[Candidate]]


@dataclass
class Pools:
    """Gives every question its answers; equal questions of several tasks share one pool."""

    cache: AnswerCache  # the earlier answers of an engine, which makes the others
    seed: int  # seed of the sampling

    def answers(self, questions: Sequence[Question]) -> Iterator[list[Answered]]:
        """Yield each pool's questions with their answers as soon as these are complete, in any order.

        Adaptive questions are answered in rounds: if the stop rule does not hold after a round, the question gets
        another one. A question is left out if the engine failed on some of its answers.
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
            # Prompts about the same audio come one after the other, so that the audio is encoded once.
            for job, made in self.cache.engine.generate(sorted(jobs, key=lambda job: str(job.spans))) if jobs else ():
                key = jobs[job]
                self.cache.keep_prompt(key, job.prompt_tokens)  # stored together with the answers
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
    """Return how many answers the question needs: all, or up to the end of the first round that is enough.

    The rounds after an incomplete one are not known to be needed yet, so they do not count.
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
    """Return the questions of one pool with their answers; `not_drawn` stands for those it did not need."""
    answered = []
    for question in group:
        drawn = [known[number] for number in range(_wanted(question, known))]
        answered.append((question, drawn + [Candidate(finish="not_drawn")] * (question.n_answers - len(drawn))))
    return answered

"""A pool of answers: what is stored already, what is still to be made, and when an adaptive one has enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ambi_eval.answers.candidate import Candidate
from ambi_eval.inference.answer_cache import Recall
from ambi_eval.inference.question import Question, multimodal
from ambi_eval.inference.stopping import StopRule

Known = dict[int, Candidate]


@dataclass(eq=False)
class Order:
    """Answers to be made.

    Attributes:
        question: The question.
        numbers: Which answers of its pool.
        key: The key of the pool.
    """

    question: Question
    numbers: list[int]
    key: str


Answered = tuple[Question, list[Candidate]]
Make = Callable[[Sequence[Order]], Iterator[tuple[Order, list[Candidate]]]]


class Pools:
    """Gives every question its answers; questions of several tasks that ask for the same pool share it."""

    def __init__(self, recall: Recall, seed: int, make: Make) -> None:
        """Set up for a model.

        Args:
            recall: What the model has answered before.
            seed: Of the sampling.
            make: Lets the model make answers, and yields each order, or a part of it, as soon as it is done. What the
                model fails on it does not yield.
        """
        self.recall = recall
        self.seed = seed
        self.make = make

    def answers(self, questions: Sequence[Question]) -> Iterator[list[Answered]]:
        """Yield all questions of a pool, each with its answers, as soon as they are there, in no particular order.

        Adaptive questions are drawn in rounds: what is not settled after one round is ordered again for the next. A
        question is left out if the model could not make all that was ordered for it.
        """
        groups: dict[str, list[Question]] = {}
        for question in questions:
            groups.setdefault(self.recall.pool(question, self.seed), []).append(question)
        largest = {max(group, key=lambda each: each.n_answers): key for key, group in groups.items()}
        known = {largest[question]: found for question, found in self.recall.answers(largest).items()}
        pending = dict.fromkeys(groups)
        while pending:
            orders = []
            for key in list(pending):
                if numbers := _missing(groups[key], known[key]):
                    orders.append(Order(groups[key][0], numbers, key))
                else:
                    del pending[key]
                    yield _answered(groups[key], known.pop(key))
            # Prompts about the same audio follow one another, so that it is encoded once.
            orders.sort(key=lambda order: str(order.question.spans))
            for order, made in self.make(orders):
                fresh = dict(zip(order.numbers, made, strict=True))
                self.recall.keep_answers(order.question, order.key, fresh)
                known[order.key] |= fresh
                if not _missing(groups[order.key], known[order.key]):
                    del pending[order.key]
                    yield _answered(groups[order.key], known.pop(order.key))
            for order in orders:
                if order.key in pending and not known[order.key].keys() >= set(order.numbers):
                    del pending[order.key]


def _missing(group: Sequence[Question], known: Mapping[int, Candidate]) -> list[int]:
    wanted = max(_wanted(question, known) for question in group)
    return [number for number in range(wanted) if number not in known]


def _wanted(question: Question, known: Mapping[int, Candidate]) -> int:
    """Return how many answers the question needs: all, or those up to the round after which it is settled.

    If a round is not known yet, that round is what it needs next.
    """
    size = question.n_answers
    given = multimodal(question.requests[0]).get("stop_rule")
    if not given:
        return size
    rule = StopRule.from_dict(**given)
    for drawn in range(rule.round, size, rule.round):
        answers = [known[number] for number in range(drawn) if number in known]
        if len(answers) < drawn or rule.settled(answers):
            return drawn
    return size


def _answered(group: Sequence[Question], known: Mapping[int, Candidate]) -> list[Answered]:
    """Return the questions of one pool with their answers; what an adaptive one did not need is marked `not_drawn`."""
    answered = []
    for question in group:
        wanted = _wanted(question, known)
        left = question.n_answers - wanted
        drawn = [known[number] for number in range(wanted)]
        answered.append((question, drawn + [Candidate(finish="not_drawn")] * left))
    return answered

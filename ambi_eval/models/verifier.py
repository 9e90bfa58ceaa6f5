"""A verifier hears the clip, sees one candidate answer, and rates how well the two fit: the expected rating."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from ambi_eval.candidates import Candidate
from ambi_eval.models.requests import CANDIDATE_MARK, Question

Scored = Iterator[tuple[Question, list[tuple[float, bool]]]]
Score = Callable[[Mapping[Question, Sequence[tuple[str, bool]]]], Scored]


def rate(
    score: Score, question: Question, candidates: Sequence[Candidate], prompt: str, ratings: Sequence[str]
) -> dict[str, float]:
    """Return the rating of each distinct candidate text; a text that got none is missing.

    Each candidate is rated alone, so their order cannot matter.

    Args:
        score: The verifier's likelihoods of continuations (`HFAudio.score`).
        question: What the candidates answer.
        candidates: The answers.
        prompt: The verifier's question, with `<audio>` and `<candidate>`.
        ratings: The ratings it may give: numbers, as text.
    """
    asked = {
        Question(prompt.replace(CANDIDATE_MARK, text), question.spans, question.requests): text
        for text in dict.fromkeys(map(str, candidates))
    }
    values = [float(rating) for rating in ratings]
    rated = {
        asked[each]: expected_rating(values, [logprob for logprob, _ in scores])
        for each, scores in score({each: [(rating, True) for rating in ratings] for each in asked})
    }
    return {text: rating for text, rating in rated.items() if math.isfinite(rating)}


def expected_rating(values: Sequence[float], logprobs: Sequence[float]) -> float:
    """Return the mean of the ratings under their likelihoods, sum r p(r) / sum p(r); NaN if none is possible.

    >>> round(expected_rating([1, 2, 3], [math.log(0.1), math.log(0.1), math.log(0.2)]), 4)
    2.25
    """
    best = max(logprobs)
    if not math.isfinite(best):
        return math.nan
    weights = [math.exp(logprob - best) for logprob in logprobs]
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)

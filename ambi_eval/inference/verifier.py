"""The verifier: it hears the clip, reads one answer about it, and rates how well the answer fits."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ambi_eval.answers.candidate import Candidate
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.engines.base import Engine, Job, Token, TokenizedAnswer
from ambi_eval.inference.answer_cache import AnswerCache
from ambi_eval.inference.likelihoods import loglikelihoods
from ambi_eval.inference.pools import Answered
from ambi_eval.inference.question import CANDIDATE_MARK, Question, RatingScale

Ratings = dict[str, float]  # by the text that is rated

WRITTEN = GenerationSettings(max_gen_toks=1024)  # of a rating, before which a model may reason
ALTERNATIVES = 20  # of each token; the most that OpenAI gives


@dataclass
class Verifier:
    """Rates answers with an engine. Each text is rated alone, so the order of the answers cannot matter.

    If the engine gives likelihoods, the rating is the expected one: the mean of all possible ratings, weighted by their
    likelihoods as the verifier's whole answer. Otherwise the model writes a rating, which `rating_of` reads.

    Attributes:
        cache: The earlier ratings of an engine, which makes the others.
    """

    cache: AnswerCache

    @property
    def engine(self) -> Engine:
        """The engine that rates."""
        return self.cache.engine

    def rate(self, pools: Iterator[Answered], answering: Engine) -> Iterator[tuple[Answered, Ratings]]:
        """Yield every pool with the ratings of its texts, without those that got none.

        Pools are rated together that come together, while a local engine still has their clips in the KV cache; an
        engine that works on several jobs at a time rates at least as many pools together.

        Args:
            pools: The pools.
            answering: The engine that answers them.
        """
        for first in pools:
            group = [first]
            while (answering.ready or len(group) < self.engine.jobs_at_once) and (more := next(pools, None)):
                group.append(more)
            rated: list[Ratings] = [{} for _ in group]
            missing: dict[Job, int] = {}
            keys: dict[Job, tuple[str, str]] = {}
            for number, (question, answers) in enumerate(group):
                if question.scale is None:
                    continue
                named: dict[str, Any] = {"method": "rating", "ratings": list(question.scale.ratings)}
                key = self.cache.key(question.scale.prompt, question.spans, **named)
                # An empty answer says nothing that could be rated.
                texts = list(dict.fromkeys(str(each) for each in answers if each))
                rated[number] = self.cache.ratings(key, texts)
                for text in texts:
                    if text not in rated[number]:
                        job = _job(question, question.scale, text)
                        missing[job], keys[job] = number, (key, text)
            for job, rating in self._rate(list(missing)) if missing else ():
                rated[missing[job]][keys[job][1]] = rating
                if not self.engine.capabilities.likelihoods:
                    self.cache.keep_ratings(keys[job][0], {keys[job][1]: rating})
            yield from zip(group, rated, strict=True)

    def _rate(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, float]]:
        """Yield each job with its rating, without those that got none."""
        if self.engine.capabilities.likelihoods:
            for job, likelihoods in loglikelihoods(self.cache, jobs):
                values = [float(rating) for rating, _ in job.continuations]
                rating = expected_rating(values, [logprob for logprob, _ in likelihoods])
                if math.isfinite(rating):
                    yield job, rating
        else:
            for job, answers in self.engine.generate(jobs):
                written = rating_of(answers[0], [rating for rating, _ in job.continuations])
                if written is not None:
                    yield job, written


def _job(question: Question, scale: RatingScale, text: str) -> Job:
    return Job(
        scale.prompt.replace(CANDIDATE_MARK, text),
        question.spans,
        WRITTEN,
        continuations=[(rating, True) for rating in scale.ratings],
        alternatives=ALTERNATIVES,
        task=question.task,
    )


# A number that is a word of its own.
_NUMBER = re.compile(r"(?<![\w.,\-+])[-+]?\d+(?:\.\d+)?(?![\w%])(?!\.\d)")
# Numbers that are no ratings: the number of a list item, the end of a scale, and a scale itself.
_NO_RATING = re.compile(
    r"^[ \t]*\d+[.)][ \t]+(?=\S)|(?<=\d)\s*(?:/|out of|of)\s*\d+|(?:from|between)?\s*\d+\s*(?:to|and|[-\u2013])\s*\d+",
    re.MULTILINE | re.IGNORECASE,
)
# Words that announce a rating.
_ANNOUNCED = re.compile(
    r"\b(?:rating|score|rate[sd]?|grade|answer|give)\b(?:(?!\d|\n\n|[.!?]\s).){0,60}?(?=(?<![\w.,\-+])[-+]?\d)",
    re.DOTALL | re.IGNORECASE,
)
_MARKUP = " \t\n*_`\"'([{<"


def rating_of(answer: Candidate, ratings: Sequence[str]) -> float | None:
    """Return the rating that a written answer gives, or None if it gives none.

    A number counts as the rating where the text says so ("Rating: 4", "I give it a 4"), where the answer begins with it
    ("4/5", "4, because ...") or where its last line is that number alone. If the engine gave the alternatives of its
    tokens, and the token of the rating is known, the result is the mean of the alternatives that are ratings, weighted
    by probability.
    """
    tokens = answer.tokens if isinstance(answer, TokenizedAnswer) else ()
    text = "".join(token.text for token in tokens)
    if text.strip() != answer.strip():
        tokens, text = (), str(answer)
    place = _place_of_rating(text)
    if place is None or text[place[0] : place[1]] not in ratings:
        return None
    written = text[place[0] : place[1]]
    # The token 1 may be the beginning of 10.
    prefix_free = not any(one != other and other.startswith(one) for one in ratings for other in ratings)
    token = _token_at(tokens, place[0])
    if token is not None and token.text.strip() == written and prefix_free:
        listed = token.alternatives.items()
        alternatives = [(float(each), logprob) for each, logprob in listed if each.strip() in ratings]
        rating = expected_rating(*zip(*alternatives, strict=True)) if alternatives else math.nan
        if math.isfinite(rating):
            return rating
    return float(written)


def _place_of_rating(text: str) -> tuple[int, int] | None:
    """Return the start and the end of the number that is stated as the rating; None if there is none."""
    left = _NO_RATING.sub(lambda found: " " * len(found[0]), text)
    numbers = {found.start(): found.span() for found in _NUMBER.finditer(left)}
    announced = [numbers[found.end()] for found in _ANNOUNCED.finditer(left) if found.end() in numbers]
    if announced:
        return announced[-1] if len({text[start:end] for start, end in announced}) == 1 else None
    start = len(text) - len(text.lstrip(_MARKUP))
    if start in numbers:
        return numbers[start]
    last = text.rstrip().rpartition("\n")[2]
    alone = _NUMBER.search(last)
    if alone and not last.replace(alone[0], "", 1).strip(_MARKUP + ")]}>.:"):
        offset = len(text.rstrip()) - len(last)
        return offset + alone.start(), offset + alone.end()
    return None


def _token_at(tokens: Sequence[Token], position: int) -> Token | None:
    end = 0
    for token in tokens:
        end += len(token.text)
        if position < end:
            return token
    return None


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

"""A verifier hears the clip, sees one candidate answer, and rates how well the two fit: the expected rating."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ambi_eval.answers.candidate import Candidate
from ambi_eval.engines.openai.client import ChatServer, RequestFailedError, concurrently
from ambi_eval.inference.answer_cache import Recall
from ambi_eval.inference.pools import Answered
from ambi_eval.inference.question import CANDIDATE_MARK, Question, multimodal

Scored = Iterator[tuple[Question, list[tuple[float, bool]]]]
Score = Callable[[Mapping[Question, Sequence[tuple[str, bool]]]], Scored]
Rated = tuple[Question, list[Candidate], dict[str, float]]

# Room for a model that reasons before it gives its rating.
RATING_TOKENS = 1024


# A pool with its key, the ratings that are known, and the texts that are to be rated.
_Job = tuple[Question, list[Candidate], str, dict[str, float], list[str]]


class Verifier(ABC):
    """Rates answers. Each one is rated alone, so their order cannot matter."""

    @abstractmethod
    def rate(self, pools: Iterator[Answered]) -> Iterator[Rated]:
        """Yield every pool with the ratings of its texts; a text that got none is missing.

        A question's request says how to rate its answers: `{"verifier": {"prompt": ..., "ratings": [...]}}`, with
        `<audio>` and `<candidate>` in the prompt, and the ratings as text. Without that, nothing is rated.
        """


class LikelihoodVerifier(Verifier):
    """Rates by the likelihoods of the ratings as the whole answer."""

    def __init__(self, score: Score) -> None:
        """Rate with a model's likelihoods of continuations (`AudioLM.score`)."""
        self.score = score

    def rate(self, pools: Iterator[Answered]) -> Iterator[Rated]:
        """Yield every pool as soon as it is rated; the questions about its answers share one encoding."""
        for question, pool in pools:
            asked = multimodal(question.requests[0]).get("verifier")
            yield question, pool, rate(self.score, question, pool, **asked) if asked else {}


class ChatVerifier(Verifier):
    """Asks a chat server for one rating of each answer.

    Where the server gives log-probabilities, the rating is the expected one over the alternatives of its first token;
    elsewhere, and where the model does not begin with a rating, the rating that it writes, at temperature 0 (the one
    that it begins with, or the only one; `4 out of 5` and `4/5` are 4). Our bridge gives likelihoods of the ratings, as
    a local model does.
    """

    def __init__(self, server: ChatServer, recall: Recall) -> None:
        """Rate with a server, and remember its ratings."""
        self.server = server
        self.recall = recall

    def rate(self, pools: Iterator[Answered]) -> Iterator[Rated]:
        """Yield the pools as they are rated, several at the same time; a failed request leaves its text unrated."""
        work = (self._with_known(question, pool) for question, pool in pools)
        for job, made in concurrently(self._ask, lambda: next(work, None), self.server.num_concurrent):
            question, pool, key, known, _ = job
            self.recall.keep_ratings(key, made)
            yield question, pool, known | made

    def _with_known(self, question: Question, pool: list[Candidate]) -> _Job:
        asked = multimodal(question.requests[0]).get("verifier")
        if not asked:
            return question, pool, "", {}, []
        key = self.recall.key(Question(asked["prompt"], question.spans), method="rating", ratings=asked["ratings"])
        # An empty answer says nothing that could fit.
        texts = list(dict.fromkeys(str(each) for each in pool if each))
        known = self.recall.ratings(key, texts)
        return question, pool, key, known, [text for text in texts if text not in known]

    def _ask(self, job: _Job) -> dict[str, float]:
        question, _, _, _, texts = job
        asked = multimodal(question.requests[0]).get("verifier", {})
        found = {}
        for text in texts:
            prompt = asked["prompt"].replace(CANDIDATE_MARK, text)
            rating = self._rating(Question(prompt, question.spans), asked["ratings"])
            if rating is not None:
                found[text] = rating
        return found

    def _rating(self, question: Question, ratings: Sequence[str]) -> float | None:
        options = {"temperature": 0, "max_tokens": RATING_TOKENS, "logprobs": True, "top_logprobs": 20}
        likelihoods = {"ambi_continuations": ratings} if self.server.is_bridge else {}
        try:
            reply = self.server.ask(
                {**self.server.question(question.context, question.spans), **options, **likelihoods}
            )
        except RequestFailedError:
            return None
        if "ambi_loglikelihoods" in reply:
            logprobs = [logprob for logprob, _ in reply["ambi_loglikelihoods"]]
            rating = expected_rating([float(each) for each in ratings], logprobs)
            return rating if math.isfinite(rating) else None
        return rating_of(reply["choices"][0], ratings)


def rating_of(choice: Mapping[str, Any], ratings: Sequence[str]) -> float | None:
    """Return the rating that a choice of a chat completion gives, or None if it gives none.

    Args:
        choice: With `message`, and `logprobs` where the server gives them.
        ratings: The ratings that there are, as text.
    """
    tokens = (choice.get("logprobs") or {}).get("content") or [{}]
    alternatives = [
        (float(each["token"]), each["logprob"])
        for each in tokens[0].get("top_logprobs") or ()
        if each["token"].strip() in ratings
    ]
    # The token 1 may be the beginning of 10.
    prefix_free = not any(one != other and other.startswith(one) for one in ratings for other in ratings)
    if alternatives and prefix_free:
        rating = expected_rating(*zip(*alternatives, strict=True))
        return rating if math.isfinite(rating) else None
    text = re.sub(r"(/|out of)\s*\d+", "", choice["message"].get("content") or "")
    words = re.findall(r"-?\d+(?:\.\d+)?", text)
    written = {word for word in words if word in ratings}
    if len(written) == 1 or (words and text.strip().startswith(words[0]) and words[0] in ratings):
        return float(next(word for word in words if word in written))
    return None


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

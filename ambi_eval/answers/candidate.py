"""One answer of a model to one prompt: a string with attributes, such as its log-likelihood."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Finish = Literal["stop", "length", "content_filter", "not_drawn"]


def valid_unicode(text: str) -> str:
    """Return the text with each lone half of a surrogate pair replaced by U+FFFD; two halves become their character.

    A server that cuts an emoji in two leaves a half, which no UTF-8 file can hold, so the harness could not log it.

    >>> valid_unicode("happy " + chr(0xD83D)) == "happy " + chr(0xFFFD)
    True
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class Candidate(str):
    """The text of one answer, with attributes such as its log-likelihood.

    A `Candidate` is a `str`, so every stock filter of the harness works on it. Its text is always valid Unicode.
    """

    __slots__ = ("logprob", "n_tokens", "finish", "number", "rating", "thinking_tokens")

    logprob: float | None
    """Natural log-likelihood of the generated tokens, summed, at temperature 1 without top-k or top-p; the end-of-turn
    token is included if it was generated. None if the model does not give it."""
    n_tokens: int | None
    """Number of generated tokens, the end-of-turn token included."""
    finish: Finish | None
    """`stop` (the model ended its turn or a stop string came), `length` (cut at the token limit), `content_filter` (the
    model's provider withheld the answer), `not_drawn` (an adaptive strategy did not need this sample)."""
    number: int | None
    """Index of this sample (or beam, best first) in its clip's pool, from 0."""
    rating: float | None
    """A verifier's rating of how well the answer fits the clip; None without a verifier, or if it gave none."""
    thinking_tokens: int | None
    """Number of thinking tokens before the answer, which `n_tokens` does not count; None if unknown. If a server counts
    them for several answers together, each answer gets an equal share."""

    # The harness builds `type(result)(gold)` from the text alone, so all other arguments have defaults.
    def __new__(
        cls,
        text: str = "",
        logprob: float | None = None,
        n_tokens: int | None = None,
        finish: Finish | None = None,
        number: int | None = None,
        rating: float | None = None,
        thinking_tokens: int | None = 0,
    ) -> Candidate:
        """Make a candidate from its text and, where known, its attributes."""
        self = super().__new__(cls, valid_unicode(text))
        self.logprob, self.n_tokens, self.finish = logprob, n_tokens, finish
        self.number, self.rating, self.thinking_tokens = number, rating, thinking_tokens
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the attributes, as the harness does between processes and in its caches."""
        made = self.logprob, self.n_tokens, self.finish, self.number, self.rating, self.thinking_tokens
        return Candidate, (str(self), *made)


def answers_digest(answers: Sequence[Any], candidates: Mapping[str, Sequence[Any]] | None = None) -> str:
    """Return a digest of a clip's answers: the first 16 hexadecimal digits of a SHA-256.

    The answers are texts, or pairs of a log-likelihood and whether the label is the greedy answer; `candidates` are
    their other logged attributes, by name. The digest is the same for a run and for its log, in which numbers are
    texts. It shows whether a log was changed by accident, but whoever changes the log can change the digest, too.
    """
    said = [[str(part) for part in each] if isinstance(each, (list, tuple)) else str(each) for each in answers]
    text = json.dumps([said, candidates or {}], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""From a choice of a reply to an answer: its text up to the stop string, its log-likelihood and its tokens."""

from __future__ import annotations

from collections.abc import Sequence

from ambi_eval.answers.candidate import Candidate, Finish
from ambi_eval.engines.base import Job, Token, TokenizedAnswer
from ambi_eval.engines.openai.replies import Choice, GeneratedToken

FINISHES: dict[str | None, Finish] = {"stop": "stop", "length": "length", "content_filter": "content_filter"}


def candidate_of(choice: Choice, job: Job, tokens: int | None) -> Candidate:
    """Return an answer, cut at the first stop string where the server went on.

    Args:
        choice: Of the reply.
        job: With the stop strings.
        tokens: How many tokens it has, where the reply says nothing more exact.
    """
    text, logprob, n_tokens = cut(choice.text, choice.tokens, job.settings.until)
    if choice.ambi_n_tokens is not None:
        logprob, n_tokens = choice.ambi_logprob, choice.ambi_n_tokens
    if n_tokens is None:
        n_tokens = tokens
    finish = FINISHES.get(choice.finish_reason)
    if not job.alternatives:
        return Candidate(text, logprob, n_tokens, finish)
    answer = TokenizedAnswer(text, logprob, n_tokens, finish)
    answer.tokens = [
        Token(
            token.token,
            {other.token: other.logprob for other in token.top_logprobs or () if other.logprob is not None},
        )
        for token in choice.tokens
    ]
    return answer


def cut(whole: str, tokens: Sequence[GeneratedToken], until: Sequence[str]) -> tuple[str, float | None, int | None]:
    """Return an answer up to its first stop string, with the log-likelihood and the number of its tokens.

    Where the server has not stopped at a stop string (vLLM's beams do not), the token that completes it is the last one
    that counts, as if it had. The log-likelihood is None where that of a token is not known, the number where no token
    is.

    Args:
        whole: The answer that the server gave.
        tokens: Its tokens, with their natural log-probabilities.
        until: The stop strings.
    """
    places = [place for stop in until if (place := whole.find(stop)) >= 0]
    text, kept = whole[: min(places, default=len(whole))], list(tokens)
    if places:
        read = ""
        for number, token in enumerate(tokens, start=1):
            read += token.token
            if any(stop in read for stop in until):
                kept = kept[:number]
                break
    known_logprobs = [token.logprob for token in kept if token.logprob is not None]
    whole_known = bool(kept) and len(known_logprobs) == len(kept)
    return text, sum(known_logprobs) if whole_known else None, len(kept) or None

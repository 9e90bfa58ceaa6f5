"""Turns the choices of a reply into answers: text up to the stop string, log-likelihood and number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from ambi_eval.answers.candidate import Candidate, Finish
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.engines.base import Job, Token, TokenizedAnswer
from ambi_eval.engines.openai.replies import Choice, GeneratedToken, Reply, Usage

# Some servers write the reasons in capitals, or as other services name them.
FINISHES: dict[str, Finish] = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "sensitive": "content_filter",
}


def candidates_of(reply: Reply, job: Job, think_end: str | None = None) -> list[Candidate | None]:
    """Return the answers of a reply; None for those that the server could not finish.

    `think_end` is what the model writes at the end of its thinking, here and below.
    """
    usage, answers = reply.usage or Usage(), len(reply.choices)
    tokens = usage.answer_tokens if answers == 1 else None
    thought = usage.thinking_tokens
    return [
        None
        if choice.failed
        # The server counts the thinking of all answers together; each answer gets an equal share.
        else candidate_of(choice, job, tokens, think_end, thought and thought // answers + (place < thought % answers))
        for place, choice in enumerate(reply.choices)
    ]


def candidate_of(
    choice: Choice, job: Job, tokens: int | None, think_end: str | None = None, thought: int | None = None
) -> Candidate:
    """Return an answer without the thinking before it, cut at the first stop string of its job.

    The server counts the tokens without thinking (the choice's own number has priority), and the thinking tokens
    (`thought`); None if it does not.
    """
    whole, listed = after_thinking(choice, think_end, job.settings)
    text, logprob, n_tokens = cut(whole, listed, job.settings.until)
    apart = choice.thought_apart or whole != choice.text
    if choice.ambi_n_tokens is not None:
        logprob, n_tokens, thought = choice.ambi_logprob, choice.ambi_n_tokens, choice.ambi_thinking_tokens or 0
    elif thought is None:
        thought = (thinking_length(choice, think_end) or None) if apart else 0
    if n_tokens is None and thought is not None:
        n_tokens = tokens
    finish = FINISHES.get((choice.finish_reason or "").lower())
    if text != whole and finish != "content_filter":
        finish = "stop"  # a server that knows no stop strings goes on after one, up to the limit of tokens
    if not job.alternatives:
        return Candidate(text, logprob, n_tokens, finish, thinking_tokens=thought)
    answer = TokenizedAnswer(text, logprob, n_tokens, finish, thinking_tokens=thought)
    answer.tokens = [
        Token(
            token.token, {other.token: other.logprob for other in token.top_logprobs or () if other.logprob is not None}
        )
        for token in listed
    ]
    return answer


def after_thinking(
    choice: Choice, think_end: str | None, settings: GenerationSettings
) -> tuple[str, list[GeneratedToken]]:
    """Return the text and the tokens of an answer without the thinking before it.

    No tokens are returned if the server took the thinking out of the text and `think_end` is unknown, because then it
    is unknown which tokens belong to the answer. A model that was cut while it was thinking has given an empty answer.
    """
    thought = thinking_length(choice, think_end)
    if choice.thought_apart:
        return choice.text, choice.tokens[thought:] if thought else []
    if think_end and think_end in choice.text:
        return choice.text.rpartition(think_end)[2].lstrip(), choice.tokens[thought:] if thought else []
    if think_end and settings.max_thinking_toks and choice.finish_reason == "length":
        return "", []
    return choice.text, choice.tokens


def thinking_length(choice: Choice, think_end: str | None) -> int:
    """Return how many of the listed tokens belong to the thinking, its end mark included; 0 without an end mark."""
    if not think_end:
        return 0
    read = "".join(token.token for token in choice.tokens)
    end = read.rfind(think_end) + len(think_end) if think_end in read else 0
    places = [0, *accumulate(len(token.token) for token in choice.tokens)]
    return next(number for number, place in enumerate(places) if place >= end)


def cut(whole: str, tokens: Sequence[GeneratedToken], until: Sequence[str]) -> tuple[str, float | None, int | None]:
    """Return an answer up to its first stop string, with the log-likelihood and the number of its tokens.

    It is for answers that a server did not end at the stop string, such as vLLM's beams. The last token that counts is
    the one that completes the stop string, as in a server that ends there. The log-likelihood is None if that of a
    token is unknown, the number is None if the tokens are unknown.
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

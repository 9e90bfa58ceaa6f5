"""The replies of chat servers, checked by pydantic."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, FiniteFloat, ValidationError

from ambi_eval.answers.candidate import valid_unicode


def _whole_number(value: Any) -> int | None:
    """Return a count, which some servers write as a text or a float; None if it is no count, such as -1."""
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    whole = type(value) is int or (isinstance(value, float) and value.is_integer())
    return int(value) if whole and value >= 0 else None


def _log_probability(value: Any) -> Any:
    """Return a log-probability; None if it is infinite, or above 0, where rounding cannot have put it."""
    return None if isinstance(value, (int, float)) and not -math.inf < value <= LARGEST_LOGPROB else value


def _object_or_none(value: Any) -> Any:
    return value if isinstance(value, dict) else None


def _error(value: Any) -> Any:
    """Return an error as an object; some servers give its message alone."""
    return {"message": value} if isinstance(value, str) and value else _object_or_none(value)


def _text_or_none(value: Any) -> Any:
    return value if isinstance(value, str) and value.strip() else None


Count = Annotated[int | None, BeforeValidator(_whole_number)]
Logprob = Annotated[float | None, BeforeValidator(_log_probability)]


def _joined(content: Any) -> Any:
    """Return content as one text: of a list of parts the texts, without thinking and audio."""
    if not isinstance(content, list) or not all(isinstance(part, dict | str) for part in content):
        return content
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    texts = [part.get("text") or "" for part in parts if part.get("type") in ("text", "output_text")]
    return "".join(texts) if all(isinstance(text, str) for text in texts) else content


LARGEST_LOGPROB = 1e-3
# Values of `finish_reason` by which servers say that they could not finish an answer; SGLang and vLLM say "abort".
FAILED = ("error", "abort", "network_error", "insufficient_system_resource")
# Codes of errors by which a content filter withholds an answer.
WITHHELD = ("content_filter", "content_policy_violation")


class _Reply(BaseModel):
    """Unknown fields are ignored; known fields must have the right type."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class Alternative(_Reply):
    """A token and its log-probability, which some servers do not give."""

    token: str
    logprob: Logprob = None


class GeneratedToken(Alternative):
    """A token of an answer, with the alternatives to it."""

    top_logprobs: list[Alternative] | None = None


class Logprobs(_Reply):
    """The tokens of an answer."""

    content: list[GeneratedToken] | None = None


class Message(_Reply):
    """The text of an answer or a refusal; some servers give the thinking apart, under one of two names."""

    content: Annotated[str | None, BeforeValidator(_joined)] = None
    refusal: str | None = None
    reasoning: Any = None
    reasoning_content: Any = None


class Choice(_Reply):
    """One answer; the fields with `ambi_` are our bridge's, `token_ids` is vLLM's."""

    index: Count = None
    message: Message
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    token_ids: list[int] | None = None
    ambi_logprob: FiniteFloat | None = None
    ambi_n_tokens: Count = None
    ambi_thinking_tokens: Count = None

    @property
    def text(self) -> str:
        """The answer; a refusal is one."""
        return self.message.content or self.message.refusal or ""

    @property
    def tokens(self) -> list[GeneratedToken]:
        """The tokens of the answer, where the server lists them."""
        return (self.logprobs and self.logprobs.content) or []

    @property
    def thought_apart(self) -> bool:
        """Whether the server gives the thinking apart from the text."""
        return bool(self.message.reasoning or self.message.reasoning_content)

    @property
    def failed(self) -> bool:
        """Whether the server says that it could not finish this answer."""
        return (self.finish_reason or "").lower() in FAILED


class PromptTokens(_Reply):
    """Details of the prompt's tokens."""

    audio_tokens: Count = None


class CompletionTokens(_Reply):
    """Details of the tokens of all answers."""

    reasoning_tokens: Count = None


class Usage(_Reply):
    """The tokens of a request and its answers."""

    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    prompt_tokens_details: PromptTokens | None = None
    completion_tokens_details: CompletionTokens | None = None

    @property
    def generated_tokens(self) -> int | None:
        """The number of tokens of all answers with thinking; None if the server does not count them.

        `completion_tokens` include the thinking in most servers. In some they do not, which the total shows.
        """
        asked, made, thought = self.prompt_tokens or 0, self.completion_tokens, self.thinking_tokens or 0
        if made is not None and thought and (thought > made or self.total_tokens == asked + made + thought):
            return made + thought
        return made

    @property
    def answer_tokens(self) -> int | None:
        """The number of tokens of all answers without thinking; None if the server does not count them."""
        return None if self.generated_tokens is None else self.generated_tokens - (self.thinking_tokens or 0)

    @property
    def thinking_tokens(self) -> int | None:
        """The number of tokens of thinking; None if the server does not count them."""
        return self.completion_tokens_details.reasoning_tokens if self.completion_tokens_details else None

    @property
    def paid(self) -> dict[str, int]:
        """The numbers of tokens that have a price, by their names in the results."""
        audio = self.prompt_tokens_details.audio_tokens if self.prompt_tokens_details else None
        asked, made = self.prompt_tokens or 0, self.generated_tokens or 0
        return {"prompt_tokens": asked, "audio_tokens": audio or 0, "generated_tokens": made}


class PromptToken(_Reply):
    """A token of the prompt: its log-probability, and its rank among all tokens (1: the most likely one)."""

    logprob: FiniteFloat
    rank: int


class WithheldError(ValueError):
    """A reply that is no chat completion, because a content filter withheld the answers."""


class ServerError(_Reply):
    """What went wrong, by some servers with status 200."""

    message: Any = None
    code: Any = None


class Reply(_Reply):
    """A chat completion; the fields with `ambi_` are our bridge's, those with `prompt_` are vLLM's."""

    choices: Annotated[list[Choice], BeforeValidator(lambda value: [] if value is None else value)] = []
    error: Annotated[ServerError | None, BeforeValidator(_error)] = None
    usage: Annotated[Usage | None, BeforeValidator(_object_or_none)] = None
    model: Annotated[str | None, BeforeValidator(_text_or_none)] = None
    system_fingerprint: Annotated[str | None, BeforeValidator(_text_or_none)] = None
    prompt_withheld: bool = False  # set by `gemini-audio`: the one choice stands for all answers that were asked for
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: list[dict[str, PromptToken] | None] | None = None
    ambi_beams: int | None = None
    ambi_loglikelihoods: list[tuple[FiniteFloat, bool]] | None = None


class ServedModel(_Reply):
    """A model in a server's list of models; `root` is vLLM's, the checkpoint."""

    id: str
    owned_by: str | None = None
    root: str | None = None


class ServedModels(_Reply):
    """The list of models."""

    data: list[ServedModel]


def read_reply(content: bytes, likelihoods: int | None = None) -> Reply:
    """Return the reply in a body, its choices in the order of their `index`.

    Raises:
        WithheldError: If a content filter withheld the answers.
        ValueError: If it is no chat completion, or holds another number of likelihoods than were asked for.
    """
    reply = Reply.model_validate_json(_valid_text(content))
    if reply.ambi_loglikelihoods is not None:
        if len(reply.ambi_loglikelihoods) != likelihoods:
            raise ValueError(f"{len(reply.ambi_loglikelihoods)} likelihoods of {likelihoods or 0} continuations")
    elif not reply.choices:
        if reply.error and reply.error.code in WITHHELD:
            raise WithheldError(str(reply.error.message))
        raise ValueError(f"it is the error {reply.error.message}" if reply.error else "it has no choices")
    indices = [choice.index for choice in reply.choices]
    if None not in indices and len(set(indices)) == len(indices):
        reply.choices.sort(key=lambda choice: choice.index or 0)
    return reply


def withheld_reply(n: int = 1) -> Reply:
    """Return the reply for n answers that a content filter withheld."""
    return Reply(choices=[Choice(message=Message(content=""), finish_reason="content_filter")] * n)


def read_models(content: bytes) -> dict[str, ServedModel]:
    """Return the models in a server's list by name; empty if the body is no such list, as of some chat servers."""
    try:
        return {model.id: model for model in ServedModels.model_validate_json(content).data}
    except ValidationError:
        return {}


def why_unreadable(error: ValueError) -> str:
    """Return what is wrong with a reply, in one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))


def _valid_text(content: bytes) -> str:
    """Return JSON as valid Unicode: U+FFFD replaces half of a surrogate pair, which servers leave that cut an emoji."""
    text = content.decode("utf-8-sig", "replace")
    if "\\ud" not in text.lower():
        return text
    try:
        text = json.dumps(json.loads(text), ensure_ascii=False)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return valid_unicode(text)

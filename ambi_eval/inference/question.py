"""From the harness's requests to questions: a prompt with its audios, read once however many answers it gets."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from lm_eval.api.instance import Instance

from ambi_eval.audio import AudioSpan, check_files_exist
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.errors import AmbiError

AUDIO_MARK = "<audio>"
CANDIDATE_MARK = "<candidate>"
# How a system message travels in the one string that the harness hands to a model.
_SYSTEM = "<system>{}</system>\n"
_CONTEXT = re.compile("(?:<system>(.*?)</system>\n)?(.*)", re.DOTALL)


@dataclass(eq=False)
class Question:
    """A prompt with its audios, and what is asked of it.

    Attributes:
        context: The text, with one `<audio>` where each audio goes.
        spans: The audios.
        requests: The harness's requests for it.
        settings: How its answers are generated, where that is what is asked.
        positions: Where each of them stands in the harness's list.
    """

    context: str
    spans: tuple[AudioSpan, ...]
    requests: list[Instance] = field(default_factory=list)
    settings: GenerationSettings = field(default_factory=GenerationSettings)
    positions: list[int] = field(default_factory=list)

    @property
    def pool_size(self) -> int:
        """Number of answers to generate: `repeats`, not counting the clones that data-parallel padding adds."""
        return min(self.requests[0].repeats or 1, len(self.requests))

    @property
    def n_answers(self) -> int:
        """How many different answers there are to make: all greedy answers are one."""
        return self.pool_size if self.settings.sampled or self.settings.num_beams > 1 else 1


def asked_pools(requests: Sequence[Instance]) -> list[Question]:
    """Return one question for each request to generate; its clones, as `repeats` makes them, are the same object.

    Raises:
        AmbiError: If an audio is missing, `<audio>` does not stand in the prompt once for each, or the settings are
            impossible.
    """
    questions = _collect(requests, id)
    for question in questions:
        settings = question.settings = GenerationSettings.from_kwargs(question.requests[0].args[1])
        if 1 < settings.num_beams < question.pool_size:
            raise AmbiError(
                f"{question.requests[0].task_name}: {question.pool_size} repeats of {settings.num_beams} beams; "
                f"give num_beams of at least repeats"
            )
    return questions


def shared_prompts(requests: Sequence[Instance]) -> list[Question]:
    """Return one question for all requests that score continuations of the same prompt.

    Raises:
        AmbiError: If an audio is missing, or `<audio>` does not stand in the prompt once for each.
    """
    return _collect(requests, lambda request: (request.args[0], _spans(request)))


def _collect(requests: Sequence[Instance], key: Callable[[Instance], Hashable]) -> list[Question]:
    questions: dict[Hashable, Question] = {}
    for position, request in enumerate(requests):
        question = questions.setdefault(key(request), Question(request.args[0], _spans(request)))
        question.requests.append(request)
        question.positions.append(position)
    for question in questions.values():
        marks = question.context.count(AUDIO_MARK)
        if marks != len(question.spans):
            raise AmbiError(
                f"{question.requests[0].task_name}: {marks} {AUDIO_MARK} in a prompt with {len(question.spans)} "
                f"audios; write {AUDIO_MARK} in doc_to_text where each audio goes"
            )
    check_files_exist(span for question in questions.values() for span in question.spans)
    return list(questions.values())


def multimodal(request: Instance) -> dict[str, Any]:
    """Return what a request holds besides text; a control may have nothing."""
    return request.args[2] if len(request.args) > 2 else {}


def _spans(request: Instance) -> tuple[AudioSpan, ...]:
    return tuple(AudioSpan.from_dict(audio) for audio in multimodal(request).get("audio", ()))


def as_context(chat_history: Sequence[dict[str, str]]) -> str:
    """Return a conversation as one string that still holds its `<audio>` marks; a question alone stays as it is.

    Raises:
        AmbiError: If there is more than a system message and one question: examples would need audios of their own.
    """
    roles = [message["role"] for message in chat_history]
    if roles not in (["user"], ["system", "user"]):
        raise AmbiError(
            f"an audio model takes one question, not {', '.join(roles)}; leave out --num_fewshot and gen_prefix"
        )
    *before, question = (message["content"] for message in chat_history)
    return "".join(map(_SYSTEM.format, before)) + question


def as_messages(context: str, audio_parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a context in the form that chat templates take.

    Args:
        context: What `as_context` gave, or plain text.
        audio_parts: What stands in the place of each `<audio>`.
    """
    found = _CONTEXT.fullmatch(context)
    assert found, "the pattern matches every text"
    system, text = found.groups()
    content = []
    for piece, part in zip_longest(text.split(AUDIO_MARK), audio_parts):
        content += [{"type": "text", "text": piece}] if piece else []
        content += [part] if part else []
    before = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    return [*before, {"role": "user", "content": content}]

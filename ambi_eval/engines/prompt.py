"""The text of a prompt: marks where its audios go, a system message in front, and the form that chat templates take."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from ambi_eval.config.prompts import AUDIO_MARK
from ambi_eval.errors import AmbiError

# How a system message travels in the one string that the harness hands to a model.
_SYSTEM = "<system>{}</system>\n"
_PROMPT = re.compile("(?:<system>(.*?)</system>\n)?(.*)", re.DOTALL)


def as_prompt(chat_history: Sequence[dict[str, str]]) -> str:
    """Return a conversation as one string that still holds its `<audio>` marks; a question alone stays as it is.

    Raises:
        AmbiError: If there is more than a system message and one question: examples would need audios of their own.
    """
    roles = [message["role"] for message in chat_history]
    if roles not in (["user"], ["system", "user"]):
        fix = "leave out --num_fewshot and gen_prefix"
        raise AmbiError(f"an audio model takes one question, not {', '.join(roles)}; {fix}")
    *before, question = (message["content"] for message in chat_history)
    return "".join(map(_SYSTEM.format, before)) + question


def as_messages(prompt: str, audio_parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a prompt (see `as_prompt`) in the form that chat templates take, with a part for each `<audio>`."""
    found = _PROMPT.fullmatch(prompt)
    assert found, "the pattern matches every text"
    system, text = found.groups()
    content = []
    for piece, part in zip_longest(text.split(AUDIO_MARK), audio_parts):
        content += [{"type": "text", "text": piece}] if piece else []
        content += [part] if part else []
    before = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    return [*before, {"role": "user", "content": content}]

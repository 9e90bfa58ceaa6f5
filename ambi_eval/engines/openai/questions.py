"""The text, the audio and the optional fields of a request, and the most tokens that its answers can have."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import soundfile

from ambi_eval.audio import Samples

SAMPLE_RATE = 16_000  # of the audio encoders of language models
# The field of a request with the length of its audio, which the budget reads; it is not sent.
AUDIO_SECONDS = "ambi_audio_seconds"
# The consequence of each field that is left out, because the server refuses it by name; it is logged once.
OPTIONAL = {
    "logprobs": "answers come without log-probabilities",
    "top_logprobs": "answers come without the log-probabilities of other tokens",
    "n": "each answer takes a request of its own",
    "seed": "samples cannot be drawn again",
    "stop": "answers are cut here, where the server would have stopped",
    "thinking_token_budget": "thinking and answer share one token limit",
    "max_tokens": "max_completion_tokens replaces it",
    "temperature": "the provider fixes the sampling, so answers are drawn from another distribution than asked for",
    "top_p": "the provider fixes the sampling, so answers are drawn from another distribution than asked for",
}


def text_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return all text of a conversation."""
    contents = [message["content"] for message in messages]
    parts = chain.from_iterable([{"text": each}] if isinstance(each, str) else each for each in contents)
    return "".join(part["text"] for part in parts if "text" in part)


def most_tokens(body: Mapping[str, Any]) -> int:
    """Return the most tokens that all answers to a request can have together."""
    limits = [body.get(name) or 0 for name in ("max_tokens", "max_completion_tokens")]
    return int(max(limits)) * int(body.get("n") or 1)


def wav_file(samples: Samples, subtype: str) -> bytes:
    """Return samples as a wav file."""
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="WAV", subtype=subtype)
    return file.getvalue()


def audio_part(samples: Samples, subtype: str) -> dict[str, Any]:
    """Return an audio as a part of a message: a wav file in base64."""
    data = base64.b64encode(wav_file(samples, subtype)).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def is_about(error: Any, field: str) -> bool:
    """Return whether an error names a field: in `param`, in quotes, or in the list of places (`loc`) of FastAPI."""
    details = error.body.get("detail") if isinstance(error.body, dict) else None
    places = [each.get("loc", ()) for each in details if isinstance(each, dict)] if isinstance(details, list) else []
    quoted = re.search(f"[\"'`]{field}[\"'`]", error.message)
    return error.param == field or quoted is not None or any(field in place for place in places)

"""The text and the audio of a request, and the most tokens that its answers can have."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import soundfile

from ambi_eval.audio import Samples

SAMPLE_RATE = 16_000  # of the audio encoders of language models
# The field of a request with the length of its audio, which the budget reads; it is not sent.
AUDIO_SECONDS = "ambi_audio_seconds"


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

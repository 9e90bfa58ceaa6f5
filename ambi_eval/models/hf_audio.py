"""The harness model `hf-audio`: any audio-language model of transformers that answers in text."""

from __future__ import annotations

from typing import Any

from ambi_eval.models.audio_lm import AudioLM


class HFAudio(AudioLM):
    """Encodes a clip once and answers it N times (`engines.hf`); `HFAudioArguments` says what it takes."""

    engine_name = "hf-audio"

    def __init__(self, pretrained: str | None = None, **arguments: Any) -> None:
        """Load a checkpoint.

        Raises:
            AmbiError: If an argument is unknown or impossible, or if the checkpoint cannot be used.
        """
        super().__init__(pretrained=pretrained, **arguments)

"""The harness model `vllm-audio`: a checkpoint behind a vLLM server that is started for the run."""

from __future__ import annotations

from typing import Any

from ambi_eval.models.audio_lm import AudioLM


class VLLMAudio(AudioLM):
    """Starts `vllm serve` in an environment of its own (`serving`); `VLLMAudioArguments` says what it takes."""

    engine_name = "vllm-audio"

    def __init__(self, pretrained: str | None = None, **arguments: Any) -> None:
        """Look for vLLM and the checkpoint; the server starts before the first question.

        Raises:
            AmbiError: If an argument is unknown or impossible, or if one of the two is not there.
        """
        super().__init__(pretrained=pretrained, **arguments)

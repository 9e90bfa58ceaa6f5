"""The harness model `openai-audio`: any OpenAI-compatible chat server that hears audio."""

from __future__ import annotations

from typing import Any

from ambi_eval.models.audio_lm import AudioLM


class OpenAIAudio(AudioLM):
    """OpenAI, Gemini, vLLM, SGLang, `transformers serve` or our bridge; `OpenAIAudioArguments` says what it takes."""

    engine_name = "openai-audio"

    def __init__(self, model: str | None = None, **arguments: Any) -> None:
        """Set up; the server is not asked before the first question.

        Raises:
            AmbiError: If an argument is unknown or impossible, or if there are several processes.
        """
        super().__init__(model=model, **arguments)

"""The harness models `litellm-audio` and `gemini-audio`, which ask the services of model providers."""

from __future__ import annotations

from ambi_eval.models.audio_lm import AudioLM


class LiteLLMAudio(AudioLM):
    """Any provider that litellm reaches with audio; `LiteLLMAudioArguments` lists its arguments."""

    engine_name = "litellm-audio"


class GeminiAudio(AudioLM):
    """Gemini through google-genai; `GeminiAudioArguments` lists its arguments."""

    engine_name = "gemini-audio"

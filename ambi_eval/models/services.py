"""The harness model `litellm-audio`: models behind the services of providers."""

from __future__ import annotations

from ambi_eval.models.audio_lm import AudioLM


class LiteLLMAudio(AudioLM):
    """Any provider that litellm reaches with audio; `LiteLLMAudioArguments` says what it takes."""

    engine_name = "litellm-audio"

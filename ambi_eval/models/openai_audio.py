"""The harness model `openai-audio`: a model behind an OpenAI-compatible chat server that takes audio."""

from __future__ import annotations

from ambi_eval.models.audio_lm import AudioLM


class OpenAIAudio(AudioLM):
    """OpenAI, Gemini, vLLM, SGLang, `transformers serve` or our bridge; `OpenAIAudioArguments` lists its arguments."""

    engine_name = "openai-audio"

"""The harness model `hf-audio`: an audio-language model of transformers, in this process."""

from __future__ import annotations

from ambi_eval.models.audio_lm import AudioLM


class HFAudio(AudioLM):
    """Encodes a clip once and answers it N times (`engines.hf`); `HFAudioArguments` lists its arguments."""

    engine_name = "hf-audio"

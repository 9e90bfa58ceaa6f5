"""The harness model `vllm-audio`: a checkpoint behind a vLLM server that is started for the run."""

from __future__ import annotations

from ambi_eval.models.audio_lm import AudioLM


class VLLMAudio(AudioLM):
    """Starts `vllm serve` in an environment of its own (`serving`); `VLLMAudioArguments` lists its arguments."""

    engine_name = "vllm-audio"

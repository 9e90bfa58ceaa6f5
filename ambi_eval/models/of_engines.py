"""The harness model of any engine: `ambi_eval.models.of_engines:NAME` is the model of the engine NAME."""

from __future__ import annotations

from ambi_eval.models.audio_lm import AudioLM


def __getattr__(name: str) -> type[AudioLM]:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (AudioLM,), {"engine_name": name, "__doc__": f"The harness model of the engine `{name}`."})

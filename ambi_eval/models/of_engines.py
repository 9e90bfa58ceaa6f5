"""Harness models of engines in other packages: `ambi_eval.models.of_engines:NAME` is the model of the engine NAME."""

from __future__ import annotations

from importlib.metadata import entry_points

from ambi_eval.models.audio_lm import AudioLM


def __getattr__(name: str) -> type[AudioLM]:
    if not entry_points(group="ambi_eval.engines", name=name):
        raise AttributeError(f"there is no engine '{name}'")
    return type(name, (AudioLM,), {"engine_name": name, "__doc__": f"The harness model of the engine `{name}`."})

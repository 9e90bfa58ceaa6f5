"""A tiny random checkpoint of every audio-language family, and answers of servers that tell what they heard."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from support import families_that_hear as hearing
from support import families_that_see as seeing
from support.chat_server import ChatTestServer, described

from ambi_eval.engines.hf.families import FAMILIES, Family

BUILDERS = hearing.BUILDERS | seeing.BUILDERS


@pytest.fixture(scope="session")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder with a random checkpoint of a family."""

    @cache
    def build(name: str) -> Path:
        needs = FAMILIES.get(name, Family).needs
        if lacking := [module for module in needs if find_spec(module) is None]:
            pytest.skip(f"{name} needs {' and '.join(lacking)}")
        folder = tmp_path_factory.mktemp(name)
        model, processor = BUILDERS[name]()
        hearing.draw_weights(model).save_pretrained(folder)
        processor.save_pretrained(folder)
        if name == "phi4_multimodal":  # without it, a real Phi-4 does not hear
            lora = LoraConfig(r=2, target_modules=["qkv_proj"], init_lora_weights=False)
            get_peft_model(model, lora).save_pretrained(folder / "speech-lora")
        return folder

    return build


# `make test-quick` takes the family of most tests alone.
@pytest.fixture(
    scope="session",
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name != "qwen2_audio")) for name in BUILDERS],
)
def checkpoint(request: pytest.FixtureRequest, checkpoint_of: Callable[[str], Path]) -> Path:
    """A folder with a random checkpoint of each family in turn."""
    return checkpoint_of(request.param)


@pytest.fixture
def describing_server(chat_server: ChatTestServer) -> ChatTestServer:
    """A chat server that answers with numbers that follow from what it hears and from the seed."""
    answer = chat_server.answer

    def describe(body: dict[str, Any]) -> dict[str, Any]:
        content = answer(body)
        for number, choice in enumerate(content["choices"]):
            seed = body["seed"] + number if body["temperature"] else None
            choice["message"]["content"] = described(json.dumps(body["messages"]), seed, body.get("stop") or ())
        return content

    chat_server.answer = describe  # type: ignore[method-assign]
    return chat_server

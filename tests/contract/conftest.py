"""A tiny random checkpoint of every audio-language family; those that lack a package are skipped."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from support import families_that_hear as hearing
from support import families_that_see as seeing

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


@pytest.fixture(scope="session", params=BUILDERS)
def checkpoint(request: pytest.FixtureRequest, checkpoint_of: Callable[[str], Path]) -> Path:
    """A folder with a random checkpoint of each family in turn."""
    return checkpoint_of(request.param)

"""FLOPs from a configuration against torch's own counter, on tiny models of several families."""

from inspect import signature
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.families_that_hear import BUILDERS
from torch.utils.flop_counter import FlopCounterMode

from ambi_eval.costs.flops import forward_flops
from ambi_eval.engines.hf.families import FAMILIES
from ambi_eval.engines.prompt import as_messages

COUNTED = ("qwen2_audio", "audioflamingo3", "musicflamingo", "voxtral")


def counted(model, **inputs):
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        output = model(**inputs)
    return counter.get_total_flops(), output


@pytest.mark.parametrize("name", COUNTED)
def test_encoder_prefill_and_decoding_are_what_torch_counts(name):
    model, processor = BUILDERS[name]()
    model.set_attn_implementation("eager")  # torch does not count the fused kernel of the CPU
    family = FAMILIES[name](model, processor)
    sound = np.random.default_rng(0).normal(0, 0.1, 16000 * 30).astype(np.float32)
    prompts = ["<audio>Which emotion?", "<audio>Which emotion does the speaker express? Answer with one word of: sad."]
    flops = forward_flops(model.config)
    found = []
    for prompt in prompts:
        inputs = family.model_inputs(as_messages(prompt, [family.audio_part(sound)]))
        tokens = inputs["input_ids"].shape[1]
        total, output = counted(model, **inputs, use_cache=True, logits_to_keep=1)
        found.append((tokens, total))
        # Where transformers computes the logits of the whole prompt, whatever is asked for.
        more = 0 if "logits_to_keep" in signature(model.forward).parameters else (tokens - 1) * flops.head
        assert total == flops.encoder(30.0) + flops.prefill(tokens) + more
    assert found[1][0] > found[0][0]
    cache, total = output.past_key_values, 0
    for step in range(3):
        more, output = counted(
            model,
            input_ids=torch.tensor([[7]]),
            attention_mask=torch.ones(1, tokens + step + 1, dtype=torch.long),
            past_key_values=cache,
            use_cache=True,
        )
        total, cache = total + more, output.past_key_values
    assert total == flops.decode(4, tokens)


def test_long_audio_costs_a_window_more():
    flops = forward_flops(BUILDERS["qwen2_audio"]()[0].config)
    assert flops.encoder(30.0) == flops.window
    assert flops.encoder(30.5) == 2 * flops.window


def test_one_token_comes_with_the_prompt():
    flops = forward_flops(BUILDERS["qwen2_audio"]()[0].config)
    assert flops.decode(1, 100) == flops.decode(0, 100) == 0


def test_an_architecture_that_is_not_counted_has_no_number():
    assert forward_flops(SimpleNamespace(model_type="gemma3n")) is None

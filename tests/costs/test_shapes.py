"""FLOPs of shapes against torch's own counter on real tensors, for tiny models of every family."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from support import families_that_hear, families_that_see
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ambi_eval.costs import shapes as module
from ambi_eval.costs.flops import ForwardFlops
from ambi_eval.costs.shapes import Shape, cached, forward_flops, without_weights
from ambi_eval.engines.hf.families import FAMILIES
from ambi_eval.engines.prompt import as_messages

BUILDERS = families_that_hear.BUILDERS | families_that_see.BUILDERS
QUESTION = "<audio>Which emotion does the speaker express?"


@pytest.fixture(params=BUILDERS)
def family(request):
    if lacking := [name for name in FAMILIES[request.param].needs if find_spec(name) is None]:
        pytest.skip(f"{request.param} needs {' and '.join(lacking)}")
    model, processor = BUILDERS[request.param]()
    # torch counts neither the fused attention of the CPU nor the products of grouped experts.
    model.requires_grad_(False).set_attn_implementation("eager")
    if model._can_set_experts_implementation():
        model.set_experts_implementation("eager")
    return FAMILIES[request.param](model, processor)


def inputs_of(family, seconds, text="<audio>"):
    sound = np.random.default_rng(0).normal(0, 0.1, round(family.sample_rate * seconds)).astype(np.float32)
    return family.model_inputs(as_messages(text, [family.audio_part(sound)]))


def counted(model, **inputs):
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda _, hidden: (hidden[0][:, -1:],))
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        output = model(**inputs, use_cache=True)
    handle.remove()
    return counter.get_total_flops(), output


def out_of_window(text, contexts):
    """The attention that layers with a sliding window leave out, which `ForwardFlops` counts."""
    window = getattr(text, "sliding_window", None)
    layers = getattr(text, "layer_types", ["full_attention"]).count("sliding_attention")
    if not window or not layers:
        return 0
    return sum(layers * 4 * text.num_attention_heads * text.head_dim * max(0, each - window) for each in contexts)


@pytest.mark.slow
def test_encoder_prefill_and_decoding_of_every_family_are_what_torch_counts(family, monkeypatch):
    inputs = inputs_of(family, 2.0, QUESTION)
    tokens = inputs["input_ids"].shape[1]
    total, output = counted(family.model, **inputs)
    monkeypatch.setattr(module, "SECONDS", (1.0, 2.0, 4.0))
    shapes = without_weights(family.model)
    family.prepare(shapes)
    flops = forward_flops(shapes, lambda seconds: inputs_of(family, seconds), family.window_seconds)
    assert total == flops.encoder(2.0) + flops.prefill(tokens)
    delta, total = family.rope_delta, 0
    for place in (tokens, tokens + 1):
        cache = {"past_key_values": output.past_key_values, "position_ids": torch.tensor([[place + delta]])}
        more, output = counted(family.model, input_ids=inputs["input_ids"][:, -1:], **cache)
        total += more
    text = family.model.config.get_text_config()
    assert total == flops.decode(3, tokens) - out_of_window(text, (tokens + 1, tokens + 2))
    # Between two counted lengths the encoder may work in steps of up to two seconds.
    inputs = inputs_of(family, 3.0)
    total, _ = counted(family.model, **inputs)
    assert flops.encoder(3.0) + flops.prefill(inputs["input_ids"].shape[1]) == pytest.approx(total, rel=0.07)


def test_a_mask_selects_so_many_numbers_as_it_has():
    floats, mask = Shape(torch.empty(3, 4, 5, device="meta")), torch.eye(3, 4, dtype=torch.bool)
    assert floats[mask].shape == (3, 5)
    floats[mask] = 0.0
    assert (floats @ torch.ones(5, 2)).shape == (3, 4, 2)


def test_a_pass_that_depends_on_a_float_cannot_be_counted():
    with pytest.raises(RuntimeError, match="meta"):
        Shape(torch.empty(1, device="meta")).item()


def test_what_was_counted_is_kept_for_its_key(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    flops = ForwardFlops([1.0], [2.0], None, token=3.0, attention=4.0, head=5.0)
    assert cached(lambda: flops, "a", 1) == flops
    assert cached(lambda: pytest.fail("counted again"), "a", 1) == flops
    (file,) = (tmp_path / "ambi_eval" / "flops").iterdir()
    other = ForwardFlops([1.0], [7.0], 30.0, token=3.0, attention=4.0, head=5.0)
    assert cached(lambda: other, "a", 2) == other
    for broken in ("{", "[]", "{}"):
        file.write_text(broken)
        assert cached(lambda: flops, "a", 1) == flops

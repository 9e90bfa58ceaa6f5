from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from transformers import Gemma3nTextConfig, Qwen2Config, Qwen2ForCausalLM

from ambi_eval.engines.hf.attention import NAME, Prefixes, attend, mask, shared_attention, why_not_shared
from ambi_eval.engines.hf.cache import SharedCache, attending, keys_and_values
from ambi_eval.engines.hf.prompts import Prefilled

KEY_HEADS, SIZE, LAYERS = 2, 4, 2


def prompt(tokens, generator, first=None, shared=0, scale=1.0, dtype=torch.float32):
    """Return a prompt with random keys and values, the first `shared` tokens those of another one."""
    own = tokens - shared

    def states():
        return (scale * torch.randn(1, KEY_HEADS, own, SIZE, generator=generator)).to(dtype)

    layers = [(states(), states()) for _ in range(LAYERS)]
    return Prefilled(layers, torch.zeros(5), torch.zeros(1, tokens, dtype=torch.long), 0, first, shared)


def whole(prompt, layer, which):
    """Return all keys or values of a prompt, shape (heads, tokens, size)."""
    own = prompt.layers[layer][which][0]
    return torch.cat([prompt.root.layers[layer][which][0][:, : prompt.shared], own], dim=1) if prompt.shared else own


def assert_exact(rows, new, groups, generator, scale=1.0, dtype=torch.float32, atol=1e-5):
    """Attention of rows with suffixes is that of torch to copies of everything, row by row."""
    cache = SharedCache(rows)
    suffixes = []
    for _ in range(LAYERS):
        query = (scale * torch.randn(len(rows), KEY_HEADS * groups, new, SIZE, generator=generator)).to(dtype)
        states = [(scale * torch.randn(len(rows), KEY_HEADS, new, SIZE, generator=generator)).to(dtype) for _ in "kv"]
        suffixes.append((query, *states))
    for layer, (query, *states) in enumerate(suffixes):
        keys, values = cache.update(*states, layer)
        cache.prefixes.suffix_mask = mask(torch.ones(new, new, dtype=torch.bool).tril())[None, None, None]
        output, _ = attend(None, query, keys, values)
        assert output.shape == (len(rows), new, KEY_HEADS * groups, SIZE)
        for row, each in enumerate(rows):
            key, value = (torch.cat([whole(each, layer, which), states[which][row]], dim=1).float() for which in (0, 1))
            visible = torch.ones(new, key.shape[1], dtype=torch.bool).tril(key.shape[1] - new)
            expected = scaled_dot_product_attention(
                query[row].float(), key, value, attn_mask=visible, enable_gqa=True
            ).transpose(0, 1)
            torch.testing.assert_close(output[row].float(), expected, atol=atol, rtol=0)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_attention_to_shared_prefixes_is_that_to_copies(data):
    """Rows of several clips, of prompts that go on from others, in any order, of any length."""
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    prompts = []
    for _ in range(data.draw(st.integers(1, 3))):
        first = prompt(data.draw(st.integers(1, 7)), generator)
        prompts.append(first)
        for _ in range(data.draw(st.integers(0, 2))):
            shared = data.draw(st.integers(1, first.length))
            prompts.append(prompt(shared + data.draw(st.integers(1, 5)), generator, first, shared))
    rows = data.draw(st.lists(st.sampled_from(prompts), min_size=1, max_size=9))
    assert_exact(rows, data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), generator)


def test_scores_of_any_size_do_not_overflow():
    generator = torch.Generator().manual_seed(0)
    one, two = prompt(6, generator, scale=40.0), prompt(3, generator, scale=0.01)
    assert_exact([one, one, two], 2, 1, generator, scale=40.0, atol=1e-3)


def test_half_precision_has_its_softmax_in_full_precision():
    """Over 4,000 tokens of equal score a sum in bfloat16 would stop at 256."""
    generator = torch.Generator().manual_seed(0)
    long = prompt(4000, generator, scale=1e-3, dtype=torch.bfloat16)
    long.layers = [(keys, torch.ones_like(values)) for keys, values in long.layers]
    keys, values = SharedCache([long] * 3).update(*(torch.ones(3, KEY_HEADS, 1, SIZE).bfloat16() for _ in "kv"), 0)
    output, _ = attend(None, torch.zeros(3, KEY_HEADS, 1, SIZE).bfloat16(), keys, values)
    torch.testing.assert_close(output, torch.ones_like(output), atol=0.01, rtol=0)
    assert_exact([prompt(9, generator, dtype=torch.bfloat16)] * 4, 1, 2, generator, dtype=torch.bfloat16, atol=0.03)


def storage(layers):
    return layers[0][0].untyped_storage()


def test_one_prefix_is_not_copied_and_several_are_kept_once():
    generator = torch.Generator().manual_seed(0)
    one, two = prompt(5, generator), prompt(3, generator)
    ((stack,),) = (level.stacks for level in Prefixes([one] * 20).levels)
    assert stack.layers[0][0].data_ptr() == one.layers[0][0].data_ptr()
    both = Prefixes([one] * 20 + [two] * 2, hold=True)
    ((stack,),) = (level.stacks for level in both.levels)
    layers = stack.layers
    assert storage(one.layers).data_ptr() == storage(two.layers).data_ptr() == storage(layers).data_ptr()
    fewer = Prefixes([one, one, two, two], before=both)
    assert fewer.levels[0].stacks[0].layers is layers
    ((last,),) = (level.stacks for level in Prefixes([two], before=fewer, hold=True).levels)
    assert last.prefixes == [two]
    assert storage(two.layers).data_ptr() == storage(last.layers).data_ptr() != storage(layers).data_ptr()
    assert storage(last.layers).nbytes() == KEY_HEADS * 3 * SIZE * 4


def test_prefixes_of_one_row_take_no_slots_for_the_rows_of_others():
    generator = torch.Generator().manual_seed(0)
    audio = prompt(4, generator)
    others = [prompt(6 + k, generator, audio, 4) for k in range(9)]
    _, rest = Prefixes([others[0], *others[1:], *others[:1] * 20]).levels
    assert [[len(rows) for rows in stack.rows] for stack in rest.stacks] == [[1] * 8, [21]]
    assert_exact([others[0], audio, *others[1:], *others[:1] * 20], 1, 1, generator)
    assert_exact([audio, *others[:1] * 3], 1, 1, generator)


def test_prompts_about_an_audio_share_its_keys_and_values():
    generator = torch.Generator().manual_seed(0)
    first = prompt(50, generator)
    others = [prompt(55, generator, first, 48) for _ in range(3)]
    shapes = [
        [stack.layers[0][0].shape for stack in level.stacks]
        for level in Prefixes([first, first, *others, *others]).levels
    ]
    assert shapes == [[(1, KEY_HEADS, 50, SIZE)], [(1, KEY_HEADS, 1, SIZE), (3, KEY_HEADS, 7, SIZE)]]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1
    )
    return Qwen2ForCausalLM(config).eval()


def test_a_model_computes_as_before_after_sharing(model):
    before = model.config._attn_implementation
    with shared_attention(model):
        assert model.config._attn_implementation == NAME
    assert model.config._attn_implementation == before


@torch.no_grad()
def test_a_model_that_ignores_the_prefixes_is_found_out(model):
    ids = torch.tensor([[3, 1, 4]])
    read = Prefilled(keys_and_values(model(ids, use_cache=True).past_key_values), torch.zeros(32), ids, 0)
    cache, ignorant = SharedCache([read]), deepcopy(model)
    with (
        pytest.raises(RuntimeError, match="Qwen2ForCausalLM computes attention elsewhere"),
        attending(model, cache.prefixes),
    ):
        ignorant(ids)


WINDOW = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, None),
        ({**WINDOW, "max_position_embeddings": 32}, "its attention has a sliding window"),
        ({**WINDOW, "max_position_embeddings": 8}, None),  # no prompt is longer than the window
        ({"attn_logit_softcapping": 30.0}, "its attention scores are changed before the softmax"),
    ],
)
def test_models_whose_rows_cannot_share_are_known(model, options, reason):
    config = Qwen2Config(**{**model.config.to_dict(), "layer_types": None, **options})
    assert why_not_shared(Qwen2ForCausalLM(config)) == reason


def test_layers_that_borrow_keys_and_values_are_known(model):
    class Borrowing(torch.nn.Module):
        config = Gemma3nTextConfig(num_hidden_layers=4, num_kv_shared_layers=2, layer_types=["full_attention"] * 4)

    assert why_not_shared(Borrowing()) == "some of its layers have no keys and values of their own"


def test_attention_of_its_own_is_known(model):
    class Own(torch.nn.Module):
        config = model.config

    assert why_not_shared(Own()) == "its attention does not go through transformers' attention interface"

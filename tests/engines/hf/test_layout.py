from copy import deepcopy

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from ambi_eval.engines.hf import layout
from ambi_eval.engines.hf.layout import PackedHead, lay_out_for_cpu


def model(**options):
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=101,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        **options,
    )
    return Qwen2ForCausalLM(config).eval()


@pytest.mark.parametrize("options", [{}, {"tie_word_embeddings": True}], ids=["head", "head of the embeddings"])
@torch.inference_mode()
def test_a_model_computes_the_same_with_its_weights_in_another_order(options, monkeypatch):
    monkeypatch.setattr(layout, "WIDE", 101)
    before = model(**options)
    after = deepcopy(before)
    lay_out_for_cpu(after)
    ids = torch.tensor([[5, 9, 3, 7], [2, 8, 100, 0]])
    torch.testing.assert_close(after(ids).logits, before(ids).logits, atol=1e-5, rtol=0)
    assert isinstance(after.lm_head, PackedHead) is not before.config.tie_word_embeddings
    assert torch.equal(after.lm_head.weight, before.lm_head.weight)
    projection = after.model.layers[0].mlp.up_proj.weight
    assert torch.equal(projection, before.model.layers[0].mlp.up_proj.weight)
    assert projection.t().is_contiguous()


def test_a_narrow_head_is_laid_out_as_every_other_weight():
    narrow = model()
    lay_out_for_cpu(narrow)
    assert type(narrow.lm_head) is torch.nn.Linear
    assert narrow.lm_head.weight.t().is_contiguous()


def test_no_weight_is_kept_twice(monkeypatch):
    monkeypatch.setattr(layout, "WIDE", 101)
    before, after = model(), model()
    head = after.lm_head
    lay_out_for_cpu(after)
    assert not [*head.parameters()]
    dense = [[each for each in one.parameters() if not each.is_mkldnn] for one in (before, after)]
    sizes = [sum(each.untyped_storage().nbytes() for each in parameters) for parameters in dense]
    assert sizes[0] - before.lm_head.weight.nbytes == sizes[1]


@pytest.mark.parametrize("shape", [(8,), (1, 8), (2, 1, 8), (3, 8), (4, 1, 8), (2, 3, 8), (0, 8)])
@torch.inference_mode()
def test_a_head_gives_the_logits_of_any_number_of_states_with_its_bias(shape):
    head = torch.nn.Linear(8, 20)
    hidden = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = head(hidden)
    torch.testing.assert_close(PackedHead(head)(hidden), expected)

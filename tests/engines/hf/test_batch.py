import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from ambi_eval.engines.hf.batch import Batch, Row
from ambi_eval.engines.hf.cache import keys_and_values
from ambi_eval.engines.hf.prompts import Prefilled

TOKENS = [[5, 9, 3, 7, 2, 8, 1], [4, 4, 6], [9, 1, 2, 3, 4]]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    return Qwen2ForCausalLM(config).eval()


@torch.no_grad()
def read(model, tokens):
    ids = torch.tensor([tokens])
    output = model(ids, use_cache=True)
    return Prefilled(keys_and_values(output.past_key_values), output.logits[0, -1], ids, rope_delta=0)


@torch.no_grad()
def next_logits(model, tokens):
    return model(torch.tensor([tokens])).logits[0, -1]


@torch.no_grad()
def feed(batch, *tokens):
    """Let every row read a token of its own, or all rows the same."""
    tokens = tokens * len(batch.rows) if len(tokens) == 1 else tokens
    for row, token in zip(batch.rows, tokens, strict=True):
        row.tokens.append(token)
    batch.advance(torch.tensor(tokens))


def check_logits(model, batch, prompts):
    """Check that the logits of every row are those of its prompt and its tokens alone."""
    prompt_of = {id(row): prompt for prompt, rows in prompts for row in rows}
    for row, logits in zip(batch.rows, batch.logits[batch.branches], strict=True):
        alone = next_logits(model, prompt_of[id(row)] + row.tokens)
        torch.testing.assert_close(logits, alone, atol=1e-5, rtol=0)


@pytest.fixture(params=[True, False], ids=["shared", "copies"])
def share(request):
    """Whether rows share their prefixes."""
    return request.param


def test_every_row_goes_on_as_if_it_were_alone_while_rows_come_and_go(model, share):
    batch = Batch(model)
    first, second, third = ([Row(0), Row(1)], [Row(2)], [Row(3), Row(4), Row(5)])

    def check():
        check_logits(model, batch, zip(TOKENS, (first, second, third), strict=True))

    batch.add([(read(model, TOKENS[0]), first), (read(model, TOKENS[1]), second)], share)
    check()
    feed(batch, 3)
    check()
    batch.keep([0, 2])
    check()
    feed(batch, 11)
    check()
    batch.add([(read(model, TOKENS[2]), third)], share)
    check()
    feed(batch, 7)
    check()
    assert batch.rows == [first[0], second[0], *third]


def test_rows_are_read_once_as_long_as_their_tokens_are_the_same(model, share):
    batch, prompt = Batch(model), read(model, TOKENS[0])
    first, second = [Row(0), Row(1), Row(2)], [Row(3)]
    batch.add([(prompt, first[:2]), (read(model, TOKENS[1]), second), (prompt, first[2:])], share)
    assert batch.rows == [first[0], first[1], second[0], first[2]]
    for tokens, read_tokens in (((3, 3, 3, 3), 2), ((8, 4, 8, 8), 3), ((1, 1, 1, 2), 4), ((5, 5, 5, 5), 4)):
        feed(batch, *tokens)
        assert len(batch.logits) == read_tokens
        check_logits(model, batch, [(TOKENS[0], first), (TOKENS[1], second)])
    batch.keep([0, 3])
    feed(batch, 6)
    assert len(batch.logits) == 2
    check_logits(model, batch, [(TOKENS[0], first)])


def test_the_prefixes_of_prompts_stay_where_they_are_when_their_answers_part(model):
    batch = Batch(model)
    rows = [[Row(n) for n in range(count)] for count in (3, 2, 1)]
    batch.add([*zip((read(model, tokens) for tokens in TOKENS), rows, strict=True)], share_prefixes=True)

    def places():
        return [stack.layers[0][0].data_ptr() for level in batch.prefixes.levels for stack in level.stacks]

    before = places()
    assert len(before) == 2  # prompts of one answer are apart
    for tokens, branches in (((3, 3, 4, 1, 1, 1), 4), ((5, 6, 7, 8, 9, 1), 6)):
        feed(batch, *tokens)
        assert len(batch.logits) == branches
        assert places() == before
        check_logits(model, batch, zip(TOKENS, rows, strict=True))


def test_padding_leaves_with_the_longest_row(model, share):
    batch = Batch(model)
    batch.add([(read(model, tokens), [Row(n)]) for n, tokens in enumerate(TOKENS)], share)
    widths = []
    for kept in ([0, 1, 2], [1, 2], [0]):
        batch.keep(kept)
        feed(batch, 3)
        widths.append(batch.cache.get_seq_length())
    assert widths == [7 + 1, 5 + 2, 3 + 3]


def test_a_batch_can_be_empty_and_filled_again(model, share):
    batch = Batch(model)
    batch.add([(read(model, TOKENS[0]), [Row(0)])], share)
    batch.keep([])
    assert batch.rows == []
    batch.add([(read(model, TOKENS[1]), [Row(1)])], share)
    torch.testing.assert_close(batch.logits[0], next_logits(model, TOKENS[1]))
    assert batch.cache.get_seq_length() == 3


def test_expanding_a_prompt_copies_nothing(model):
    prompt = read(model, TOKENS[0])
    for (keys, values), (rows_of_keys, rows_of_values) in zip(prompt.layers, prompt.expanded(20, 4), strict=True):
        assert rows_of_keys.shape == (20, 1, 4, 16)
        assert rows_of_keys.data_ptr() == keys.data_ptr()
        assert rows_of_values.data_ptr() == values.data_ptr()

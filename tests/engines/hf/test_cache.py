import random

import pytest
import torch

from ambi_eval.engines.hf.cache import ROOM, GrowingLayer, joined


@pytest.mark.parametrize("seed", range(5))
def test_a_layer_holds_the_tokens_of_its_rows_whatever_comes_and_goes(seed):
    choose = random.Random(seed)
    torch.manual_seed(seed)
    expected = torch.randn(3, 2, 4, 5), torch.randn(3, 2, 4, 5)
    layer = GrowingLayer(*joined([[expected]], ROOM)[0], 0)
    for _ in range(60):
        rows, held = expected[0].shape[0], expected[0].shape[2]
        change = choose.choice(["read", "read", "keep", "copy", "copy", "drop"])
        if change == "read":
            new = torch.randn(2, rows, 2, choose.choice([1, 1, 1, 40]), 5)
            layer.update(*new)
            expected = torch.cat([expected[0], new[0]], 2), torch.cat([expected[1], new[1]], 2)
        elif change == "drop":
            most = choose.randint(held // 2, held + 1)
            layer.drop_columns(most)
            expected = tuple(each[:, :, max(held - most, 0) :] for each in expected)
        else:
            indices = torch.tensor(choose.choices(range(rows), k=choose.randint(1, 6)))
            (layer.add_copies if change == "copy" else layer.batch_select_indices)(indices)
            before = [each[: rows if change == "copy" else 0] for each in expected]
            expected = tuple(torch.cat([kept, each[indices]]) for kept, each in zip(before, expected, strict=True))
        assert torch.equal(layer.keys, expected[0])
        assert torch.equal(layer.values, expected[1])


def test_rows_do_not_move_as_long_as_there_are_free_ones():
    layer = GrowingLayer(*joined([[(torch.randn(8, 2, 4, 5), torch.randn(8, 2, 4, 5))]], ROOM)[0], 0)
    layer.batch_select_indices(torch.arange(8))
    places = []
    for _ in range(3):
        layer.add_copies(torch.tensor([3]))
        places.append(layer.keys.data_ptr())
    assert places[0] == places[1] != places[2]

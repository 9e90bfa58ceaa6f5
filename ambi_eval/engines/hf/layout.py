"""The order of weights in memory: on a CPU, the order in which matrix products read them.

A decoding step multiplies a few rows with every weight of the model. MKL brings each weight of a `torch.nn.Linear` into
its own order before it multiplies, anew for each token, which takes up to as long as the product itself. Here that is
done once, after loading. Nothing is kept twice; results differ from the model's own by rounding alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# Tokens of one block of the LM head. Narrower blocks are slower for one row, wider ones for twenty.
BLOCK = 1000


def lay_out_for_cpu(model: Any) -> None:
    """Bring the weights of a transformers model that is on the CPU into the order in which matrix products read them.

    Weights that an embedding shares stay as they are.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for module in list(model.modules()):
        if type(module) is nn.Linear and id(module.weight) not in embeddings:
            if module is model.get_output_embeddings():
                model.set_output_embeddings(BlockedHead(module))
            else:
                module.weight.data = module.weight.data.t().contiguous().t()


class BlockedHead(nn.Module):
    """An LM head whose weight lies in memory block by block, because it is too wide to be read line by line.

    It gives no gradients.

    Attributes:
        blocks: The weights of `BLOCK` tokens each, shape (hidden size, tokens).
        bias: The bias, shape (vocabulary,), or None.
    """

    def __init__(self, head: nn.Linear) -> None:
        """Take over the weight of a head, which is of no use afterwards."""
        super().__init__()
        weight = head.weight.data
        del head.weight
        self.blocks = nn.ParameterList(
            nn.Parameter(part.t().contiguous(), requires_grad=False) for part in weight.split(BLOCK)
        )
        self.bias = head.bias

    @property
    def weight(self) -> Tensor:
        """A copy of the weight as in `torch.nn.Linear`, shape (vocabulary, hidden size)."""
        return torch.cat([*self.blocks], dim=1).t()

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits, shape (..., vocabulary), of hidden states, shape (..., hidden size)."""
        rows = hidden.flatten(0, -2)
        logits = rows.new_empty(len(rows), sum(block.shape[1] for block in self.blocks))
        for block, columns in zip(self.blocks, logits.split(BLOCK, dim=1), strict=True):
            torch.mm(rows, block, out=columns)
        if self.bias is not None:
            logits += self.bias
        return logits.unflatten(0, hidden.shape[:-1])

"""The order of weights in memory: on a CPU, the order in which matrix products read them.

A decoding step multiplies a few rows with every weight of the model. MKL brings each weight of a `torch.nn.Linear` into
its own order before it multiplies, anew for each token, which takes up to as long as the product itself. Here that is
done once, after loading. Nothing is kept twice; results differ from the model's own by rounding alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


def lay_out_for_cpu(model: Any) -> None:
    """Bring the weights of a transformers model that is on the CPU into the order in which matrix products read them.

    Weights that an embedding shares stay as they are.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for module in list(model.modules()):
        if type(module) is nn.Linear and id(module.weight) not in embeddings:
            is_wide = module.out_features >= WIDE and module.weight.dtype == torch.float32
            if module is model.get_output_embeddings() and is_wide and torch.backends.mkldnn.is_available():
                model.set_output_embeddings(PackedHead(module))
            else:
                module.weight.data = module.weight.data.t().contiguous().t()


class PackedHead(nn.Module):
    """An LM head whose weight lies in the order of oneDNN, which multiplies few rows with it faster than MKL.

    It gives no gradients.

    Attributes:
        packed: The weight in the order of oneDNN.
        bias: The bias, shape (vocabulary,), or None.
    """

    def __init__(self, head: nn.Linear) -> None:
        """Take over the float32 weight of a head, which is of no use afterwards."""
        super().__init__()
        weight = head.weight.data
        del head.weight
        self.packed = nn.Parameter(torch.ops.mkldnn._reorder_linear_weight(weight, ROWS), requires_grad=False)
        self.bias = head.bias

    @property
    def weight(self) -> Tensor:
        """A copy of the weight as in `torch.nn.Linear`, shape (vocabulary, hidden size)."""
        return self.packed.to_dense()

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits, shape (..., vocabulary), of hidden states, shape (..., hidden size)."""
        states = hidden.reshape(-1, hidden.shape[-1])
        padded = pad(states, (0, 0, 0, max(FEWEST - len(states), 0)))
        logits: Tensor = torch.ops.mkldnn._linear_pointwise(padded, self.packed, self.bias, "none", [], "")
        return logits[: len(states)].view(*hidden.shape[:-1], logits.shape[-1])


# Tokens of an LM head from which on the order of oneDNN is faster.
WIDE = 8192
# The number of rows for which oneDNN chooses the order; with any other number the product is as right.
ROWS = 32
# Fewer rows than these take up to half as much time again as these do, so zeros are added.
FEWEST = 4

"""How the next token is chosen: greedily, or by seeded sampling that depends on nothing but its key.

Sampling is Gumbel-max: token = argmax(logits / temperature + noise), which draws from the softmax exactly. The noise of
a token is a hash of (key of the row, step, token), not the state of a generator, so that a sample does not change with
the batch it is decoded in, with the order of the clips, or with the number of processes. Where rounding moves the
logits a little (bfloat16, another GPU), the choice changes only if the two best tokens were nearly tied.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from ambi_eval.config.generation import GenerationSettings


def row_key(*parts: object) -> int:
    """Return the 64-bit key of one answer's noise: a hash of all that the answer may depend on."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def choose_tokens(logits: Tensor, settings: GenerationSettings, keys: Tensor, steps: Tensor) -> Tensor:
    """Choose the next token of every row.

    Args:
        logits: float32, shape (rows, vocabulary); -inf is never chosen.
        settings: Greedy, or temperature, top_k and top_p of the sampling.
        keys: `row_key` of every row, int64, shape (rows,).
        steps: How many tokens every row has already, int64, shape (rows,).

    Returns:
        Token ids, int64, shape (rows,).
    """
    if not settings.sampled:
        return logits.argmax(-1)
    scores = logits / settings.temperature
    token_ids = torch.arange(logits.shape[-1], device=logits.device)
    if settings.top_k or settings.top_p < 1:
        scores, token_ids = scores.topk(min(settings.top_k or logits.shape[-1], logits.shape[-1]))
        shares = scores.softmax(-1)
        scores = scores.masked_fill(shares.cumsum(-1) - shares >= settings.top_p, -torch.inf)
    winners = (scores + gumbel_noise(keys, steps, token_ids)).argmax(-1, keepdim=True)
    return token_ids.expand_as(scores).gather(-1, winners).squeeze(-1)


def gumbel_noise(keys: Tensor, steps: Tensor, token_ids: Tensor) -> Tensor:
    """Return standard Gumbel noise that is a pure function of (key, step, token).

    Args:
        keys: int64, shape (rows,).
        steps: int64, shape (rows,).
        token_ids: int64, shape (tokens,) or (rows, tokens).

    Returns:
        float32, shape (rows, tokens).
    """
    rows = _mix(keys ^ _mix(steps))
    high_bits = _mix(rows[:, None] ^ _mix(token_ids)) >> 32 & 0xFFFFFFFF
    # Few bits near 0, where the noise is largest and decides, would make unlikely tokens impossible: 32 bits there.
    # Near 1 float32 has no more than 24, and 1 itself would be a noise of minus infinity.
    uniform = ((high_bits.float() + 0.5) * 2.0**-32).clamp(max=1 - 2.0**-24)
    return -torch.log(-torch.log1p(-uniform))


def _mix(x: Tensor) -> Tensor:
    """Hash 64-bit integers (splitmix64 of Steele, Lea and Flood, 2014); int64 wraps around as uint64 does."""
    x = x - 0x61C8864680B583EB
    x = (x ^ _shift(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shift(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift right without copying the sign bit, as for unsigned integers."""
    return x >> bits & (1 << 64 - bits) - 1

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
    at_once = rows_at_once(logits)
    hashed_rows = _hash(keys ^ _hash(steps))
    hashed_tokens = _hash(torch.arange(logits.shape[-1], device=logits.device))
    chosen = [
        _draw(some, settings, hashed, hashed_tokens)
        for some, hashed in zip(logits.split(at_once), hashed_rows.split(at_once), strict=True)
    ]
    return torch.cat(chosen)


def rows_at_once(logits: Tensor) -> int:
    """Return of how many rows to compute at a time: on a CPU so few that they stay in the processor's own memory."""
    return max(1, LOGITS_AT_ONCE // logits.shape[-1]) if logits.device.type == "cpu" else max(1, len(logits))


LOGITS_AT_ONCE = 2**16


def _draw(logits: Tensor, settings: GenerationSettings, hashed_rows: Tensor, hashed_tokens: Tensor) -> Tensor:
    """Draw the next token of a few rows, shape (rows,)."""
    scores = logits / settings.temperature
    if not settings.top_k and settings.top_p == 1:
        return scores.add_(_noise(hashed_rows, hashed_tokens)).max(-1).indices
    scores, token_ids = scores.topk(min(settings.top_k or logits.shape[-1], logits.shape[-1]))
    shares = scores.softmax(-1)
    scores = scores.masked_fill(shares.cumsum(-1) - shares >= settings.top_p, -torch.inf)
    winners = scores.add_(_noise(hashed_rows, hashed_tokens[token_ids])).argmax(-1, keepdim=True)
    return token_ids.gather(-1, winners).squeeze(-1)


def gumbel_noise(keys: Tensor, steps: Tensor, token_ids: Tensor) -> Tensor:
    """Return standard Gumbel noise that is a pure function of (key, step, token).

    Args:
        keys: int64, shape (rows,).
        steps: int64, shape (rows,).
        token_ids: int64, shape (tokens,) or (rows, tokens).

    Returns:
        float32, shape (rows, tokens).
    """
    return _noise(_hash(keys ^ _hash(steps)), _hash(token_ids))


def _noise(hashed_rows: Tensor, hashed_tokens: Tensor) -> Tensor:
    """Return the noise of tokens, shape (rows, tokens); each step works in place, which takes a quarter of the time."""
    high_bits = _hash(hashed_rows[:, None] ^ hashed_tokens)
    high_bits >>= 32
    high_bits &= 0xFFFFFFFF
    # Few bits near 0, where the noise is largest and decides, would make unlikely tokens impossible: 32 bits there.
    # Near 1 float32 has no more than 24, and 1 itself would be a noise of minus infinity.
    uniform = high_bits.float().add_(0.5).mul_(2.0**-32).clamp_(max=1 - 2.0**-24)
    return uniform.neg_().log1p_().neg_().log_().neg_()


def _hash(x: Tensor) -> Tensor:
    """Hash 64-bit integers (splitmix64 of Steele, Lea and Flood, 2014); int64 wraps around as uint64 does."""
    x = x - 0x61C8864680B583EB
    shifted = torch.empty_like(x)
    for bits, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, None)):
        torch.bitwise_right_shift(x, bits, out=shifted)
        shifted &= (1 << 64 - bits) - 1  # as of unsigned integers, whose sign is not copied
        x ^= shifted
        if factor is not None:
            x *= factor
    return x

"""How the next token is chosen: greedily, or by seeded sampling that depends on nothing but its key.

Sampling is Gumbel-max: token = argmax(logits / temperature + noise), which draws from the softmax exactly. The noise of
a token is a hash of (key of the row, step, token), not the state of a generator, so that a sample does not change with
the batch it is decoded in, with the order of the clips, or with the number of processes. Where rounding moves the
logits a little (bfloat16, another GPU), the choice changes only if the two best tokens were nearly tied.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
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
        return logits.max(-1).indices
    hashed_rows = _hash(keys ^ _hash(steps))
    hashed_tokens = _hashed_tokens(logits.shape[-1], logits.device)
    if settings.top_k or settings.top_p < 1:
        return _draw_from_the_top(logits, settings, hashed_rows, hashed_tokens)
    if logits.device.type == "cpu":
        return _draw_from_candidates(logits, settings.temperature, hashed_rows, hashed_tokens)
    return _draw_from_all(logits, settings.temperature, hashed_rows, hashed_tokens)


def log_normalizers(logits: Tensor) -> Tensor:
    """Return the logarithm of the sum of exponentials of every row, shape (rows,)."""
    return torch.cat([some.logsumexp(-1) for some in logits.split(_rows_at_once(logits))])


def _rows_at_once(logits: Tensor) -> int:
    """Return the number of rows to compute at a time: on a CPU few enough for the processor's cache."""
    return max(1, 2**16 // logits.shape[-1] if logits.device.type == "cpu" else len(logits))


def _normalized(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the softmax of every row, and the logarithm of its normalizer, shape (rows,)."""
    highest = scores.amax(-1, keepdim=True)
    shares = scores.sub(highest).exp_()
    total = shares.sum(-1, keepdim=True)
    return shares.div_(total), (highest + total.log()).squeeze(-1)


def _draw_from_all(logits: Tensor, temperature: float, hashed_rows: Tensor, hashed_tokens: Tensor) -> Tensor:
    """Draw the next token of every row from the whole vocabulary, shape (rows,)."""
    return (logits / temperature).add_(_noise(hashed_rows[:, None] ^ hashed_tokens)).max(-1).indices


def _draw_from_the_top(
    logits: Tensor, settings: GenerationSettings, hashed_rows: Tensor, hashed_tokens: Tensor
) -> Tensor:
    """Draw the next token of every row from those that top-k and top-p leave, shape (rows,)."""
    scores, token_ids = (logits / settings.temperature).topk(min(settings.top_k or logits.shape[-1], logits.shape[-1]))
    shares = scores.softmax(-1)
    scores = scores.masked_fill(shares.cumsum(-1) - shares >= settings.top_p, -torch.inf)
    winners = scores.add_(_noise(hashed_rows[:, None] ^ hashed_tokens[token_ids])).argmax(-1, keepdim=True)
    return token_ids.gather(-1, winners).squeeze(-1)


def _draw_from_candidates(logits: Tensor, temperature: float, hashed_rows: Tensor, hashed_tokens: Tensor) -> Tensor:
    """Draw the same tokens as `_draw_from_all`, but from the few that can win; only on a CPU, because it counts them.

    The highest score of a row is the logarithm of its normalizer plus standard Gumbel noise: it falls below that
    logarithm minus `MARGIN` with probability exp(-exp(MARGIN)). A token exceeds this bound only if its uniform number
    is below 1 - exp(-x) <= x, where x = softmax * exp(MARGIN). So the noise, two logarithms of the uniform number, is
    computed for these tokens only. If none exceeds the bound, the row is drawn from all tokens.
    """
    at_once = _rows_at_once(logits)
    room = np.empty((2, at_once, logits.shape[-1]), np.uint64)
    parts = [
        _candidates(some if temperature == 1 else some / temperature, hashed, hashed_tokens, room[:, : len(some)])
        for some, hashed in zip(logits.split(at_once), hashed_rows.split(at_once), strict=True)
    ]
    places, normalizers = torch.cat([part for part, _ in parts]), torch.cat([part for _, part in parts])
    offsets = torch.arange(0, len(logits), at_once).repeat_interleave(torch.tensor([len(part) for part, _ in parts]))
    rows, token_ids = places // logits.shape[-1] + offsets, places % logits.shape[-1]
    scores = logits[rows, token_ids] / temperature + _noise(hashed_rows[rows] ^ hashed_tokens[token_ids])
    best = torch.full_like(normalizers, -torch.inf).scatter_reduce(0, rows, scores, "amax")
    token_ids = torch.where(scores == best[rows], token_ids, len(hashed_tokens))
    chosen = torch.full_like(hashed_rows, len(hashed_tokens)).scatter_reduce(0, rows, token_ids, "amin")
    unsure = (best < normalizers - MARGIN).nonzero().squeeze(-1)
    if len(unsure):
        chosen[unsure] = _draw_from_all(logits[unsure], temperature, hashed_rows[unsure], hashed_tokens)
    return chosen


MARGIN = 2.5


def _candidates(
    scores: Tensor, hashed_rows: Tensor, hashed_tokens: Tensor, room: NDArray[np.uint64]
) -> tuple[Tensor, Tensor]:
    """Return the positions of the candidates in the flattened scores, and the logarithm of every row's normalizer.

    `room` holds two arrays of their shape for intermediate results. numpy has unsigned integers, and vector
    instructions for products of 64 bits.
    """
    x, shifted = room
    np.bitwise_xor(hashed_rows.numpy().view(np.uint64)[:, None], hashed_tokens.numpy().view(np.uint64), out=x)
    x -= np.uint64(INCREMENT)
    for bits, factor in FACTORS:
        np.right_shift(x, np.uint64(bits), out=shifted)
        x ^= shifted
        x *= np.uint64(factor % 2**64)
    x >>= np.uint64(1)  # signed integers become floats much faster than unsigned ones
    most, normalizers = _normalized(scores)
    most *= 2 * math.exp(MARGIN) * 2.0**63  # twice x of `_draw_from_candidates`, because uniform numbers are rounded
    return torch.from_numpy(
        np.flatnonzero(torch.from_numpy(x.view(np.int64)).float().numpy() <= most.numpy())
    ), normalizers


def gumbel_noise(keys: Tensor, steps: Tensor, token_ids: Tensor) -> Tensor:
    """Return standard Gumbel noise that is a pure function of (key, step, token).

    Args:
        keys: int64, shape (rows,).
        steps: int64, shape (rows,).
        token_ids: int64, shape (tokens,) or (rows, tokens).

    Returns:
        float32, shape (rows, tokens).
    """
    return _noise(_hash(keys ^ _hash(steps))[:, None] ^ _hash(token_ids))


def _noise(x: Tensor) -> Tensor:
    """Return the noise of integers, of the same shape; each step works in place, which takes a quarter of the time."""
    high_bits = _hash(x)
    high_bits >>= 32
    high_bits &= 0xFFFFFFFF
    # Few bits near 0, where the noise is largest and decides, would make unlikely tokens impossible: 32 bits there.
    # Near 1 float32 has no more than 24, and 1 itself would be a noise of minus infinity.
    negative = high_bits.float().add_(0.5).mul_(-(2.0**-32)).clamp_(min=2.0**-24 - 1)  # uniform in (-1, 0)
    return negative.log1p_().neg_().log_().neg_()


@lru_cache(maxsize=4)
def _hashed_tokens(vocabulary: int, device: torch.device) -> Tensor:
    return _hash(torch.arange(vocabulary, device=device))


def _hash(x: Tensor) -> Tensor:
    """Hash 64-bit integers (splitmix64 of Steele, Lea and Flood, 2014); int64 wraps around as uint64 does."""
    x = x - INCREMENT
    shifted = torch.empty_like(x)
    for bits, factor in (*FACTORS, (31, None)):
        torch.bitwise_right_shift(x, bits, out=shifted)
        shifted &= (1 << 64 - bits) - 1  # a logical shift, which does not copy the sign
        x ^= shifted
        if factor is not None:
            x *= factor
    return x


INCREMENT = 0x61C8864680B583EB  # the published one, negated
FACTORS = ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15))

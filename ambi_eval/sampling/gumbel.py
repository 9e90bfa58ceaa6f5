"""How the next token is chosen: greedily, or by seeded sampling that depends on nothing but its key.

Sampling is Gumbel-max: token = argmax(logits / temperature + noise), which draws from the softmax exactly. The noise of
a token is a hash of (key of the row, step, token), not the state of a generator, so that a sample does not change with
the batch it is decoded in, with the order of the clips, or with the number of processes. Where rounding moves the
logits a little (bfloat16, another GPU), the choice changes only if the two best tokens were nearly tied.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ambi_eval.config.generation import GenerationSettings


def choose_tokens(
    logits: Tensor, settings: GenerationSettings, keys: Tensor, steps: Tensor, normalizers: Tensor | None = None
) -> Tensor:
    """Choose the next token of every row.

    Args:
        logits: float32, shape (rows, vocabulary); -inf is never chosen.
        settings: Greedy, or temperature, top_k and top_p of the sampling.
        keys: `keys.row_key` of every row, int64, shape (rows,).
        steps: How many tokens every row has already, int64, shape (rows,).
        normalizers: `log_normalizers` of the logits, or of logits some of which are now -inf. It saves time to give
            them, and changes nothing.

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
        if normalizers is None or settings.temperature != 1:
            normalizers = log_normalizers(logits / settings.temperature)
        return _draw_from_candidates(logits, settings.temperature, hashed_rows, hashed_tokens, normalizers)
    return _draw_from_all(logits, settings.temperature, hashed_rows, hashed_tokens)


def log_normalizers(logits: Tensor) -> Tensor:
    """Return the logarithm of the sum of exponentials of every row, shape (rows,)."""
    if logits.device.type != "cpu":
        return logits.logsumexp(-1)
    # The same in a place that stays in the cache of the processor, a few rows at a time.
    room = torch.empty_like(logits[: max(1, 2**17 // logits.shape[-1])])
    normalizers = []
    for some in logits.split(len(room)):
        highest = some.amax(-1, keepdim=True)
        exponentials = torch.sub(some, highest, out=room[: len(some)]).exp_()
        normalizers.append(exponentials.sum(-1).log_().add_(highest.squeeze(-1)))
    return torch.cat(normalizers)


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


# A row is drawn from its candidates if the highest score is at most this far below the logarithm of the normalizer.
MARGIN = 2.25
# Softmax from which on a token is a candidate whatever its noise.
SHARE = 2.0**-13


def _draw_from_candidates(
    logits: Tensor, temperature: float, hashed_rows: Tensor, hashed_tokens: Tensor, normalizers: Tensor
) -> Tensor:
    """Draw the same tokens as `_draw_from_all`, but from the few that can win; only on a CPU, because it counts them.

    The highest score of a row is the logarithm of its normalizer plus standard Gumbel noise: it falls below that
    logarithm minus `MARGIN` with probability exp(-exp(MARGIN)). A token whose softmax is below `SHARE` exceeds this
    bound only if its uniform number is below 1 - exp(-x) <= x, where x = SHARE * exp(MARGIN). So the noise, two
    logarithms of the uniform number, is computed for those tokens and for all with a larger softmax. If none exceeds
    the bound, the row is drawn from all tokens. Larger normalizers than those of the logits only raise the bound.
    """
    least = temperature * (normalizers + math.log(SHARE))
    found = _candidates(*(each.numpy() for each in (logits, least, hashed_rows, hashed_tokens)))
    rows, token_ids = map(torch.from_numpy, found)
    scores = logits[rows, token_ids] / temperature + _noise(hashed_rows[rows] ^ hashed_tokens[token_ids])
    best = torch.full_like(normalizers, -torch.inf).scatter_reduce(0, rows, scores, "amax")
    token_ids = torch.where(scores == best[rows], token_ids, len(hashed_tokens))
    chosen = torch.full_like(hashed_rows, len(hashed_tokens)).scatter_reduce(0, rows, token_ids, "amin")
    unsure = (best < normalizers - MARGIN).nonzero().squeeze(-1)
    if len(unsure):
        chosen[unsure] = _draw_from_all(logits[unsure], temperature, hashed_rows[unsure], hashed_tokens)
    return chosen


def _candidates(
    logits: NDArray[np.float32], least: NDArray[np.float32], hashed_rows: NDArray[Any], hashed_tokens: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and id of every token that `_draw_from_candidates` looks at.

    As many threads as torch has take the next rows until none are left. numpy has unsigned integers, and vector
    instructions for products of 64 bits; few rows at a time stay in the cache of the processor.

    Args:
        logits: Shape (rows, vocabulary).
        least: Logits from which on a token is a candidate whatever its noise, shape (rows,).
        hashed_rows: Hash of every row, int64, shape (rows,).
        hashed_tokens: Hash of every token, int64, shape (vocabulary,).
    """
    rows, size = logits.shape
    of_rows, of_tokens = hashed_rows.view(np.uint64)[:, None], hashed_tokens.view(np.uint64)
    most = int(1.1 * SHARE * math.exp(MARGIN) * 2**64)  # a little more, because numbers are rounded
    # numpy compares floating-point numbers four times as fast as integers. Those of at least this bound have the bits
    # `INFINITY` less 0 to `most`. Negative numbers and not-a-number are never as high.
    bound = np.uint64(INFINITY - most).view(np.float64)
    factors = [np.uint64(factor % 2**64) for factor in (FACTORS[0][1], -FACTORS[1][1])]
    wins = np.zeros((rows, -(-size // 8) * 8), bool)
    threads = torch.get_num_threads()
    at_once = max(1, min(threads, 2) * 2**15 // size)  # calls that are too short make threads wait for each other
    firsts = iter(range(0, rows, at_once))

    def some() -> None:
        room, is_likely = np.empty((2, at_once, size), np.uint64), np.empty((at_once, size), bool)
        for first in firsts:
            now = slice(first, first + at_once)
            (x, shifted), likely, winning = room[:, : rows - first], is_likely[: rows - first], wins[now, :size]
            np.bitwise_xor(of_rows[now], of_tokens, out=x)
            x -= np.uint64(INCREMENT)
            for (bits, _), factor in zip(FACTORS, factors, strict=True):
                np.right_shift(x, np.uint64(bits), out=shifted)
                x ^= shifted
                x *= factor
            x += np.uint64(INFINITY)
            np.greater_equal(x.view(np.float64), bound, out=winning)
            np.greater_equal(logits[now], least[now, None], out=likely)
            winning |= likely

    others = [_threads(threads).submit(some) for _ in range(min(threads, -(-rows // at_once)) - 1)]
    some()
    for other in others:
        other.result()
    # Candidates are few, so first find the groups of 8 tokens with any.
    groups = np.flatnonzero(wins.view(np.uint64) != 0)
    found = np.flatnonzero(wins.reshape(-1, 8)[groups])
    row, token = np.divmod(8 * groups[found // 8] + found % 8, wins.shape[1])
    return row, token


@lru_cache(maxsize=1)
def _threads(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number, thread_name_prefix="sampling")


def _noise(x: Tensor) -> Tensor:
    """Return standard Gumbel noise, a pure function of each integer, float32, of the same shape.

    Each step works in place, which takes a quarter of the time.
    """
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
INFINITY = 0x7FF << 52  # the bits of the floating-point number

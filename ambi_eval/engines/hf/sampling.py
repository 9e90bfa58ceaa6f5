"""How the next token is chosen: greedily, or by seeded sampling that depends on nothing but its key.

Sampling is Gumbel-max: token = argmax(logits / temperature + noise), which draws from the softmax exactly. The noise of
a token is a hash of (key of the row, step, token), not the state of a generator, so that a sample does not change with
the batch it is decoded in, with the order of the clips, or with the number of processes. Where rounding moves the
logits a little (bfloat16, another GPU), the choice changes only if the two best tokens were nearly tied.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ambi_eval.errors import AmbiError, did_you_mean


@dataclass(frozen=True)
class GenerationSettings:
    """How answers are generated: `generation_kwargs` of the harness, checked and in one form.

    Attributes:
        temperature: 0 is greedy (or beam search), above 0 is sampling.
        top_k: Sample from the k most likely tokens only; 0 is all of them.
        top_p: Sample from the fewest tokens that hold this much probability together; 1 is all of them.
        num_beams: 1 is greedy or sampling, above 1 is beam search.
        length_penalty: Beams are ranked by log-likelihood / tokens ** length_penalty; 0 ranks by the likelihood itself.
        until: Strings that end an answer and are not part of it.
        max_gen_toks: Tokens after which an answer is cut.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    num_beams: int = 1
    length_penalty: float = 0.0
    until: tuple[str, ...] = ()
    max_gen_toks: int = 256

    @classmethod
    def from_kwargs(cls, kwargs: Mapping[str, Any]) -> GenerationSettings:
        """Check a task's `generation_kwargs` and bring them into one form.

        As in the harness, `do_sample: false` makes every sampling key void, and without `do_sample` a temperature above
        0 means sampling. `do_sample: true` alone samples at temperature 1.

        Raises:
            AmbiError: If a key is unknown or a value impossible.
        """
        known = ["do_sample", *(field.name for field in fields(cls))]
        for key in kwargs:
            if key == "num_return_sequences":
                raise AmbiError("generation_kwargs: give the size of a pool as `repeats`, not as num_return_sequences")
            if key not in known:
                raise AmbiError(f"generation_kwargs: unknown key '{key}'{did_you_mean(key, known)}")
        given = {key: value for key, value in kwargs.items() if key != "do_sample" and value is not None}
        do_sample = kwargs.get("do_sample")
        given.setdefault("temperature", 1.0 if do_sample else 0.0)
        given["until"] = _strings("until", given.get("until", ()))
        for key, (kind, least, most) in _RANGES.items():
            if key in given:
                given[key] = _number(key, given[key], kind, least, most)
        if do_sample is False or given["temperature"] == 0:
            given = {key: value for key, value in given.items() if key not in ("temperature", "top_k", "top_p")}
        settings = cls(**given)
        if settings.sampled and settings.num_beams > 1:
            raise AmbiError("generation_kwargs: beams are not sampled; give num_beams or do_sample, not both")
        return settings

    @property
    def sampled(self) -> bool:
        """Whether answers are drawn at random."""
        return self.temperature > 0


_RANGES: dict[str, tuple[type, float, float]] = {
    "temperature": (float, 0, math.inf),
    "top_k": (int, 0, math.inf),
    "top_p": (float, 1e-9, 1),
    "num_beams": (int, 1, math.inf),
    "length_penalty": (float, -math.inf, math.inf),
    "max_gen_toks": (int, 1, math.inf),
}


def _number(key: str, value: Any, kind: type, least: float, most: float) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not least <= value <= most
        or kind(value) != value
    ):
        what = "a whole number" if kind is int else "a number"
        raise AmbiError(f"generation_kwargs: {key}={value!r} is not {what} from {least:g} to {most:g}")
    return kind(value)


def _strings(key: str, value: Any) -> tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else tuple(value)
    if not all(isinstance(string, str) and string for string in strings):
        raise AmbiError(f"generation_kwargs: {key}={value!r} is not a list of strings that are not empty")
    return strings


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

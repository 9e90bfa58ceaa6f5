"""Answers that are decoded together, and their KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ambi_eval.answers.candidate import Finish
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.engines.hf.attention import Prefixes, mask
from ambi_eval.engines.hf.cache import ROOM, GrowingLayer, attending, joined, keys_and_values
from ambi_eval.engines.hf.prompts import Prefilled


@dataclass(eq=False)
class Row:
    """One answer that is being decoded.

    Attributes:
        key: The key of its sampling noise (`sampling.row_key`).
        settings: How it is generated.
        tokens: The tokens so far, those of its thinking first.
        logprob: Their log-likelihood.
        finish: Why it has ended.
        thinks: Whether the newest token belongs to the thinking.
        thought: Number and log-likelihood of the tokens of the thinking, once it has ended.
    """

    key: int
    settings: GenerationSettings = field(default_factory=GenerationSettings)
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    finish: Finish | None = None
    thinks: bool = field(init=False)
    thought: tuple[int, float] = (0, 0.0)

    def __post_init__(self) -> None:
        """Begin with thinking where there is room for it."""
        self.thinks = self.settings.max_thinking_toks > 0

    @property
    def answer(self) -> list[int]:
        """The tokens after the thinking."""
        return [] if self.thinks else self.tokens[self.thought[0] :]


def precise(device: torch.device) -> torch.dtype:
    """Return the most precise floating-point type of a device, for log-likelihoods.

    The last digit of a float32 around -70, as long answers have, is 1e-5.
    """
    return torch.float32 if device.type == "mps" else torch.float64


class Batch:
    """The rows that are decoded together.

    Their suffixes (or, where rows have copies of their prompts, prompts and answers) are right-aligned in the KV cache,
    so that the newest token of every row is in the last column. Columns to the left of a row's first token are padding,
    which the attention mask hides.

    Attributes:
        rows: The rows.
        cache: KV cache of all their tokens but the newest.
        logits: Logits of every row's next token, float32, shape (rows, vocabulary).
        keys: Noise key of every row, int64, shape (rows,).
        steps: How many tokens every row has, int64, shape (rows,).
        logprobs: Log-likelihood of every row so far, shape (rows,).
        by_settings: The rows with each settings; None if all rows have the same settings.
    """

    logits: Tensor
    keys: Tensor
    steps: Tensor
    logprobs: Tensor
    by_settings: dict[GenerationSettings, Tensor] | None
    _positions: Tensor  # logits of the next token of every row
    _lengths: Tensor  # columns of every row's prompt in the KV cache: 0 where its keys and values are shared

    def __init__(self, model: Any) -> None:
        """Begin without rows."""
        self.model = model
        self.rows: list[Row] = []
        self.prompts: list[Prefilled] = []  # of every row
        self.prefixes: Prefixes | None = None
        self.cache: Any = DynamicCache()

    def add(self, arrivals: Sequence[tuple[Prefilled, Sequence[Row]]], share_prefixes: bool) -> None:
        """Add the rows of prompts that have just been prefilled.

        Args:
            arrivals: The prompts with their rows.
            share_prefixes: Whether the rows share the keys and values of their prompts, or get copies.
        """
        caches = [prompt.expanded(len(rows), 0 if share_prefixes else None) for prompt, rows in arrivals]
        rows = [row for _, new in arrivals for row in new]
        prompts = [prompt for prompt, new in arrivals for _ in new]
        device = arrivals[0][0].logits.device
        logits = torch.cat([prompt.logits.expand(len(new), -1) for prompt, new in arrivals])
        keys = torch.tensor([row.key for row in rows], device=device)
        steps = torch.zeros_like(keys)
        positions = torch.tensor([prompt.length + prompt.rope_delta for prompt in prompts], device=device)
        lengths = torch.tensor([0 if share_prefixes else prompt.length for prompt in prompts], device=device)
        logprobs = torch.zeros(len(rows), dtype=precise(device), device=device)
        if self.rows:
            caches.insert(0, keys_and_values(self.cache))
            logits = torch.cat([self.logits, logits])
            keys, steps = torch.cat([self.keys, keys]), torch.cat([self.steps, steps])
            positions, lengths = torch.cat([self._positions, positions]), torch.cat([self._lengths, lengths])
            logprobs = torch.cat([self.logprobs, logprobs])
        self.logits, self.keys, self.steps, self.logprobs = logits, keys, steps, logprobs
        self._positions, self._lengths = positions, lengths
        self.rows += rows
        self.prompts += prompts
        self.cache = DynamicCache()
        self.cache.layers = [GrowingLayer(*states, number) for number, states in enumerate(joined(caches, ROOM))]
        self._rows_changed(share_prefixes)

    def keep(self, numbers: Sequence[int]) -> None:
        """Keep only the rows with these indices."""
        kept = torch.tensor(numbers, dtype=torch.long, device=self.logits.device)
        self.rows = [self.rows[number] for number in numbers]
        self.prompts = [self.prompts[number] for number in numbers]
        for name in ("logits", "keys", "steps", "logprobs", "_positions", "_lengths"):
            setattr(self, name, getattr(self, name)[kept])
        self.cache.batch_select_indices(kept)
        self._rows_changed(self.prefixes is not None)

    def advance(self, tokens: Tensor) -> None:
        """Let the model read a token of every row; afterwards `logits` are those of the next token.

        Args:
            tokens: The newest token of every row, int64, shape (rows,).
        """
        self.steps += 1
        device = tokens.device
        own = [
            len(row.tokens) + (0 if self.prefixes else prompt.length)
            for row, prompt in zip(self.rows, self.prompts, strict=True)
        ]
        width = max(own)
        for layer in self.cache.layers:
            layer.drop_columns(width - 1)
        visible = None
        if self.prefixes is None or min(own) < width:
            visible = (self.steps + self._lengths)[:, None] > torch.arange(width - 1, -1, -1, device=device)
        if self.prefixes is not None:
            self.prefixes.suffix_mask = None if visible is None else mask(visible[:, None, None, None])
        with nullcontext() if self.prefixes is None else attending(self.model, self.prefixes):
            output = self.model(
                input_ids=tokens[:, None],
                attention_mask=visible.long() if self.prefixes is None and visible is not None else None,
                position_ids=self._positions[:, None],
                past_key_values=self.cache,
                use_cache=True,
            )
        self._positions += 1
        self.logits = output.logits[:, -1].float()

    def _rows_changed(self, share_prefixes: bool) -> None:
        """Update everything that depends on the set of rows."""
        sharing = share_prefixes and self.rows
        self.prefixes = Prefixes(self.prompts, before=self.prefixes, hold=True) if sharing else None
        for layer in self.cache.layers:
            layer.prefixes = self.prefixes
        groups: dict[GenerationSettings, list[int]] = {}
        for number, row in enumerate(self.rows):
            groups.setdefault(row.settings, []).append(number)
        device = self.logits.device
        self.by_settings = (
            {settings: torch.tensor(numbers, device=device) for settings, numbers in groups.items()}
            if len(groups) > 1
            else None
        )

"""Answers that are decoded side by side, and their KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, DynamicLayer

from ambi_eval.answers.candidate import Finish
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.engines.hf.prefill import KeysAndValues, Prefilled, keys_and_values


@dataclass(eq=False)
class Row:
    """One answer that is being decoded; `key` is that of its sampling noise (`sampling.row_key`)."""

    key: int
    settings: GenerationSettings = field(default_factory=GenerationSettings)
    prompt_length: int = 0
    rope_delta: int = 0
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    finish: Finish | None = None

    @property
    def length(self) -> int:
        """Tokens of prompt and answer so far."""
        return self.prompt_length + len(self.tokens)


class Batch:
    """The rows that are decoded together.

    Their KV caches are right-aligned, so that the newest token of every row stands in the last column. The columns to
    the left of a row's prompt are padding, which the attention mask hides.

    Attributes:
        rows: The rows.
        cache: KV cache of all their tokens but the newest.
        logits: Of every row's next token, float32, shape (rows, vocabulary).
    """

    logits: Tensor

    def __init__(self, model: Any) -> None:
        """Begin without rows."""
        self.model = model
        self.rows: list[Row] = []
        self.cache: Any = DynamicCache()

    def add(self, arrivals: Sequence[tuple[Prefilled, Sequence[Row]]]) -> None:
        """Add the rows of prompts that have just been prefilled."""
        caches = [prompt.expanded(len(rows)) for prompt, rows in arrivals]
        logits = [prompt.logits.expand(len(rows), -1) for prompt, rows in arrivals]
        if self.rows:
            caches.insert(0, keys_and_values(self.cache))
            logits.insert(0, self.logits)
        self.cache = DynamicCache()
        self.cache.layers = [GrowingLayer(*states) for states in joined(caches, ROOM)]
        self.logits = torch.cat(logits)
        for prompt, rows in arrivals:
            for row in rows:
                row.prompt_length, row.rope_delta = prompt.length, prompt.rope_delta
            self.rows += rows

    def keep(self, numbers: Sequence[int]) -> None:
        """Keep the rows of these numbers."""
        self.rows = [self.rows[number] for number in numbers]
        self.logits = self.logits[numbers]
        self.cache.batch_select_indices(torch.tensor(numbers, dtype=torch.long, device=self.logits.device))

    def advance(self) -> None:
        """Let the model read the newest token of every row; afterwards `logits` are those of the next token."""
        device = self.logits.device
        lengths = torch.tensor([row.length for row in self.rows], device=device)
        deltas = torch.tensor([row.rope_delta for row in self.rows], device=device)
        width = max(row.length for row in self.rows)
        for layer in self.cache.layers:  # drop the columns that are padding in every row
            layer.keys, layer.values = layer.keys[:, :, 1 - width :], layer.values[:, :, 1 - width :]
        output = self.model(
            input_ids=torch.tensor([row.tokens[-1:] for row in self.rows], device=device),
            attention_mask=(torch.arange(width, device=device) >= width - lengths[:, None]).long(),
            position_ids=(lengths - 1 + deltas)[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.logits = output.logits[:, -1].float()


class GrowingLayer(DynamicLayer):
    """The KV cache of one layer, with free columns at its end: a new token is written there, nothing else moves.

    transformers' own layer copies the whole cache for each token.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        """Take what there is so far, each of shape (rows, heads, tokens + ROOM, head size)."""
        super().__init__()
        self.lazy_initialization(keys, values)
        self._hold(keys, values, keys.shape[2] - ROOM)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> KeysAndValues:
        """Add the keys and values of new tokens, and return all."""
        held, new = self.keys.shape[2], key_states.shape[2]
        if self._end + new > self._buffers[0].shape[2]:
            self._move(self.keys, self.values)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self._end : self._end + new] = states
        self._end += new
        # Not from the first column on: columns that no row needs any more have been let go.
        self.keys, self.values = (buffer[:, :, self._end - new - held : self._end] for buffer in self._buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, with the room that there is behind them."""
        first = self._end - self.keys.shape[2]
        keys, values = (buffer[:, :, first:][indices] for buffer in self._buffers)
        self._hold(keys, values, self.keys.shape[2])

    def _move(self, keys: Tensor, values: Tensor) -> None:
        """Copy keys and values to a new place with room behind them."""
        self._hold(_right_aligned([keys], ROOM), _right_aligned([values], ROOM), keys.shape[2])

    def _hold(self, keys: Tensor, values: Tensor, tokens: int) -> None:
        """Let these be the place where keys and values of so many tokens lie."""
        self._buffers = (keys, values)
        self._end = tokens
        self.keys, self.values = keys[:, :, : self._end], values[:, :, : self._end]


# Tokens that are added before everything moves to a new place. More room is more memory.
ROOM = 32


def joined(caches: Sequence[list[KeysAndValues]], room: int = 0) -> list[KeysAndValues]:
    """Return keys and values of every layer of all rows of several caches, right-aligned, and room behind them."""
    return [
        (_right_aligned([keys for keys, _ in layer], room), _right_aligned([values for _, values in layer], room))
        for layer in zip(*caches, strict=True)
    ]


def _right_aligned(states: Sequence[Tensor], room: int) -> Tensor:
    """Stack keys or values of different numbers of tokens, padded on the left with zeros; the room is not filled."""
    rows, longest = sum(map(len, states)), max(state.shape[2] for state in states)
    stacked = states[0].new_empty(rows, states[0].shape[1], longest + room, states[0].shape[3])
    for part, state in zip(stacked.split([*map(len, states)]), states, strict=True):
        padding = longest - state.shape[2]
        part[:, :, :padding] = 0
        part[:, :, padding:longest] = state
    return stacked

"""KV caches that grow in place, and KV caches of rows that share the keys and values of their prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, DynamicLayer
from transformers.cache_utils import DynamicIndexedLayer, LinearAttentionCacheLayerMixin

from ambi_eval.engines.hf.attention import Prefixes, mask, shared_attention
from ambi_eval.engines.hf.prompts import KeysAndValues, Prefilled

# Free columns to allocate at a time; when they are used up, the cache is copied. More columns take more memory.
ROOM = 32
# There is a free row for every so many rows.
FREE_ROWS = 4


class GrowingLayer(DynamicLayer):
    """The KV cache of one layer, with free columns at its end: a new token is written there, nothing else moves.

    transformers' own layer copies the whole cache for each token.

    Attributes:
        prefixes: The prefixes of the rows, if they are shared; the layer itself then holds the suffixes.
        number: Which layer of the model it is.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, number: int, prefixes: Prefixes | None = None) -> None:
        """Take keys and values, each of shape (rows, heads, tokens + ROOM, head size), the last ROOM columns free."""
        super().__init__()
        self.number = number
        self.prefixes = prefixes
        self.lazy_initialization(keys, values)
        self._buffers = (keys, values)
        self._show(len(keys), 0, keys.shape[2] - ROOM)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> KeysAndValues:
        """Add the keys and values of new tokens, and return all; the keys carry the prefixes to `attention.attend`."""
        rows, new = len(self.keys), key_states.shape[2]
        if self._end + new > self._buffers[0].shape[2]:
            self._copy(torch.arange(rows, device=self.keys.device), new)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:rows, :, self._end : self._end + new] = states
        self._show(rows, self._first, self._end + new)
        if self.prefixes is not None:
            self.keys.shared = self.prefixes, self.number  # type: ignore[attr-defined]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return the number of tokens of the longest row."""
        return self.keys.shape[2] + (self.prefixes.length if self.prefixes is not None else 0)

    def drop_columns(self, most: int) -> None:
        """Keep at most this many columns, the newest ones."""
        self._show(len(self.keys), max(self._end - most, self._first), self._end)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows."""
        self._copy(indices)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Replace every row by the row of another beam; the prefix stays, because all beams of a prompt share it."""
        self._copy(beam_idx)

    def add_copies(self, indices: Tensor) -> None:
        """Add copies of these rows at the end; the others do not move as long as there are free rows."""
        before, rows = len(self.keys), len(self.keys) + len(indices)
        if rows > len(self._buffers[0]):
            self._copy(torch.cat([torch.arange(before, device=indices.device), indices]))
            return
        for buffer, states in zip(self._buffers, (self.keys, self.values), strict=True):
            buffer[before:rows, :, self._first : self._end] = states[indices]
        self._show(rows, self._first, self._end)

    def _copy(self, indices: Tensor, new: int = 0) -> None:
        """Copy these rows to a new place with free rows and columns at the end."""
        rows, held = len(indices), self.keys.shape[2]
        copies = []
        for states in (self.keys, self.values):
            shape = rows + rows // FREE_ROWS, states.shape[1], held + max(ROOM, new), states.shape[3]
            copies.append(states.new_empty(shape))
            torch.index_select(states, 0, indices, out=copies[-1][:rows, :, :held])
        self._buffers = (copies[0], copies[1])
        self._show(rows, 0, held)

    def _show(self, rows: int, first: int, end: int) -> None:
        """Let `keys` and `values` be these rows, and the columns from `first` up to `end`, of the buffers."""
        self._first, self._end = first, end
        self.keys, self.values = (buffer[:rows, :, first:end] for buffer in self._buffers)


class SharedCache(DynamicCache):
    """The KV cache of rows that share their prompts' keys and values and have none of their own yet."""

    def __init__(self, prompts: Sequence[Prefilled], unread: int = 0) -> None:
        """Begin the suffixes of rows.

        Args:
            prompts: The prompt of every row.
            unread: Tokens at the end of every prompt that are still to be read.
        """
        super().__init__()
        self.prefixes = Prefixes(prompts, unread)
        self.layers = [
            GrowingLayer(_right_aligned([keys], ROOM), _right_aligned([values], ROOM), number, self.prefixes)
            for number, (keys, values) in enumerate(prompts[0].expanded(len(prompts), 0))
        ]

    @contextmanager
    def attended(self, model: Any, visible: Tensor | None = None) -> Iterator[None]:
        """Let forward passes of a model in this context attend to the prefixes.

        Args:
            model: The model.
            visible: If its only forward pass reads several tokens of each row: which of them each one sees, bool, shape
                (tokens, tokens) or (rows, tokens, tokens).
        """
        if visible is not None:
            self.prefixes.suffix_mask = mask(visible if visible.dim() == 3 else visible[None])[:, None, None]
        with attending(model, self.prefixes):
            yield


@contextmanager
def attending(model: Any, prefixes: Prefixes) -> Iterator[None]:
    """Let forward passes of a model in this context attend to these prefixes.

    Raises:
        RuntimeError: If the model computed attention without them.
    """
    prefixes.calls = 0
    with shared_attention(model):
        yield
    if prefixes.calls == 0:
        raise RuntimeError(f"{type(model).__name__} computes attention elsewhere than transformers lets it")


def why_not_decoded(config: Any) -> str | None:
    """Return why the KV cache of a model with this configuration has no place here; None if it has.

    A cache here holds keys and values of tokens. Whatever else a model remembers would be lost between two tokens.
    """
    for layer in DynamicCache(config=config).layers:
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            return "its layers remember a running state (Mamba or short convolutions), not only keys and values"
        if isinstance(layer, DynamicIndexedLayer):
            return "its layers remember an index of the tokens to attend to, not only keys and values"
    return None


def joined(caches: Sequence[list[KeysAndValues]], room: int = 0) -> list[KeysAndValues]:
    """Return the rows of several caches as keys and values of every layer, right-aligned, free columns at the end."""
    return [
        (_right_aligned([keys for keys, _ in layer], room), _right_aligned([values for _, values in layer], room))
        for layer in zip(*caches, strict=True)
    ]


def keys_and_values(cache: Any) -> list[KeysAndValues]:
    """Return keys and values of every layer of a cache."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def _right_aligned(states: Sequence[Tensor], room: int) -> Tensor:
    """Stack keys or values of different numbers of tokens, padded with zeros on the left; free columns are not set."""
    rows, longest = sum(map(len, states)), max(state.shape[2] for state in states)
    stacked = states[0].new_empty(rows, states[0].shape[1], longest + room, states[0].shape[3])
    for part, state in zip(stacked.split([*map(len, states)]), states, strict=True):
        padding = longest - state.shape[2]
        part[:, :, :padding] = 0
        part[:, :, padding:longest] = state
    return stacked

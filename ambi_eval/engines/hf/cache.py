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
        self._hold(keys, values, keys.shape[2] - ROOM)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> KeysAndValues:
        """Add the keys and values of new tokens, and return all; the keys carry the prefixes to `attention.attend`."""
        held, new = self.keys.shape[2], key_states.shape[2]
        if self._end + new > self._buffers[0].shape[2]:
            self._move(self.keys, self.values, new)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self._end : self._end + new] = states
        self._end += new
        # This view may not begin at the first column, because `drop_columns` drops columns that no row needs.
        self.keys, self.values = (buffer[:, :, self._end - new - held : self._end] for buffer in self._buffers)
        if self.prefixes is not None:
            self.keys.shared = self.prefixes, self.number  # type: ignore[attr-defined]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return the number of tokens of the longest row."""
        return self.keys.shape[2] + (self.prefixes.length if self.prefixes is not None else 0)

    def drop_columns(self, most: int) -> None:
        """Keep at most this many columns, the newest ones."""
        first = max(self.keys.shape[2] - most, 0)
        self.keys, self.values = self.keys[:, :, first:], self.values[:, :, first:]

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, with the free columns at their end."""
        held = self.keys.shape[2]
        kept = []
        for buffer, states in zip(self._buffers, (self.keys, self.values), strict=True):
            columns = held + buffer.shape[2] - self._end
            kept.append(buffer.new_empty(len(indices), buffer.shape[1], columns, buffer.shape[3]))
            torch.index_select(states, 0, indices, out=kept[-1][:, :, :held])
        self._hold(kept[0], kept[1], held)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Replace every row by the row of another beam; the prefix stays, because all beams of a prompt share it."""
        self.batch_select_indices(beam_idx)

    def _move(self, keys: Tensor, values: Tensor, new: int) -> None:
        """Copy keys and values to a new place with free columns at the end."""
        room = max(ROOM, new)
        self._hold(_right_aligned([keys], room), _right_aligned([values], room), keys.shape[2])

    def _hold(self, keys: Tensor, values: Tensor, tokens: int) -> None:
        """Use these tensors as buffers; they hold the keys and values of this many tokens."""
        self._buffers = (keys, values)
        self._end = tokens
        self.keys, self.values = keys[:, :, : self._end], values[:, :, : self._end]


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

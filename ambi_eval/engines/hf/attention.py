"""Attention of many rows to prefixes that they share: each prefix is kept once, and read once for all of its rows.

All answers to a prompt begin with the same keys and values. Instead of a copy for each row, the KV cache of a row holds
its answer alone (the suffix). The scores of prefixes and suffix get one softmax, so attention is exact; sums are merely
taken in another order. The idea is that of Hydragen (Juravsky et al., 2024, arXiv 2402.05099).

transformers calls `attend` wherever a model computes attention, once it is registered; the model's code stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, DynamicCache, DynamicLayer, PreTrainedModel
from transformers.cache_utils import DynamicSlidingWindowLayer

from ambi_eval.engines.hf.prompts import KeysAndValues, Prefilled

NAME = "ambi_shared_prefix"


class Prefixes:
    """The prefixes of all rows of a batch.

    A row begins with tokens of the first prompt about its audio (level 0). If another prompt about this audio continues
    from there, its other tokens follow (level 1). Rows with the same beginning share both levels.

    Attributes:
        levels: One or two.
        length: Tokens of the longest prefix.
        suffix_mask: `mask` of the columns of the suffix that a row sees in this forward pass, shape
            (rows or 1, 1, 1, new tokens, columns); None if it sees all.
        calls: How many layers have computed their attention through it.
    """

    def __init__(
        self,
        rows: Sequence[Prefilled],
        unread: int = 0,
        before: Prefixes | None = None,
        hold: bool = False,
        answers: Sequence[int] | None = None,
    ) -> None:
        """Stack the prefixes of rows.

        Args:
            rows: The prompt of every row.
            unread: Tokens at the end of every prompt that do not belong to the prefix, because they are still to be
                read.
            before: The prefixes of the same batch before rows came or left; they are not used any more.
            hold: Whether the prompts from now on refer to the keys and values in here, so that at most one layer has a
                second copy at any time.
            answers: How many answers every row stands for, 1 by default: a prompt with several is likely to get more
                rows.
        """
        answers = answers or [1] * len(rows)
        levels = [([row.root for row in rows], [row.shared or row.length - unread for row in rows])]
        if any(row.shared for row in rows):
            levels.append((list(rows), [row.length - unread - row.shared if row.shared else 0 for row in rows]))
        known: list[Level] = before.levels if before else []
        self.levels: list[Level] = [
            Level(*level, answers, known[number] if number < len(known) else None, hold)
            for number, level in enumerate(levels)
            if max(level[1])
        ]
        self.length = max(row.length - unread for row in rows)
        self.device = rows[0].logits.device
        self.suffix_mask: Tensor | None = None
        self.calls = 0


class Level:
    """The prefixes that rows share at one level, each kept once.

    Every prefix of a stack gets as many slots as the one with the most rows. So prefixes of one answer have a stack of
    their own, and rows without tokens at this level share one slot.

    Attributes:
        stacks: One or two.
        places: The slot of every row among those of all stacks, shape (rows,); None if the rows are in this order.
    """

    def __init__(
        self,
        prompts: Sequence[Prefilled],
        seen: Sequence[int],
        answers: Sequence[int],
        before: Level | None,
        hold: bool,
    ) -> None:
        """Stack prefixes.

        Args:
            prompts: For every row, the prompt with whose `layers` it begins.
            seen: For every row, the number of tokens of these layers that it uses.
            answers: For every row, how many answers it stands for.
            before: The same level before rows came or left.
            hold: As for `Prefixes`.
        """
        first_empty = seen.index(0) if 0 in seen else 0
        stands_for = [row if tokens else first_empty for row, tokens in enumerate(seen)]
        rows_of: dict[Prefilled, list[int]] = {}
        for row in dict.fromkeys(stands_for):
            rows_of.setdefault(prompts[row], []).append(row)
        alone = {
            prompt
            for prompt, rows in rows_of.items()
            if len(rows) == 1 and (answers[rows[0]] <= 1 or not seen[rows[0]])
        }
        single = {prompt: rows for prompt, rows in rows_of.items() if prompt in alone}
        several = {prompt: rows for prompt, rows in rows_of.items() if prompt not in alone}
        self.stacks = [Stack(each, seen) for each in (single, several) if each]
        known: list[Stack] = before.stacks if before else []
        layers = [next((old.layers for old in known if old.same_as(stack)), None) for stack in self.stacks]
        for old in known:
            old.layers = []
        for stack, kept in zip(self.stacks, layers, strict=True):
            stack.layers = kept or stack.side_by_side(hold)
        order = [row for stack in self.stacks for rows in stack.rows for row in rows]
        device = self.stacks[0].layers[0][0].device
        self.places: Tensor | None = None
        if order != [*range(len(prompts))]:
            slot_of = {row: slot for slot, row in enumerate(order)}
            self.places = torch.tensor([slot_of[row] for row in stands_for], device=device)
        for stack in self.stacks:
            stack.place(seen, device, in_order=self.places is None and len(self.stacks) == 1)

    def by_row(self, states: Sequence[Tensor]) -> Tensor:
        """Bring the slots of every stack into rows.

        Shape (prefixes, heads, slots * n, size) for every stack becomes (rows, heads, n, size).
        """
        slots = [
            each.unflatten(2, (len(stack.rows[0]), -1)).transpose(1, 2).flatten(0, 1)
            for stack, each in zip(self.stacks, states, strict=True)
        ]
        together = slots[0] if len(slots) == 1 else torch.cat(slots)
        return together if self.places is None else together[self.places]


class Stack:
    """Prefixes side by side, padded on the right, each with the rows that begin with it.

    Attributes:
        prefixes: The prompts they belong to.
        lengths: Tokens of every prefix.
        tokens: Those of the longest; 1, which no row sees, if all are empty.
        rows: The row in each slot of each prefix; unused slots hold any of its rows.
        layers: Keys and values of every layer, each of shape (prefixes, heads, tokens, head size).
        slots: `rows` as a tensor, shape (prefixes, slots); None if they are all rows of the batch in their order.
        mask: `mask` of the tokens that a slot sees, shape (prefixes, 1, slots, 1, tokens); None if every slot sees all.
    """

    layers: list[KeysAndValues]
    slots: Tensor | None
    mask: Tensor | None

    def __init__(self, rows_of: dict[Prefilled, list[int]], seen: Sequence[int]) -> None:
        """Give these prompts slots for their rows; `seen` is that of `Level`."""
        most = max(map(len, rows_of.values()))
        self.prefixes = [*rows_of]
        self.lengths = [max(seen[row] for row in rows) for rows in rows_of.values()]
        self.tokens = max(*self.lengths, 1)
        self.rows = [rows + rows[:1] * (most - len(rows)) for rows in rows_of.values()]

    def same_as(self, other: Stack) -> bool:
        """Whether another stack has the same keys and values."""
        return (self.prefixes, self.lengths) == (other.prefixes, other.lengths)

    def side_by_side(self, hold: bool) -> list[KeysAndValues]:
        """Return keys and values of every layer; `hold` is that of `Prefixes`."""
        tokens, first = self.tokens, self.prefixes[0].layers[0][0]
        if len(self.prefixes) == 1 and not (hold and first.untyped_storage().nbytes() > first.nbytes):
            return [(keys[:, :, :tokens], values[:, :, :tokens]) for keys, values in self.prefixes[0].layers]

        def stacked(layer: int, which: int) -> Tensor:
            states = [prompt.layers[layer][which] for prompt in self.prefixes]
            together = states[0].new_zeros(len(states), states[0].shape[1], tokens, states[0].shape[3])
            for place, state, length in zip(together, states, self.lengths, strict=True):
                place[:, :length] = state[0, :, :length]
            return together

        layers = []
        for layer in range(len(self.prefixes[0].layers)):
            keys, values = stacked(layer, 0), stacked(layer, 1)
            layers.append((keys, values))
            for k, (prompt, length) in enumerate(zip(self.prefixes, self.lengths, strict=True)):
                if hold and length == prompt.layers[layer][0].shape[2]:
                    prompt.layers[layer] = keys[k, None, :, :length], values[k, None, :, :length]
        return layers

    def place(self, seen: Sequence[int], device: torch.device, in_order: bool) -> None:
        """Set `slots` and `mask`."""
        self.slots = None if in_order else torch.tensor(self.rows, device=device)
        visible = [[seen[row] for row in rows] for rows in self.rows]
        self.mask = None
        if min(map(min, visible)) < self.tokens:
            columns = torch.arange(self.tokens, device=device)
            self.mask = mask(columns < torch.tensor(visible, device=device)[:, None, :, None, None])

    def by_slot(self, states: Tensor) -> Tensor:
        """Bring rows into slots: (rows, heads, n, size) becomes (prefixes, heads, slots * n, size)."""
        states = states.unflatten(0, (len(self.prefixes), -1)) if self.slots is None else states[self.slots]
        return states.transpose(1, 2).flatten(2, 3)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Compute attention to prefixes and suffix, as transformers' attention functions do.

    Args:
        module: The attention layer.
        query: Queries of the new tokens, shape (rows, heads, new tokens, head size).
        key: Keys of the suffix, new tokens included, as `batch.GrowingLayer.update` returns them: they carry their
            prefixes. Shape (rows, key heads, columns, head size).
        value: Values of the suffix.
        attention_mask: Not used; the prefixes know what is hidden.
        scaling: Factor of the scores; by default 1 / sqrt(head size).
        options: Not used.

    Returns:
        The output of attention, shape (rows, new tokens, heads, head size), and None instead of its weights.
    """
    prefixes, layer = key.shared  # type: ignore[attr-defined]
    prefixes.calls += 1
    rows, heads, new, size = query.shape
    groups = heads // key.shape[1]  # heads of the query that share a head of the keys
    query = (query * (size**-0.5 if scaling is None else scaling)).reshape(rows, key.shape[1], groups * new, size)

    suffix = (query @ key.transpose(-1, -2)).float()
    if prefixes.suffix_mask is not None:
        suffix.unflatten(2, (groups, new)).add_(prefixes.suffix_mask)
    highest = suffix.amax(-1, keepdim=True)
    scores = []
    for level in prefixes.levels:
        of_level = []
        for stack in level.stacks:
            keys, _ = stack.layers[layer]
            of_stack = (stack.by_slot(query) @ keys.transpose(-1, -2)).float()
            if stack.mask is not None:
                of_stack.unflatten(2, (stack.mask.shape[2], -1)).add_(stack.mask)
            of_level.append(of_stack)
        highest = torch.maximum(highest, level.by_row([each.amax(-1, keepdim=True) for each in of_level]))
        scores.append(of_level)

    weights = _weights(suffix, highest, masked=prefixes.suffix_mask is not None)
    total = weights.sum(-1, keepdim=True)
    output = (weights.to(value.dtype) @ value).float()
    for level, of_level in zip(prefixes.levels, scores, strict=True):
        of_stacks = [
            (_weights(each, stack.by_slot(highest), masked=stack.mask is not None), stack.layers[layer][1])
            for stack, each in zip(level.stacks, of_level, strict=True)
        ]
        total = total + level.by_row([weights.sum(-1, keepdim=True) for weights, _ in of_stacks])
        output = output + level.by_row([(weights.to(values.dtype) @ values).float() for weights, values in of_stacks])
    output = (output / total).to(value.dtype)
    return output.view(rows, heads, new, size).transpose(1, 2), None


def mask(visible: Tensor) -> Tensor:
    """Return what to add to scores, float32: 0 where `visible` is True, else the lowest number."""
    return torch.where(visible, 0.0, torch.finfo(torch.float32).min)


def _weights(scores: Tensor, highest: Tensor, masked: bool) -> Tensor:
    """Return the exponentials of scores less the highest one of their row, in place of the scores."""
    scores.sub_(highest)
    return (scores.clamp_(min=LEAST) if masked else scores).exp_()


# The weight of a masked score is e to this power, 1.6e-38, which changes no sum. For lower powers, a CPU takes up to
# 25 times as long.
LEAST = -87.0
AttentionInterface.register(NAME, attend)


@contextmanager
def shared_attention(model: Any) -> Iterator[None]:
    """Let the language model of a model compute its attention by `attend`."""
    text = model.config.get_text_config()
    before = text._attn_implementation
    text._attn_implementation = {"": NAME}  # set for this part alone, not for the parts inside it
    try:
        yield
    finally:
        text._attn_implementation = {"": before}


def why_not_shared(model: Any) -> str | None:
    """Return why the rows of this model cannot share their prefixes; None if they can."""
    text = model.config.get_text_config()
    layers = DynamicCache(config=text).layers
    positions = getattr(text, "max_position_embeddings", None) or math.inf
    if any(layer.sliding_window < positions for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)):
        return "its attention has a sliding window"
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    if len(layers) != text.num_hidden_layers or any(type(layer) not in plain for layer in layers):
        return "some of its layers have no keys and values of their own"
    if any(getattr(text, name, None) for name in ("attn_logit_softcapping", "attention_sinks")):
        return "its attention scores are changed before the softmax"
    language = [each for each in model.modules() if isinstance(each, PreTrainedModel) and each.config is text]
    if not language or not getattr(language[-1], "_can_set_attn_implementation", bool)():
        return "its attention does not go through transformers' attention interface"
    return None

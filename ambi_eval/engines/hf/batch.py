"""Answers that are decoded together, and their KV cache."""

from __future__ import annotations

from collections import Counter
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
from ambi_eval.engines.hf.cache import FREE_ROWS, ROOM, GrowingLayer, attending, joined, keys_and_values
from ambi_eval.engines.hf.prompts import Prefilled


@dataclass(eq=False)
class Row:
    """One answer that is being decoded.

    Attributes:
        key: The key of its sampling noise (`sampling.keys.row_key`).
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

    Rows of one prompt with the same tokens so far are one branch: the model reads their tokens once, and its logits are
    those of each of them. A branch splits when its rows choose different tokens. So 20 answers of one word cost hardly
    more than its different words.

    The suffixes of branches (or, where they have copies of their prompts, prompts and answers) are right-aligned in the
    KV cache, so that the newest token of each is in the last column. Columns to the left of its first token are
    padding, which the attention mask hides.

    Attributes:
        rows: The rows.
        branches: The branch of every row.
        branch: The same as a tensor, int64, shape (rows,); None if every row is the only one of its branch, in order.
        prompts: The prompt of every branch.
        cache: KV cache of every branch, of all tokens but the newest.
        logits: Logits of every branch's next token, float32, shape (branches, vocabulary).
        keys: Noise key of every row, int64, shape (rows,).
        steps: How many tokens every row has, int64, shape (rows,).
        logprobs: Log-likelihood of every row so far, shape (rows,).
        by_settings: The rows with each settings; None if all rows have the same settings.
    """

    branch: Tensor | None
    logits: Tensor
    keys: Tensor
    steps: Tensor
    logprobs: Tensor
    by_settings: dict[GenerationSettings, Tensor] | None
    _first: Tensor | None  # a row of every branch; None as for `branch`
    _positions: Tensor  # of every branch's next token
    _lengths: Tensor  # columns of every branch's prompt in the KV cache: 0 where its keys and values are shared

    def __init__(self, model: Any) -> None:
        """Begin without rows."""
        self.model = model
        self._empty()

    def _empty(self) -> None:
        """Drop all rows with their KV cache."""
        self.rows: list[Row] = []
        self.branches: list[int] = []
        self.prompts: list[Prefilled] = []
        self.prefixes: Prefixes | None = None
        self.cache: Any = DynamicCache()

    def add(self, arrivals: Sequence[tuple[Prefilled, Sequence[Row]]], share_prefixes: bool) -> None:
        """Add the rows of prompts that have just been prefilled.

        Args:
            arrivals: The prompts with their rows.
            share_prefixes: Whether the rows share the keys and values of their prompts, or every branch gets a copy.
        """
        prompts = [*dict.fromkeys(prompt for prompt, _ in arrivals)]
        number = {prompt: len(self.prompts) + new for new, prompt in enumerate(prompts)}
        rows = [row for _, new in arrivals for row in new]
        branches = [number[prompt] for prompt, new in arrivals for _ in new]
        device = prompts[0].logits.device
        logits = torch.stack([prompt.logits for prompt in prompts])
        keys = torch.tensor([row.key for row in rows], device=device)
        steps = torch.zeros_like(keys)
        positions = torch.tensor([prompt.length + prompt.rope_delta for prompt in prompts], device=device)
        lengths = torch.tensor([0 if share_prefixes else prompt.length for prompt in prompts], device=device)
        logprobs = torch.zeros(len(rows), dtype=precise(device), device=device)
        if self.rows:
            logits = torch.cat([self.logits, logits])
            keys, steps = torch.cat([self.keys, keys]), torch.cat([self.steps, steps])
            positions, lengths = torch.cat([self._positions, positions]), torch.cat([self._lengths, lengths])
            logprobs = torch.cat([self.logprobs, logprobs])
        self.logits, self.keys, self.steps, self.logprobs = logits, keys, steps, logprobs
        self._positions, self._lengths = positions, lengths
        if self.rows and share_prefixes:
            for layer in self.cache.layers:
                layer.add_copies(keys.new_zeros(len(prompts)))  # of any row: the mask hides them as padding
        else:
            caches = [keys_and_values(self.cache)] if self.rows else []
            caches += [prompt.expanded(1, 0 if share_prefixes else None) for prompt in prompts]
            self.cache = DynamicCache()
            self.cache.layers = [GrowingLayer(*states, number) for number, states in enumerate(joined(caches, ROOM))]
        self.rows += rows
        self.branches += branches
        self.prompts += prompts
        self._branches_changed(share_prefixes)
        self._rows_changed()

    def keep(self, numbers: Sequence[int]) -> None:
        """Keep only the rows with these indices; their branches are dropped later, several at a time."""
        if not numbers:
            self._empty()
            return
        kept = torch.tensor(numbers, device=self.keys.device)
        self.rows = [self.rows[number] for number in numbers]
        self.branches = [self.branches[number] for number in numbers]
        self.keys, self.steps, self.logprobs = self.keys[kept], self.steps[kept], self.logprobs[kept]
        self._rows_changed()

    def advance(self, tokens: Tensor) -> None:
        """Let the model read a token of every row; afterwards `logits` are those of the next token.

        Args:
            tokens: The newest token of every row, int64, shape (rows,).
        """
        self._split()
        self.steps += 1
        device, steps = tokens.device, self.steps
        if self._first is not None:
            tokens, steps = tokens[self._first], steps[self._first]
        own = [0] * len(self.prompts)
        for row, branch in zip(self.rows, self.branches, strict=True):
            own[branch] = len(row.tokens) + (0 if self.prefixes else self.prompts[branch].length)
        width = max(own)
        for layer in self.cache.layers:
            layer.drop_columns(width - 1)
        visible = None
        if self.prefixes is None or min(own) < width:
            visible = (steps + self._lengths)[:, None] > torch.arange(width - 1, -1, -1, device=device)
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

    def _split(self) -> None:
        """Split branches whose rows have different newest tokens; drop those without rows if they are many."""
        alike: dict[tuple[int, int], list[int]] = {}
        for number, (row, branch) in enumerate(zip(self.rows, self.branches, strict=True)):
            alike.setdefault((branch, row.tokens[-1]), []).append(number)
        origins = [branch for branch, _ in alike]
        before, used = len(self.prompts), len(set(origins))
        dropped = used <= MOST_USED * before
        if len(origins) == used and not dropped:
            return
        places = [*range(len(origins))]
        if added := not dropped and len(origins) - used <= before // FREE_ROWS:  # the others stay where they are
            first = {branch: place for place, branch in reversed([*enumerate(origins)])}
            more = [place for place in places if first[origins[place]] != place]
            places = [before + more.index(place) if place in more else origins[place] for place in places]
            origins = [*range(before), *(origins[place] for place in more)]
        for place, numbers in zip(places, alike.values(), strict=True):
            for number in numbers:
                self.branches[number] = place
        self.prompts = [self.prompts[branch] for branch in origins]
        kept = torch.tensor(origins, device=self.keys.device)
        self._positions, self._lengths = self._positions[kept], self._lengths[kept]
        for layer in self.cache.layers:
            layer.add_copies(kept[before:]) if added else layer.batch_select_indices(kept)
        self._branches_changed(self.prefixes is not None)
        self._place()

    def _branches_changed(self, share_prefixes: bool) -> None:
        """Stack the prefixes of the prompts of all branches anew."""
        count = Counter(self.branches)
        answers = [count[number] for number in range(len(self.prompts))]
        self.prefixes = Prefixes(self.prompts, 0, self.prefixes, True, answers) if share_prefixes else None
        for layer in self.cache.layers:
            layer.prefixes = self.prefixes

    def _rows_changed(self) -> None:
        """Update everything that depends on the set of rows."""
        groups: dict[GenerationSettings, list[int]] = {}
        for number, row in enumerate(self.rows):
            groups.setdefault(row.settings, []).append(number)
        device = self.keys.device
        self.by_settings = (
            {settings: torch.tensor(numbers, device=device) for settings, numbers in groups.items()}
            if len(groups) > 1
            else None
        )
        self._place()

    def _place(self) -> None:
        """Update which row has which branch."""
        self.branch = self._first = None
        if self.branches != [*range(len(self.prompts))]:
            first = {branch: number for number, branch in reversed([*enumerate(self.branches)])}
            device = self.keys.device
            self.branch = torch.tensor(self.branches, device=device)
            # A branch that no row has any more reads any token.
            self._first = torch.tensor([first.get(number, 0) for number in range(len(self.prompts))], device=device)


# Branches without rows stay in the KV cache while more than this share of all branches has rows.
MOST_USED = 0.8

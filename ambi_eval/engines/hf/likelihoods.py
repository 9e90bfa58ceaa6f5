"""The log-likelihoods of given continuations of prompts about several clips, from one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch

from ambi_eval.engines.base import Likelihood
from ambi_eval.engines.hf.batch import precise
from ambi_eval.engines.hf.prefill import Prefiller
from ambi_eval.engines.hf.prompts import Continuation, Prefilled, Prompt


class Tree:
    """Sequences of tokens whose equal beginnings are there once.

    Attributes:
        tokens: Its tokens, each after those that come before it in a sequence.
        depths: How many tokens come before each one in its sequence.
    """

    def __init__(self) -> None:
        """Begin without sequences."""
        self.tokens: list[int] = []
        self.depths: list[int] = []
        self._after: dict[tuple[int, int], int] = {}

    def add(self, sequence: Sequence[int]) -> list[int]:
        """Add a sequence, and return the index of each of its tokens in `tokens`."""
        places: list[int] = []
        for token in sequence:
            step = places[-1] if places else -1, token
            if step not in self._after:
                self._after[step] = len(self.tokens)
                self.tokens.append(token)
                self.depths.append(len(places))
            places.append(self._after[step])
        return places

    def visible(self, width: int) -> np.ndarray:
        """Return which tokens each token sees: itself and those before it in its sequence; shape (width, width)."""
        seen = np.eye(width, dtype=bool)
        for (before, _), place in self._after.items():
            if before >= 0:
                seen[place] |= seen[before]
        return seen


@torch.inference_mode()
def loglikelihoods(
    prefiller: Prefiller, prompts: Sequence[Prompt], encoded: Sequence[Prefilled]
) -> list[list[Likelihood]]:
    """Return for each continuation of each prompt its log-likelihood, and whether greedy decoding gives it.

    All that follows on a beginning of a prompt is one row, in which equal tokens are read once. Where prefixes are not
    shared, every prompt has a pass of its own, with a row for each continuation.

    Args:
        prefiller: Reads the prompts.
        prompts: The prompts.
        encoded: The result of `Prefiller.encode` for each of them.
    """
    if prefiller.shares_prefixes:
        return _in_one_pass(prefiller, prompts, [*map(prefiller.beginning, prompts, encoded)])
    prefilled = zip(prompts, prefiller.prefill(prompts, encoded), strict=True)
    return [_in_one_pass(prefiller, [prompt], [each.beginning(each.length)])[0] for prompt, each in prefilled]


def _in_one_pass(
    prefiller: Prefiller, prompts: Sequence[Prompt], beginnings: Sequence[Prefilled]
) -> list[list[Likelihood]]:
    """Return the same from one forward pass after the beginning of each prompt."""
    rows: list[tuple[Prefilled, Tree]] = []
    row_of: dict[tuple[Prefilled, int], int] = {}
    steps: list[list[tuple[int, int]]] = []  # for each continuation, the places before and after each of its tokens
    for prompt, beginning in zip(prompts, beginnings, strict=True):
        rest, begun = prompt.tokens[beginning.length :], (beginning.root, beginning.length)
        prefiller.counts["prefills"] += bool(rest)
        for each in prompt.continuations:
            if begun not in row_of or not prefiller.shares_prefixes:
                row_of[begun] = len(rows)
                rows.append((beginning, Tree()))
            row = row_of[begun]
            places = [-1, *rows[row][1].add([*rest, *each.tokens])]
            steps.append([(row, place) for place in places[len(rest) :]])
    # Every place once; the logits of place -1, the end of a beginning, are known.
    places_once = dict.fromkeys(chain([(row, -1) for row in range(len(rows))], *steps))
    index = {place: number for number, place in enumerate(places_once)}
    device, width = prefiller.model.device, max(len(tree.tokens) for _, tree in rows)
    output = prefiller.go_on(
        [beginning for beginning, _ in rows],
        [tree.tokens for _, tree in rows],
        [*index][len(rows) :],
        torch.tensor([tree.depths + [0] * (width - len(tree.depths)) for _, tree in rows], device=device),
        torch.from_numpy(np.stack([tree.visible(width) for _, tree in rows])).to(device),
    )
    logits = torch.cat([torch.stack([beginning.logits for beginning, _ in rows]), output.logits[:, 0].float()])
    logprobs = logits.log_softmax(-1, dtype=precise(device))
    placeholders = torch.tensor(prefiller.family.placeholder_ids, dtype=torch.long, device=device)
    greedy = logits.index_fill_(-1, placeholders, -torch.inf).argmax(-1).tolist()
    end_ids = prefiller.family.end_ids
    of_ends = logprobs[:, end_ids].logsumexp(-1).tolist()
    numbers = iter([[index[place] for place in each] for each in steps])

    def likelihood(wanted: Continuation) -> Likelihood:
        *before, end = next(numbers)
        logprob = logprobs[before, wanted.tokens].sum().item()
        is_greedy = [greedy[step] for step in before] == wanted.tokens
        if not wanted.ends:
            return logprob, is_greedy
        return logprob + of_ends[end], is_greedy and greedy[end] in end_ids

    return [[likelihood(each) for each in prompt.continuations] for prompt in prompts]

"""Prefill: audio and question go through the model once; the KV cache and the first logits are kept for all answers.

The first prompt about an audio goes through the model together with it. On a GPU, those of several audios go together
where the family hides the padding of shorter ones (`Family.encodes_together`); elsewhere the result would depend on the
neighbors. On a CPU the encoder gets one audio at a time: what the padding costs is more than what it gains there. All
further prompts about an audio, of any strategy or verifier, begin with the same tokens. So the model reads only the
tokens in which they differ, several prompts together.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from ambi_eval.engines.hf.attention import why_not_shared
from ambi_eval.engines.hf.cache import SharedCache, keys_and_values
from ambi_eval.engines.hf.families import Family
from ambi_eval.engines.hf.prompts import Prefilled, Prompt
from ambi_eval.errors import AmbiError

logger = logging.getLogger(__name__)


class Prefiller:
    """Lets a model read prompts.

    Attributes:
        counts: Counts `encodes` (audios) and `prefills` (prompts).
        at_once: Prompts with audio that go through the model at once.
        shares_prefixes: Whether rows share the keys and values of their prompts instead of a copy each.
        audio: For each `Prompt.heard`, a prefilled prompt from which others can continue. An entry lives as long as the
            caller holds a prompt about that audio.
    """

    def __init__(self, family: Family, counts: Counter[str], share_prefixes: bool = True) -> None:
        """Set up for a model."""
        self.family = family
        self.model = family.model
        self.counts = counts
        self.at_once = TOGETHER if family.encodes_together and family.model.device.type != "cpu" else 1
        reason = why_not_shared(family.model) if share_prefixes else None
        if reason is not None:
            logger.info("every answer gets a copy of its prompt's KV cache: %s", reason)
        self.shares_prefixes = share_prefixes and reason is None
        self.audio: WeakValueDictionary[Hashable, Prefilled] = WeakValueDictionary()

    @torch.inference_mode()
    def encode(self, prompts: Sequence[Prompt]) -> list[Prefilled]:
        """Return for each prompt a prefilled prompt about its audio: itself, if it is the first one about it.

        Raises:
            AmbiError: If a prompt and its answer are longer than the model allows.
        """
        for prompt in prompts:
            self._check_length(prompt)
        names = [prompt if prompt.heard is None else prompt.heard for prompt in prompts]
        encoded = {name: audio for name in names if (audio := self.audio.get(name)) is not None}
        first = {name: prompt for name, prompt in reversed([*zip(names, prompts, strict=True)]) if name not in encoded}
        by_length = sorted(first, key=lambda name: (sorted(first[name].inputs), first[name].length))
        for _, group in groupby(by_length, lambda name: sorted(first[name].inputs)):  # with audio, or without
            alike = [*group]
            for some in (alike[start : start + self.at_once] for start in range(0, len(alike), self.at_once)):
                encoded |= zip(some, self._whole([first[name] for name in some]), strict=True)
        self.audio.update({name: encoded[name] for name in first if first[name].heard is not None})
        return [encoded[name] for name in names]

    @torch.inference_mode()
    def prefill(
        self, prompts: Sequence[Prompt], encoded: Sequence[Prefilled], from_the_audio: bool = False
    ) -> list[Prefilled]:
        """Prefill prompts whose audio is encoded; consecutive prompts about one audio go together.

        Args:
            prompts: The prompts.
            encoded: The result of `encode` for each of them.
            from_the_audio: Whether each prompt, the first one about its audio included, goes on from the end of its
                audio. By default it goes on from where it differs from the first one, which is faster, but then the
                last digit of the results depends on which prompt came first.
        """
        prefilled: list[Prefilled] = []
        for audio, group in groupby(zip(prompts, encoded, strict=True), lambda pair: pair[1]):
            prefilled += self._together([prompt for prompt, _ in group], audio, from_the_audio)
        return prefilled

    def _check_length(self, prompt: Prompt) -> None:
        limit = self.family.max_positions
        if limit is not None and prompt.length + prompt.answer_length > limit:
            raise AmbiError(
                f"a prompt of {prompt.length} tokens and {prompt.answer_length} of its answer (max_gen_toks) are "
                f"more than the {limit} positions of the model; lower max_gen_toks or shorten the prompt"
            )

    def _together(self, prompts: Sequence[Prompt], audio: Prefilled, from_the_audio: bool) -> list[Prefilled]:
        """Prefill different prompts about one audio, each of them once, from tokens on that they share with the first.

        The arguments are those of `prefill`.
        """
        end = self._end_of_audio(audio) if from_the_audio else 0
        found = {} if end else {tuple(audio.input_ids[0].tolist()): audio}
        going_on: dict[tuple[int, ...], Prompt] = {}
        shared = end or audio.length  # tokens that all of them share with the first one
        names = [tuple(prompt.inputs["input_ids"][0].tolist()) for prompt in prompts]
        for name, prompt in zip(names, prompts, strict=True):
            if name in found or name in going_on:
                continue
            if same := self._same(prompt, audio):
                going_on[name], shared = prompt, min(shared, same)
            else:
                (found[name],) = self._whole([prompt])
        if going_on:
            found |= zip(going_on, self._rest([*going_on.values()], audio, shared), strict=True)
        return [found[name] for name in names]

    def _end_of_audio(self, prompt: Prefilled) -> int:
        """Return how many tokens a prompt has up to the end of its last audio; 0 if there is none."""
        placeholders = torch.tensor(self.family.placeholder_ids, device=prompt.input_ids.device)
        (places,) = torch.isin(prompt.input_ids[0], placeholders).nonzero(as_tuple=True)
        return int(places[-1]) + 1 if len(places) else 0

    def _same(self, prompt: Prompt, audio: Prefilled) -> int:
        """Return how many tokens at the beginning, the audio among them, a prompt shares with the first one about it.

        0 where the prompt cannot be prefilled from there: audio follows after them, or the family makes it impossible
        (token types; KV caches of a sliding window, which forget).
        """
        if any("token_type" in name for name in prompt.inputs):
            return 0
        ids, before = prompt.inputs["input_ids"][0].to(audio.input_ids.device), audio.input_ids[0]
        most = min(len(ids) - 1, len(before))
        same = int((ids[:most] == before[:most]).long().cumprod(0).sum())
        placeholders = torch.tensor(self.family.placeholder_ids, dtype=ids.dtype, device=ids.device)
        if torch.isin(ids[same:], placeholders).any() or any(keys.shape[2] < audio.length for keys, _ in audio.layers):
            return 0
        return same

    def _whole(self, prompts: Sequence[Prompt]) -> list[Prefilled]:
        """Let prompts go through the model with their audio, padded on the right to the longest."""
        inputs = {
            name: value.to(self.model.device, self.model.dtype if value.is_floating_point() else None)
            for name, value in self._side_by_side([prompt.inputs for prompt in prompts]).items()
        }
        self.counts["encodes"] += sum(prompt.audios for prompt in prompts)
        output = self._forward(inputs, DynamicCache(), torch.tensor([prompt.length - 1 for prompt in prompts]))
        layers = keys_and_values(output.past_key_values)
        return [
            Prefilled(
                [
                    (keys[row, None, :, : prompt.length], values[row, None, :, : prompt.length])
                    for keys, values in layers
                ],
                output.logits[row, -1].float(),
                inputs["input_ids"][row, None, : prompt.length],
                self.family.rope_delta,
            )
            for row, prompt in enumerate(prompts)
        ]

    @staticmethod
    def _side_by_side(inputs: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return what the model reads of several prompts; masks are 0 where the others are padded."""
        together = {}
        for name in inputs[0]:
            values = [each[name] for each in inputs]
            most = [max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=True)]
            fill = int(values[0][0, -1]) if name == "input_ids" else 0  # no token that stands for audio
            missing = [
                [side for size, full in zip(value.shape[:0:-1], most[::-1], strict=True) for side in (0, full - size)]
                for value in values
            ]
            together[name] = torch.cat([pad(*each, value=fill) for each in zip(values, missing, strict=True)])
        return together

    def _rest(self, prompts: Sequence[Prompt], audio: Prefilled, start: int) -> list[Prefilled]:
        """Prefill each prompt after its first `start` tokens, which it shares with the first prompt."""
        device = audio.input_ids.device
        all_ids = [prompt.inputs["input_ids"].to(device) for prompt in prompts]
        lengths = [prompt.length for prompt in prompts]
        # Shorter prompts are padded on the right; causal attention hides that padding from their own tokens.
        unread = [
            torch.cat([ids[:, start:], ids[:, -1:].expand(1, max(lengths) - length)], dim=1)
            for ids, length in zip(all_ids, lengths, strict=True)
        ]
        rows, new = len(prompts), max(lengths) - start
        inputs = {
            "input_ids": torch.cat(unread),
            "position_ids": (torch.arange(start, max(lengths), device=device) + audio.rope_delta).expand(rows, -1),
        }
        ends = torch.tensor(lengths) - start - 1
        if self.shares_prefixes:
            beginning = Prefilled(audio.expanded(1, start), audio.logits, audio.input_ids[:, :start], audio.rope_delta)
            cache = SharedCache([beginning] * rows)
            with cache.attended(self.model, new):
                output = self._forward(inputs, cache, ends)
            shared = start
        else:
            inputs["attention_mask"] = torch.ones(rows, max(lengths), dtype=torch.long, device=device)
            output = self._forward(inputs, DynamicCache(audio.expanded(rows, start)), ends)
            shared = 0
        layers = keys_and_values(output.past_key_values)
        return [
            Prefilled(
                [
                    (keys[row, None, :, : length - shared], values[row, None, :, : length - shared])
                    for keys, values in layers
                ],
                output.logits[row, -1].float(),
                all_ids[row],
                audio.rope_delta,
                audio,
                shared,
            )
            for row, length in enumerate(lengths)
        ]

    def _forward(self, inputs: Mapping[str, Tensor], cache: DynamicCache, ends: Tensor) -> Any:
        self.counts["prefills"] += len(ends)
        with _only(ends, self.model):
            return self.model(**inputs, past_key_values=cache, use_cache=True)


# On a GPU, so many prompts with audio go through the model at once.
TOGETHER = 8


@contextmanager
def _only(positions: Tensor, model: Any) -> Iterator[None]:
    """Let the LM head see one position of each row: with 152k tokens in the vocabulary, all logits take gigabytes."""
    rows = torch.arange(len(positions))
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda head, hidden: (hidden[0][rows, positions][:, None],)
    )
    try:
        yield
    finally:
        handle.remove()

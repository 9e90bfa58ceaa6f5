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
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, TypeVar
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
    def prefill(self, prompts: Sequence[Prompt], encoded: Sequence[Prefilled]) -> list[Prefilled]:
        """Prefill prompts whose audio is encoded (`encoded` is the result of `encode`), equal ones once."""
        names = [(audio, tuple(prompt.tokens)) for prompt, audio in zip(prompts, encoded, strict=True)]
        different = dict(zip(names, prompts, strict=True))
        begun = {name: self.beginning(prompt, name[0]) for name, prompt in different.items()}
        found = {name: beginning.audio for name, beginning in begun.items()}

        def unread(name: tuple[Prefilled, tuple[int, ...]]) -> int:
            return len(name[1]) - begun[name].length

        def fit(some: Sequence[tuple[Prefilled, tuple[int, ...]]]) -> bool:
            of_one_audio = len({audio for audio, _ in some}) == 1
            return len(some) * unread(some[-1]) <= TOKENS_AT_ONCE and (self.shares_prefixes or of_one_audio)

        others = sorted(filter(unread, different), key=unread)
        if not self.shares_prefixes:  # copies in one pass have one length
            others.sort(key=lambda name: id(name[0]))
            for name in others:
                begun[name] = name[0].beginning(min(begun[each].length for each in others if each[0] is name[0]))
        for some in in_passes(others, fit):
            read = self._rest([different[name] for name in some], [begun[name] for name in some])
            found |= zip(some, read, strict=True)
        return [found[name] for name in names]

    def beginning(self, prompt: Prompt, audio: Prefilled) -> Prefilled:
        """Return the tokens of a prompt that have been read with the first prompt about its audio.

        These are all tokens only if the two are equal. A prompt that cannot go on from the first one is read whole:
        audio follows on what they share, or the family makes it impossible (token types; KV caches of a sliding window,
        which forget).
        """
        ids, before = prompt.inputs["input_ids"][0].to(audio.input_ids.device), audio.input_ids[0]
        if torch.equal(ids, before):
            return audio.beginning(prompt.length)
        most = min(len(ids) - 1, len(before))
        same = int((ids[:most] == before[:most]).long().cumprod(0).sum())
        forgets = any(keys.shape[2] < audio.length for keys, _ in audio.layers)
        typed = any("token_type" in name for name in prompt.inputs)
        if forgets or typed or self.after_audio(prompt) < len(ids) - same:
            return self._whole([prompt])[0].beginning(prompt.length)
        return audio.beginning(same)

    def after_audio(self, prompt: Prompt) -> int:
        """Return how many tokens of a prompt come after its last audio."""
        heard = torch.isin(prompt.inputs["input_ids"][0], torch.tensor(self.family.placeholder_ids))
        return int(heard.flip(0).long().cumsum(0).eq(0).sum())

    def _check_length(self, prompt: Prompt) -> None:
        limit = self.family.max_positions
        if limit is not None and prompt.length + prompt.answer_length > limit:
            raise AmbiError(
                f"a prompt of {prompt.length} tokens and {prompt.answer_length} of its answer (max_gen_toks) are "
                f"more than the {limit} positions of the model; lower max_gen_toks or shorten the prompt"
            )

    def _whole(self, prompts: Sequence[Prompt]) -> list[Prefilled]:
        """Let prompts go through the model with their audio, padded on the right to the longest."""
        inputs = {
            name: value.to(self.model.device, self.model.dtype if value.is_floating_point() else None)
            for name, value in self._side_by_side([prompt.inputs for prompt in prompts]).items()
        }
        self.counts["encodes"] += sum(prompt.audios for prompt in prompts)
        self.counts["prefills"] += len(prompts)
        output = self._forward(inputs, DynamicCache(), [(row, prompt.length - 1) for row, prompt in enumerate(prompts)])
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

    def _rest(self, prompts: Sequence[Prompt], beginnings: Sequence[Prefilled]) -> list[Prefilled]:
        """Prefill prompts after their beginnings."""
        self.counts["prefills"] += len(prompts)
        unread = [prompt.tokens[start.length :] for prompt, start in zip(prompts, beginnings, strict=True)]
        output = self.go_on(beginnings, unread, [(row, len(each) - 1) for row, each in enumerate(unread)])
        layers = keys_and_values(output.past_key_values)
        read = []
        for row, (prompt, start) in enumerate(zip(prompts, beginnings, strict=True)):
            shared = start.length if self.shares_prefixes else 0
            own = slice(prompt.length - shared)
            of_row = [(keys[row, None, :, own], values[row, None, :, own]) for keys, values in layers]
            ids = prompt.inputs["input_ids"].to(self.model.device)
            read.append(Prefilled(of_row, output.logits[row, -1].float(), ids, start.rope_delta, start.audio, shared))
        return read

    def go_on(
        self,
        beginnings: Sequence[Prefilled],
        tokens: Sequence[Sequence[int]],
        wanted: Sequence[tuple[int, int]],
        depths: Tensor | None = None,
        visible: Tensor | None = None,
    ) -> Any:
        """Let the model read more tokens after beginnings of prompts, one row for each, padded on the right.

        Args:
            beginnings: The beginning of every row; where prefixes are not shared, of one length and of one prompt.
            tokens: What the model reads after it, in every row.
            wanted: Row and column of the tokens whose logits are wanted.
            depths: How many tokens each token comes after its beginning, shape (rows, tokens); by default its column.
            visible: Which tokens of its row each token sees, bool, shape (rows, tokens, tokens); by default those up to
                itself. Only where prefixes are shared.

        Returns:
            The output of the model; `logits` has the shape (wanted, 1, vocabulary).
        """
        width, device = max(map(len, tokens)), self.model.device
        starts = torch.tensor([[each.length + each.rope_delta] for each in beginnings], device=device)
        columns = torch.arange(width, device=device)
        inputs = {
            "input_ids": torch.tensor([[*each, *[each[-1]] * (width - len(each))] for each in tokens], device=device),
            "position_ids": starts + (columns if depths is None else depths),
        }
        cache: DynamicCache
        if self.shares_prefixes:
            cache = SharedCache(beginnings)
            with cache.attended(self.model, columns <= columns[:, None] if visible is None else visible):
                return self._forward(inputs, cache, wanted)
        known = beginnings[0].length
        inputs["attention_mask"] = torch.ones(len(tokens), known + width, dtype=torch.long, device=device)
        cache = DynamicCache(beginnings[0].root.expanded(len(tokens), known))
        return self._forward(inputs, cache, wanted)

    def _forward(self, inputs: Mapping[str, Tensor], cache: DynamicCache, wanted: Sequence[tuple[int, int]]) -> Any:
        with _only(wanted, self.model):
            return self.model(**inputs, past_key_values=cache, use_cache=True)


# On a GPU, so many prompts with audio go through the model at once.
TOGETHER = 8
# So many tokens of other prompts do, padding included.
TOKENS_AT_ONCE = 2048


Item = TypeVar("Item")


def in_passes(items: Iterable[Item], fit: Callable[[list[Item]], bool]) -> Iterator[list[Item]]:
    """Yield consecutive items together, as many as fit."""
    some: list[Item] = []
    for item in items:
        if some and not fit([*some, item]):
            yield some
            some = []
        some.append(item)
    if some:
        yield some


@contextmanager
def _only(wanted: Sequence[tuple[int, int]], model: Any) -> Iterator[None]:
    """Let the LM head see these rows and columns: with 152k tokens in the vocabulary, all logits take gigabytes."""
    rows, columns = torch.tensor(wanted).T
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda head, hidden: (hidden[0][rows, columns][:, None],)
    )
    try:
        yield
    finally:
        handle.remove()

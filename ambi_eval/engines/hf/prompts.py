"""Prompts before and after prefill, and the answers whose likelihoods are asked for."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from transformers import BatchFeature

from ambi_eval.config.generation import GenerationSettings

KeysAndValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Continuation:
    """An answer whose likelihood is asked for.

    Attributes:
        tokens: Its tokens, at least one.
        ends: Whether the model must end its turn after it. Its probability is the sum over all tokens that end a turn.
    """

    tokens: list[int]
    ends: bool


@dataclass(eq=False)
class Prompt:
    """One clip with its question, and the wanted result: answers, or the likelihoods of given ones.

    Attributes:
        inputs: What the model reads, as `Family.model_inputs` gives it.
        keys: The noise key of every answer that is wanted (`sampling.keys.row_key`); for beam search, one for each of
            the best beams that are wanted.
        settings: How they are generated.
        continuations: The answers whose likelihoods are wanted.
        audios: Number of audios in it.
        heard: Identifies its audios; prompts with the same value share the work on them. None: never shared.
        owner: Anything by which the caller recognizes the prompt.
    """

    inputs: BatchFeature
    keys: Sequence[int] = ()
    settings: GenerationSettings = field(default_factory=GenerationSettings)
    continuations: Sequence[Continuation] = ()
    audios: int = 1
    heard: Hashable = None
    owner: Any = None

    @property
    def length(self) -> int:
        """Number of tokens, those that stand for audio included."""
        return self.inputs["input_ids"].shape[1]

    @property
    def tokens(self) -> list[int]:
        """Its tokens, those that stand for audio included."""
        return self.inputs["input_ids"][0].tolist()

    @property
    def rows(self) -> int:
        """Number of answers: rows of a batch."""
        return len(self.continuations) or len(self.keys)

    @property
    def answer_length(self) -> int:
        """Number of tokens of its longest answer, at most."""
        return max((len(each.tokens) for each in self.continuations), default=self.settings.most_tokens)


@dataclass(eq=False)
class Prefilled:
    """A prompt that has gone through the model, with everything that its answers need.

    Attributes:
        layers: Keys and values of every layer, each of shape (1, heads, tokens, head size), without those of the
            `shared` tokens.
        logits: Logits of the first answer token, float32, shape (vocabulary,).
        input_ids: Its tokens, those that stand for audio included, shape (1, tokens).
        rope_delta: Number that is added to the position of every later token.
        first: The first prompt about the same audio; None if it is this one.
        shared: Tokens at the beginning whose keys and values are those of the first prompt about the same audio.
    """

    layers: list[KeysAndValues]
    logits: Tensor
    input_ids: Tensor
    rope_delta: int
    first: Prefilled | None = None
    shared: int = 0

    @property
    def root(self) -> Prefilled:
        """The prompt that holds the keys and values of its first tokens."""
        return self.first if self.first is not None and self.shared else self

    @property
    def audio(self) -> Prefilled:
        """The first prompt about the same audio, from which all others go on."""
        return self.first or self

    @property
    def length(self) -> int:
        """Number of tokens."""
        return self.input_ids.shape[1]

    def beginning(self, tokens: int) -> Prefilled:
        """Return the first tokens of a prompt, from which others go on; the logits are those of the whole prompt."""
        none = [(keys[:, :, :0], values[:, :, :0]) for keys, values in self.layers]
        return Prefilled(none, self.logits, self.input_ids[:, :tokens], self.rope_delta, self, tokens)

    def expanded(self, rows: int, tokens: int | None = None) -> list[KeysAndValues]:
        """Return keys and values of the first `tokens` tokens (all by default) for this many rows, without copying."""
        return [
            (keys[:, :, :tokens].expand(rows, -1, -1, -1), values[:, :, :tokens].expand(rows, -1, -1, -1))
            for keys, values in self.layers
        ]

"""Forward FLOPs of an audio-language model as functions of seconds of audio and tokens: encoder, prefill, decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ForwardFlops:
    """What a model's forward passes cost, in floating-point operations; a multiplication and an addition are two.

    Matrix products and convolutions are counted, as torch's own counter does; norms, activations and softmax are not.
    Attention counts over the whole context, as if there were no mask. Of a prompt, the logits of its last token count.

    Attributes:
        seconds: Lengths of audio at which the encoder was counted, in ascending order.
        audio: What it costs to hear an audio of each of these lengths: encoder and projector.
        longest: Longest audio that the model hears, in seconds; None where there is no such limit.
        token: A token in all layers of the language model, without its attention to others.
        attention: The attention of one token to one token.
        head: The logits of one token.
    """

    seconds: Sequence[float]
    audio: Sequence[float]
    longest: float | None
    token: float
    attention: float
    head: float

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> ForwardFlops:
        """Return what the results of a run hold; older runs name one window of audio instead of several lengths."""
        if "window" not in given:
            return cls(**given)
        language = {name: given[name] for name in ("token", "attention", "head")}
        return cls([given["window_seconds"]], [given["window"]], None, **language)

    def encoder(self, seconds: float) -> float:
        """Return the cost of hearing an audio of so many seconds.

        Between two counted lengths it is interpolated. Audio below the shortest counts as that; audio above the longest
        as whole pieces of it and the rest.
        """
        pieces, rest = divmod(min(seconds, self.longest or inf), self.seconds[-1])
        return pieces * self.audio[-1] + (float(np.interp(rest, self.seconds, self.audio)) if rest else 0.0)

    def prefill(self, tokens: float) -> float:
        """Return the cost of reading a prompt of so many tokens, audio among them, up to the logits of the last one."""
        return tokens * self.token + tokens**2 * self.attention + self.head

    def decode(self, tokens: float, prompt: float) -> float:
        """Return the cost of generating so many tokens after a prompt, each in a forward pass of its own.

        The first token comes from the logits of the prompt, so that n tokens are n - 1 passes.
        """
        passes = max(tokens - 1, 0)
        context = passes * (prompt + (passes + 1) / 2)
        return passes * (self.token + self.head) + context * self.attention

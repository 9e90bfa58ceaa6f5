"""Forward FLOPs of an audio-language model as functions of seconds of audio and tokens: encoder, prefill, decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ForwardFlops:
    """The cost of a model's forward passes in FLOPs; a multiplication and an addition are two operations.

    As in torch's own counter, matrix products and convolutions count, but norms, activations and softmax do not.
    Attention counts over the whole context, as if there were no mask. Only the last token of a prompt needs logits.

    Attributes:
        seconds: Lengths of audio at which the encoder was counted, in ascending order.
        audio: FLOPs of encoder and projector for an audio of each of these lengths.
        longest: Longest audio that the model hears, in seconds; None if there is no limit.
        token: FLOPs of one token in all layers of the language model, without attention to other tokens.
        attention: FLOPs of the attention of one token to one token.
        head: FLOPs of the logits of one token.
    """

    seconds: Sequence[float]
    audio: Sequence[float]
    longest: float | None
    token: float
    attention: float
    head: float

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> ForwardFlops:
        """Return the costs in the results of a run; older runs have one window of audio instead of several lengths."""
        if "window" not in given:
            return cls(**given)
        language = {name: given[name] for name in ("token", "attention", "head")}
        return cls([given["window_seconds"]], [given["window"]], None, **language)

    def encoder(self, seconds: float) -> float:
        """Return the FLOPs of encoding an audio of this length in seconds.

        Between two counted lengths it is interpolated. A shorter audio counts as the shortest counted length. A longer
        one counts as pieces of the longest counted length, and the rest.
        """
        pieces, rest = divmod(min(seconds, self.longest or inf), self.seconds[-1])
        return pieces * self.audio[-1] + (float(np.interp(rest, self.seconds, self.audio)) if rest else 0.0)

    def prefill(self, tokens: float) -> float:
        """Return the FLOPs of the prefill of a prompt of this many tokens, audio tokens included."""
        return tokens * self.token + tokens**2 * self.attention + self.head

    def decode(self, tokens: float, prompt: float) -> float:
        """Return the FLOPs of generating this many tokens after a prompt, each in its own forward pass.

        The first token comes from the logits of the prompt, so n tokens need n - 1 passes.
        """
        passes = max(tokens - 1, 0)
        context = passes * (prompt + (passes + 1) / 2)
        return passes * (self.token + self.head) + context * self.attention

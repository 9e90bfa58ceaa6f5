"""Forward FLOPs of an audio-language model, counted from its configuration: encoder, prefill and decoding."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

# Mel frames of a second of audio, in the encoders of the Whisper kind.
FRAMES_A_SECOND = 100
# Width of the kernels of their two convolutions.
KERNEL = 3


@dataclass(frozen=True)
class ForwardFlops:
    """What a model's forward passes cost, in floating-point operations; a multiplication and an addition are two.

    Products of matrices and convolutions are counted, as torch's own counter does; norms, activations and softmax are
    not. Attention is counted over the whole context, as if no mask were there. The logits are those of the prompt's
    last token, though some architectures of transformers compute all.

    Attributes:
        window: Encoder and projector on one window of audio.
        window_seconds: Length of a window; shorter audio is padded to it.
        token: A token in all layers of the language model, without its attention to others.
        attention: The attention of one token to one token.
        head: The logits of one token.
    """

    window: float
    window_seconds: float
    token: float
    attention: float
    head: float

    def encoder(self, seconds: float) -> float:
        """Return the cost of hearing an audio of so many seconds."""
        return self.window * ceil(seconds / self.window_seconds)

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


def forward_flops(config: Any) -> ForwardFlops | None:
    """Return what a model's passes cost, or None for an architecture that is not counted.

    Counted are encoders of the Whisper kind before a decoder of dense layers with gated MLPs: `qwen2_audio`,
    `audioflamingo3`, `musicflamingo`, `voxtral`.

    Args:
        config: The configuration of a transformers model.
    """
    projector = _PROJECTORS.get(str(config.model_type))
    if projector is None:
        return None
    audio, text = config.audio_config, config.get_text_config()
    width = getattr(audio, "d_model", None) or audio.hidden_size
    inner = getattr(audio, "encoder_ffn_dim", None) or audio.intermediate_size
    layers = getattr(audio, "encoder_layers", None) or audio.num_hidden_layers
    positions = audio.max_source_positions
    convolutions = 2 * KERNEL * width * (2 * positions * audio.num_mel_bins + positions * width)
    each = positions * (8 * width**2 + 4 * width * inner) + 4 * positions**2 * width
    heads, head_size = text.num_attention_heads, _head_size(text)
    queries, keys = heads * head_size, text.num_key_value_heads * head_size
    hidden = text.hidden_size
    layer = 2 * hidden * (2 * queries + 2 * keys) + 6 * hidden * text.intermediate_size
    return ForwardFlops(
        window=float(convolutions + layers * each + projector(width, positions, config)),
        window_seconds=2 * positions / FRAMES_A_SECOND,
        token=float(text.num_hidden_layers * layer),
        attention=float(4 * text.num_hidden_layers * queries),
        head=float(2 * hidden * text.vocab_size),
    )


def _head_size(text: Any) -> int:
    return int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)


def _one_layer(width: int, positions: int, config: Any) -> float:
    """Pairs of positions are averaged, then one linear layer."""
    return positions // 2 * 2 * width * config.get_text_config().hidden_size


def _two_layers(width: int, positions: int, config: Any) -> float:
    """Pairs of positions are averaged, then two linear layers."""
    hidden = config.get_text_config().hidden_size
    return positions // 2 * 2 * (width * hidden + hidden**2)


def _stacked(width: int, positions: int, config: Any) -> float:
    """Several positions are put side by side, then two linear layers."""
    hidden, stacked = config.get_text_config().hidden_size, config.audio_config.intermediate_size
    return positions * width // stacked * 2 * (stacked * hidden + hidden**2)


_PROJECTORS = {
    "qwen2_audio": _one_layer,
    "audioflamingo3": _two_layers,
    "musicflamingo": _two_layers,
    "voxtral": _stacked,
}

"""Computes the features of a clip once for all prompts about it; a processor would compute them for each prompt."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from concurrent.futures import Future
from copy import copy
from threading import Lock
from typing import Any

import numpy as np
import torch

# Results that a feature extractor remembers. 30 s of audio are 2 MB.
REMEMBERED = 32


def remember_features(extractor: Any, most: int = REMEMBERED, pad_to_window: bool = True) -> None:
    """Let a feature extractor of transformers remember its results for the last audios.

    If several threads ask for the same features at once, one of them computes them and the others wait.

    Args:
        extractor: The extractor; nothing else of it changes.
        most: How many results it remembers.
        pad_to_window: Whether audio is padded to the extractor's window. Otherwise it is padded by one frame of
            silence. This does not change the features of the audio itself; the model must ignore the other features.
    """
    kind = type(extractor)
    remembered: OrderedDict[bytes, Future[Any]] = OrderedDict()
    lock = Lock()

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        key = _digest([args, sorted(kwargs.items())])
        with lock:
            if is_new := key not in remembered:
                remembered[key] = Future()
                if len(remembered) > most:
                    remembered.popitem(last=False)
            features = remembered[key]
        if is_new:
            if not pad_to_window:
                two_frames, longest = 2 * self.hop_length, max(map(len, args[0]))
                kwargs["max_length"] = min(self.n_samples, -(-(longest + self.n_fft) // two_frames) * two_frames)
            try:
                features.set_result(kind.__call__(self, *args, **kwargs))
            except Exception as error:
                features.set_exception(error)
        return copy(features.result())  # processors rename and remove entries

    # Python looks for __call__ in the class, and processors ask for the class by its name.
    names = {"__call__": call, "__module__": kind.__module__, "__doc__": kind.__doc__}
    extractor.__class__ = type(kind.__name__, (kind,), names)


def take_short_features(encoder: Any) -> None:
    """Let the encoder of Qwen2-Audio take features that are shorter than its window; unchanged, it refuses them.

    Its attention looks at the audio alone, so the padding to 30 s changes nothing but the time: it is nine tenths of
    the work for a clip of 3 s.

    Args:
        encoder: The encoder; a hook gives it as many positions as the features need before each forward pass, and
            another one restores its configuration after it.
    """
    positions = encoder.embed_positions.weight.data
    frames_of_position = encoder.conv1.stride[0] * encoder.conv2.stride[0]

    def fit(encoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        features = args[0] if args else kwargs["input_features"]
        needed = min(features.shape[-1] // frames_of_position, len(positions))
        encoder.config.max_source_positions = needed
        encoder.embed_positions.weight = torch.nn.Parameter(positions[:needed], requires_grad=False)

    def restore(encoder: Any, *_: Any) -> None:
        encoder.config.max_source_positions = len(positions)

    encoder.register_forward_pre_hook(fit, with_kwargs=True)
    encoder.register_forward_hook(restore)


def _digest(value: Any) -> bytes:
    """Return a digest of the arguments of an extractor: the content of arrays, the text of all else."""
    if isinstance(value, torch.Tensor):
        value = value.numpy(force=True)
    if isinstance(value, np.ndarray):
        content = f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    elif isinstance(value, (list, tuple)):
        content = b"".join(map(_digest, value))
    else:
        content = repr(value).encode()
    return hashlib.blake2b(content, digest_size=16).digest()

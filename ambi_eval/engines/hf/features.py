"""Features of a clip are made once: all prompts about it need them, and its processor makes them for each anew."""

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


def remember_features(extractor: Any, most: int = REMEMBERED) -> None:
    """Let a feature extractor of transformers remember what it made of the last audios.

    Threads that ask for the same at once wait for one of them.

    Args:
        extractor: The extractor, which stays what it is in all else.
        most: How many results it remembers.
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
            try:
                features.set_result(kind.__call__(self, *args, **kwargs))
            except Exception as error:
                features.set_exception(error)
        return copy(features.result())  # processors rename and remove entries

    # Python looks for __call__ in the class, and processors ask for the class by its name.
    names = {"__call__": call, "__module__": kind.__module__, "__doc__": kind.__doc__}
    extractor.__class__ = type(kind.__name__, (kind,), names)


def _digest(value: Any) -> bytes:
    """Return a digest of what an extractor is called with: arrays by their content, all else as it is written."""
    if isinstance(value, torch.Tensor):
        value = value.numpy(force=True)
    if isinstance(value, np.ndarray):
        content = f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    elif isinstance(value, (list, tuple)):
        content = b"".join(map(_digest, value))
    else:
        content = repr(value).encode()
    return hashlib.blake2b(content, digest_size=16).digest()

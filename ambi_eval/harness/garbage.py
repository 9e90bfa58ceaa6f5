"""Pauses Python's garbage collection where it costs much and finds nothing.

The collector searches all objects for reference cycles, again and again while their number grows. The modules of torch,
transformers and the harness are a million objects that live to the end: searching them is a fifth of the processor time
before the model (`benchmarks/start.py`).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_starting = False


@contextmanager
def paused() -> Iterator[None]:
    """Collect nothing inside this context, which makes many small objects without cycles."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def paused_until_started() -> Iterator[None]:
    """Run a command inside this context: nothing is collected before it calls `started`."""
    global _starting
    gc.unfreeze()  # what an earlier command of this process has left; at the end of a process this would cost time
    _starting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        started()


def started() -> None:
    """End the pause of a command that has imported what it needs; later collections leave these objects out."""
    global _starting
    if _starting:
        gc.freeze()
        gc.enable()
        _starting = False

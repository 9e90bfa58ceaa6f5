"""Pauses Python's garbage collection where it costs much and finds nothing.

The collector searches all objects for reference cycles, again and again while their number grows. The modules of torch,
transformers and the harness are a million objects, none of which is ever freed. To search them takes a fifth of the
processor time before the model (`benchmarks/start.py`).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

starting = False  # whether a run of ours is being prepared


@contextmanager
def paused() -> Iterator[None]:
    """Collect nothing inside this context: for work that makes many small objects without cycles."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def paused_until_started() -> Iterator[None]:
    """Collect nothing inside this context until `started` is called."""
    global starting
    gc.unfreeze()  # objects of an earlier command of this process; to do it at the end of a process would cost time
    starting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        started()


def started() -> None:
    """End the pause, as all imports are done; later collections do not search the objects that exist now."""
    global starting
    if starting:
        gc.freeze()
        gc.enable()
        starting = False

"""Below a request: how long it may take, how large its reply may be, and when it is sent again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from email.utils import parsedate_to_datetime
from threading import Thread
from typing import Any, TypeVar

Result = TypeVar("Result")

LARGEST_REPLY = 10 << 20  # bytes
LONGEST_WAIT = 120.0  # seconds; a server that asks for a longer pause is asked again after this


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """Return what the work gives, if it takes no longer.

    Raises:
        TimeoutError: If it does. The work is left alone: a server that sends a byte now and then keeps a connection
            open as long as it likes.
    """
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # it belongs to the caller
            done.set_exception(error)

    Thread(target=run, name="request", daemon=True).start()
    finished, _ = wait([done], seconds)
    if not finished:
        raise TimeoutError
    return done.result()


def body_of(response: Any) -> bytes:
    """Return the body of a response.

    Raises:
        ValueError: If it is larger than a chat completion can be.
    """
    content = bytearray()
    for part in response.iter_bytes():
        content += part
        if len(content) > LARGEST_REPLY:
            raise ValueError(f"it is larger than {LARGEST_REPLY >> 20} MB")
    return bytes(content)


def pause_after(error: Exception, attempt: int) -> float:
    """Return how many seconds to wait before the next attempt: as the server asks, or longer each time."""
    asked = getattr(getattr(error, "response", None), "headers", {}).get("retry-after")
    seconds = None
    if asked is not None:
        try:
            seconds = float(asked)
        except ValueError:
            try:
                seconds = parsedate_to_datetime(asked).timestamp() - time.time()
            except (TypeError, ValueError, OverflowError):
                seconds = None
    if seconds is None or not seconds >= 0:
        return min(0.5 * 2**attempt, 8.0) * random.uniform(0.75, 1.0)
    return min(seconds, LONGEST_WAIT)


def transport_errors() -> tuple[type[Exception], ...]:
    """Return the errors of the HTTP library below the SDK, which reading a body raises as they are."""
    import openai

    http = openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]
    library = __import__(http)
    return (library.HTTPError, library.StreamError)

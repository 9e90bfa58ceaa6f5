"""The limits of a request: its time, the size of its reply, and the pause before the next attempt."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from email.utils import parsedate_to_datetime
from threading import Thread
from typing import Any, TypeVar

Result = TypeVar("Result")

LARGEST_REPLY = 10 << 20  # bytes
FIRST_WAIT = 0.5  # seconds; the first pause where the server asks for none, and each later one doubles it
LONGEST_WAIT = 120.0  # seconds; the longest pause, even if the server asks for a longer one


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """Return the result of `work`, which runs in a thread of its own.

    The time-out of the HTTP library is not enough, because a server that sends a byte now and then never reaches it.

    Raises:
        TimeoutError: If it takes longer than `seconds`; the thread goes on, and its result is ignored.
    """
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # raised again in the caller's thread
            done.set_exception(error)

    Thread(target=run, name="request", daemon=True).start()
    finished, _ = wait([done], seconds)
    if not finished:
        raise TimeoutError
    return done.result()


def body_of(response: Any) -> bytes:
    """Return the body of a response; raises ValueError if it is larger than a chat completion can be."""
    content = bytearray()
    for part in response.iter_bytes():
        content += part
        if len(content) > LARGEST_REPLY:
            raise ValueError(f"it is larger than {LARGEST_REPLY >> 20} MB")
    return bytes(content)


def keep_error(response: Any) -> None:
    """Read the body of an error, which the SDK would read to its end, however long it is (a hook of httpx)."""
    if not response.is_success:
        response._content = body_of(response)


def pause_after(error: Exception, attempt: int) -> float:
    """Return the seconds to wait before the next attempt: those of `Retry-After`, else more after each attempt."""
    asked = getattr(getattr(error, "response", None), "headers", {}).get("retry-after")
    seconds = _seconds_of(asked) if asked is not None else math.nan
    if not seconds >= 0:  # also NaN
        return min(FIRST_WAIT * 2**attempt, 8.0) * random.uniform(0.75, 1.0)
    return min(seconds, LONGEST_WAIT)


def _seconds_of(retry_after: str) -> float:
    """Return the seconds of a `Retry-After` header, which is a number or a date; NaN if it is neither."""
    try:
        return float(retry_after)
    except ValueError:
        with suppress(TypeError, ValueError, OverflowError):
            return parsedate_to_datetime(retry_after).timestamp() - time.time()
    return math.nan


def transport_errors() -> tuple[type[Exception], ...]:
    """Return the errors of the SDK's HTTP library, which reach us unchanged while a body is read."""
    import openai

    http = openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]
    library = __import__(http)
    return (library.HTTPError, library.StreamError)

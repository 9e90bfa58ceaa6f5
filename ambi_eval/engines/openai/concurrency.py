"""Works on several items at the same time, and yields each result as soon as it is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NoReturn, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
CHECKED_EVERY = 0.2  # seconds after which a wait looks whether the work shall end

_running: set[Future[Any]] = set()
_ending: tuple[float, Callable[[], NoReturn]] | None = None


def finish(within: float, then: Callable[[], NoReturn]) -> int:
    """Let the running work of this process finish without beginning any more, then call a function in its main thread.

    After `within` seconds it is called though work is still running. Return the number of items that are worked on; if
    it is 0, nothing is done.
    """
    global _ending
    if _running:
        _ending = (time.monotonic() + within, then)
    return len(_running)


def is_ending() -> bool:
    """Return whether the running work is the last one (`finish`)."""
    return _ending is not None


def concurrently(
    work: Callable[[Item], Result], take: Callable[[], Item | None], at_once: int
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with the result of the work on it (in a thread), in the order in which results arrive.

    After an error no more items are taken; the results of running work are still yielded before the error is raised.
    The same after `finish`. `take` returns the next item, or None if there is none at the moment; it is asked again
    while work is running.
    """
    running: dict[Future[Result], Item] = {}
    error: BaseException | None = None
    with ThreadPoolExecutor(at_once, thread_name_prefix="ask") as threads:
        try:
            while True:
                if _ending and (not _running or time.monotonic() > _ending[0]):
                    _ending[1]()
                if _ending and not running:
                    return  # a verifier's requests are done; the answers of the requests around them are still to come
                item = take() if error is None and _ending is None and len(running) < at_once else None
                if item is not None:
                    running[future := threads.submit(work, item)] = item
                    _running.add(future)
                    done = {future for future in running if future.done()}
                elif running:
                    done, _ = wait(running, CHECKED_EVERY, return_when=FIRST_COMPLETED)
                elif error is not None:
                    raise error
                else:
                    return
                for future in done:
                    item = running.pop(future)
                    _running.discard(future)
                    if (failed := future.exception()) is None:
                        yield item, future.result()
                    else:
                        error = error or failed
        finally:
            _running.difference_update(running)

"""Works on several items at the same time, and yields each result as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def concurrently(
    work: Callable[[Item], Result], take: Callable[[], Item | None], at_once: int
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with the result of the work on it, in the order in which results arrive.

    After an error no more items are taken; the results of running work are still yielded before the error is raised.

    Args:
        work: Does the work on one item, in a thread.
        take: Returns the next item, or None if there is none at the moment; it is asked again while work is running.
        at_once: Number of items that are worked on at the same time.
    """
    running: dict[Future[Result], Item] = {}
    error: BaseException | None = None
    with ThreadPoolExecutor(at_once, thread_name_prefix="ask") as threads:
        while True:
            item = take() if error is None and len(running) < at_once else None
            if item is not None:
                running[threads.submit(work, item)] = item
                done = {future for future in running if future.done()}
            elif running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
            elif error is not None:
                raise error
            else:
                return
            for future in done:
                item = running.pop(future)
                if (failed := future.exception()) is None:
                    yield item, future.result()
                else:
                    error = error or failed

"""Many requests at the same time, whose results are yielded as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def concurrently(
    work: Callable[[Item], Result], take: Callable[[], Item | None], at_once: int
) -> Iterator[tuple[Item, Result]]:
    """Yield every item with what the work on it gave, as soon as it is there, in no particular order.

    After an error no more items are taken; what is under way is still yielded, and then the error raised.

    Args:
        work: What is done in threads.
        take: Gives the next item, or None where there is none at the moment; it is asked as long as work is under way.
        at_once: How many items are worked on at the same time.
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

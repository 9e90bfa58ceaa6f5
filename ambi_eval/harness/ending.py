"""Ends a command early in one sentence: at Ctrl-C, or if the harness could not write its results."""

from __future__ import annotations

import os
import signal
import sys
import threading

TYPE_CHECKING = False  # `typing` is not imported here: Ctrl-C during its import would give a traceback
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType
    from typing import Any, NoReturn

INTERRUPTED, NOT_WRITTEN = 130, 3
GRACE = 15  # seconds in which the answers that servers are giving at Ctrl-C may still arrive

# The errors for which the harness could not save results; it only warns of them.
not_saved: list[BaseException] = []


def is_ours() -> bool:
    """Return whether this process uses one of our tasks or models."""
    return any(name in sys.modules for name in ("ambi_eval.harness.task", "ambi_eval.models.audio_lm"))


def is_named() -> bool:
    """Return whether the command line is that of `lm_eval` and names one of our tasks or models."""
    words = sys.argv[1:]
    is_harness = os.path.basename(sys.argv[0]) in ("lm_eval", "lm-eval") or "lm_eval" in [*words, *sys.orig_argv]  # noqa: PTH119
    return is_harness and any("ambi" in word or "-audio" in word for word in words)


def what_is_kept() -> str:
    """Return a text that says how many new answers the candidate stores of this process keep."""
    kept = getattr(sys.modules.get("ambi_eval.inference.store"), "kept_here", {})
    if not kept:
        return "no answer is kept"
    alone = "LOCAL_RANK" not in os.environ  # each of torchrun's processes knows its own answers only
    new = sum(kept.values())
    answers = ("1 new answer is" if new == 1 else f"{new:,} new answers are") if alone else "every answer so far is"
    return f"{answers} kept in {' and '.join(map(str, kept))}"


def end_at_ctrl_c(kept: Callable[[], str] = what_is_kept, only_if: Callable[[], bool] = lambda: True) -> None:
    """Let Ctrl-C end this process and its child processes in one sentence, with exit code 130.

    It ends at once, where an exception would first wait for threads with open requests. Only if a server is answering,
    and a store can keep the answers, the first Ctrl-C waits for them for a short time. Earlier ones are kept already.
    `kept` returns a text about the kept answers; where `only_if` returns False, Ctrl-C has its usual effect.
    """
    stopping: list[bool] = []

    def end(number: int, frame: FrameType | None) -> None:
        if not only_if():
            signal.default_int_handler(number, frame)
        if kept is what_is_kept and "ambi_eval.inference.store" not in sys.modules:
            _leave("stopped: run the same command to begin again", INTERRUPTED)

        def leave() -> NoReturn:
            _leave(f"stopped; {kept()}: run the same command to go on", INTERRUPTED)

        waited_for = _wait_for_replies(leave) if kept is what_is_kept and not stopping else 0
        if not waited_for:
            leave()
        stopping.append(True)
        requests = "a request" if waited_for == 1 else f"{waited_for} requests"
        waiting = f"waiting up to {GRACE} s for the answers to {requests} under way"
        sys.stderr.write(f"\nambi_eval: {waiting}; press Ctrl-C again to leave at once\n")

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, end)


def _wait_for_replies(leave: Callable[[], NoReturn]) -> int:
    """Let `leave` be called when the requests under way are answered, and return their number; 0 without a store."""
    kept = getattr(sys.modules.get("ambi_eval.inference.store"), "kept_here", None)
    concurrency = sys.modules.get("ambi_eval.engines.openai.concurrency")
    return concurrency.finish(GRACE, leave) if kept and concurrency else 0


def end_torchrun() -> NoReturn:
    """End torchrun as soon as its processes have ended; its own handler takes seconds and prints a traceback."""
    import psutil

    workers = psutil.Process().children()
    for worker in workers:
        worker.send_signal(signal.SIGINT)  # needed if only torchrun received Ctrl-C
    psutil.wait_procs(workers, timeout=1)
    _leave(None, INTERRUPTED)


def note_what_is_not_saved(tracker: ModuleType) -> None:
    """Note each error that the harness turns into a warning when it saves results."""
    warning = tracker.eval_logger.warning

    def warn(message: Any, *args: Any, **options: Any) -> None:
        warning(message, *args, **options)
        error = sys.exc_info()[1]
        if error is not None and str(message).startswith("Could not save"):
            not_saved.append(error)

    tracker.eval_logger.warning = warn


def refuse_unsaved(output_path: Any) -> None:
    """End with exit code 3 and one sentence if the harness could not write the results of a run of ours."""
    errors, not_saved[:] = list(not_saved), []
    if errors and is_ours():
        what = f"lm_eval could not write its results to {output_path} ({errors[0]})"
        sys.stderr.write(f"ambi_eval: {what}; {what_is_kept()}: run the same command with another --output_path\n")
        sys.exit(NOT_WRITTEN)


def _leave(sentence: str | None, code: int) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import psutil

    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.Error:  # it has ended by itself
            continue
    if sentence and os.environ.get("LOCAL_RANK", "0") == "0":  # one of torchrun's processes speaks for all
        sys.stderr.write(f"\nambi_eval: {sentence}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

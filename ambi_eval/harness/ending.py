"""How a command ends early: by Ctrl-C, or with results that the harness could not write."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any, NoReturn

INTERRUPTED, NOT_WRITTEN = 130, 3

# Why the harness could not save its results; it goes on with a warning.
not_saved: list[BaseException] = []


def is_ours() -> bool:
    """Return whether a task or a model of ours takes part in what this process runs."""
    return any(name in sys.modules for name in ("ambi_eval.harness.task", "ambi_eval.models.audio_lm"))


def what_is_kept() -> str:
    """Return in words how many answers of this process the candidate stores keep."""
    kept = getattr(sys.modules.get("ambi_eval.inference.store"), "kept_here", {})
    if not kept:
        return "no answer is kept"
    return f"{sum(kept.values()):,} new answers are kept in {' and '.join(map(str, kept))}"


def end_at_ctrl_c(kept: Callable[[], str] = what_is_kept, only_if: Callable[[], bool] = lambda: True) -> None:
    """Let Ctrl-C end this process at once, in one sentence, with exit code 130 and without its child processes.

    An exception would wait for the threads that ask a server. Nothing is lost: a store keeps each answer at once.

    Args:
        kept: Says what is kept.
        only_if: Says whether it is ours to end this process so; otherwise Ctrl-C does what it always does.
    """

    def end(number: int, frame: FrameType | None) -> None:
        if not only_if():
            signal.default_int_handler(number, frame)
        _leave(f"stopped; {kept()}: run the same command to go on", INTERRUPTED)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, end)


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
        sys.stderr.write(
            f"ambi_eval: lm_eval could not write its results to {output_path} ({errors[0]}); {what_is_kept()}: "
            "run the same command with another --output_path\n"
        )
        sys.exit(NOT_WRITTEN)


def _leave(sentence: str, code: int) -> NoReturn:
    import psutil

    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.Error:  # it has ended by itself
            continue
    sys.stderr.write(f"\nambi_eval: {sentence}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

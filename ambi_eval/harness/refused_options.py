"""Tells in one sentence why the harness refuses the options of a run of ours, where it would print a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb

from ambi_eval.errors import AmbiError

# A part of what the harness says, and how the user mends it.
FIXES = {
    "--samples": "leave out one of the two",
    "--output_path": "add --output_path FOLDER",
    "fewshot_as_multiturn": "leave out --fewshot_as_multiturn",
    "Duplicate task": "name each task once",
    "Tasks not found": "correct the path after --tasks",
    "Config file": "correct the path after --config",
    "EvaluatorConfig": "correct the key in the file after --config",
    "YAML": "correct the file after --config",
    "(char ": "the file after --samples must be JSON",
    "EvaluationTracker": "correct --hf_hub_log_args",
    "'wandb'": "pip install wandb, or leave out --wandb_args",
}

_run_started = False


@contextmanager
def told_in_one_sentence() -> Iterator[None]:
    """Raise an `AmbiError` for an error that lm_eval itself raises in this context before `run_starts` is called."""
    global _run_started
    _run_started = False
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError, NameError) as error:
        modules = [frame.f_globals.get("__name__", "").partition(".")[0] for frame, _ in walk_tb(error.__traceback__)]
        raiser = next((name for name in reversed(modules) if name in ("lm_eval", "ambi_eval")), "")
        if _run_started or raiser != "lm_eval":
            raise
        said = " ".join(str(error).split()).rstrip(".")
        fix = next((fix for part, fix in FIXES.items() if part in said), "mend that, or leave out the option")
        raise AmbiError(f"lm_eval refuses the command ({said}): {fix}") from error


def run_starts() -> None:
    """Note that everything about the run is checked: a later error is no mistake in its options."""
    global _run_started
    _run_started = True

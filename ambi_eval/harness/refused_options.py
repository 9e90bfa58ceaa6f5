"""Tells in one sentence why the harness refuses the options of a run of ours, where it would print a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb

from ambi_eval.errors import AmbiError
from ambi_eval.harness import garbage

# A part of what the harness says, and how the user mends it.
FIXES = {
    "--samples": "leave out one of the two",
    "--output_path": "add --output_path FOLDER",
    "Duplicate task": "name each task once",
    "EvaluatorConfig": "correct that key in the file after --config",
    "(char ": "the file after --samples must be JSON",
    "trackio is not": "install it, or leave out --trackio_args",
    "'wandb'": "pip install wandb, or leave out --wandb_args",
}


@contextmanager
def told_in_one_sentence() -> Iterator[None]:
    """Turn errors that lm_eval itself raises in this context into an `AmbiError`, until `garbage.started` is called.

    Errors of other code keep their traceback: of a package that lm_eval imports, and of functions in a task's folder.
    """
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError, NameError) as error:
        modules = [frame.f_globals.get("__name__", "").partition(".")[0] for frame, _ in walk_tb(error.__traceback__)]
        raiser = next((name for name in reversed(modules) if name not in sys.stdlib_module_names), "")
        if not garbage.starting or raiser != "lm_eval":
            raise
        said = " ".join(str(error).split()).rstrip(".")
        fix = next((fix for part, fix in FIXES.items() if part in said), "correct that, or leave the option out")
        raise AmbiError(f"lm_eval refuses the command ({said}): {fix}") from error

"""The commands `lm_eval` and `ambi-eval` inside this process: as a user types them, without the seconds of a start."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from lm_eval._cli import HarnessCLI

from ambi_eval.__main__ import main


@dataclass(frozen=True)
class Done:
    """What is left of a command, under the names of `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


def lm_eval(*words: object, cwd: Path, **environment: str) -> Done:
    """Run the stock `lm_eval` with these words after its name, as its own entry point does."""

    def command() -> None:
        harness = HarnessCLI()
        harness.execute(harness.parse_args())

    return _run(command, "lm_eval", words, cwd, environment)


def ambi_eval(*words: object, cwd: Path, **environment: str) -> Done:
    """Run `ambi-eval` with these words after its name."""
    return _run(main, "ambi-eval", words, cwd, environment)


def _run(
    command: Callable[[], object], name: str, words: tuple[object, ...], cwd: Path, environment: dict[str, str]
) -> Done:
    """Run a command with its words, folder and environment; what it prints and logs is kept, as is its exit code."""
    out, err = StringIO(), StringIO()
    code = 0
    log = logging.StreamHandler(err)
    loggers = [logging.getLogger(known) for known in ("lm_eval", "ambi_eval")]
    levels = [logger.level for logger in loggers]
    before, at_ctrl_c = dict(os.environ), signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", [name, *map(str, words)])
        patch.chdir(cwd)
        os.environ.update(environment)
        for logger in loggers:
            logger.setLevel(logging.INFO)
            logger.addHandler(log)
        try:
            command()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:  # a process would end so
            traceback.print_exc()
            code = 1
        finally:
            signal.signal(signal.SIGINT, at_ctrl_c)
            os.environ.clear()
            os.environ.update(before)
            for logger, level in zip(loggers, levels, strict=True):
                logger.removeHandler(log)
                logger.setLevel(level)
    return Done(code, out.getvalue(), err.getvalue())

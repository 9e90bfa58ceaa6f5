"""Real processes without the seconds of their first imports: a fork server imports torch and the harness once.

The server starts as any `python` does, imports the modules of PRELOADED and does nothing else: it runs no second thread
of Python and has computed nothing. A child that it forks is as real as one that a shell starts. It has its own number,
session, signals, working directory, environment, streams and exit code; it runs the same script from the first line;
the system kills it and takes its locks. With the server it shares the imported code, which nobody writes to. So a test
of what a process does after its imports asserts the same here. Tests of the imports themselves, of the plug-in's start,
of torchrun, of Ray's processes, of notebooks, of the installed package and of one whole sweep start `python` itself.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
from torch.utils import collect_env

BIN = Path(sys.executable).parent
PRELOADED = [
    "ambi_eval.cli",
    "ambi_eval.models.hf_audio",
    "ambi_eval.task",
    "lm_eval._cli.harness",
    "lm_eval.loggers",
    "lm_eval.models",
    "pytablewriter",
    "scipy.signal",
    "scipy.stats",
    "transformers.models.qwen2_audio.modeling_qwen2_audio",
    "transformers.models.qwen2_audio.processing_qwen2_audio",
    "transformers.models.whisper.feature_extraction_whisper",
    "transformers.tokenization_mistral_common",
]


class Forked(ForkServerProcess):
    """A process of the fork server, with the environment of the process that starts it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.environment = dict(os.environ)

    def run(self) -> None:
        os.environ.clear()
        os.environ.update(self.environment)
        collect_env.get_pip_packages = no_packages
        super().run()


def no_packages(run: Any) -> tuple[str, str]:
    """The harness notes the machine at the end of each run; to list what pip installed is the longest part of it."""
    return "pip", ""


class _Context(ForkServerContext):
    Process = Forked  # type: ignore[assignment]


CONTEXT = _Context()
CONTEXT.set_forkserver_preload(PRELOADED)


@contextmanager
def hidden_families() -> Iterator[None]:
    """Hide the half-installed packages of tests/conftest.py from child processes, who could not import them."""
    path = list(sys.path)
    sys.path[:] = [entry for entry in path if Path(entry).name != "families"]
    try:
        yield
    finally:
        sys.path[:] = path


@contextmanager
def forked_for_spawned() -> Iterator[None]:
    """Let the fork server start the processes that the product starts by multiprocessing."""
    plain = multiprocessing.get_context
    with pytest.MonkeyPatch.context() as patch, hidden_families():
        patch.setattr(multiprocessing, "get_context", lambda how: CONTEXT if how == "spawn" else plain(how))
        yield


class Command(subprocess.Popen):
    """A command that starts from nothing; `error` is what it has written to its standard error."""

    def __init__(self, *command: object, cwd: Path, environment: Mapping[str, str], session: bool = False) -> None:
        self.log = NamedTemporaryFile()  # noqa: SIM115 - it lives as long as this
        words = [str(BIN / str(command[0])), *map(str, command[1:])]
        environment = {**os.environ, **environment}
        super().__init__(
            words, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=self.log, start_new_session=session
        )

    @property
    def error(self) -> str:
        return Path(self.log.name).read_text()


class Script:
    """A running script of Python, forked; it has a terminal's streams.

    Attributes:
        pid: Number of the process.
        stdin: What it reads.
        stdout: What it writes.
    """

    def __init__(
        self,
        script: str | Path,
        *words: object,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        session: bool = False,
    ) -> None:
        """Start a script.

        Args:
            script: Its file, or the name of a program of this environment, such as `lm_eval`.
            words: The words of its command.
            cwd: Its working directory.
            environment: What its environment has besides this process's.
            session: Whether it leads a session of its own, as the first process of a terminal does.
        """
        command = [str(BIN / script), *map(str, words)]
        reads, writes = CONTEXT.Pipe(duplex=False), CONTEXT.Pipe(duplex=False)
        self.log = NamedTemporaryFile()  # noqa: SIM115 - it lives as long as this
        ends = reads[0], writes[1]
        self.process = CONTEXT.Process(
            target=_run, args=(command, *ends, self.log.name, str(cwd or Path.cwd()), session)
        )
        self.process.environment.update(environment or {})
        with hidden_families():
            self.process.start()
        self.pid = self.process.pid
        self.stdin, self.stdout = (
            os.fdopen(os.dup(end.fileno()), mode) for end, mode in ((reads[1], "w"), (writes[0], "r"))
        )
        for end in (*reads, *writes):
            end.close()

    @property
    def error(self) -> str:
        """What it has written to its standard error."""
        return Path(self.log.name).read_text()

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative after a signal; None while it runs."""
        return self.process.exitcode

    def poll(self) -> int | None:
        """As `returncode`."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code as soon as it has ended."""
        self.process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.process.name, timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def output(self, timeout: float = 300) -> str:
        """Return all that it writes from now on, as soon as it has ended."""
        self.stdin.close()
        found = self.stdout.read()
        self.wait(timeout)
        return found


def as_torchrun_starts(
    script: str | Path, *words: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> list[Script]:
    """Start two processes of a script with the environment that torchrun gives to the processes that it starts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    each = [{**(environment or {}), **world, "RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    return [Script(script, *words, cwd=cwd, environment=own) for own in each]


def _run(command: list[str], stdin: Connection, stdout: Connection, stderr: str, cwd: str, session: bool) -> None:
    if session:
        os.setsid()
    os.chdir(cwd)
    for descriptor, number in enumerate((stdin.fileno(), stdout.fileno(), os.open(stderr, os.O_WRONLY))):
        os.dup2(number, descriptor)
    stdin.close()
    stdout.close()
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")

"""`ServerProcess`: starts a server, waits for it, and stops it however this process ends."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from tqdm import tqdm

from ambi_eval.errors import AmbiError

SECONDS_BETWEEN_TRIES = 0.25
LOG_TAIL = 200_000  # the reason of a failure is searched in this many bytes at the end of the log
LONGEST_REASON = 300
# What vLLM puts in front of a line: "(EngineCore pid=17) ERROR 11-26 04:10:37 [core.py:1]".
_LOG_PREFIX = re.compile(r"^(\(\w+[^)]*\)\s*)?((DEBUG|INFO|WARNING|ERROR|CRITICAL)\s+[\d:. -]+\[[^\]]*\]\s*)?")
_ERROR = re.compile(r"^(?:[\w.]*(?:Error|Exception|Interrupt)|[\w.-]+: error): ")


class ServerProcess:
    """A server program on this machine.

    The program is a child of `serving.supervise`, which ends it and all of its children when this process ends, even
    after a crash or a kill.

    Attributes:
        name: Its name in messages.
        log: The file of its output; it is not deleted.
        seconds_to_leave: How many seconds it has to end by itself before it is killed.
    """

    seconds_to_leave: ClassVar[float] = 15.0

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start a program with its arguments, these environment variables alone, and a log for its output."""
        self.name, self.log = name, log
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as output:
                output.write(f"{shlex.join(command)}\n".encode())
                output.flush()
                # -I and -S: the supervisor needs no package, and no package may change it.
                supervisor = [sys.executable, "-I", "-S", str(Path(__file__).with_name("supervise.py"))]
                self._process = subprocess.Popen(
                    [*supervisor, str(self.seconds_to_leave), *command],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    env=dict(environment),
                    start_new_session=True,
                )
        except OSError as error:
            raise AmbiError(f"{name} cannot be started ({error}); is there room for its log {log}?") from error
        self.stop = weakref.finalize(self, _stop, self._process)

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait_until_ready(self, url: str, headers: Mapping[str, str], seconds: float) -> None:
        """Wait up to so many seconds until a URL answers a request with status 200, and show the time so far.

        Raises:
            AmbiError: If the server ends first, or if it does not answer in time; then it is stopped.
        """
        begun = time.monotonic()
        shown_every = 0.5 if sys.stderr.isatty() else 15.0
        with tqdm(bar_format="{desc}: {elapsed}", mininterval=shown_every, desc=f"starting {self.name}") as line:
            while not _answers(url, headers):
                if not self.runs:
                    raise self.ended()
                if time.monotonic() - begun > seconds:
                    self.stop()
                    fix = f"look into its log ({self.log}), or give a longer start_timeout="
                    raise AmbiError(f"{self.name} did not answer within {seconds:g} s; {fix}")
                time.sleep(SECONDS_BETWEEN_TRIES)
                line.update()

    def ended(self) -> AmbiError:
        """Return the error that the server has ended, with the reason that its log gives."""
        code = self._process.wait()
        return AmbiError(f"{self.name} ended with exit code {code} ({self.reason()}); its log is {self.log}")

    def reason(self) -> str:
        """Return the last error in the log as one line; without an error, the last line of the log."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - LOG_TAIL))
            lines = [_LOG_PREFIX.sub("", line).strip() for line in file.read().decode("utf-8", "replace").splitlines()]
        # vLLM ends with "RuntimeError: ... See root cause above.", which is not the reason.
        places = [place for place, line in enumerate(lines) if _ERROR.match(line) and "root cause" not in line]
        told = lines[places[-1]] if places else ([line for line in lines if line] or ["it printed nothing"])[-1]
        if "validation error" in told:  # pydantic names the argument on the next line
            told = ": ".join(lines[places[-1] : places[-1] + 2])
        return told[:LONGEST_REASON].rstrip(".")


def free_port() -> int:
    """Return a free port of 127.0.0.1."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _answers(url: str, headers: Mapping[str, str]) -> bool:
    directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with directly.open(urllib.request.Request(url, headers=dict(headers)), timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe that keeps the server alive, and wait until it has ended."""
    if process.stdin is not None:
        process.stdin.close()
    process.wait()

"""Runs a command as long as this program's standard input is open: `python supervise.py SECONDS COMMAND ...`.

Whoever starts it holds the other end of that pipe. However that process ends (at its end, by an exception, Ctrl-C,
SIGTERM or SIGKILL), the system closes the pipe. Then the command is asked to leave (SIGTERM). After so many seconds,
what is left of it and of its child processes is killed. This program needs nothing but Python.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

SECONDS_BETWEEN_LOOKS = 0.1


def supervise(command: list[str], seconds_to_leave: float) -> int:
    """Run a command until it ends or standard input does, and return its exit code."""
    asked_to_leave = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: asked_to_leave.append(True))
    # A session of its own: Ctrl-C in the terminal does not reach it, and its process group is it and its children.
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    while server.poll() is None and not asked_to_leave:
        if select.select([sys.stdin], [], [], SECONDS_BETWEEN_LOOKS)[0] and not os.read(0, 1):
            break
    if server.poll() is None:
        _signal(server.pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds_to_leave
        while server.poll() is None and time.monotonic() < deadline:
            time.sleep(SECONDS_BETWEEN_LOOKS)
    # Children that are left behind, too: a worker that hangs would keep the memory of its GPU.
    _signal(server.pid, signal.SIGKILL)
    return server.wait()


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    code = supervise(sys.argv[2:], float(sys.argv[1]))
    sys.exit(code if code >= 0 else 128 - code)

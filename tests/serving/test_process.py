"""A server ends with the process that started it, however that ends."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from support.fake_vllm import environment, started

from ambi_eval.errors import AmbiError
from ambi_eval.serving.process import ServerProcess, free_port

pytestmark = pytest.mark.slow

# A program that starts a server, says where its log is, and goes on as it is told.
PARENT = """
import os, signal, sys, time
from pathlib import Path
from ambi_eval.serving.process import ServerProcess, free_port
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background programs ignore it
port = free_port()
server = ServerProcess("fake", [sys.argv[1], "--port", str(port)], os.environ, Path(sys.argv[2]))
server.wait_until_ready(f"http://127.0.0.1:{port}/v1/models", {}, 30)
print("ready", flush=True)
match sys.argv[3]:
    case "raises": raise SystemExit(7)
    case "leaves at once": os._exit(7)
    case "waits": time.sleep(60)
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return environment(tmp_path_factory.mktemp("vllm")) / "bin" / "vllm"


@pytest.fixture
def start(program, tmp_path, monkeypatch):
    """Start a server in this process; it is stopped after the test."""
    servers = []

    def server(how="", command=None, log=tmp_path / "log.txt"):
        port = str(free_port())
        environment = {**os.environ, "FAKE_VLLM": how}
        servers.append(ServerProcess("fake", command or [str(program), "--port", port], environment, log))
        servers[-1].url = f"http://127.0.0.1:{port}/v1/models"
        return servers[-1]

    yield server
    for each in servers:
        each.stop()


def are_gone(pids, seconds=10.0):
    deadline = time.monotonic() + seconds
    while left := [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]:
        if time.monotonic() > deadline:
            return f"{left} still run"
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("end", ["raises", "leaves at once", signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=str)
def test_the_server_and_its_children_end_with_the_process_that_started_them(end, program, tmp_path):
    log = tmp_path / "log.txt"
    words = [program, log, "waits" if isinstance(end, signal.Signals) else end]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout.readline() == b"ready\n"
    if isinstance(end, signal.Signals):
        parent.send_signal(end)
    assert parent.wait(30) != 0
    assert are_gone(started(log)["pids"]) is True


@pytest.mark.parametrize("how", ["", "deaf"])
def test_a_server_that_does_not_leave_when_asked_is_killed(how, start, monkeypatch):
    monkeypatch.setattr(ServerProcess, "seconds_to_leave", 0.3)
    server = start(how)
    server.wait_until_ready(server.url, {}, 30)
    pids = started(server.log)["pids"]
    assert server.runs
    server.stop()
    assert not server.runs
    assert are_gone(pids, 1.0) is True
    assert server.log.is_file()


def test_a_server_that_dies_before_it_answers_is_said_to_with_the_reason_from_its_log(start):
    server = start("dies")
    match = r"^fake ended with exit code 1 \(ValueError: no kernel takes a head size of 7\); its log is .*log\.txt$"
    with pytest.raises(AmbiError, match=match):
        server.wait_until_ready(server.url, {}, 30)
    assert are_gone(started(server.log)["pids"]) is True


def test_a_server_that_does_not_answer_in_time_is_stopped(start):
    server = start("slow")
    with pytest.raises(AmbiError, match=r"fake did not answer within 0\.3 s; look into its log .* start_timeout="):
        server.wait_until_ready(server.url, {}, 0.3)
    assert not server.runs


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        (
            "E.ValidationError: 1 validation error for M\n  no folder\nbye",
            "E.ValidationError: 1 validation error for M: no folder",
        ),
        ("", "it printed nothing"),
        ("INFO 11-26 04:10:37 [a.py:1] starting\nbye\n", "bye"),
        (
            "OSError: [Errno 98] Address already in use\nleaked 4 instances\n",
            "OSError: [Errno 98] Address already in use",
        ),
        (
            "vllm serve: error: argument --dtype: invalid choice\n",
            "vllm serve: error: argument --dtype: invalid choice",
        ),
    ],
)
def test_the_reason_is_the_last_error_in_the_log_or_else_the_last_line(printed, reason, start, tmp_path):
    server = start(command=["false"])
    server.stop()
    server.log.write_text(printed)
    assert server.reason() == reason


def test_a_log_that_cannot_be_written_is_a_mistake(start, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AmbiError, match=r"fake cannot be started .* is there room for its log"):
        start(log=tmp_path / "file" / "log.txt")

"""Starts `vllm serve`: chooses the program, its arguments and its address."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ambi_eval.config.model_arguments import VLLMAudioArguments
from ambi_eval.engines.hf.loading import checkpoint
from ambi_eval.errors import AmbiError
from ambi_eval.paths import cache_dir
from ambi_eval.serving.process import ServerProcess, free_port
from ambi_eval.serving.weights import pinned

# Holds the address of a server that another process has started for this one (`shared_server`).
SHARED = "AMBI_VLLM_SERVER"
# Arguments of ours that are options of `vllm serve`, too.
OPTIONS = (
    "revision",
    "dtype",
    "max_model_len",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "data_parallel_backend",
    "gpu_memory_utilization",
)
# Only we set these: if a user changed one, requests would go to an address without a server.
OURS = ("--host", "--port", "--api-key", "--served-model-name", "--uds")


@dataclass(frozen=True)
class Address:
    """The address of a server, and what a client must know."""

    base_url: str  # the URL, which ends with `/v1`
    key: str  # the API key that clients must send
    model: str  # the name of the model on the server
    log: str  # the file of the server's output
    serves: list[str]  # the arguments of `vllm`, without address and log


class VLLMServer:
    """A `vllm serve` that listens on 127.0.0.1 only, and answers only requests that carry its random key.

    Attributes:
        address: Its address, known before it is started.
        process: The process, once it is started.
    """

    process: ServerProcess | None = None

    def __init__(self, arguments: VLLMAudioArguments) -> None:
        """Choose a free port, a key and a log; nothing is started."""
        self._arguments = arguments
        self._program = executable(arguments.vllm)
        model, url = served_name(arguments), f"http://127.0.0.1:{free_port()}/v1"
        new = f"vllm-{model.replace('/', '--')}-{time.strftime('%Y-%m-%dT%H-%M-%S')}-{os.getpid()}.log"
        log = arguments.serve_log or str(cache_dir() / "serving" / new)
        self.address = Address(url, secrets.token_urlsafe(24), model, log, serve_arguments(arguments))

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        address = self.address
        # The key is an environment variable, because other users of this machine can read command lines. PYTHONPATH and
        # PYTHONHOME are left out: they name the packages of this Python, not those of vLLM's Python.
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        environment = {"VLLM_NO_USAGE_STATS": "1", **environment, "VLLM_API_KEY": address.key}
        port = str(urlsplit(address.base_url).port)
        command = [self._program, *address.serves, "--host", "127.0.0.1", "--port", port]
        self.process = ServerProcess(f"vllm serve {address.model}", command, environment, Path(address.log))
        headers = {"Authorization": f"Bearer {address.key}"}
        self.process.wait_until_ready(f"{address.base_url}/models", headers, self._arguments.start_timeout)

    def stop(self) -> None:
        """End it with all of its child processes, if it runs."""
        if self.process is not None:
            self.process.stop()


def serve_arguments(arguments: VLLMAudioArguments) -> list[str]:
    """Return the arguments of `vllm`, without those of the address, which `serve_args` may not hold."""
    more = arguments.serve_args or []
    more = shlex.split(more) if isinstance(more, str) else list(more)
    if taken := [word for word in more if word.partition("=")[0] in OURS]:
        raise AmbiError(f"serve_args holds {taken[0]}, which vllm-audio sets itself; leave it out")
    given = {f"--{name.replace('_', '-')}": getattr(arguments, name) for name in OPTIONS}
    return [
        "serve",
        checkpoint(arguments.pretrained),
        "--served-model-name",
        served_name(arguments),
        # Otherwise the checkpoint's own settings (Qwen2-Audio: top-p 0.5, repetition penalty 1.1) would apply.
        "--generation-config",
        "vllm",
        *(str(word) for option, value in given.items() if value is not None for word in (option, value)),
        *(["--trust-remote-code"] if arguments.trust_remote_code else []),
        *more,
    ]


def served_name(arguments: VLLMAudioArguments) -> str:
    """Return the name of the model on the server: the repository, or the name of the folder.

    The seeds of samples depend on this name; they do not change if the folder is moved.
    """
    folder = Path(arguments.pretrained)
    return folder.resolve().name if folder.is_dir() else arguments.pretrained


def executable(given: str | None) -> str:
    """Return the program `vllm`. The argument `vllm=` names the program, its environment, or the environment's Python.

    Without the argument it is the program in this environment, else the first one on PATH.
    """
    if given is None:
        here = Path(sys.executable).parent / "vllm"
        if found := str(here) if here.is_file() else shutil.which("vllm"):
            return found
        fix = "make an environment of its own (python3 -m venv VENV && VENV/bin/pip install 'vllm[audio]')"
        raise AmbiError(f"vLLM is neither in this environment nor on PATH; {fix} and give vllm=VENV")
    path = Path(given).expanduser().absolute()
    inside = path / "bin" / "vllm" if path.is_dir() else path.with_name("vllm")
    program = path if path.name == "vllm" and path.is_file() else inside
    if not (program.is_file() and os.access(program, os.X_OK)):
        raise AmbiError(f"vllm={given}: there is no program {program}; give an environment in which vLLM is installed")
    return str(program)


@contextmanager
def shared_server(arguments: VLLMAudioArguments) -> Iterator[dict[str, str]]:
    """Run a server during this context, and yield the environment variables with which other processes find it.

    If it does not start, the other processes do not try again; each raises the same error.
    """
    server = None
    try:
        server = VLLMServer(pinned(arguments))
        server.start()
        told = asdict(server.address)
    except AmbiError as error:
        told = {"error": str(error)}
    try:
        yield {SHARED: json.dumps(told)}
    finally:
        if server:
            server.stop()


def shared_address(arguments: VLLMAudioArguments) -> Address | None:
    """Return the address of the server that another process started for these arguments; None if there is none."""
    found = json.loads(os.environ.get(SHARED, "{}"))
    if "error" in found:
        raise AmbiError(found["error"])
    return Address(**found) if found and found["serves"] == serve_arguments(arguments) else None

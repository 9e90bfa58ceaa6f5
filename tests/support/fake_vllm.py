"""A program like `vllm serve`, for the life of a server: it starts a child, listens, answers, and ends as it is told.

FAKE_VLLM in its environment says how it behaves: `dies` (ends as vLLM does whose engine fails), `deaf` (does not leave
when it is asked to), `slow` (never listens). `make test-vllm` runs the real one.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

DEATH = """\
(EngineCore pid=17) ERROR 11-26 04:10:37 [core.py:1133] ValueError: no kernel takes a head size of 7
(APIServer pid=16) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


def environment(folder: Path) -> Path:
    """Write an environment with this file as its program `vllm`."""
    program = folder / "bin" / "vllm"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable} -S\nimport runpy\nrunpy.run_path({__file__!r}, run_name='__main__')\n")
    program.chmod(0o755)
    return folder


def started(log: Path) -> dict[str, list[int] | list[str]]:
    """Return what the program wrote of itself into its log: its process and its child's (`pids`), and its words."""
    return json.loads(next(line for line in log.read_text().splitlines() if line.startswith("{")))


def main() -> None:
    how = os.environ.get("FAKE_VLLM")
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    print(json.dumps({"pids": [os.getpid(), child.pid], "words": sys.argv[1:]}), flush=True)  # noqa: T201
    if how == "dies":
        sys.stderr.write(DEATH)
        sys.exit(1)
    if how == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if how != "slow":
        sys.path.insert(0, str(Path(__file__).parents[1]))
        from support.chat_server import ChatTestServer

        server = ChatTestServer(int(sys.argv[sys.argv.index("--port") + 1]))
        server.owner = "vllm"
    signal.pause()


if __name__ == "__main__":
    main()

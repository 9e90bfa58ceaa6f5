"""A server between the client and vLLM that writes down each reply, and one that gives the same replies without vLLM.

`PYTHONPATH=tests python -m support.vllm_replies URL` writes down the replies that
`tests/engines/openai/test_vllm.py` needs, of a real vLLM server at URL that serves ambi-tiny (`support.long_window`)
under that name.
"""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from support.loopback import JsonReplies, LoopbackServer

FILE = Path(__file__).parents[1] / "engines" / "openai" / "vllm_replies.json.gz"


def key(path: str, body: Any) -> str:
    """Return the name of a request. Of its audio only the length counts: the last digit of a sample may differ."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("type") == "input_audio":
                return len(value["input_audio"]["data"])
            return {name: plain(each) for name, each in sorted(value.items()) if name != "model"}
        return [plain(each) for each in value] if isinstance(value, list) else value

    return hashlib.sha256(json.dumps([path, plain(body)]).encode()).hexdigest()[:16]


class ReplyServer:
    """Gives known replies, and asks a real server for unknown ones if there is one."""

    def __init__(self, replies: dict[str, Any], upstream: str | None = None) -> None:
        self.replies = replies
        self.unknown: list[str] = []
        owner = self

        class Handler(JsonReplies, http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(self.path, None)

            def do_POST(self) -> None:
                self.answer(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def answer(self, path: str, body: Any) -> None:
                name = key(path, body)
                if name not in owner.replies and upstream:
                    owner.replies[name] = owner.ask(upstream + path, body)
                if name not in owner.replies:
                    owner.unknown.append(json.dumps(body)[-300:])
                    owner.replies[name] = [404, {"error": {"message": "this request was not recorded"}}]
                status, content = owner.replies[name]
                self.send(status, {}, content)

        self._server = LoopbackServer(Handler)
        self.url = self._server.origin

    @staticmethod
    def ask(url: str, body: Any) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=600) as reply:
                return reply.status, short(json.load(reply))
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def close(self) -> None:
        self._server.close()


def short(reply: Any) -> Any:
    """Leave out of a reply what is long and nobody reads: the log-likelihoods of the question's own tokens."""
    if reply.get("prompt_logprobs"):
        reply["prompt_logprobs"] = reply["prompt_logprobs"][-20:]
        reply["prompt_token_ids"] = reply["prompt_token_ids"][-20:]
    elif reply.get("prompt_token_ids"):
        reply["prompt_token_ids"] = None
    return reply


def main() -> None:
    """Record."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    server = ReplyServer({}, sys.argv[1].rstrip("/").removesuffix("/v1"))
    simple_evaluate(
        "openai-audio", arguments(server), tasks=TASKS, limit=CLIPS, bootstrap_iters=0, task_manager=TaskManager()
    )
    failed = [status for status, _ in server.replies.values() if status != 200]
    assert not failed, failed
    # The same bytes for the same replies.
    FILE.write_bytes(gzip.compress(json.dumps(server.replies, sort_keys=True).encode(), mtime=0))
    print(f"{len(server.replies)} replies, {FILE.stat().st_size / 1e3:.0f} kB")  # noqa: T201


CLIPS = 2
STRATEGIES = ("direct", "cot", "bon", "wbon", "almv", "walmv", "sc", "asc", "sc_shares", "ens", "exact")
TASKS = [f"ambi_demo_{strategy}" for strategy in STRATEGIES]


def arguments(server: ReplyServer) -> dict[str, Any]:
    """Return the model arguments of the run that is recorded."""
    return {"model": "ambi-tiny", "base_url": f"{server.url}/v1", "store": "none", "seed": 0, "num_concurrent": 2}


if __name__ == "__main__":
    main()

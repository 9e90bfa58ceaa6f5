"""A chat server for tests that takes batches: slow, forgetful, out of order, and with lines that fail."""

from __future__ import annotations

import email.parser
import email.policy
import http.server
import json
import random
from typing import Any

from support.chat_server import ChatTestServer
from support.loopback import JsonReplies, LoopbackServer


class BatchTestServer:
    """`/v1/files` and `/v1/batches` of an OpenAI-compatible server.

    Attributes:
        url: Where it is.
        answered: The request of every line that was ever worked on: what is paid for.
        files: The content of each file.
        batches: Each batch.
        polls: How often a batch is said to be under way before it is done.
        status: What a batch that is done is called.
        forgotten: How often a question for a batch is answered with 404.
        lose_reply: Whether the reply to the next new batch is lost on the way.
        line_fault: Gives the error of a line, or None: `(status, error)`, or "missing".
    """

    def __init__(self) -> None:
        self.answered: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.polls = 0
        self.status = "completed"
        self.forgotten = 0
        self.lose_reply = False
        self.line_fault: Any = lambda body: None
        self.chat = ChatTestServer()
        api = self

        class Handler(JsonReplies, http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.split("?")[0].removeprefix("/v1/")
                kind, _, rest = name.partition("/")
                if name == "models":
                    self.send(200, {}, {"data": [{"id": "listener", "owned_by": "a test"}]})
                elif name == "batches":
                    self.send(200, {}, {"object": "list", "data": list(api.batches.values()), "has_more": False})
                elif kind == "files":
                    self.send(200, {}, api.files[rest.partition("/")[0]])
                elif kind == "batches" and rest in api.batches and api.forgotten <= 0:
                    self.send(200, {}, api.poll(rest))
                else:
                    api.forgotten -= 1
                    self.send(404, {}, {"error": {"message": f"no such batch: {rest}"}})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/files":
                    head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
                    parts = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body).iter_parts()
                    name = f"file-{len(api.files)}"
                    api.files[name] = next(p.get_payload(decode=True) for p in parts if p.get_filename())
                    self.send(
                        200,
                        {},
                        {
                            "id": name,
                            "object": "file",
                            "purpose": "batch",
                            "bytes": 1,
                            "created_at": 1,
                            "filename": "x",
                            "status": "processed",
                        },
                    )
                elif self.path == "/v1/batches":
                    batch = api.make(json.loads(body))
                    if api.lose_reply:
                        api.lose_reply = False
                        self.close_connection = True
                        self.connection.close()
                    else:
                        self.send(200, {}, batch)
                else:
                    self.send(500, {}, {"error": {"message": "only batches here"}})

        self._server = LoopbackServer(Handler)
        self.url = f"{self._server.origin}/v1"

    def make(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Work on all lines of a file, and keep the results in another order."""
        outputs, errors = [], []
        for line in self.files[asked["input_file_id"]].decode().splitlines():
            request = json.loads(line)
            fault = self.line_fault(request["body"])
            if fault == "missing":
                continue
            result = {"id": "r", "custom_id": request["custom_id"], "error": None}
            if fault:
                status, error = fault
                errors.append({**result, "response": {"status_code": status, "body": {"error": error}}})
            else:
                self.answered.append(request["body"])
                answer = ChatTestServer.answer(self.chat, request["body"])
                outputs.append({**result, "response": {"status_code": 200, "body": answer}})
        random.Random(3).shuffle(outputs)
        name = f"batch-{len(self.batches)}"
        batch = {
            "id": name,
            "object": "batch",
            "endpoint": asked["endpoint"],
            "input_file_id": asked["input_file_id"],
            "completion_window": "24h",
            "created_at": 1,
            "status": "validating",
            "metadata": asked.get("metadata"),
            "left": self.polls,
        }
        for kind, lines in (("output", outputs), ("error", errors)):
            if lines:
                self.files[f"{name}-{kind}"] = "".join(json.dumps(each) + "\n" for each in lines).encode()
                batch[f"{kind}_file_id"] = f"{name}-{kind}"
        self.batches[name] = batch
        return batch

    def poll(self, name: str) -> dict[str, Any]:
        """Return a batch, which is nearer to its end each time."""
        batch = self.batches[name]
        batch["status"] = self.status if batch["left"] <= 0 else "in_progress"
        batch["left"] -= 1
        return batch

    def close(self) -> None:
        """Stop listening."""
        self.chat.close()
        self._server.close()

"""A server for tests that plays the protocol of the Gemini API: files, answers and batches."""

from __future__ import annotations

import datetime
import http.server
import json
import random
import re
import threading
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.loopback import JsonReplies, LoopbackServer


class GeminiTestServer:
    """A Gemini API whose answers follow from what it is asked, and that can be told to fail.

    Attributes:
        url: Where it is.
        files: The content of each uploaded file, by name.
        requests: Every request for an answer: the model and the body, those of batches included.
        keys: The keys that came.
        faults: What happens to the next requests for answers instead of one, in turn: `(status, content)`; None is an
            answer. A callable is asked with each body for as long as it is there.
        lifetime: Seconds after which it says that an uploaded file expires.
        batches: The batches, by name: their state, and the lines of their results.
        batch_state: The state of new batches, until `finish` is called.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.keys: set[str | None] = set()
        self.faults: list[Any] = []
        self.lifetime = 48 * 3600.0
        self.batches: dict[str, dict[str, Any]] = {}
        self.batch_state = "BATCH_STATE_SUCCEEDED"
        self.lock = threading.Lock()
        api = self

        class Handler(JsonReplies, http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = re.sub("/v1(beta)?/", "/v1beta/", urlsplit(self.path).path)
                if path.endswith(":download"):
                    name = path.rpartition("/")[2].partition(":")[0]
                    self.send(200, {}, api.files[name])
                elif path == "/v1beta/batches":
                    self.send(200, {}, {"operations": [api.operation(name) for name in api.batches]})
                elif path.startswith("/v1beta/batches/") and (name := path.rpartition("/")[2]) in api.batches:
                    self.send(200, {}, api.operation(name))
                else:
                    self.send(404, {}, error(404, "NOT_FOUND", f"{path} is not there"))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = re.sub("/v1(beta)?/", "/v1beta/", urlsplit(self.path).path)
                query = parse_qs(urlsplit(self.path).query)
                api.keys.add(self.headers.get("x-goog-api-key"))
                if path == "/upload/v1beta/files" and "upload_id" not in query:
                    with api.lock:
                        name = f"file{len(api.files)}"
                        api.files[name] = b""
                    there = {"X-Goog-Upload-URL": f"{api.url}/upload/v1beta/files?upload_id={name}"}
                    self.send(200, {**there, "X-Goog-Upload-Status": "active"}, {})
                elif path == "/upload/v1beta/files":
                    name = query["upload_id"][0]
                    api.files[name] += body
                    final = (
                        {"X-Goog-Upload-Status": "final"} if "finalize" in self.headers["X-Goog-Upload-Command"] else {}
                    )
                    self.send(200, final or {"X-Goog-Upload-Status": "active"}, {"file": api.file(name)})
                elif path.endswith(":generateContent"):
                    content = json.loads(body)
                    with api.lock:
                        fault = api.faults[0] if api.faults else None
                        if callable(fault):
                            fault = fault(content)
                        elif api.faults:
                            api.faults.pop(0)
                    status, answer = fault or api.answer(path.rpartition("/")[2].partition(":")[0], content)
                    self.send(status, {}, answer)
                elif path.endswith(":batchGenerateContent"):
                    self.send(200, {}, api.make_batch(path.rpartition("/")[2].partition(":")[0], json.loads(body)))
                else:
                    self.send(404, {}, error(404, "NOT_FOUND", f"{path} is not there"))

        self._server = LoopbackServer(Handler)
        self.url = self._server.origin

    def file(self, name: str) -> dict[str, Any]:
        """Return what the API says of a file."""
        expires = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.lifetime)
        return {
            "name": f"files/{name}",
            "uri": f"{self.url}/v1beta/files/{name}",
            "state": "ACTIVE",
            "mimeType": "audio/wav",
            "expirationTime": expires.isoformat().replace("+00:00", "Z"),
        }

    def answer(self, model: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return an answer that hangs on the text, the audio and the seed of each candidate."""
        self.requests.append((model, body))
        heard = []
        for part in body["contents"][0]["parts"]:
            if "fileData" in part:
                file = part["fileData"]  # the protocol takes both spellings, and google-genai sends this one
                name = (file.get("file_uri") or file["fileUri"]).rpartition("/")[2]
                if name not in self.files:
                    words = f"You do not have permission to access the File {name} or it may not exist."
                    return 403, error(403, "PERMISSION_DENIED", words)
                heard.append(str(hash(self.files[name])))
            else:
                heard.append(part["text"])
        config = body.get("generationConfig", {})
        # google-genai sends the inner names as they are given.
        budget = next(iter(config.get("thinkingConfig", {}).values()), 5)
        candidates = []
        for number in range(config.get("candidateCount", 1)):
            # Neighboring seeds give different words: equal candidates would be taken for copies.
            drawn = config.get("seed", 0) + number if config.get("temperature", 1) else 0
            word = ["angry", "happy", "neutral", "sad"][(random.Random(str(heard)).randrange(4) + drawn) % 4]
            thought = {"text": "It sounds like a voice.", "thought": True}
            candidate = {"index": number, "content": {"parts": [thought, {"text": word}]}, "finishReason": "STOP"}
            if config.get("responseLogprobs"):
                token = {"token": word, "logProbability": -0.5}
                candidate["logprobsResult"] = {
                    "chosenCandidates": [token, {"token": "", "logProbability": -0.25}],
                    "topCandidates": [{"candidates": [token, {"token": "x", "logProbability": -1.0}]}, {}],
                }
            candidates.append(candidate)
        details = [{"modality": "TEXT", "tokenCount": 20}, {"modality": "AUDIO", "tokenCount": 80}]
        usage = {
            "promptTokenCount": 100,
            "promptTokensDetails": details,
            "candidatesTokenCount": 2 * len(candidates),
            "thoughtsTokenCount": min(5, budget) * len(candidates),
        }
        return 200, {"candidates": candidates, "usageMetadata": usage, "modelVersion": f"{model}-001"}

    def make_batch(self, model: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer all lines of a batch at once, in another order; it is done when its state says so."""
        batch = body["batch"]
        lines = self.files[batch["inputConfig"]["fileName"].rpartition("/")[2]].decode().splitlines()
        results = []
        for line in lines:
            asked = json.loads(line)
            fault = self.faults[0](asked["request"]) if self.faults and callable(self.faults[0]) else None
            status, content = fault or self.answer(model, asked["request"])
            results.append({"key": asked["key"], **({"response": content} if status == 200 else content)})
        name = f"batch{len(self.batches)}"
        random.Random(1).shuffle(results)
        self.files[f"{name}-output"] = "".join(json.dumps(each) + "\n" for each in results).encode()
        self.batches[name] = {"displayName": batch["displayName"], "state": self.batch_state, "lines": len(lines)}
        return self.operation(name)

    def operation(self, name: str) -> dict[str, Any]:
        """Return what the API says of a batch."""
        batch = self.batches[name]
        done = batch["state"] not in ("BATCH_STATE_PENDING", "BATCH_STATE_RUNNING")
        said = {"name": f"batches/{name}", "displayName": batch["displayName"], "state": batch["state"]}
        output = {"output": {"responsesFile": f"files/{name}-output"}} if batch["state"].endswith("SUCCEEDED") else {}
        return {"name": f"batches/{name}", "metadata": {**said, **output}, "done": done}

    def finish(self, state: str = "BATCH_STATE_SUCCEEDED") -> None:
        """End all batches."""
        for batch in self.batches.values():
            batch["state"] = state

    def texts(self) -> list[str]:
        """Return the text of each request for an answer."""
        return [re.sub(r"\s+", " ", json.dumps(body["contents"])) for _, body in self.requests]

    def close(self) -> None:
        """Stop listening."""
        self._server.close()


def error(code: int, status: str, message: str, **more: Any) -> dict[str, Any]:
    """Return an error as the API words it."""
    return {"error": {"code": code, "status": status, "message": message, **more}}

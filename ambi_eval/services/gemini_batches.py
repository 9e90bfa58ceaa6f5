"""The batch mode of the Gemini API, at half of the price."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ambi_eval.batches.run import Result, State
from ambi_eval.services.gemini_format import as_line, refused_field, to_chat_reply, to_gemini

ENDED = ("SUCCEEDED", "PARTIALLY_SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")


class GeminiBatches:
    """The batch mode of one model; `batches.run.Service` documents each method."""

    most_requests = 50_000
    most_bytes = 1_900_000_000  # of 2 GB

    def __init__(self, server: Any) -> None:
        """Set up for a `GeminiServer`."""
        from google.genai import errors

        self.errors = (errors.APIError,)
        self.server = server
        self.address = server.base_url
        self._batches, self._files = server.client.batches, server.client.files

    def line(self, key: str, body: Mapping[str, Any]) -> bytes:
        """Upload the audio of a request, and return the request as a line of the batch's file."""
        return json.dumps({"key": key, "request": as_line(*to_gemini(body, self.server.uploads.uri))}).encode()

    def upload(self, file: Path, name: str) -> str:
        """Upload the lines."""
        return str(self._files.upload(file=str(file), config={"mime_type": "application/jsonl"}).name)

    def create(self, file: str, name: str) -> str:
        """Send the batch."""
        return str(self._batches.create(model=self.server.model, src=file, config={"display_name": name}).name)

    def find(self, file: str, name: str) -> str | None:
        """Search all batches of the account."""
        return next((str(each.name) for each in self._batches.list() if each.display_name == name), None)

    def state(self, batch: str) -> State | None:
        """Return the state."""
        try:
            found = self._batches.get(name=batch)
        except self.errors as error:
            if error.code == 404:
                return None
            raise
        state = str(found.state.name if found.state else "").removeprefix("JOB_STATE_")
        return State(state in ENDED, "; ".join(filter(None, [state, found.error and str(found.error.message)])))

    def results(self, batch: str) -> Iterator[Result]:
        """Read the file of answers, if there is one."""
        found = self._batches.get(name=batch)
        if found.dest and found.dest.file_name:
            yield from map(_result, self._files.download(file=found.dest.file_name).splitlines())


def _result(line: bytes) -> Result:
    from google.genai import types

    content = json.loads(line)
    if "response" in content:
        reply = types.GenerateContentResponse.model_validate(content["response"])
        return Result(content["key"], to_chat_reply(reply.model_dump(mode="json", exclude_none=True)))
    told = str(content.get("error", {}).get("message") or content)
    return Result(content["key"], failure=told, refused=refused_field(told))

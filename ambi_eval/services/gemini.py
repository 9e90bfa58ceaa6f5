"""The engine `gemini-audio`: Gemini through google-genai, each clip uploaded once."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import urlsplit

import torch

from ambi_eval.audio import Samples
from ambi_eval.config.model_arguments import GeminiAudioArguments, ModelArguments
from ambi_eval.engines.base import Job
from ambi_eval.engines.openai.address import server_address
from ambi_eval.engines.openai.client import LOOPBACK, ChatServer
from ambi_eval.engines.openai.engine import OpenAIEngine
from ambi_eval.engines.openai.questions import AUDIO_SECONDS, SAMPLE_RATE, wav_file
from ambi_eval.engines.openai.replies import ServedModel
from ambi_eval.engines.openai.transport import keep_error
from ambi_eval.engines.prompt import as_messages
from ambi_eval.errors import AmbiError
from ambi_eval.services.gemini_batches import GeminiBatches
from ambi_eval.services.gemini_format import refused_field, to_chat_reply, to_gemini
from ambi_eval.services.uploads import Uploads

GOOGLE = "https://generativelanguage.googleapis.com"
KEYS = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
BATCH_SECONDS = 36 * 3600.0
MOST_CANDIDATES = 8  # the most answers that one request may ask for


class GeminiServer(ChatServer):
    """One model of the Gemini API; requests and replies are translated from and to those of a chat server."""

    served: ClassVar[dict[str, ServedModel]] = {}
    kind = "chat"
    budgets_thinking = True

    def _address(self, base_url: str | None) -> str:
        return server_address(base_url or GOOGLE)

    def _usual_key_variable(self) -> str:
        return next((name for name in KEYS if os.environ.get(name)), KEYS[0])

    def _needs_key(self) -> bool:
        return True

    def _open(self) -> Any:
        try:
            from google import genai
            from google.genai import types
        except ImportError as error:
            raise AmbiError("gemini-audio needs google-genai: pip install 'ambi-eval[gemini]'") from error
        local = urlsplit(self.base_url).hostname in LOOPBACK
        options = types.HttpOptions(
            base_url=self.base_url,
            timeout=max(1, round(self.given.timeout * 1000)),
            retry_options=types.HttpRetryOptions(attempts=1),
            client_args={"event_hooks": {"response": [keep_error]}, **({"trust_env": False} if local else {})},
        )
        client = genai.Client(api_key=self._key, vertexai=False, http_options=options)
        account = f"{self.base_url} {hashlib.sha256(self._key.encode()).hexdigest()[:16]}"
        # A batch may wait a day before Google reads its files.
        self.uploads = Uploads(client, account, seconds_left=BATCH_SECONDS if self.given.batch else 3600.0)
        return client

    @cached_property
    def batches(self) -> GeminiBatches:
        """The batch mode of the API."""
        return GeminiBatches(self)

    def question(self, job: Job, audios: Sequence[Samples]) -> dict[str, Any]:
        """Return the part of a request with the messages and the audio, which is uploaded later."""
        parts = [{"type": "audio", "wav": wav_file(samples, "PCM_16")} for samples in audios]
        seconds = {AUDIO_SECONDS: sum(map(len, audios)) / SAMPLE_RATE} if audios else {}
        return {"messages": as_messages(job.prompt, parts), **seconds}

    def _post(self, body: Mapping[str, Any]) -> bytes:
        try:
            return self._generate(body)
        except self._sdk.APIStatusError as error:
            # The API answers so if a file was deleted or has expired.
            if error.status_code not in (403, 404) or not self.uploads.forget(str(error)):
                raise
        return self._generate(body)

    def _generate(self, body: Mapping[str, Any]) -> bytes:
        from google.genai import errors

        try:
            contents, config = to_gemini(body, self.uploads.uri)
            reply = self.client.models.generate_content(model=self.model, contents=contents, config=config)
        except errors.APIError as error:
            raise self._as_sdk_error(error) from None  # the message repeats its text
        except Exception as error:
            if type(error).__module__.partition(".")[0] in ("httpx", "httpx2"):
                raise ConnectionError(str(error)) from error
            raise
        return to_chat_reply(reply.model_dump(mode="json", exclude_none=True, exclude={"sdk_http_response", "parsed"}))

    def _as_sdk_error(self, error: Any) -> Exception:
        told, sdk = str(error.message or error), self._sdk
        if not hasattr(error.response, "headers"):
            return ConnectionError(told)
        kinds = {400: sdk.BadRequestError, 401: sdk.AuthenticationError, 403: sdk.PermissionDeniedError}
        kinds |= {404: sdk.NotFoundError, 429: sdk.RateLimitError}
        kind = kinds.get(error.code, sdk.InternalServerError if error.code >= 500 else sdk.APIStatusError)
        details = str(error.details)
        if "API_KEY_INVALID" in details:
            kind = sdk.AuthenticationError
        if delay := re.search(r"'retryDelay': '([\d.]+)s'", details):
            error.response.headers["retry-after"] = delay[1]
        body = {"message": told, "param": refused_field(told)}
        translated: Exception = kind(told, response=error.response, body=body)
        return translated


class GeminiEngine(OpenAIEngine):
    """A model of the Gemini API; it samples and answers greedily, as chat servers do."""

    Arguments: ClassVar[type[ModelArguments]] = GeminiAudioArguments
    Server = GeminiServer
    library = "google-genai"

    def __init__(self, arguments: GeminiAudioArguments, device: torch.device | None = None) -> None:
        """Set up; the first request is sent with the first job."""
        super().__init__(arguments, device)
        self.per_request = min(self.per_request, MOST_CANDIDATES)

    def counts(self) -> dict[str, int]:
        """Return the counts of requests and tokens, and the number of uploaded files."""
        server = self.server
        assert isinstance(server, GeminiServer)
        return {**super().counts(), "uploads": server.uploads.count}

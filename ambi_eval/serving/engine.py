"""The engine `vllm-audio`: starts a vLLM server for a checkpoint, and sends requests to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, ClassVar

from ambi_eval.answers.candidate import Candidate
from ambi_eval.config.model_arguments import ModelArguments, OpenAIAudioArguments, VLLMAudioArguments
from ambi_eval.engines.base import Job, Likelihood
from ambi_eval.engines.hf.loading import checkpoint
from ambi_eval.engines.openai.client import ChatServer
from ambi_eval.engines.openai.engine import OpenAIEngine
from ambi_eval.engines.openai.window import window_of
from ambi_eval.serving.vllm import VLLMServer, shared_address, shared_server
from ambi_eval.serving.weights import pinned, weights_of


class VLLMEngine(OpenAIEngine):
    """`openai-audio` in front of a `vllm serve`, which starts before the first answer and ends with this process.

    A run whose answers are all stored starts no server. A server that a sweep has started for the same arguments is
    used, and not started again.
    """

    Arguments: ClassVar[type[ModelArguments]] = VLLMAudioArguments

    def _connect(self) -> ChatServer:
        self.arguments: VLLMAudioArguments = pinned(self.arguments)
        self._weights = weights_of(self.arguments)
        self._own: VLLMServer | None = None
        if (address := shared_address(self.arguments)) is None:
            self._own = VLLMServer(self.arguments)
            address = self._own.address
        self.address = address
        shared = self.arguments.model_dump(include=set(OpenAIAudioArguments.model_fields))
        given = OpenAIAudioArguments(**{**shared, "model": address.model, "base_url": address.base_url})
        server = ChatServer(given, address.key)
        server.kind = "vllm"
        return server

    @classmethod
    def shared(cls, arguments: Any) -> AbstractContextManager[dict[str, str]]:
        """Start one server that several processes of this machine use one after another."""
        return shared_server(arguments)

    @classmethod
    def pools(cls, server: str = "vllm") -> frozenset[str]:
        """Return all pools: the server is vLLM."""
        return super().pools("vllm")

    @property
    def name(self) -> str:
        """The checkpoint, as the user named it."""
        return str(self.arguments.pretrained)

    @property
    def identity(self) -> dict[str, Any]:
        """The weights, their precision, and the other arguments that change answers."""
        change = {"dtype", "max_model_len", "serve_args", "extra_body", "max_audio_seconds"}
        told = self.arguments.model_dump(include=change, exclude_defaults=True)
        return {"kind": "vllm", **self._weights, "model": self.address.model, **told, **self.thinking_identity}

    def generate(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, dict[int, Candidate]]]:
        """Start the server if it does not run yet, and yield its answers."""
        self._start()
        yield from super().generate(jobs)

    def loglikelihoods(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, list[Likelihood]]]:
        """Start the server if it does not run yet, and yield the likelihoods that it gives."""
        self._start()
        yield from super().loglikelihoods(jobs)

    def _start(self) -> None:
        if self._own and self._own.process is None:
            self._own.start()

    def _note_failure(self, failure: Exception) -> None:
        """Note a failure; if our server has ended, raise the reason, since every later request would fail too."""
        process = self._own and self._own.process
        if process and not process.runs:
            raise process.ended() from failure
        super()._note_failure(failure)

    @cached_property
    def window_seconds(self) -> float | None:
        """The longest audio that the model hears, from the arguments or else from the checkpoint."""
        given = self.arguments
        return given.max_audio_seconds or window_of(checkpoint(given.pretrained), given.revision)

    @property
    def _known_as(self) -> str:
        """The name under which `doctor` stores its findings; not the address, because its port changes."""
        return f"vllm-audio:{self.name}"

    def info(self) -> dict[str, Any]:
        """Return which weights the server has, how it was started, and where its log is."""
        told = super().info()
        return {**told, "base_url": "vllm serve", "serve": self.address.serves, "serve_log": self.address.log}

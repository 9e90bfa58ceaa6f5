"""The engine `litellm-audio`: any provider that litellm reaches with audio, through its library."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from importlib import metadata
from typing import Any, ClassVar

from ambi_eval.config.model_arguments import LiteLLMAudioArguments
from ambi_eval.config.prices import MILLION, Price
from ambi_eval.engines.openai.address import server_address
from ambi_eval.engines.openai.client import ChatServer
from ambi_eval.engines.openai.engine import OpenAIEngine
from ambi_eval.engines.openai.replies import ServedModel
from ambi_eval.errors import AmbiError

KEY = "_API_KEY"  # how the names of variables with a key end
LITELLM = "litellm"  # stands for the address of a provider, which only litellm knows


def library() -> Any:
    """Return the litellm package, if it is installed, set up to neither download prices nor print advice."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        import litellm
    except ImportError as error:
        raise AmbiError("litellm-audio needs the litellm package: pip install 'ambi-eval[litellm]'") from error
    vars(litellm)["suppress_debug_info"] = True
    logging.getLogger("LiteLLM").setLevel(logging.ERROR)
    return litellm


class LiteLLMServer(ChatServer):
    """One model of any provider.

    litellm translates the requests and replies of a chat server, and raises the errors of the OpenAI SDK, so retries
    and failures are those of `ChatServer`. litellm itself refuses a field that a provider lacks, and names it.
    """

    served: ClassVar[dict[str, ServedModel]] = {}
    kind = "chat"

    def _address(self, base_url: str | None) -> str:
        self._litellm = library()
        try:
            self.provider = self._litellm.get_llm_provider(self.model, api_base=base_url)[1]
        except self._litellm.BadRequestError as error:
            fix = "put it in front, as in gemini/gemini-3.8-flash or openai/gpt-audio-1.5"
            raise AmbiError(f"litellm knows no provider of model={self.model}; {fix}") from error
        return server_address(base_url) if base_url else LITELLM

    def _usual_key_variable(self) -> str:
        """Return the variable that litellm misses, or would miss without."""
        keys = self._missing() or [name for name in os.environ if name.endswith(KEY) and self._missing(name)]
        wanted = [name for name in keys if name.endswith(KEY)]
        return wanted[-1] if wanted else self.provider.upper() + KEY

    def _missing(self, without: str = "") -> list[str]:
        """Return the environment variables that litellm says are missing, as if the variable `without` were not set."""
        kept = os.environ.pop(without, None)
        try:
            return list(self._litellm.validate_environment(self.model)["missing_keys"])
        finally:
            if kept is not None:
                os.environ[without] = kept

    def _needs_key(self) -> bool:
        return self.base_url == LITELLM and not self._litellm.validate_environment(self.model)["keys_in_environment"]

    def _price(self) -> Price | None:
        return super()._price() or (listed_price(self.model) if self.base_url == LITELLM else None)

    def _open(self) -> Any:
        """Give litellm the client with which it reaches providers that speak OpenAI's protocol."""
        client = self._http_client()
        self._litellm.client_session = client
        return client

    def _post(self, body: Mapping[str, Any]) -> bytes:
        reached = {} if self.base_url == LITELLM else {"api_base": self.base_url}
        # Without a key of our own, litellm looks for the one that the provider takes.
        key = {"api_key": self._key} if self._key != "none" or reached else {}
        try:
            options = {"timeout": self.given.timeout, "num_retries": 0, "max_retries": 0, "drop_params": False}
            reply = self._litellm.completion(**body, **reached, **key, **options)
        except self._sdk.APIError as error:
            # litellm's errors are those of the SDK, but for some fields.
            body_of_error = getattr(error, "body", None)
            error.body, error.param = body_of_error, getattr(error, "param", None)
            error.code = body_of_error.get("code") if isinstance(body_of_error, dict) else None
            if isinstance(error, self._litellm.ContentPolicyViolationError):
                error.code = "content_filter"
            raise
        return str(reply.model_dump_json()).encode()


class LiteLLMEngine(OpenAIEngine):
    """A model of any provider that litellm reaches; it samples and answers greedily, as chat servers do."""

    Arguments = LiteLLMAudioArguments
    Server = LiteLLMServer
    library = "litellm"


def listed_price(model: str) -> Price | None:
    """Return the price in litellm's own table; None if it has none."""
    try:
        listed = library().get_model_info(model)
    except Exception:  # litellm raises a plain Exception for an unknown model
        return None
    names = {"input": "input_cost_per_token", "output": "output_cost_per_token", "audio": "input_cost_per_audio_token"}
    prices = {name: listed[key] * MILLION for name, key in names.items() if listed.get(key)}
    return Price(**prices, source=f"litellm {metadata.version('litellm')}") if prices else None

"""The arguments of our harness models (`--model_args`), with type, default and description."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator, model_validator
from pydantic.config import JsonDict

from ambi_eval.config.prices import Price, read_prices
from ambi_eval.config.settings import Settings

# Arguments that a submission to the leaderboard contains: those that an answer depends on, without paths, devices,
# batch sizes and kernels. None of them runs the submitter's code or contacts a server, so a re-run with them is safe.
PUBLISHED: JsonDict = {"published": True}


class ModelArguments(Settings):
    """The arguments of every model."""

    # The command line has no types: the harness reads `seed=7` as an integer and `seed=-7` as a float.
    model_config = ConfigDict(strict=False, coerce_numbers_to_str=True)
    # The argument that names the model, with an example; an error message shows it.
    example: ClassVar[tuple[str, str]] = ("pretrained", "Qwen/Qwen2-Audio-7B-Instruct")

    seed: int | None = Field(None, json_schema_extra=PUBLISHED)
    """Seed of the sampling; by default the harness's `--seed`."""
    store: str | None = None
    """File of stored answers; by default `candidates.sqlite` in the data directory, `none` for no store."""
    verifier: str = "self"
    """Who rates answers: `self` (this model), a checkpoint for `hf-audio`, or `openai:MODEL` at `verifier_base_url`."""
    verifier_base_url: str | None = None
    """Address of the verifier's server; by default OPENAI_BASE_URL, else OpenAI's own."""
    verifier_api_key_env: str | None = None
    """Environment variable with the verifier's key; by default OPENAI_API_KEY."""
    think_end_token: str | None = Field(None, min_length=1, json_schema_extra=PUBLISHED)
    """The text with which a model that reasons first ends its thinking (`</think>`). The thinking is counted
    separately, and is no part of the answer."""
    batch_size: PositiveInt | Literal["auto"] = 1
    """Clips that are decoded together (all answers of a clip at once), or `auto`: as many as fit in memory. A server
    decides this itself."""
    max_batch_size: PositiveInt = 64
    """The largest batch that `auto` may choose."""
    device: str | None = None
    """`cuda:0`, `cpu`, `mps` ...; without CUDA, `cuda` means the CPU. A server decides this itself."""

    @model_validator(mode="before")
    @classmethod
    def _needs_a_model(cls, given: dict[str, Any]) -> dict[str, Any]:
        key, model = cls.example
        # With an unknown key, perhaps the model's with a typing error, that is said instead.
        if key in cls.model_fields and not given.get(key) and given.keys() <= cls.model_fields.keys():
            raise ValueError(f"it needs a model: --model_args {key}={model}, for example")
        return given

    @field_validator("batch_size", mode="before")
    @classmethod
    def _auto(cls, value: Any) -> Any:
        # The harness also takes `auto:4`: look for the best size four times during the run.
        return "auto" if str(value).startswith("auto:") else value

    @model_validator(mode="after")
    def _server_of_the_verifier(self) -> ModelArguments:
        if (self.verifier_base_url or self.verifier_api_key_env) and not self.verifier.startswith("openai:"):
            fix = "give verifier=openai:MODEL with verifier_base_url and key"
            raise ValueError(f"verifier={self.verifier} is no server; {fix}")
        return self

    @classmethod
    def published(cls) -> list[str]:
        """Return the names of the arguments that go into a submission to the leaderboard."""
        return [name for name, field in cls.model_fields.items() if field.json_schema_extra == PUBLISHED]


class HFAudioArguments(ModelArguments):
    """The arguments of `hf-audio`."""

    pretrained: str = Field(json_schema_extra=PUBLISHED)
    """A folder, a repository on the Hugging Face hub, or `ambi-tiny`, the model in this package."""
    revision: str = Field("main", json_schema_extra=PUBLISHED)
    """Branch, tag or commit of the repository."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", json_schema_extra=PUBLISHED)
    """Precision of the weights. `auto` is the checkpoint's own on a GPU, and float32 on a CPU (where half precision is
    slow, and where answers must be the same to the last digit)."""
    long_audio: Literal["cut", "refuse"] = Field("cut", json_schema_extra=PUBLISHED)
    """What happens to audio that is longer than the model's window."""
    max_length: PositiveInt | None = Field(None, json_schema_extra=PUBLISHED)
    """Tokens of prompt and answer together; by default what the model was built for."""
    attn_implementation: str | None = None
    """`sdpa`, `flash_attention_2`, `eager` ..."""
    device_map: str | dict[str, Any] | None = None
    """Spreads the model over several GPUs (`auto`)."""
    peft: str | None = Field(None, json_schema_extra=PUBLISHED)
    """Folder or repository of an adapter, merged into the weights."""
    trust_remote_code: bool = False
    """Whether code that comes with the checkpoint may run."""


class ServerArguments(ModelArguments):
    """The arguments of every model behind a network."""

    num_concurrent: PositiveInt = 8
    """Requests at the same time."""
    samples_per_request: PositiveInt | None = None
    """The most samples that one request asks for (`n`); by default all of a clip's. A server that gives fewer is asked
    again for the rest."""
    timeout: float = Field(300.0, gt=0)
    """Seconds after which a request is given up and repeated."""
    max_retries: NonNegativeInt = 5
    """How often a request is repeated."""


class ServiceArguments(ServerArguments):
    """The arguments of every model behind a network that may have a price per token."""

    example = ("model", "gpt-audio-1.5")

    model: str = Field(json_schema_extra=PUBLISHED)
    """The name under which the server knows the model."""
    api_key_env: str | None = None
    """Environment variable with the key; by default the one that the service names."""
    requests_per_minute: float | None = Field(None, gt=0)
    """The most requests that are sent in a minute; by default no limit."""
    prices: str | None = None
    """File of prices instead of the one in this package."""
    input_price: float | None = Field(None, gt=0)
    """Price of a million prompt tokens, instead of the one in the file of prices."""
    output_price: float | None = Field(None, gt=0)
    """Price of a million generated tokens."""
    audio_price: float | None = Field(None, gt=0)
    """Price of a million audio tokens, where it is not `input_price`."""
    max_cost: float | None = Field(None, gt=0)
    """The run stops before it costs more than this; all answers are kept."""

    @model_validator(mode="before")
    @classmethod
    def _keys_stay_secret(cls, given: dict[str, Any]) -> dict[str, Any]:
        if "api_key" in given:
            raise ValueError("keys do not belong on the command line; name an environment variable with api_key_env=")
        return given

    batch: bool = False
    """Send requests in batches, which are answered within a day, where the service takes them."""
    batch_wait: float = Field(86400.0, ge=0)
    """Seconds to wait for batches; after that, the same command continues later (exit code 4)."""

    @model_validator(mode="after")
    def _keeps_what_is_paid_for(self) -> ServiceArguments:
        if self.store == "none" and self.batch:
            raise ValueError("batch=true needs the store, which keeps what is collected; leave out store=none")
        if self.store == "none" and self.max_cost is not None:
            raise ValueError("max_cost= stops in the middle, where only the store keeps answers; leave out store=none")
        return self

    def price(self, address: str) -> Price | None:
        """Return the price of the model at the service with this address; None if it is not known."""
        if any((self.input_price, self.output_price, self.audio_price)):
            return Price(input=self.input_price or 0.0, output=self.output_price or 0.0, audio=self.audio_price)
        return read_prices(self.prices).find(self.model, address)


class ChatServerArguments(ServerArguments):
    """The arguments of every model that speaks OpenAI's chat protocol."""

    max_audio_seconds: float | None = Field(None, gt=0, json_schema_extra=PUBLISHED)
    """The longest audio that the model hears. By default that of the checkpoint's processor, if the server is vLLM and
    the family is known; else no limit."""
    long_audio: Literal["cut", "refuse"] = Field("cut", json_schema_extra=PUBLISHED)
    """What happens to audio that is longer than that."""
    extra_body: dict[str, Any] = {}
    """Further fields of each request, as JSON; null takes a field out."""

    @field_validator("extra_body", mode="before")
    @classmethod
    def _json(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return dict(value) if isinstance(value, Mapping) else {} if value is None else value
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"JSON ({error}); give all of --model_args as one JSON object") from error


class OpenAIAudioArguments(ServiceArguments, ChatServerArguments):
    """The arguments of `openai-audio`."""

    base_url: str | None = None
    """Address of the server, with `/v1`; by default OPENAI_BASE_URL, else OpenAI's own."""


class LiteLLMAudioArguments(ServiceArguments, ChatServerArguments):
    """The arguments of `litellm-audio`."""

    example = ("model", "gemini/gemini-3.8-flash")

    base_url: str | None = None
    """Address of the server; by default the provider's own."""

    @field_validator("batch")
    @classmethod
    def _one_by_one(cls, value: bool) -> bool:
        if value:
            raise ValueError("false: litellm-audio sends single requests; openai-audio and gemini-audio have batches")
        return value


class GeminiAudioArguments(ServiceArguments, ChatServerArguments):
    """The arguments of `gemini-audio`."""

    example = ("model", "gemini-3.8-flash")

    base_url: str | None = None
    """Address of the Gemini API; by default Google's own."""


class VLLMAudioArguments(ChatServerArguments):
    """The arguments of `vllm-audio`."""

    pretrained: str = Field(json_schema_extra=PUBLISHED)
    """A folder, or a repository on the Hugging Face hub, that vLLM can serve."""
    vllm: str | None = None
    """The environment in which vLLM is installed, its Python or its program `vllm`; by default the `vllm` of this
    environment, else the first on PATH."""
    revision: str | None = Field(None, json_schema_extra=PUBLISHED)
    """Branch, tag or commit of the repository."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", json_schema_extra=PUBLISHED)
    """Precision of the weights; `auto` is vLLM's choice."""
    max_model_len: PositiveInt | None = Field(None, json_schema_extra=PUBLISHED)
    """Tokens of prompt and answer together; by default what the model was built for."""
    tensor_parallel_size: PositiveInt | None = None
    """GPUs over which each layer is spread."""
    pipeline_parallel_size: PositiveInt | None = None
    """GPUs over which the layers are spread."""
    data_parallel_size: PositiveInt | None = None
    """Copies of the model that share the requests."""
    data_parallel_backend: Literal["mp", "ray"] | None = None
    """`ray` spreads the copies over the machines of a Ray cluster."""
    gpu_memory_utilization: float | None = Field(None, gt=0, le=1)
    """Part of a GPU's memory that vLLM may fill; by default vLLM's own."""
    trust_remote_code: bool = False
    """Whether code that comes with the checkpoint may run."""
    serve_args: str | list[str] | None = None
    """Further options of `vllm serve`, as on its command line."""
    serve_log: str | None = None
    """File for what the server prints; by default a new one in the cache directory."""
    start_timeout: float = Field(1800.0, gt=0)
    """Seconds that the server may take until it answers."""


# The arguments of the engines of this package, by the engine's name; to read them imports no engine.
ARGUMENTS: dict[str, type[ModelArguments]] = {
    "hf-audio": HFAudioArguments,
    "openai-audio": OpenAIAudioArguments,
    "vllm-audio": VLLMAudioArguments,
    "litellm-audio": LiteLLMAudioArguments,
    "gemini-audio": GeminiAudioArguments,
}

"""The schema of a submission: its keys, with the type and the range of each value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import NotRequired, TypedDict

from ambi_eval.answers.candidate import Finish
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.config.settings import Settings, show_value
from ambi_eval.config.task_settings import OVERRIDES
from ambi_eval.errors import AmbiError

FOLDER = re.compile(r"\d{4}-\d{2}-\d{2}_[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
STRICT = Settings.model_config


def _printable(text: str) -> str:
    if not text.isprintable():  # control characters, and those that turn the direction of the text around
        raise ValueError("must be one line of printable characters")
    return text


def _overridable(key: str) -> str:
    if key not in OVERRIDES:
        raise ValueError(f"must be one of {', '.join(OVERRIDES)}")
    return key


LONGEST_LINE = 300
Line = Annotated[str, Field(min_length=1, max_length=LONGEST_LINE), AfterValidator(_printable)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.@-]{1,60}$")]
TaskName = Annotated[str, Field(pattern=r"^ambi_[a-z0-9_]{1,60}$")]
Override = Annotated[str, AfterValidator(_overridable)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]
Number = Annotated[float, Field(ge=-1e6, le=1e6)]
Whole = Annotated[int, Field(ge=-(10**6), le=10**6)]


class SubmittedModel(Settings):
    """The model.

    Attributes:
        id: Its name, as `pretrained=` takes it.
        revision: Branch, tag or commit of its repository; null where there is none.
        digest: SHA-256 of its weights, where the backend gives it.
        parameters: Number of its parameters; null if unknown.
        licence: License of its weights.
    """

    id: Line
    revision: Line | None
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    parameters: Count | None
    licence: Line


class Backend(Settings):
    """The software and hardware that ran the model.

    Attributes:
        name: The harness's model type: `hf-audio` ...
        arguments: Those of its `--model_args` that answers depend on.
        dtype: Precision of the weights.
        device: Kind of device.
        versions: Version of each package that answers depend on.
        sampling: Whether the model honors temperature, seed and number of answers, as the run says: `honoured`, `fixed
            by the provider` or `unknown`; null where the run does not say.
        other_models: Sentences about replies that named another model than the one asked for.
    """

    name: Name
    arguments: dict[Name, Line | bool | Whole | Number]
    dtype: Name | None
    device: Name | None
    versions: dict[Name, Line]
    sampling: Line | None = None
    other_models: tuple[Line, ...] = Field(default=(), strict=False)


class SubmittedTask(Settings):
    """One task of the run.

    Attributes:
        n: Answers per clip; for `exact` the number of likelihoods.
        overrides: The keys that `--metadata` changed.
        generation: Generation settings, after `--gen_kwargs`; null for `exact`.
        notices: What the run warned of: audio that was cut, equal or unread answers, several set-ups ...
    """

    strategy: Name
    n: Annotated[int, Field(ge=1, le=1000)]
    overrides: dict[Override, Line | bool | Whole | Number]
    generation: GenerationSettings | None
    notices: Annotated[tuple[Line, ...], Field(max_length=50)] = Field(default=(), strict=False)


class Seeds(Settings):
    """The seeds of the run: the harness's four, and the sampling seed."""

    random: Seed | None
    numpy: Seed | None
    torch: Seed | None
    fewshot: Seed | None
    sampling: Seed | None


class Card(Settings):
    """`submission.yaml`.

    Attributes:
        format: Version of this file's format.
        name: The system's name on the board.
        date: When the run started, `YYYY-MM-DD`.
        backend: What ran it.
        system_instruction: The system message, null where there is none.
        tasks: The tasks of the run, by name.
        hardware: What it ran on.
        wall_seconds: How long it took.
        tokens: Generated tokens of all answers; null if the model does not count them.
        contact: Person or address for questions.
        training_data: For each corpus, whether the model may have seen it in training.
    """

    format: Literal[1]
    name: Line
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    model: SubmittedModel
    backend: Backend
    system_instruction: Annotated[str, Field(max_length=10_000)] | None
    tasks: Annotated[dict[TaskName, SubmittedTask], Field(min_length=1)]
    seeds: Seeds
    hardware: Line
    wall_seconds: Annotated[float, Field(ge=0, le=1e9)]
    tokens: Count | None
    contact: Line
    training_data: dict[Name, Line]


@with_config(STRICT)
class AnswerLine(TypedDict):
    """One line of `samples/<task>.jsonl.gz`.

    Attributes:
        clip: Id of the clip.
        sample: Number of the answer in its clip's pool, from 0.
        answer: The whole text as the model gave it; for `exact` the label.
        finish: Why it ended: `stop`, `length`, `content_filter` if the provider withheld it, or `not_drawn` if an
            adaptive strategy did not need it.
        tokens: Number of generated tokens, without thinking.
        logprob: Natural log-likelihood of the answer.
        rating: The verifier's rating.
        thinking_tokens: Number of thinking tokens before it; null if unknown, left out if 0.
    """

    clip: Annotated[str, Field(min_length=1, max_length=200)]
    sample: Annotated[int, Field(ge=0, lt=1000)]
    answer: Annotated[str, Field(max_length=20_000)]
    finish: Finish | None
    tokens: Annotated[int, Field(ge=0, le=10**6)] | None
    logprob: Annotated[float, Field(ge=-1e6, le=1e-3)] | None
    rating: Number | None
    thinking_tokens: NotRequired[Annotated[int, Field(ge=0, le=10**6)] | None]


ANSWER = TypeAdapter(AnswerLine)
# Task -> pipeline -> metric -> value; null if the votes leave the score undefined.
Claims = dict[TaskName, dict[Name, dict[Name, Number | None]]]
CLAIMS: TypeAdapter[Claims] = TypeAdapter(Claims, config=ConfigDict(strict=True, allow_inf_nan=False))


def check(adapter: TypeAdapter[Any], content: Any, where: str) -> Any:
    """Return the content in the types of the schema.

    Raises:
        AmbiError: If it does not fit; the message names the first wrong key.
    """
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"]))[:200]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise AmbiError(
            f"{where}: {f'{key}: ' if key else ''}{first['msg']}, it is {show_value(first['input'])}{more}"
        ) from error


CARD = TypeAdapter(Card)


def json_schema() -> Mapping[str, Any]:
    """Return the JSON schema of `submission.yaml`, for editors and other tools."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Card.model_json_schema()}

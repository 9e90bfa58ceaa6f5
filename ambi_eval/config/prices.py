"""The prices of paid services: read from a dated file, which a user can replace by another file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field

from ambi_eval.config.settings import Settings
from ambi_eval.config.yaml_reader import parse_yaml
from ambi_eval.errors import AmbiError

OURS = Path(__file__).with_name("prices.yaml")
MILLION = 1_000_000
# An upper bound of the tokens per second of audio if the service states none: encoders give at most 50 frames a second.
MOST_AUDIO_TOKENS_PER_SECOND = 50.0
# An upper bound of the tokens that a service adds to a prompt: its chat template, and a system message of its own.
TEMPLATE_TOKENS = 256


class Price(Settings):
    """The price of a million tokens of one model."""

    host: str | None = None  # the host that asks this price; none for any
    input: Annotated[float, Field(ge=0)] = 0.0  # of a million prompt tokens
    audio: Annotated[float | None, Field(ge=0)] = None  # of a million audio tokens; none: as `input`
    output: Annotated[float, Field(ge=0)] = 0.0  # of a million generated tokens, thinking included
    batch: Annotated[float | None, Field(gt=0, le=1)] = None  # what batch mode multiplies a price by; none: unknown
    # Tokens that a second of audio becomes; none: unknown.
    audio_tokens_per_second: Annotated[float | None, Field(gt=0)] = None
    source: str = "given by the user"  # where the price was read
    date: Annotated[str | None, Field(pattern="^\\d{4}-\\d{2}-\\d{2}$")] = None  # the day on which it was true

    def of(self, prompt_tokens: float, audio_tokens: float, generated_tokens: float, *, batch: bool = False) -> float:
        """Return the price of the tokens of prompts (those of audio included), and of answers (thinking included).

        Batch mode without a known discount has the usual price.
        """
        audio = self.input if self.audio is None else self.audio
        tokens = (prompt_tokens - audio_tokens) * self.input + audio_tokens * audio + generated_tokens * self.output
        return tokens / MILLION * (self.batch if batch and self.batch is not None else 1.0)

    def most(self, text: str, audio_seconds: float, generated_tokens: int, *, batch: bool = False) -> float:
        """Return an upper bound of the price of a request: each byte of text is a token, no answer ends early."""
        rate = self.audio_tokens_per_second or MOST_AUDIO_TOKENS_PER_SECOND
        audio_tokens = audio_seconds * rate
        return self.of(TEMPLATE_TOKENS + len(text.encode()) + audio_tokens, audio_tokens, generated_tokens, batch=batch)


class PriceList(Settings):
    """A file of prices: each model has the name that its service gives it."""

    currency: str = "USD"  # of all prices
    models: dict[str, Price]  # the price of each model

    def find(self, model: str, address: str) -> Price | None:
        """Return the price of a model at the service with this address; None if it is not known.

        `gpt-audio-2025-08-28` and `models/gpt-audio` cost what `gpt-audio` costs: a dated version has the price of its
        model, unless it is listed itself.
        """
        host = urlsplit(address).hostname
        name = model.rpartition("/")[2]
        names = sorted((each for each in self.models if _is_version(name, each)), key=len, reverse=True)
        prices = [self.models[model]] if model in self.models else [self.models[each] for each in names]
        return next((price for price in prices if price.host in (None, host)), None)


def _is_version(name: str, model: str) -> bool:
    """Return whether a name is that of a model, or of a dated version of it (`-2025-08-28`, `-001`)."""
    rest = name.removeprefix(model)
    return name.startswith(model) and (not rest or (rest[0] == "-" and rest[1:].replace("-", "").isdigit()))


@lru_cache
def read_prices(path: str | None = None) -> PriceList:
    """Return the prices in a file (AmbiError for the first mistake in it); without a path, those in the package."""
    file = OURS if path is None else Path(path).expanduser()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise AmbiError(f"prices={file} cannot be read ({error}); give a file such as {OURS}") from error
    return PriceList.read(parse_yaml(text, str(file), trusted=True), str(file))

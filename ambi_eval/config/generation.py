"""`GenerationSettings`: how answers are generated, from a task's `generation_kwargs` and `--gen_kwargs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from ambi_eval.config.settings import Settings

Text = Annotated[str, Field(min_length=1, max_length=100)]


def _one_or_several(value: Any) -> Any:
    """Accept a string instead of a list with one string, as the harness does."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class GenerationSettings(Settings):
    """How answers are generated.

    Without `do_sample` a temperature above 0 means sampling; `do_sample: true` alone means temperature 1. With
    `do_sample: false`, or at temperature 0, the answer is greedy (or from a beam search). Every sampling key then gets
    its default value, so that settings are equal if and only if the answers are.
    """

    do_sample: bool = False
    """Whether answers are drawn at random."""
    temperature: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Temperature of the softmax; 0 is greedy."""
    top_k: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Sample from the k most likely tokens; 0 is all."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Sample from the fewest tokens with this total probability; 1 is all."""
    num_beams: Annotated[int, Field(ge=1, le=1000)] = 1
    """Width of the beam search; 1 is none."""
    length_penalty: float = 0.0
    """Beams are ranked by log-likelihood / tokens ** length_penalty; 0 is the likelihood itself."""
    until: Annotated[tuple[Text, ...], BeforeValidator(_one_or_several), Field(max_length=20)] = ()
    """Strings that end an answer and are not part of it."""
    max_gen_toks: Annotated[int, Field(ge=1, le=10**6)] = 256
    """Tokens after which an answer is cut."""
    max_thinking_toks: Annotated[int, Field(ge=0, le=10**6)] = 0
    """The most thinking tokens before the answer, which then has `max_gen_toks` for itself. Longer thinking is ended
    with `think_end_token`. 0: thinking counts in `max_gen_toks`."""

    @model_validator(mode="before")
    @classmethod
    def _one_form(cls, given: Any) -> Any:
        """Drop keys that are None or without effect, and make `do_sample` and `temperature` consistent."""
        if not isinstance(given, Mapping):
            return given
        if "num_return_sequences" in given:
            raise ValueError("give the size of a pool as `repeats`, not as num_return_sequences")
        kept = {key: value for key, value in given.items() if value is not None}
        temperature = kept.setdefault("temperature", 1.0 if kept.get("do_sample") is True else 0.0)
        if kept.get("do_sample") is False or temperature == 0:
            kept |= {"do_sample": False, "temperature": 0.0}
            return {key: value for key, value in kept.items() if key not in ("top_k", "top_p")}
        return {"do_sample": True, **kept}

    @model_validator(mode="after")
    def _beams_are_not_sampled(self) -> GenerationSettings:
        if self.sampled and self.num_beams > 1:
            raise ValueError("beams are not sampled; give num_beams or do_sample, not both")
        if self.max_thinking_toks and self.num_beams > 1:
            raise ValueError("beams are searched over answers alone; leave out num_beams or max_thinking_toks")
        return self

    @property
    def most_tokens(self) -> int:
        """The most tokens of thinking and answer together."""
        return self.max_thinking_toks + self.max_gen_toks

    @property
    def sampled(self) -> bool:
        """Whether answers are drawn at random."""
        return self.do_sample


SAMPLING_KEYS = ("do_sample", "temperature", "top_k", "top_p")

"""What a funnel says: its stages in one unit, the steps between them, what stands beside them; as a file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.errors import AmbiError

# The file's name, and what is new about its form when it can no longer be read as before.
FILE, VERSION = "funnel.json", 1
# The control that must be 0.
RANDOM = "votes dealt at random"


@dataclass(frozen=True)
class Stage:
    """A place along the way at which is measured what can be told about the votes.

    Attributes:
        key: `encoder`, `projected`, `layers`, or the strategy: `exact`, `direct`, `cot`.
        name: What a reader calls it.
        gain: Bits per vote gained over the prior of the other speakers; of a strategy, after calibration.
        raw: The same before calibration; None where a probe reads.
        invalid: Share of clips whose answers could not be read; they count as the prior.
    """

    key: str
    name: str
    gain: Estimate
    raw: Estimate | None = None
    invalid: float = 0.0


@dataclass(frozen=True)
class Step:
    """What is lost between two stages, on the same clips.

    Attributes:
        key: Where it is lost: the later stage.
        lost: Bits per vote; below 0 where the later stage tells more.
        beyond_others: How much more is lost here than at each other step, by that step's key.
    """

    key: str
    lost: Estimate
    beyond_others: dict[str, Estimate]


@dataclass(frozen=True)
class Beside:
    """A reference, a control, or one layer: something that is measured in the same unit, and is no stage.

    Attributes:
        name: What a reader calls it.
        gain: Bits per vote gained over the prior of the other speakers.
        clips: Number of clips that it is measured on.
    """

    name: str
    gain: Estimate
    clips: int


@dataclass(frozen=True)
class Funnel:
    """All that `ambi-eval funnel` measures of one model on one corpus.

    Attributes:
        version: Of the form of the file.
        model: The model's name.
        digest: The digest of its weights.
        corpus: The corpus, with the part of it where one was chosen.
        simulated: Whether its raters are simulated.
        labels: The labels.
        clips: Number of clips.
        clusters: Number of speakers (or sessions) that folds and intervals are made of.
        cluster: What they are.
        stages: The stages, from the microphone to the answer.
        steps: What is lost between each stage and the next one of the chain.
        total: What is lost from the first stage of the chain to the last.
        reasons: What `cot` tells more than `direct`.
        depth: What each layer of the language model holds, from the first to the last.
        references: People and models that never say a word, on the same clips.
        controls: What the place that tells most tells where votes are dealt at random, which must be 0; and where the
            state is that of another clip of the same speaker, which is what the speaker alone tells.
        notes: What else a reader must know.
    """

    version: int
    model: str
    digest: str
    corpus: str
    simulated: bool
    labels: Sequence[str]
    clips: int
    clusters: int
    cluster: str
    stages: Sequence[Stage]
    steps: Sequence[Step]
    total: Estimate
    reasons: Estimate
    depth: Sequence[Beside] = ()
    references: Sequence[Beside] = ()
    controls: Sequence[Beside] = ()
    notes: Sequence[str] = ()

    def stage(self, key: str) -> Stage:
        """Return a stage by its key."""
        return next(stage for stage in self.stages if stage.key == key)


_READER = TypeAdapter(Funnel)


def funnels_in(folder: Path) -> list[Funnel]:
    """Return the funnels that lie in a folder, or below it.

    Raises:
        AmbiError: If a file is broken, or of another version.
    """
    return [read_funnel(file) for file in sorted(folder.rglob(FILE))]


def read_funnel(file: Path) -> Funnel:
    """Return what a file of `ambi-eval funnel` says.

    Raises:
        AmbiError: If the file is broken, or of another version.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version = content.get("version")
        if version != VERSION:
            raise AmbiError(f"{file} has version {version} of a funnel, this ambi_eval reads {VERSION}: run it again")
        return _READER.validate_python(_with_nan(content))
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        why = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else error
        raise AmbiError(f"{file} holds no funnel ({why}): run `ambi-eval funnel` again") from error


def _with_nan(value: Any) -> Any:
    """Return JSON with NaN in place of the null of an estimate's value or ends."""
    if isinstance(value, list):
        return [_with_nan(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"value", "low", "high"}:
        return {name: math.nan if number is None else number for name, number in value.items()}
    return {name: _with_nan(each) for name, each in value.items()}

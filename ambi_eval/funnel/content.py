"""The content of a funnel: its stages in one unit, the steps between them, references and controls; as a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ambi_eval.analysis.estimate import Estimate, from_json
from ambi_eval.errors import AmbiError

# The name of the file, and the version of its format; a file of another version is refused.
FILE, VERSION = "funnel.json", 1
# The control that must be 0.
RANDOM = "votes dealt at random"


@dataclass(frozen=True)
class Stage:
    """A place in the model, or a strategy, whose information about the votes is measured.

    Attributes:
        key: `encoder`, `projected`, `layers`, or the strategy: `exact`, `direct`, `cot`.
        gain: Bits per vote gained over the prior of the other speakers; for a strategy, after calibration.
        raw: The same before calibration; None for a place that a probe reads.
        invalid: Share of clips whose answers could not be read; they count as the prior.
    """

    key: str
    name: str
    gain: Estimate
    raw: Estimate | None = None
    invalid: float = 0.0


@dataclass(frozen=True)
class Step:
    """The loss between two stages, on the same clips.

    Attributes:
        key: The key of the later stage.
        lost: Bits per vote; below 0 if the later stage has more information.
        beyond_others: By the key of each other step, this loss minus that of the other step.
    """

    key: str
    lost: Estimate
    beyond_others: dict[str, Estimate]


@dataclass(frozen=True)
class NamedGain:
    """A reference, a control, or one layer: it is measured in the same unit, but is no stage."""

    name: str
    gain: Estimate
    clips: int


@dataclass(frozen=True)
class Funnel:
    """The result of `ambi-eval funnel` for one model on one corpus.

    Attributes:
        corpus: The corpus, and the part of it if one was chosen.
        clusters: Number of speakers (or sessions) in the folds and intervals.
        cluster: What the clusters are: `speaker` or `session`.
        stages: The stages, from the encoder to the answer.
        steps: The loss between each stage and the next one of the chain.
        total: The loss from the first stage of the chain to the last.
        reasons: The gain of `cot` minus that of `direct`.
        depth: The information in each layer of the language model, from the first to the last.
        references: Half of the raters, and supervised models without a language model, on the same clips.
        controls: Probes of the place with the most information. One is fitted to shuffled votes: its gain must be 0.
            The other reads the state of another clip of the same speaker: its gain is what the speaker explains.
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
    depth: Sequence[NamedGain] = ()
    references: Sequence[NamedGain] = ()
    controls: Sequence[NamedGain] = ()
    notes: Sequence[str] = ()

    def stage(self, key: str) -> Stage:
        """Return a stage by its key."""
        return next(stage for stage in self.stages if stage.key == key)


def funnels_in(folder: Path) -> list[Funnel]:
    """Return the funnels in a folder and its subfolders; an `AmbiError` if a file is broken, or of another version."""
    return [read_funnel(file) for file in sorted(folder.rglob(FILE))]


def read_funnel(file: Path) -> Funnel:
    """Return the funnel in a file that `ambi-eval funnel` wrote.

    Raises:
        AmbiError: If the file is broken, or of another version.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version = content.get("version")
        if version != VERSION:
            raise AmbiError(f"{file} has version {version} of a funnel, this ambi_eval reads {VERSION}: run it again")
        return from_json(Funnel, content)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        why = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else error
        raise AmbiError(f"{file} holds no funnel ({why}): run `ambi-eval funnel` again") from error

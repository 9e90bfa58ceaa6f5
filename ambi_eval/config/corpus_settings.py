"""`CorpusSettings`: the keys of a corpus, which select clips and votes; and `Key`, the properties of a key."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from unicodedata import normalize

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from typing_extensions import Self

from ambi_eval.config.settings import Settings
from ambi_eval.errors import did_you_mean

# The keys that choose a part of a corpus.
PART_KEYS = ("split", "session", "fold")

Place = Literal["everywhere", "samples", "beams", "labels", "verifier"]


@dataclass(frozen=True)
class Key:
    """The properties of a key of a task."""

    # The keys of `--metadata` that set it, with the tasks that each applies to: all (`everywhere`), those with one
    # pool, or those with a verifier.
    overrides: Mapping[str, Place] = field(default_factory=dict)
    # Whether a mapping in an upper file is merged with the lower one key by key; other values replace it.
    merged: bool = False
    clips: bool = False  # whether it decides which clips a task asks about, or what the model hears of them
    answers: bool = False  # whether the model's answers depend on it, besides model, seed and clips
    task_wide: bool = False  # whether all filters of a task share it, so that no step of a pipeline may set it
    reported: bool = False  # whether the report shows it


def _file_name(task: str) -> str:
    if "/" in task or not task.isprintable():
        raise ValueError("a name without / and line breaks, since lm_eval names the file of answers after it")
    return task


def _composed(value: Any) -> Any:
    if isinstance(value, dict):
        return {_composed(key): _composed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_composed(each) for each in value]
    return normalize("NFC", value) if isinstance(value, str) else value


def _no_booleans(labels: Any) -> Any:
    """Check a list of labels; YAML reads unquoted `yes`, `no`, `on` and `off` as booleans, which is hard to notice."""
    if not isinstance(labels, list) or len(labels) < 2:
        raise ValueError("a list of at least two words")
    if any(isinstance(label, bool) for label in labels):
        raise ValueError("words: YAML reads yes, no, on and off as true and false, so write them in quotes")
    if repeated := [str(label) for label in labels if labels.count(label) > 1]:
        raise ValueError(f"different words; '{repeated[0]}' stands twice in it")
    return labels


# The labels of a task about pairs.
FIRST_OR_SECOND = ("first", "second")


class PairSettings(Settings):
    """How clips are put into pairs."""

    label: str
    """The label: of which clip of the two do more raters choose it?"""
    among: Annotated[list[str], BeforeValidator(_no_booleans)]
    """The labels of the corpus; filled in from its `labels`, whose place `first, second` take."""


class ShotSettings(Settings):
    """How the prompt shows examples."""

    clips: Annotated[int, Field(ge=1, le=50)]
    """Number of clips of other speakers in the prompt."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The seed with which they are drawn."""
    text: Annotated[str, Field(min_length=1)]
    """The text of one, a Jinja template with `answer` and one `<audio>`."""


def _partition_and_part(fold: Any) -> Any:
    if isinstance(fold, str) and not all(fold.partition(".")):
        raise ValueError("a partition and one part of it, `studio0.test`")
    return fold


class CorpusSettings(Settings):
    """The settings of a corpus: its clips and their votes."""

    task: Annotated[str, AfterValidator(_file_name), Field(min_length=1, max_length=200)]
    """The task's name, as after `--tasks`."""
    manifest: Annotated[str, Field(min_length=1), Key(clips=True)]
    """A prepared corpus (`iemocap`), or a `.parquet` or `.jsonl` file beside this file."""
    labels: Annotated[list[str], BeforeValidator(_no_booleans), Key(clips=True, answers=True, task_wide=True)]
    """The labels, in the order of the prompt."""
    merge: Annotated[dict[str, str], Key(clips=True, reported=True)] = {}
    """`{excited: happy}` counts a vote for `excited` as a vote for `happy`."""
    outside: Annotated[Literal["drop_clip", "renormalise"], Key(clips=True, reported=True)] = "drop_clip"
    """What happens to a clip with votes outside the labels: `drop_clip` leaves the clip out, `renormalise` leaves those
    votes out."""
    target: Annotated[
        Literal["votes", "arousal", "valence", "dominance", "intensity"], Key(clips=True, answers=True, reported=True)
    ] = "votes"
    """What the raters' answers are about: the emotion (`votes`), or a number of each single rating, which becomes one
    of the `labels`."""
    bins: Annotated[list[int | float] | None, Key(clips=True, reported=True)] = None
    """For a `target` of numbers: the edges between neighboring labels, `[20, 40, 60, 80]` for five of them; without
    edges each label is a number, and a rating counts for the nearest."""
    split: Annotated[str | None, Field(min_length=1), Key({"split": "everywhere"}, clips=True, reported=True)] = None
    """Ask about the clips of this split only: `test1`."""
    session: Annotated[int | str | None, Key({"session": "everywhere"}, clips=True, reported=True)] = None
    """Ask about the clips of this session only: `5` for `Ses05`, or the session's whole name."""
    fold: Annotated[
        str | None, BeforeValidator(_partition_and_part), Key({"fold": "everywhere"}, clips=True, reported=True)
    ] = None
    """Ask about one part of a named partition only: `studio0.test`."""
    synonyms: Annotated[dict[str, list[str]], Key(task_wide=True)] = {}
    """`{happy: [happiness]}`: further words that an answer may use for a label."""
    language: Annotated[str | None, Field(min_length=2)] = None
    """The spoken language, as an ISO 639-1 code: `it`."""
    cluster: Annotated[Literal["speaker", "session", "dialogue"], Key(clips=True)] = "speaker"
    """Clips that share this depend on each other; error bars are clustered by it."""
    transcript: Annotated[
        Literal["none", "given"], Key({"transcript": "everywhere"}, clips=True, answers=True, reported=True)
    ] = "none"
    """`given` puts the words of the clip into the prompt."""
    control: Annotated[
        Literal[
            "none",
            "silence",
            "silence_fixed",
            "noise",
            "shuffle",
            "shuffle_same_sentence",
            "shuffle_same_speaker",
            "transcript",
        ],
        Key({"control": "everywhere"}, clips=True, reported=True),
    ] = "none"
    """What the model hears instead of the clip, see [below](#controls)."""
    items: Annotated[Literal["all", "conflict"], Key({"items": "everywhere"}, clips=True, reported=True)] = "all"
    """`conflict` asks only about clips whose raters hear another emotion than the raters of other speakers of the same
    sentence, see [strategies](strategies.md#conflict-items)."""
    pairs: Annotated[PairSettings | None, Key(merged=True, clips=True, answers=True, reported=True)] = None
    """`{label: angry}` asks which of two clips more raters call angry; the labels of the task are then `first` and
    `second`."""
    shots: Annotated[ShotSettings | None, Key(merged=True, clips=True, answers=True, reported=True)] = None
    """`{clips: 3, seed: 0, text: ...}` shows that many clips of other speakers, with their votes, before each clip."""
    metadata: Annotated[dict[str, Any], Key(merged=True)] = {}
    """Facts for the results: `version`, `corpus`, and those of `--metadata`."""

    @property
    def source(self) -> str:
        """The path of the task's file; `inline` for a task made in Python."""
        return str(self.metadata.get("config_source", "inline"))

    @property
    def where(self) -> str:
        """Name and file of the task, for error messages."""
        return f"{self.task} ({self.source})"

    @property
    def corpus(self) -> str:
        """The corpus's name: `metadata: {corpus: ...}`, else the name of the manifest."""
        return str(self.metadata.get("corpus") or Path(self.manifest).stem)

    @property
    def clips_name(self) -> str:
        """The corpus's name with the part that the task asks about: `msp_podcast:split=test1`."""
        parts = ((key, getattr(self, key)) for key in PART_KEYS)
        name = self.corpus + "".join(f":{key}={value}" for key, value in parts if value is not None)
        name += "" if self.items == "all" else f":items={self.items}"
        return name if self.pairs is None else f"{name}:pairs={self.pairs.label}"

    @property
    def vote_labels(self) -> list[str]:
        """The labels that the raters chose from: those of the task, or `pairs.among` if it is about pairs."""
        return self.labels if self.pairs is None else self.pairs.among

    @property
    def reads_transcript(self) -> bool:
        """Whether the prompt holds the words of the clip."""
        return self.transcript == "given" or self.control == "transcript"

    def label_of(self, number: float) -> str:
        """Return the label for a number in a rating; a number on an edge gets the label above it."""
        if self.bins is not None:
            return self.labels[bisect_right(self.bins, number)]
        return min(self.labels, key=lambda label: abs(float(label) - number))

    @model_validator(mode="before")
    @classmethod
    def _labels_in_one_spelling(cls, given: Any) -> Any:
        """Write all labels in Unicode's NFC, as in the manifest: macOS writes an umlaut as two characters."""
        named = ("labels", "merge", "synonyms", "label_words", "pairs")
        return {key: _composed(value) if key in named else value for key, value in dict(given).items()}

    @model_validator(mode="after")
    def _labels_of_numbers(self) -> Self:
        if self.target == "votes":
            if self.bins is not None:
                raise ValueError("bins goes with a target of numbers, such as target: arousal")
        elif self.bins is None:
            if not all(re.fullmatch(r"-?\d+(\.\d+)?", label) for label in self.labels):
                raise ValueError(f"target {self.target} needs bins, or labels that are numbers")
        elif len(self.bins) != len(self.labels) - 1 or sorted(set(self.bins)) != self.bins:
            raise ValueError(f"bins must be {len(self.labels) - 1} numbers, the lowest first, between the labels")
        return self

    @model_validator(mode="after")
    def _merged_into_labels(self) -> Self:
        for original, label in self.merge.items():
            if label not in self.vote_labels:
                hint = did_you_mean(label, self.vote_labels)
                raise ValueError(f"merge sends '{original}' to '{label}', which is no label{hint}")
        return self

    @model_validator(mode="after")
    def _pairs_and_shots(self) -> Self:
        if self.pairs is not None:
            if self.pairs.label not in self.pairs.among:
                hint = did_you_mean(self.pairs.label, self.pairs.among)
                what = f"pairs asks about '{self.pairs.label}', which is no label of the corpus{hint}"
                raise ValueError(f"{what}; write `pairs: {{label: ...}}` into the corpus' YAML")
            if tuple(self.labels) != FIRST_OR_SECOND:
                raise ValueError("the labels of a task about pairs are first and second")
            if self.transcript == "given" or self.control == "transcript" or self.shots is not None:
                raise ValueError("pairs go without transcript and shots")
        if self.shots is not None and self.control == "transcript":
            raise ValueError("shots are heard, and control: transcript takes all audio out")
        return self

"""`CorpusSettings` and `TaskSettings`: every key of a task's YAML that is ours, or that we read of the harness's."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from typing_extensions import Self, TypedDict

from ambi_eval.config.generation import SAMPLING_KEYS, GenerationSettings
from ambi_eval.config.settings import Settings
from ambi_eval.errors import did_you_mean

# The keys that choose a part of a corpus.
PART_KEYS = ("split", "session", "fold")

Place = Literal["everywhere", "samples", "beams", "labels", "verifier"]


@dataclass(frozen=True)
class Key:
    """What the program does with a key of a task, beside reading it.

    Attributes:
        overrides: The keys of `--metadata` that set it, each with the tasks that it reaches: all (`everywhere`), those
            of one pool, or those with a verifier.
        merged: Whether the value in an upper file is laid over the lower one key by key; other values replace it.
        clips: Whether it decides which clips a task asks about, or what is heard of them.
        answers: Whether the answers of a model depend on it, beside model, seed and clips.
        task_wide: Whether it is one for all filters of a task, so that no step of a pipeline may state it.
        reported: Whether a reader of the scores wants to know it.
    """

    overrides: Mapping[str, Place] = field(default_factory=dict)
    merged: bool = False
    clips: bool = False
    answers: bool = False
    task_wide: bool = False
    reported: bool = False


def _no_booleans(labels: Any) -> Any:
    """Name the cause of a mistake that nobody sees: YAML reads `yes`, `no`, `on` and `off` as true and false."""
    if not isinstance(labels, list) or len(labels) < 2:
        raise ValueError("a list of at least two words")
    if any(isinstance(label, bool) for label in labels):
        raise ValueError("words: YAML reads yes, no, on and off as true and false, so write them in quotes")
    if repeated := [str(label) for label in labels if labels.count(label) > 1]:
        raise ValueError(f"different words; '{repeated[0]}' stands twice in it")
    return labels


def _partition_and_part(fold: Any) -> Any:
    if isinstance(fold, str) and not all(fold.partition(".")):
        raise ValueError("a partition and one part of it, `studio0.test`")
    return fold


def _names_a_filter(step: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(step.get("function"), str):
        raise ValueError("a step `{function: <name of a filter>, ...}`")
    return step


class FilterPipeline(TypedDict):
    """One way to make a prediction of a pool of answers: filters of the harness, one after another."""

    name: str
    filter: Annotated[list[Annotated[dict[str, Any], AfterValidator(_names_a_filter)]], Field(min_length=1)]


class VerifierSettings(Settings):
    """How answers are rated."""

    prompt: Annotated[
        str, Field(description="What the verifier is asked; it holds `{{ candidate }}`, and may hold `{{ ratings }}`.")
    ]
    ratings: Annotated[
        int,
        Field(ge=2, le=9, description="The best rating; the worst is 1."),
        Key(overrides={"ratings": "verifier"}),
    ]


class StopRuleSettings(Settings):
    """When enough answers about a clip are drawn."""

    confidence: Annotated[
        float, Field(ge=0.5, lt=1, description="How certain the most frequent label must be the majority's.")
    ]
    round: Annotated[int, Field(ge=1, description="How many answers are drawn before the rule is asked again.")]


class CorpusSettings(Settings):
    """What a corpus says about its clips and their votes."""

    task: Annotated[str, Field(min_length=1, max_length=200, description="The task's name, as after `--tasks`.")]
    manifest: Annotated[
        str,
        Field(
            min_length=1,
            description="A prepared corpus (`iemocap`), or a `.parquet` or `.jsonl` file beside this file.",
        ),
        Key(clips=True),
    ]
    labels: Annotated[
        list[str],
        BeforeValidator(_no_booleans),
        Field(description="The labels, in the order of the prompt."),
        Key(clips=True, answers=True, task_wide=True),
    ]
    merge: Annotated[
        dict[str, str],
        Field(description="`{excited: happy}` counts a vote for the one as a vote for the other."),
        Key(clips=True, reported=True),
    ] = {}
    outside: Annotated[
        Literal["drop_clip", "renormalise"],
        Field(
            description="What happens to a clip with votes outside the labels: `drop_clip` leaves the clip out, "
            "`renormalise` leaves those votes out."
        ),
        Key(clips=True, reported=True),
    ] = "drop_clip"
    target: Annotated[
        Literal["votes", "arousal", "valence", "dominance", "intensity"],
        Field(
            description="What the raters' answers are about: the emotion (`votes`), or a number of each single rating, "
            "which becomes one of the `labels`."
        ),
        Key(clips=True, answers=True, reported=True),
    ] = "votes"
    bins: Annotated[
        list[int | float] | None,
        Field(
            description="For a `target` of numbers: the edges between neighboring labels, `[20, 40, 60, 80]` for five "
            "of them; without edges each label is a number, and a rating counts for the nearest."
        ),
        Key(clips=True, reported=True),
    ] = None
    split: Annotated[
        str | None,
        Field(min_length=1, description="Ask about the clips of this split only: `test1`."),
        Key(overrides={"split": "everywhere"}, clips=True, reported=True),
    ] = None
    session: Annotated[
        int | str | None,
        Field(description="Ask about the clips of this session only: `5` for `Ses05`, or the session's whole name."),
        Key(overrides={"session": "everywhere"}, clips=True, reported=True),
    ] = None
    fold: Annotated[
        str | None,
        BeforeValidator(_partition_and_part),
        Field(description="Ask about one part of a named partition only: `studio0.test`."),
        Key(overrides={"fold": "everywhere"}, clips=True, reported=True),
    ] = None
    synonyms: Annotated[
        dict[str, list[str]],
        Field(description="`{happy: [happiness]}`: further words that an answer may use for a label."),
        Key(task_wide=True),
    ] = {}
    cluster: Annotated[
        Literal["speaker", "session", "dialogue"],
        Field(description="Clips that share this depend on each other; error bars are clustered by it."),
        Key(clips=True),
    ] = "speaker"
    transcript: Annotated[
        Literal["none", "given"],
        Field(description="`given` puts the words of the clip into the prompt."),
        Key(overrides={"transcript": "everywhere"}, clips=True, answers=True, reported=True),
    ] = "none"
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
        Field(description="What the model hears instead of the clip, see [below](#controls)."),
        Key(overrides={"control": "everywhere"}, clips=True, reported=True),
    ] = "none"
    metadata: Annotated[
        dict[str, Any],
        Field(description="What stands with the results: `version`, `corpus`, and what `--metadata` says."),
        Key(merged=True),
    ] = {}

    @property
    def source(self) -> str:
        """The file of the task; `inline` for a task that Python code made."""
        return str(self.metadata.get("config_source", "inline"))

    @property
    def where(self) -> str:
        """What error messages call the task: its name and its file."""
        return f"{self.task} ({self.source})"

    @property
    def corpus(self) -> str:
        """The corpus's name: `metadata: {corpus: ...}`, else the name of the manifest."""
        return str(self.metadata.get("corpus") or Path(self.manifest).stem)

    @property
    def clips_name(self) -> str:
        """The corpus's name, and behind it the part that is asked about: `msp_podcast:split=test1`."""
        parts = ((key, getattr(self, key)) for key in PART_KEYS)
        return self.corpus + "".join(f":{key}={value}" for key, value in parts if value is not None)

    @property
    def reads_transcript(self) -> bool:
        """Whether the words of a clip stand in the prompt."""
        return self.transcript == "given" or self.control == "transcript"

    def label_of(self, number: float) -> str:
        """Return the label that a number of a rating counts for; an edge belongs to the label above it."""
        if self.bins is not None:
            return self.labels[bisect_right(self.bins, number)]
        return min(self.labels, key=lambda label: abs(float(label) - number))

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
            if label not in self.labels:
                hint = did_you_mean(label, self.labels)
                raise ValueError(f"merge sends '{original}' to '{label}', which is no label{hint}")
        return self


class TaskSettings(CorpusSettings):
    """What a task says: its corpus's settings, and how a clip's answers are asked for and reduced to a prediction."""

    strategy: Annotated[
        str | None,
        Field(
            description="One of ours (`tasks/_strategies/`), or a path that ends in `.yaml` beside this file; the keys "
            "below come from it where the task does not say them."
        ),
        Key(reported=True),
    ] = None
    pool: Annotated[
        Literal["greedy", "samples", "beams", "prompts", "labels"],
        Field(
            description="How a clip's answers are made: one `greedy` answer, N = `repeats` `samples`, the best of a "
            "search with `beams`, one greedy answer to each of several `prompts`, or no answer but the likelihoods of "
            "the `labels`."
        ),
        Key(answers=True, reported=True),
    ]
    readout: Annotated[
        Literal["shares", "label", "exact"],
        Field(description="What an answer states: `shares` of all labels, one `label`, or `exact` likelihoods."),
        Key(task_wide=True, reported=True),
    ]
    doc_to_text: Annotated[
        str,
        Field(min_length=1, description="The prompt, a Jinja template; `<audio>` stands where the clip goes."),
        Key(answers=True, reported=True),
    ]
    prompts: Annotated[
        list[str], Field(description="For `pool: prompts`: further wordings."), Key(answers=True, reported=True)
    ] = []
    prompt_words: Annotated[
        dict[str, str],
        Field(description="Words that the prompts fill in: `{clip: this recording, raters: listeners}`."),
        Key(merged=True, answers=True),
    ] = {}
    generation_kwargs: Annotated[
        dict[str, Any] | None,
        Field(description="How answers are generated: see the keys of generation below."),
        Key(merged=True, answers=True, reported=True),
    ] = None
    repeats: Annotated[
        int,
        Field(ge=1, description="How many answers a pool of samples or beams has."),
        Key(overrides={"repeats": "samples", "beams": "beams"}, reported=True),
    ] = 1
    rotations: Annotated[
        int,
        Field(ge=1, description="For `pool: labels`: ask with the labels in this many orders, and take the mean."),
        Key(overrides={"rotations": "labels"}, answers=True, reported=True),
    ] = 1
    calibration: Annotated[
        Literal["none", "silence"],
        Field(description="For `pool: labels`: `silence` divides by the likelihoods under silence."),
        Key(overrides={"calibration": "labels"}, task_wide=True, reported=True),
    ] = "none"
    length_normalisation: Annotated[
        Literal["none", "bytes"],
        Field(description="For `pool: labels`: `bytes` takes the log-likelihood per byte of the label."),
        Key(overrides={"length_normalisation": "labels"}, task_wide=True, reported=True),
    ] = "none"
    weighting: Annotated[
        Literal["softmax", "linear"],
        Field(description="Of `ambi_weighted`: `softmax`, or `linear` for ratings."),
        Key(overrides={"weighting": "verifier"}, reported=True),
    ] = "softmax"
    weighting_temperature: Annotated[
        float,
        Field(gt=0, description="Of `ambi_weighted`: the temperature of the softmax."),
        Key(overrides={"weighting_temperature": "beams"}, reported=True),
    ] = 1.0
    verifier: Annotated[
        VerifierSettings | None,
        Field(description="How answers are rated: `{prompt: ..., ratings: 5}`, from 1 to `ratings` (2 to 9)."),
        Key(merged=True),
    ] = None
    stop_rule: Annotated[
        StopRuleSettings | None,
        Field(
            description="When an adaptive pool is settled: `{confidence: 0.95, round: 4}` draws four answers at a time "
            "until the majority is certain."
        ),
        Key(merged=True),
    ] = None
    metrics: Annotated[
        list[str],
        BeforeValidator(lambda given: [given] if given == "all" else given),
        Field(min_length=1, description="Names of [metrics](metrics.md), or `all`. The harness's table shows them."),
    ] = [
        "jsd_bits",
        "bc",
        "acc",
        "macro_f1",
    ]
    filter_list: Annotated[
        list[FilterPipeline],
        Field(min_length=1, description="The pipelines that turn the answers of a clip into a prediction."),
    ]
    harness: Annotated[
        dict[str, Any], Field(description="The keys of the harness's own that we do not read.", exclude=True)
    ] = {}

    @property
    def templates(self) -> tuple[str, ...]:
        """The wordings of the prompt."""
        return (self.doc_to_text, *self.prompts)

    @property
    def prompts_per_clip(self) -> int:
        """Number of different prompts about one clip: wordings times orders of the labels."""
        return len(self.templates) * self.rotations

    @property
    def answers_per_clip(self) -> int:
        """Number of answers that a whole run has of each clip; of `pool: labels` the number of likelihoods."""
        if self.pool == "labels":
            return self.prompts_per_clip * len(self.labels) * (1 if self.calibration == "none" else 2)
        return self.prompts_per_clip * self.repeats

    @property
    def has_curve(self) -> bool:
        """Whether a part of a clip's pool is a smaller pool: not of beams, which fewer beams would not have found."""
        return self.pool in ("samples", "prompts") and not self.stop_rule

    def generation(self, kwargs: Mapping[str, Any] | None = None) -> GenerationSettings:
        """Return how answers are generated; only pools of samples are sampled.

        Args:
            kwargs: `generation_kwargs` after the user's `--gen_kwargs`; None for those of the YAML.

        Raises:
            AmbiError: If a key is unknown or a value impossible.
        """
        given = self.for_pool(self.generation_kwargs or {} if kwargs is None else kwargs)
        return GenerationSettings.from_kwargs(given, f"{self.where}: generation_kwargs")

    def for_pool(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return `generation_kwargs` without what means nothing for this pool: only samples are sampled."""
        if self.pool == "samples":
            return dict(kwargs)
        return {key: value for key, value in kwargs.items() if key not in SAMPLING_KEYS} | {"do_sample": False}

    @model_validator(mode="after")
    def _orders_of_the_labels(self) -> Self:
        if self.rotations > len(self.labels):
            raise ValueError(f"rotations is {self.rotations}; it must be at most the {len(self.labels)} labels")
        return self


def key_of(name: str, kind: type[Settings] = TaskSettings) -> Key:
    """Return what the program does with a key of a task's YAML."""
    marks = [mark for mark in kind.model_fields[name].metadata if isinstance(mark, Key)]
    return marks[0] if marks else Key()


def keys_that(are: Literal["merged", "clips", "answers", "task_wide", "reported"]) -> tuple[str, ...]:
    """Return the keys of a task of which an attribute of `Key` is true, in their order."""
    return tuple(name for name in TaskSettings.model_fields if getattr(key_of(name), are))


# What `--metadata KEY=VALUE` may set, and which tasks each key reaches.
OVERRIDES: dict[str, Place] = {
    key: place
    for kind in (TaskSettings, VerifierSettings)
    for name in kind.model_fields
    for key, place in key_of(name, kind).overrides.items()
}

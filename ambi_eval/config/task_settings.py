"""`TaskSettings`: every key of a task's YAML that we read, our own keys and some of the harness's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from typing_extensions import Self, TypedDict

from ambi_eval.config.corpus_settings import CorpusSettings, Key, Place
from ambi_eval.config.generation import SAMPLING_KEYS, GenerationSettings
from ambi_eval.config.settings import Settings
from ambi_eval.errors import did_you_mean

# Keys that decide how an answer is parsed.
READING_KEYS = ("labels", "synonyms", "prompt_language", "label_words")


def _names_a_filter(step: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(step.get("function"), str):
        raise ValueError("a step `{function: <name of a filter>, ...}`")
    return step


class FilterPipeline(TypedDict):
    """A pipeline of the harness's filters, which turns a pool of answers into a prediction."""

    name: str
    filter: Annotated[list[Annotated[dict[str, Any], AfterValidator(_names_a_filter)]], Field(min_length=1)]


class VerifierSettings(Settings):
    """How answers are rated."""

    prompt: str
    """The verifier's prompt, with `{{ candidate }}` and, if you like, `{{ ratings }}`."""
    ratings: Annotated[int, Field(ge=2, le=9), Key({"ratings": "verifier"})]
    """The best rating; the worst is 1."""


class StopRuleSettings(Settings):
    """When to stop drawing answers about a clip."""

    confidence: Annotated[float, Field(ge=0.5, lt=1)]
    """How certain the most frequent label must be the majority's."""
    round: Annotated[int, Field(ge=1)]
    """How many answers are drawn before the rule is asked again."""


class TaskSettings(CorpusSettings):
    """The settings of a task: those of its corpus, and how answers are generated and reduced to a prediction."""

    strategy: Annotated[str | None, Key(reported=True)] = None
    """One of ours (`tasks/_strategies/`), or a path that ends in `.yaml` beside this file; the keys below come from it
    unless the task states them."""
    pool: Annotated[Literal["greedy", "samples", "beams", "prompts", "labels"], Key(answers=True, reported=True)]
    """How a clip's answers are made: one `greedy` answer, N = `repeats` `samples`, the best of a search with `beams`,
    one greedy answer to each of several `prompts`, or no answer but the likelihoods of the `labels`."""
    readout: Annotated[Literal["shares", "label", "exact"], Key(task_wide=True, reported=True)]
    """What an answer states: `shares` of all labels, one `label`, or `exact` likelihoods."""
    doc_to_text: Annotated[str, Field(min_length=1), Key(answers=True, reported=True)]
    """The prompt, a Jinja template; `<audio>` is the place of the clip."""
    prompts: Annotated[list[str], Key(answers=True, reported=True)] = []
    """For `pool: prompts`: further wordings."""
    prompt_language: Annotated[
        Literal["en", "corpus", "it", "ru", "th"],
        Key({"prompt_language": "everywhere"}, answers=True, task_wide=True, reported=True),
    ] = "en"
    """The language of our prompts and of the labels in them: English, or with `corpus` the `language` of the corpus."""
    label_words: Annotated[dict[str, str], Key(merged=True, answers=True, task_wide=True)] = {}
    """`{calm: calmo}`: what the prompt calls a label, where `prompt_language` is not English."""
    prompt_words: Annotated[dict[str, str], Key(merged=True, answers=True)] = {}
    """Words that the prompts fill in: `{clip: this recording, raters: listeners}`."""
    generation_kwargs: Annotated[dict[str, Any] | None, Key(merged=True, answers=True, reported=True)] = None
    """How answers are generated: see the keys of generation below."""
    repeats: Annotated[int, Field(ge=1, le=10_000), Key({"repeats": "samples", "beams": "beams"}, reported=True)] = 1
    """How many answers a pool of samples or beams has."""
    rotations: Annotated[int, Field(ge=1), Key({"rotations": "labels"}, answers=True, reported=True)] = 1
    """For `pool: labels`: ask with the labels in this many orders, and take the mean."""
    calibration: Annotated[
        Literal["none", "silence"], Key({"calibration": "labels"}, task_wide=True, reported=True)
    ] = "none"
    """For `pool: labels`: `silence` divides by the likelihoods under silence."""
    length_normalisation: Annotated[
        Literal["none", "bytes"], Key({"length_normalisation": "labels"}, task_wide=True, reported=True)
    ] = "none"
    """For `pool: labels`: `bytes` takes the log-likelihood per byte of the label."""
    weighting: Annotated[Literal["softmax", "linear"], Key({"weighting": "verifier"}, reported=True)] = "softmax"
    """Of `ambi_weighted`: `softmax`, or `linear` for ratings."""
    weighting_temperature: Annotated[float, Field(gt=0), Key({"weighting_temperature": "beams"}, reported=True)] = 1.0
    """Of `ambi_weighted`: the temperature of the softmax."""
    verifier: Annotated[VerifierSettings | None, Key(merged=True)] = None
    """How answers are rated: `{prompt: ..., ratings: 5}`, from 1 to `ratings` (2 to 9)."""
    stop_rule: Annotated[StopRuleSettings | None, Key(merged=True)] = None
    """When an adaptive pool is settled: `{confidence: 0.95, round: 4}` draws four answers at a time until the majority
    is certain."""
    metrics: Annotated[
        list[str], BeforeValidator(lambda given: [given] if given == "all" else given), Field(min_length=1)
    ] = ["jsd_bits", "bc", "acc", "macro_f1"]
    """Names of [metrics](metrics.md), or `all`. The harness's table shows them."""
    filter_list: Annotated[list[FilterPipeline], Field(min_length=1)]
    """The pipelines that turn the answers of a clip into a prediction."""
    harness: Annotated[dict[str, Any], Field(exclude=True)] = {}
    """The keys of the harness's own that we do not read."""

    @property
    def asked_labels(self) -> list[str]:
        """The words for the labels in the prompts, in the order of the labels."""
        return [self.label_words.get(label, label) for label in self.labels]

    @property
    def templates(self) -> tuple[str, ...]:
        """The wordings of the prompt."""
        return (self.doc_to_text, *self.prompts)

    @property
    def prompts_per_clip(self) -> int:
        """Number of different prompts about one clip: wordings times orders of the labels."""
        return len(self.templates) * self.rotations

    @property
    def wordings(self) -> int:
        """Number of wordings of the prompt if each gives one answer of the pool (`pool: prompts`), else 0."""
        return len(self.templates) if self.pool == "prompts" else 0

    @property
    def answers_per_clip(self) -> int:
        """Number of answers per clip in a whole run; for `pool: labels` the number of likelihoods."""
        if self.pool == "labels":
            return self.prompts_per_clip * len(self.labels) * (1 if self.calibration == "none" else 2)
        return self.prompts_per_clip * self.repeats

    @property
    def has_curve(self) -> bool:
        """Whether a part of a clip's pool is a valid smaller pool; it is not for beams, as fewer beams find others."""
        return self.pool in ("samples", "prompts") and not self.stop_rule

    def generation(self, kwargs: Mapping[str, Any] | None = None) -> GenerationSettings:
        """Return how answers are generated: by the YAML's `generation_kwargs`, or these; only samples are sampled."""
        given = self.for_pool(self.generation_kwargs or {} if kwargs is None else kwargs)
        return GenerationSettings.read(given, f"{self.where}: generation_kwargs")

    def for_pool(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return `generation_kwargs` without keys of no effect: sampling keys, if the pool is not `samples`."""
        if self.pool == "samples":
            return dict(kwargs)
        return {key: value for key, value in kwargs.items() if key not in SAMPLING_KEYS} | {"do_sample": False}

    @model_validator(mode="after")
    def _words_of_labels(self) -> Self:
        if self.label_words and self.prompt_language == "en":
            raise ValueError("label_words goes with prompt_language: corpus; further English words are synonyms")
        for label in self.label_words.keys() - set(self.labels):
            raise ValueError(f"label_words names '{label}', which is no label{did_you_mean(label, self.labels)}")
        if len(set(self.asked_labels)) < len(self.labels):
            raise ValueError("label_words must be different words")
        return self

    @model_validator(mode="after")
    def _one_clip_to_rate(self) -> Self:
        if self.verifier is not None and (self.shots is not None or self.pairs is not None):
            raise ValueError("a verifier rates answers about one clip; take out shots or pairs")
        return self

    @model_validator(mode="after")
    def _orders_of_the_labels(self) -> Self:
        if self.rotations > len(self.labels):
            raise ValueError(f"rotations is {self.rotations}; it must be at most the {len(self.labels)} labels")
        return self


def key_of(name: str, kind: type[Settings] = TaskSettings) -> Key:
    """Return the properties of a key of a task's YAML."""
    marks = [mark for mark in kind.model_fields[name].metadata if isinstance(mark, Key)]
    return marks[0] if marks else Key()


def keys_that(are: Literal["merged", "clips", "answers", "task_wide", "reported"]) -> tuple[str, ...]:
    """Return the keys of a task that have a property, in their order."""
    return tuple(name for name in TaskSettings.model_fields if getattr(key_of(name), are))


# The keys of `--metadata KEY=VALUE`, with the tasks that each one applies to.
OVERRIDES: dict[str, Place] = {
    key: place
    for kind in (TaskSettings, VerifierSettings)
    for name in kind.model_fields
    for key, place in key_of(name, kind).overrides.items()
}

"""`AmbiguousEmotionTask`, the one harness task class: manifest and YAML in, requests out, predictions to scores."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cached_property, partial
from inspect import signature
from itertools import chain
from typing import Any

import jinja2
import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.registry import filter_registry
from lm_eval.api.task import ConfigurableTask

from ambi_eval.analysis.scaling import scaling_curve
from ambi_eval.answers.candidate import Candidate
from ambi_eval.answers.parser import freeze_synonyms
from ambi_eval.answers.pool import Answers
from ambi_eval.answers.reducers import Prediction
from ambi_eval.answers.score import CURVE_METRICS, CURVE_SIZES, check_metrics, score_clips
from ambi_eval.config.generation import SAMPLING_KEYS
from ambi_eval.config.load import OWN_KEYS, resolve
from ambi_eval.corpora.selection import Selection, corpus_clips, select
from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.harness.aggregation import (
    BY_CLIP,
    ClipResult,
    ClipScore,
    PipelineScores,
    ScoredClip,
    aggregations,
    higher_is_better,
)
from ambi_eval.inference.question import CANDIDATE_MARK

logger = logging.getLogger(__name__)

Aggregation = Callable[[Sequence[ClipScore]], float | str]
# What the answers mean is one thing for all pipelines of a task; other options may differ from step to step.
TASK_WIDE = {"labels", "readout", "synonyms", "calibration", "length_normalisation"}
TEMPLATES = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)


@contextmanager
def _no_cycles_made() -> Iterator[None]:
    """Spare Python the search for reference cycles among many small objects that have none: half of their cost."""
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searching:
            gc.enable()


class Documents(list[dict[str, Any]]):
    """The documents of a task; the harness may write into each one that it takes, so it gets copies.

    A `datasets.Dataset` in their place takes longer to iterate over than a clip takes to score.
    """

    features: Mapping[str, Any] = {"id": None, "audio": None}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield a copy of each document."""
        return map(dict, super().__iter__())


class AmbiguousEmotionTask(ConfigurableTask):
    """A task whose target is the distribution of human votes about the emotion in a clip.

    The harness builds it from YAML (`class: !function ambi_eval.task.AmbiguousEmotionTask`). The documents that the
    harness sees and logs hold a clip's id and audio only; votes, speaker and transcript stay in here.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Read the configuration, find the manifest and select the clips.

        Raises:
            AmbiError: For every mistake in the YAML, the manifest or the overrides.
        """
        whole = resolve(config or {})
        self.own = {key: whole.pop(key) for key in OWN_KEYS.keys() & whole.keys()}
        labels = self.own["labels"]
        self.metrics = check_metrics(self.own["metrics"], whole["task"])
        try:
            freeze_synonyms(labels, self.own["synonyms"])
        except AmbiError as error:
            raise AmbiError(f"{whole['task']} ({whole['metadata']['config_source']}): {error}") from error
        for step in (step for pipeline in whole["filter_list"] for step in pipeline["filter"]):
            if str(step["function"]).startswith("ambi_"):
                try:
                    _complete(step, self.own)
                except AmbiError as error:
                    raise AmbiError(f"{whole['task']} ({whole['metadata']['config_source']}): {error}") from error
        if self.own["pool"] == "labels":
            whole |= {"doc_to_choice": labels, "target_delimiter": ""}
        if self.own["control"] != "none":
            whole["task_alias"] = f"{whole['task']} [{self.own['control']}]"
        self.templates = [_template(text, whole["task"]) for text in (whole["doc_to_text"], *self.own["prompts"])]
        rule = self.own.get("stop_rule")
        if rule and not (set(rule) == {"confidence", "round"} and 0.5 <= rule["confidence"] < 1 and rule["round"] >= 1):
            raise AmbiError(
                f"{whole['task']}: stop_rule needs confidence (from 0.5 to below 1) and round, it is {rule}"
            )
        if verifier := self.own.get("verifier"):
            if set(verifier) != {"prompt", "ratings"}:
                raise AmbiError(
                    f"{whole['task']}: verifier needs the keys prompt and ratings, it has {sorted(verifier)}"
                )
            if verifier["ratings"] not in range(2, 10):
                raise AmbiError(
                    f"{whole['task']}: ratings is {verifier['ratings']}; it must be a whole number from 2 to 9, the "
                    "best of the ratings from 1 up"
                )
            self.verifier_template = _template(verifier["prompt"], whole["task"])
        self.aggregated: dict[str, list[Sequence[ClipScore]]] = {}
        super().__init__(
            config={
                "test_split": "test",
                "doc_to_target": "",
                "doc_to_audio": "audio",
                "fewshot_config": {"samples": []},
                "metric_list": [],
                **whole,
            },
            **kwargs,
        )

    # ------------------------------------------------------------------------------------------- documents

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Read the manifest and keep what scoring needs; the harness gets documents of id and audio only."""
        config = {**self.own, "task": self.config.task, "metadata": self.config.metadata}
        self.selection: Selection = select(config, corpus_clips(config))
        self.rows = {clip.id: number for number, clip in enumerate(self.selection.clips)}
        logger.info("%s: %s", self.config.task, self.selection.summary())
        for warning in self.selection.warnings:
            logger.warning("%s: %s", self.config.task, warning)
        heard = zip(self.selection.clips, self.selection.heard, strict=True)
        self.dataset = {"test": Documents({"id": clip.id, "audio": audio} for clip, audio in heard)}

    def doc_to_text(self, doc: Mapping[str, Any], doc_to_text: Any = None) -> str:
        """Return the prompt of the strategy (the first one where it has several)."""
        return self._prompts(doc)[0]

    def doc_to_target(self, doc: Mapping[str, Any], doc_to_target: Any = None) -> int | str:
        """Return nothing: the target is a distribution, and the harness's logs stay free of votes."""
        return 0 if self.own["pool"] == "labels" else ""

    def doc_to_audio(self, doc: Mapping[str, Any], doc_to_audio: Any = None) -> list[dict[str, Any]]:
        """Return what the model hears: one span of a file, or nothing under `control: transcript`."""
        return [doc["audio"]] if doc["audio"] else []

    def _verifier(self, doc: Mapping[str, Any]) -> dict[str, Any]:
        """Return how the model is to rate its answers, if the strategy has a verifier; `<candidate>` is to fill in."""
        if not self.own.get("verifier"):
            return {}
        best = self.own["verifier"]["ratings"]
        prompt = self._render(self.verifier_template, doc, candidate=CANDIDATE_MARK, ratings=best)
        return {"verifier": {"prompt": prompt, "ratings": [str(rating) for rating in range(1, best + 1)]}}

    def _stop_rule(self) -> dict[str, Any]:
        if not self.own.get("stop_rule"):
            return {}
        return {"stop_rule": {**self.own["stop_rule"], "labels": self.own["labels"], "synonyms": self.own["synonyms"]}}

    def _prompts(self, doc: Mapping[str, Any]) -> list[str]:
        """Return the prompts of one clip: one per wording, and of each one per rotation of the labels."""
        labels, turns = self.own["labels"], range(self.own["rotations"])
        return [
            self._render(template, doc, labels=labels[turn:] + labels[:turn])
            for template in self.templates
            for turn in turns
        ]

    def _render(self, template: jinja2.Template, doc: Mapping[str, Any], **words: Any) -> str:
        reads_only = self.own["control"] == "transcript"
        given = reads_only or self.own["transcript"] == "given"
        transcript = self.selection.clips[self.rows[doc["id"]]].transcript if given else None
        own = {"labels": self.own["labels"], "prompt_words": self.own["prompt_words"], "transcript": transcript}
        try:
            prompt = template.render({**own, **words})
        except jinja2.UndefinedError as error:
            raise AmbiError(f"{self.config.task}: a prompt names what there is not: {error.message}") from error
        return prompt.replace("<audio>", "") if reads_only else prompt

    # ------------------------------------------------------------------------------------------- requests

    @cached_property
    def generation_kwargs(self) -> dict[str, Any]:
        """What every generation request of this task says, after the user's `--gen_kwargs`."""
        given = deepcopy(self.config.generation_kwargs)
        if self.own["pool"] != "samples":
            given = {key: value for key, value in given.items() if key not in SAMPLING_KEYS} | {"do_sample": False}
        return given

    def fewshot_context(self, doc: dict[str, Any], num_fewshot: int, **kwargs: Any) -> Any:
        """Return the prompt with the system message and description that the harness puts around it.

        Raises:
            AmbiError: If few-shot examples are asked for.
        """
        if num_fewshot:
            raise AmbiError(f"{self.config.task}: there are no few-shot examples with audio; leave out --num_fewshot")
        return super().fewshot_context(doc, num_fewshot, **kwargs)

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """Return the requests of one clip: one per prompt, or one per label where likelihoods are asked for."""
        first, *others = self._prompts(doc)
        # The harness has put system prompt and description around the first prompt; the others get the same.
        contexts = [ctx, *(ctx.replace(first, other) for other in others)]
        audio, metadata = self.doc_to_audio(doc), kwargs["metadata"]
        if self.own["pool"] != "labels":
            wanted = {"audio": audio, **self._verifier(doc), **self._stop_rule()}
            return [
                Instance("generate_until", doc, (context, self.generation_kwargs, wanted), i, metadata)
                for i, context in enumerate(contexts)
            ]
        heard = [audio]
        if self.own["calibration"] == "silence":
            # The same silence for every clip, so that a model which joins equal requests scores it once.
            heard.append([{**(self.selection.heard[0] or {}), "control": "silence"}] if audio else [])
        scored = [(context, label, spans) for spans in heard for context in contexts for label in self.own["labels"]]
        return [
            Instance("loglikelihood", doc, (context, label, {"audio": spans, "end_of_turn": True}), i, metadata)
            for i, (context, label, spans) in enumerate(scored)
        ]

    # ------------------------------------------------------------------------------------------- scores

    @_no_cycles_made()
    def apply_filters(self) -> None:
        """Run the filter pipelines over one pool per clip, whether its answers came from repeats, prompts or labels."""
        clips: dict[int, list[Instance]] = {}
        for instance in self.instances:
            del instance.resps[instance.repeats :]  # what data-parallel padding added
            clips.setdefault(instance.doc_id, []).append(instance)
        pools = [
            replace(group[0], resps=Answers(chain.from_iterable(i.resps for i in group)), filtered_resps={})
            for group in clips.values()
        ]
        ids = [pool.doc["id"] for pool in pools]
        rows = [self.rows[clip] for clip in ids]
        clusters = [self.selection.clusters[row] for row in rows]
        votes, noise = self.selection.votes[rows], self.selection.noise[rows]
        for number, pipeline in enumerate(self._filters):
            pipeline.apply(pools)
            predictions = [pool.filtered_resps[pipeline.name] for pool in pools]
            if not all(isinstance(prediction, Prediction) for prediction in predictions):
                raise AmbiError(f"{self.config.task}: the pipeline '{pipeline.name}' must end with an ambi_* filter")
            scores = score_clips(predictions, votes, noise, self.metrics, curve=self._has_curve, oracle=number == 0)
            for i, (pool, prediction) in enumerate(zip(pools, predictions, strict=True)):
                result = ClipResult(ids[i], clusters[i], prediction.distribution, votes[i])
                candidates = _attributes(pool.resps) if number == 0 else None
                pool.filtered_resps[pipeline.name] = ScoredClip.of(prediction, scores[i], result, candidates)
        for pool, group in zip(pools, clips.values(), strict=True):
            for instance in group:
                instance.filtered_resps = pool.filtered_resps

    def score_answers(self, answers: Mapping[str, Sequence[Candidate]]) -> dict[str, PipelineScores]:
        """Return what each pipeline makes of answers that were given before, by the pipeline's name.

        Args:
            answers: The answers about every clip of the task, by its id; of `exact`, those that carry the labels'
                log-likelihoods.
        """
        likelihoods = self.own["pool"] == "labels"
        self._instances = [
            Instance(
                request_type="loglikelihood" if likelihoods else "generate_until",
                doc={"id": clip.id},
                arguments=(),
                idx=0,
                metadata=(self.config.task, number, len(answers[clip.id])),
                resps=[(each.logprob, False) for each in answers[clip.id]] if likelihoods else list(answers[clip.id]),
            )
            for number, clip in enumerate(self.selection.clips)
        ]
        self.apply_filters()
        aggregations, found = self.aggregation(), {}
        for name in self._instances[0].filtered_resps:
            scored = [instance.filtered_resps[name] for instance in self._instances]
            metrics: dict[str, float] = {}
            for metric in dict.fromkeys(chain.from_iterable(one.scores for one in scored)):
                value = aggregations[metric]([one.scores[metric] for one in scored if metric in one.scores])
                if not isinstance(value, str):
                    metrics[metric] = value
            found[name] = PipelineScores(metrics, np.array([one.prediction.distribution for one in scored]))
        self._instances = []
        return found

    @property
    def _has_curve(self) -> bool:
        """Whether a part of a clip's pool is a smaller pool: not of beams, which fewer beams would not have found."""
        return self.own["pool"] in ("samples", "prompts") and not self.own.get("stop_rule")

    def process_results(self, doc: dict[str, Any], results: Sequence[ScoredClip]) -> Mapping[str, Any]:
        """Return every metric of one clip under one pipeline."""
        if "bypass" in self._metric_fn_list:
            return {"bypass": 999}
        if results[0].candidates:
            doc["candidates"] = results[0].candidates  # the harness logs the document as it is now
        return results[0].scores

    def aggregation(self) -> dict[str, Any]:
        """Return how each metric's clips become one number, and its error bar."""
        functions = aggregations(self.metrics)
        names = (name for points in self._curve_points.values() for name in points.values())
        kept = {name: partial(self._aggregate, name, functions[name]) for name in names}
        return {**super().aggregation(), **functions, **kept}

    def _aggregate(self, name: str, function: Aggregation, scores: Sequence[ClipScore]) -> float | str:
        """Return the overall score, and keep the clips' for the curve: the harness shows all of them only here."""
        self.aggregated.setdefault(name, []).append(scores)
        return function(scores)

    @property
    def _curve_points(self) -> dict[str, dict[int, str]]:
        """The names of the scores on the curve of each metric, by pool size N."""
        whole = self.config.repeats * len(self.templates) * self.own["rotations"]
        if whole == 1 or not self._has_curve:
            return {}
        return {
            metric: {**{n: f"{metric}@{n}" for n in CURVE_SIZES if n < whole}, whole: metric}
            for metric in CURVE_METRICS
            if metric in self.metrics
        }

    def _curves(self) -> dict[str, Any]:
        """Return `{"curve": ...}`, the curves over the pool size N by metric, once the harness has made the scores."""
        pipelines = [pipeline.name for pipeline in self._filters]
        if {len(scores) for scores in self.aggregated.values()} != {len(pipelines)}:
            return {}
        drawn = self.own["pool"] == "samples"
        means = [p["name"] for p in self.config.filter_list if drawn and p["filter"][-1]["function"] == "ambi_mean"]
        # As in the overall scores, the order of processes must not move a digit.
        first = next(iter(self.aggregated.values()))[0]
        order = sorted(range(len(first)), key=lambda number: BY_CLIP(first[number]))
        results = [first[number].result for number in order]
        votes, clusters = np.array([each.votes for each in results]), [each.cluster for each in results]
        curves = {}
        for metric, points in self._curve_points.items():
            # The harness aggregates pipeline by pipeline, in their order.
            scores = {
                name: {n: np.array(self.aggregated[point][number], float)[order] for n, point in points.items()}
                for number, name in enumerate(pipelines)
            }
            curves[metric] = scaling_curve(scores, metric, votes, clusters, means=means).to_json()
        return {"curve": curves}

    def higher_is_better(self) -> dict[str, bool]:
        """Return the direction of each metric."""
        return {**super().higher_is_better(), **higher_is_better(self.metrics)}

    def dump_config(self) -> dict[str, Any]:
        """Return the configuration for the results file: the harness's keys, ours, and what was left out."""
        asked = {
            "clips": len(self.selection.clips),
            "left_out": dict(self.selection.left_out),
            "warnings": self.selection.warnings,
        }
        return {**super().dump_config(), **self.own, **asked, **self._curves()}


def _complete(step: dict[str, Any], own: Mapping[str, Any]) -> None:
    """Give a step of a filter pipeline what the task says, and make its filter once, to find mistakes before the run.

    Raises:
        AmbiError: If there is no such filter, or if it does not take what the step says.
    """
    name = step["function"]
    if name not in filter_registry:
        raise AmbiError(f"no filter '{name}'{did_you_mean(name, filter_registry)}")
    made_by = filter_registry.get(name)
    takes = {parameter for each in made_by.__mro__ for parameter in signature(each.__init__).parameters}
    options = takes - TASK_WIDE - {"self", "args", "kwargs"}
    for key in step.keys() - options - {"function"}:
        raise AmbiError(f"{name} has no option '{key}'{did_you_mean(key, options)}")
    step |= {key: own[key] for key in takes & own.keys() - step.keys()}
    made_by(**{key: value for key, value in step.items() if key != "function"})


def _template(text: str, task: str) -> jinja2.Template:
    try:
        return TEMPLATES.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        raise AmbiError(f"{task}: the prompt is no Jinja template ({error.message}): {text}") from error


def _attributes(answers: Sequence[Any]) -> dict[str, list[Any]] | None:
    """Return what `Candidate`s carry beside their text, one list per attribute; None for other answers."""
    if not isinstance(answers[0], Candidate):
        return None
    return {
        "logprob": [answer.logprob for answer in answers],
        "n_tokens": [answer.n_tokens for answer in answers],
        "finish": [answer.finish for answer in answers],
        **({"rating": ratings} if any(ratings := [answer.rating for answer in answers]) else {}),
    }

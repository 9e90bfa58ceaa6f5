"""`AmbiguousEmotionTask`, our one task class of the harness: makes requests from YAML and manifest, scores answers."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain, compress
from pathlib import Path
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from ambi_eval.answers.candidate import Candidate, answers_digest
from ambi_eval.answers.lexicon import freeze_synonyms
from ambi_eval.answers.pool import Answers
from ambi_eval.answers.reducers import Prediction, drawn
from ambi_eval.answers.score import check_metrics, score_clips
from ambi_eval.audio import AudioSpan, check_files_exist
from ambi_eval.config.load import for_harness, for_results, resolve
from ambi_eval.config.prompts import Prompts
from ambi_eval.corpora.manifest import Clip, Manifest
from ambi_eval.corpora.select import corpus_clips, select
from ambi_eval.corpora.selection import Selection
from ambi_eval.errors import AmbiError
from ambi_eval.harness.aggregation import ClipResult, PipelineScores, ScoredClip, aggregations, higher_is_better
from ambi_eval.harness.curves import CurveScores
from ambi_eval.harness.garbage import paused
from ambi_eval.harness.pipelines import complete_pipelines
from ambi_eval.harness.requests import Audio, Documents, generation_requests, heard, likelihood_requests
from ambi_eval.inference.question import CANDIDATE_MARK

logger = logging.getLogger(__name__)

MANY_UNREAD = 0.1  # a larger share of answers that could not be read is told


class AmbiguousEmotionTask(ConfigurableTask):
    """A task whose target is the distribution of human votes about the emotion in a clip.

    The harness makes it from YAML (`class: !function ambi_eval.task.AmbiguousEmotionTask`). The documents, which the
    harness logs, hold a clip's id and audio only; votes, speaker and transcript stay in this class.

    Attributes:
        settings: The settings from the task's YAML and `--metadata`.
        selection: The clips that the task asks about, with their votes.
        asked: All clips that a model is asked about, with their audio: those of the selection, then those whose votes
            are withheld, which are logged but not scored.
        rows: Index of each clip in `asked`, by its id.
        warnings: Reasons why the scores of the run may mislead, one sentence each; usually none.
    """

    VERSION = 0  # default for tasks without `metadata: {version: ...}`
    selection: Selection
    asked: list[tuple[Clip, Audio | None]]
    rows: dict[str, int]

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Read the configuration, find the manifest and select the clips; an AmbiError tells every mistake in them."""
        self.settings = settings = resolve(config or {})
        self.metrics = check_metrics(settings.metrics, settings.task)
        try:
            freeze_synonyms(settings.labels, settings.synonyms)
        except AmbiError as error:
            raise AmbiError(f"{settings.where}: {error}") from error
        self.prompts = Prompts(settings)
        self.curve_scores = CurveScores(settings)
        self.warnings: list[str] = []
        ours: dict[str, Any] = {"filter_list": complete_pipelines(settings)}
        if settings.pool == "labels":
            ours |= {"doc_to_choice": settings.asked_labels, "target_delimiter": ""}
        part = settings.clips_name.removeprefix(settings.corpus)
        if part or settings.control != "none":
            control = "" if settings.control == "none" else f" [{settings.control}]"
            ours["task_alias"] = f"{settings.task}{part}{control}"
        defaults: dict[str, Any] = {"test_split": "test", "doc_to_target": "", "doc_to_audio": "audio"}
        defaults |= {"fewshot_config": {"samples": []}, "metric_list": []}
        super().__init__(config={**defaults, **for_harness(settings), **ours}, **kwargs)

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Read the manifest, and give the harness documents of id and audio."""
        self.select(corpus_clips(self.settings))
        logger.info("%s: %s", self.config.task, self.selection.summary())
        for warning in self.selection.warnings:
            self._warn(warning)
        documents: list[dict[str, Any]] = [{"id": clip.id, "audio": audio} for clip, audio in self.asked]
        for document, before in zip(documents, self.selection.before, strict=False):  # for examples and pairs
            document["before"] = before
        self.dataset = {"test": Documents(documents)}

    def select(self, clips: Manifest) -> None:
        """Set `selection`, `asked` and `rows` from the clips of the manifest."""
        self.selection = select(self.settings, clips)
        self.asked = [*zip(self.selection.clips, self.selection.heard, strict=True), *self.selection.withheld]
        self.rows = {clip.id: number for number, (clip, _) in enumerate(self.asked)}

    def doc_to_text(self, doc: Mapping[str, Any], doc_to_text: Any = None) -> str:
        """Return the prompt of the strategy (the first one where it has several)."""
        return self._prompts(doc)[0]

    def doc_to_target(self, doc: Mapping[str, Any], doc_to_target: Any = None) -> int | str:
        """Return a target that says nothing: the harness logs it, and votes are not for its logs."""
        return 0 if self.settings.pool == "labels" else ""

    def doc_to_audio(self, doc: Mapping[str, Any], doc_to_audio: Any = None) -> list[Audio]:
        """Return the audio spans that the model hears; none under `control: transcript`."""
        return heard(doc)

    def _warn(self, warning: str) -> None:
        self.warnings.append(warning)
        logger.warning("%s: %s", self.config.task, warning)

    def _transcript(self, doc: Mapping[str, Any]) -> str | None:
        return self.asked[self.rows[doc["id"]]][0].transcript

    def _prompts(self, doc: Mapping[str, Any]) -> list[str]:
        shown = self.selection.shown[self.rows[doc["id"]]].tolist() if self.selection.shown else ()
        return self.prompts.about(self._transcript(doc), shown)

    def check(
        self, gen_kwargs: Mapping[str, Any], limit: float | None, num_fewshot: int | None, samples: object = None
    ) -> None:
        """Check everything that a run with these options of `lm_eval` needs, before the model is loaded.

        Raises:
            AmbiError: For audio files that are missing, prompts that cannot be rendered, generation settings that are
                impossible, few-shot examples, and clips that are not there.
        """
        self._refuse_fewshot(num_fewshot)
        if limit is not None and not 0 < limit < math.inf:
            raise AmbiError(
                f"--limit {limit:g} is no number of clips: give a number of clips, or a share of them below 1"
            )
        every = range(len(self.asked))
        rows = every[: int(limit) if limit and limit >= 1 else None] if samples is None else self._rows(samples)
        if self.settings.pool != "labels":
            beams = self.settings.generation({**self.config.generation_kwargs, **gen_kwargs}).num_beams
            if self.settings.pool == "beams" and beams < self.settings.repeats:
                what = f"{self.config.task}: num_beams is {beams}, but {self.settings.repeats} beams are compared"
                raise AmbiError(f"{what}; set both numbers by --metadata beams=N")
        elif gen_kwargs:
            self._warn("--gen_kwargs has no effect: the task generates no answers, it reads the labels' likelihoods")
        before = self.selection.before
        audios = [[self.asked[row][1], *(before[row] if row < len(before) else ())] for row in rows]
        check_files_exist(AudioSpan.from_dict(audio) for audio in chain.from_iterable(audios) if audio)
        transcript = self.selection.clips[0].transcript
        self._prompts({"id": self.selection.clips[0].id})
        if self.settings.verifier:
            self.prompts.rating(transcript, CANDIDATE_MARK)

    def _rows(self, samples: object) -> list[int]:
        """Return the numbers of clips that `--samples` gives this task; raise an `AmbiError` if they are none."""
        task, last = self.config.task, len(self.asked) - 1
        if not isinstance(samples, list | tuple) or not samples:
            raise AmbiError(f'--samples: give {task} a list of numbers of clips, {{"{task}": [0, 1]}}, not {samples}')
        if wrong := [number for number in samples if type(number) is not int or not 0 <= number <= last]:
            raise AmbiError(f"--samples: {task} has clips 0 to {last}, and no clip {wrong[0]}")
        if len(set(samples)) < len(samples):
            raise AmbiError(f"--samples names a clip of {task} twice, so it would count twice; name each once")
        return list(samples)

    @cached_property
    def generation_kwargs(self) -> dict[str, Any]:
        """The settings of every generation request of this task, after the user's `--gen_kwargs`."""
        given = deepcopy(self.config.generation_kwargs)
        if self.settings.pool == "samples" and not self.settings.generation(given).sampled:
            n = self.settings.repeats
            self._warn(f"nothing is sampled (do_sample, temperature), so all {n} answers about a clip are the same one")
        return self.settings.for_pool(given)

    def _refuse_fewshot(self, num_fewshot: int | None) -> None:
        if num_fewshot:
            raise AmbiError(f"{self.config.task}: there are no few-shot examples with audio; leave out --num_fewshot")

    def fewshot_context(self, doc: dict[str, Any], num_fewshot: int, **kwargs: Any) -> Any:
        """Return the prompt with the system message and description that the harness puts around it."""
        self._refuse_fewshot(num_fewshot)
        return super().fewshot_context(doc, num_fewshot, **kwargs)

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """Return the requests of one clip: one per prompt, or one per label where likelihoods are asked for."""
        first, *others = self._prompts(doc)
        # The harness has put system prompt and description around the first prompt; the others get the same.
        contexts = [ctx, *(ctx.replace(first, other) for other in others)]
        if self.settings.pool == "labels":
            silence = {**(self.selection.heard[0] or {}), "control": "silence"}
            return likelihood_requests(self.settings, doc, contexts, silence, kwargs["metadata"])
        rating = self._rating(doc)
        return generation_requests(self.settings, doc, contexts, self.generation_kwargs, rating, kwargs["metadata"])

    def _rating(self, doc: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the verifier's prompt, with `<candidate>` in place of an answer, and the ratings; None without one."""
        if not self.settings.verifier:
            return None
        ratings = [str(rating) for rating in range(1, self.settings.verifier.ratings + 1)]
        return {"prompt": self.prompts.rating(self._transcript(doc), CANDIDATE_MARK), "ratings": ratings}

    @paused()
    def apply_filters(self) -> None:
        """Run the filter pipelines over the pool of each clip, which joins its repeats, prompts and labels."""
        clips: dict[int, list[Instance]] = {}
        for instance in self.instances:
            del instance.resps[instance.repeats :]  # a data-parallel run pads with further repeats
            clips.setdefault(instance.doc_id, []).append(instance)
        joined = ((group[0], Answers(chain.from_iterable(each.resps for each in group))) for group in clips.values())
        pools = [replace(first, resps=answers, filtered_resps={}) for first, answers in joined]
        self._notice_equal_answers(pools)
        ids = [pool.doc["id"] for pool in pools]
        rows = [self.rows[clip] for clip in ids]
        has_votes = [row < len(self.selection.clips) for row in rows]
        voted_rows = list(compress(rows, has_votes))
        votes, noise = self.selection.votes[voted_rows], self.selection.noise[voted_rows]
        shown: dict[str, Any] = {"curve": self.settings.has_curve, "wordings": self.settings.wordings}
        scored_clips = partial(score_clips, votes=votes, noise=noise, metrics=self.metrics, **shown)
        for number, pipeline in enumerate(self._filters):
            pipeline.apply(pools)
            predictions = [pool.filtered_resps[pipeline.name] for pool in pools]
            if not all(isinstance(prediction, Prediction) for prediction in predictions):
                raise AmbiError(f"{self.config.task}: the pipeline '{pipeline.name}' must end with an ambi_* filter")
            if number == 0:
                self._notice_unread_answers(pools, predictions)
            scores = iter(scored_clips(predictions=list(compress(predictions, has_votes)), oracle=number == 0))
            for clip, row, has, pool, prediction in zip(ids, rows, has_votes, pools, predictions, strict=True):
                scored = ScoredClip(prediction, {}, _logged(pool.resps) if number == 0 else {})
                if has:
                    cluster, voted = self.selection.clusters[row], self.selection.votes[row]
                    scored.add(next(scores), ClipResult(clip, cluster, prediction.distribution, voted))
                pool.filtered_resps[pipeline.name] = scored
        for pool, group in zip(pools, clips.values(), strict=True):
            for instance in group:
                instance.filtered_resps = pool.filtered_resps

    def _notice_equal_answers(self, pools: Sequence[Instance]) -> None:
        """Warn if the samples of each clip are equal, as those of a server that ignores the sampling settings are."""
        n = self.settings.repeats
        if self.settings.pool != "samples" or n == 1:
            return
        sampled = self.settings.generation(self.config.generation_kwargs).sampled
        if sampled and all(len(set(map(str, drawn(pool.resps)))) == 1 for pool in pools):
            self._warn(f"the {n} answers about a clip are the same one, for each of the {len(pools)} clips asked about")

    def _notice_unread_answers(self, pools: Sequence[Instance], predictions: Sequence[Prediction]) -> None:
        """Warn if many answers could not be read beside others that could: `invalid_rate` does not count them."""
        failed = sum((Counter(each.failed) for each in predictions), Counter[str]())
        answers, unread = sum(each.pool.size for each in predictions), failed.total()
        if unread <= MANY_UNREAD * answers or all(each.pool.size == 1 or each.invalid for each in predictions):
            return
        reasons = ", ".join(f"{number:,} {reason.replace('_', ' ')}" for reason, number in failed.most_common())
        every = chain.from_iterable(pool.resps for pool in pools)
        if withheld := sum(getattr(answer, "finish", None) == "content_filter" for answer in every):
            reasons += f"; {withheld:,} withheld by the provider"
        texts = (
            str(text)
            for pool, each in zip(pools, predictions, strict=True)
            for text, valid in zip(pool.resps, each.pool.valid, strict=False)
            if not valid and text.strip()
        )
        example = next((f", such as {text!r:.80}" for text in texts), "")
        self._warn(f"{unread:,} of {answers:,} answers could not be read ({reasons}) and are left out{example}")

    def score_answers(self, answers: Mapping[str, Sequence[Candidate]]) -> dict[str, PipelineScores]:
        """Return the results of each pipeline for the answers about every clip (by its id), by the pipeline's name.

        For `exact`, the answers are the labels with their log-likelihoods.
        """
        likelihoods = self.settings.pool == "labels"
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

    def process_results(self, doc: dict[str, Any], results: Sequence[ScoredClip]) -> Mapping[str, Any]:
        """Return every metric of one clip under one pipeline."""
        if "bypass" in self._metric_fn_list:
            return {"bypass": 999}
        doc |= results[0].logged  # the harness logs the document in its current state
        return results[0].scores

    def aggregation(self) -> dict[str, Any]:
        """Return the functions that aggregate each metric over clips, and its error bar."""
        functions = aggregations(self.metrics, self.settings.wordings)
        return {**super().aggregation(), **functions, **self.curve_scores.keeping(functions)}

    def higher_is_better(self) -> dict[str, bool]:
        """Return the direction of each metric."""
        return {**super().higher_is_better(), **higher_is_better(self.metrics, self.settings.wordings)}

    def dump_config(self) -> dict[str, Any]:
        """Return the configuration for the results file: the harness's keys, ours, the clips, warnings and curves."""
        asked = {"clips": len(self.selection.clips), "left_out": dict(self.selection.left_out)}
        curves = {"curve": self.curve_scores.curves(self.selection), "wording_scores": self.curve_scores.wordings()}
        more = {"warnings": self.warnings, **{name: value for name, value in curves.items() if value}}
        config = super().dump_config()
        if self.settings.source != "inline":  # lm_eval gives a path relative to where it runs; a report runs elsewhere
            config["metadata"] = {**config["metadata"], "config_source": str(Path(self.settings.source).absolute())}
        return {**config, **for_results(self.settings), **asked, **more}


def _logged(answers: Sequence[Any]) -> dict[str, Any]:
    """Return what the log says of a clip's answers besides their texts: their digest and their attributes."""
    if not isinstance(answers[0], Candidate):
        return {"answers_digest": answers_digest(answers)}
    thought = [answer.thinking_tokens for answer in answers]
    candidates = {
        "logprob": [answer.logprob for answer in answers],
        "n_tokens": [answer.n_tokens for answer in answers],
        "finish": [answer.finish for answer in answers],
        **({"rating": ratings} if any(ratings := [answer.rating for answer in answers]) else {}),
        **({"thinking_tokens": thought} if any(tokens != 0 for tokens in thought) else {}),
    }
    return {"answers_digest": answers_digest(answers, candidates), "candidates": candidates}

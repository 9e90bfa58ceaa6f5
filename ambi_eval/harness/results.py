"""Reads the files of a run of `lm_eval`: predictions, answers and votes of every task and pipeline."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import NotRequired, TypedDict

from ambi_eval.answers.candidate import Candidate, Finish, answers_digest
from ambi_eval.config.load import read_back
from ambi_eval.config.model_names import folder_name
from ambi_eval.config.task_settings import TaskSettings
from ambi_eval.corpora.select import corpus_clips, select
from ambi_eval.corpora.selection import Selection
from ambi_eval.errors import AmbiError, counted
from ambi_eval.harness.repeat import command, our_configs
from ambi_eval.metrics import HEADLINE, METRICS
from ambi_eval.metrics.clustered import clustered_standard_error, influence_on_mean
from ambi_eval.votes import Array

logger = logging.getLogger(__name__)

Json = dict[str, Any]
# Further keys, as a later version may write, are ignored.
READ_BACK = ConfigDict(strict=True, extra="allow")


@with_config(READ_BACK)
class _Prediction(TypedDict):
    """A pipeline's prediction for a clip: shares by label, or none; counts of unusable answers by reason."""

    shares: dict[str, float] | None
    failed: dict[str, int]


@with_config(READ_BACK)
class _Candidates(TypedDict):
    n_tokens: NotRequired[list[int | None]]
    finish: NotRequired[list[Finish | None]]
    thinking_tokens: NotRequired[list[int | None]]


@with_config(READ_BACK)
class _Document(TypedDict):
    id: str
    answers_digest: NotRequired[str]
    candidates: NotRequired[_Candidates | None]


@with_config(READ_BACK)
class _Sample(TypedDict):
    """The harness's log of one clip under one pipeline; the scores are further keys."""

    filter: str
    doc: _Document
    metrics: list[str]
    resps: list[list[Any]]
    filtered_resps: Annotated[list[str], Field(min_length=1)]
    doc_hash: str
    prompt_hash: str
    target_hash: str


@with_config(READ_BACK)
class _TaskConfig(TypedDict):
    """What our tasks add to their settings in a results file."""

    metadata: dict[str, Any]
    clips: int
    left_out: dict[str, int]
    warnings: NotRequired[list[str]]
    curve: NotRequired[dict[str, dict[str, Any]]]


@with_config(READ_BACK)
class _Results(TypedDict):
    config: dict[str, Any]
    configs: dict[str, dict[str, Any]]
    task_hashes: dict[str, str]


SAMPLE, PREDICTION = TypeAdapter(_Sample), TypeAdapter(_Prediction)
RESULTS, TASK_CONFIG = TypeAdapter(_Results), TypeAdapter(_TaskConfig)


@dataclass(frozen=True, eq=False)
class Pipeline:
    """The results of one filter pipeline on one task."""

    name: str  # as in the harness's table: `dist`, `vote` ...
    p: Array  # predicted distributions, shape (clips, labels); NaN where invalid
    # Every number that the harness logged for each clip, by name, shape (clips,): scores, `jsd_bits@5`, `label_mass`
    # ...
    logged: Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class TaskRun:
    """One task of a run."""

    name: str
    settings: TaskSettings  # its settings: labels, manifest, strategy, repeats, generation_kwargs ...
    clips_of_task: int  # number of clips of the whole task; `--limit` asks about fewer
    left_out: Mapping[str, int]  # number of clips of the manifest that the task leaves out, by reason
    warnings: Sequence[str]  # the run's warnings about its clips and answers, one sentence each
    curves: Mapping[str, Json]  # its curves over the pool size, by metric, as in the results file
    selection: Selection  # the clips that were asked about, with their votes, in the order of the manifest
    pipelines: dict[str, Pipeline]  # the results, by pipeline
    # The answers of each clip, with all that is logged about them. For `exact`, each label with its log-likelihood, for
    # each prompt (and for silence, if calibrated).
    texts: Sequence[Sequence[Candidate]]
    # Generated tokens of all answers about each clip, thinking included, shape (clips,): 0 for `exact`, NaN where the
    # model does not count them.
    tokens: Array
    thinking: Array  # thinking tokens among these, shape (clips,); NaN where unknown
    failed: Mapping[str, int]  # number of answers that could not be read, by reason

    @property
    def votes(self) -> Array:
        """Votes of each clip, shape (clips, labels)."""
        return self.selection.votes

    def shown_answers(self, clip: int) -> list[str]:
        """Return the texts of the answers to a clip, given by its index; for `exact`, labels with log-likelihoods."""
        if self.settings.pool != "labels":
            return [*self.texts[clip]]
        return [f"{label}: log-likelihood {label.logprob:.3f}" for label in self.texts[clip]]

    @property
    def pool_size(self) -> int:
        """Number of answers about a clip, N; 0 for `exact`."""
        return 0 if self.settings.pool == "labels" else max(map(len, self.texts))


@dataclass(frozen=True, eq=False)
class Run:
    """One results file of `lm_eval` and the samples beside it."""

    file: Path  # the results file
    results: Json  # its content
    tasks: dict[str, TaskRun]  # our tasks in it, by name

    @property
    def model(self) -> str:
        """The model's name; that of a checkpoint in a folder is the folder's, without the path to it."""
        return folder_name(self.full_name)

    @property
    def full_name(self) -> str:
        """The model's name as it was given, with the path to a checkpoint in a folder."""
        return str(self.results.get("model_name") or self.results["config"]["model"])

    @property
    def info(self) -> Json:
        """What our model wrote about itself; empty for a model of the harness."""
        return dict(self.results["config"].get("ambi", {}))

    @property
    def command(self) -> str:
        """The command line that repeats the run."""
        return command(self.results, self.file.parent.parent)


def read_runs(path: Path) -> list[Run]:
    """Return the run of a results file, or the newest run of each folder below one that `--output_path` named.

    Raises:
        AmbiError: If there are no results, no tasks of ours in them, no logged samples, or damaged ones; if the
            manifest is missing, lacks clips, or has other votes than then.
    """
    if path.is_file():
        return [_read_run(path, _content(path))]
    newest: dict[Path, Path] = {}
    for file in sorted(path.rglob("results_*.json")):  # the name ends in the date, so the last one is the newest
        newest[file.parent] = file
    if not newest:
        raise AmbiError(f"{path} holds no results_*.json: give the folder that --output_path of lm_eval named.")
    for folder, file in newest.items():
        if older := len(list(folder.glob("results_*.json"))) - 1:
            left = counted(older, "older run")
            logger.info("%s: %s in this folder left alone; name the file of a run to read it", file, left)
    contents = {file: _content(file) for file in newest.values()}
    ours = {file: results for file, results in contents.items() if our_configs(results)}
    for foreign in contents.keys() - ours.keys() if ours else ():
        logger.warning("%s holds no task of ambi_eval and is left alone", foreign)
    return [_read_run(file, results) for file, results in (ours or contents).items()]


def _content(file: Path) -> Any:
    if not file.is_file():
        raise AmbiError(f"{file} is no plain file: remove it, or name another folder.")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        what = f"{file} cannot be read ({error})"
        raise AmbiError(f"{what}: give a results_*.json of lm_eval; if this is one, repeat the run.") from error


def _read_run(file: Path, results: Any) -> Run:
    configs = our_configs(results)
    if not configs:
        raise AmbiError(f"{file} holds no task of ambi_eval: give the results of a run of its tasks.")
    try:
        RESULTS.validate_python(results)
        for config in configs.values():
            TASK_CONFIG.validate_python(config)
    except ValidationError as error:
        raise AmbiError(f"{file} was changed ({_why(error)}): repeat the run.") from error
    return Run(file, results, {name: _read_task(file, name, config, results) for name, config in configs.items()})


def _read_task(file: Path, name: str, config: Json, results: Json) -> TaskRun:
    path = file.with_name(f"samples_{name}_{file.stem.removeprefix('results_')}.jsonl")
    if not path.is_file():
        raise AmbiError(f"{file}: there is no {path.name} beside it; run lm_eval with --log_samples.")
    samples: dict[str, dict[str, Json]] = {}
    digest = hashlib.sha256()
    for sample in _lines(path):
        samples.setdefault(sample["filter"], {})[sample["doc"]["id"]] = sample
        digest.update(sample["hashes"].encode(errors="surrogatepass"))
    if digest.hexdigest() != results.get("task_hashes", {}).get(name):
        raise AmbiError(f"{path} is not what {file.name} was computed from: it was cut or changed; repeat the run.")
    settings = read_back(config, f"{file}: {name}")
    selection = _selection(path, settings, next(iter(samples.values())))
    if len({frozenset(of_clips) for of_clips in samples.values()}) > 1:
        raise AmbiError(f"{path} holds other clips for one pipeline than for another: repeat the run.")
    ordered = {pipeline: [of_clips[clip.id] for clip in selection.clips] for pipeline, of_clips in samples.items()}
    first = next(iter(ordered.values()))
    try:
        pipelines = {key: _pipeline(key, of_clips, settings.labels) for key, of_clips in ordered.items()}
        texts = [logged_answers(sample, settings) for sample in first]
        thinking = np.array([_thinking(pool) for pool in texts])
        counted = np.zeros(len(texts)) if settings.pool == "labels" else np.array([_tokens(pool) for pool in texts])
    except (LookupError, ValueError, TypeError, ArithmeticError) as error:
        raise AmbiError(f"{path} lacks a label or a number of a clip ({error!r:.200}): repeat the run.") from error
    scored = next(iter(pipelines.values()))
    _check_votes(path, settings, selection, scored)
    changed = _other_clusters(settings, selection, scored, results.get("results", {}).get(name, {}))
    return TaskRun(
        name=name,
        settings=settings,
        clips_of_task=config["clips"],
        left_out=config["left_out"],
        warnings=[*config.get("warnings", []), *changed],
        curves=config.get("curve", {}),
        selection=selection,
        pipelines=pipelines,
        texts=texts,
        tokens=counted + thinking,
        thinking=thinking,
        failed=sum((Counter(sample["prediction"]["failed"]) for sample in first), Counter()),
    )


def _why(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))[:200]}: {first['msg']}"


def _lines(path: Path) -> Iterator[Json]:
    """Yield the logged samples, each with its `prediction` and its `hashes`, and without the long prompts."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                sample: Json = dict(SAMPLE.validate_python(json.loads(line)))
                sample["prediction"] = PREDICTION.validate_python(json.loads(sample["filtered_resps"][0]))
            except (ValueError, RecursionError) as error:
                why = _why(error) if isinstance(error, ValidationError) else error
                raise AmbiError(f"{path}, line {number} is no logged sample ({why}): repeat the run.") from error
            sample.pop("arguments", None)
            doc = sample["doc"]
            answers = [answer for request in sample["resps"] for answer in request]
            if "answers_digest" in doc and doc["answers_digest"] != answers_digest(answers, doc.get("candidates")):
                which = f"{path}, line {number}: the answers about the clip {doc['id']!r:.100}"
                raise AmbiError(f"{which} are not those that were scored; the file was changed: repeat the run.")
            sample["hashes"] = sample["doc_hash"] + sample["prompt_hash"] + sample["target_hash"]
            yield sample


def _selection(path: Path, settings: TaskSettings, samples: Mapping[str, Json]) -> Selection:
    """Return the clips of the manifest that were asked about."""
    try:
        whole = select(settings, corpus_clips(settings), hear=False)
    except AmbiError as error:
        raise AmbiError(f"{path}: the votes of its clips are not there any more: {error}") from error
    here = [number for number, clip in enumerate(whole.clips) if clip.id in samples]
    lost = sorted(samples.keys() - {clip.id for clip in whole.clips} - {clip.id for clip, _ in whole.withheld})
    if lost:
        what = f"{len(lost)} of its clips are not in the manifest '{settings.manifest}', the first is '{lost[0]}'"
        raise AmbiError(f"{path}: {what}: prepare the corpus as it was, or repeat the run.")
    return whole.at(here)


def _pipeline(name: str, samples: Sequence[Json], labels: Sequence[str]) -> Pipeline:
    p = np.full((len(samples), len(labels)), np.nan)
    for row, sample in zip(p, samples, strict=True):
        if shares := sample["prediction"]["shares"]:
            row[:] = [shares[label] for label in labels]
    names = {name for sample in samples for name in sample["metrics"] if not name.endswith("_stderr")}
    logged = {name: np.array([sample.get(name, np.nan) for sample in samples], dtype=float) for name in names}
    return Pipeline(name, p, logged)


def _check_votes(path: Path, settings: TaskSettings, selection: Selection, pipeline: Pipeline) -> None:
    """Raise an error if the votes in the manifest are not those that the run was scored against."""
    for name, metric in METRICS.items():
        scores = metric.per_clip(pipeline.p, selection.votes, selection.noise)
        if scores is not None and name in pipeline.logged:
            changed = np.flatnonzero(~np.isclose(scores, pipeline.logged[name], atol=1e-6, equal_nan=True))
            if len(changed):
                what = f"{len(changed)} of its clips have other votes in the manifest '{settings.manifest}'"
                first = f"than when they were scored, the first is '{selection.clips[changed[0]].id}'"
                raise AmbiError(f"{path}: {what} {first}: prepare the corpus as it was, or repeat the run.")


def _other_clusters(settings: TaskSettings, selection: Selection, pipeline: Pipeline, row: Json) -> list[str]:
    """Return a warning if the error bar of the run is not that of the speakers whom the manifest names now."""
    written = row.get(f"{HEADLINE}_stderr,{pipeline.name}")
    if written is None or HEADLINE not in pipeline.logged:
        return []
    now, _ = clustered_standard_error(influence_on_mean(pipeline.logged[HEADLINE]), selection.clusters)
    if math.isclose(now, written, abs_tol=1e-6) if isinstance(written, float) else math.isnan(now):
        return []
    return [
        f"the manifest '{settings.manifest}' names other {settings.cluster}s than when the run was scored: error bars "
        "and intervals are those of now"
    ]


def logged_answers(sample: Json, settings: TaskSettings) -> list[Candidate]:
    """Return the answers in a logged sample, with all that is logged about them; for `exact` the labels."""
    if settings.pool == "labels":
        # All labels again for each prompt, and for silence if calibrated.
        answers = zip(cycle(settings.asked_labels), sample["resps"], strict=False)
        return [Candidate(label, float(logprob)) for label, [(logprob, _)] in answers]
    texts = [answer for request in sample["resps"] for answer in request]
    logged = sample["doc"].get("candidates") or {}
    known = {name: logged[name] for name in Candidate.__slots__ if logged.get(name)}
    rows = zip(texts, *known.values(), strict=True)
    return [Candidate(text, **dict(zip(known, row, strict=True))) for text, *row in rows]


def _tokens(pool: Sequence[Candidate]) -> float:
    """Return the tokens of all drawn answers, without thinking; NaN if those of one are not counted."""
    counts = [answer.n_tokens for answer in pool if answer.finish != "not_drawn"]
    return math.nan if not counts or None in counts else float(sum(count or 0 for count in counts))


def _thinking(pool: Sequence[Candidate]) -> float:
    counts = [answer.thinking_tokens for answer in pool]
    return math.nan if None in counts else float(sum(count or 0 for count in counts))

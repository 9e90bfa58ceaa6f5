"""Builds the content of the report from runs."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ambi_eval.analysis.ambiguity import Binned, bin_clips
from ambi_eval.analysis.discrimination import human_two_alternatives, two_alternatives
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.predictions import read_predictions
from ambi_eval.analysis.raters.study import study_raters
from ambi_eval.analysis.references.agreement import krippendorff_alpha
from ambi_eval.analysis.references.baselines import PROBE, baselines, description
from ambi_eval.analysis.scaling import Curve
from ambi_eval.audio import AudioSpan, load_audio
from ambi_eval.config.model_names import other_models
from ambi_eval.config.task_settings import TaskSettings
from ambi_eval.corpora.manifest import Clip
from ambi_eval.corpora.selection import Selection
from ambi_eval.errors import AmbiError, counted
from ambi_eval.funnel.content import Funnel
from ambi_eval.harness.results import Pipeline, Run, TaskRun
from ambi_eval.report.budget import budget
from ambi_eval.report.content import (
    BinFacts,
    ClipPrediction,
    Content,
    Reference,
    RunFacts,
    Section,
    ShownClip,
)
from ambi_eval.report.ranking import ranking
from ambi_eval.report.systems import ModelTask, Variant, curves_of, shown_config, systems, variants, without_copies
from ambi_eval.votes import entropy_bits, majority, shares

CURVES = ("jsd_bits", "bc")
SAMPLERS = ("people", "prior")
# The references that the report shows.
SHOWN_REFERENCES = ("perfect_model", "half_panel", "prior", "one_human", "uniform")
HUMAN_REFERENCES = {"half_panel": lambda raters: raters // 2, "one_human": lambda raters: 1}
CONSTANTS = ("prior", "uniform")
# How many clips with the largest and with the smallest error of the best system of each model are shown.
WORST_CLIPS, BEST_CLIPS = 12, 4
# How many clips without a usable answer are shown, those where most systems failed.
FAILED_CLIPS = 4
# If more than this share of the clips is left out, the report is marked PARTIAL.
LEFT_OUT = 0.1
# A system without a usable answer on more than this share of the clips gets a warning at the top of the page.
FAILED = 0.5
SAMPLE_RATE = 16_000
# Compression of the embedded clips: the smallest files that still sound like speech.
MP3_COMPRESSION = 0.9


def build(runs: Sequence[Run], predictions: Sequence[Path] = (), funnels: Sequence[Funnel] = ()) -> Content:
    """Return the content of the report on some runs, and show a progress bar.

    `predictions` are files as `ambi-eval score` reads them, to show as further systems.

    Raises:
        AmbiError: If a file of predictions is invalid, or does not fit the clips of any task.
    """
    models, sections = _model_names(runs), by_clips(runs)
    for path in predictions:
        _add_predictions(path, sections)
    return Content(
        made=_time(datetime.now(tz=timezone.utc).timestamp()),
        runs=[_run_facts(run, model) for run, model in zip(runs, models, strict=True)],
        sections=[_section(asked) for asked in sections],
        funnels=funnels,
    )


def by_clips(runs: Sequence[Run]) -> list[list[ModelTask]]:
    """Return the tasks of some runs, grouped by their clips, labels and votes."""
    sections: dict[Any, list[ModelTask]] = {}
    for run, model in zip(runs, _model_names(runs), strict=True):
        info = run.info
        for task in run.tasks.values():
            ids = tuple(clip.id for clip in task.selection.clips)
            same = (tuple(task.settings.labels), ids, task.votes.tobytes(), tuple(task.selection.clusters))
            asked = ModelTask(
                model,
                int(info.get("seed") or 0),
                str(info.get("sampling") or ""),
                task,
                info,
                float(run.results["total_evaluation_time_seconds"]),
                alone=len(run.tasks) == 1,
            )
            sections.setdefault(same, []).append(asked)
    return list(sections.values())


def _model_names(runs: Sequence[Run]) -> list[str]:
    """Return the model's name for each run, with a number if runs of one name differ in more than the seed."""
    models: dict[str, list[tuple[object, set[object]]]] = {}
    places = []
    for run in runs:
        info = run.info
        weights = (run.full_name, info.get("model_digest"), info.get("dtype"))
        tasks = {(info.get("seed"), name, str(shown_config(task))) for name, task in run.tasks.items()}
        of_name = models.setdefault(run.model, [])
        fits = (n for n, (same, known) in enumerate(of_name) if same == weights and not known & tasks)
        place = next(fits, len(of_name))
        if place == len(of_name):
            of_name.append((weights, set()))
        of_name[place][1].update(tasks)
        places.append((run.model, place))
    return [model if len(models[model]) == 1 else f"{model} #{place + 1}" for model, place in places]


def _add_predictions(path: Path, sections: Sequence[list[ModelTask]]) -> None:
    """Add a file of predictions to every section whose clips it predicts."""
    errors = []
    for asked in sections:
        task = asked[0].task
        try:
            found = read_predictions(path, task.selection.clips, task.settings.labels)
        except AmbiError as error:
            errors.append(error)
            continue
        if len(found.clips) < len(task.votes):
            continue
        system = replace(
            task,
            name=path.stem,
            settings=task.settings.model_copy(update={"control": "none", "transcript": "none", "filter_list": []}),
            curves={},
            pipelines={"": Pipeline("", found.p, {})},
            texts=[()] * len(found.p),
            tokens=np.full(len(found.p), np.nan),
            thinking=np.zeros(len(found.p)),
            failed={},
        )
        asked.append(ModelTask(path.stem, 0, "", system))
    if len(errors) == len(sections):
        raise errors[0]


def _run_facts(run: Run, model: str) -> RunFacts:
    results = run.results
    info = run.info
    versions = {"lm_eval": results.get("lm_eval_version"), "transformers": results.get("transformers_version")}
    versions |= info.pop("versions", {})
    return RunFacts(
        label=model,
        file=str(run.file),
        date=_time(results["date"]),
        seconds=float(results["total_evaluation_time_seconds"]),
        command=run.command,
        versions={name: version for name, version in versions.items() if version},
        model_info=info,
        environment=results.get("pretty_env_info", ""),
    )


def _time(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _section(asked: Sequence[ModelTask]) -> Section:
    task = asked[0].task
    selection, settings, votes = task.selection, task.settings, task.votes
    binned = bin_clips(selection)
    raters = votes.sum(axis=1)
    references, notes = _references(selection, settings, binned)
    given = variants(asked)
    distinct = without_copies(given)
    real, controls = systems(distinct, binned)
    by_name = {variant.full_name: variant for variant in distinct}
    partial, others, cautions = notices(asked, {system.full_name: system.invalid_rate.value for system in real})
    section = Section(
        corpus=settings.clips_name,
        simulated=task.selection.simulated,
        labels=settings.labels,
        clips=len(votes),
        left_out=_left_out(task),
        clusters=len(set(selection.clusters)),
        cluster=settings.cluster,
        raters=(float(raters.min()), float(raters.mean()), float(raters.max())),
        ambiguity=float(entropy_bits(shares(votes)).mean()),
        krippendorff_alpha=krippendorff_alpha(selection.panels),
        best_accuracy=float(majority(votes).max(axis=1).mean()),
        bins=[BinFacts(b.name, b.low, b.high, int(b.members.sum())) for b in binned.bins],
        references=references,
        samplers=_samplers([curves_of(one.task) for one in asked]),
        systems=real,
        controls=controls,
        partial=partial,
        other_models=others,
        cautions=cautions,
        shown=[],
        rater_study=study_raters(
            selection, settings, {system.full_name: by_name[system.full_name].p for system in real}
        ),
        notes=notes,
        ranking=ranking(given, distinct),
        budget=budget(distinct),
    )
    return replace(section, shown=_shown(section, by_name, selection))


def notices(asked: Sequence[ModelTask], invalid_rates: Mapping[str, float]) -> tuple[list[str], list[str], list[str]]:
    """Return the warnings `partial`, `other_models` and `cautions` of a `Section`.

    Args:
        asked: Tasks about the same clips, with their models.
        invalid_rates: For each system, the share of clips whose answers could not be read, from 0 to 1. A system that
            failed on many is named in `partial`; without entries, none is.
    """
    others = dict.fromkeys(told for one in asked for told in other_models(one.info))
    return [*_partial(asked[0].task, invalid_rates), *_cut_audio(asked)], list(others), _cautions(asked)


def _left_out(task: TaskRun) -> dict[str, int]:
    here = len(task.selection.clips)
    left = {"not asked in this run": task.clips_of_task - here} if here < task.clips_of_task else {}
    return {**task.left_out, **left}


def _partial(task: TaskRun, invalid_rates: Mapping[str, float]) -> list[str]:
    """Return the warnings about clips that are left out, lost votes, and systems that failed."""
    selection, left_out = task.selection, _left_out(task)
    clips, missing = len(selection.clips), sum(left_out.values())
    said = list(selection.lost_votes)
    if left_out.get("not asked in this run") or missing > LEFT_OUT * (clips + missing):
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        said.append(f"{clips:,} of {clips + missing:,} clips are scored ({reasons}).")
    if selection.corpus_size > clips + missing and selection.is_partial:
        said.append(f"{clips:,} of the {selection.corpus_size:,} clips of the corpus are scored.")
    return said + [
        f"{name} gave no usable answer to {rate:.0%} of the clips."
        for name, rate in invalid_rates.items()
        if rate > FAILED
    ]


def _cut_audio(asked: Sequence[ModelTask]) -> list[str]:
    """Return a warning for each model that did not hear the end of long audios in the runs of these tasks."""
    cut = {(one.model, int(one.info.get("truncated_audio") or 0)): None for one in asked}
    return [
        f"{model} heard only the beginning of {counted(count, 'audio')}: its window is shorter."
        for model, count in cut
        if count
    ]


def _cautions(asked: Sequence[ModelTask]) -> list[str]:
    """Return the warnings of the runs that `_partial` does not repeat; those about answers name model and task."""
    found = []
    for one in asked:
        of_clips = one.task.selection.warnings
        said = [warning for warning in one.task.warnings if not warning.startswith("PARTIAL: ")]
        named = [warning if warning in of_clips else f"{one.model}, {one.task.name}: {warning}" for warning in said]
        found += [each for each in named if each not in one.task.selection.lost_votes]
        if len(set_ups := one.info.get("set_ups", ())) > 1:
            found.append(f"{one.model}: the answers come from {len(set_ups)} set-ups: {', '.join(set_ups)}")
    return list(dict.fromkeys(found))


def _samplers(curves: Sequence[Mapping[str, Curve]]) -> dict[str, dict[str, dict[int, Estimate]]]:
    """Return the curves of pure sampling of several tasks, joined: at equal pool sizes they have equal values."""
    samplers: dict[str, dict[str, dict[int, Estimate]]] = {}
    for source in SAMPLERS:
        for metric in CURVES:
            points = [getattr(of_task[metric], source).items() for of_task in curves if metric in of_task]
            samplers.setdefault(source, {})[metric] = dict(sorted(chain.from_iterable(points)))
    return samplers


def _references(selection: Selection, settings: TaskSettings, binned: Binned) -> tuple[dict[str, Reference], list[str]]:
    found = baselines(selection, settings, binned, acoustic=False, names=SHOWN_REFERENCES)
    prior = np.broadcast_to(shares(selection.votes).mean(axis=0), selection.votes.shape)
    choices = {name: human_two_alternatives(selection, who) for name, who in HUMAN_REFERENCES.items()}
    constant = two_alternatives(prior, selection.votes, selection.clips, selection.clusters)
    choices |= dict.fromkeys(CONSTANTS, constant)
    references = {}
    for name in (*SHOWN_REFERENCES, *(name for name in found.overall if name.startswith(PROBE))):
        if name in found.overall:
            choice = choices.get(name)
            references[name] = Reference(
                description=description(name),
                clips=found.counts[name],
                scores=found.overall[name],
                binned=[scores[name] for scores in found.binned if name in scores],
                two_alternatives=choice.score if choice else None,
            )
    return references, [
        note for note in found.notes if note.startswith((*SHOWN_REFERENCES, PROBE, "sq_debiased", "bins"))
    ]


def _shown(section: Section, by_name: Mapping[str, Variant], selection: Selection) -> list[ShownClip]:
    """Return the clips with the largest errors of each model's best system, failed ones, and the smallest errors."""
    ordered = [by_name[system.full_name] for system in section.systems]
    errors = {id(variant): variant.errors for variant in ordered}
    worst, best = [], []
    for system in section.best:
        order = np.argsort(-errors[id(by_name[system.full_name])], kind="stable").tolist()
        worst += order[:WORST_CLIPS]
        best += order[WORST_CLIPS:][-BEST_CLIPS:]
    failures = np.sum([np.isnan(variant.p).any(axis=(0, 2)) for variant in ordered], axis=0)
    failed = [n for n in np.argsort(-failures, kind="stable").tolist()[:FAILED_CLIPS] if failures[n]]
    labels, top = np.array(section.labels), majority(selection.votes)
    ambiguity = entropy_bits(shares(selection.votes))
    return [
        ShownClip(
            clip=selection.clips[number].id,
            ambiguity=float(ambiguity[number]),
            majority="/".join(labels[top[number] > 0]),
            votes=selection.votes[number].tolist(),
            audio=_audio(selection.clips[number], embed=section.simulated),
            predictions=[
                ClipPrediction(
                    system=system.full_name,
                    jsd_bits=float(errors[id(variant)][number]),
                    predicted=_mean_prediction(variant, number),
                    answers=Counter(
                        answer for asked, _ in variant.members for answer in asked.task.shown_answers(number)
                    ).most_common(),
                )
                for system, variant in zip(section.systems, ordered, strict=True)
            ],
        )
        for number in dict.fromkeys([*worst, *failed, *best])
    ]


def _mean_prediction(variant: Variant, clip: int) -> list[float] | None:
    """Return the mean prediction over the seeds with a valid one, by label; None if there is none."""
    p = variant.p[:, clip]
    valid = p[~np.isnan(p).any(axis=1)]
    return valid.mean(axis=0).tolist() if len(valid) else None


def _audio(clip: Clip, *, embed: bool) -> str | None:
    """Return the URL of a clip's audio, or None if there is no file.

    It is the file on this machine with the span of the clip. With `embed` it is the audio itself; only the demo's audio
    may be embedded, because of the licenses of other corpora.
    """
    if clip.audio is None or not Path(clip.audio).is_file():
        return None
    if embed:
        packed = io.BytesIO()
        samples = load_audio(AudioSpan(clip.audio, clip.start, clip.end), SAMPLE_RATE)
        soundfile.write(packed, samples, SAMPLE_RATE, format="MP3", compression_level=MP3_COMPRESSION)
        return f"data:audio/mpeg;base64,{base64.b64encode(packed.getvalue()).decode()}"
    span = f"#t={clip.start or 0:g},{clip.end:g}" if clip.end is not None else ""
    return Path(clip.audio).absolute().as_uri() + span

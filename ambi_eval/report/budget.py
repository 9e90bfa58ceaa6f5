"""Quality against cost: tokens, audio, FLOPs and time of every system, and the gain from more inference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Group
from rich.table import Table

from ambi_eval.analysis.estimate import from_json
from ambi_eval.analysis.frontier import TenTimes, frontier, ten_times
from ambi_eval.analysis.scaling import Curve, perfect_sampler
from ambi_eval.corpora.manifest import Clip
from ambi_eval.costs.flops import ForwardFlops
from ambi_eval.harness.results import TaskRun
from ambi_eval.metrics import HEADLINE
from ambi_eval.report.content import Budget, Cost
from ambi_eval.report.systems import ModelTask, Variant
from ambi_eval.web.format import short, with_interval


def budget(variants: Sequence[Variant]) -> Budget:
    """Return quality and cost of the systems among some variants; controls are left out."""
    real = {variant.full_name: variant for variant in variants if variant.control == "none"}
    clusters = variants[0].members[0][0].task.selection.clusters
    everything = [variant.members[0][0] for variant in real.values()]
    costs = {name: _cost(variant.members[0][0], everything) for name, variant in real.items()}
    by_flops = not all(math.isnan(cost.flops) for cost in costs.values())
    prices = {name: cost.flops if by_flops else cost.tokens for name, cost in costs.items()}
    errors = {name: variant.errors for name, variant in real.items()}
    tens = {name: found for name, variant in real.items() if (found := _ten_times(variant))}
    return Budget(
        scores={name: float(of_clips.mean()) for name, of_clips in errors.items()},
        costs=costs,
        by="FLOPs" if by_flops else "tokens",
        places=frontier(errors, prices, clusters),
        ten_times=tens,
    )


def _ten_times(variant: Variant) -> TenTimes | None:
    asked, pipeline = variant.members[0]
    task = asked.task
    if HEADLINE not in task.curves or task.settings.pool != "samples":
        return None
    sizes = from_json(Curve, task.curves[HEADLINE])
    logged = {n: pipeline.logged.get(f"{HEADLINE}@{n}", pipeline.logged[HEADLINE]) for n in sizes.people}
    (steps,) = (each["filter"] for each in task.settings.filter_list if each["name"] == pipeline.name)
    histogram = task.settings.readout == "label" and steps[-1]["function"] == "ambi_mean"
    selection = task.selection
    people = partial(perfect_sampler, selection, HEADLINE) if histogram else None
    return ten_times(logged, selection.clusters, people)


def _cost(asked: ModelTask, others: Sequence[ModelTask]) -> Cost:
    task, settings = asked.task, asked.task.settings
    clips = len(task.selection.clips)
    tokens, thinking = float(task.tokens.mean()), float(task.thinking.mean())
    audios = 1 + (settings.shots.clips if settings.shots else 0) + (settings.pairs is not None)
    seconds = np.array([_seconds(clip) for clip in task.selection.clips])
    flops = asked.info.get("flops")
    heard = audios * float(seconds.mean())
    alone = asked.seconds / clips if asked.alone and not asked.info.get("store_hits") else math.nan
    model = ForwardFlops.from_json(flops) if flops else None
    prompt = _prompt_tokens(asked, others)
    encoder = prefill = decode = math.nan
    if model is not None and settings.verifier is None and not np.isnan(seconds).any():
        answers = max(task.pool_size, 1)
        encoder = audios * float(np.mean([model.encoder(each) for each in seconds]))
        prefill = settings.prompts_per_clip * model.prefill(prompt)
        decode = answers * model.decode(tokens / answers, prompt)
    return Cost(tokens, thinking, heard, encoder, prefill, decode, alone)


def _prompt_tokens(asked: ModelTask, others: Sequence[ModelTask]) -> float:
    """Return the mean length of a task's prompts; if its answers came from another task's run, that task's length."""
    known = asked.info.get("prompt_tokens_by_task", {})
    of_model = [each.task for each in others if each.model == asked.model]
    same = [task.name for task in of_model if _prompts(task) == _prompts(asked.task)]
    return float(next((known[name] for name in (asked.task.name, *same) if name in known), math.nan))


def _prompts(task: TaskRun) -> tuple[object, ...]:
    return task.settings.templates, task.settings.transcript, task.settings.prompt_language, task.settings.shots


def _seconds(clip: Clip) -> float:
    """Return the length of a clip in seconds; NaN if its file is not on this machine."""
    if clip.end is not None:
        return clip.end - (clip.start or 0.0)
    if clip.audio is None or not Path(clip.audio).is_file():
        return math.nan
    try:
        return float(soundfile.info(clip.audio).duration) - (clip.start or 0.0)
    except (OSError, soundfile.LibsndfileError):
        return math.nan


def in_terminal(corpus: str, found: Budget) -> Group:
    """Return the table of costs, the cheapest system first, and the gains from ten times the answers."""
    without = ["without thinking"] if found.thinks else []
    headings = ["system", "JSD", "tokens", *without, "audio s", "GFLOPs", "s", "minus the best as cheap"]
    table = Table(*headings, box=None)
    for name in found.order:
        cost, place = found.costs[name], found.places.get(name)
        table.add_row(
            f"{'* ' if place and place.on_frontier else '  '}{name}",
            short(found.scores[name]),
            *map(_cell, (cost.tokens, *([cost.tokens - cost.thinking] if without else []))),
            *map(_cell, (cost.audio_seconds, cost.flops / 1e9, cost.seconds)),
            with_interval(place.minus_rival) if place and place.rival else "",
        )
    lines: list[Table | str] = [
        f"{corpus}: quality and cost of a clip. * is on the frontier: nothing that costs as few {found.by} is better.",
        table,
        *([] if found.by == "FLOPs" else ["FLOPs are known of no system, so the frontier is that of tokens."]),
        *ten_times_sentences(found),
    ]
    return Group(*lines)


def ten_times_sentences(found: Budget) -> list[str]:
    """Return the gain from ten times as many answers, one sentence for each system that samples."""
    said = []
    for name, ten in found.ten_times.items():
        gain = f"{name}: {10 * ten.few} answers instead of {ten.few} gain {with_interval(ten.gain)} bits"
        if math.isnan(ten.of_sampling.value):
            said.append(f"{gain}.")
        else:
            beyond = f"{with_interval(ten.beyond_sampling)} beyond sampling"
            said.append(f"{gain}; a perfect sampler gains {short(ten.of_sampling.value)}, so {beyond}.")
    return said


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"

"""From a model and a corpus to a funnel: records states, predicts, and measures the bits per vote of each stage."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ambi_eval.analysis.estimate import Estimate, of_mean
from ambi_eval.analysis.information.calibration import calibrate
from ambi_eval.analysis.information.folds import Folds, bits_gained
from ambi_eval.analysis.information.probes import Probes, of_another_clip, read
from ambi_eval.analysis.references.agreement import prior_worth
from ambi_eval.analysis.references.panels import split_panels
from ambi_eval.analysis.references.prosody import listen
from ambi_eval.analysis.references.supervised import supervised
from ambi_eval.corpora.selection import Selection
from ambi_eval.engines.hf.engine import HFEngine
from ambi_eval.errors import AmbiError
from ambi_eval.funnel.content import RANDOM, VERSION, Funnel, NamedGain, Stage, Step
from ambi_eval.funnel.recorder import ENCODER, PROJECTED, StateRecorder
from ambi_eval.funnel.states import StateFolder
from ambi_eval.harness.evaluation import predictions, strategy_task
from ambi_eval.harness.task import AmbiguousEmotionTask
from ambi_eval.inference.answer_cache import AnswerCache
from ambi_eval.metrics.clustered import UNKNOWN
from ambi_eval.models.hf_audio import HFAudio
from ambi_eval.models.requests import shared_prompts
from ambi_eval.paths import check_can_write
from ambi_eval.votes import Array, shares

logger = logging.getLogger(__name__)

STRATEGIES = {"exact": "label likelihoods", "direct": "stated shares", "cot": "stated shares, reasons first"}
LAYERS = "layers"
# Number of random orders of the votes for the control.
SHUFFLES = 3
# Losses are measured along these stages; `cot` is another way to answer and no part of the chain.
CHAIN = (ENCODER, PROJECTED, LAYERS, "exact", "direct")


def measure(model_args: str, corpus: str, output: Path, metadata: Mapping[str, Any]) -> Funnel:
    """Return the funnel of a model on a corpus.

    States are recorded while the model reads the prompts of `exact`. The likelihoods of that pass go into the store,
    where the run of `exact` finds them. States that are already in `output` are not recorded again. `model_args` and
    `metadata` are those of the harness's options; a corpus is a name or the path of a YAML file.

    Raises:
        AmbiError: If the model or the corpus cannot be used, or there are too few speakers.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise AmbiError("ambi-eval funnel runs in one process; leave out torchrun")
    check_can_write(output, "give another --output")
    tasks = {strategy: strategy_task(corpus, strategy, metadata) for strategy in STRATEGIES}
    selection = tasks["exact"].selection
    Folds(selection.votes, selection.clusters)  # raises for too few speakers before the model is loaded
    lm = HFAudio.create_from_arg_string(model_args)
    engine = cast(HFEngine, lm.engine)
    states, keys = record(engine, lm.cache, tasks["exact"], output / "states")
    p = dict(zip(tasks, predictions(lm, list(tasks.values())), strict=True))
    return funnel_of(lm.name, engine.digest, tasks["exact"], states, keys, p)


def record(
    engine: HFEngine, cache: AnswerCache, task: AmbiguousEmotionTask, folder: Path
) -> tuple[StateFolder, list[str]]:
    """Record the states of a model while it reads the prompts of a task that asks for likelihoods, which `cache` gets.

    Return the states, and the key of each clip in them, in the order of the task's selection.

    Raises:
        AmbiError: If the folder holds states of another model.
    """
    kept = StateFolder(folder, engine.identity)
    task.build_all_requests()
    jobs = shared_prompts(task.instances)
    keys = [""] * len(task.selection.clips)
    key_of = {}
    for job, positions in jobs.items():
        key_of[job] = cache.key(job.prompt, job.spans, method="states")
        for position in positions:
            keys[task.rows[task.instances[position].doc["id"]]] = key_of[job]
    missing = sorted((job for job in jobs if key_of[job] not in kept), key=lambda job: str(job.spans))
    if missing:
        with StateRecorder(engine.family) as recorder:
            listening = tqdm(engine.loglikelihoods(missing), "states", len(missing), unit="clip", disable=None)
            for job, likelihoods in listening:
                kept.add(key_of[job], recorder.take(job.prompt_tokens))
                pool = cache.key(job.prompt, job.spans, job.task, method="likelihood")
                cache.keep_prompt(pool, job.prompt_tokens)
                cache.keep_likelihoods(pool, job.continuations, likelihoods)
        kept.flush()
    return kept, keys


def funnel_of(
    model: str,
    digest: str,
    task: AmbiguousEmotionTask,
    states: StateFolder,
    keys: Sequence[str],
    p: Mapping[str, Array],
) -> Funnel:
    """Return the funnel from states and predictions.

    `task` is `exact`, `keys` are those of its clips in the states, and `p` has the predictions of each strategy, shape
    (clips, labels); a row of NaN is an invalid prediction.
    """
    selection, settings = task.selection, task.settings
    folds = Folds(selection.votes, selection.clusters)
    clusters = selection.clusters
    probes = Probes(folds)
    readings = {
        place: probes.fit(place, states.read(place, keys)) for place in tqdm(states.places, "probes", disable=None)
    }
    layers = [place for place in states.places if place not in (ENCODER, PROJECTED)]
    best = probes.best(layers)
    bits = {place: reading.bits for place, reading in readings.items()} | {LAYERS: best.bits}
    names = {ENCODER: "audio encoder", PROJECTED: "projected audio tokens", LAYERS: f"language model, {best.place}"}
    stages = [Stage(key, names[key], of_mean(bits[key], clusters)) for key in CHAIN if key in names and key in bits]
    for strategy, name in STRATEGIES.items():
        found = calibrate(p[strategy], folds)
        bits[strategy] = found.bits
        invalid = float(np.isnan(p[strategy]).any(axis=1).mean())
        stages.append(Stage(strategy, name, found.numbers.information, found.numbers.raw, invalid))
    chain = [key for key in CHAIN if key in bits]
    lost = {after: bits[before] - bits[after] for before, after in pairwise(chain)}
    notes = list(selection.warnings)
    references = _references(task, folds, notes)
    most = max([*states.places], key=lambda place: readings[place].gain.value)
    if unknown := sum(cluster == UNKNOWN for cluster in clusters):
        notes.append(f"{unknown} of {len(clusters)} clips are of unknown speakers, and in no fold")
    return Funnel(
        version=VERSION,
        model=model,
        digest=digest,
        corpus=settings.clips_name,
        simulated=selection.simulated,
        labels=list(settings.labels),
        clips=len(clusters),
        clusters=len(set(clusters) - {UNKNOWN}),
        cluster=settings.cluster,
        stages=stages,
        steps=[
            Step(
                key,
                of_mean(here, clusters),
                {other: of_mean(here - there, clusters) for other, there in lost.items() if other != key},
            )
            for key, here in lost.items()
        ],
        total=of_mean(bits[chain[0]] - bits[chain[-1]], clusters),
        reasons=of_mean(bits["cot"] - bits["direct"], clusters),
        depth=[NamedGain(place, readings[place].gain, len(clusters)) for place in layers],
        references=references,
        controls=_controls(most, states.read(most, keys), folds),
        notes=notes,
    )


def _references(task: AmbiguousEmotionTask, folds: Folds, notes: list[str]) -> list[NamedGain]:
    """Return the references on the same clips: half a panel, prosody, and stored supervised models."""
    selection = task.selection
    found = []
    if (gain := half_panel(selection, folds)) is not None:
        found.append(NamedGain("half a panel of raters", *gain))
    sounds = listen(selection.clips)
    if not np.isnan(sounds).any():
        found.append(NamedGain("eight prosodic numbers", read({"prosody": sounds}, folds).gain, len(sounds)))
    for name, p in supervised(selection, task.settings, notes):
        bits = folds.bits(p)
        found.append(NamedGain(name, of_mean(bits, folds.clusters), int((~np.isnan(bits)).sum())))
    return found


def half_panel(selection: Selection, folds: Folds) -> tuple[Estimate, int] | None:
    """Return the bits per vote that half of a clip's raters gain on the other half, and the number of clips.

    The prediction is the shares of their votes and `prior_worth` votes of the prior together. The half that scores is
    smaller than the whole panel that scores a model; this adds noise, but no bias. None if no panel can be halved.
    """
    trials = split_panels(selection.panels, lambda raters: raters // 2)
    if trials is None:
        return None
    trials = trials.of_each_clip()
    prior = folds.prior[trials.clip_of_case]
    worth = prior_worth(selection.votes, selection.noise, selection.one_rater)
    bits = trials.expected(bits_gained(shares(trials.given + worth * np.nan_to_num(prior)), prior, trials.votes))
    return of_mean(bits, [folds.clusters[clip] for clip in trials.clips]), len(trials.clips)


def _controls(place: str, states: NDArray[np.float32], folds: Folds) -> list[NamedGain]:
    """Return the gains of a probe of one place that is fitted to shuffled votes, and of one that reads other clips."""
    shuffled = np.mean([read({place: states}, folds, shuffle=seed).bits for seed in range(SHUFFLES)], axis=0)
    speaker = read({place: of_another_clip(states, folds)}, folds).gain
    return [
        NamedGain(RANDOM, of_mean(shuffled, folds.clusters), len(states)),
        NamedGain("who speaks, not how", speaker, len(states)),
    ]

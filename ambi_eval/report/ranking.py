"""How sure the ranking of a section's systems is: generalizability studies of the answers that runs left on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from ambi_eval.analysis.estimate import Estimate, of_mean
from ambi_eval.analysis.generalizability import Kind, Study, study
from ambi_eval.analysis.position_bias import position_bias
from ambi_eval.answers.languages import spoken_in
from ambi_eval.answers.lexicon import freeze_synonyms
from ambi_eval.answers.pool import Reader
from ambi_eval.corpora.selection import Selection
from ambi_eval.harness.results import TaskRun
from ambi_eval.metrics import HEADLINE, METRICS
from ambi_eval.report.content import Ranking, Wordings
from ambi_eval.report.systems import Asked, Variant, variants, without_copies
from ambi_eval.votes import Array, select_labels, shares


def ranking(given: Sequence[Variant], distinct: Sequence[Variant]) -> Ranking:
    """Return how sure the ranking of a section is.

    Args:
        given: The systems and controls of its runs; controls are no systems and are passed over.
        distinct: Those of them that predict different things.
    """
    selection = given[0].members[0][0].task.selection
    real = [variant for variant in distinct if variant.control == "none"]
    names = [variant.full_name for variant in real]
    # Pipelines of one task share its answers, so each task stands here with its first one.
    alone = {id(variant.members[0][0].task): variant for variant in reversed(given) if variant.control == "none"}
    tasks = {_task_name(variant): variant for variant in reversed(alone.values())}
    studies: list[Study] = []
    missing: list[str] = []

    def add(scores: Array, systems: Sequence[str], factor: str, kind: Kind, levels: Any = None) -> None:
        try:
            studies.append(study(scores, systems, selection.clusters, factor, kind, levels))
        except ValueError as error:
            missing.append(f"no study of {factor or 'clip'}s: {error}")

    if len(real) > 1:
        add(np.array([variant.errors for variant in real]), names, "", "crossed")
    seeds = max((len(variant.members) for variant in tasks.values()), default=1)
    repeated = {name: variant.p for name, variant in tasks.items() if len(variant.members) == seeds > 1}
    if repeated:
        scores = np.array([_scores(p.transpose(1, 0, 2), selection) for p in repeated.values()])
        add(scores, list(repeated), "seed", "of answers")
    wordings = _answers(tasks, lambda task: task.settings.pool == "prompts")
    orders = _answers(tasks, lambda task: task.settings.pool == "labels" and task.settings.rotations > 1)
    samples = _answers(tasks, lambda task: task.settings.pool == "samples" and not task.settings.stop_rule)
    for factor, found in (("wording", wordings), ("label order", orders), ("answer", samples)):
        if found:
            scores = np.array([_scores(p, selection) for p in found.values()])
            add(scores, list(found), factor, "of answers" if factor == "answer" else "crossed")
    ballots = _ballots(given[0].members[0][0].task)
    if ballots is not None and real:
        votes, raters = ballots
        # A mean over seeds errs less than one of them, so each system stands here with its first seed.
        p = np.array([variant.p[0] for variant in real])[:, :, None]
        absent = np.isnan(votes[..., 0])
        scores = np.asarray(METRICS["brier_sum"].per_clip(p, np.where(absent[..., None], 1.0, votes)))
        add(np.where(absent, np.nan, scores), names, "rater", "of clips" if raters is None else "raters", raters)
    labels = given[0].members[0][0].task.settings.labels
    return Ranking(
        studies=studies,
        wordings=[Wordings(name, *wording_scores(p, selection)) for name, p in wordings.items()],
        position_bias={name: position_bias(p, labels, selection.clusters) for name, p in orders.items()},
        missing=missing,
    )


def rankings(sections: Sequence[Sequence[Asked]]) -> dict[str, Ranking]:
    """Return how sure each ranking is, by the corpus and, where several sections have one, the number of the section.

    Args:
        sections: The tasks about the same clips, as `build.by_clips` returns them.
    """
    found: dict[str, Ranking] = {}
    for number, asked in enumerate(sections, start=1):
        corpus = asked[0].task.settings.clips_name
        given = variants(asked)
        found[f"{corpus} #{number}" if corpus in found else corpus] = ranking(given, without_copies(given))
    return found


def wording_scores(p: Array, selection: Selection) -> tuple[list[Estimate], float]:
    """Return the divergence of each wording alone, and the standard deviation over the wordings.

    Args:
        p: What the answer to each wording states, shape (clips, wordings, labels); NaN where it could not be read.
        selection: The clips.
    """
    bounds = METRICS[HEADLINE].bounds(p.shape[-1])
    scores = [of_mean(of_clips, selection.clusters, bounds) for of_clips in _scores(p, selection).T]
    return scores, float(np.std([score.value for score in scores], ddof=1))


def _scores(p: Array, selection: Selection) -> Array:
    """Return the divergence of each of several predictions for each clip, shape (clips, predictions)."""
    return np.asarray(METRICS[HEADLINE].per_clip(p, selection.votes[:, None]))


def _task_name(variant: Variant) -> str:
    """Return the full name of a system without its pipeline."""
    asked, pipeline = variant.members[0]
    several = len(asked.task.pipelines) > 1
    return variant.full_name.replace(f" {pipeline.name}", "", 1) if several else variant.full_name


def _answers(tasks: Mapping[str, Variant], wanted: Callable[[TaskRun], bool]) -> dict[str, Array]:
    """Return what each single answer of some tasks states, by name: of those of which most have equally many answers.

    Returns:
        Distributions, shape (clips, answers, labels), NaN where an answer could not be read. Of likelihoods, one for
        each order of the labels.
    """
    runs = {name: variant.members[0][0].task for name, variant in tasks.items()}
    found = {name: single_answers(task) for name, task in runs.items() if wanted(task)}
    if not found:
        return {}
    (size, _) = Counter(p.shape[1] for p in found.values()).most_common(1)[0]
    return {name: p for name, p in found.items() if p.shape[1] == size}


def single_answers(task: TaskRun) -> Array:
    """Return what each answer to a task states alone, shape (clips, answers, labels); of likelihoods, each order's."""
    labels = tuple(task.settings.labels)
    if task.settings.pool == "labels":
        logprobs = np.array([[answer.logprob for answer in answers] for answers in task.texts], dtype=float)
        rows = logprobs.reshape(len(logprobs), -1, len(labels))
        return softmax(rows[:, : task.settings.rotations], axis=-1)
    spoken = spoken_in(task.settings.prompt_language, task.settings.label_words)
    reader = Reader(labels, task.settings.readout, freeze_synonyms(labels, task.settings.synonyms), spoken)
    return np.array([reader.read(answers).pool.shares for answers in task.texts])


def _ballots(task: TaskRun) -> tuple[Array, NDArray[np.int64] | None] | None:
    """Return the single ballots of each clip, and who cast them where that is known; None where no ballots are known.

    Returns:
        Ballots, shape (clips, most raters, labels), NaN behind the last one of a clip; and the raters' numbers, shape
        (clips, most raters), or None.
    """
    settings, selection = task.settings, task.selection
    given: list[list[tuple[str, Array]]] = []
    for clip, panel in zip(selection.clips, selection.panels, strict=True):
        if panel is None:
            return None
        ratings = [(r.rater, dict.fromkeys(r.labels, 1 / len(r.labels))) for r in clip.ratings]
        inside = [(who, select_labels(one, settings.labels, settings.merge, "renormalise")) for who, one in ratings]
        named = [(who, shares(ballot)) for who, ballot in inside if ballot is not None]
        given.append(named or [("", ballot) for ballot in np.repeat(shares(panel.ballots), panel.raters, axis=0)])
    numbers = {who: number for number, who in enumerate(sorted({who for of_clip in given for who, _ in of_clip}))}
    ballots = np.full((len(given), max(map(len, given)), len(settings.labels)), np.nan)
    raters = np.zeros(ballots.shape[:2], dtype=np.int64)
    for clip_number, of_clip in enumerate(given):
        for place, (who, ballot) in enumerate(of_clip):
            ballots[clip_number, place], raters[clip_number, place] = ballot, numbers[who]
    return ballots, None if "" in numbers else raters

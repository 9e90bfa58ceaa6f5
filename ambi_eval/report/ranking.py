"""How reliable the ranking of a section's systems is: generalizability studies of the answers in the runs' logs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from scipy.special import softmax

from ambi_eval.analysis.estimate import Estimate, of_mean
from ambi_eval.analysis.generalizability import Kind, Study, study
from ambi_eval.analysis.position_bias import position_bias
from ambi_eval.analysis.raters.ballots import named_ballots
from ambi_eval.answers.languages import spoken_in
from ambi_eval.answers.lexicon import freeze_synonyms
from ambi_eval.answers.pool import Reader
from ambi_eval.corpora.selection import Selection
from ambi_eval.errors import counted
from ambi_eval.harness.results import TaskRun
from ambi_eval.metrics import HEADLINE, METRICS
from ambi_eval.report.content import Ranking, Wordings
from ambi_eval.report.systems import ModelTask, Variant, variants, without_copies
from ambi_eval.votes import Array, shares
from ambi_eval.web.format import short, with_interval

NAMES = {"clip": "clips", "speaker": "speakers"}
# The title of a study, by the factor that varies besides systems, speakers and clips.
TITLES = {
    "": "Systems on clips",
    "seed": "Seeds of the sampling",
    "wording": "Wordings of the prompt",
    "label order": "Orders of the labels",
    "answer": "Single sampled answers",
    "rater": "Raters: squared error against single ballots",
}


def ranking(given: Sequence[Variant], distinct: Sequence[Variant]) -> Ranking:
    """Return how reliable the ranking of a section is.

    `given` are all variants of its runs, of which controls are left out; `distinct` those that predict differently.
    """
    selection = given[0].members[0][0].task.selection
    real = [variant for variant in distinct if variant.control == "none"]
    names = [variant.full_name for variant in real]
    # The pipelines of a task share its answers, so its first pipeline stands for the task.
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
        # A mean over seeds has smaller errors than one seed, so only the first seed of each system counts here.
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


def rankings(sections: Sequence[Sequence[ModelTask]]) -> dict[str, Ranking]:
    """Return how reliable each ranking is, by corpus. If a corpus has several sections, the key names the section."""
    found: dict[str, Ranking] = {}
    for number, asked in enumerate(sections, start=1):
        corpus = asked[0].task.settings.clips_name
        given = variants(asked)
        found[f"{corpus} #{number}" if corpus in found else corpus] = ranking(given, without_copies(given))
    return found


def wording_scores(p: Array, selection: Selection) -> tuple[list[Estimate], float]:
    """Return the divergence of each wording alone, and the standard deviation over the wordings.

    `p` is the distribution in the answer to each wording, shape (clips, wordings, labels); NaN if it could not be read.
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
    """Return the distribution in each single answer, by task, see `single_answers`.

    A study needs the same number of answers for all tasks, so only tasks with the most common number are returned.
    """
    runs = {name: variant.members[0][0].task for name, variant in tasks.items()}
    found = {name: single_answers(task) for name, task in runs.items() if wanted(task)}
    if not found:
        return {}
    (size, _) = Counter(p.shape[1] for p in found.values()).most_common(1)[0]
    return {name: p for name, p in found.items() if p.shape[1] == size}


def single_answers(task: TaskRun) -> Array:
    """Return the distribution in each answer to a task, shape (clips, answers, labels); NaN if it could not be read.

    For likelihoods there is one distribution for each order of the labels.
    """
    labels = tuple(task.settings.labels)
    if task.settings.pool == "labels":
        logprobs = np.array([[answer.logprob for answer in answers] for answers in task.texts], dtype=float)
        rows = logprobs.reshape(len(logprobs), -1, len(labels))
        return softmax(rows[:, : task.settings.rotations], axis=-1)
    spoken = spoken_in(task.settings.prompt_language, task.settings.label_words)
    reader = Reader(labels, task.settings.readout, freeze_synonyms(labels, task.settings.synonyms), spoken)
    return np.array([reader.read(answers).pool.shares for answers in task.texts])


def _ballots(task: TaskRun) -> tuple[Array, NDArray[np.int64] | None] | None:
    """Return the ballots on each clip, shape (clips, most raters, labels), padded with NaN, and their raters' indices.

    The indices, shape (clips, most raters), are None if the raters have no names. The result is None if the ballots of
    some clip are unknown.
    """
    settings, selection = task.settings, task.selection
    given: list[list[tuple[str, Array]]] = []
    for clip, panel in zip(selection.clips, selection.panels, strict=True):
        if panel is None:
            return None
        given.append(
            named_ballots(clip, settings)
            or [("", ballot) for ballot in np.repeat(shares(panel.ballots), panel.raters, axis=0)]
        )
    numbers = {who: number for number, who in enumerate(sorted({who for of_clip in given for who, _ in of_clip}))}
    ballots = np.full((len(given), max(map(len, given)), len(settings.labels)), np.nan)
    raters = np.zeros(ballots.shape[:2], dtype=np.int64)
    for clip_number, of_clip in enumerate(given):
        for place, (who, ballot) in enumerate(of_clip):
            ballots[clip_number, place], raters[clip_number, place] = ballot, numbers[who]
    return ballots, None if "" in numbers else raters


def in_terminal(rankings: Mapping[str, Ranking]) -> Group:
    """Return the tables and sentences on the ranking of each corpus."""
    return Group(*chain.from_iterable(_blocks(corpus, ranking) for corpus, ranking in rankings.items()))


def sentences(study: Study) -> list[str]:
    """Return the reliability of the ranking and what would raise it to .9; empty for one system."""
    if math.isnan(study.generalizability.value):
        return []
    said = [
        f"Reliability of the ranking of {len(study.systems)} systems (generalizability coefficient): "
        f"{with_interval(study.generalizability)}; of the scores themselves (dependability): "
        f"{with_interval(study.dependability)}."
    ]
    for name, needed in study.needed.items():
        there, plural = study.levels[name], NAMES.get(name, f"{name}s")
        each = " a clip" if name in ("rater", "answer", "seed") else ""
        if math.isinf(needed.value):
            most = with_interval(study.most_by[name])
            said.append(f"With any number of {plural}{each} it stays below .9: it tends to {most}.")
        else:
            said.append(f"It is .9 with {_number(needed)} {plural}{each}; there are {_count(there)}.")
    return said


def _count(number: float) -> str:
    return f"{number:,.1f}".removesuffix(".0")


def _number(needed: Estimate) -> str:
    high = "infinity" if math.isinf(needed.high) else f"{needed.high:,.0f}"
    return f"{needed.value:,.0f} [{needed.low:,.0f}, {high}]"


def wordings_sentence(wordings: Wordings) -> str:
    """Return the scores of the single wordings of a prompt ensemble, as a sentence."""
    scores = ", ".join(short(score.value) for score in wordings.scores)
    return f"{wordings.system}: JSD of each wording alone {scores}; standard deviation {short(wordings.spread)}."


def position_sentences(ranking: Ranking) -> list[str]:
    """Return the gain in probability of a label that the prompt names first, one sentence for each system."""
    return [
        f"{name}: a label gains {with_interval(bias.first)} of probability when it stands first in the prompt"
        f" ({', '.join(f'{label} {short(gain.value)}' for label, gain in bias.by_label.items())})."
        for name, bias in ranking.position_bias.items()
    ]


def _blocks(corpus: str, ranking: Ranking) -> list[Table | str]:
    blocks: list[Table | str] = [f"{corpus}: how sure is the ranking?", ""]
    for found in ranking.studies:
        levels = ", ".join(f"{_count(number)} {NAMES.get(name, f'{name}s')}" for name, number in found.levels.items())
        systems = counted(len(found.systems), "system") if len(found.systems) > 1 else found.systems[0]
        table = Table("share of variance", "", "95 % interval", box=None)
        blocks.append(f"{TITLES[found.factor]}: {systems}, {levels}")
        for share in found.shares:
            of = share.share
            table.add_row(" x ".join(share.effect), short(of.value), f"[{short(of.low)}, {short(of.high)}]")
        blocks += [table, *sentences(found), ""]
    blocks += [wordings_sentence(wordings) for wordings in ranking.wordings]
    return [*blocks, *position_sentences(ranking), *ranking.missing, ""]

"""Verifies that a submission is complete, has true scores, is no copy, and may be published."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ambi_eval.answers.candidate import Candidate
from ambi_eval.answers.score import OTHER_MEANS
from ambi_eval.config.task_settings import READING_KEYS, TaskSettings
from ambi_eval.errors import AmbiError, counted
from ambi_eval.harness.aggregation import PipelineScores
from ambi_eval.inference.stopping import StopRule
from ambi_eval.leaderboard.card_checks import impossible, look_alikes, other_weights
from ambi_eval.leaderboard.fingerprints import any_order, common, compared_text, fingerprint
from ambi_eval.leaderboard.rescore import (
    Overrides,
    ScoringTask,
    listed_clips,
    scoring_task,
    task_settings,
    thinking_per_clip,
    tokens_per_clip,
    votes_are_here,
)
from ambi_eval.leaderboard.schema import FOLDER, Card, Claims, SubmittedTask
from ambi_eval.leaderboard.submission import CARD_FILE, Pools, Submission, read_submission
from ambi_eval.leaderboard.untrusted import printable
from ambi_eval.metrics import HEADLINE, METRICS

Status = Literal["claimed", "re-scored", "re-run"]
STATUSES: tuple[Status, ...] = ("claimed", "re-scored", "re-run")

# Claimed and recomputed numbers may differ by this much, because processors round differently.
TOLERANCE = 1e-6
# Corpora with public transcripts: the twelve sentences of CREMA-D, and the demo's sounds. Others are licensed.
PUBLIC_TRANSCRIPTS = ("crema_d", "demo")
# Shorter transcripts ("yeah", "I don't know") are common phrases.
TRANSCRIPT_WORDS = 4
# So many characters without a blank are packed data, such as audio, and no language.
PACKED = re.compile(r"[A-Za-z0-9+/=_-]{1000,}")
# Limits of the answers that a page shows.
PREVIEWED_CLIPS, PREVIEWED_ANSWERS, PREVIEWED_LETTERS = 6, 20, 500
# The likelihoods of a clip's labels may exceed a sum of 1 by this much, because bfloat16 rounds.
MASS_TOLERANCE = 0.02
# What follows if two submissions are copies.
COPIES = (
    "Both are refused, because nothing in them shows which was first: the one whose commit is older stays, and the "
    "folder of the other must go."
)


@dataclass(frozen=True, eq=False)
class TaskFindings:
    """Findings about the answers to one task.

    Attributes:
        fingerprint: A hash of each answer, shape (answers,), clips sorted by id.
        any_order: A hash of clip, answer and the count of equal answers before it, sorted, shape (answers,): equal for
            the same answers in any order.
        pipelines: Scores of the answers; empty if the votes are not on this machine.
        tokens: Mean of generated tokens per clip, thinking included; NaN if they were not counted.
        thinking: Mean of thinking tokens per clip; NaN if they are unknown.
        notices: What the run warned of, and how many answers the provider withheld; usually empty.
    """

    status: Status
    fingerprint: NDArray[np.int64]
    any_order: NDArray[np.int64]
    clips: tuple[str, ...]
    pipelines: Mapping[str, PipelineScores]
    tokens: float
    thinking: float
    preview: Mapping[str, Sequence[str]]
    notices: Sequence[str] = ()


@dataclass(eq=False)
class Verdict:
    """The result of `verify` for a submission.

    Attributes:
        problems: Reasons to refuse it, one sentence each; empty if it is accepted.
        notes: Checks that were not possible here, and other remarks.
        digest: SHA-256 of its files; empty if they could not be read.
    """

    name: str
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    digest: str = ""
    card: Card | None = None
    claims: Claims = field(default_factory=dict)
    tasks: dict[str, TaskFindings] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        """Status of the submission: that of its least confirmed task."""
        return min((of_task.status for of_task in self.tasks.values()), key=STATUSES.index, default="claimed")


def verify(folder: Path) -> Verdict:
    """Return the verdict on one submission, compared with the others beside it; an AmbiError if it is no folder."""
    if not folder.is_dir():
        raise AmbiError(f"{folder} is no folder: give the folder of a submission.")
    beside = [
        other
        for other in sorted(folder.absolute().parent.iterdir())
        if FOLDER.fullmatch(other.name) and other.name != folder.name
    ]
    verdict = _examine(folder, rescoring=True)
    _compare([verdict], [verdict, *(_examine(other, rescoring=False) for other in beside)])
    return verdict


def verify_all(folder: Path) -> list[Verdict]:
    """Return the verdicts on all submissions in a folder, each compared with all others."""
    if folder.is_symlink() or not folder.is_dir():
        raise AmbiError(f"{folder} is no folder: give the folder of the submissions.")
    if (folder / CARD_FILE).is_file():
        raise AmbiError(f"{folder} is one submission: give the folder that holds it.")
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    # Links and special files are never followed; each is refused later.
    submissions = [path for path in entries if path.is_symlink() or not path.is_file()]
    verdicts = [_examine(submission, rescoring=True) for submission in submissions]
    _compare(verdicts, verdicts)
    return verdicts


def overrides(task: SubmittedTask) -> Overrides:
    """Return the settings of a task that a submission's run changed."""
    return tuple(sorted(task.overrides.items()))


def _examine(folder: Path, *, rescoring: bool) -> Verdict:
    """Return the verdict on one submission; any error is a problem of this submission."""
    verdict = Verdict(printable(folder.name))
    try:
        submission = read_submission(folder)
    except Exception as error:
        verdict.problems.append(_told(error))
        return verdict
    verdict.digest, verdict.card, verdict.claims = submission.digest, submission.card, submission.claims
    verdict.problems += impossible(submission.card)
    verdict.notes += [*submission.card.backend.other_models, *look_alikes(submission.card)]
    for name, pools in submission.pools.items():
        try:
            verdict.tasks[name] = _examine_task(submission, name, pools, verdict, rescoring)
            verdict.notes += [each for each in verdict.tasks[name].notices if each not in verdict.notes]
        except Exception as error:
            verdict.problems.append(f"{name}: {_told(error)}")
    return verdict


def _told(error: Exception) -> str:
    """Return one sentence: the message of an `AmbiError`, or the type and text of any other error."""
    ours = isinstance(error, AmbiError)
    return printable(str(error) if ours else f"it cannot be examined ({type(error).__name__}: {error!s:.200}).")


def _examine_task(submission: Submission, name: str, pools: Pools, verdict: Verdict, rescoring: bool) -> TaskFindings:
    stated = submission.card.tasks[name]
    try:
        settings = task_settings(name, overrides(stated))
        task = scoring_task(name, overrides(stated)) if rescoring and votes_are_here(settings) else None
    except (TypeError, ValueError) as error:  # for example a word instead of a number
        raise AmbiError(f"its overrides {dict(stated.overrides)!r:.200} are invalid ({error}).") from error
    corpus = settings.corpus
    if stated.strategy != settings.strategy:
        raise AmbiError(f"the strategy is {settings.strategy}, {submission.name} says {stated.strategy}.")
    if corpus not in submission.card.training_data:
        raise AmbiError(f"training_data says nothing of {corpus}.")
    _check_clips(pools, settings, task, verdict)
    _check_pools(pools, stated, settings)
    _check_content(pools, settings, task)
    _check_names(submission.claims[name], settings)
    findings = TaskFindings(
        status="claimed",
        fingerprint=fingerprint(pools, settings),
        any_order=any_order(pools, settings),
        clips=tuple(sorted(pools)),
        pipelines={},
        tokens=tokens_per_clip(settings, pools),
        thinking=thinking_per_clip(pools),
        preview={
            clip: [f"{answer!s:.{PREVIEWED_LETTERS}}" for answer in pools[clip][:PREVIEWED_ANSWERS]]
            for clip in sorted(pools)[:PREVIEWED_CLIPS]
        },
        notices=[*stated.notices, *_withheld(name, pools)],
    )
    if task is None:
        if rescoring:
            verdict.notes.append(f"{name}: the votes of {corpus} are not on this machine, so its scores are claims.")
        return findings
    pipelines = task.score_answers(pools)
    _check_claims(submission.claims[name], pipelines)
    return replace(findings, status="re-scored", pipelines=pipelines)


def _withheld(name: str, pools: Pools) -> list[str]:
    finishes = [answer.finish for pool in pools.values() for answer in pool]
    withheld = finishes.count("content_filter")
    return [f"{name}: {withheld:,} of {len(finishes):,} answers were withheld by the provider"] if withheld else []


def _check_clips(pools: Pools, settings: TaskSettings, task: ScoringTask | None, verdict: Verdict) -> None:
    """Raise an error unless the clips are exactly those of the task."""
    listed = listed_clips(settings)
    here = list(task.rows) if task else None
    if listed is not None and here is not None and set(listed) != set(here):
        raise AmbiError(
            f"the manifest of {settings.manifest} on this machine has {counted(len(here), 'clip')}, not the "
            f"{len(listed)} of the task: prepare the whole corpus anew."
        )
    expected = listed if here is None else here
    if expected is None:
        verdict.notes.append(
            f"{settings.task}: the ids of its {len(pools)} clips could not be checked without the manifest of "
            f"{settings.manifest}."
        )
        return
    missing, extra = sorted(set(expected) - pools.keys()), sorted(pools.keys() - set(expected))
    if missing:
        raise AmbiError(f"{len(missing)} of {len(expected)} clips are missing, the first is '{missing[0]}'.")
    if extra:
        raise AmbiError(f"{counted(len(extra), 'clip')} too many for this task, the first is {extra[0]!r:.100}.")


def _check_pools(pools: Pools, stated: SubmittedTask, settings: TaskSettings) -> None:
    """Raise an error unless every clip has as many answers as the task and its stop rule ask for."""
    size = settings.answers_per_clip
    if stated.n != size:
        raise AmbiError(f"a clip has {counted(size, 'answer')} in this task, the submission says n: {stated.n}.")
    rule = settings.stop_rule
    reading = {key: getattr(settings, key) for key in READING_KEYS}
    settled = StopRule.from_dict(**reading, **rule.model_dump()).settled if rule else None
    for clip, pool in pools.items():
        if len(pool) != size:
            raise AmbiError(f"the clip {clip!r:.100} has {counted(len(pool), 'answer')} instead of {size}.")
        drawn = [answer for answer in pool if answer.finish != "not_drawn"]
        ends = range(rule.round, size, rule.round) if rule else ()
        due = next((end for end in ends if settled and settled(pool[:end])), size)
        if len(drawn) != due or any(answer.finish == "not_drawn" for answer in pool[:due]):
            raise AmbiError(
                f"the clip {clip!r:.100} has {counted(len(drawn), 'drawn answer')} where the task draws {due}."
            )
        if settings.pool == "labels" and any(
            answer.logprob is None or answer != settings.asked_labels[number % len(settings.labels)]
            for number, answer in enumerate(pool)
        ):
            raise AmbiError(f"the clip {clip!r:.100} lacks the likelihood of a label, or has labels in another order.")
        _check_numbers(clip, drawn, settings)
    logprobs = [answer.logprob is None for pool in pools.values() for answer in pool if answer.finish != "not_drawn"]
    if any(logprobs) and not all(logprobs):
        raise AmbiError(
            f"{sum(logprobs)} of {len(logprobs)} answers lack a log-likelihood: all must have one, or none."
        )
    if settings.pool == "beams" and any(logprobs):
        raise AmbiError("the beams have no log-likelihoods, by which they are weighed.")


def _check_numbers(clip: str, drawn: Sequence[Candidate], settings: TaskSettings) -> None:
    """Raise an error for impossible numbers: texts without tokens, ratings off the scale, likelihoods above 1."""
    if any(answer.n_tokens == 0 and answer.strip() for answer in drawn) and settings.pool != "labels":
        raise AmbiError(f"an answer to the clip {clip!r:.100} has a text but 0 tokens.")
    scale = settings.verifier.ratings if settings.verifier else 0
    if any(answer.rating is not None and not 1 <= answer.rating <= scale for answer in drawn):
        raise AmbiError(f"a rating of an answer to the clip {clip!r:.100} is not from 1 to {scale}.")
    if settings.pool == "labels" and settings.length_normalisation == "none":
        labels = len(settings.labels)
        for start in range(0, len(drawn), labels):
            mass = sum(math.exp(min(answer.logprob or 0.0, 1.0)) for answer in drawn[start : start + labels])
            if mass > 1 + MASS_TOLERANCE:
                raise AmbiError(f"the likelihoods of the labels of the clip {clip!r:.100} sum to {mass:.3f}, above 1.")


def _check_names(claims: Mapping[str, Mapping[str, float | None]], settings: TaskSettings) -> None:
    """Raise an error unless the claims name every pipeline, and known metrics only."""
    pipelines = [pipeline["name"] for pipeline in settings.filter_list]
    if odd := claims.keys() ^ set(pipelines):
        raise AmbiError(
            f"the claims must be about the pipelines {', '.join(pipelines)}, not {', '.join(sorted(odd))[:200]}."
        )
    for pipeline, metrics in claims.items():
        bases = {re.sub("(@(wording)?[0-9]+)?(_stderr)*$", "", metric): metric for metric in metrics}
        if odd := bases.keys() - {*METRICS, *OTHER_MEANS}:
            raise AmbiError(f"{pipeline}: the claims invent a metric: {', '.join(sorted(odd))[:200]}.")


def _check_content(pools: Pools, settings: TaskSettings, task: ScoringTask | None) -> None:
    """Raise an error if answers hold what may not be published, or are the same for all clips."""
    for clip, pool in pools.items():
        if any(PACKED.search(answer) for answer in pool):
            raise AmbiError(f"an answer to the clip {clip!r:.100} holds packed data, such as audio; it must be text.")
    if task and settings.manifest not in PUBLIC_TRANSCRIPTS:
        for row in task.selection.clips:
            words = _words(row.transcript or "")
            if words.count(" ") + 1 >= TRANSCRIPT_WORDS and any(words in _words(answer) for answer in pools[row.id]):
                raise AmbiError(
                    f"an answer quotes the transcript of the clip '{row.id}', which its license does not let us "
                    "publish: submit strategies without reasons, such as sc, sc_shares or exact."
                )
    if settings.control == "none":
        if settings.pool == "labels":
            different = {tuple(compared_text(answer, settings) for answer in pool) for pool in pools.values()}
        else:
            different = {(answer,) for pool in pools.values() for answer in pool if answer.finish != "not_drawn"}
        if len(pools) > 1 and len(different) == 1:
            raise AmbiError("the answers to all clips are the same, so the model did not hear them.")


def _check_claims(claims: Mapping[str, Mapping[str, float | None]], pipelines: Mapping[str, PipelineScores]) -> None:
    """Raise an error unless every claimed number equals the recomputed one."""
    wrong = []
    for pipeline, rescored in pipelines.items():
        # A later version may compute more than an earlier one claimed.
        if odd := (claims[pipeline].keys() - rescored.metrics.keys()) | ({HEADLINE} - claims[pipeline].keys()):
            raise AmbiError(f"{pipeline}: the claims lack or invent a metric: {', '.join(sorted(odd))[:200]}.")
        for metric, claimed in claims[pipeline].items():
            found = rescored.metrics[metric]
            if math.isnan(found) != (claimed is None) or abs((claimed or 0.0) - found) > TOLERANCE:
                wrong.append(f"{pipeline} {metric} is claimed to be {claimed}, the answers give {found:.6f}")
    if wrong:
        more = f" (and {counted(len(wrong) - 1, 'more number')})" if wrong[1:] else ""
        raise AmbiError(
            f"{wrong[0]}{more}. If nothing was changed, another version of ambi_eval scored the run: run it again "
            "(stored answers cost nothing), and pack that."
        )


def _compare(verdicts: Sequence[Verdict], everything: Sequence[Verdict]) -> None:
    """Add a problem to each verdict for every other submission with the same, or nearly the same, answers."""
    for verdict in verdicts:
        if verdict.card:
            others = ((other.name, other.card) for other in everything if other is not verdict and other.card)
            verdict.notes += other_weights(verdict.card, others)
        for name, own in verdict.tasks.items():
            for other in everything:
                theirs = other.tasks.get(name)
                if other is verdict or theirs is None or theirs.clips != own.clips:
                    continue
                share = common(own.fingerprint, theirs.fingerprint, own.any_order, theirs.any_order)
                if share:
                    heard, control = _control(verdict, name), _control(other, name)
                    why = f", which heard {control}" if control != heard else ""
                    verdict.problems.append(
                        f"{name}: {share:.1%} of its answers are those of {other.name}{why}. {COPIES}"
                    )


def _control(verdict: Verdict, name: str) -> object:
    return verdict.card.tasks[name].overrides.get("control", "none") if verdict.card else "none"


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))

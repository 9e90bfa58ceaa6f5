"""Makes the boards from verified submissions: systems on the same clips, with intervals, ranks and references."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ambi_eval.analysis import estimate as intervals
from ambi_eval.analysis.ambiguity import Binned, bin_clips
from ambi_eval.analysis.estimate import UNDEFINED, Estimate
from ambi_eval.analysis.evaluate import Scorer, SystemScorer
from ambi_eval.analysis.references.baselines import PROBE, baselines, description
from ambi_eval.analysis.references.panels import full_panels
from ambi_eval.config.task_settings import TaskSettings
from ambi_eval.corpora.selection import Selection
from ambi_eval.leaderboard.ranks import Rank, rank_intervals
from ambi_eval.leaderboard.rescore import scoring_task, task_settings
from ambi_eval.leaderboard.schema import Card
from ambi_eval.leaderboard.verify import Status, TaskFindings, Verdict, overrides
from ambi_eval.metrics import HEADLINE, METRICS
from ambi_eval.report.content import BinFacts
from ambi_eval.votes import Array

SHOWN = (HEADLINE, "bc", "acc", "macro_f1")
INVALID = "invalid_rate"
# These references are in every board.
SHOWN_REFERENCES = ("prior", "half_panel", "one_human", "perfect_model")


@dataclass(frozen=True)
class RankedSystem:
    """One system: a model with a task and one pipeline.

    Attributes:
        n: Number of answers about each clip; 0 for `exact`.
        status: How far the scores are confirmed.
        scores: Scores with 95% intervals by metric; no intervals if they are only claimed.
        binned: The divergence in each bin of ambiguity; empty if scores are only claimed.
        tokens: Generated tokens per clip, thinking included; NaN where the model does not count them.
        thinking: Thinking tokens among these; NaN where unknown.
        sampling: Whether the model follows the sampling settings, as the run says; None if nothing is sampled.
        rank: Rank by divergence; None for controls, and if scores are only claimed.
        efficient: Whether no other system of the board is at least as good with at most as many tokens.
        notices: What the run warned of, and replies that named another model.
    """

    submission: str
    name: str
    model: str
    task: str
    strategy: str
    pipeline: str
    control: str
    n: int
    status: Status
    scores: Mapping[str, Estimate]
    binned: Sequence[Estimate]
    tokens: float
    thinking: float = 0.0
    sampling: str | None = None
    rank: Rank | None = None
    efficient: bool = False
    prompt_language: str = "en"
    notices: Sequence[str] = ()

    @property
    def method(self) -> str:
        """Strategy and pipeline, with the language of the prompts where it is not English, and the control."""
        control = "" if self.control == "none" else f" [{self.control}]"
        language = "" if self.prompt_language == "en" else f" in {self.prompt_language}"
        return f"{self.strategy} {self.pipeline}{language}{control}"

    @property
    def title(self) -> str:
        """Model and method."""
        return f"{self.model} with {self.method}"


@dataclass(frozen=True)
class BoardReference:
    """A reference for scores, without rank and cost; undefined if the corpus has none or is not on this machine."""

    name: str
    description: str
    scores: Mapping[str, Estimate]
    binned: Sequence[Estimate]
    rank: None = None
    status: str = "reference"
    tokens: float = math.nan
    thinking: float = math.nan

    @property
    def title(self) -> str:
        """Its name."""
        return self.name


@dataclass(frozen=True)
class Board:
    """All systems on one corpus.

    Attributes:
        corpus: Its name, then the split, session or fold that was asked about.
        clips: Number of clips; 0 if the votes are not on this machine.
        controls: Systems that heard something other than the clip, or only read the words.
        implausible: Systems nearer to the votes than a perfect model can expect to be: they must have used the votes.
    """

    corpus: str
    simulated: bool
    labels: Sequence[str]
    clips: int
    clusters: int
    cluster: str
    bins: Sequence[BinFacts]
    references: Sequence[BoardReference]
    systems: Sequence[RankedSystem]
    controls: Sequence[RankedSystem]
    implausible: Sequence[RankedSystem] = ()

    @property
    def corpus_name(self) -> str:
        """The corpus without the part."""
        return self.corpus.split(":")[0]

    @property
    def rows(self) -> list[RankedSystem | BoardReference]:
        """Systems and references, the smallest divergence first and undefined ones last."""
        rows: list[RankedSystem | BoardReference] = [*self.systems, *self.references]
        return sorted(rows, key=lambda row: (math.isnan(row.scores[HEADLINE].value), row.scores[HEADLINE].value))


@dataclass(frozen=True, eq=False)
class _Entry:
    """One task of a submission."""

    verdict: Verdict
    card: Card
    task: str

    @property
    def findings(self) -> TaskFindings:
        return self.verdict.tasks[self.task]

    @property
    def settings(self) -> TaskSettings:
        return task_settings(self.task, overrides(self.card.tasks[self.task]))

    @property
    def selection(self) -> Selection | None:
        """The clips with their votes, if these are on this machine."""
        scored = self.findings.pipelines
        return scoring_task(self.task, overrides(self.card.tasks[self.task])).selection if scored else None


def boards(verdicts: Sequence[Verdict]) -> list[Board]:
    """Return a board for each corpus, or part of one, that has submissions; those with simulated raters come last."""
    by_corpus: dict[str, list[_Entry]] = {}
    for verdict in verdicts:
        for name in verdict.tasks:
            if verdict.card is not None:
                entry = _Entry(verdict, verdict.card, name)
                by_corpus.setdefault(entry.settings.clips_name, []).append(entry)
    found = [_board(corpus, entries) for corpus, entries in sorted(by_corpus.items())]
    return sorted(found, key=lambda board: board.simulated)


def _board(corpus: str, entries: Sequence[_Entry]) -> Board:
    settings = entries[0].settings
    # Some tasks leave out clips, such as those without a transcript. The task with the most clips defines the board.
    scored = [selection for entry in entries if (selection := entry.selection)]
    selection = max(scored, key=lambda each: len(each.clips), default=None)
    binned = bin_clips(selection) if selection else None
    scorer = SystemScorer(selection, binned, SHOWN) if selection and binned else None
    rows: list[RankedSystem] = []
    errors: dict[int, Array] = {}
    for entry in entries:
        for pipeline in entry.verdict.claims[entry.task]:
            if pipeline not in entry.findings.pipelines:
                claims = entry.verdict.claims[entry.task][pipeline]
                values = {name: claims.get(name) for name in (*SHOWN, INVALID)}
                claimed = {
                    name: UNDEFINED if v is None else Estimate(v, math.nan, math.nan) for name, v in values.items()
                }
                rows.append(_row(entry, pipeline, claimed, []))
                continue
            p, own = entry.findings.pipelines[pipeline].p, entry.selection
            if own is None or selection is None or scorer is None:
                raise RuntimeError(f"{entry.task} has scores without votes")
            whole = len(own.clips) == len(selection.clips)
            scores, of_bins = (
                scorer.score(p) if whole else (Scorer(own, metrics=SHOWN).score(full_panels(own), p)[0], [])
            )
            scores[INVALID] = intervals.of_mean(np.isnan(p).any(axis=1).astype(float), own.clusters, (0, 1))
            rows.append(_row(entry, pipeline, scores, [of_bin[HEADLINE] for of_bin in of_bins]))
            if whole and rows[-1].control == "none":
                errors[len(rows) - 1] = np.asarray(METRICS[HEADLINE].per_clip(p, own.votes))
    references = _references(selection, settings, binned)
    floor = next(each.scores[HEADLINE].low for each in references if each.name == "perfect model")
    implausible = [row for row in rows if row.control == "none" and row.scores[HEADLINE].high < floor]
    errors = {number: error for number, error in errors.items() if rows[number] not in implausible}
    if selection and errors:
        ranks = rank_intervals(np.array(list(errors.values())), selection.clusters)
        efficient = _frontier([rows[number] for number in errors])
        for number, rank, best in zip(errors, ranks, efficient, strict=True):
            rows[number] = replace(rows[number], rank=rank, efficient=best)
    rows.sort(key=lambda row: (row.rank is None, row.scores[HEADLINE].value, row.submission, row.task, row.pipeline))
    return Board(
        corpus=corpus,
        simulated=selection is not None and selection.simulated,
        labels=settings.labels,
        clips=len(selection.clips) if selection else 0,
        clusters=len(set(selection.clusters)) if selection else 0,
        cluster=settings.cluster,
        bins=[BinFacts(b.name, b.low, b.high, int(b.members.sum())) for b in (binned.bins if binned else [])],
        references=references,
        systems=[row for row in rows if row.control == "none" and row not in implausible],
        controls=[row for row in rows if row.control != "none"],
        implausible=implausible,
    )


def _row(entry: _Entry, pipeline: str, scores: Mapping[str, Estimate], binned: Sequence[Estimate]) -> RankedSystem:
    settings = entry.settings
    return RankedSystem(
        submission=entry.verdict.name,
        name=entry.card.name,
        model=entry.card.model.id,
        task=entry.task,
        strategy=entry.card.tasks[entry.task].strategy,
        pipeline=pipeline,
        control=settings.control,
        n=0 if settings.pool == "labels" else entry.card.tasks[entry.task].n,
        status=entry.findings.status,
        scores=scores,
        binned=binned,
        tokens=entry.findings.tokens,
        thinking=entry.findings.thinking,
        sampling=entry.card.backend.sampling if settings.pool == "samples" else None,
        prompt_language=settings.prompt_language,
        notices=[*entry.card.backend.other_models, *entry.findings.notices],
    )


def _frontier(rows: Sequence[RankedSystem]) -> list[bool]:
    """Return for each system whether no other one is at least as good and at least as cheap."""
    costs = [(row.tokens, row.scores[HEADLINE].value) for row in rows]
    return [
        not math.isnan(tokens) and not any(t <= tokens and s <= score and (t, s) != (tokens, score) for t, s in costs)
        for tokens, score in costs
    ]


def _references(selection: Selection | None, settings: TaskSettings, binned: Binned | None) -> list[BoardReference]:
    found, nothing = None, dict.fromkeys(SHOWN, UNDEFINED)
    if selection and binned:
        found = baselines(selection, settings, binned, acoustic=False, names=SHOWN_REFERENCES, metrics=SHOWN)
    probes = [name for name in found.overall if name.startswith(PROBE)] if found else []
    return [
        BoardReference(
            name=name.replace("_", " "),
            description=description(name),
            scores=found.overall.get(name, nothing) if found else nothing,
            binned=[of_bin.get(name, nothing)[HEADLINE] for of_bin in found.binned] if found else [],
        )
        for name in (*SHOWN_REFERENCES, *probes)
    ]

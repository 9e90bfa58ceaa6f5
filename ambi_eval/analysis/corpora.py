"""An overview of all corpora: how much the raters disagree, and how to get a corpus that is not prepared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import Group
from rich.table import Column, Table

from ambi_eval.analysis.evaluate import Scorer
from ambi_eval.analysis.raters.ballots import ballots_of
from ambi_eval.analysis.references.agreement import krippendorff_alpha
from ambi_eval.analysis.references.panels import full_panels, split_panels
from ambi_eval.config.corpus_settings import CorpusSettings
from ambi_eval.config.load import corpus_files, load_corpus
from ambi_eval.corpora.registry import corpus, corpus_names, ensure_manifest, needs_release, prepare_command
from ambi_eval.corpora.select import corpus_clips, select
from ambi_eval.corpora.selection import Selection
from ambi_eval.metrics import HEADLINE
from ambi_eval.paths import manifest_path
from ambi_eval.votes import entropy_bits, shares


@dataclass(frozen=True)
class Figures:
    """Statistics of the votes on a corpus, over the labels of its tasks.

    Attributes:
        clips: Number of clips that the tasks ask about, including those without audio.
        labels: Number of labels.
        raters: Mean number of raters per clip; None if the votes do not distinguish them.
        people: Number of raters in all; None if raters are not known across clips.
        entropy_bits: Mean entropy of the votes on a clip.
        krippendorff_alpha: Agreement of the raters: 1 is complete, 0 is chance; None if single raters are unknown.
        prior: Mean divergence (`jsd_bits`) between the mean distribution of all clips and the votes on each clip.
        half_panel: Mean divergence of one half of each panel from the other half; None if single raters are unknown.
    """

    clips: int
    labels: int
    raters: float | None
    people: int | None
    entropy_bits: float
    krippendorff_alpha: float | None
    prior: float
    half_panel: float | None


@dataclass(frozen=True)
class Overview:
    """A corpus, as in the names of its tasks: how to get it, and its statistics if it is prepared."""

    name: str
    language: str
    license: str
    homepage: str
    command: str
    figures: Figures | None


def overview() -> Iterator[Overview]:
    """Yield every corpus that has tasks, sorted; the demo is prepared if it is missing."""
    for name in corpus_files():
        settings = load_corpus(name)
        # One corpus may have tasks with different sets of labels.
        recipe = settings.manifest if settings.manifest in corpus_names() else name
        if not needs_release(recipe):
            ensure_manifest(recipe)
        prepared = manifest_path(settings.manifest).is_file()
        facts = corpus(recipe)
        yield Overview(
            name=name,
            language=facts.language,
            license=facts.license,
            homepage=facts.homepage,
            command=prepare_command(recipe),
            figures=figures(select(settings, corpus_clips(settings), hear=False), settings) if prepared else None,
        )


def figures(selection: Selection, settings: CorpusSettings) -> Figures:
    """Return the statistics of the votes on some clips."""
    q = shares(selection.votes)
    scorer = Scorer(selection, metrics=[HEADLINE])
    prior = scorer.score(full_panels(selection), np.broadcast_to(q.mean(axis=0), q.shape))[0][HEADLINE].value
    halves = split_panels(selection.panels, lambda raters: raters // 2)
    ballots = ballots_of(selection, settings)
    known = [panel.size for panel in selection.panels if panel is not None]
    return Figures(
        clips=len(q),
        labels=len(settings.labels),
        raters=float(np.mean(known)) if known else None,
        people=len(ballots.names) if ballots is not None and ballots.raters_are_known else None,
        entropy_bits=float(entropy_bits(q).mean()),
        krippendorff_alpha=krippendorff_alpha(selection.panels) if known else None,
        prior=prior,
        half_panel=scorer.score(halves, shares(halves.given))[0][HEADLINE].value if halves else None,
    )


def overview_tables(corpora: list[Overview]) -> Group:
    """Return the tables for the terminal."""
    votes = Table("", "clips", "labels", "raters", "a clip", "entropy", "alpha", "prior", "half panel", box=None)
    sources = Table("", "language", "license", Column("how to get it", overflow="fold"), box=None)
    for each in corpora:
        sources.add_row(each.name, each.language, each.license, f"{each.homepage}; {each.command}")
        if (of := each.figures) is None:
            votes.add_row(each.name, "not prepared")
            continue
        numbers = (of.entropy_bits, of.krippendorff_alpha, of.prior, of.half_panel)
        raters = "-" if of.raters is None else f"{of.raters:.2f}"
        cells = ("-" if number is None else f"{number:.3f}" for number in numbers)
        people = "-" if of.people is None else f"{of.people:,}"
        votes.add_row(each.name, f"{of.clips:,}", str(of.labels), people, raters, *cells)
    facts = (
        "raters: in all, and of a clip on average; entropy: of a clip's votes, in bits; alpha: Krippendorff's; prior, "
        "half panel: mean jsd_bits of the mean of all votes, and of half a clip's raters against the other half. The "
        "demo's raters are SIMULATED."
    )
    return Group(votes, "", facts, "", sources)

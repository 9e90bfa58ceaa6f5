"""The rater study of a corpus: people, priors, models of a true label and systems, scored on single ballots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ambi_eval.analysis import estimate
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.raters.ballots import Ballots, ballots_of
from ambi_eval.analysis.raters.groups import RaterGroup, rater_groups
from ambi_eval.analysis.raters.latent import latent_truth
from ambi_eval.analysis.raters.reliability import Reliability, rater_reliability
from ambi_eval.analysis.references.agreement import prior_worth
from ambi_eval.analysis.references.baselines import SIMULATED
from ambi_eval.config.corpus_settings import CorpusSettings
from ambi_eval.corpora.selection import Selection
from ambi_eval.metrics import METRICS
from ambi_eval.votes import Array, mean_of_others, shares

# Proper scores of one ballot: the log score and the quadratic score.
SCORES = ("nll_bits", "brier_sum")
REFERENCES = {
    "uniform": "the same share for every label",
    "prior": "the mean distribution of all other speakers' clips",
    "others": "the shares of the clip's other raters",
    "others_shrunk": "the same, with as many votes of the prior added as the prior is worth raters",
    "dawid_skene": "probability of each label being the true one (Dawid and Skene), without the ballot",
    "dawid_skene_rater": "the ballot of this rater, by the same model",
    "mace": "probability of each label being the true one (MACE), without the ballot",
}


@dataclass(frozen=True)
class GroupScores:
    """How much worse the ballots of one group of raters are predicted than those of other raters of the same clips.

    Attributes:
        clips: Number of clips with raters of this group and raters of another known group.
        gaps: By reference or system, then by score: the group's mean minus that of the others.
        beyond_prior: By system, then by score: its gap minus the gap of the prior. This is the question of fairness,
            because a group's votes may be less predictable for every system.
    """

    trait: str
    name: str
    raters: int
    clips: int
    gaps: Mapping[str, Mapping[str, Estimate]]
    beyond_prior: Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True)
class RaterStudy:
    """The results of a rater study.

    Attributes:
        clips: Number of clips with at least two raters.
        raters: Number of raters; None if raters are known within a clip only.
        one_human: `jsd_bits` of one rater against the others, each rater left out once; the interval is two-way, by the
            clip's speaker and by the rater.
        one_human_by_speaker: The same with the usual interval, by speaker alone.
        scores: By reference or system, then by score: the mean over ballots that the prediction was not made from.
        minus_prior: By system, then by score: its mean minus that of the prior, on the same ballots.
        groups: Groups of raters; empty if nothing is known about the raters.
        reliability: How reliable each rater is; None if raters are known within a clip only.
    """

    clips: int
    ballots: int
    raters: int | None
    one_human: Estimate
    one_human_by_speaker: Estimate
    scores: Mapping[str, Mapping[str, Estimate]]
    minus_prior: Mapping[str, Mapping[str, Estimate]]
    groups: list[GroupScores]
    reliability: Reliability | None
    notes: list[str] = field(default_factory=list)


def study_raters(
    selection: Selection,
    settings: CorpusSettings,
    systems: Mapping[str, Array] | None = None,
    *,
    latent: bool = False,
) -> RaterStudy | None:
    """Return the rater study of some clips; None if no clip has two raters whose names are published.

    `systems` are predictions by name, shape (clips, labels), or (seeds, clips, labels) for the mean score over seeds.
    `latent` fits Dawid-Skene and MACE, too, which takes a minute for some thousand clips.

    Raises:
        AmbiError: If `latent` is true and crowd-kit is not installed.
    """
    ballots = ballots_of(selection, settings)
    if ballots is None:
        return None
    systems, notes = systems or {}, []
    predictions = _references(ballots, selection)
    if selection.simulated:
        notes.append(SIMULATED)
    if not ballots.raters_are_known:
        notes.append("raters are known within a clip only: each ballot counts as a rater of its own")
    elif latent:
        predictions |= latent_truth(ballots)
    if ballots.clips < len(selection.clips):
        notes.append(f"{ballots.clips} of {len(selection.clips)} clips, those with two raters whose names are known")
    predictions |= {name: p[..., ballots.clip, :] for name, p in systems.items()}
    bounds = {metric: METRICS[metric].bounds(ballots.votes.shape[1]) for metric in (*SCORES, "jsd_bits")}
    scored = {name: {metric: ballots.scores(p, metric) for metric in SCORES} for name, p in predictions.items()}
    one_human = np.asarray(METRICS["jsd_bits"].per_clip(ballots.votes, ballots.others))
    of_clips = np.bincount(ballots.clip, weights=one_human / ballots.per_clip).astype(np.float64)
    there = np.unique(ballots.clip)
    return RaterStudy(
        clips=ballots.clips,
        ballots=len(ballots.clip),
        raters=len(ballots.names) if ballots.raters_are_known else None,
        one_human=ballots.mean(one_human, bounds["jsd_bits"]),
        one_human_by_speaker=estimate.of_mean(
            of_clips[there], [selection.clusters[clip] for clip in there], bounds["jsd_bits"]
        ),
        scores={
            name: {metric: ballots.mean(values, bounds[metric]) for metric, values in of_metrics.items()}
            for name, of_metrics in scored.items()
        },
        minus_prior={
            name: {metric: ballots.mean(scored[name][metric] - scored["prior"][metric]) for metric in SCORES}
            for name in systems
        },
        groups=_groups(ballots, selection, scored, list(systems)),
        reliability=rater_reliability(ballots),
        notes=notes,
    )


def _references(ballots: Ballots, selection: Selection) -> dict[str, Array]:
    """Return the prediction of each ballot by each reference, shape (B, labels)."""
    human, n_labels = shares(selection.votes), ballots.votes.shape[1]
    prior = mean_of_others(human, selection.clusters)
    prior[np.isnan(prior).any(axis=1)] = human.mean(axis=0)  # there is no other speaker
    prior = prior[ballots.clip]
    worth = prior_worth(selection.votes, selection.noise, selection.one_rater)
    return {
        "uniform": np.full((len(ballots.clip), n_labels), 1 / n_labels),
        "prior": prior,
        "others": ballots.others,
        "others_shrunk": shares(ballots.others * (ballots.per_clip - 1)[:, None] + worth * prior),
    }


def _groups(
    ballots: Ballots, selection: Selection, scored: Mapping[str, Mapping[str, Array]], systems: list[str]
) -> list[GroupScores]:
    beyond = {name: {metric: scored[name][metric] - scored["prior"][metric] for metric in SCORES} for name in systems}

    def gaps(group: RaterGroup, scores: Mapping[str, Mapping[str, Array]]) -> dict[str, dict[str, Estimate]]:
        return {
            name: {metric: group.difference(ballots, values) for metric, values in of_metrics.items()}
            for name, of_metrics in scores.items()
        }

    return [
        GroupScores(group.trait, group.name, group.raters, group.clips, gaps(group, scored), gaps(group, beyond))
        for group in rater_groups(ballots, selection.raters)
    ]

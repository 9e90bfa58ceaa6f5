"""Scores trivial predictors and human raters on the same clips and with the same metrics as a system."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from ambi_eval.analysis.ambiguity import Bin, Binned
from ambi_eval.analysis.evaluate import Scorer, Scores
from ambi_eval.analysis.references.agreement import krippendorff_alpha, prior_worth
from ambi_eval.analysis.references.panels import Trials, full_panels, resampled_panels, split_panels, tied_labels
from ambi_eval.analysis.references.prosody import listen, ridge_on_log_shares
from ambi_eval.analysis.references.supervised import supervised
from ambi_eval.analysis.significance import Comparison, compare
from ambi_eval.config.corpus_settings import CorpusSettings
from ambi_eval.corpora.selection import Selection
from ambi_eval.metrics import HEADLINE, METRICS
from ambi_eval.votes import Array, majority, mean_of_others, shares

Reference = tuple[str, Trials, Array]

SIMULATED = "SIMULATED raters: these figures show that the machinery works and nothing else"

REFERENCES = {
    "uniform": "the same share for every label",
    "prior": "the mean distribution of all these clips, for every clip",
    "prior_loso": "the mean distribution of all other speakers (where they talk to each other: sessions)",
    "always_majority": "all on the label that is most often the majority",
    "majority_oracle": "all on the clip's majority label; of several that tie, one at random (expectation)",
    "majority_oracle_tie_split": "the clip's majority label; several that tie share it",
    "one_human": "one rater against the others (expectation over raters); the same as humans_1",
    "half_panel": "half of the raters, rounded down, against the other half (expectation over halves)",
    "half_panel_shrunk": "the same with as many votes of the prior added as the prior is worth raters",
    "humans_1": "one rater against the others (expectation over raters)",
    "humans_2": "two raters against the others",
    "humans_3": "three raters against the others",
    "humans_4": "four raters against the others",
    "prior_vs_held_out_1": "the prior against the same raters as humans_1",
    "prior_vs_held_out_2": "the prior against the same raters as humans_2",
    "prior_vs_held_out_3": "the prior against the same raters as humans_3",
    "prior_vs_held_out_4": "the prior against the same raters as humans_4",
    "perfect_model": "the votes' shares against new panels of the same size drawn from them: the sampling floor",
    "sentence_prior": "the mean distribution of all other speakers of the same sentence",
    "acoustic": "ridge regression on eight prosodic numbers, trained on all other speakers; clips with audio only",
    "prior_vs_acoustic": "the mean distribution of all other speakers, on the clips of `acoustic`",
}


# The names of references by probes of audio encoders (`ambi-eval probe`) begin with this.
PROBE = "probe:"


def description(name: str) -> str:
    """Return what a reference predicts."""
    of_probe = f"a linear probe of {name.removeprefix(PROBE)}, trained on other speakers; it never says a word"
    return of_probe if name.startswith(PROBE) else REFERENCES[name]


@dataclass(frozen=True)
class Baselines:
    """The references of one set of clips.

    Attributes:
        best_reachable_accuracy: Accuracy of the best possible prediction; a clip on which m labels tie counts 1/m.
        first_label_accuracy: Accuracy of `always_majority` if the first of several tied labels is the majority, as in
            papers; it depends on the order of the labels.
        overall: Scores of each reference over all clips, without references that exist for no clip.
        binned: The same in each bin, in the order of `bins`.
        counts: Number of clips on which each reference is scored.
        notes: A sentence for each reference that is missing or scored on only some of the clips.
        against: The `jsd_bits` of a system minus that of each reference, on the same clips and against the same raters;
            empty if no system was given.
    """

    clips: int
    krippendorff_alpha: float
    best_reachable_accuracy: float
    most_frequent_label: str
    first_label_accuracy: float
    bins: Sequence[Bin]
    overall: dict[str, Scores] = field(default_factory=dict)
    binned: list[dict[str, Scores]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    against: dict[str, Comparison] = field(default_factory=dict)


def baselines(
    selection: Selection,
    settings: CorpusSettings,
    binned: Binned,
    *,
    acoustic: bool = True,
    system: Array | None = None,
    names: Collection[str] = REFERENCES.keys(),
    metrics: Collection[str] = METRICS.keys(),
) -> Baselines:
    """Return the scores of references, and show a progress bar.

    `acoustic` reads the audio for the acoustic reference. The predictions of a `system`, shape (clips, labels), are
    compared with each reference. Stored probes of audio encoders are references whatever `names` say.
    """
    top = majority(selection.votes)
    frequent = int(top.sum(axis=0).argmax())
    result = Baselines(
        clips=len(selection.clips),
        krippendorff_alpha=krippendorff_alpha(selection.panels),
        best_reachable_accuracy=float(top.max(axis=1).mean()),
        most_frequent_label=settings.labels[frequent],
        first_label_accuracy=float((selection.votes.argmax(axis=1) == frequent).mean()),
        bins=binned.bins,
        binned=[{} for _ in binned.bins],
    )
    if selection.simulated:
        result.notes.append(SIMULATED)
    sounds = listen(selection.clips) if acoustic else None
    models = dict(supervised(selection, settings, result.notes))
    differences: dict[str, Array] = {}
    everywhere = Scorer(selection, metrics=metrics)
    in_bins = Scorer(binned.judged, [b.members for b in binned.bins], metrics)
    wanted = {name for name in REFERENCES if not {*_names(name)}.isdisjoint(names)} | models.keys()
    with tqdm(desc="references", total=2 * len(wanted), unit="reference", disable=None) as progress:
        for name, trials, p in _references(selection, sounds, models, result.notes):
            if name not in wanted:
                continue
            (scores,) = everywhere.score(trials, p)
            result.overall.update(dict.fromkeys(_names(name), scores))
            result.counts.update(dict.fromkeys(_names(name), len(trials.clips)))
            if system is not None:
                differences[name] = _difference(system, trials, p)
            progress.update()
        in_bins_sounds = None if sounds is None else sounds[binned.numbers]
        in_bins_models = {name: p[binned.numbers] for name, p in models.items()}
        for name, trials, p in _references(binned.judged, in_bins_sounds, in_bins_models, []):
            if name not in wanted:
                continue
            _, *of_bins = in_bins.score(trials, p)
            for of_bin, in_bin in zip(result.binned, of_bins, strict=True):
                of_bin.update(dict.fromkeys(_names(name), in_bin))
            progress.update()
    result.notes.append(binned.note)
    result.against.update(compare(differences, selection.clusters) if differences else {})
    return result


def _difference(system: Array, trials: Trials, p: Array) -> Array:
    """Return a system's error minus a reference's, against the same raters, shape (clips,); NaN without trials.

    `system` has shape (clips, labels); `p`, the prediction of the reference in each case, (cases, labels).
    """
    per_clip, each = METRICS[HEADLINE].per_clip, trials.of_each_clip()
    own = each.expected(np.asarray(per_clip(system[each.clip_of_case], each.votes)))
    difference = np.full(len(system), np.nan)
    difference[trials.clips] = own - trials.expected(np.asarray(per_clip(p, trials.votes)))
    return difference


def _names(reference: str) -> tuple[str, ...]:
    return ("humans_1", "one_human") if reference == "humans_1" else (reference,)


def _references(
    selection: Selection, sounds: Array | None, models: Mapping[str, Array], notes: list[str]
) -> Iterator[Reference]:
    """Yield each reference: its name, its trials, and its prediction in each of their cases.

    `sounds` are the prosodic features of each clip; None leaves out the acoustic reference. A sentence is added to
    `notes` for each reference that does not exist for all clips.
    """
    votes, human = selection.votes, shares(selection.votes)
    known = int((~np.isnan(selection.noise)).sum())
    _note("sq_debiased and worth_raters", known, len(votes), "with two single raters that the votes tell apart", notes)
    everything, ties, prior = full_panels(selection), tied_labels(selection), human.mean(axis=0)
    yield "uniform", everything, np.full_like(human, 1 / human.shape[1])
    yield "prior", everything, np.broadcast_to(prior, human.shape)
    yield from _where_known(
        "prior_loso", selection, mean_of_others(human, selection.clusters), "that have other speakers", notes
    )
    frequent = np.eye(human.shape[1])[majority(votes).sum(axis=0).argmax()]
    yield "always_majority", everything, np.broadcast_to(frequent, human.shape)
    yield "majority_oracle", ties, ties.given
    yield "majority_oracle_tie_split", everything, majority(votes)
    yield from _human_references(selection, prior, notes)
    sentences = [clip.sentence for clip in selection.clips]
    spoken = mean_of_others(human, selection.clusters, sentences)
    spoken[[sentence is None for sentence in sentences]] = np.nan
    yield from _where_known("sentence_prior", selection, spoken, "whose sentence other speakers say", notes)
    if sounds is not None:
        yield from _acoustic(selection, sounds, notes)
    for name, p in models.items():
        yield from _where_known(name, selection, p, "that it predicts", notes)


def _where_known(name: str, selection: Selection, p: Array, which: str, notes: list[str]) -> Iterator[Reference]:
    """Yield a reference on the clips where `p`, shape (clips, labels), is not NaN; `which` describes them in a note."""
    known = np.flatnonzero(~np.isnan(p).any(axis=1))
    _note(name, len(known), len(p), which, notes)
    if len(known):
        yield name, full_panels(selection, known), p[known]


def _human_references(selection: Selection, prior: Array, notes: list[str]) -> Iterator[Reference]:
    panels = selection.panels

    def deal(name: str, guessers: Callable[[int], int]) -> Trials | None:
        trials = split_panels(panels, guessers)
        _note(name, len(trials.clips) if trials else 0, len(panels), "with enough single raters", notes)
        return trials

    if half := deal("half_panel", lambda raters: raters // 2):
        yield "half_panel", half, shares(half.given)
        worth = prior_worth(selection.votes, selection.noise, selection.one_rater)
        yield "half_panel_shrunk", half, shares(half.given + worth * prior)
    for k in range(1, 5):
        if trials := deal(f"humans_{k}", _always(k)):
            yield f"humans_{k}", trials, shares(trials.given)
            yield f"prior_vs_held_out_{k}", trials, np.broadcast_to(prior, trials.votes.shape)
    floor = resampled_panels(panels)
    _note("perfect_model", len(floor.clips) if floor else 0, len(panels), "with single raters", notes)
    if floor:
        yield "perfect_model", floor, shares(floor.given)


def _always(guessers: int) -> Callable[[int], int]:
    return lambda raters: guessers


def _acoustic(selection: Selection, sounds: Array, notes: list[str]) -> Iterator[Reference]:
    heard = np.flatnonzero(~np.isnan(sounds).any(axis=1))
    clusters, votes = np.array(selection.clusters)[heard], selection.votes[heard]
    noise, one_rater = selection.noise[heard], selection.one_rater[heard]
    trainable = len(set(clusters)) > 1 and not np.isnan(noise).all()
    which = "with audio" if trainable else "with audio, of several speakers and with several raters each"
    _note("acoustic", len(heard) if trainable else 0, len(selection.clips), which, notes)
    if not trainable:
        return

    features = sounds[heard]
    p = np.empty_like(votes)
    for cluster in np.unique(clusters):
        held_out = clusters == cluster
        worth = prior_worth(votes[~held_out], noise[~held_out], one_rater[~held_out])
        p[held_out] = ridge_on_log_shares(features[~held_out], votes[~held_out], features[held_out], worth)
    trials = full_panels(selection, heard)
    yield "acoustic", trials, p
    yield "prior_vs_acoustic", trials, mean_of_others(shares(votes), clusters.tolist())


def _note(name: str, known: int, clips: int, which: str, notes: list[str]) -> None:
    if known < clips:
        notes.append(f"{name}: {known} of {clips} clips, those {which}")

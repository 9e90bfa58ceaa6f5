"""Whether predictions tell two clips apart that only the delivery distinguishes: the matched-pair forced choice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ambi_eval.analysis import estimate
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.references.panels import dealt
from ambi_eval.corpora.manifest import Clip
from ambi_eval.corpora.selection import Selection
from ambi_eval.votes import TIE_TOLERANCE, entropy_bits, shares

Array = NDArray[np.float64]

# Random deals of the raters behind a human reference.
DRAWS = 16
# Scores of fewer speakers (or sessions) do not show how much speakers differ.
FEWEST_CLUSTERS = 5
# Numbers held at once while all pairs of a group are compared: some 100 MB.
CHUNK = 4_000_000


@dataclass(frozen=True)
class Discrimination:
    """The result of the matched-pair forced choice.

    Attributes:
        score: Share of pairs assigned rightly, as the mean over speakers: 0.5 by chance, and exactly that for any
            constant prediction. The interval is undefined where fewer than `FEWEST_CLUSTERS` clusters have pairs.
        pairs: Number of pairs.
        matched_by: What the two clips of a pair share: `speaker and sentence`, or `speaker` where no sentence is known.
    """

    score: Estimate
    pairs: int
    matched_by: str


def two_alternatives(p: Array, votes: Array, clips: Sequence[Clip], clusters: Sequence[str]) -> Discrimination | None:
    """Return how often two predictions are assigned to the right two clips of one speaker and one sentence.

    A pair is right if the two divergences (JSD) of each prediction from its own clip's votes add up to less than those
    from the other clip's votes; equal sums count half. A pair with an invalid prediction is lost. Clips without a
    sentence are matched by the speaker alone, clips of an unknown speaker not at all.

    Each speaker counts the same, however many pairs there are of the speaker. The number of pairs grows with the square
    of the number of clips, so a mean over pairs would be that of the few speakers with the most clips.

    Args:
        p: Predicted distributions, shape (..., clips, labels); a row of NaN is an invalid one. Over leading axes the
            result is averaged.
        votes: Votes, shape (..., clips, labels).
        clips: The clips.
        clusters: Whom each clip depends on.

    Returns:
        The result, or None if no two clips match.
    """
    groups: defaultdict[tuple[str, str | None], list[int]] = defaultdict(list)
    for number, clip in enumerate(clips):
        if clip.speaker is not None:
            groups[clip.speaker, clip.sentence].append(number)
    matched = [np.array(members) for members in groups.values() if len(members) > 1]
    if not matched:
        return None
    won, partners = np.zeros(len(clips)), np.zeros(len(clips))
    human = shares(votes)
    for members in matched:
        won[members] = _won(p[..., members, :], human[..., members, :])
        partners[members] = len(members) - 1
    speakers: defaultdict[str, list[int]] = defaultdict(list)
    for number, clip in enumerate(clips):
        if clip.speaker is not None and partners[number]:
            speakers[clip.speaker].append(number)
    of_speaker = np.array([won[numbers].sum() / partners[numbers].sum() for numbers in speakers.values()])
    whom = [clusters[numbers[0]] for numbers in speakers.values()]
    score = estimate.of_mean(of_speaker, whom, (0, 1))
    if len(set(whom)) < FEWEST_CLUSTERS:
        score = Estimate(score.value, np.nan, np.nan)
    sentences = any(clips[members[0]].sentence is not None for members in matched)
    return Discrimination(
        score=score,
        pairs=round(partners.sum() / 2),
        matched_by="speaker and sentence" if sentences else "speaker",
    )


def human_two_alternatives(selection: Selection, guessers: Callable[[int], int]) -> Discrimination | None:
    """Return the same for some raters of each clip against its other raters, averaged over random deals.

    Args:
        selection: The clips.
        guessers: Size of a panel -> how many of its raters guess.
    """
    trials = dealt(selection.panels, guessers)
    if trials is None:
        return None
    rng = np.random.default_rng(estimate.SEED)
    cases = np.array([trials.draw(rng) for _ in range(DRAWS)])
    clips = [selection.clips[number] for number in trials.clips]
    clusters = [selection.clusters[number] for number in trials.clips]
    return two_alternatives(shares(trials.given[cases]), trials.votes[cases], clips, clusters)


def _won(p: Array, human: Array) -> Array:
    """Return how many of its pairs each clip of a group wins, shape (clips,), from arrays (..., clips, labels)."""
    size = p.shape[-2]
    # The entropies of p and of the votes stand on both sides of the comparison: only those of the mixtures count.
    mixed = np.empty((*p.shape[:-1], size))
    rows = max(1, CHUNK // (human.size or 1))
    for start in range(0, size, rows):
        here = slice(start, start + rows)
        mixed[..., here, :] = entropy_bits((p[..., here, None, :] + human[..., None, :, :]) / 2)
    own = np.diagonal(mixed, axis1=-2, axis2=-1)
    gain = mixed + np.swapaxes(mixed, -2, -1) - own[..., :, None] - own[..., None, :]
    credit = np.where(np.abs(gain) <= TIE_TOLERANCE, 0.5, gain > 0)  # no comparison with NaN is true
    credit[..., np.arange(size), np.arange(size)] = 0.0
    return credit.sum(axis=-1).reshape(-1, size).mean(axis=0)

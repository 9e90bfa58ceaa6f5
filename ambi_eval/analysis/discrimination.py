"""The matched-pair forced choice: do predictions fit the right one of two clips of the same speaker and sentence?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ambi_eval.analysis import estimate
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.references.panels import split_panels
from ambi_eval.corpora.manifest import Clip
from ambi_eval.corpora.selection import Selection
from ambi_eval.votes import TIE_TOLERANCE, Array, entropy_bits, shares

# Random splits of each panel for a human reference.
DRAWS = 16
# With fewer clusters (speakers or sessions) the interval is undefined.
FEWEST_CLUSTERS = 5
# The most numbers in memory while pairs are compared: about 100 MB.
CHUNK = 4_000_000


@dataclass(frozen=True)
class Discrimination:
    """The result of the matched-pair forced choice.

    Attributes:
        score: Share of pairs that are assigned correctly, 0 to 1, the mean over speakers: 0.5 by chance, and exactly
            0.5 for a constant prediction. The interval is undefined if fewer than `FEWEST_CLUSTERS` clusters have
            pairs.
        matched_by: What the two clips of a pair share: `speaker and sentence`, or `speaker` if no sentence is known.
    """

    score: Estimate
    pairs: int
    matched_by: str


def two_alternatives(p: Array, votes: Array, clips: Sequence[Clip], clusters: Sequence[str]) -> Discrimination | None:
    """Return how often the predictions for two clips of one speaker and sentence are assigned to the right clips.

    A pair is correct if the divergences (JSD) of the predictions from the votes on their own clips have a smaller sum
    than those from the votes on the other clip; equal sums count half. A pair with an invalid prediction is wrong.
    Clips without a sentence are matched by speaker alone, and clips of an unknown speaker are left out.

    Every speaker has the same weight. The number of pairs grows with the square of the number of clips, so in a mean
    over pairs the few speakers with the most clips would dominate.

    `p` (a row of NaN is an invalid prediction) and `votes` have shape (..., clips, labels). The result is the mean over
    the leading axes.

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
    """Return `two_alternatives` of some raters of each clip against its other raters, averaged over random splits.

    `guessers` is a function from the size of a panel to the number of its raters who predict.
    """
    trials = split_panels(selection.panels, guessers)
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
    # The entropies of p and of the votes cancel in the comparison; only those of the mixtures remain.
    mixed = np.empty((*p.shape[:-1], size))
    rows = max(1, CHUNK // (human.size or 1))
    for start in range(0, size, rows):
        here = slice(start, start + rows)
        mixed[..., here, :] = entropy_bits((p[..., here, None, :] + human[..., None, :, :]) / 2)
    own = np.diagonal(mixed, axis1=-2, axis2=-1)
    gain = mixed + np.swapaxes(mixed, -2, -1) - own[..., :, None] - own[..., None, :]
    credit = np.where(np.abs(gain) <= TIE_TOLERANCE, 0.5, gain > 0)  # a comparison with NaN is False
    credit[..., np.arange(size), np.arange(size)] = 0.0
    return credit.sum(axis=-1).reshape(-1, size).mean(axis=0)

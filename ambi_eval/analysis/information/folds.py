"""Cross-validation folds by speaker, and the unit of all scores in them: bits per vote gained over the prior."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from ambi_eval.errors import AmbiError
from ambi_eval.metrics.clustered import UNKNOWN
from ambi_eval.metrics.distribution import NLL_FLOOR
from ambi_eval.votes import Array, shares

Rows = NDArray[np.intp]

OUTER_FOLDS, INNER_FOLDS = 5, 3
LEAST_CLUSTERS = 3
SEED = 0


class Folds:
    """Cross-validation folds of a corpus: no speaker (or session) is in both the training and the test clips of a fold.

    Clips of unknown speakers are in no fold, because they may be of any speaker.

    Attributes:
        votes: Votes, shape (clips, labels).
        groups: The number of each clip's speaker, shape (clips,); -1 if unknown.
        splits: For each fold, the indices of its training clips and of its test clips.
        prior: For each clip, the mean distribution of the training clips of the fold that tests it, shape
            (clips, labels); NaN for clips of unknown speakers.
    """

    def __init__(self, votes: Array, clusters: Sequence[Hashable]) -> None:
        """Make the folds; an `AmbiError` if there are fewer than three known speakers."""
        self.votes, self.clusters = votes, list(clusters)
        known = np.array([cluster != UNKNOWN for cluster in clusters])
        names = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters)) if cluster != UNKNOWN}
        if len(names) < LEAST_CLUSTERS:
            raise AmbiError(
                f"a fit on some speakers and a test on others need clips of at least {LEAST_CLUSTERS} speakers, "
                f"there are {len(names)}"
            )
        self.groups = np.array([names.get(cluster, -1) for cluster in clusters])
        self.splits = split_by_group(self.groups, np.flatnonzero(known), OUTER_FOLDS)
        self.prior = np.full(votes.shape, np.nan)
        for seen, unseen in self.splits:
            self.prior[unseen] = shares(votes[seen]).mean(axis=0)

    def inner(self, seen: Rows) -> list[tuple[Rows, Rows]]:
        """Return inner folds of training clips, to choose settings: indices of clips to fit on, and to score on."""
        return split_by_group(self.groups, seen, INNER_FOLDS)

    def bits(self, p: Array) -> Array:
        """Return the bits per vote that predictions gain over `prior`, shape (clips,); see `bits_gained`."""
        return bits_gained(p, self.prior, self.votes)


def split_by_group(groups: NDArray[np.intp], clips: Rows, folds: int) -> list[tuple[Rows, Rows]]:
    """Return the training and the test clips of each fold, as indices.

    Each group is in one fold: in a seeded random order, each goes to the fold that has the fewest clips so far. So
    every clip is tested once, and never by a fit on clips of its own group. If there are fewer groups than folds, each
    group is a fold. `groups` holds the group of every clip of the corpus, `clips` the indices of the clips to split.
    """
    numbers, sizes = np.unique(groups[clips], return_counts=True)
    members = np.zeros(min(folds, len(numbers)), dtype=int)
    fold_of = {}
    for place in np.random.default_rng(SEED).permutation(len(numbers)):
        smallest = int(members.argmin())
        fold_of[numbers[place]] = smallest
        members[smallest] += sizes[place]
    fold = np.array([fold_of[group] for group in groups[clips]])
    return [(clips[fold != number], clips[fold == number]) for number in range(len(members))]


def bits_gained(p: Array, prior: Array, votes: Array) -> Array:
    """Return the bits per vote gained over a prior, the sum over labels of q log2(p / prior), shape (clips,).

    This is the difference of two mean log-likelihoods of the votes, whose shares are q; it is below 0 where p is worse
    than the prior. Shares below `NLL_FLOOR` are raised to it. `p` and `votes` have shape (clips, labels), and the prior
    that or (labels,).

    Source: Xu et al. (2020), A theory of usable information under computational constraints.

    >>> bits_gained(np.array([[1.0, 0.0]]), np.array([0.5, 0.5]), np.array([[4, 0]])).tolist()
    [1.0]
    """
    ratio = np.log2(np.maximum(p, NLL_FLOOR)) - np.log2(np.maximum(prior, NLL_FLOOR))
    return (shares(votes) * ratio).sum(axis=-1)

"""The single ballots of a corpus: which rater chose which label for which clip, and scores of predictions of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ambi_eval.analysis import estimate
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.config.corpus_settings import CorpusSettings
from ambi_eval.corpora.manifest import Clip
from ambi_eval.corpora.selection import Selection
from ambi_eval.metrics import METRICS
from ambi_eval.metrics.clustered import two_way_standard_error
from ambi_eval.votes import Array, select_labels, shares


@dataclass(frozen=True, eq=False)
class Ballots:
    """The ballots on all clips with at least two raters. B is the number of ballots.

    Attributes:
        clip: The index of each ballot's clip in the selection, ascending, shape (B,).
        rater: The index of each ballot's rater in `names`, shape (B,).
        votes: The ballots, shape (B, labels): 1 for one label, or equal parts that sum to 1 for several labels.
        clusters: The cluster of each ballot's clip (its speaker, for example), as in the selection.
    """

    clip: NDArray[np.intp]
    rater: NDArray[np.intp]
    votes: Array
    names: Sequence[str]
    clusters: Sequence[str]

    @cached_property
    def per_clip(self) -> NDArray[np.intp]:
        """The number of ballots on each ballot's clip, shape (B,)."""
        return np.bincount(self.clip)[self.clip]

    @cached_property
    def others(self) -> Array:
        """The shares of the other ballots on the same clip, shape (B, labels)."""
        return (self.total - self.votes) / (self.per_clip - 1)[:, None]

    @cached_property
    def total(self) -> Array:
        """The sum of all ballots on each ballot's clip, shape (B, labels)."""
        sums = np.zeros((self.clip.max() + 1, self.votes.shape[1]))
        np.add.at(sums, self.clip, self.votes)
        return sums[self.clip]

    @property
    def clips(self) -> int:
        """Number of clips that have ballots here."""
        return len(np.unique(self.clip))

    @property
    def raters_are_known(self) -> bool:
        """Whether raters are known beyond one clip; some corpora only number them within each clip."""
        return bool((np.bincount(self.rater) > 1).any())

    def scores(self, p: Array, metric: str) -> Array:
        """Return the score of the prediction of each ballot, shape (B,).

        `p` has shape (B, labels), or (seeds, B, labels) for the mean score over seeds; a row of NaN is an invalid
        prediction and gets the worst score. `nll_bits` is the log score of a ballot and `brier_sum` its quadratic
        score. Both are proper scores: in expectation, the true shares score best.
        """
        of_seeds = np.asarray(METRICS[metric].per_clip(p, self.votes), dtype=float)
        return of_seeds.reshape(-1, len(self.clip)).mean(axis=0)

    def mean(self, scores: Array, bounds: tuple[float, float] = estimate.UNBOUNDED) -> Estimate:
        """Return the mean over clips of the mean over each clip's ballots, with a two-way interval.

        Ballots depend on each other in two ways: their clips share a speaker, or they come from one rater. Scores have
        shape (B,).
        """
        return self.weighted(scores, 1 / self.per_clip / self.clips, bounds)

    def weighted(
        self,
        scores: Array,
        weights: Array,
        bounds: tuple[float, float] = estimate.UNBOUNDED,
        expected: Array | None = None,
    ) -> Estimate:
        """Return a weighted sum of scores with a two-way interval (`two_way_standard_error`).

        All arrays have shape (B,). A ballot of weight 0 does not count. The expected score of each ballot is by default
        the weighted sum.
        """
        value = float((weights * scores).sum())
        used = np.flatnonzero(weights)
        influence = (weights * (scores - (value if expected is None else expected)))[used] * len(used)
        error, groups = two_way_standard_error(
            influence, [self.clusters[row] for row in used], self.rater[used].tolist()
        )
        return estimate.interval(value, error, groups, bounds)


def named_ballots(clip: Clip, settings: CorpusSettings) -> list[tuple[str, Array]]:
    """Return the raters of a clip who named a label of the task, each with a ballot, shape (labels,), of sum 1."""
    given = [(rating.rater, dict.fromkeys(rating.labels, 1.0)) for rating in clip.ratings]
    inside = [(who, select_labels(votes, settings.labels, settings.merge, "renormalise")) for who, votes in given]
    return [(who, shares(votes)) for who, votes in inside if votes is not None]


def ballots_of(selection: Selection, settings: CorpusSettings) -> Ballots | None:
    """Return the ballots on the clips of a selection, over the task's labels.

    A rater who chose several labels gives each an equal part. Labels outside the task's are left out, as in the votes.
    The result is None if no clip has two raters whose names the corpus publishes.
    """
    rows: list[tuple[int, str, Array]] = []
    for number, clip in enumerate(selection.clips):
        named = named_ballots(clip, settings)
        rows += [(number, rater, votes) for rater, votes in named] if len(named) > 1 else []
    if not rows:
        return None
    names = sorted({rater for _, rater, _ in rows})
    numbers = {name: number for number, name in enumerate(names)}
    return Ballots(
        clip=np.array([number for number, _, _ in rows]),
        rater=np.array([numbers[rater] for _, rater, _ in rows]),
        votes=np.array([votes for _, _, votes in rows]),
        names=names,
        clusters=[selection.clusters[number] for number, _, _ in rows],
    )

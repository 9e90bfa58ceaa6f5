"""How well raters predict other raters: all ways to split a panel into raters who predict and raters who score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from math import comb, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln
from scipy.stats import multinomial

from ambi_eval.corpora.selection import Selection
from ambi_eval.votes import Array, Panel, majority

# Up to this many cases in all (one or two gigabytes), every case of every panel is used with its exact probability. If
# there are more, a panel with more than an equal part of this number uses random cases, the same in every run.
MOST_CASES = 4_000_000
# Random cases of one panel: the mean of their scores is off by a 300th of the scores' standard deviation.
MOST_RANDOM = 100_000


@dataclass(frozen=True, eq=False)
class Trials:
    """The possible cases of each clip, with probabilities; a case has votes to predict from and votes to score with.

    Clips with the same panel share their cases. D is the number of different panels, R the number of their cases.

    Attributes:
        given: Votes to predict from, shape (R, labels).
        votes: Votes that score the prediction, shape (R, labels).
        noise: The sampling noise of the shares of these votes, shape (R,): `Panel.noise`.
        probability: Probability of each case among the cases of its panel, shape (R,).
        first: Index of the first case of each panel, shape (D,); its last case is just before the next panel's first.
        clips: Indices of the clips that have cases, shape (clips,).
        panel: Index of the panel of each of these clips, shape (clips,).
    """

    given: Array
    votes: Array
    noise: Array
    probability: Array
    first: NDArray[np.intp]
    clips: NDArray[np.intp]
    panel: NDArray[np.intp]

    @property
    def random(self) -> bool:
        """Whether some clip has several cases."""
        return len(self.votes) > len(self.first)

    def expected(self, scores: Array) -> Array:
        """Return the expectation of each clip's score, shape (clips,), from the score of each case, shape (R,)."""
        return np.add.reduceat(self.probability * scores, self.first)[self.panel]

    def draw(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Return a random case of each clip, shape (clips,)."""
        last = np.append(self.first[1:], len(self.votes)) - 1
        # The cumulated probabilities of panel d's cases run from d to d + 1.
        ends = np.cumsum(self.probability)
        drawn = np.searchsorted(ends, self.panel + rng.random(len(self.panel)), side="right")
        return np.clip(drawn, self.first[self.panel], last[self.panel])

    @property
    def clip_of_case(self) -> NDArray[np.intp]:
        """The clip of each case, shape (R,); for the result of `of_each_clip` only."""
        return np.repeat(self.clips, np.diff(np.append(self.first, len(self.votes))))

    def of_each_clip(self) -> Trials:
        """Return the same trials with separate cases for each clip, for models that predict each clip differently."""
        lengths = np.diff(np.append(self.first, len(self.votes)))[self.panel]
        first = np.cumsum(lengths) - lengths
        cases = np.repeat(self.first[self.panel] - first, lengths) + np.arange(lengths.sum())
        of_case = {name: getattr(self, name)[cases] for name in ("given", "votes", "noise", "probability")}
        return replace(self, **of_case, first=first, panel=np.arange(len(self.clips)))


# The cases of one panel: votes to predict from, votes to score with, the noise of the latter, probabilities.
Cases = tuple[Array, Array, Array, Array]


def full_panels(selection: Selection, clips: NDArray[np.intp] | None = None) -> Trials:
    """Return the trials with one case per clip: all of its votes score the prediction.

    `clips` are the indices of the clips to keep; None keeps all.
    """
    clips = np.arange(len(selection.votes)) if clips is None else clips
    votes, each = selection.votes[clips], np.arange(len(clips))
    return Trials(votes, votes, selection.noise[clips], np.ones(len(clips)), each, clips, each)


def tied_labels(selection: Selection) -> Trials:
    """Return the trials that predict from the majority label of each clip; tied labels are equally likely cases."""
    votes = selection.votes
    top = majority(votes)
    clip, label = np.nonzero(top)
    each = np.arange(len(votes))
    return Trials(
        given=np.eye(votes.shape[1])[label],
        votes=votes[clip],
        noise=selection.noise[clip],
        probability=top[clip, label],
        first=np.searchsorted(clip, each),
        clips=each,
        panel=each,
    )


def split_panels(panels: Sequence[Panel | None], guessers: Callable[[int], int]) -> Trials | None:
    """Return the trials where random raters of each clip predict and its other raters score; None without any.

    The raters are drawn without replacement. The cases are all splits of a panel with their exact probabilities, those
    of the multivariate hypergeometric distribution (above `MOST_CASES`, random splits). `guessers` is a function from
    the size of a panel to the number of its raters who predict. A clip is left out if no rater would predict, or none
    would score.
    """

    def count(panel: Panel) -> int:
        return min(prod(n + 1 for n in panel.raters), _number_of_compositions(guessers(panel.size), len(panel.raters)))

    def cases(panel: Panel, most: int) -> Cases:
        raters, size = np.array(panel.raters), guessers(panel.size)
        if count(panel) > most:
            rng = np.random.default_rng([size, *panel.raters])
            hands = rng.multivariate_hypergeometric(raters, size, min(most, MOST_RANDOM))
            probability = np.full(len(hands), 1 / len(hands))
        else:
            if _number_of_compositions(size, len(raters)) < prod(n + 1 for n in panel.raters):
                every = _compositions(size, len(raters))
            else:
                every = np.indices([n + 1 for n in panel.raters]).reshape(len(raters), -1).T
            hands = every[(every.sum(axis=1) == size) & (every <= raters).all(axis=1)]
            probability = np.exp(_log_binomial(raters, hands).sum(axis=1) - _log_binomial(panel.size, size))
        return panel.votes(hands), panel.votes(raters - hands), panel.noise(raters - hands), probability

    return _trials([p if p and 0 < guessers(p.size) < p.size else None for p in panels], count, cases)


def resampled_panels(panels: Sequence[Panel | None]) -> Trials | None:
    """Return the trials where each clip's votes predict and a new panel of the same size, drawn from them, scores.

    As in a bootstrap, the votes' shares stand for the true ones. The cases are all panels with their exact
    probabilities, those of the multinomial distribution (above `MOST_CASES`, random panels). The result is None if no
    clip has a panel.
    """

    def count(panel: Panel) -> int:
        return _number_of_compositions(panel.size, len(panel.raters))

    def cases(panel: Panel, most: int) -> Cases:
        raters = np.array(panel.raters)
        if count(panel) > most:
            rng = np.random.default_rng(panel.raters)
            hands = rng.multinomial(panel.size, raters / panel.size, min(most, MOST_RANDOM))
            probability = np.full(len(hands), 1 / len(hands))
        else:
            hands = _compositions(panel.size, len(raters))
            probability = multinomial.pmf(hands, panel.size, raters / panel.size)
        votes = panel.votes(hands)
        return np.broadcast_to(panel.votes(raters), votes.shape), votes, panel.noise(hands), probability

    return _trials(panels, count, cases)


def _log_binomial(n: ArrayLike, k: ArrayLike) -> Array:
    """Return the logarithms of binomial coefficients, which are too large for floats from about 1,030 raters on."""
    n, k = np.asarray(n), np.asarray(k)
    return -betaln(n - k + 1, k + 1) - np.log(n + 1)


def _number_of_compositions(total: int, parts: int) -> int:
    """Return the length of `_compositions`."""
    return comb(total + parts - 1, total)


@lru_cache
def _compositions(total: int, parts: int) -> NDArray[np.int64]:
    """Return all ways to write `total` as an ordered sum of `parts` non-negative integers, shape (ways, parts)."""
    # Stars and bars: parts - 1 bars among total + parts - 1 places leave the parts between them.
    places = total + parts - 1
    bars = np.array([*combinations(range(places), parts - 1)], dtype=int)
    bars = bars.reshape(_number_of_compositions(total, parts), parts - 1)
    edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, places)))
    return np.diff(edges, axis=1) - 1


def _trials(
    panels: Sequence[Panel | None], count: Callable[[Panel], int], cases: Callable[[Panel, int], Cases]
) -> Trials | None:
    """Return the trials of all clips with a panel; the cases of each different panel are computed once.

    `count` returns the number of a panel's cases, or an upper bound of it; `cases` takes a panel and a number, and
    returns all cases, or at most so many random ones if there are more.
    """
    numbers: dict[Panel, int] = {}
    clips = [clip for clip, panel in enumerate(panels) if panel]
    of_clip = [numbers.setdefault(panel, len(numbers)) for panel in panels if panel]
    if not clips:
        return None
    most = max(MOST_CASES // len(numbers), 1) if sum(map(count, numbers)) > MOST_CASES else MOST_CASES
    given, votes, noise, probability = zip(*(cases(panel, most) for panel in numbers), strict=True)
    ends = np.cumsum([len(part) for part in probability])
    return Trials(
        given=np.concatenate(given),
        votes=np.concatenate(votes),
        noise=np.concatenate(noise),
        probability=np.concatenate(probability),
        first=np.concatenate([[0], ends[:-1]]),
        clips=np.array(clips),
        panel=np.array(of_clip),
    )

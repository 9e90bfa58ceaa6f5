"""Linear probes: how well the votes can be predicted from states of a model, on held-out speakers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from ambi_eval.analysis.estimate import Estimate, of_mean
from ambi_eval.analysis.information.folds import SEED, Folds, Rows
from ambi_eval.errors import AmbiError
from ambi_eval.metrics.distribution import NLL_FLOOR
from ambi_eval.votes import Array, shares

States = NDArray[np.floating]

# The inner folds choose one of these strengths of the L2 penalty, in clips. The strongest comes first: each fit starts
# from the weights of the one before it.
STRENGTHS = (1e5, 1e4, 1e3, 1e2, 1e1, 1.0)
# States with more numbers are reduced to this many principal components; a 7B model has 12,288 numbers at each place.
MOST_DIRECTIONS = 128
MOST_STEPS, TOLERANCE = 100, 1e-6


@dataclass(frozen=True, eq=False)
class Reading:
    """The predictions of a probe on the clips of held-out speakers.

    Attributes:
        p: Predicted distributions, shape (clips, labels); NaN for clips of unknown speakers.
        bits: Bits per vote gained over the prior of the other speakers, shape (clips,).
    """

    p: Array
    bits: Array
    gain: Estimate
    places: tuple[str, ...]

    @property
    def place(self) -> str:
        """The place that was chosen most often."""
        return Counter(self.places).most_common(1)[0][0]


class Probes:
    """Probes of several places in a model, and the best place for each fold.

    A probe is a multinomial logistic regression with an L2 penalty. It predicts the vote shares from the standardized
    states (from their first `MOST_DIRECTIONS` principal components, if there are more numbers); its loss is the
    cross-entropy. Inner folds of a fold's training speakers choose the strength of the penalty and, among several
    places, the place. No step uses the test speakers, not even the standardization.

    Source: Hewitt and Liang (2019), Designing and interpreting probes with control tasks.
    """

    def __init__(self, folds: Folds, *, shuffle: int | None = None) -> None:
        """Take the clips, and the seed of a control: shuffled training votes, whose gain must be 0."""
        self.folds = folds
        self.shuffle = shuffle
        self._losses: dict[str, list[float]] = {}
        self._predicted: dict[str, list[Array]] = {}

    def fit(self, place: str, states: States) -> Reading:
        """Fit the probes of one place, which `best` may then choose, and return their predictions.

        `states` has shape (clips, numbers).

        Raises:
            AmbiError: If a state is NaN or infinite.
        """
        if broken := int((~np.isfinite(states)).any(axis=1).sum()):
            raise AmbiError(
                f"{place}: the states of {broken} of {len(states)} clips hold NaN or infinity, so no probe can read "
                "them; load the model with dtype=bfloat16 or dtype=float32, and name another --output"
            )
        self._losses[place], self._predicted[place] = [], []
        for number, (seen, unseen) in enumerate(self.folds.splits):
            q = shares(self.folds.votes)
            if self.shuffle is not None:  # differently in each fold, so that chance averages out
                q[seen] = q[np.random.default_rng([self.shuffle, number]).permutation(seen)]
            losses = np.zeros(len(STRENGTHS))
            for fit_on, choose_on in self.folds.inner(seen):
                for strength, p in enumerate(_path(states, q, fit_on, choose_on, STRENGTHS)):
                    losses[strength] -= (q[choose_on] * np.log(np.maximum(p, NLL_FLOOR))).sum()
            chosen = int(losses.argmin())
            *_, p = _path(states, q, seen, unseen, STRENGTHS[: chosen + 1])
            self._losses[place].append(float(losses[chosen]))
            self._predicted[place].append(p)
        return self.best([place])

    def best(self, places: Sequence[str]) -> Reading:
        """Return the predictions if each fold uses the place that its inner folds choose."""
        p = np.full(self.folds.votes.shape, np.nan)
        chosen = []
        for number, (_, unseen) in enumerate(self.folds.splits):
            place = min(places, key=lambda name: self._losses[name][number])
            p[unseen] = self._predicted[place][number]
            chosen.append(place)
        bits = self.folds.bits(p)
        return Reading(p, bits, of_mean(bits, self.folds.clusters), tuple(chosen))


def read(states: Mapping[str, States], folds: Folds, *, shuffle: int | None = None) -> Reading:
    """Return the predictions of probes of one or several places; each fold uses the place that its inner folds choose.

    `states` are those of each place, shape (clips, numbers); `shuffle` is the seed of a control, as in `Probes`.
    """
    probes = Probes(folds, shuffle=shuffle)
    for place, of_place in states.items():
        probes.fit(place, of_place)
    return probes.best(list(states))


def of_another_clip(states: States, folds: Folds) -> States:
    """Return for each clip the state of another clip of its speaker: a control that keeps nothing but who speaks.

    The other clip is the next one in a random circle through the speaker's clips, the same in every run. If a speaker
    has only one clip, the mean state of all clips takes its place. States have shape (clips, numbers).
    """
    others = states.copy()
    for group in np.unique(folds.groups):
        circle = np.random.default_rng(SEED).permutation(np.flatnonzero(folds.groups == group))
        others[circle] = states[np.roll(circle, 1)] if len(circle) > 1 else states.mean(axis=0)
    return others


def softmax_regression(x: Array, q: Array, strength: float, start: Array) -> Array:
    """Return the weights of a softmax regression with an L2 penalty, shape (numbers + 1, labels).

    They minimize the sum over clips of -q log softmax(x W + b), plus strength / 2 |W|^2; b is the last row. `x` has
    shape (clips, numbers), and `q`, the distributions to predict, (clips, labels). `start` are the initial weights.
    """

    def loss(flat: Array) -> tuple[float, Array]:
        weights = flat.reshape(start.shape)
        logits = x @ weights[:-1] + weights[-1]
        logp = log_softmax(logits, axis=1)
        error = np.exp(logp) - q
        slope = np.vstack([x.T @ error + strength * weights[:-1], error.sum(axis=0)])
        return float(-(q * logp).sum() + strength / 2 * np.square(weights[:-1]).sum()), slope.ravel()

    found = minimize(
        loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": MOST_STEPS, "ftol": TOLERANCE}
    )
    return np.asarray(found.x).reshape(start.shape)


def _path(states: States, q: Array, fit_on: Rows, test_on: Rows, strengths: Sequence[float]) -> Iterator[Array]:
    """Yield the predictions for the test clips by probes of these strengths."""
    seen, unseen = _reduced(states[fit_on], states[test_on])
    weights = np.zeros((seen.shape[1] + 1, q.shape[1]))
    weights[-1] = np.log(np.maximum(q[fit_on].mean(axis=0), NLL_FLOOR))
    for strength in strengths:
        weights = softmax_regression(seen, q[fit_on], strength, weights)
        yield softmax(unseen @ weights[:-1] + weights[-1], axis=1)


def _reduced(seen: States, unseen: States) -> tuple[Array, Array]:
    """Return standardized states in at most `MOST_DIRECTIONS` dimensions; both steps are fitted to `seen` alone."""
    middle, spread = seen.mean(axis=0), seen.std(axis=0)
    varying = spread > 1e-6 * (1 + np.abs(middle))  # numbers that do not vary hold no information
    seen, unseen = ((each[:, varying] - middle[varying]) / spread[varying] for each in (seen, unseen))
    most = min(MOST_DIRECTIONS, len(seen))  # n clips span at most n dimensions
    if seen.shape[1] > most:
        from sklearn.decomposition import PCA  # the import takes half a second, and only wide states need it

        directions = PCA(most, random_state=SEED).fit(seen)
        seen, unseen = directions.transform(seen), directions.transform(unseen)
    return seen.astype(float), unseen.astype(float)

"""How much about the votes a linear probe reads from states of a model, on speakers that it has never seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from ambi_eval.analysis.estimate import Estimate, of_mean
from ambi_eval.analysis.information.folds import SEED, Array, Folds, Rows
from ambi_eval.errors import AmbiError
from ambi_eval.metrics.distribution import NLL_FLOOR
from ambi_eval.votes import shares

States = NDArray[np.floating]

# Strengths of the L2 penalty among which the inner folds choose, in clips, the strongest first: each fit begins where
# the one before has ended.
STRENGTHS = (1e5, 1e4, 1e3, 1e2, 1e1, 1.0)
# A probe sees the states in so many directions at most: a 7B model has 12,288 numbers a place.
MOST_DIRECTIONS = 128
MOST_STEPS, TOLERANCE = 100, 1e-6


@dataclass(frozen=True, eq=False)
class Reading:
    """What a probe reads on clips of speakers that it was not fitted on.

    Attributes:
        p: Predicted distributions, shape (clips, labels); NaN for clips of unknown speakers.
        bits: Of each clip, the bits per vote gained over the prior of the other speakers, shape (clips,).
        gain: Their mean with its 95 % interval, clustered.
        places: The place that was chosen for each fold.
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
    """The best probe of each of several places, fold by fold.

    A multinomial logistic regression with an L2 penalty on standardized states (their first `MOST_DIRECTIONS` principal
    components where there are more) predicts the vote shares; its loss is the cross-entropy. Of each fold, the inner
    folds among the speakers to fit on choose the strength of the penalty, and the place where there are several. No
    step, the standardization included, sees a speaker that is tested.

    Source: Hewitt and Liang (2019), Designing and interpreting probes with control tasks.
    """

    def __init__(self, folds: Folds, *, shuffle: int | None = None) -> None:
        """Set up.

        Args:
            folds: The clips.
            shuffle: Seed with which the votes of the clips that a fold may see are dealt at random among them: a
                control that must read nothing. None: they are not.
        """
        self.folds = folds
        self.shuffle = shuffle
        self._losses: dict[str, list[float]] = {}
        self._predicted: dict[str, list[Array]] = {}

    def fit(self, place: str, states: States) -> Reading:
        """Fit the probes of one place, which `best` may then choose, and return what they read.

        Args:
            place: Its name.
            states: Its states, shape (clips, numbers).

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
            if self.shuffle is not None:  # in another way for each fold, so that chance averages out
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
        """Return what is read where each fold takes the place that its inner folds choose."""
        p = np.full(self.folds.votes.shape, np.nan)
        chosen = []
        for number, (_, unseen) in enumerate(self.folds.splits):
            place = min(places, key=lambda name: self._losses[name][number])
            p[unseen] = self._predicted[place][number]
            chosen.append(place)
        bits = self.folds.bits(p)
        return Reading(p, bits, of_mean(bits, self.folds.clusters), tuple(chosen))


def read(states: Mapping[str, States], folds: Folds, *, shuffle: int | None = None) -> Reading:
    """Return what probes read from states of one place or several, of which each fold takes the best.

    Args:
        states: Of each place (a layer, for example), states, shape (clips, numbers).
        folds: The clips.
        shuffle: Seed with which votes are dealt to the clips at random (`Probes`); None: they are not.
    """
    probes = Probes(folds, shuffle=shuffle)
    for place, of_place in states.items():
        probes.fit(place, of_place)
    return probes.best(list(states))


def of_another_clip(states: States, folds: Folds) -> States:
    """Return for each clip the state of another clip of the same speaker: what states tell of who speaks alone.

    The next one in a random circle through the speaker's clips, the same in every run. Where a speaker has one clip
    only, it is the mean state of all clips.

    Args:
        states: States, shape (clips, numbers).
        folds: The clips.
    """
    others = states.copy()
    for group in np.unique(folds.groups):
        circle = np.random.default_rng(SEED).permutation(np.flatnonzero(folds.groups == group))
        others[circle] = states[np.roll(circle, 1)] if len(circle) > 1 else states.mean(axis=0)
    return others


def softmax_regression(x: Array, q: Array, strength: float, start: Array) -> Array:
    """Return the weights of the softmax regression with the least penalized cross-entropy.

    -sum q log softmax(x W + b) + strength / 2 |W|^2, over all clips.

    Args:
        x: Inputs, shape (clips, numbers).
        q: Distributions to predict, shape (clips, labels).
        strength: Of the penalty; the intercept b has none.
        start: The weights to begin with, shape (numbers + 1, labels); the last row is b.

    Returns:
        Weights, shape (numbers + 1, labels).
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
    """Yield what probes of these strengths predict for some clips when they are fitted on others."""
    seen, unseen = _reduced(states[fit_on], states[test_on])
    weights = np.zeros((seen.shape[1] + 1, q.shape[1]))
    weights[-1] = np.log(np.maximum(q[fit_on].mean(axis=0), NLL_FLOOR))
    for strength in strengths:
        weights = softmax_regression(seen, q[fit_on], strength, weights)
        yield softmax(unseen @ weights[:-1] + weights[-1], axis=1)


def _reduced(seen: States, unseen: States) -> tuple[Array, Array]:
    """Return states in standard units and at most `MOST_DIRECTIONS` directions, as the first ones alone define them."""
    middle, spread = seen.mean(axis=0), seen.std(axis=0)
    varying = spread > 1e-6 * (1 + np.abs(middle))  # what never changes tells nothing
    seen, unseen = ((each[:, varying] - middle[varying]) / spread[varying] for each in (seen, unseen))
    most = min(MOST_DIRECTIONS, len(seen))  # so many clips lie in no more directions than that
    if seen.shape[1] > most:
        from sklearn.decomposition import PCA  # half a second that only wide states need

        directions = PCA(most, random_state=SEED).fit(seen)
        seen, unseen = directions.transform(seen), directions.transform(unseen)
    return seen.astype(float), unseen.astype(float)

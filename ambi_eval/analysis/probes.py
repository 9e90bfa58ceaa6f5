"""How much about the votes a linear probe reads from states of a model, in bits per vote, on speakers it never saw."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ambi_eval.analysis.estimate import Estimate, of_mean
from ambi_eval.errors import AmbiError
from ambi_eval.metrics.distribution import NLL_FLOOR
from ambi_eval.votes import shares

Array = NDArray[np.float64]

OUTER_FOLDS = 5
INNER_FOLDS = 3
# Inverse strengths of the L2 penalty among which the inner folds choose, weakest probe first.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# More directions than this are not tried: a 7B model has 12,288 numbers a place, a corpus some thousand clips.
MOST_DIRECTIONS = 128
SEED = 0


@dataclass(frozen=True, eq=False)
class Reading:
    """What a probe reads on clips of speakers that it was not fitted on.

    Attributes:
        p: Predicted distributions, shape (clips, labels).
        bits: Of each clip, the bits per vote gained over the prior of the other speakers, shape (clips,); below 0 where
            the prediction is worse than that prior.
        gain: Their mean with its 95 % interval, clustered.
        places: Which of the places was chosen for each outer fold.
    """

    p: Array
    bits: Array
    gain: Estimate
    places: tuple[str, ...]


def read(states: dict[str, Array], votes: Array, clusters: Sequence[Hashable], *, shuffled: bool = False) -> Reading:
    """Fit a probe to states and return what it reads on held-out speakers.

    A multinomial logistic regression with an L2 penalty on standardised states (their first `MOST_DIRECTIONS` principal
    components where there are more) predicts the votes: each vote is one observation, so that its loss is the
    cross-entropy of the vote distribution. The speakers are dealt into `OUTER_FOLDS` folds. On the speakers of the
    other folds, `INNER_FOLDS` inner folds choose the strength of the penalty and, where there are several, the place.
    No step sees a held-out speaker.

    Args:
        states: Of each place (a layer, for example), states, shape (clips, numbers).
        votes: Votes, shape (clips, labels); each clip has at least one.
        clusters: Each clip's speaker or session.
        shuffled: Fit to votes that were dealt to the clips at random: a control that must read nothing.

    Raises:
        AmbiError: If there are fewer than three speakers.

    Source: Hewitt and Liang (2019), Designing and interpreting probes with control tasks; Xu et al. (2020), A theory of
    usable information under computational constraints (the gain over the prior is the usable information).
    """
    groups = np.unique([str(cluster) for cluster in clusters], return_inverse=True)[1]
    n_groups = int(groups.max()) + 1
    if n_groups < 3:
        raise AmbiError(f"a probe needs clips of at least three speakers to be fitted and tested, there are {n_groups}")
    fitted_to = votes[np.random.default_rng(SEED).permutation(len(votes))] if shuffled else votes
    p, prior = np.empty_like(votes, dtype=float), np.empty_like(votes, dtype=float)
    chosen = []
    for seen, unseen in _folds(groups, min(OUTER_FOLDS, n_groups)):
        place, strength = _choose(states, fitted_to, groups, seen)
        probe = _fit(states[place][seen], fitted_to[seen], strength)
        p[unseen] = _predict(probe, states[place][unseen], votes.shape[1])
        prior[unseen] = shares(votes[seen]).mean(axis=0)
        chosen.append(place)
    bits = bits_gained(p, prior, votes)
    return Reading(p, bits, of_mean(bits, clusters), tuple(chosen))


def bits_gained(p: Array, prior: Array, votes: Array) -> Array:
    """Return the bits per vote gained over a prior, the sum over labels of q log2(p / prior), shape (clips,).

    Args:
        p: Predicted distributions, shape (clips, labels); shares below `NLL_FLOOR` count as that.
        prior: What is known without listening, shape (clips, labels) or (labels,).
        votes: Votes, shape (clips, labels); q are their shares.

    >>> bits_gained(np.array([[1.0, 0.0]]), np.array([0.5, 0.5]), np.array([[4, 0]])).tolist()
    [1.0]
    """
    ratio = np.log2(np.maximum(p, NLL_FLOOR)) - np.log2(np.maximum(prior, NLL_FLOOR))
    return (shares(votes) * ratio).sum(axis=-1)


def _folds(groups: NDArray[np.intp], n: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return the clips to fit on and the clips to test on, of each fold; no speaker stands on both sides."""
    return list(GroupKFold(n, shuffle=True, random_state=SEED).split(groups, groups=groups))


def _choose(
    states: dict[str, Array], votes: Array, groups: NDArray[np.intp], seen: NDArray[np.intp]
) -> tuple[str, float]:
    """Return the place and the strength that predict best within the speakers that may be seen."""
    inner = _folds(groups[seen], min(INNER_FOLDS, len(np.unique(groups[seen]))))
    losses = {}
    for place, of_place in states.items():
        for strength in STRENGTHS:
            loss = 0.0
            for fit_on, test_on in inner:
                probe = _fit(of_place[seen[fit_on]], votes[seen[fit_on]], strength)
                p = _predict(probe, of_place[seen[test_on]], votes.shape[1])
                loss -= float((shares(votes[seen[test_on]]) * np.log(np.maximum(p, NLL_FLOOR))).sum())
            losses[place, strength] = loss
    return min(losses, key=lambda setting: losses[setting])


def _fit(states: Array, votes: Array, strength: float) -> Pipeline:
    """Fit a probe; a label that nobody chose is unknown to it."""
    clips, labels = np.nonzero(votes)
    directions = min(MOST_DIRECTIONS, states.shape[1], len(states))
    steps = [StandardScaler()]
    if directions < states.shape[1]:
        steps.append(PCA(directions, random_state=SEED))
    probe = make_pipeline(*steps, LogisticRegression(C=strength, max_iter=200))
    reduced = probe[:-1].fit(states).transform(states)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe[-1].fit(reduced[clips], labels, sample_weight=shares(votes)[clips, labels])
    return probe


def _predict(probe: Pipeline, states: Array, n_labels: int) -> Array:
    """Return distributions over all labels, shape (clips, labels)."""
    p = np.zeros((len(states), n_labels))
    p[:, probe[-1].classes_] = probe.predict_proba(states)
    return p

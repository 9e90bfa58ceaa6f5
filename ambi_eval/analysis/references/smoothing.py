"""Temperature and shrinkage towards the prior, fitted on other speakers: the gain from calibration alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from ambi_eval.errors import AmbiError
from ambi_eval.metrics import METRICS
from ambi_eval.votes import Array, shares

FOLDS = 10
# Of equally good settings the first is chosen; 1 comes first, because one-hot predictions are the same at any
# temperature.
TEMPERATURES = (1.0, 0.7, 1.4, 0.5, 2.0, 2.8, 4.0)
# Shares of the prior in the mixture.
WEIGHTS = tuple(np.linspace(0, 1, 21).round(2).tolist())
CRITERION = METRICS["nll_bits"]


def smooth_towards_prior(p: Array, votes: Array, clusters: Sequence[str]) -> tuple[Array, str]:
    """Return predictions with a temperature T and a weight w of the prior, which are fitted on other speakers only.

    The new prediction is (1 - w) p^(1/T) / sum p^(1/T) + w prior. The speakers (or sessions) are split into ten folds.
    For each fold, the prior is the mean distribution of the other nine, and T and w are the values of a grid with the
    largest likelihood of their votes.

    `p` and `votes` have shape (clips, labels); rows of NaN stay. The second result is a sentence with the fitted
    values.

    Raises:
        AmbiError: If there is only one cluster.
    """
    names = sorted(set(clusters))
    if len(names) < 2:
        raise AmbiError(
            f"--smooth is fitted on other speakers, and all clips depend on one, '{names[0]}': leave it out"
        )
    order = np.random.default_rng(0).permutation(len(names))
    fold_of = {names[number]: place % FOLDS for place, number in enumerate(order)}
    fold = np.array([fold_of[cluster] for cluster in clusters])
    smoothed = np.empty_like(p)
    chosen = []
    for held_out in (fold == number for number in np.unique(fold)):
        # In column-major order, sums over a few labels are several times faster.
        seen_p, seen_votes = np.asfortranarray(p[~held_out]), np.asfortranarray(votes[~held_out])
        prior = shares(seen_votes).mean(axis=0)
        losses = {
            (temperature, weight): CRITERION.value(mixed(seen_p, prior, temperature, weight), seen_votes)
            for temperature, weight in product(TEMPERATURES, WEIGHTS)
        }
        best = min(losses, key=lambda setting: losses[setting])
        smoothed[held_out] = mixed(p[held_out], prior, *best)
        chosen.append(best)
    temperature, weight = np.mean(chosen, axis=0)
    return smoothed, f"smoothed: temperature {temperature:.2f}, {weight:.0%} prior on average over {len(chosen)} folds"


def mixed(p: Array, prior: Array, temperature: float, weight: float) -> Array:
    """Return (1 - weight) softmax(log p / temperature) + weight prior, shape (clips, labels).

    >>> mixed(np.array([[1.0, 0.0]]), np.array([0.5, 0.5]), temperature=2.0, weight=0.4).tolist()
    [[0.8, 0.2]]
    """
    powers = p ** (1 / temperature)
    return (1 - weight) * powers / powers.sum(axis=1, keepdims=True) + weight * prior

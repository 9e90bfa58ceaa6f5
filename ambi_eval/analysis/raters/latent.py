"""Models that assume one true label for each clip (Dawid-Skene, MACE), as predictors of held-out ballots."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ambi_eval.analysis.raters.ballots import Ballots
from ambi_eval.errors import AmbiError
from ambi_eval.votes import Array

FOLDS = 5
SEED = 0
# With a fixed seed, crowd-kit starts every restart at the same point, so one is enough.
MACE_RESTARTS = 1
MACE_ITERATIONS = 50


def latent_truth(ballots: Ballots) -> dict[str, Array]:
    """Return the predictions of each ballot by models of a true label, each fitted without that ballot.

    The ballots of each clip are split into five folds. For each fold, a model is fitted on all other ballots. So the
    ballot of one of five raters is predicted from the other four, as for the reference `one_human`.

    - `dawid_skene`: the probability that each label is the clip's true label. Each rater has a confusion matrix, the
      probability of each answer given the true label.
    - `dawid_skene_rater`: the ballot of this rater, by the same model: the rater's confusion matrix, averaged over the
      true label. For a rater without another ballot it is the confusion matrix of all raters together.
    - `mace`: the probability of each true label, if each rater knows it with a probability of his or her own, and
      otherwise answers independently of the clip.

    The probability of a true label does not estimate the shares of the votes: with more raters it goes to 0 or 1.

    Sources: Dawid and Skene (1979), Maximum likelihood estimation of observer error-rates using the EM algorithm; Hovy,
    Berg-Kirkpatrick, Vaswani and Hovy (2013), Learning whom to trust with MACE. Fitted by crowd-kit.

    Returns:
        By model, distributions of shape (B, labels).

    Raises:
        AmbiError: If crowd-kit is not installed.
    """
    try:
        from crowdkit.aggregation import MACE, DawidSkene
    except ImportError as error:
        raise AmbiError(
            "Dawid-Skene and MACE need crowd-kit: pip install 'ambi_eval[raters]', or leave them out with --no-latent"
        ) from error
    fold, n_labels = _folds(ballots), ballots.votes.shape[1]
    predicted = {name: np.empty_like(ballots.votes) for name in ("dawid_skene", "dawid_skene_rater", "mace")}
    for number in tqdm(range(FOLDS), "latent truth", unit="fold", disable=None):
        held_out = np.flatnonzero(fold == number)
        if not len(held_out):
            continue
        seen = _table(ballots, np.flatnonzero(fold != number))
        here = ballots.clip[held_out]
        model = DawidSkene().fit(seen)
        truth = _of_clips(model.probas_, here, n_labels)
        predicted["dawid_skene"][held_out] = truth
        confusion = _confusions(model.errors_, len(ballots.names), n_labels)[ballots.rater[held_out]]
        predicted["dawid_skene_rater"][held_out] = np.einsum("bc,blc->bl", truth, confusion)
        mace = MACE(n_restarts=MACE_RESTARTS, n_iter=MACE_ITERATIONS, random_state=SEED).fit(seen)
        predicted["mace"][held_out] = _of_clips(mace.probas_, here, n_labels)
    return predicted


def _folds(ballots: Ballots) -> NDArray[np.intp]:
    """Return the fold of each ballot, shape (B,): the ballots of one clip go to the folds in turn, in random order."""
    rng = np.random.default_rng(SEED)
    order = np.lexsort((rng.random(len(ballots.clip)), ballots.clip))
    first = np.searchsorted(ballots.clip, ballots.clip)  # where each ballot's clip begins
    fold = np.empty(len(order), dtype=np.intp)
    fold[order] = (np.arange(len(order)) - first) % FOLDS
    return fold


def _table(ballots: Ballots, rows: NDArray[np.intp]) -> Any:
    """Return ballots as crowd-kit takes them; a ballot for several labels is a row for each."""
    import pandas as pd

    ballot, label = np.nonzero(ballots.votes[rows])
    return pd.DataFrame({"task": ballots.clip[rows][ballot], "worker": ballots.rater[rows][ballot], "label": label})


def _of_clips(probabilities: Any, clips: NDArray[np.intp], n_labels: int) -> Array:
    """Return the distribution of each clip's true label, shape (len(clips), labels); 0 for labels without a ballot."""
    p = probabilities.reindex(index=clips, columns=range(n_labels), fill_value=0.0).to_numpy(dtype=float)
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def _confusions(errors: Any, n_raters: int, n_labels: int) -> Array:
    """Return the probability of each answer of each rater given the true label, shape (raters, answers, true labels).

    Where a rater has no ballot for a true label, it is that of all raters together.
    """
    known = np.zeros((n_raters, n_labels, n_labels))
    places = errors.index.get_level_values("worker"), errors.index.get_level_values("label")
    known[places] = errors.reindex(columns=range(n_labels), fill_value=0.0)
    pooled = known.sum(axis=0) + 1e-9
    sums = known.sum(axis=1, keepdims=True)
    return np.where(sums > 0.5, known / np.maximum(sums, 0.5), pooled / pooled.sum(axis=0))

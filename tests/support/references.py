"""What predictions and a single rater score on votes, computed with scipy and numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from ambi_eval.analysis.ambiguity import Binned


def references(votes: NDArray[np.float64]) -> dict[str, float]:
    """JSD in bits of trivial predictions and of one rater against the others, and the accuracy of one label."""
    q = votes / votes.sum(axis=1, keepdims=True)
    top = np.isclose(votes, votes.max(axis=1, keepdims=True))
    majority = top / top.sum(axis=1, keepdims=True)

    def jsd(p: NDArray[np.float64], against: NDArray[np.float64] = q) -> NDArray[np.float64]:
        return np.asarray(jensenshannon(p, against, base=2, axis=-1) ** 2)

    ballots = np.eye(votes.shape[1])
    others = np.maximum(votes[:, None] - ballots, 0)
    others /= np.maximum(others.sum(axis=-1, keepdims=True), 1e-9)
    return {
        "uniform": float(np.mean(jsd(np.full_like(q, 1 / votes.shape[1])))),
        "prior": float(np.mean(jsd(np.broadcast_to(q.mean(axis=0), q.shape)))),
        "oracle": float(np.mean(jsd(majority))),
        "one human": float(
            np.mean((q * np.nan_to_num(jsd(np.broadcast_to(ballots, others.shape), others))).sum(axis=1))
        ),
        "always": float(majority.mean(axis=0).max()),
    }


def jsd_in_bins(p: NDArray[np.float64], votes: NDArray[np.float64], binned: Binned) -> list[float]:
    """JSD in bits of predictions in each bin against the raters who did not make the bins; 1 without a prediction.

    The raters of a clip who do not judge are two or three, and their entropy alone puts the clip into its bin.
    """
    judging = binned.judged.votes
    making = votes[binned.numbers] - judging
    assert (making >= 0).all()
    assert set(making.sum(axis=1)) <= {2, 3}
    assert judging.sum(axis=1).min() >= 2
    ambiguity = entropy(making, base=2, axis=1)
    ends = [(ambiguity[b.members].min(), ambiguity[b.members].max()) for b in binned.bins]
    assert np.allclose(ends, [(b.low, b.high) for b in binned.bins], atol=1e-8)
    assert np.all(np.diff(np.ravel(ends)) >= 0), "bins do not overlap"
    errors = jensenshannon(p[binned.numbers], judging / judging.sum(axis=1, keepdims=True), base=2, axis=1) ** 2
    return [float(np.nan_to_num(errors[b.members], nan=1.0).mean()) for b in binned.bins]

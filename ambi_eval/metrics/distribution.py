"""Metrics of the distance between a predicted distribution and the votes on one clip.

Every function takes `p` (predicted distributions) and `votes` (counts per label), both of shape (..., labels) and
broadcast against each other, and returns one number per clip, shape (...). In formulas q = votes / sum(votes) are the
human shares. A row of `p` that holds NaN (a clip without a valid prediction) gives NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ambi_eval.votes import TIE_TOLERANCE, Array, entropy_bits, noise_of_whole_votes, shares

# Predicted shares below this count as this in logarithms.

NLL_FLOOR = 1e-4


def jensen_shannon_divergence_bits(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return the Jensen-Shannon divergence H((p + q) / 2) - (H(p) + H(q)) / 2, 0 to 1 bit.

    It is 0 if the distributions are equal and 1 if they share no label, and it is symmetric in p and q. It is not a
    proper score for a finite panel: the prediction with the least expected divergence is sharper than the true shares.

    Source: Lin (1991), Divergence measures based on the Shannon entropy.

    >>> round(float(jensen_shannon_divergence_bits([0.5, 0.5, 0, 0], [4, 0, 0, 0])), 4)
    0.3113
    """
    p, q = np.asarray(p, dtype=float), shares(votes)
    divergence = entropy_bits((p + q) / 2) - (entropy_bits(p) + entropy_bits(q)) / 2
    return np.maximum(divergence, 0.0)  # rounding leaves -1e-16 for equal distributions


def jensen_shannon_distance_nats(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return the Jensen-Shannon distance: the square root of the divergence taken with natural logarithms.

    It is a metric in the mathematical sense, 0 (equal) to sqrt(ln 2) = 0.8326 (no label shared). AER-LLM (arXiv
    2409.18339) reports it, and `scipy.spatial.distance.jensenshannon` computes it.

    Source: Endres and Schindelin (2003), A new metric for probability distributions.

    >>> round(float(jensen_shannon_distance_nats([0.5, 0.5, 0, 0], [4, 0, 0, 0])), 4)
    0.4645
    """
    return np.sqrt(np.log(2) * jensen_shannon_divergence_bits(p, votes))


def bhattacharyya_coefficient(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return the Bhattacharyya coefficient, the sum over labels of sqrt(p q).

    It is 1 if the distributions are equal and 0 if they share no label. It bounds the Jensen-Shannon divergence: 1 - BC
    <= JSD in bits <= (1 - BC) / ln 2. Like that, it is not a proper score for a finite panel.

    Source: Bhattacharyya (1943), On a measure of divergence between two statistical populations.

    >>> round(float(bhattacharyya_coefficient([0.5, 0.5, 0, 0], [4, 0, 0, 0])), 4)
    0.7071
    """
    return np.sqrt(np.asarray(p, dtype=float) * shares(votes)).sum(axis=-1)


def pearson_r(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return Pearson's correlation between p and q across the labels of each clip, -1 to 1.

    If p or q is constant over the labels (the uniform distribution), the correlation is undefined; it is 0 by
    convention, because a constant prediction does not order the labels.

    >>> round(float(pearson_r([0.0, 0.3, 0.3, 0.4], [3, 0, 0, 0])), 4)
    -0.9623
    """
    p, q = np.asarray(p, dtype=float), shares(votes)
    p_deviation = p - p.mean(axis=-1, keepdims=True)
    q_deviation = q - q.mean(axis=-1, keepdims=True)
    p_length = np.sqrt(np.square(p_deviation).sum(axis=-1))
    q_length = np.sqrt(np.square(q_deviation).sum(axis=-1))
    constant = np.minimum(p_length, q_length) <= TIE_TOLERANCE  # False for NaN, so NaN stays
    product = (p_deviation * q_deviation).sum(axis=-1)
    return np.where(constant, 0.0, product / np.where(constant, 1.0, p_length * q_length))


def pearson_r_squared(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return the square of `pearson_r`, 0 to 1, the "R2" of AER-LLM (arXiv 2409.18339).

    It ignores the sign: (0, 1/3, 1/3, 1/3) against votes (1, 0, 0, 0) scores 1. Chance is not 0: two unrelated vectors
    over C labels score 1 / (C - 1) on average.

    >>> round(float(pearson_r_squared([0, 1 / 3, 1 / 3, 1 / 3], [1, 0, 0, 0])), 4)
    1.0
    """
    return np.square(pearson_r(p, votes))


def negative_log_likelihood_bits(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return the negative log-likelihood per vote, -sum q log2 max(p, NLL_FLOOR), 0 to 13.29 bits.

    Predicted shares below NLL_FLOOR = 0.0001 count as that, so a vote for a label with share 0 costs 13.29 bits instead
    of infinitely many. Shares are not renormalized afterwards, so a prediction without such shares is scored exactly.
    It is a proper score for panels of any size: the true shares have the least expected value. (Exception: to state a
    true share below 0.0003 as 0 may score better.)

    Source: Good (1952), Rational decisions (the logarithmic score).

    >>> round(float(negative_log_likelihood_bits([0.5, 0.25, 0.25], [2, 1, 1])), 4)
    1.5
    """
    p = np.asarray(p, dtype=float)
    return -(shares(votes) * np.log2(np.maximum(p, NLL_FLOOR))).sum(axis=-1) + 0.0  # no -0.0


def kullback_leibler_bits(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return the Kullback-Leibler divergence of the predicted from the human shares, sum q log2(q / max(p, NLL_FLOOR)).

    It is `negative_log_likelihood_bits` minus the entropy of the human shares, with the same floor for predicted
    shares; without a floor, a vote for a label with share 0 makes it infinite. Papers use other floors or smooth the
    votes instead, so compare only figures with the same floor. The range is 0 (equal) to 13.29 bits.

    Source: Kullback and Leibler (1951), On information and sufficiency.

    >>> round(float(kullback_leibler_bits([0.5, 0.5, 0, 0], [4, 0, 0, 0])), 4)
    1.0
    """
    # The floor raises shares of 0, which can make the sum slightly negative.
    return np.maximum(negative_log_likelihood_bits(p, votes) - entropy_bits(shares(votes)), 0.0)


def manhattan_distance(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return the Manhattan distance, the sum over labels of |p - q|, 0 to 2: the measure of the LeWiDi 2025 task.

    >>> round(float(manhattan_distance([0.5, 0.5, 0, 0], [4, 0, 0, 0])), 4)
    1.0
    """
    return np.abs(np.asarray(p, dtype=float) - shares(votes)).sum(axis=-1)


def total_variation_distance(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return the total variation distance, half of `manhattan_distance`, 0 to 1: the share of votes on wrong labels.

    >>> round(float(total_variation_distance([0.5, 0.5, 0, 0], [4, 0, 0, 0])), 4)
    0.5
    """
    return manhattan_distance(p, votes) / 2


def cosine_similarity(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return the cosine of the angle between p and q, sum p q / (|p| |q|), 0 to 1 (equal); 0 if all shares are 0.

    >>> round(float(cosine_similarity([0.5, 0.5, 0, 0], [4, 0, 0, 0])), 4)
    0.7071
    """
    p, q = np.asarray(p, dtype=float), shares(votes)
    lengths = np.sqrt(np.square(p).sum(axis=-1) * np.square(q).sum(axis=-1))
    product = (p * q).sum(axis=-1)
    return np.minimum(np.where(lengths == 0, 0.0, product / np.where(lengths == 0, 1.0, lengths)), 1.0)


def brier_sum(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return the Brier score against the human shares, the sum over labels of (p - q)^2, 0 (equal) to 2.

    Source: Brier (1950), Verification of forecasts expressed in terms of probability.

    >>> round(float(brier_sum([0.5, 0.5, 0, 0], [4, 0, 0, 0])), 4)
    0.5
    """
    return np.square(np.asarray(p, dtype=float) - shares(votes)).sum(axis=-1)


def ranked_probability_score(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return the ranked probability score against the human shares, for ordered labels: 0 (equal) to 1.

    It is the mean of (P - Q)^2 over the C - 1 boundaries between neighboring labels, where P and Q are the predicted
    and human shares below the boundary. So a share far from the raters' labels costs more than one next to them. The
    mean score against single votes differs from it by a term that depends on the votes alone.

    Source: Epstein (1969), A scoring system for probability forecasts of ranked categories.

    >>> ranked_probability_score([1, 0, 0], [[0, 2, 0], [0, 0, 2]]).tolist()
    [0.5, 1.0]
    """
    below = np.cumsum(np.asarray(p, dtype=float) - shares(votes), axis=-1)[..., :-1]
    return np.square(below).mean(axis=-1)


def brier_mean(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return the mean over labels of (p - q)^2: `brier_sum` divided by the number of labels, 0 to 2 / labels.

    Some papers call this the Brier score; it shrinks as labels are added.

    >>> round(float(brier_mean([0.5, 0.5, 0, 0], [4, 0, 0, 0])), 4)
    0.125
    """
    return brier_sum(p, votes) / np.shape(votes)[-1]


def squared_error_debiased(p: ArrayLike, votes: ArrayLike, noise: ArrayLike | None = None) -> Array:
    """Return sum (p - q)^2 minus the noise of the panel: the squared error against infinitely many raters.

    The shares of a finite panel differ from the true shares t, so the expectation of sum (p - q)^2 is larger than
    sum (p - t)^2. `votes.Panel.noise` is an unbiased estimate of the difference from the single ballots. If each
    ballot is one vote, the result is the mean of (p - e_i) . (p - e_j) over all pairs of ballots e_i and e_j. The mean
    over clips does not depend on the size of the panels, and a perfect prediction scores 0 on average. Single clips may
    be negative.

    `noise` is that of each panel, shape (...); None: each vote is one rater's. The result, -0.5 to 2 for whole votes,
    is NaN if the noise is unknown: for a clip with one rater, and for votes that are not whole and without single
    ballots.

    >>> round(float(squared_error_debiased([0.5, 0.5], [3, 1])), 4)
    0.0
    """
    return brier_sum(p, votes) - (noise_of_whole_votes(votes) if noise is None else np.asarray(noise, dtype=float))


def r2_of_classes(p: ArrayLike, votes: ArrayLike) -> float:
    """Return the coefficient of determination of each label's shares across clips, averaged over labels: at most 1.

    1 - sum (q - p)^2 / sum (q - mean q)^2, both sums over clips, as scikit-learn's `r2_score` with its default options:
    a label whose human share never varies counts 1 if it is predicted exactly, else 0. The prior scores 0, worse
    predictions score less, without a lower bound.

    A clip without a prediction (a row of `p` that holds NaN) counts with the largest possible error.

    Source: Wright (1921), Correlation and causation; the R2 of "Scaling Ambiguity" (arXiv 2601.14620).

    >>> round(r2_of_classes([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]], [[1, 0], [1, 1], [0, 1]]), 4)
    0.96
    """
    error, spread = (each.sum(axis=0) for each in _errors_and_spreads(p, votes))
    constant = np.where(error > TIE_TOLERANCE**2, 0.0, 1.0)
    return float(np.where(spread > 0, 1 - error / np.where(spread > 0, spread, 1.0), constant).mean())


def r2_of_classes_influence(p: ArrayLike, votes: ArrayLike) -> Array:
    """Return each clip's influence on `r2_of_classes`, shape (clips,): see `clustered.clustered_standard_error`.

    >>> r2_of_classes_influence([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]], [[1, 0], [1, 1], [0, 1]]).round(4).tolist()
    [0.0, 0.0, 0.0]
    """
    error, spread = _errors_and_spreads(p, votes)
    total = spread.sum(axis=0)
    varies = total > 0
    ratio = np.where(varies, error.sum(axis=0) / np.where(varies, total, 1.0), 0.0)
    influence = np.where(varies, len(error) * (ratio * spread - error) / np.where(varies, total, 1.0), 0.0)
    return influence.mean(axis=-1)


def _errors_and_spreads(p: ArrayLike, votes: ArrayLike) -> tuple[Array, Array]:
    p, q = np.asarray(p, dtype=float), shares(votes)
    invalid = np.isnan(p).any(axis=-1, keepdims=True)
    error = np.where(invalid, np.square(np.maximum(q, 1 - q)), np.square(q - p))
    varies = np.ptp(q, axis=0) > TIE_TOLERANCE  # the mean of equal shares may differ from them by rounding
    return error, np.square(q - q.mean(axis=0)) * varies

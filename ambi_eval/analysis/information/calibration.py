"""How much of a system's error is sharpness and how much is a lack of information: scaling fitted on other speakers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from ambi_eval.analysis.estimate import Estimate, of_mean
from ambi_eval.analysis.information.folds import LEAST_CLUSTERS, Array, Folds
from ambi_eval.metrics.clustered import UNKNOWN
from ambi_eval.metrics.distribution import NLL_FLOOR
from ambi_eval.votes import shares

# Strength of the penalty that draws the weights of labels towards each other and the offsets towards 0, in clips.
RIDGE = 1.0
# No weight may turn a system's preference around.
WEIGHTS, OFFSETS = (0.0, 10.0), (-10.0, 10.0)


@dataclass(frozen=True)
class Calibration:
    """What a system's predictions tell before and after scaling that was fitted on other speakers.

    Bits are bits per vote. An invalid prediction tells nothing: it counts as the prior of the other speakers, 0 bits.
    The four numbers add up: `raw` + `sharpness` + `offsets` = `information`.

    Attributes:
        raw: What the predictions gain over the prior of the other speakers as they are.
        sharpness: What one temperature brings: the error of being too sure, or not sure enough.
        offsets: What a weight and an offset for each label bring beyond: the error of naming some labels too often.
        information: What is gained over the prior after all that. 0: the system tells nothing about a clip.
        temperature: The temperature, the mean over folds: above 1 the system is too sure. NaN without a valid
            prediction.
    """

    raw: Estimate
    sharpness: Estimate
    offsets: Estimate
    information: Estimate
    temperature: float


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Predictions after vector scaling.

    Attributes:
        p: Distributions, shape (clips, labels); NaN for clips of unknown speakers.
        bits: What they gain over the prior of the other speakers, shape (clips,).
        numbers: What the scaling brought.
    """

    p: Array
    bits: Array
    numbers: Calibration


def calibrate(p: Array, folds: Folds) -> Calibrated:
    """Return what predictions are worth after temperature scaling and after vector scaling.

    softmax(log p / T), and softmax(w log p + b) with a weight and an offset for each label. Both are fitted by the
    likelihood of the votes of other speakers (or sessions). Shares below `NLL_FLOOR` count as that.

    Source: Guo et al. (2017), On calibration of modern neural networks.

    Args:
        p: Predicted distributions, shape (clips, labels); a row of NaN is an invalid prediction.
        folds: The clips.
    """
    valid = np.asarray(np.isfinite(p).all(axis=1))
    usable = np.where(valid[:, None], p, folds.prior)
    log_p = np.log(np.maximum(usable, NLL_FLOOR))
    q = shares(folds.votes)
    tempered, scaled = usable.copy(), usable.copy()
    temperatures = []
    for seen, unseen in folds.splits:
        fit_on, apply_to = seen[valid[seen]], unseen[valid[unseen]]
        if not len(fit_on):  # nothing to fit, so nothing to tell
            tempered[apply_to] = scaled[apply_to] = folds.prior[apply_to]
            continue
        sharpness, weights, offsets = _fit(log_p[fit_on], q[fit_on])
        tempered[apply_to] = softmax(sharpness * log_p[apply_to], axis=1)
        scaled[apply_to] = softmax(weights * log_p[apply_to] + offsets, axis=1)
        temperatures.append(1 / sharpness if sharpness else np.inf)
    scaled[np.isnan(folds.prior).any(axis=1)] = np.nan
    raw, after_one, after_all = (folds.bits(each) for each in (usable, tempered, scaled))

    def mean(bits: Array) -> Estimate:
        return of_mean(bits, folds.clusters)

    temperature = float(np.mean(temperatures)) if temperatures else float("nan")
    numbers = Calibration(mean(raw), mean(after_one - raw), mean(after_all - after_one), mean(after_all), temperature)
    return Calibrated(scaled, after_all, numbers)


def calibration(p: Array, votes: Array, clusters: Sequence[Hashable]) -> Calibration | None:
    """Return what scaling brings to predictions, or None where there are too few speakers to fit it on others."""
    if len(set(clusters) - {UNKNOWN}) < LEAST_CLUSTERS:
        return None
    return calibrate(p, Folds(votes, clusters)).numbers


def _fit(log_p: Array, q: Array) -> tuple[float, Array, Array]:
    """Return 1 / temperature, and the weights and offsets of vector scaling, of least cross-entropy."""
    labels = q.shape[1]

    def of_temperature(sharpness: Array) -> tuple[float, Array]:
        logp = log_softmax(sharpness * log_p, axis=1)
        return float(-(q * logp).sum()), np.array([((np.exp(logp) - q) * log_p).sum()])

    one = minimize(of_temperature, [1.0], jac=True, method="L-BFGS-B", bounds=[WEIGHTS]).x[0]

    def of_vector(flat: Array) -> tuple[float, Array]:
        weights, offsets = np.split(flat, 2)
        logp = log_softmax(weights * log_p + offsets, axis=1)
        error, apart = np.exp(logp) - q, weights - weights.mean()
        penalty = RIDGE / 2 * (np.square(apart).sum() + np.square(offsets).sum())
        slope = [(error * log_p).sum(axis=0) + RIDGE * apart, error.sum(axis=0) + RIDGE * offsets]
        return float(-(q * logp).sum() + penalty), np.concatenate(slope)

    start = np.concatenate([np.full(labels, one), np.zeros(labels)])
    bounds = [WEIGHTS] * labels + [OFFSETS] * labels
    weights, offsets = np.split(minimize(of_vector, start, jac=True, method="L-BFGS-B", bounds=bounds).x, 2)
    return float(one), weights, offsets

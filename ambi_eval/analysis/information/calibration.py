"""Splits a system's error into wrong calibration and missing information, by scaling fitted on other speakers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from ambi_eval.analysis.estimate import Estimate, of_mean
from ambi_eval.analysis.information.folds import LEAST_CLUSTERS, Folds
from ambi_eval.metrics.clustered import UNKNOWN
from ambi_eval.metrics.distribution import NLL_FLOOR
from ambi_eval.votes import Array, shares

# Strength of the penalty that pulls the labels' weights towards their mean and the offsets towards 0, in clips.
RIDGE = 1.0
# Bounds of the fitted numbers. A negative weight would reverse what the system prefers.
WEIGHTS, OFFSETS = (0.0, 10.0), (-10.0, 10.0)


@dataclass(frozen=True)
class Calibration:
    """The information of a system's predictions, before and after scaling that was fitted on other speakers.

    All numbers but the temperature are bits per vote, gained over the prior of the other speakers. An invalid
    prediction is replaced by that prior, so it gains 0 bits. The numbers add up: `raw` + `sharpness` + `offsets` =
    `information`.

    Attributes:
        raw: The gain of the predictions as they are.
        sharpness: The further gain by one temperature, which corrects a system that is too sure or not sure enough.
        offsets: The further gain by a weight and an offset for each label, which correct labels that are named too
            often or too rarely.
        information: The gain after all corrections. 0: the predictions hold no information about the clips.
        temperature: The fitted temperature, the mean over folds; above 1 the system is too sure. NaN without a valid
            prediction.
    """

    raw: Estimate
    sharpness: Estimate
    offsets: Estimate
    information: Estimate
    temperature: float


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Predictions `p` after vector scaling, shape (clips, labels), NaN for clips of unknown speakers, and their gains.

    `bits`, shape (clips,), are those per vote gained over the prior of the other speakers.
    """

    p: Array
    bits: Array
    numbers: Calibration


def calibrate(p: Array, folds: Folds) -> Calibrated:
    """Return predictions after vector scaling, and how much temperature and vector scaling gain.

    Temperature scaling is softmax(log p / T). Vector scaling is softmax(w log p + b) with a weight and an offset for
    each label. Both maximize the likelihood of the votes of other speakers (or sessions). Shares below `NLL_FLOOR` are
    raised to it. A row of NaN in `p`, shape (clips, labels), is an invalid prediction.

    Source: Guo et al. (2017), On calibration of modern neural networks.
    """
    valid = np.asarray(np.isfinite(p).all(axis=1))
    usable = np.where(valid[:, None], p, folds.prior)
    log_p = np.log(np.maximum(usable, NLL_FLOOR))
    q = shares(folds.votes)
    tempered, scaled = usable.copy(), usable.copy()
    temperatures = []
    for seen, unseen in folds.splits:
        fit_on, apply_to = seen[valid[seen]], unseen[valid[unseen]]
        if not len(fit_on):  # no valid prediction to fit to, so use the prior
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
    """Return the gains of scaling by `calibrate`, or None if there are too few speakers to fit on others."""
    if len(set(clusters) - {UNKNOWN}) < LEAST_CLUSTERS:
        return None
    return calibrate(p, Folds(votes, clusters)).numbers


def _fit(log_p: Array, q: Array) -> tuple[float, Array, Array]:
    """Return 1 / temperature, weights and offsets of least cross-entropy; the last two are penalized by `RIDGE`."""
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

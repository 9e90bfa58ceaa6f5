"""From a pool of answers to one predicted distribution: mean, vote, best, weighted mean, and label likelihoods."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ambi_eval.answers.pool import Members, Pool, ReadPool, of_equal_size, subsets
from ambi_eval.answers.shares import SUM_TOLERANCE
from ambi_eval.errors import AmbiError
from ambi_eval.metrics.distribution import jensen_shannon_divergence_bits
from ambi_eval.votes import Array, majority

MERITS = ("logprob", "mean_logprob", "rating")
# Weights count as uniform if the effective pool size is more than this times the number of answers that could be read.
NEAR_UNIFORM = 0.98
POOLS_AT_ONCE = 256


class Reducer(ABC):
    """Turns a pool of answers, or each of many subsets of it, into one distribution."""

    @abstractmethod
    def reduce(self, pool: Pool, members: Members) -> Array:
        """Return the predicted distribution of each subset of the N answers of a pool, or of the pools of many clips.

        Args:
            pool: The answers.
            members: Which answers are in each subset, shape (S, N).

        Returns:
            Distributions, shape (S, C), or (clips, S, C); a row of NaN for a subset without any usable answer.
        """

    def of_counts(self, counts: Array) -> Array | None:
        """Return the prediction from the number of answers that name each label, shape (..., C).

        None (the default) if the prediction depends on more than these counts; a row of NaN if no answer names a label.
        """
        return None

    def diagnose(self, pool: Pool, distribution: Array) -> dict[str, float]:
        """Return further numbers about the prediction for one clip; none by default."""
        return {}


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction of one pipeline for one clip."""

    labels: tuple[str, ...]  # the task's labels
    distribution: Array  # predicted shares, shape (C,), sums to 1; all NaN if no answer of the pool could be used
    pool: Pool  # the answers
    reducer: Reducer  # the reducer that made the prediction, and can make one from a part of the pool
    failed: Mapping[str, int]  # number of answers that could not be read, by reason
    diagnostics: Mapping[str, float]  # further numbers about this clip for the results (`label_mass` ...)

    @property
    def invalid(self) -> bool:
        """Whether no answer of the pool could be used."""
        return bool(np.isnan(self.distribution[0]))

    @property
    def rescaled(self) -> int:
        """Number of answers whose stated shares did not sum to 1 and were divided by their sum."""
        return int((np.abs(self.pool.stated_sums - 1) > SUM_TOLERANCE).sum())

    @property
    def tokens(self) -> float:
        """Number of generated tokens of all answers, thinking included; NaN if unknown."""
        return float((self.pool.lengths + self.pool.thinking).sum())

    def __str__(self) -> str:
        """Return the content of the log, as JSON: shares per label (null if invalid), failed answers by reason."""
        shares = None if self.invalid else dict(zip(self.labels, self.distribution.tolist(), strict=True))
        return json.dumps({"shares": shares, "failed": dict(self.failed), "rescaled": self.rescaled})


def predict(reducer: Reducer, labels: tuple[str, ...], pools: Sequence[ReadPool]) -> list[Prediction]:
    """Return one prediction per clip; pools of one size are reduced together."""
    found: dict[int, Prediction] = {}
    for chunk, _ in of_equal_size([pool for pool, _ in pools], POOLS_AT_ONCE):
        stacked = Pool.stack([pools[number].pool for number in chunk])
        everyone = subsets(stacked.size, stacked.size)
        distributions = np.ascontiguousarray(reducer.reduce(stacked, everyone)[:, 0])
        for number, distribution in zip(chunk, distributions, strict=True):
            pool, failed = pools[number]
            diagnostics = reducer.diagnose(pool, distribution)
            found[number] = Prediction(labels, distribution, pool, reducer, failed, diagnostics)
    return [found[number] for number in range(len(pools))]


def weighted_mean(values: Array, weights: NDArray[np.floating | np.bool_]) -> Array:
    """Return the weighted mean of the answers that are not NaN, once for each set of weights.

    Args:
        values: One row per answer, shape (..., N, C); a row of NaN for a failed answer, whose weights count as 0.
        weights: Not negative, shape (..., S, N); they need not sum to 1.

    Returns:
        Means, shape (..., S, C); a row of NaN if all weights are 0.
    """
    valid = ~np.isnan(values[..., :1])
    # The last column gives the total weight, so one product gives both sums and totals.
    sums = np.asarray(weights, dtype=float) @ np.concatenate([np.where(valid, values, 0.0), valid], axis=-1)
    if sums.ndim > 2:
        # With the labels as the outer axis in memory, later sums over labels are several times faster.
        sums = np.moveaxis(np.ascontiguousarray(np.moveaxis(sums, -1, 0)), 0, -1)
    total = sums[..., -1:]
    return sums[..., :-1] / np.where(total == 0, np.nan, total)


class Mean(Reducer):
    """The mean of the answers' distributions; with one label per answer, the histogram of the votes.

    Answers that could not be read are left out, or replaced by a fallback distribution if there is one.
    """

    def __init__(self, fallback: Array | None = None) -> None:
        """Keep the fallback for answers that could not be read, shape (C,); None leaves them out."""
        self.fallback = fallback

    def reduce(self, pool: Pool, members: Members) -> Array:
        """Return the mean over the answers of each subset, shape (..., S, C)."""
        shares = pool.shares
        if self.fallback is not None:
            shares = np.where(pool.valid[..., None], shares, self.fallback)
        return weighted_mean(shares, members)

    def of_counts(self, counts: Array) -> Array | None:
        """Return the share of the answers that name each label; None with a fallback, as counts omit unread answers."""
        if self.fallback is not None:
            return None
        total = counts.sum(axis=-1, keepdims=True)
        return counts / np.where(total == 0, np.nan, total)


class Vote(Reducer):
    """Every answer votes for its top label; the label with the most votes gets share 1, which tied labels share."""

    def reduce(self, pool: Pool, members: Members) -> Array:
        """Return the majority label of each subset as a distribution, shape (..., S, C)."""
        votes = np.where(pool.valid[..., None], majority(pool.shares), np.nan)
        tally = weighted_mean(votes, members)
        return np.where(np.isnan(tally), np.nan, majority(tally))

    def of_counts(self, counts: Array) -> Array:
        """Return the label that most answers name."""
        return np.where(counts.sum(axis=-1, keepdims=True) == 0, np.nan, majority(counts))


class Weighting(Reducer):
    """The weighted mean of the answers; an answer's weight depends on its merit."""

    def __init__(self, by: str | None) -> None:
        """Keep the merit: `logprob` (summed log-likelihood), `mean_logprob` (per token) or `rating` (by a verifier)."""
        if by not in MERITS:
            raise AmbiError(f"by is '{by}'; it must be one of {', '.join(MERITS)}")
        self.by = by

    @abstractmethod
    def weigh(self, merits: Array) -> Array:
        """Return weights that are not negative, shape (..., S, N), from merits of this shape.

        An answer that must have weight 0 has the merit -inf. At least one merit of each row is finite.
        """

    def reduce(self, pool: Pool, members: Members) -> Array:
        """Return the weighted mean of each subset, shape (..., S, C)."""
        return weighted_mean(pool.shares, self.weights(pool, members))

    def weights(self, pool: Pool, members: Members) -> Array:
        """Return the weights of each subset's answers, shape (..., S, N).

        An answer that could not be read or has no merit has weight 0. In a subset in which no answer has a merit, all
        answers that could be read have the same weight.
        """
        merits = self.merits(pool)
        usable = members & pool.valid[..., None, :]
        rated = usable & np.isfinite(merits)[..., None, :]
        unrated = ~rated.any(axis=-1, keepdims=True)
        weights = self.weigh(np.where(rated, merits[..., None, :], np.where(unrated, 0.0, -np.inf)))
        return np.where(unrated, usable, weights)

    def merits(self, pool: Pool) -> Array:
        """Return the merit of each answer, shape (..., N); NaN where the model or the verifier gave none."""
        if self.by == "rating":
            return pool.ratings
        return pool.logprobs / pool.lengths if self.by == "mean_logprob" else pool.logprobs

    def diagnose(self, pool: Pool, distribution: Array) -> dict[str, float]:
        """Return numbers that show whether the weights mattered; none for an invalid clip.

        `ess`: the effective pool size, 1 / sum of squared weights. `near_uniform`: whether it is over 0.98 of the
        answers that could be read (if that holds for over half of the clips, the strategy is indistinguishable from the
        unweighted mean). `distinct`: the number of different distributions in the pool. `jsd_to_mean`, `jsd_to_best`:
        the divergence in bits from the unweighted mean and from the answer with the highest merit (the mean of tied
        ones). `unrated`: the number of answers that were read but have no merit (a verifier that failed, a server that
        gives no log-probabilities).
        """
        everyone = subsets(pool.size, pool.size)
        weights = self.weights(pool, everyone)[0]
        if not weights.any():
            return {}
        ess = float(weights.sum() ** 2 / np.square(weights).sum())
        mean, best = weighted_mean(pool.shares, np.stack([everyone[0], weights == weights.max()]))
        return {
            "ess": ess,
            "near_uniform": float(ess > NEAR_UNIFORM * pool.valid.sum()),
            "distinct": float(len(np.unique(pool.shares[pool.valid].round(6), axis=0))),
            "jsd_to_mean": float(jensen_shannon_divergence_bits(distribution, mean)),
            "jsd_to_best": float(jensen_shannon_divergence_bits(distribution, best)),
            "unrated": float((pool.valid & ~np.isfinite(self.merits(pool))).sum()),
        }


class Best(Weighting):
    """The answer with the highest merit; tied answers count equally."""

    def weigh(self, merits: Array) -> Array:
        """Return 1 for the answers with the highest merit, 0 for the others."""
        return (merits == merits.max(axis=-1, keepdims=True)).astype(float)


class Weighted(Weighting):
    """The mean weighted by softmax(merit / temperature), or by the merit itself."""

    def __init__(self, by: str | None, weighting: str = "softmax", temperature: float = 1.0) -> None:
        """Keep how merits become weights: by `softmax`, or `linear` for ratings, which are positive.

        Near temperature 0 of the softmax only the best answer counts, near infinity all count equally.
        """
        super().__init__(by)
        if weighting not in ("softmax", "linear") or (weighting == "linear" and by != "rating"):
            raise AmbiError(f"weighting is '{weighting}'; it must be softmax, or linear with `by: rating`")
        if not isinstance(temperature, int | float) or not temperature > 0:
            raise AmbiError(f"weighting_temperature is {temperature}; it must be a number above 0")
        self.linear, self.temperature = weighting == "linear", temperature

    def weigh(self, merits: Array) -> Array:
        """Return the weights, shape (..., S, N); the softmax is taken relative to the best, so it cannot overflow."""
        if self.linear:
            return np.maximum(merits, 0.0)
        return np.exp((merits - merits.max(axis=-1, keepdims=True)) / self.temperature)


class Exact(Mean):
    """The likelihood of each label as the whole answer, normalized over the labels.

    The prediction is p(label) / sum of p over the labels, the mean over the rotations of the labels in the prompt.
    `label_mass` is that sum: the probability that a sampled answer is exactly one of the labels.

    With `calibrated` each p is first divided by the p of the same label when the model hears silence (contextual
    calibration; Zhao et al. 2021, Calibrate before use). With `per_byte` log p is then divided by the label's length in
    bytes, as in the harness's `acc_bytes` (Gao 2021, Multiple Choice Normalization in LM Evaluation). Neither changes
    `label_mass`. With either, the prediction is no longer the limit of `sc` for large pools.
    """

    def __init__(
        self, labels: tuple[str, ...], *, calibrated: bool = False, per_byte: bool = False, asked: Sequence[str] = ()
    ) -> None:
        """Keep the labels and how to normalize their likelihoods.

        `asked` are the words whose likelihoods are given, if they are not the labels themselves.
        """
        super().__init__()
        self.labels, self.calibrated = labels, calibrated
        self.lengths = np.array([len(word.encode()) if per_byte else 1 for word in asked or labels])

    def predict(self, logprobs: Sequence[float]) -> Prediction:
        """Return the prediction for one clip from the log-likelihood of each label, in order, once per rotation.

        With `calibrated` all of them follow again for silence.
        """
        rows = np.array(logprobs).reshape(-1, len(self.labels))
        mass = np.exp(rows).sum(axis=1)
        if self.calibrated:
            clip, silence = np.split(rows, 2)
            rows, mass = clip - silence, mass[: len(clip)]
        rows = rows / self.lengths
        likelihoods = np.exp(rows - rows.max(axis=1, keepdims=True))
        shares = (likelihoods / likelihoods.sum(axis=1, keepdims=True)).mean(axis=0)
        unknown = np.full(1, np.nan)
        pool = Pool(shares[None], *[unknown] * 5)
        return Prediction(self.labels, shares, pool, self, {}, {"label_mass": float(mass.mean())})


def drawn(answers: Sequence[str]) -> list[str]:
    """Return a clip's answers, in order, without those that an adaptive strategy did not need to draw."""
    return [answer for answer in answers if getattr(answer, "finish", None) != "not_drawn"]

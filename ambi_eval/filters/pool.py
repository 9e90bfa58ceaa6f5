"""What the filters share: a pool of parsed answers, the prediction made of it, and the subsets behind the curves."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from lm_eval.api.filter import Filter
from numpy.typing import NDArray

from ambi_eval.answers.parser import Answer, freeze_synonyms, parse_label, parse_shares

Array = NDArray[np.float64]

PARSERS: dict[str, Callable[..., Answer]] = {"shares": parse_shares, "label": parse_label}
N_SUBSETS = 64
POOLS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Pool:
    """The parsed answers of one clip; or of many clips at once, with one more axis in front of every array.

    Attributes:
        shares: Each answer's distribution over the labels, shape (N, C); a row of NaN where the answer failed to parse.
        logprobs: Each answer's summed log-likelihood, shape (N,); NaN where the model gives none.
        lengths: Each answer's number of tokens, shape (N,); NaN where the model does not say.
        ratings: The verifier's rating of each answer, shape (N,); NaN where there is none.
    """

    shares: Array
    logprobs: Array
    lengths: Array
    ratings: Array

    @property
    def size(self) -> int:
        """Number of answers, N."""
        return self.shares.shape[-2]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Which answers parsed, shape (N,)."""
        return ~np.isnan(self.shares[..., 0])

    @staticmethod
    def stack(pools: Sequence[Pool]) -> Pool:
        """Return the pools of many clips, all of one size, as one."""
        names = [field.name for field in fields(Pool)]
        return Pool(*(np.stack([getattr(pool, name) for pool in pools]) for name in names))


Parsed = tuple[Pool, Mapping[str, int], int]


class Answers(list[str]):
    """The answers of one clip; they remember how they were parsed, for the other pipelines of the same task."""

    parsed: Parsed | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one filter pipeline predicts for one clip.

    Attributes:
        labels: The task's labels.
        distribution: Predicted shares, shape (C,), sums to 1; all NaN if no answer of the pool could be used.
        pool: The parsed answers behind it.
        reducer: The filter that made it, to make it again from a part of the pool.
        failed: How many answers failed to parse, by reason.
        renormalised: How many answers stated shares that did not sum to 1.
        diagnostics: Further numbers about this clip that belong in the results (`label_mass` ...).
    """

    labels: tuple[str, ...]
    distribution: Array
    pool: Pool
    reducer: PoolFilter
    failed: Mapping[str, int]
    renormalised: int
    diagnostics: Mapping[str, float]

    @property
    def invalid(self) -> bool:
        """Whether no answer of the pool could be used."""
        return bool(np.isnan(self.distribution[0]))

    @property
    def tokens(self) -> float:
        """Generated tokens of all answers together; NaN if the model does not say."""
        return float(self.pool.lengths.sum())

    def __str__(self) -> str:
        """Return what the log holds, as JSON: shares per label (null if invalid), failed answers by reason."""
        shares = None if self.invalid else dict(zip(self.labels, self.distribution.tolist(), strict=True))
        return json.dumps({"shares": shares, "failed": dict(self.failed), "renormalised": self.renormalised})


@cache
def subsets(size: int, n: int) -> NDArray[np.bool_]:
    """Return which members stand in each subset of n out of `size`: all subsets if at most 64, else 64 drawn.

    The draw depends on (size, n) alone, so every clip, model and run uses the same ones.

    Returns:
        Membership, shape (subsets, size), n True in each row.

    >>> subsets(3, 2).astype(int).tolist()
    [[1, 1, 0], [1, 0, 1], [0, 1, 1]]
    >>> subsets(20, 5).shape
    (64, 20)
    """
    if comb(size, n) <= N_SUBSETS:
        chosen = np.array(list(combinations(range(size), n)))
    else:
        draw = np.random.default_rng((size, n)).random((N_SUBSETS, size))
        chosen = draw.argsort(axis=1)[:, :n]
    members = np.zeros((len(chosen), size), dtype=bool)
    np.put_along_axis(members, chosen, True, axis=1)
    members.flags.writeable = False
    return members


def weighted_mean(values: Array, weights: NDArray[np.floating | np.bool_]) -> Array:
    """Return the weighted mean of the answers that are not NaN, once for each set of weights.

    Args:
        values: One row per answer, shape (..., N, C); a row of NaN for a failed answer, whose weights count as 0.
        weights: Not negative, shape (..., S, N); they need not sum to 1.

    Returns:
        Means, shape (..., S, C); a row of NaN where no weight is left.
    """
    valid = ~np.isnan(values[..., :1])
    # The last column is the weight that is left: the same product gives sums and totals.
    sums = np.asarray(weights, dtype=float) @ np.concatenate([np.where(valid, values, 0.0), valid], axis=-1)
    if sums.ndim > 2:
        # Label by label in memory: whatever is summed over a handful of labels next is then several times faster.
        sums = np.moveaxis(np.ascontiguousarray(np.moveaxis(sums, -1, 0)), 0, -1)
    total = sums[..., -1:]
    return sums[..., :-1] / np.where(total == 0, np.nan, total)


class PoolFilter(Filter):
    """A harness filter that turns each clip's pool of answers into one `Prediction`."""

    def __init__(
        self,
        labels: Sequence[str],
        readout: str,
        synonyms: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep what the task says about reading an answer.

        Args:
            labels: The task's labels, in order.
            readout: `shares` (an answer states a distribution) or `label` (an answer names one label).
            synonyms: Further words for a label.
            kwargs: Keys of the harness's own, unused.
        """
        super().__init__(**kwargs)
        self.labels = tuple(labels)
        self.readout = readout
        self.synonyms = freeze_synonyms(self.labels, synonyms or {})

    @abstractmethod
    def reduce(self, pool: Pool, members: NDArray[np.bool_]) -> Array:
        """Return the predicted distribution of each subset of a pool.

        Args:
            pool: The parsed answers of one clip, N of them, or of many clips.
            members: Which answers stand in each subset, shape (S, N).

        Returns:
            Distributions, shape (S, C), or (clips, S, C); a row of NaN for a subset without any usable answer.
        """

    def diagnose(self, pool: Pool, distribution: Array) -> dict[str, float]:
        """Return further numbers about the prediction of one clip; none by default."""
        return {}

    def apply(self, resps: Sequence[Sequence[Any]], docs: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Return one prediction per clip; pools of one size are reduced together."""
        parsed = [self.parsed(answers) for answers in resps]
        by_size: dict[int, list[int]] = {}
        for number, (pool, _, _) in enumerate(parsed):
            by_size.setdefault(pool.size, []).append(number)
        found: dict[int, Prediction] = {}
        for size, numbers in by_size.items():
            for start in range(0, len(numbers), POOLS_AT_ONCE):
                chunk = numbers[start : start + POOLS_AT_ONCE]
                pools = Pool.stack([parsed[number][0] for number in chunk])
                distributions = np.ascontiguousarray(self.reduce(pools, subsets(size, size))[:, 0])
                for number, distribution in zip(chunk, distributions, strict=True):
                    pool, failed, renormalised = parsed[number]
                    diagnostics = self.diagnose(pool, distribution)
                    found[number] = Prediction(self.labels, distribution, pool, self, failed, renormalised, diagnostics)
        return [found[number] for number in range(len(parsed))]

    def parsed(self, answers: Sequence[str]) -> Parsed:
        """Return the parsed answers of one clip; `Answers` are parsed once for all pipelines."""
        if not isinstance(answers, Answers):
            return self.parse(answers)
        if answers.parsed is None:
            answers.parsed = self.parse(answers)
        return answers.parsed

    def parse(self, answers: Sequence[str]) -> Parsed:
        """Return the pool of a clip's answers, and how many of them failed (by reason) or had to be renormalised."""
        parser = PARSERS[self.readout]
        parsed = [parser(str(answer), self.labels, self.synonyms) for answer in answers]
        nothing = (np.nan,) * len(self.labels)
        pool = Pool(
            shares=np.array([nothing if answer.shares is None else answer.shares for answer in parsed]),
            logprobs=_attribute(answers, "logprob"),
            lengths=_attribute(answers, "n_tokens"),
            ratings=_attribute(answers, "rating"),
        )
        failed = Counter(str(answer.reason) for answer in parsed if answer.reason is not None)
        return pool, failed, sum(answer.renormalised for answer in parsed)


def _attribute(answers: Sequence[str], name: str) -> Array:
    """Return one attribute of all answers, shape (N,); NaN for answers that are plain text or do not have it."""
    return np.array([getattr(answer, name, None) for answer in answers], dtype=float)

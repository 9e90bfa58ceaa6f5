"""What the filters share: a pool of parsed answers, the prediction made of it, and the subsets behind the curves."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from lm_eval.api.filter import Filter
from numpy.typing import NDArray

from ambi_eval.answers import freeze_synonyms, parse_label, parse_shares

PARSERS = {"shares": parse_shares, "label": parse_label}
N_SUBSETS = 64


@dataclass(frozen=True, slots=True)
class Pool:
    """The parsed answers of one clip.

    Attributes:
        shares: Each answer's distribution over the labels, shape (N, C); a row of NaN where the answer failed to parse.
        failed: How many answers failed, by reason.
        renormalised: How many answers stated shares that did not sum to 1.
        tokens: Generated tokens of all answers together.
        logprobs: Each answer's summed log-likelihood, shape (N,); NaN where the model gives none.
        lengths: Each answer's number of tokens, shape (N,); NaN where the model does not say.
        ratings: The verifier's rating of each answer, shape (N,); NaN where there is none.
    """

    shares: NDArray[np.float64]
    failed: Mapping[str, int] = field(default_factory=dict)
    renormalised: int = 0
    tokens: int = 0
    logprobs: NDArray[np.float64] = field(default_factory=lambda: np.array([]))
    lengths: NDArray[np.float64] = field(default_factory=lambda: np.array([]))
    ratings: NDArray[np.float64] = field(default_factory=lambda: np.array([]))

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Which answers parsed, shape (N,)."""
        return ~np.isnan(self.shares[:, 0])


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one filter pipeline predicts for one clip: `str()` of it is what the harness logs.

    Attributes:
        labels: The task's labels.
        distribution: Predicted shares, shape (C,), sums to 1; all NaN if no answer of the pool could be used.
        pool: The parsed answers behind it.
        reducer: The filter that made it, to make it again from a part of the pool.
        diagnostics: Further numbers about this clip that belong in the results (`label_mass` ...).
        candidates: What to log of the answers beside their texts; only on the first pipeline of a clip, so that it is
            logged once.
    """

    labels: tuple[str, ...]
    distribution: NDArray[np.float64]
    pool: Pool
    reducer: PoolFilter
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    candidates: Mapping[str, list[Any]] | None = None

    @property
    def invalid(self) -> bool:
        """Whether no answer of the pool could be used."""
        return bool(np.isnan(self.distribution[0]))

    def at(self, n: int) -> NDArray[np.float64]:
        """Return what pools of n of these answers would predict, shape (subsets, C): the basis of the curve over N."""
        return self.reducer.reduce(self.pool, subsets(len(self.pool.shares), n))

    def __str__(self) -> str:
        """Return the prediction as JSON: shares per label (null if invalid), and the failed answers by reason."""
        shares = None if self.invalid else dict(zip(self.labels, self.distribution.tolist(), strict=True))
        return json.dumps({"shares": shares, "failed": dict(self.pool.failed), "renormalised": self.pool.renormalised})


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


def weighted_mean(values: NDArray[np.float64], weights: NDArray[np.floating | np.bool_]) -> NDArray[np.float64]:
    """Return the weighted mean of the rows that are not NaN, once for each set of weights.

    Args:
        values: One row per answer, shape (N, C); a row of NaN for a failed answer, whose weights count as 0.
        weights: Not negative, shape (S, N); they need not sum to 1.

    Returns:
        Means, shape (S, C); a row of NaN where no weight is left.
    """
    valid = ~np.isnan(values[:, 0])
    weights = weights * valid
    total = weights.sum(axis=1, keepdims=True)
    return weights @ np.where(valid[:, None], values, 0.0) / np.where(total == 0, np.nan, total)


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
    def reduce(self, pool: Pool, members: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the predicted distribution of each subset of a pool.

        Args:
            pool: The parsed answers of one clip, N of them.
            members: Which answers stand in each subset, shape (S, N).

        Returns:
            Distributions, shape (S, C); a row of NaN for a subset without any usable answer.
        """

    def apply(self, resps: Sequence[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Return one prediction per clip."""
        return [self.predict(self.parse(answers)) for answers in resps]

    def predict(self, pool: Pool) -> Prediction:
        """Return the prediction of the whole pool."""
        everyone = np.ones((1, len(pool.shares)), dtype=bool)
        return Prediction(self.labels, self.reduce(pool, everyone)[0], pool, self)

    def parse(self, answers: Sequence[str]) -> Pool:
        """Return the pool of a clip's answers; each distinct text is parsed once in the life of the process."""
        parser = PARSERS[self.readout]
        parsed = [parser(str(answer), self.labels, self.synonyms) for answer in answers]
        nothing = (np.nan,) * len(self.labels)
        return Pool(
            shares=np.array([nothing if answer.shares is None else answer.shares for answer in parsed]),
            failed=Counter(answer.reason for answer in parsed if answer.reason is not None),
            renormalised=sum(answer.renormalised for answer in parsed),
            tokens=sum(getattr(answer, "n_tokens", None) or 0 for answer in answers),
            logprobs=_attribute(answers, "logprob"),
            lengths=_attribute(answers, "n_tokens"),
            ratings=_attribute(answers, "rating"),
        )


def _attribute(answers: Sequence[str], name: str) -> NDArray[np.float64]:
    """Return one attribute of all answers, shape (N,); NaN for answers that are plain text or do not have it."""
    return np.array([getattr(answer, name, None) for answer in answers], dtype=float)

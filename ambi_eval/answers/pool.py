"""The answers about one clip, read into arrays, and the subsets of them that stand for smaller pools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ambi_eval.answers.parser import Answer, Synonyms, parse_label, parse_shares

Array = NDArray[np.float64]
Members = NDArray[np.bool_]

READERS: dict[str, Callable[..., Answer]] = {"shares": parse_shares, "label": parse_label}
N_SUBSETS = 64


@dataclass(frozen=True, slots=True)
class Pool:
    """The answers about one clip as arrays; or those about many clips, with one more axis in front of every array.

    Attributes:
        shares: Each answer's distribution over the labels, shape (N, C); a row of NaN where it could not be read.
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
        """Which answers could be read, shape (N,)."""
        return ~np.isnan(self.shares[..., 0])

    @staticmethod
    def stack(pools: Sequence[Pool]) -> Pool:
        """Return the pools of many clips, all of one size, as one."""
        names = [field.name for field in fields(Pool)]
        return Pool(*(np.stack([getattr(pool, name) for pool in pools]) for name in names))


class ReadPool(NamedTuple):
    """A clip's answers after reading.

    Attributes:
        pool: The answers as arrays.
        failed: How many answers could not be read, by reason.
        renormalised: How many answers stated shares that did not sum to 1.
    """

    pool: Pool
    failed: Mapping[str, int]
    renormalised: int


class Answers(list[str]):
    """The answers about one clip; they remember how they were read, for the other pipelines of the same task."""

    read: ReadPool | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the answers of a task.

    Attributes:
        labels: The task's labels.
        readout: `shares` (an answer states a distribution) or `label` (an answer names one label).
        synonyms: Other words for the labels, as `freeze_synonyms` returns them.
    """

    labels: tuple[str, ...]
    readout: str
    synonyms: Synonyms = ()

    def read(self, answers: Sequence[str]) -> ReadPool:
        """Return a clip's answers as a pool; `Answers` are read once."""
        if not isinstance(answers, Answers):
            return self._read(answers)
        if answers.read is None:
            answers.read = self._read(answers)
        return answers.read

    def _read(self, answers: Sequence[str]) -> ReadPool:
        reader = READERS[self.readout]
        read = [reader(str(answer), self.labels, self.synonyms) for answer in answers]
        nothing = (np.nan,) * len(self.labels)
        pool = Pool(
            shares=np.array([nothing if answer.shares is None else answer.shares for answer in read]),
            logprobs=_attribute(answers, "logprob"),
            lengths=_attribute(answers, "n_tokens"),
            ratings=_attribute(answers, "rating"),
        )
        failed = Counter(str(answer.reason) for answer in read if answer.reason is not None)
        return ReadPool(pool, failed, sum(answer.renormalised for answer in read))


def _attribute(answers: Sequence[str], name: str) -> Array:
    """Return one attribute of all answers, shape (N,); NaN for answers that are plain text or do not have it."""
    return np.array([getattr(answer, name, None) for answer in answers], dtype=float)


@cache
def subsets(size: int, n: int) -> Members:
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

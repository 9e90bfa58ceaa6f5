"""The pool of answers about one clip as arrays, and subsets of it that represent smaller pools."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ambi_eval.answers.label import read_label
from ambi_eval.answers.languages import ENGLISH, Spoken
from ambi_eval.answers.lexicon import Answer, Synonyms
from ambi_eval.answers.shares import read_shares
from ambi_eval.votes import Array

Members = NDArray[np.bool_]

READERS: dict[str, Callable[..., Answer]] = {"shares": read_shares, "label": read_label}


@dataclass(frozen=True, slots=True)
class Pool:
    """The answers about one clip as arrays; for many clips, each array has one more axis in front."""

    shares: Array  # distribution of each answer, shape (N, C); a row of NaN for an answer that could not be read
    logprobs: Array  # summed log-likelihood of each answer, shape (N,); NaN if the model gives none
    lengths: Array  # number of tokens of each answer, without thinking, shape (N,); NaN if unknown
    thinking: Array  # number of thinking tokens before each answer, shape (N,); NaN if unknown
    ratings: Array  # the verifier's rating of each answer, shape (N,); NaN if there is none
    stated_sums: Array  # sum of the shares that each answer states, shape (N,); NaN if it states none

    @property
    def size(self) -> int:
        """Number of answers, N."""
        return self.shares.shape[-2]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Which answers could be read, shape (N,)."""
        return ~np.isnan(self.shares[..., 0])

    @property
    def counts(self) -> NDArray[np.intp] | None:
        """Number of answers for each label, and in the last column of unread answers, shape (clips, C + 1).

        None if an answer states shares of several labels.
        """
        shares = self.shares[self.valid]
        if not ((shares == 0) | (shares == 1)).all():
            return None
        named = np.nansum(self.shares, axis=-2)
        return np.concatenate([named, self.size - named.sum(axis=-1, keepdims=True)], axis=-1).astype(np.intp)

    @staticmethod
    def stack(pools: Sequence[Pool]) -> Pool:
        """Join the pools of many clips, all of one size, into one."""
        names = [field.name for field in fields(Pool)]
        return Pool(*(np.stack([getattr(pool, name) for pool in pools]) for name in names))


def of_equal_size(pools: Sequence[Pool], at_once: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the indices of up to `at_once` pools of the same size, with the indices of all pools of this size."""
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for number, pool in enumerate(pools):
        by_size[pool.size].append(number)
    for numbers in by_size.values():
        for start in range(0, len(numbers), at_once):
            yield numbers[start : start + at_once], numbers


class ReadPool(NamedTuple):
    """A clip's answers after reading."""

    pool: Pool  # the answers as arrays
    failed: Mapping[str, int]  # number of answers that could not be read, by reason


class Answers(list[str]):
    """The answers about one clip; the result of reading them is kept for the other pipelines of the task."""

    read: ReadPool | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the answers of a task."""

    labels: tuple[str, ...]  # the task's labels
    readout: str  # `shares` (an answer states a distribution) or `label` (an answer names one label)
    synonyms: Synonyms = ()  # other words for the labels, as `freeze_synonyms` returns them
    spoken: Spoken = ENGLISH  # the language of the answers, besides English

    def read(self, answers: Sequence[str]) -> ReadPool:
        """Return a clip's answers as a pool; `Answers` are read once."""
        if not isinstance(answers, Answers):
            return self._read(answers)
        if answers.read is None:
            answers.read = self._read(answers)
        return answers.read

    def _read(self, answers: Sequence[str]) -> ReadPool:
        reader = READERS[self.readout]
        cut = [getattr(answer, "finish", None) == "length" for answer in answers]
        asked = zip(map(str, answers), cut, strict=True)
        read = [reader(text, self.labels, self.synonyms, is_cut, self.spoken) for text, is_cut in asked]
        nothing = (np.nan,) * len(self.labels)
        pool = Pool(
            shares=np.array([answer.shares or nothing for answer in read]).reshape(len(read), len(self.labels)),
            logprobs=_attribute(answers, "logprob"),
            lengths=_attribute(answers, "n_tokens"),
            thinking=_attribute(answers, "thinking_tokens"),
            ratings=_attribute(answers, "rating"),
            stated_sums=np.array([answer.stated_sum for answer in read], dtype=float),
        )
        failed = Counter(str(answer.reason) for answer in read if answer.reason is not None)
        return ReadPool(pool, failed)


def _attribute(answers: Sequence[str], name: str) -> Array:
    """Return one attribute of all answers, shape (N,); NaN for answers without it."""
    return np.array([getattr(answer, name, None) for answer in answers], dtype=float)


@cache
def subsets(size: int, n: int, count: int = 64) -> Members:
    """Return about `count` subsets of n out of `size` members; all subsets if there are no more.

    They depend on the arguments alone, so every clip, model and run uses the same subsets. Each random order of the
    members is cut into as many subsets as possible, so all members are in nearly the same number of subsets.

    Returns:
        Membership, shape (subsets, size), with n True in each row.

    >>> subsets(3, 2).astype(int).tolist()
    [[1, 1, 0], [1, 0, 1], [0, 1, 1]]
    >>> subsets(20, 5).shape
    (64, 20)
    """
    if comb(size, n) <= count:
        chosen = np.array(list(combinations(range(size), n)))
    else:
        blocks = size // n
        orders = np.random.default_rng((size, n)).random((-(-count // blocks), size)).argsort(axis=1)
        chosen = orders[:, : blocks * n].reshape(-1, n)
    members = np.zeros((len(chosen), size), dtype=bool)
    np.put_along_axis(members, chosen, True, axis=1)
    members.flags.writeable = False
    return members


@lru_cache(maxsize=1 << 14)
def draws(counts: tuple[int, ...], n: int) -> tuple[Array, Array]:
    """Return all outcomes of drawing n members from several kinds, and their probabilities.

    Args:
        counts: Number of members of each kind.
        n: Number of members drawn without replacement, at most all.

    Returns:
        The numbers drawn of each kind, shape (cases, kinds), and the (hypergeometric) probabilities, shape (cases,).

    >>> [array.tolist() for array in draws((2, 1), 2)]
    [[[1.0, 1.0], [2.0, 0.0]], [0.6666666666666666, 0.3333333333333333]]
    """
    cases: list[tuple[tuple[int, ...], int]] = [((), 1)]  # numbers drawn of each kind so far, number of ways
    for kind, there in enumerate(counts):
        after = sum(counts[kind + 1 :])
        cases = [
            ((*drawn, k), ways * comb(there, k))
            for drawn, ways in cases
            for k in range(max(0, n - sum(drawn) - after), min(there, n - sum(drawn)) + 1)
        ]
    total = comb(sum(counts), n)
    return np.array([drawn for drawn, _ in cases], dtype=float), np.array([ways / total for _, ways in cases])

"""Fingerprints of the answers to a task, by which copies of submissions are found."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from ambi_eval.answers.candidate import Candidate
from ambi_eval.config.task_settings import TaskSettings
from ambi_eval.leaderboard.submission import Pools

Hashes = NDArray[np.int64]

# Two submissions that share this part of the answers to a task are one; different models agree on far fewer answers.
NEAR_DUPLICATE = 0.95
# As NEAR_DUPLICATE, if the order of a clip's answers does not count. It is higher, because sampled labels agree more
# often by chance if their order does not count.
SAME_IN_ANY_ORDER = 0.995
# Characters without a width, which cannot be seen.
INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))


def common(one: Hashes, other: Hashes, one_any_order: Hashes, other_any_order: Hashes) -> float:
    """Return the share of answers that two submissions have in common, by both hashes; 0 if it may be chance."""
    if len(one) == len(other):
        share = float((one == other).mean())
        if share >= NEAR_DUPLICATE:
            return share
    most = max(len(one_any_order), len(other_any_order))
    share = len(np.intersect1d(one_any_order, other_any_order, assume_unique=True)) / most
    return share if share >= SAME_IN_ANY_ORDER else 0.0


def fingerprint(pools: Pools, settings: TaskSettings) -> NDArray[np.int64]:
    """Return a hash of each answer, clips sorted by id."""
    return np.array(
        [hash(compared_text(answer, settings)) for clip in sorted(pools) for answer in pools[clip]], dtype=np.int64
    )


def any_order(pools: Pools, settings: TaskSettings) -> NDArray[np.int64]:
    """Return the hashes that `TaskFindings.any_order` describes; a label's hash includes its place."""
    numbers = []
    for clip in sorted(pools):
        seen: Counter[str] = Counter()
        for place, answer in enumerate(pools[clip]):
            text = compared_text(answer, settings)
            if settings.pool == "labels":  # two labels may have the same likelihood
                text = f"{place} {text}"
            seen[text] += 1
            numbers.append(hash((clip, text, seen[text])))
    return np.unique(np.array(numbers, dtype=np.int64))


def compared_text(answer: Candidate, settings: TaskSettings) -> str:
    """Return what counts in comparisons: a label's likelihood, or the text without case, blanks and invisibles."""
    if settings.pool == "labels" and answer.logprob is not None:
        return f"{answer.logprob:.4f}"
    return " ".join(str(answer).translate(INVISIBLE).casefold().split())

"""Published partitions of corpora, each made from the speakers."""

from __future__ import annotations

from collections.abc import Sequence


def emo_superb(group: int, tests: Sequence[int], step: int) -> dict[str, str]:
    """Return the part of each EMO-SUPERB fold that a group of speakers (1, 2 ...) belongs to.

    Fold k tests on the group `tests[k - 1]`, develops on the next one (`step` 1) or the one before (-1), in a circle,
    and trains on all others. Read from the label files of EMO-SUPERB (Wu et al., arXiv 2402.13018).

    >>> emo_superb(5, tests=(4, 3, 2, 1, 5), step=1)["emo_superb1"]
    'development'
    """
    parts = {}
    for fold, test in enumerate(tests, start=1):
        development = (test - 1 + step) % len(tests) + 1
        parts[f"emo_superb{fold}"] = "test" if group == test else "development" if group == development else "train"
    return parts


def leave_one_out(group: int, groups: int, name: str) -> dict[str, str]:
    """Return the part of each fold that a group belongs to, if each fold tests on one group and trains on the others.

    >>> leave_one_out(2, 3, "session")
    {'session1': 'train', 'session2': 'test', 'session3': 'train'}
    """
    return {f"{name}{fold}": "test" if group == fold else "train" for fold in range(1, groups + 1)}

"""Conflict items: clips whose voice and words suggest different emotions, in corpora where speakers share sentences."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ambi_eval.corpora.manifest import Clip
from ambi_eval.votes import majority, shares

Array = NDArray[np.float64]


def conflicting(clips: Sequence[Clip], votes: Array) -> tuple[list[int], Counter[str]]:
    """Return the numbers of the clips in which voice and words conflict, and how many others there are, by reason.

    The words suggest the label that raters chose most for the same sentence by other speakers, over all ways of saying
    it. A clip conflicts if its own raters did not choose this label most.

    For a neutral sentence this is mostly the neutral or the most frequent label. These items then distinguish a model
    that hears the voice from one that answers by the words or by habit. They do not show what happens when emotional
    words meet a voice with another emotion.

    Args:
        clips: The clips.
        votes: Their votes, shape (clips, labels).
    """
    q, top = shares(votes), majority(votes)
    of_sentence: defaultdict[str, Array] = defaultdict(lambda: np.zeros(votes.shape[1]))
    of_speaker: defaultdict[tuple[str, str | None], Array] = defaultdict(lambda: np.zeros(votes.shape[1]))
    for clip, row in zip(clips, q, strict=True):
        if clip.sentence is not None:
            of_sentence[clip.sentence] += row
            of_speaker[clip.sentence, clip.speaker] += row
    found, left_out = [], Counter[str]()
    for number, clip in enumerate(clips):
        if clip.sentence is None or clip.speaker is None:
            left_out["no sentence that others say, too"] += 1
            continue
        others = of_sentence[clip.sentence] - of_speaker[clip.sentence, clip.speaker]
        if others.sum() < 1e-9:
            left_out["no sentence that others say, too"] += 1
        elif (majority(others) * top[number]).any():
            left_out["voice and words agree"] += 1
        else:
            found.append(number)
    return found, left_out

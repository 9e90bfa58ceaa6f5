"""Conflict items: clips whose voice and words suggest different emotions, in corpora where speakers share sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ambi_eval.corpora.manifest import Clip
from ambi_eval.votes import Array, majority, mean_of_others, shares


def conflicting(clips: Sequence[Clip], votes: Array) -> tuple[list[int], Counter[str]]:
    """Return the numbers of the clips in which voice and words conflict, and how many others there are, by reason.

    The words suggest the label that raters chose most for the same sentence by other speakers, over all ways of saying
    it. A clip conflicts if its own raters did not choose this label most.

    For a neutral sentence this is mostly the neutral or the most frequent label. These items then distinguish a model
    that hears the voice from one that answers by the words or by habit. They do not show what happens when emotional
    words meet a voice with another emotion. `votes` has the shape (clips, labels).
    """
    speakers, sentences = [clip.speaker for clip in clips], [clip.sentence for clip in clips]
    suggested = majority(mean_of_others(shares(votes), speakers, within=sentences))  # zeros: nobody else says it
    agree = (suggested * majority(votes)).sum(axis=1) > 0
    found, left_out = [], Counter[str]()
    for number, clip in enumerate(clips):
        if clip.sentence is None or clip.speaker is None or not suggested[number].any():
            left_out["no sentence that others say, too"] += 1
        elif agree[number]:
            left_out["voice and words agree"] += 1
        else:
            found.append(number)
    return found, left_out

"""Matched pairs: two clips of one speaker, and the question which of them more people gave a label."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ambi_eval.config.corpus_settings import FIRST_OR_SECOND, CorpusSettings
from ambi_eval.corpora.manifest import Clip
from ambi_eval.corpora.selection import Selection
from ambi_eval.errors import AmbiError
from ambi_eval.votes import TIE_TOLERANCE, shares


def matched_pairs(settings: CorpusSettings, selection: Selection) -> Selection:
    """Return the pairs of a task's clips as new clips with the labels first and second, each pair in both orders.

    The clips of one speaker with the same sentence (or of one speaker, if no sentence is known) are paired in an order
    that depends on their ids alone; each clip is in one pair. A pair is left out if the label has the same share in
    both clips. Otherwise it has one vote, for the clip with the larger share. The model is asked in both orders, so a
    constant answer is right in exactly half of the cases.

    Raises:
        AmbiError: If there is no pair.
    """
    assert settings.pairs is not None
    shared = shares(selection.votes)[:, settings.vote_labels.index(settings.pairs.label)]
    groups: defaultdict[tuple[str, str | None], list[int]] = defaultdict(list)
    left_out = Counter(selection.left_out)
    for number, clip in enumerate(selection.clips):
        if clip.speaker is None:
            left_out["unknown speaker, so in no pair"] += 1
        else:
            groups[clip.speaker, clip.sentence].append(number)
    ordered: list[tuple[int, int]] = []
    for members in groups.values():
        members.sort(key=lambda number: selection.clips[number].id)
        turned = np.random.default_rng(len(members)).permutation(members).tolist()
        left_out["no other clip to make a pair with"] += len(turned) % 2
        for one, other in zip(turned[::2], turned[1::2], strict=False):
            if abs(shared[one] - shared[other]) <= TIE_TOLERANCE:
                left_out[f"in a pair with equal shares of {settings.pairs.label}"] += 2
            else:
                ordered += [(one, other), (other, one)]
    if not ordered:
        what = f"no two clips of one speaker differ in their share of '{settings.pairs.label}'"
        raise AmbiError(f"{settings.task}: {what}, so there is no pair")
    seconds = selection.at([second for _, second in ordered])
    votes = np.array([[float(shared[a] > shared[b]), float(shared[b] > shared[a])] for a, b in ordered])
    return replace(
        seconds,
        clips=[_pair(selection.clips, pair, of_pair) for pair, of_pair in zip(ordered, votes, strict=True)],
        votes=votes,
        before=[[span] if (span := selection.heard[first]) else [] for first, _ in ordered],
        panels=[None] * len(ordered),
        left_out={reason: count for reason, count in left_out.items() if count},
        corpus_size=0,
    )


def _pair(clips: Sequence[Clip], pair: tuple[int, int], votes: np.ndarray) -> Clip:
    first, second = (clips[number] for number in pair)
    of_one: dict[str, Any] = dict.fromkeys(("audio", "start", "end", "transcript", "acted", "consensus", "sha256"))
    named = dict(zip(FIRST_OR_SECOND, votes.tolist(), strict=True))
    return replace(second, id=f"{first.id} | {second.id}", votes=named, ratings=(), **of_one)

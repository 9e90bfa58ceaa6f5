"""Few-shot examples: clips of other speakers with their votes, which the model hears before the clip in question."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ambi_eval.config.corpus_settings import CorpusSettings
from ambi_eval.corpora.selection import Selection
from ambi_eval.errors import AmbiError
from ambi_eval.metrics.clustered import UNKNOWN


def with_examples(settings: CorpusSettings, selection: Selection) -> Selection:
    """Return the clips, each with the examples in its prompt.

    All clips of one speaker (or session, see `cluster`) have the same examples, so that a model can reuse its KV cache.
    They are drawn with a seed from the clips of all other speakers, each of a different speaker if there are enough.
    Clips of unknown speakers are left out, because they might be of the same speaker.

    Raises:
        AmbiError: If there are not enough clips of other speakers.
    """
    assert settings.shots is not None
    wanted = settings.shots.clips
    known = [number for number, cluster in enumerate(selection.clusters) if cluster != UNKNOWN]
    chosen: dict[str, list[int]] = {}
    for cluster in dict.fromkeys(selection.clusters[number] for number in known):
        others = [number for number in known if selection.clusters[number] != cluster]
        if len(others) < wanted:
            what = f"shots asks for {wanted} clips of other {settings.cluster}s than '{cluster}'"
            raise AmbiError(f"{settings.task}: {what}, and there are {len(others)}; take fewer")
        drawn = np.random.default_rng([settings.shots.seed, *cluster.encode()]).permutation(others).tolist()
        first_of_each = {selection.clusters[number]: number for number in reversed(drawn)}
        firsts = [number for number in drawn if first_of_each[selection.clusters[number]] == number]
        chosen[cluster] = [*firsts, *(number for number in drawn if number not in firsts)][:wanted]
    kept = selection.at(known)
    examples = [chosen[cluster] for cluster in kept.clusters]
    unknown = len(selection.clips) - len(known)
    spans = selection.unchanged or selection.heard
    return replace(
        kept,
        before=[[span for number in shown if (span := spans[number])] for shown in examples],
        shown=[selection.votes[shown] for shown in examples],
        left_out={**selection.left_out, **({f"unknown {settings.cluster}": unknown} if unknown else {})},
    )

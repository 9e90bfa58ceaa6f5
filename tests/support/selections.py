"""Selections of clips from bare votes, for tests that need no manifest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ambi_eval.corpora.manifest import Clip
from ambi_eval.corpora.selection import Selection
from ambi_eval.votes import Panel, panel_of


def selection_of(
    votes: ArrayLike,
    clusters: Sequence[str] | None = None,
    *,
    clips: Sequence[Clip] | None = None,
    panels: Sequence[Panel | None] | None = None,
) -> Selection:
    """Return a selection; by default each clip is a cluster of its own, and each whole vote is one rater's."""
    counts = np.asarray(votes, dtype=float)
    names = [f"s{number}" for number in range(len(counts))]
    labels = [f"label {number}" for number in range(counts.shape[1])]
    return Selection(
        clips=[Clip(id=name, votes={}) for name in names] if clips is None else clips,
        votes=counts,
        clusters=names if clusters is None else clusters,
        heard=[None] * len(counts),
        left_out={},
        panels=[panel_of(row, [], labels, {}) for row in counts] if panels is None else panels,
    )


def rated_selection(panels: Sequence[Panel], clusters: Sequence[str] | None = None) -> Selection:
    """Return a selection of clips with these raters."""
    return selection_of([panel.votes(panel.raters) for panel in panels], clusters, panels=panels)

"""The clips that a task asks about, with their votes and what the model hears."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ambi_eval.corpora.manifest import Clip
from ambi_eval.errors import counted
from ambi_eval.metrics.clustered import UNKNOWN
from ambi_eval.votes import Array, Panel, majority

Heard = dict[str, Any]

# If a task asks about less than this share of a corpus, a warning says that the scores describe only a part.
PARTIAL_BELOW = 0.5
# If more than this share of the clips have unknown clusters, a warning says that error bars ignore them.
MANY_UNKNOWN = 0.05


@dataclass(frozen=True, eq=False)
class Selection:
    """The clips that a task asks about."""

    clips: Sequence[Clip]  # the clips, in the order of the manifest
    votes: Array  # votes over the task's labels, shape (clips, C)
    # The speaker or session of each clip, or a substitute; clips with the same value depend on each other.
    clusters: Sequence[str]
    # What the model hears of each clip: path, start, end and control; None if the model only reads.
    heard: Sequence[Heard | None]
    left_out: Mapping[str, int]  # number of clips of the manifest that are not asked about, by reason
    panels: Sequence[Panel | None]  # the single raters of each clip; None if the votes do not distinguish them
    # What the model hears before each clip: examples, or the first clip of a pair; empty for other tasks.
    before: Sequence[Sequence[Heard]] = ()
    # The votes of each clip's examples, shape (examples, C); empty for tasks without examples.
    shown: Sequence[Array] = ()
    unchanged: Sequence[Heard | None] = ()  # the clips' own audio, if a control changes what is heard; else empty
    corpus_size: int = 0  # number of clips of the corpus, including those that its preparation skipped; 0: unknown
    # Warnings about votes that may be lost by mistake, one sentence each: a label without votes, votes for another
    # spelling of a label, a merge without votes.
    lost_votes: Sequence[str] = ()
    # Facts about the single raters, such as sex and age, by the rater's name.
    raters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # Further clips whose votes are withheld: the model answers them, too, but they are not scored.
    withheld: Sequence[tuple[Clip, Heard | None]] = ()

    @property
    def simulated(self) -> bool:
        """Whether the raters are simulated, as those of the demo."""
        return any(clip.release == "simulated" for clip in self.clips)

    @cached_property
    def noise(self) -> Array:
        """The sampling noise of each clip's shares (`Panel.noise`), shape (clips,); NaN for unknown raters."""
        return np.array([np.nan if panel is None else panel.noise(panel.raters) for panel in self.panels], dtype=float)

    @cached_property
    def one_rater(self) -> Array:
        """The expected `sq_debiased` of one random rater of each panel, shape (clips,); NaN for unknown raters.

        The noise of the mean of n raters is 1/n of that of one rater. If each rater gives one whole vote, this is
        n / (n - 1) sum q (1 - q).
        """
        return self.noise * [np.nan if panel is None else panel.size for panel in self.panels]

    def at(self, numbers: ArrayLike) -> Selection:
        """Return some of the clips, by their numbers, in the order of the numbers."""
        rows = np.asarray(numbers, dtype=int).tolist()
        of_clips = ("clips", "clusters", "heard", "panels", "before", "shown", "unchanged")
        filled = {name: values for name in of_clips if (values := getattr(self, name))}
        chosen: dict[str, Any] = {name: [values[row] for row in rows] for name, values in filled.items()}
        return replace(self, votes=self.votes[rows], **chosen)

    def summary(self) -> str:
        """Return one line for the log: clips, clips left out and why, clusters, the best possible accuracy."""
        skipped = "".join(f", {count} left out ({reason})" for reason, count in sorted(self.left_out.items()))
        withheld = f" and {len(self.withheld)} whose votes are withheld" if self.withheld else ""
        best = majority(self.votes).max(axis=1).mean()
        clusters = counted(len(set(self.clusters) - {UNKNOWN}), "cluster")
        clips = f"{counted(len(self.clips), 'clip')}{withheld}{skipped}"
        return f"{clips}; {clusters}; best reachable accuracy {best:.3f} (ties in the votes)"

    @property
    def is_partial(self) -> bool:
        """Whether only a small part of the corpus is asked about."""
        return len(self.clips) + len(self.withheld) < PARTIAL_BELOW * self.corpus_size

    @property
    def warnings(self) -> list[str]:
        """Warnings for readers of the scores and error bars, one sentence each; usually none."""
        of_corpus = f"PARTIAL: {len(self.clips):,} of the {self.corpus_size:,} clips of the corpus"
        return [*([of_corpus] if self.is_partial else []), *self.lost_votes, *self._unknown_clusters()]

    def _unknown_clusters(self) -> list[str]:
        if list(self.clusters) == [clip.id for clip in self.clips]:
            use = "error bars take all clips for independent, and are too narrow if they are not"
            return [f"no two clips are known to share a speaker, a dialogue or a file: {use}"]
        unknown = sum(cluster == UNKNOWN for cluster in self.clusters)
        if unknown <= MANY_UNKNOWN * len(self.clusters):
            return []
        share = f"{unknown:,} of {len(self.clusters):,} clips ({unknown / len(self.clusters):.0%})"
        use = "they count in the scores, but error bars use the other clips alone, and are wider"
        return [f"{share} have no known speaker: {use}"]

"""Bins of clips by ambiguity: the raters of the clips in one bin disagree about equally much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ambi_eval.corpora.selection import Selection
from ambi_eval.errors import AmbiError, counted
from ambi_eval.votes import TIE_TOLERANCE, Array, Panel, entropy_bits, shares

# If more than this share of the clips have the same entropy, there are no tertiles, and each bin is one value.
CROWDED = 1 / 3
# An entropy of less than this share of the clips has no bin of its own.
RARE = 0.05
# Three raters of each clip choose its bin (all agree, two agree, or none); in a panel of four, two raters do. At least
# two raters remain to score predictions, so that one of them can predict the other.
BINNING, FEWEST_BINNING, FEWEST_JUDGING = 3, 2, 2
# If less than this share of the clips have enough raters, all votes both choose the bins and score predictions.
ENOUGH_CLIPS = 0.75


@dataclass(frozen=True, eq=False)
class Bin:
    """Clips of similar ambiguity.

    The entropy of their votes is from `low` to `high` bits; `members` is their mask, shape (clips,).
    """

    low: float
    high: float
    members: NDArray[np.bool_]

    @property
    def name(self) -> str:
        """The range of its entropy, as tables show it."""
        return f"{self.low:.2f}-{self.high:.2f} bits" if self.high - self.low >= 0.005 else f"{self.low:.2f} bits"


@dataclass(frozen=True, eq=False)
class Binned:
    """Clips in bins of rising ambiguity, with the votes that score predictions in these bins.

    Attributes:
        bins: The bins, the least ambiguous first. `members` refers to the clips of `judged`.
        judged: The clips in the bins, with the votes of the raters who score predictions.
        numbers: The index of each of these clips in the whole selection, shape (clips,).
        note: One sentence for readers about the raters who chose the bins.
    """

    bins: list[Bin]
    judged: Selection
    numbers: NDArray[np.intp]
    note: str


def bin_clips(selection: Selection, edges: Sequence[float] | None = None) -> Binned:
    """Return the clips in bins; some raters choose the bins and the others score, if the panels are large enough.

    If the same votes did both, conclusions could be reversed: a panel that agrees by chance falls into the lowest bin,
    and there a correct prediction of disagreement looks wrong. On CREMA-D, the prior would beat half a panel by .07
    bits in the most ambiguous bin; it does not if other raters choose the bins. So three raters of each clip (two of a
    panel of four) choose the bin, and the others score. They are drawn without replacement, the same in every run. If
    fewer than three quarters of the clips have four known raters, all votes do both, and the note says so. Edges and
    errors are those of `ambiguity_bins`.
    """
    least = FEWEST_BINNING + FEWEST_JUDGING
    panels = {number: panel for number, panel in enumerate(selection.panels) if panel and panel.size >= least}
    if len(panels) < ENOUGH_CLIPS * len(selection.panels):
        note = f"bins: made of the same votes that judge, since most clips have fewer than {least} known raters"
        return Binned(ambiguity_bins(selection.votes, edges), selection, np.arange(len(selection.panels)), note)
    rng = np.random.default_rng(0)
    binning, judges = [], []
    for panel in panels.values():
        hands = rng.multivariate_hypergeometric(panel.raters, min(BINNING, panel.size - FEWEST_JUDGING))
        binning.append(panel.votes(hands))
        judges.append(Panel(panel.ballots, tuple((np.array(panel.raters) - hands).tolist())))
    numbers = np.array(list(panels))
    votes = np.array([panel.votes(panel.raters) for panel in judges])
    left_out = len(selection.panels) - len(panels)
    return Binned(
        bins=ambiguity_bins(binning, edges),
        judged=replace(selection.at(numbers), votes=votes, panels=judges),
        numbers=numbers,
        note=f"bins: made by {BINNING} raters of each clip (2 where it has 4), judged by the others"
        + (f"; in no bin: {counted(left_out, 'clip')} with fewer than {least} known raters" if left_out else ""),
    )


def ambiguity_bins(votes: ArrayLike, edges: Sequence[float] | None = None) -> list[Bin]:
    """Return the clips in bins of rising ambiguity, which is the entropy of their votes; every clip is in one of them.

    The bins are tertiles. If more than a third of the clips have the same entropy, as with small panels, each value
    that at least 5 % of the clips have makes one bin, and the other clips go to the nearest of these. `edges` are other
    upper edges in bits, rising, of all bins but the last; a clip on an edge belongs to the lower bin. `votes` have
    shape (clips, labels).

    Raises:
        AmbiError: If the edges do not rise, or leave a bin without clips.
    """
    entropy = np.round(entropy_bits(shares(votes)), 9)  # the order of the votes must not change the value
    cuts = np.array(_cuts(entropy) if edges is None else edges, dtype=float)
    if not (np.diff(cuts) > 0).all():
        raise AmbiError(f"the edges of the bins must rise, they are {', '.join(f'{cut:g}' for cut in cuts)}")
    number = np.searchsorted(cuts + TIE_TOLERANCE, entropy)
    ends = [0.0, *cuts, np.log2(np.shape(votes)[1])]
    bins = []
    for index, (start, end) in enumerate(pairwise(ends)):
        members = number == index
        if members.any():
            bins.append(Bin(float(entropy[members].min()), float(entropy[members].max()), members))
        elif edges is not None:
            raise AmbiError(
                f"no clip has an entropy between {start:g} and {end:g} bits: choose other edges of the bins"
            )
    return bins


def _cuts(entropy: Array) -> Array:
    values, counts = np.unique(entropy, return_counts=True)
    if counts.max() <= CROWDED * len(entropy):
        return np.unique(np.quantile(entropy, [1 / 3, 2 / 3]))
    values = values[counts >= RARE * len(entropy)]
    return (values[1:] + values[:-1]) / 2

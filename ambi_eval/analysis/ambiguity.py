"""Bins of clips whose raters disagree about equally much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ambi_eval.errors import AmbiError
from ambi_eval.votes import TIE_TOLERANCE, entropy_bits, shares

# A value of entropy that more than this share of the clips have makes tertiles impossible: bins are then values.
CROWDED = 1 / 3
# A value that fewer clips than this share have is no bin of its own.
RARE = 0.05


@dataclass(frozen=True, eq=False)
class Bin:
    """Clips of like ambiguity.

    Attributes:
        low: Least entropy of a clip's votes among them, in bits.
        high: Greatest entropy among them, in bits.
        members: Which clips these are, shape (clips,), bool.
    """

    low: float
    high: float
    members: NDArray[np.bool_]

    @property
    def name(self) -> str:
        """The range of entropy, as tables show it."""
        return f"{self.low:.2f}-{self.high:.2f} bits" if self.high - self.low >= 0.005 else f"{self.low:.2f} bits"


def ambiguity_bins(votes: ArrayLike, edges: Sequence[float] | None = None) -> list[Bin]:
    """Return the clips in bins of rising ambiguity, the entropy of their votes.

    Tertiles, unless over a third of the clips have the very same entropy, as where panels are small: then each value
    that at least 5 % of the clips have makes a bin, and the other clips go to the nearest of these.

    Args:
        votes: Votes, shape (clips, labels).
        edges: Upper edges in bits of all bins but the last, rising; a clip on an edge is below it. None: as above.

    Returns:
        The bins, the least ambiguous first; every clip is in one of them.

    Raises:
        AmbiError: If the edges do not rise, or leave a bin without clips.
    """
    entropy = np.round(entropy_bits(shares(votes)), 9)  # so that the same votes in another order are the same value
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


def _cuts(entropy: NDArray[np.float64]) -> NDArray[np.float64]:
    values, counts = np.unique(entropy, return_counts=True)
    if counts.max() <= CROWDED * len(entropy):
        return np.unique(np.quantile(entropy, [1 / 3, 2 / 3]))
    values = values[counts >= RARE * len(entropy)]
    return (values[1:] + values[:-1]) / 2

"""SIMULATED raters: all perceive the same mood in a voice, and each one turns it into a label slightly differently."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ambi_eval.votes import Array

LABELS = ("angry", "happy", "neutral", "sad")

# Prototype of each label: arousal 0 (calm) to 1 (excited), valence -1 (unpleasant) to 1 (pleasant).
PROTOTYPES = np.array([[0.85, -0.7], [0.80, 0.75], [0.45, 0.10], [0.12, -0.65]])
SPREAD = np.array([0.32, 0.50])  # width of a label along each axis


@dataclass(frozen=True)
class Rater:
    """One simulated rater: a noisy function from moods to labels.

    Attributes:
        keenness: Factor on the differences between labels; below 1 the rater distinguishes them less than average.
        bias: Log-odds that the rater adds to each label for every clip, shape (labels,).
        lapse: Share of clips for which the rater chooses a label at random.
    """

    id: str
    keenness: float
    bias: Array
    lapse: float

    def distribution(self, mood: Array) -> Array:
        """Return the probability that this rater names each of `LABELS` for a mood (arousal and valence).

        Its shape is (labels,). It is a softmax over the squared distances to the prototypes, mixed with lapses.
        """
        distances = (((mood - PROTOTYPES) / SPREAD) ** 2).sum(axis=1)
        logits = -self.keenness * distances + self.bias
        heard = np.exp(logits - logits.max())
        return (1 - self.lapse) * heard / heard.sum() + self.lapse / len(LABELS)

    def vote(self, mood: Array, rng: np.random.Generator) -> str:
        """Draw the label that this rater names for a mood."""
        return LABELS[rng.choice(len(LABELS), p=self.distribution(mood))]


def draw_raters(count: int, seed: int) -> list[Rater]:
    """Return raters named `simulated_01` and so on; the same arguments give the same raters."""
    rng = np.random.default_rng(seed)
    return [
        Rater(
            id=f"simulated_{number:02d}",
            keenness=float(rng.lognormal(0, 0.25)),
            bias=rng.normal(0, 0.4, len(LABELS)),
            lapse=float(rng.uniform(0, 0.08)),
        )
        for number in range(1, count + 1)
    ]

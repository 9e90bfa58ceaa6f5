"""Prior, model and people scored by the same raters: half of each clip's panel scores, and the other half predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ambi_eval.analysis import estimate
from ambi_eval.analysis.ambiguity import Binned
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.references.panels import Trials, split_panels
from ambi_eval.corpora.selection import Selection
from ambi_eval.metrics import METRICS
from ambi_eval.votes import Array, shares


@dataclass(frozen=True)
class HeldOut:
    """One metric of prior, model and half panel against the other half of the raters.

    Attributes:
        clips: Number of clips with at least two known raters.
        prior: Score of the mean distribution of these clips.
        model_minus_prior: Difference on the same clips and raters.
        gap_closed: (model - prior) / (human - prior): 0 if the model is as good as the prior, 1 if it is as good as the
            half panel. None if the half panel is not significantly better than the prior (95% interval), as on the most
            ambiguous clips.
    """

    clips: int
    prior: Estimate
    model: Estimate
    human: Estimate
    model_minus_prior: Estimate
    model_minus_human: Estimate
    human_minus_prior: Estimate
    gap_closed: Estimate | None


class HeldOutRaters:
    """Scores against half of each panel; expectations over all halves, exact except for very large panels."""

    def __init__(self, selection: Selection, binned: Binned | None = None) -> None:
        """Split the panels of all clips, and separately the scoring raters of the clips in bins."""
        self.binned, self.in_bins = binned, None if binned is None else HeldOutRaters(binned.judged)
        shared = split_panels(selection.panels, lambda raters: raters // 2)
        self.trials = None if shared is None else shared.of_each_clip()
        self.clusters = np.array(selection.clusters)
        self.prior = shares(selection.votes).mean(axis=0)

    def judge(self, p: Array, metric: str) -> list[HeldOut] | None:
        """Return one metric over all clips and then in each bin; None if no clip has two known raters.

        A row of NaN in `p`, shape (clips, labels), is an invalid prediction. The metric is one that single clips have.
        """
        if self.trials is None:
            return None
        found = self._judge(self.trials, p, metric, [np.ones(len(p), dtype=bool)])
        if self.binned and self.in_bins and self.in_bins.trials:
            bins = [b.members for b in self.binned.bins]
            found += self.in_bins._judge(self.in_bins.trials, p[self.binned.numbers], metric, bins)
        return found

    def _judge(self, trials: Trials, p: Array, metric: str, groups: Sequence[NDArray[np.bool_]]) -> list[HeldOut]:
        per_clip = METRICS[metric].per_clip
        guesses = np.broadcast_to(self.prior, trials.votes.shape), p[trials.clip_of_case], shares(trials.given)
        scores = np.stack([trials.expected(np.asarray(per_clip(p, trials.votes, trials.noise))) for p in guesses])
        clusters = self.clusters[trials.clips]
        up = 1 if METRICS[metric].higher_is_better else -1
        bounds = METRICS[metric].bounds(p.shape[1])
        in_groups = [group[trials.clips] for group in groups]
        return [_held_out(scores[:, here], clusters[here].tolist(), up, bounds) for here in in_groups]


def _held_out(scores: Array, clusters: Sequence[str], up: int, bounds: tuple[float, float]) -> HeldOut:
    prior, model, human = scores
    gap = estimate.of_mean(human - prior, clusters)
    is_gap = min(up * gap.low, up * gap.high) > 0
    return HeldOut(
        clips=len(prior),
        prior=estimate.of_mean(prior, clusters, bounds),
        model=estimate.of_mean(model, clusters, bounds),
        human=estimate.of_mean(human, clusters, bounds),
        model_minus_prior=estimate.of_mean(model - prior, clusters),
        model_minus_human=estimate.of_mean(model - human, clusters),
        human_minus_prior=gap,
        gap_closed=estimate.of_ratio(up * (model - prior), up * (human - prior), clusters) if is_gap else None,
    )

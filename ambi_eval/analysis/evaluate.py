"""Scores predictions and references: every metric with its 95% interval, over all clips and in each ambiguity bin."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from ambi_eval.analysis import estimate
from ambi_eval.analysis.ambiguity import Binned
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.references.panels import Trials, full_panels
from ambi_eval.corpora.selection import Selection
from ambi_eval.metrics import METRICS, SetMetric
from ambi_eval.votes import Array

Scores = dict[str, Estimate]

# If a prediction or its votes are random, a metric of a set of clips (F1, for example) is the mean over this many
# random draws. Metrics of single clips are exact expectations.
DRAWS = 16
WORTH = "worth_raters"


class Scorer:
    """Scores predictions on one set of clips."""

    def __init__(
        self,
        selection: Selection,
        bins: Sequence[NDArray[np.bool_]] = (),
        metrics: Collection[str] = METRICS.keys(),
    ) -> None:
        """Take the clips, the mask of the clips in each bin, shape (clips,), and the names of the metrics."""
        self.metrics = {name: METRICS[name] for name in metrics}
        self.clusters = selection.clusters
        self.groups = [np.ones(len(selection.votes), dtype=bool), *bins]
        self.one_rater = selection.one_rater

    def score(self, trials: Trials, p: Array) -> list[Scores]:
        """Return every metric of this scorer, and `worth_raters`, over all clips and then in each bin.

        `worth_raters`, which comes with `sq_debiased`, is the number of raters whose mean has the same expected squared
        error as the prediction: the `sq_debiased` of one rater divided by that of the prediction.

        `p` are the predicted distributions for the cases of the trials, shape (cases, labels); a row of NaN is an
        invalid prediction.
        """
        rng = np.random.default_rng(estimate.SEED)
        draws = [trials.draw(rng) for _ in range(DRAWS if trials.random else 1)]
        of_clips = {}
        for name, metric in self.metrics.items():
            of_cases = metric.per_clip(p, trials.votes, trials.noise)
            if of_cases is not None:
                of_clips[name] = trials.expected(of_cases)
        everything = []
        for group in self.groups:
            here = np.flatnonzero(group[trials.clips])
            clusters = [self.clusters[clip] for clip in trials.clips[here]]
            drawn = [(_rows(p, draw[here]), _rows(trials.votes, draw[here])) for draw in draws]
            scores = {}
            for name, metric in self.metrics.items():
                if isinstance(metric, SetMetric):
                    scores[name] = _of_set(metric, drawn, clusters)
                else:
                    scores[name] = estimate.of_mean(of_clips[name][here], clusters, metric.bounds(p.shape[1]))
            if "sq_debiased" in of_clips:
                one_rater, error = self.one_rater[trials.clips[here]], of_clips["sq_debiased"][here]
                scores[WORTH] = estimate.reciprocal(estimate.of_ratio(error, one_rater, clusters))
            everything.append(scores)
        return everything


class SystemScorer:
    """Scores the predictions of systems over all clips, and in bins of ambiguity."""

    def __init__(self, selection: Selection, binned: Binned, metrics: Collection[str] = METRICS.keys()) -> None:
        """Take the clips, the clips in bins, and the names of the metrics."""
        self.everywhere, self.all_votes = Scorer(selection, metrics=metrics), full_panels(selection)
        self.in_bins = Scorer(binned.judged, [b.members for b in binned.bins], metrics)
        self.judges, self.numbers = full_panels(binned.judged), binned.numbers

    def score(self, p: Array) -> tuple[Scores, list[Scores]]:
        """Return the scores of predictions, shape (clips, labels), over all clips and in each bin."""
        (overall,) = self.everywhere.score(self.all_votes, p)
        _, *of_bins = self.in_bins.score(self.judges, p[self.numbers])
        return overall, of_bins


def _of_set(metric: SetMetric, draws: Sequence[tuple[Array, Array]], clusters: Sequence[str]) -> Estimate:
    """Return the mean of a metric over random draws; a draw holds a prediction and votes for every clip."""
    value = float(np.mean([metric.value(p, votes) for p, votes in draws]))
    bounds = metric.bounds(draws[0][0].shape[1])
    if np.isnan(value):
        return estimate.UNDEFINED
    influences = [influence for p, votes in draws if (influence := metric.influence(p, votes)) is not None]
    if influences:
        return estimate.from_influence(value, np.mean(influences, axis=0), clusters, bounds)

    def of_resamples(weights: Array) -> Array:
        scores = np.empty(len(weights))
        for number, (p, votes) in enumerate(draws):
            scores[number :: len(draws)] = metric.resampled(p, votes, weights[number :: len(draws)])
        return scores

    return estimate.bootstrap(value, of_resamples, clusters, bounds)


def _rows(values: Array, rows: NDArray[np.intp]) -> Array:
    """Return rows of an array in column-major order, in which sums over a few labels are three times faster."""
    return np.take(values.T, rows, axis=1).T

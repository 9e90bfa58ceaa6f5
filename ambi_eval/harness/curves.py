"""The curve of a metric over the pool size N, from the scores that the harness aggregates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ambi_eval.analysis.estimate import as_json
from ambi_eval.analysis.scaling import scaling_curve
from ambi_eval.answers.score import CURVE_METRICS, CURVE_SIZES, wording_names
from ambi_eval.config.task_settings import TaskSettings
from ambi_eval.corpora.selection import Selection
from ambi_eval.harness.aggregation import BY_CLIP, ClipScore, overall

Aggregation = Callable[[Sequence[ClipScore]], float | str]


class CurveScores:
    """Keeps the clips' scores at each pool size, which the harness shows to the aggregating functions only."""

    def __init__(self, settings: TaskSettings) -> None:
        """Set up for a task."""
        self.settings = settings
        self.kept: dict[str, list[Sequence[ClipScore]]] = {}

    @property
    def points(self) -> dict[str, dict[int, str]]:
        """The names of the scores on the curve of each metric, by pool size N."""
        whole = self.settings.answers_per_clip
        if whole == 1 or not self.settings.has_curve:
            return {}
        return {
            metric: {**{n: f"{metric}@{n}" for n in CURVE_SIZES if n < whole}, whole: metric}
            for metric in CURVE_METRICS
            if metric in self.settings.metrics
        }

    def keeping(self, functions: Mapping[str, Aggregation]) -> dict[str, Aggregation]:
        """Return the aggregating functions of the curves' scores, changed so that they also keep these scores."""
        names = [name for points in self.points.values() for name in points.values()]
        names += wording_names(self.settings.metrics, self.settings.wordings)
        return {name: partial(self._keep, name, functions[name]) for name in names}

    def _keep(self, name: str, function: Aggregation, scores: Sequence[ClipScore]) -> float | str:
        self.kept.setdefault(name, []).append(scores)
        return function(scores)

    def wordings(self) -> dict[str, Any]:
        """Return the score of each single wording of the prompt, and their standard deviation, by metric."""
        found = {}
        for metric in CURVE_METRICS:
            names = wording_names([metric] if metric in self.settings.metrics else [], self.settings.wordings)
            if names and all(name in self.kept for name in names):
                scores = [overall(self.kept[name][0], None) for name in names]
                found[metric] = {"scores": scores, "standard_deviation": float(np.std(scores, ddof=1))}
        return found

    def curves(self, selection: Selection) -> dict[str, Any] | None:
        """Return the curves by metric, ready for JSON; None before the harness has aggregated every pipeline."""
        pipelines = [pipeline["name"] for pipeline in self.settings.filter_list]
        if not self.points or {len(scores) for scores in self.kept.values()} != {len(pipelines)}:
            return None
        drawn = self.settings.pool == "samples"
        means = [p["name"] for p in self.settings.filter_list if drawn and p["filter"][-1]["function"] == "ambi_mean"]
        # Sorted by id, as the overall scores are: the order of processes must not change a digit.
        first = next(iter(self.kept.values()))[0]
        order = sorted(range(len(first)), key=lambda number: BY_CLIP(first[number]))
        rows = {clip.id: row for row, clip in enumerate(selection.clips)}
        asked = selection.at([rows[first[number].result.clip] for number in order])
        curves = {}
        for metric, points in self.points.items():
            # The harness aggregates one pipeline after the other, so `kept` has a list for each.
            scores = {
                name: {n: np.array(self.kept[point][number], float)[order] for n, point in points.items()}
                for number, name in enumerate(pipelines)
            }
            curves[metric] = as_json(scaling_curve(scores, metric, asked, means=means))
        return curves

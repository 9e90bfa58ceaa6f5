"""The metrics for the library `evaluate`: `evaluate.load(ambi_eval.evaluate_module, "jsd_bits")`, without a network."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate

from ambi_eval.errors import AmbiError, did_you_mean
from ambi_eval.metrics import METRICS

Rows = Sequence[Sequence[float]]

ALL = "default"  # the name that `evaluate` gives a module loaded without one

CITATION = "See docs/metrics.md of ambi_eval: each metric names the source of its formula."
INPUTS = """
Args:
    predictions: Distributions over the labels, shape (clips, labels); a row that holds NaN is an invalid prediction,
        which scores the worst value.
    references: Votes (counts) or shares of the same shape.
"""


class AmbiMetrics(evaluate.Metric):
    """One metric of `METRICS`, chosen by the name given to `evaluate.load`, or all of them if none is given."""

    def _info(self) -> evaluate.MetricInfo:
        known = [ALL, *METRICS]
        if self.config_name not in known:
            hint = did_you_mean(self.config_name, known)
            raise AmbiError(f"no metric '{self.config_name}'{hint} (known: {', '.join(METRICS)})")
        row = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description="\n".join(f"{name}: {METRICS[name].description}" for name in self._names()),
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": row, "references": row}),
        )

    def _names(self) -> list[str]:
        return list(METRICS) if self.config_name == ALL else [self.config_name]

    def _compute(
        self, predictions: Sequence[Sequence[float]], references: Sequence[Sequence[float]]
    ) -> dict[str, float]:
        return {name: METRICS[name].value(predictions, references) for name in self._names()}

"""Writes the table of all metrics into docs/metrics.md: `python -m ambi_eval.report.metrics_table`, in a checkout."""

from __future__ import annotations

from pathlib import Path

from ambi_eval.config.docs import written
from ambi_eval.metrics import METRICS, ClipMetric

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def metrics_table() -> str:
    """Return a Markdown table of all metrics: meaning, better direction, score of an invalid clip, error bar."""
    lines = ["| metric | what it is | better | an invalid clip | error bar |", "|---|---|---|---|---|"]
    for metric in METRICS.values():
        up = "higher" if metric.higher_is_better else "lower"
        worst = metric.worst(4)
        # Only a multiple of 1 / labels depends on the number of labels.
        value = f"{worst:.4g}" if worst == metric.worst(8) else f"{4 * worst:.4g} / labels"
        invalid = f"scores {value}" if isinstance(metric, ClipMetric) else "see below"
        closed_form = metric.influence([[1, 0], [0, 1]], [[3, 1], [1, 2]]) is not None
        bar = "closed form" if closed_form else "bootstrap"
        lines.append(f"| `{metric.name}` | {metric.description} | {up} | {invalid} | {bar} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), {"metrics": metrics_table()}), encoding="utf-8")

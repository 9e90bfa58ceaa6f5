"""What a prediction scores against the votes of people: plain functions of numpy arrays, and the table of them all."""

from ambi_eval.metrics.registry import METRICS, ClipMetric, Metric, SetMetric

__all__ = ["METRICS", "ClipMetric", "Metric", "SetMetric"]

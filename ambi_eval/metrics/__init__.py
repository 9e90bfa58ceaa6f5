"""Metrics of a prediction against human votes: plain functions of numpy arrays, and the table of all metrics."""

from ambi_eval.metrics.registry import METRICS, ClipMetric, Metric, SetMetric

__all__ = ["METRICS", "ClipMetric", "Metric", "SetMetric"]

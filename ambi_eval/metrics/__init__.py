"""Metrics of a prediction against human votes: plain functions of numpy arrays, and the table of all metrics."""

from ambi_eval.metrics.registry import HEADLINE, METRICS, ClipMetric, Metric, SetMetric

__all__ = ["HEADLINE", "METRICS", "ClipMetric", "Metric", "SetMetric"]

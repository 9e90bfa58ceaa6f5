"""Numbers as pages, terminals and JSON files show them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from ambi_eval.analysis.estimate import Estimate

DASH = "\N{EN DASH}"
INFINITY = "\N{INFINITY}"


def short(value: float | None) -> str:
    """Return a number with three decimals, fewer above 1; a dash where there is none."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return INFINITY if value > 0 else f"-{INFINITY}"
    decimals = next((places for places, limit in ((3, 1.0005), (2, 10), (1, 100)) if abs(value) < limit), 0)
    return f"{round(value, decimals) + 0.0:,.{decimals}f}"  # no -0.000


def with_interval(estimate: Estimate | None) -> str:
    """Return a value and its 95% interval in brackets, "at least" where that is open; a dash without a value."""
    if estimate is None or math.isnan(estimate.value):
        return DASH
    if estimate.high == math.inf:
        known = "" if math.isinf(estimate.value) else f"{short(estimate.value)}, "
        return f"{known}at least {short(estimate.low)}" if math.isfinite(estimate.low) else DASH
    interval = f" [{short(estimate.low)}, {short(estimate.high)}]" if math.isfinite(estimate.low) else ""
    return short(estimate.value) + interval


def count(value: float) -> str:
    """Return a whole number with commas; a dash where there is none."""
    return f"{value:,.0f}" if math.isfinite(value) else DASH


def as_json(value: Any) -> Any:
    """Return dataclasses, mappings and lists, nested to any depth, as JSON takes them: NaN and infinities as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

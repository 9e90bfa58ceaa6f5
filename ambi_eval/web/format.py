"""Numbers as pages and terminals show them."""

from __future__ import annotations

import math

from ambi_eval.analysis.estimate import Estimate

DASH = "\N{EN DASH}"
INFINITY = "\N{INFINITY}"


def short(value: float | None) -> str:
    """Return a number with three decimals (two from 1, one from 10, none from 100); a dash for None and NaN."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return INFINITY if value > 0 else f"-{INFINITY}"
    decimals = next((places for places, limit in ((3, 1.0005), (2, 10), (1, 100)) if abs(value) < limit), 0)
    return f"{round(value, decimals) + 0.0:,.{decimals}f}"  # no -0.000


def with_interval(estimate: Estimate | None) -> str:
    """Return a value and its 95% interval in brackets, or "at least" the lower end if the upper end is infinite."""
    if estimate is None or math.isnan(estimate.value) or (math.isinf(estimate.value) and math.isnan(estimate.low)):
        return DASH
    if estimate.high == math.inf:
        known = "" if math.isinf(estimate.value) else f"{short(estimate.value)}, "
        return f"{known}at least {short(estimate.low)}" if math.isfinite(estimate.low) else DASH
    interval = f" [{short(estimate.low)}, {short(estimate.high)}]" if math.isfinite(estimate.low) else ""
    return short(estimate.value) + interval


def count(value: float) -> str:
    """Return a number rounded to an integer, with commas; a dash for NaN and infinity."""
    return f"{value:,.0f}" if math.isfinite(value) else DASH

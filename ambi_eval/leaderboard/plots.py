"""Plots each system's divergence against its cost."""

from __future__ import annotations

import math

from ambi_eval.errors import counted
from ambi_eval.leaderboard.board import Board
from ambi_eval.metrics import HEADLINE
from ambi_eval.web.charts import FULL, HALO, Chart, Spec, chart, frontier, point, series, tokens_axis, y_axis
from ambi_eval.web.format import count, with_interval

# References that the plot draws as lines.
LINES = ("prior", "half panel")
HEIGHT = 300


def quality_against_cost(board: Board) -> Chart | None:
    """Return a chart of divergence against generated tokens per clip; None if no system knows its tokens."""
    rows = [row for row in board.systems if math.isfinite(row.tokens) and math.isfinite(row.scores[HEADLINE].value)]
    if not rows:
        return None
    costs = [row.tokens for row in rows if row.tokens > 0]
    nothing = min(costs, default=2.0) / 2  # where systems that generate nothing stand on the logarithmic axis
    points = [
        {**point(row.model, max(row.tokens, nothing), row.scores[HEADLINE]), "name": row.title, "method": row.method}
        for row in rows
    ]
    best = frontier(points)
    models = list(dict.fromkeys(row.model for row in rows))
    highest = max([*costs, nothing * 10]) * 1.3
    middle = math.sqrt(nothing * highest)
    lines = [
        {"value": reference.scores[HEADLINE].value, "name": reference.name}
        for reference in board.references
        if reference.name in LINES and math.isfinite(reference.scores[HEADLINE].value)
    ]

    def spec(width: int) -> Spec:
        looks, x = series(models, width), tokens_axis(nothing, highest)
        y = y_axis("value", "JSD in bits, 0 is perfect")
        return {
            "height": HEIGHT,
            "data": {"values": points},
            "encoding": {
                "tooltip": [{"field": "name", "title": " "}, {"field": "score", "title": "JSD"}, {"field": "at"}]
            },
            "layer": [
                {
                    "data": {"values": lines},
                    "mark": {"type": "rule", "color": "var(--muted)", "strokeDash": [5, 4]},
                    "encoding": {"y": y, "tooltip": None},
                },
                {
                    "data": {"values": lines},
                    "mark": {"type": "text", "align": "left", "dx": 6, "color": "var(--muted)"},
                    "encoding": {"y": y, "x": {"value": "width"}, "text": {"field": "name"}, "tooltip": None},
                },
                {
                    "data": {"values": best},
                    "mark": {"type": "line", "color": "var(--muted)", "strokeDash": [2, 3]},
                    "encoding": {"x": x, "y": y, "tooltip": None},
                },
                {
                    "mark": {"type": "rule", "opacity": 0.5},
                    "encoding": {"x": x, "y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}}
                    | {"color": looks["color"]},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                    "encoding": {"x": x, "y": y, **looks},
                },
                {
                    "data": {"values": best},
                    "mark": {
                        "type": "text",
                        "align": {"expr": f"datum.at > {middle} ? 'right' : 'left'"},
                        "dx": {"expr": f"datum.at > {middle} ? -8 : 8"},
                        "dy": 12,
                        **HALO,
                    },
                    "encoding": {"x": x, "y": y, "text": {"field": "method"}},
                },
            ],
        }

    return chart(
        "Quality against cost",
        f"Divergence against tokens per clip of {counted(len(rows), 'system')}; the best at their cost are "
        + ", ".join(str(each["name"]) for each in best),
        ["system", "tokens per clip", "JSD, bits", *(b.name for b in board.bins)],
        [[row.title, count(row.tokens), *map(with_interval, (row.scores[HEADLINE], *row.binned))] for row in rows],
        spec,
        width=FULL,
    )

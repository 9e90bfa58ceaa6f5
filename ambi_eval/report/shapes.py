"""The two kinds of plots in the report: dots in rows, and curves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.web.charts import COLORS, Chart, Row, Spec, chart, series, values_of, x_axis, y_axis

JSD = "JSD in bits, 0 is perfect"
PLOT_HEIGHT = 230


def dots(title: str, x_title: str, rows: Sequence[Row]) -> Chart:
    """Return a plot with one row per name, in which the dots of all series stand side by side."""
    names = list(dict.fromkeys(row["row"] for row in rows))
    all_series = list(dict.fromkeys(row["series"] for row in rows))

    def spec(width: int) -> Spec:
        looks = series(all_series, width, legend=len(all_series) > 1)
        return {
            "height": max(26, 14 * len(all_series)) * len(names),
            "data": {"values": list(rows)},
            "encoding": {
                "y": {"field": "row", "type": "nominal", "sort": names, "title": None, "axis": names_axis(width)},
                "yOffset": {"field": "series", "sort": all_series},
                "tooltip": [{"field": "row", "title": " "}, {"field": "series", "title": " "}, {"field": "score"}],
            },
            "layer": [
                {
                    "mark": {"type": "rule", "strokeWidth": 2},
                    "encoding": {"x": x_axis("low", x_title, width), "x2": {"field": "high"}, "color": looks["color"]},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                    "encoding": {"x": x_axis("value", x_title, width), **looks},
                },
            ],
        }

    return chart(
        title,
        f"{title}: " + ", ".join(f"{row['row']}, {row['series']} {row['short']}" for row in rows),
        ["of", "what", x_title],
        [[row["row"], row["series"], row["score"]] for row in rows],
        spec,
    )


def curves(
    x: Spec,
    points: Sequence[Row],
    names: Sequence[str],
    width: int,
    below: Sequence[Spec],
    colors: Sequence[str] = COLORS,
    title: str = JSD,
) -> Spec:
    """Return the specification of lines with points and intervals, over the layers `below`, which have no legend."""
    looks = series(names, width, colors=colors)
    place = {"x": x, "y": y_axis("value", title)}
    ends = {"x": x, "y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}}
    layers = [{**layer, "encoding": {**place, **layer.get("encoding", {})}} for layer in below]
    return {
        "height": PLOT_HEIGHT,
        "data": {"values": list(points)},
        "encoding": {"tooltip": [{"field": "series", "title": " "}, {"field": "at"}, {"field": "score"}]},
        "layer": [
            *layers,
            {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {**place, "color": looks["color"]}},
            {"mark": {"type": "rule", "opacity": 0.6}, "encoding": {**ends, "color": looks["color"]}},
            {"mark": {"type": "point", "filled": True, "size": 55, "opacity": 1}, "encoding": {**place, **looks}},
        ],
    }


def dot(name: str, estimate: Estimate, of_series: str) -> Row:
    """Return the data of one dot: the name of its row, its value with the interval, and its series."""
    end = estimate.high if math.isfinite(estimate.high) else estimate.value
    return {"row": name, "series": of_series, "end": end, **values_of(estimate)}


def names_axis(width: int) -> Spec:
    """Return the axis with the names of the rows; names wider than 42 % of the plot are cut."""
    return {"ticks": False, "domain": False, "labelLimit": 0.42 * width, "labelPadding": 8}


def colors_of(names: Sequence[str]) -> list[str]:
    """Return a color for each name; they repeat where there are more names than colors."""
    return [COLORS[number % len(COLORS)] for number in range(len(names))]

"""Plots as Vega-Lite specifications: drawn as SVG when the page is made, live where the page runs scripts.

Colors are the variables of the page's style sheet, so that a plot is right in light, dark and print. Each plot is drawn
twice, for wide screens and for phones, so that its text is never scaled down.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

import vl_convert
from markupsafe import Markup

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.web.format import short, with_interval

Spec = dict[str, Any]
Row = dict[str, Any]

VERSION = "6.4"
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
FULL, HALF, PHONE = 1160, 560, 350
COLORS = tuple(f"var(--c{number})" for number in range(8))
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "triangle-right", "triangle-left")
FONT_SIZE = 12
# Of a text among lines: an edge in the color of the page, which the style sheet paints before the letters.
HALO = {"stroke": "var(--bg)", "strokeWidth": 4}
CONFIG: Spec = {
    "background": None,
    "font": "system-ui, sans-serif",
    "aria": False,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--fg)",
        "titleColor": "var(--muted)",
        "gridColor": "var(--line)",
        "domainColor": "var(--muted)",
        "tickColor": "var(--muted)",
        "labelFontSize": FONT_SIZE,
        "titleFontSize": FONT_SIZE,
        "titleFontWeight": "normal",
        "labelLimit": 1000,
        "labelOverlap": "greedy",
        "labelSeparation": 6,
        "titlePadding": 14,
    },
    "legend": {
        "labelColor": "var(--fg)",
        "titleColor": "var(--muted)",
        "labelFontSize": FONT_SIZE,
        "titleFontSize": FONT_SIZE,
        "titleFontWeight": "normal",
        "labelLimit": 1000,
        "orient": "bottom",
        "direction": "vertical",
        "symbolOpacity": 1,
        "symbolStrokeWidth": 2,
    },
    "text": {"color": "var(--fg)", "fontSize": FONT_SIZE},
    "range": {"category": list(COLORS), "symbol": list(SHAPES)},
}


@dataclass(frozen=True)
class Chart:
    """A plot with its words.

    Attributes:
        title: What it shows.
        description: The same for those who cannot see it: what is best, what is worst.
        header: Columns of the table of numbers.
        rows: Its rows.
        wide: The SVG for wide screens and for paper.
        narrow: The SVG for phones.
        spec: The Vega-Lite specification of the wide one, as JSON.
        css: Class of its place in the page: `full` or `half`.
    """

    title: str
    description: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    wide: Markup
    narrow: Markup
    spec: Markup
    css: str


def chart(
    title: str,
    description: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    spec: Callable[[int], Spec],
    *,
    width: int = HALF,
) -> Chart:
    """Return a plot.

    Args:
        title: What it shows.
        description: The same in words.
        header: Columns of its table of numbers.
        rows: Rows of that table.
        spec: Width in pixels -> specification of one view with layers.
        width: `FULL` or `HALF` of a wide page.
    """
    wide = whole(spec(width), width)
    return Chart(
        title=title,
        description=description,
        header=header,
        rows=rows,
        wide=svg(wide, description),
        narrow=svg(whole(spec(PHONE), PHONE), description),
        # "<" would let a name end the script element that holds the text.
        spec=Markup(json.dumps(wide, ensure_ascii=False).replace("<", "\\u003c")),
        css="full" if width == FULL else "half",
    )


def whole(spec: Spec, width: int) -> Spec:
    """Return a specification with look and size; axes and their labels are inside of the width."""
    fit = {"type": "fit-x", "contains": "padding"}
    return {
        "$schema": SCHEMA,
        "config": CONFIG,
        "width": width,
        "autosize": fit,
        "padding": {"left": 22, "right": 12, "top": 4, "bottom": 4},
        **spec,
    }


def svg(spec: Spec, description: str) -> Markup:
    """Return the SVG of a specification, one image for a screen reader."""
    drawn: str = vl_convert.vegalite_to_svg(spec, vl_version=VERSION)
    start = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1" '
    if not drawn.startswith(start):
        raise RuntimeError(f"vl-convert draws another kind of SVG: {drawn[:120]}")
    # The image is one for a screen reader: its parts need no roles of their own.
    drawn = re.sub(
        r' (?:role="graphics-[a-z]+"|aria-roledescription="[^"]*"|aria-hidden="true")', "", drawn[len(start) :]
    )
    return Markup('<svg role="img" aria-label="{}" ').format(description) + Markup(drawn)


def x_axis(field: str, title: str, width: int, **more: Any) -> Spec:
    """Return the encoding of a quantity along the horizontal axis, from 0, with as many ticks as there is room for."""
    ticks = {"tickCount": 3 if width == PHONE else 6}
    return {"field": field, "type": "quantitative", "title": title, "axis": ticks, **more}


def y_axis(field: str, title: str) -> Spec:
    """Return the encoding of a quantity along the vertical axis, from 0."""
    return {"field": field, "type": "quantitative", "title": title, "axis": {"tickCount": 5, "domain": False}}


def tokens_axis(nothing: float, highest: float) -> Spec:
    """Return the logarithmic axis of generated tokens per clip.

    Args:
        nothing: Where systems stand that generate no token.
        highest: Its end.
    """
    return {
        "field": "at",
        "type": "quantitative",
        "title": "generated tokens per clip",
        "scale": {"type": "log", "domain": [nothing, highest], "nice": False},
        "axis": {
            "values": [nothing, *(10.0**power for power in range(6) if nothing * 1.5 < 10.0**power <= highest)],
            "labelExpr": f"datum.value <= {nothing} ? 'none' : format(datum.value, ',')",
            "grid": False,
        },
    }


def series(
    names: Sequence[str], width: int = 0, *, colors: Sequence[str] = COLORS, legend: bool = True
) -> dict[str, Spec]:
    """Return the color and the shape of each series, so that either is enough to know it, and one legend for both.

    Args:
        names: The names of the series.
        width: Pixels for the legend, which get as many columns as fit; 0 leaves that to Vega.
        colors: They repeat where there are more series.
        legend: Whether there is a legend.
    """
    scale = {"domain": list(names)}
    colored = [colors[number % len(colors)] for number in range(len(names))]
    shaped = [SHAPES[(number + number // len(colors)) % len(SHAPES)] for number in range(len(names))]
    columns = {"columns": max(1, int(width / (8 * max(map(len, names)) + 50)))} if width and names else {}
    shown = {"title": None, **columns} if legend else None
    return {
        "color": {"field": "series", "type": "nominal", "scale": {**scale, "range": colored}, "legend": shown},
        "shape": {"field": "series", "type": "nominal", "scale": {**scale, "range": shaped}, "legend": shown},
    }


def frontier(points: Sequence[Row]) -> list[Row]:
    """Return the points that no other one beats for as little, the cheapest first."""
    found: list[Row] = []
    for point in sorted(points, key=lambda each: (each["at"], each["value"])):
        if not found or point["value"] < found[-1]["value"]:
            found.append(point)
    return found


def point(of_series: str, at: Any, estimate: Estimate) -> Row:
    """Return a point of a curve."""
    return {"series": of_series, "at": at, **values_of(estimate)}


def values_of(estimate: Estimate) -> Row:
    """Return an estimate as plots take it: an interval that is not defined has no length."""
    ends = {
        end: number if math.isfinite(number) else estimate.value
        for end, number in (("low", estimate.low), ("high", estimate.high))
    }
    return {"value": estimate.value, **ends, "short": short(estimate.value), "score": with_interval(estimate)}


@cache
def script() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script that needs no network."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VERSION))


@cache
def packed_script() -> str:
    """Return the script as a page carries it: gzip in base64, a third of its size."""
    return base64.b64encode(gzip.compress(script().encode(), mtime=0)).decode()


def script_hash(text: str) -> str:
    """Return how a Content-Security-Policy names a script or a style sheet that stands in the page."""
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"

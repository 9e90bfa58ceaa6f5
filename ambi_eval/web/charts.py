"""Plots as Vega-Lite specifications: drawn as SVG when the page is written, and interactive if the page runs scripts.

Colors are variables of the page's style sheet, so a plot fits light mode, dark mode and print. Each plot is drawn
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
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import vl_convert
from markupsafe import Markup

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.errors import AmbiError
from ambi_eval.paths import writing
from ambi_eval.web.format import short, with_interval

Spec = dict[str, Any]
Row = dict[str, Any]

VERSION = "6.4"
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
FULL, HALF, PHONE = 1160, 560, 350
COLORS = tuple(f"var(--c{number})" for number in range(8))
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "triangle-right", "triangle-left")
FONT_SIZE = 12
# An outline in the color of the page for text among lines; the style sheet paints it before the letters.
HALO = {"stroke": "var(--bg)", "strokeWidth": 4}
_TEXTS = {
    "labelColor": "var(--fg)",
    "titleColor": "var(--muted)",
    "labelFontSize": FONT_SIZE,
    "titleFontSize": FONT_SIZE,
    "titleFontWeight": "normal",
    "labelLimit": 1000,
}
CONFIG: Spec = {
    "background": None,
    "font": "system-ui, sans-serif",
    "aria": False,
    "view": {"stroke": None},
    "axis": {
        **_TEXTS,
        "gridColor": "var(--line)",
        "domainColor": "var(--muted)",
        "tickColor": "var(--muted)",
        "labelOverlap": "greedy",
        "labelSeparation": 6,
        "titlePadding": 14,
    },
    "legend": {
        **_TEXTS,
        "orient": "bottom",
        "direction": "vertical",
        "symbolOpacity": 1,
        "symbolStrokeWidth": 2,
        "columnPadding": 40,  # a browser may have wider letters than those that were measured here
    },
    "text": {"color": "var(--fg)", "fontSize": FONT_SIZE},
    "range": {"category": list(COLORS), "symbol": list(SHAPES)},
}


@dataclass(frozen=True)
class Chart:
    """A plot with its title, its description for screen readers, and its table of numbers.

    It has one SVG for wide screens and paper, and a narrow one for phones. `spec` is the Vega-Lite specification of the
    wide one, as JSON. `css` is the class for its width: `full` or `half`.
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
    """Return a plot, drawn for wide screens and for phones.

    `spec` is a function from the width in pixels to the specification of one view with layers; `width` is `FULL` or
    `HALF` of a wide page.
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
    """Return a complete specification, with configuration and size; the width includes the axes and their labels."""
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
    """Return the SVG of a specification; for a screen reader it is one image."""
    drawn: str = vl_convert.vegalite_to_svg(spec, vl_version=VERSION)
    start = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1" '
    if not drawn.startswith(start):
        raise RuntimeError(f"vl-convert draws another kind of SVG: {drawn[:120]}")
    # A screen reader sees one image, so its parts need no roles.
    drawn = re.sub(
        r' (?:role="graphics-[a-z]+"|aria-roledescription="[^"]*"|aria-hidden="true")', "", drawn[len(start) :]
    )
    return Markup('<svg role="img" aria-label="{}" ').format(description) + Markup(drawn)


def write_figure(drawn: Chart, path: Path) -> None:
    """Write a plot for a paper, in the light colors of the page; the ending of the path says the format.

    Raises:
        AmbiError: If the ending is none of `.pdf`, `.svg` and `.png`, or the file cannot be written.
    """
    style = (Path(__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")
    light = dict(reversed(re.findall(r"(--\w+): (#\w+)", style)))  # the first ones in the style sheet
    spec = re.sub(r"var\((--\w+)\)", lambda name: light[name[1]], drawn.spec.replace("var(--bg)", "transparent"))
    made = figure_format(path)(spec, vl_version=VERSION)
    with writing(path, "name another file.") as unfinished:
        unfinished.write_bytes(made.encode() if isinstance(made, str) else made)


def figure_format(path: Path) -> Callable[..., str | bytes]:
    """Return the function that draws the format of this path; an `AmbiError` if its ending is none of the three."""
    known: dict[str, Callable[..., str | bytes]] = {
        ".pdf": vl_convert.vegalite_to_pdf,
        ".svg": vl_convert.vegalite_to_svg,
        ".png": partial(vl_convert.vegalite_to_png, ppi=300),
    }
    if path.suffix.lower() not in known:
        raise AmbiError(f"--figure {path}: its ending says the format, and must be one of {', '.join(known)}.")
    return known[path.suffix.lower()]


def x_axis(field: str, title: str, width: int, **more: Any) -> Spec:
    """Return the encoding of a quantity along the horizontal axis; phones get fewer ticks."""
    ticks = {"tickCount": 3 if width == PHONE else 6}
    return {"field": field, "type": "quantitative", "title": title, "axis": ticks, **more}


def y_axis(field: str, title: str) -> Spec:
    """Return the encoding of a quantity along the vertical axis."""
    return {"field": field, "type": "quantitative", "title": title, "axis": {"tickCount": 5, "domain": False}}


def tokens_axis(nothing: float, highest: float) -> Spec:
    """Return the encoding of generated tokens per clip along a logarithmic axis.

    Systems without generated tokens stand at its start, `nothing`, where the axis says `none`.
    """
    beside = nothing * (highest / nothing) ** 0.2  # as far as `none` reaches on a phone
    steps = (1, 2, 5) if highest < 1000 * nothing else (1,)
    marks = [step * 10**power for power in range(7) for step in steps]
    return {
        "field": "at",
        "type": "quantitative",
        "title": "generated tokens per clip",
        "scale": {"type": "log", "domain": [nothing, highest], "nice": False},
        "axis": {
            "values": [nothing, *(each for each in marks if beside < each <= highest)],
            "labelExpr": f"datum.value <= {nothing} ? 'none' : format(datum.value, ',')",
            "grid": False,
        },
    }


def series(
    names: Sequence[str], width: int = 0, *, colors: Sequence[str] = COLORS, legend: bool = True
) -> dict[str, Spec]:
    """Return color and shape of series, with one legend for both.

    With a width in pixels, the legend has as many columns as fit, else one, and cuts longer names. The colors repeat if
    there are more series.
    """
    scale = {"domain": list(names)}
    colored = [colors[number % len(colors)] for number in range(len(names))]
    shaped = [SHAPES[(number + number // len(colors)) % len(SHAPES)] for number in range(len(names))]
    fit = {"columns": max(1, int(width / (8 * max(map(len, names), default=0) + 50))), "labelLimit": width - 100}
    shown = {"title": None, **(fit if width else {})} if legend else None
    return {
        "color": {"field": "series", "type": "nominal", "scale": {**scale, "range": colored}, "legend": shown},
        "shape": {"field": "series", "type": "nominal", "scale": {**scale, "range": shaped}, "legend": shown},
    }


def frontier(points: Sequence[Row]) -> list[Row]:
    """Return the Pareto frontier: the points such that no other has a lower value at the same or lower cost `at`."""
    found: list[Row] = []
    for point in sorted(points, key=lambda each: (each["at"], each["value"])):
        if not found or point["value"] < found[-1]["value"]:
            found.append(point)
    return found


def point(of_series: str, at: Any, estimate: Estimate) -> Row:
    """Return a point of a curve."""
    return {"series": of_series, "at": at, **values_of(estimate)}


def values_of(estimate: Estimate) -> Row:
    """Return the fields of an estimate for plots; an undefined or infinite end of the interval is the value itself."""
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
    """Return the script as pages hold it: compressed by gzip, in base64, a third of its size."""
    return base64.b64encode(gzip.compress(script().encode(), mtime=0)).decode()


def script_hash(text: str) -> str:
    """Return the source expression of a Content-Security-Policy for an inline script or style sheet."""
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"

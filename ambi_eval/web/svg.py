"""The few shapes that the report's plots are made of, as SVG whose colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

# Colour-blind readers tell series apart by their markers as well.
CORNERS: dict[str, list[tuple[float, float]]] = {
    "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    "triangle": [(0, -1.2), (1.2, 1), (-1.2, 1)],
}
MARKERS = ("circle", *CORNERS)
COLOURS = 8


@dataclass(frozen=True)
class Scale:
    """From values to positions along one axis, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value; one outside the scale is put at its end."""
        low, high, inside = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, inside = math.log(low), math.log(high), math.log(inside)
        share = (inside - low) / (high - low or 1.0)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, count: int = 5) -> list[float]:
        """Return round values within the scale, about as many as asked for."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            values = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
            return [value for value in values if self.low <= value <= self.high]
        raw = (self.high - self.low) / count or 1.0
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(number * step, 10) for number in range(first, last + 1)]


@dataclass
class Drawing:
    """An SVG that grows shape by shape.

    Attributes:
        width: In user units, about pixels.
        height: The same.
        shapes: What was drawn so far.
    """

    width: float
    height: float
    shapes: list[str] = field(default_factory=list)

    def line(self, points: Sequence[tuple[float, float]], css: str) -> None:
        """Draw a line through some points."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.shapes.append(f'<polyline class="{css}" points="{path}"/>')

    def rect(self, x: float, y: float, width: float, height: float, css: str, opacity: float = 1.0) -> None:
        """Draw a filled rectangle."""
        style = f' fill-opacity="{opacity:.3f}"' if opacity < 1 else ""
        self.shapes.append(
            f'<rect class="{css}" x="{x:g}" y="{y:g}" width="{max(width, 0):g}" height="{max(height, 0):g}"{style}/>'
        )

    def marker(self, x: float, y: float, css: str, shape: str = "circle", size: float = 4.0) -> None:
        """Draw one of `MARKERS`."""
        if shape == "circle":
            self.shapes.append(f'<circle class="{css}" cx="{x:g}" cy="{y:g}" r="{size:g}"/>')
            return
        path = " ".join(f"{x + size * dx:g},{y + size * dy:g}" for dx, dy in CORNERS[shape])
        self.shapes.append(f'<polygon class="{css}" points="{path}"/>')

    def text(self, x: float, y: float, text: str, css: str = "", anchor: str = "start") -> None:
        """Write a text at a point; `anchor` is start, middle or end."""
        self.shapes.append(f'<text class="{css}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>')

    def vertical_text(self, x: float, y: float, text: str) -> None:
        """Write a text that runs upwards, centred on a point."""
        self.shapes.append(
            f'<text class="axis" transform="translate({x:g} {y:g}) rotate(-90)" text-anchor="middle">'
            f"{escape(text)}</text>"
        )

    def axes(self, x: Scale, y: Scale, x_label: str, y_label: str, x_ticks: Sequence[float] | None = None) -> None:
        """Draw a frame of two axes with ticks, labels and faint grid lines."""
        for value in y.ticks(4):
            self.line([(x.start, y(value)), (x.end, y(value))], "grid")
            self.text(x.start - 6, y(value) + 4, number(value), "tick", "end")
        for value in x.ticks(5) if x_ticks is None else x_ticks:
            self.line([(x(value), y.start), (x(value), y.start + 4)], "frame")
            self.text(x(value), y.start + 17, number(value), "tick", "middle")
        self.line([(x.start, y.end), (x.start, y.start), (x.end, y.start)], "frame")
        self.text((x.start + x.end) / 2, self.height - 4, x_label, "axis", "middle")
        self.vertical_text(12, (y.start + y.end) / 2, y_label)

    def render(self, description: str) -> Markup:
        """Return the whole SVG with the description that a screen reader reads."""
        return Markup(
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{escape(description)}">'
            + "".join(self.shapes)
            + "</svg>"
        )


def number(value: float) -> str:
    """Return a value as an axis shows it: thousands with a comma, no needless zeros."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


def series(index: int) -> str:
    """Return the style class of the series of this index; colours repeat after eight."""
    return f"c{index % COLOURS}"

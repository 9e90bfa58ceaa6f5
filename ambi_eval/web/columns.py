"""Columns of tables on all pages: a column has a heading and a function that returns the cell of a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.web.format import DASH, count, short

Cell = Estimate | float | str | None


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        of: Function from a row to the content of the cell: an estimate (shown with its interval), a number, text, or
            None.
        hint: A small line below the heading: the unit, or which values are good.
        show: Function from a number to its text.
    """

    title: str
    of: Callable[[Any], Cell]
    hint: str = ""
    show: Callable[[float], str] = short
    help: str = ""

    def cell(self, row: Any) -> Markup:
        """Return the cell of a row as HTML, with the number by which the table is sorted."""
        value = self.of(row)
        if isinstance(value, str):
            return Markup(f'<td class="left">{escape(value)}</td>')
        number = value.value if isinstance(value, Estimate) else math.nan if value is None else value
        shown, interval = map(escape, self.texts(value))
        small = Markup(f"<small>{interval}</small>") if interval else ""
        return Markup(f'<td data-value="{number if math.isfinite(number) else ""}">{shown}{small}</td>')

    def texts(self, value: Cell) -> tuple[str, str]:
        """Return the content of a cell as text, and its interval in brackets; without an interval that is empty."""
        if isinstance(value, str):
            return value, ""
        number = value.value if isinstance(value, Estimate) else math.nan if value is None else value
        shown = self.show(number) if math.isfinite(number) else DASH
        if isinstance(value, Estimate) and value.high == math.inf:
            return f"at least {self.show(value.low)}" if math.isfinite(value.low) else DASH, ""
        if isinstance(value, Estimate) and math.isfinite(value.low):
            return shown, f"[{self.show(value.low)}, {self.show(value.high)}]"
        return shown, ""


def metric(name: str, title: str, hint: str = "", help_text: str = "") -> Column:
    """Return the column of a metric, of any row that has `scores`."""
    return Column(title, lambda row: row.scores.get(name), hint, help=help_text)


def percent(value: float) -> str:
    """Return a share in per cent."""
    return f"{100 * value:.1f} %"


def whole(title: str, of: Callable[[Any], Cell]) -> Column:
    """Return a column of whole numbers."""
    return Column(title, of, show=count)


def thinking(rows: Sequence[Any], of: Callable[[Any], float]) -> tuple[Column, ...]:
    """Return the column of the tokens that were thinking, if any row has some or does not know them; else nothing."""
    return (whole("of these thinking", of),) if any(of(row) != 0 for row in rows) else ()

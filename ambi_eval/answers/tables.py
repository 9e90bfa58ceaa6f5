"""Reads tables of labels with numbers, and lines that each give one listener's label."""

from __future__ import annotations

import math
import re

from ambi_eval.answers import grammar
from ambi_eval.answers.lexicon import Lexicon
from ambi_eval.answers.objects import Number, Stated, number_of, pick_column

_LISTENER_LINE = re.compile(rf"^\W*{grammar.LISTENER}\s*[:=.-]\s*(.*)$")


def read_listeners(plain: str, words: Lexicon) -> Stated | None:
    """Read lines that each give the label of one listener."""
    votes = []
    for line in plain.split("\n"):
        if match := _LISTENER_LINE.match(line):
            label = words.find(match[1].strip())
            if label is None:
                return None
            votes.append(label)
    if len(votes) < 2 or len(words.label.findall(plain)) > len(votes):
        return None
    return Stated({label: Number(votes.count(label) / len(votes)) for label in set(votes)})


def read_table(plain: str, words: Lexicon) -> Stated | None:
    """Read a table: rows of cells between bars, `&`, tabs or commas, with the labels in a column or in a row."""
    rows = [cells for line in plain.split("\n") if len(cells := _cells(line)) > 1]
    if len(rows) < 2:
        return None
    labels = [[words.find(cell) for cell in row] for row in rows]
    header = next((row for row, found in zip(rows, labels, strict=True) if not any(f is not None for f in found)), [])
    for row, found in zip(rows, labels, strict=True):
        across = {i: label for i, label in enumerate(found) if label is not None}
        if len(set(across.values())) > 1:
            alike = [other for other in rows if other is not row and len(other) == len(row)]
            values = [other for other in alike if not any(math.isnan(number_of(other[i]).value) for i in across)]
            if len(values) == 1:
                return Stated({label: number_of(values[0][i]) for i, label in across.items()})
            return Stated(several=True) if values else None
    columns: list[tuple[int, dict[str, Number]]] = []
    others: dict[str, Number] = {}
    conflict = False
    for row, found in zip(rows, labels, strict=True):
        named = [label for label in found if label is not None]
        # The first line of the table may begin with a sentence.
        heads = header[-len(row) :] if len(header) >= len(row) else [""] * len(row)
        numbers = {
            (heads[i] if heads[i].strip() else str(i)): number
            for i, cell in enumerate(row)
            if found[i] is None and not math.isnan((number := number_of(cell)).value)
        }
        if len(named) == 1:
            conflict |= named[0] in {label for label, _ in columns}
            columns.append((named[0], numbers))
        elif any(n.value > 0 for n in numbers.values()) and not re.match(r"\W*(?:total|sum)\b", " ".join(row)):
            if any(words.label.search(cell) for cell in row):
                return Stated(several=True)
            others[" ".join(row)] = max(numbers.values())
    if len(columns) < 2:
        return None
    picked = pick_column(columns)
    return Stated(several=True) if picked is None else Stated(picked, others=others, conflict=conflict)


def _cells(line: str) -> list[str]:
    """Return the cells of a table's row; one cell or none if the line is no row."""
    if "|" in line:
        return [cell.strip() for cell in line.strip().strip("|").split("|")]
    if "&" in line:
        return [cell.strip() for cell in line.split("&")]
    return []

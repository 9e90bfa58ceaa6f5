"""The tables of the report for a paper: as LaTeX, Markdown or CSV, with the numbers of the page."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.errors import AmbiError, counted
from ambi_eval.report import columns, plots, verdict
from ambi_eval.report.content import Content, Section
from ambi_eval.web.columns import Cell, Column
from ambi_eval.web.format import DASH
from ambi_eval.web.pages import write_text

SCORES, AMBIGUITY = "scores", "ambiguity"
JUDGED = "Intervals are 95 % intervals, clustered by {cluster}."
PEOPLE = "Rows of people are judged by the clip's other raters, a smaller panel and so a noisier target."
DIFFERENCE = (
    "JSD more: than the best system, on the same clips, with simultaneous intervals; p: sign-flip test, corrected for "
    "all pairs of systems (max-T)."
)
CONTROLS = "Controls are compared with the same strategy on the real clips, each for itself."
CLEAR = "Bold: the lowest JSD, significantly lower than that of every other system."
UNCLEAR = "A dagger marks systems whose JSD is not significantly above the lowest one, so none is bold."
HELD_OUT = "JSD in bits, of all clips and by the entropy of a clip's votes. Half of the raters judge everybody."
ALL_VOTES = "JSD in bits, of all clips and by the entropy of a clip's votes."


@dataclass(frozen=True)
class Table:
    """One table: the systems of a section, its controls and its references.

    Attributes:
        kind: `scores` or `ambiguity`.
        groups: By kind of row (`system`, `control`, `reference`), each row's name and the content of its cells.
        best: Name of the system whose JSD is significantly lower than that of every other one; None without one.
        like_best: Names of the systems whose JSD is not significantly above the lowest one, which is the first.
    """

    section: Section
    kind: str
    columns: Sequence[Column]
    groups: Mapping[str, Sequence[tuple[str, Sequence[Cell]]]]
    notes: Sequence[str]
    best: str | None = None
    like_best: Sequence[str] = ()


def write_tables(content: Content, path: Path) -> None:
    """Write the tables of all sections; the ending of the path says how.

    Raises:
        AmbiError: If the ending is none of `.tex`, `.md` and `.csv`, or the file cannot be written.
    """
    write_text(writer(path)([table for section in content.sections for table in tables(section)]), path)


def writer(path: Path) -> Callable[[Sequence[Table]], str]:
    """Return the function for the format of this path; an `AmbiError` if its ending is none of the three."""
    known = {".tex": latex, ".md": markdown, ".csv": as_csv}
    if path.suffix.lower() not in known:
        raise AmbiError(f"--table {path}: its ending says the format, and must be one of {', '.join(known)}.")
    return known[path.suffix.lower()]


def tables(section: Section) -> tuple[Table, Table]:
    """Return the scores of a section, and the divergence by the ambiguity of the clips."""
    first, *others = section.systems
    like_best = [y.full_name for y in others if y.against_best and not verdict.surely(y.against_best)]
    said = [*verdict.section_warnings(section), JUDGED.format(cluster=section.cluster)]
    notes = [*said, PEOPLE]
    if others:
        notes += [DIFFERENCE, UNCLEAR if like_best else CLEAR]
    if section.controls:
        notes.append(CONTROLS)
    notes += [f"{y.full_name} predicts the same as {', '.join(y.same_as)}." for y in section.systems if y.same_as]
    shown = columns.PAPER
    scores = Table(
        section,
        SCORES,
        shown,
        {
            "system": [(y.full_name, [c.of(y) for c in shown]) for y in section.systems],
            "control": [(y.full_name, [c.of(y) for c in shown]) for y in section.controls],
            "reference": [
                (name.replace("_", " "), [c.of(r) if c in columns.METRICS else None for c in shown])
                for name, r in section.references.items()
            ],
        },
        notes,
        first.full_name if others and not like_best else None,
        [first.full_name, *like_best] if like_best else [],
    )
    places = range(1 + len(section.bins))
    beside = [plots.held_out_references(section, place) for place in places]
    by_ambiguity = Table(
        section,
        AMBIGUITY,
        [Column(name, lambda row: row) for name in ("all clips", *(b.name for b in section.bins))],
        {
            "system": [(y.full_name, [plots.against_held_out(y, n) for n in places]) for y in section.systems],
            "reference": [(name.replace("_", " "), [at[name] for at in beside]) for name in beside[0]],
        },
        [*said, HELD_OUT if first.held_out else ALL_VOTES],
    )
    return scores, by_ambiguity


def latex(found: Sequence[Table]) -> str:
    """Return LaTeX with the rules of booktabs; intervals are below the numbers, which are those of the page.

    A table that is wider than the text of the paper is scaled down to it.
    """
    names = [re.sub("[^a-z0-9]+", "-", f"{table.section.corpus}-{table.kind}".lower()) for table in found]
    labels = [name if names.index(name) == place else f"{name}-{place}" for place, name in enumerate(names)]
    parts = map(_latex_table, found, labels)
    lost = "".join(sorted({each for each in markdown(found) if _tex(each) == "?" != each and each.isprintable()}))
    told = f"% pdfLaTeX has no {lost}: they are ? here, and as they should be in --table FILE.md\n" if lost else ""
    return "% Tables of ambi_eval. In the preamble: \\usepackage{booktabs,graphicx}\n" + told + "\n".join(parts)


def _latex_table(table: Table, label: str) -> str:
    lines = [
        r"\begin{table*}[t]",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{_tex(_title(table))} {_tex(' '.join(table.notes))}}}",
        rf"\label{{tab:{label}}}",
        r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(["", *(_tex(column.title) for column in table.columns)]) + r" \\",
    ]
    for rows in filter(None, table.groups.values()):
        lines.append(r"\midrule")
        for name, cells in rows:
            texts = [column.texts(cell) for column, cell in zip(table.columns, cells, strict=True)]
            values, intervals = [_tex(value) for value, _ in texts], [interval for _, interval in texts]
            title = re.sub(r"^\[", "{[}", _tex(name))  # after a line break, a bracket would be an option
            if name == table.best:
                values[0] = rf"\textbf{{{values[0]}}}"
            lines.append(" & ".join([title + r"$^\dagger$" * (name in table.like_best), *values]) + r" \\")
            if any(intervals):
                small = [rf"{{\scriptsize {_tex(each)}}}" if each else "" for each in intervals]
                lines.append(" & ".join(["", *small]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table*}", ""])


_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    DASH: "--",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
}
_SPECIAL |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"} | {
    each: "\\" + each for each in "&%$#_{}"
}
# pdflatex takes ASCII, ASCII letters with one accent (but not an ogonek) up to the last letter of Latin Extended-A, and
# these letters.
_LATIN = "ßæøłœıÆØŁŒ“”…—†"
_LAST_ACCENTED, _OGONEK = "\N{LATIN SMALL LETTER Z WITH CARON}", "\N{COMBINING OGONEK}"
_MINUS = re.compile(r"(?<![\w.])-(?=\d)")


def _tex(text: str) -> str:
    """Return plain text as LaTeX. Letters that pdflatex refuses become `?`: a quoted answer may have some."""
    return _MINUS.sub("$-$", "".join(_SPECIAL.get(letter) or (letter if _has(letter) else "?") for letter in text))


def _has(letter: str) -> bool:
    parts = unicodedata.normalize("NFD", letter)
    plain = parts[0].isascii() and parts[0].isprintable() and letter <= _LAST_ACCENTED and _OGONEK not in parts
    return plain or letter in _LATIN


def markdown(found: Sequence[Table]) -> str:
    """Return tables of GitHub's Markdown, each interval beside its number."""
    return "<!-- Tables of ambi_eval -->\n" + "\n".join(map(_markdown_table, found))


def _markdown_table(table: Table) -> str:
    lines = [
        f"**{_md(_title(table))}** {_md(' '.join(table.notes))}",
        "",
        "| | " + " | ".join(_md(column.title) for column in table.columns) + " |",
        "|---|" + "---:|" * len(table.columns),
    ]
    for name, cells in (row for rows in table.groups.values() for row in rows):
        texts = [
            _md(" ".join(filter(None, column.texts(cell)))) for column, cell in zip(table.columns, cells, strict=True)
        ]
        if name == table.best:
            texts[0] = f"**{texts[0]}**"
        lines.append(f"| {_md(name)}{' †' * (name in table.like_best)} | " + " | ".join(texts) + " |")
    return "\n".join([*lines, ""])


def _md(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text)


def _title(table: Table) -> str:
    section = table.section
    return f"{section.corpus}, {counted(section.clips, 'clip')} by {counted(section.clusters, section.cluster)}."


def as_csv(found: Sequence[Table]) -> str:
    """Return one row for each system, control and reference, in full precision.

    The interval of a number has two columns, `... low` and `... high`. An empty cell is unknown, `inf` is an end that
    does not exist. `note` has the warnings that stand before any score of the report.
    """
    rows: dict[tuple[int, str, str], dict[str, str | float]] = {}
    for table in found:
        section = table.section
        known: dict[str, str | float] = {"corpus": section.corpus, "clips": section.clips}
        note: dict[str, str | float] = {"note": " ".join(verdict.section_warnings(section))}
        named = [(kind, name, cells) for kind, of_kind in table.groups.items() for name, cells in of_kind]
        for place, column in enumerate(table.columns):
            title = column.title if table.kind == SCORES else f"JSD by ambiguity, {column.title}"
            ends = any(isinstance(cells[place], Estimate) for _, _, cells in named)
            for kind, name, cells in named:
                row = rows.setdefault((id(section), kind, name), known | {"kind": kind, "system": name} | note)
                row |= _numbers(title, cells[place], ends=ends)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(chain.from_iterable(rows.values()))), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    return text.getvalue()


def _numbers(title: str, cell: Cell, *, ends: bool) -> dict[str, str | float]:
    """Return the cells of one number by their headings, with those of its interval if the column has intervals."""
    low, high = (cell.low, cell.high) if isinstance(cell, Estimate) else (None, None)
    numbers = {title: cell.value if isinstance(cell, Estimate) else cell}
    numbers |= {f"{title} low": low, f"{title} high": high} if ends else {}
    return {name: "" if n is None or n != n else n for name, n in numbers.items()}  # NaN differs from itself

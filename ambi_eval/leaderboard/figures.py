"""The plot of a board: what each system scores against what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.leaderboard.board import Board, BoardReference, RankedSystem
from ambi_eval.leaderboard.verify import HEADLINE
from ambi_eval.report.figures import Figure
from ambi_eval.web.format import with_interval
from ambi_eval.web.svg import COLOURS, MARKERS, Drawing, Scale, number, series

# Systems that generate nothing stand at the left end of the logarithmic axis.
NO_TOKENS = 0.5
# References that the plot draws as lines, with their style.
LINES = {"prior": "ref-prior", "half panel": "ref-human"}


def quality_against_cost(board: Board) -> Figure | None:
    """Return divergence against generated tokens per clip, of all clips and in each bin of ambiguity.

    None where no system tells its tokens.
    """
    rows = [row for row in board.systems if math.isfinite(row.tokens) and math.isfinite(row.scores[HEADLINE].value)]
    if not rows:
        return None
    styles = _styles(rows)
    drawings = [("all clips", _drawing(board, rows, styles, None))]
    whole = [row for row in rows if row.binned]
    drawings += [(b.name, _drawing(board, whole, styles, number)) for number, b in enumerate(board.bins) if whole]
    legend = [(_key(f"dot {colour}", marker), method) for method, (colour, marker) in styles.items()]
    legend += [(_key(css), name) for name, css in LINES.items() if board.clips]
    legend.append((_key("frontier"), "the best at their cost, over all clips"))
    return Figure(
        title="Quality against cost, over all clips and by the entropy of the votes",
        drawings=drawings,
        header=["system", "strategy", "tokens per clip", "JSD, bits", *(b.name for b in board.bins)],
        rows=[
            [
                row.name,
                row.method,
                number(round(row.tokens, 1)),
                *map(with_interval, (row.scores[HEADLINE], *row.binned)),
            ]
            for row in rows
        ],
        legend=legend,
    )


def _drawing(
    board: Board, rows: Sequence[RankedSystem], styles: Mapping[str, tuple[str, str]], place: int | None
) -> Markup:
    """Return the plot of all clips (place None) or of one bin."""
    scores = [_score(row, place) for row in rows]
    lines = {LINES[row.name]: _score(row, place).value for row in board.references if row.name in LINES}
    lines = {css: value for css, value in lines.items() if math.isfinite(value)}
    drawing = Drawing(560, 340)
    x = Scale(NO_TOKENS, max(10.0, *(row.tokens for row in rows)) * 1.3, 60, 545, log=True)
    y = Scale(0, min(max([score.value for score in scores] + list(lines.values())) * 1.08, 1.0), 290, 12)
    ticks = [value for value in x.ticks() if value >= 1 and math.log10(value).is_integer()]
    drawing.axes(x, y, "generated tokens per clip", "JSD in bits (0 is best)", ticks)
    drawing.text(x(NO_TOKENS), y.start + 17, "none", "tick", "middle")
    for css, value in lines.items():
        drawing.line([(x.start, y(value)), (x.end, y(value))], css)
    places = [(x(max(row.tokens, NO_TOKENS)), y(score.value)) for row, score in zip(rows, scores, strict=True)]
    if place is None:
        drawing.line(sorted(at for row, at in zip(rows, places, strict=True) if row.efficient), "frontier")
    for row, score, at in zip(rows, scores, places, strict=True):
        colour, marker = styles[row.method]
        if math.isfinite(score.low):
            drawing.line([(at[0], y(score.low)), (at[0], y(score.high))], f"whisker {colour}")
        drawing.marker(*at, f"dot {colour}", marker)
    where = "all clips" if place is None else f"clips of {board.bins[place].name}"
    return drawing.render(f"Divergence against tokens per clip of {len(rows)} systems, {where}")


def _score(row: RankedSystem | BoardReference, place: int | None) -> Estimate:
    return row.scores[HEADLINE] if place is None else row.binned[place]


def _styles(rows: Sequence[RankedSystem]) -> Mapping[str, tuple[str, str]]:
    methods = sorted({row.method for row in rows})
    return {name: (series(i), MARKERS[(i + i // COLOURS) % len(MARKERS)]) for i, name in enumerate(methods)}


def _key(css: str, marker: str | None = None) -> Markup:
    drawing = Drawing(30, 12)
    if marker:
        drawing.marker(15, 6, css, marker)
    else:
        drawing.line([(1, 6), (29, 6)], css)
    return drawing.render("")

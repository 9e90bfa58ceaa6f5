"""The plots of the report: each an SVG with a description, a legend, and the table of what it shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from markupsafe import Markup

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.report.content import ClipError, Section, System
from ambi_eval.web.format import short, with_interval
from ambi_eval.web.svg import COLOURS, MARKERS, Drawing, Scale, number, series

JSD = "JSD in bits (0 is best)"


@dataclass(frozen=True)
class Figure:
    """A plot, or several that belong together.

    Attributes:
        title: What it shows.
        drawings: Name and SVG of each plot; a single one needs no name.
        header: Columns of the table of numbers.
        rows: Its rows.
        legend: Key and meaning of each kind of mark.
    """

    title: str
    drawings: list[tuple[str, Markup]]
    header: list[str]
    rows: list[list[str]]
    legend: list[tuple[Markup, str]] = field(default_factory=list)


def ranking(section: Section) -> Figure:
    """Return the divergence of all systems, with the prior's, over all clips."""
    scores = [system.scores["jsd_bits"] for system in section.systems]
    lines = {
        name: section.references[name].scores["jsd_bits"].value
        for name in ("prior", "perfect_model")
        if name in section.references
    }
    names = [system.full_name for system in section.systems]
    drawing = _dots(section, scores, lines, width=560)
    return Figure(
        title="All systems",
        drawings=[("", drawing.render(f"Divergence of {len(names)} systems, the best is {names[0]}"))],
        header=["system", "JSD bits"],
        rows=[[name, with_interval(score)] for name, score in zip(names, scores, strict=True)],
        legend=_legend({"prior": "the prior", "perfect_model": "a perfect model (sampling floor)"}, lines),
    )


def by_ambiguity(section: Section) -> Figure:
    """Return prior, people and all systems against the same raters, one plot for all clips and one for each bin."""
    groups = [("all clips", section.clips), *((b.name, b.clips) for b in section.bins)]
    names = [system.full_name for system in section.systems]
    drawings, rows = [], []
    for place, (group, clips) in enumerate(groups):
        scores = [_against_held_out(system, place) for system in section.systems]
        lines = _reference_lines(section, place)
        drawing = _dots(section, scores, lines, width=420, limits=_limits(section))
        drawings.append((f"{group}, {clips:,} clips", drawing.render(f"Divergence by system, {group}")))
        rows += [[group, name, short(value)] for name, value in lines.items()]
        rows += [[group, name, with_interval(score)] for name, score in zip(names, scores, strict=True)]
    return Figure(
        title="By ambiguity (entropy of the votes), judged by the same held-out raters",
        drawings=drawings,
        header=["clips", "system", "JSD bits"],
        rows=rows,
        legend=_held_out_legend(section),
    )


def multiples(section: Section) -> Figure:
    """Return one small plot per model and strategy: its divergence against the ambiguity of the clips."""
    low, high = _limits(section)
    names = [b.name for b in section.bins]
    systems = sorted(section.systems, key=lambda system: (system.model, system.name))
    drawings = []
    for system in systems:
        drawing = Drawing(250, 190)
        y = Scale(low, high, 150, 10)
        places = [60 + (index + 0.5) * 180 / len(names) for index in range(len(names))]
        x = Scale(0, 1, 52, 244)
        drawing.axes(x, y, "entropy of the votes, bits", "JSD, bits", x_ticks=[])
        for place, b in zip(places, section.bins, strict=True):
            drawing.text(place, 167, b.name.removesuffix(" bits"), "tick", "middle")
        for name in ("prior", "human"):
            values = [_reference_lines(section, place).get(name) for place in range(1, len(names) + 1)]
            drawing.line([(px, y(v)) for px, v in zip(places, values, strict=True) if v is not None], f"ref-{name}")
        scores = [_against_held_out(system, place) for place in range(1, len(names) + 1)]
        drawing.line([(px, y(s.value)) for px, s in zip(places, scores, strict=True)], "curve c0")
        for px, score in zip(places, scores, strict=True):
            _interval(drawing, px, y, score, "whisker c0")
            drawing.marker(px, y(score.value), "dot c0")
        drawings.append((system.full_name, drawing.render(f"Divergence of {system.full_name} by ambiguity")))
    return Figure(
        title="Model by strategy by ambiguity",
        drawings=drawings,
        header=["system", *names],
        rows=[
            [s.full_name, *(with_interval(_against_held_out(s, place)) for place in range(1, len(names) + 1))]
            for s in systems
        ],
        legend=[(_dot_key("c0"), "the system"), *_held_out_legend(section)],
    )


def scaling_by_size(section: Section) -> Figure | None:
    """Return divergence against the pool size N, with mere sampling and the asymptotes; None without curves."""
    curves = [
        (s, {float(n): e for n, e in s.curves["jsd_bits"].items()}) for s in section.systems if "jsd_bits" in s.curves
    ]
    if not curves:
        return None
    tended_to = {system.asymptote for system, _ in curves}
    figure = _scaling(
        "Score against the number of answers per clip, N",
        "answers per clip, N",
        section,
        curves,
        sorted({size for _, points in curves for size in points}),
        {source: by_metric["jsd_bits"] for source, by_metric in section.samplers.items()},
        [system for system in section.systems if system.full_name in tended_to],
    )
    extrapolated = [
        [system.full_name, "\N{INFINITY}, extrapolated", with_interval(system.extrapolated["jsd_bits"])]
        for system, _ in curves
        if system.asymptote is None and "jsd_bits" in system.extrapolated
    ]
    return replace(figure, rows=[*figure.rows, *extrapolated])


def scaling_by_tokens(section: Section) -> Figure | None:
    """Return divergence against the tokens generated per clip; None where models do not tell their tokens."""
    curves = []
    for system in section.systems:
        tokens = system.tokens.value
        if tokens > 0:  # neither NaN nor an exact read-out
            points = system.curves.get("jsd_bits") or {system.pool_size: system.scores["jsd_bits"]}
            curves.append((system, {tokens * size / system.pool_size: e for size, e in points.items()}))
    if not curves:
        return None
    without = [system for system in section.systems if system.tokens.value == 0]
    title = "Score against generated tokens per clip"
    return _scaling(title, "generated tokens per clip", section, curves, None, {}, without)


def reliability(system: System) -> Figure:
    """Return confidence against the share of raters who chose the predicted label."""
    drawing = Drawing(300, 270)
    x, y = Scale(0, 1, 52, 290), Scale(0, 1, 226, 10)
    drawing.axes(x, y, "predicted share of the top label", "raters who chose it")
    drawing.line([(x(0), y(0)), (x(1), y(1))], "ref-prior")
    most = max((b.clips for b in system.reliability), default=1)
    drawing.line([(x(b.confidence), y(b.agreement.value)) for b in system.reliability], "curve c0")
    for b in system.reliability:
        _interval(drawing, x(b.confidence), y, b.agreement, "whisker c0")
        drawing.marker(x(b.confidence), y(b.agreement.value), "dot c0", size=2.5 + 5 * math.sqrt(b.clips / most))
    return Figure(
        title="Confidence against agreement",
        drawings=[("", drawing.render(f"Reliability of {system.full_name}: below the diagonal it is too sure"))],
        header=["predicted share", "clips", "mean predicted", "raters who chose it"],
        rows=[
            [f"{b.low:.1f}\N{EN DASH}{b.high:.1f}", f"{b.clips:,}", short(b.confidence), with_interval(b.agreement)]
            for b in system.reliability
        ],
    )


def entropy_map(system: System, labels: Sequence[str]) -> Figure:
    """Return how many clips have which entropy of votes and of prediction."""
    most_bits, cells = math.log2(len(labels)), len(system.entropy_map)
    drawing = Drawing(300, 270)
    x, y = Scale(0, most_bits, 52, 290), Scale(0, most_bits, 226, 10)
    drawing.axes(x, y, "entropy of the prediction, bits", "entropy of the votes, bits")
    most = max(max(map(max, system.entropy_map)), 1)
    width, height = (x.end - x.start) / cells, (y.start - y.end) / cells
    for row, counts in enumerate(system.entropy_map):
        for column, count in enumerate(counts):
            if count:
                opacity = 0.12 + 0.88 * math.sqrt(count / most)
                top = y.start - (row + 1) * height
                drawing.rect(x.start + column * width, top, width - 0.5, height - 0.5, "cell", opacity)
    drawing.line([(x(0), y(0)), (x(most_bits), y(most_bits))], "ref-prior")
    step = most_bits / cells
    return Figure(
        title="Entropy of votes and prediction",
        drawings=[("", drawing.render(f"Clips by entropy of votes and of the prediction of {system.full_name}"))],
        header=["votes, from bits", *(f"{column * step:.2f}" for column in range(cells))],
        rows=[[f"{row * step:.2f}", *map(str, counts)] for row, counts in enumerate(system.entropy_map)],
    )


def vote_bars(clip: ClipError, labels: Sequence[str]) -> Markup:
    """Return votes and prediction of one clip as pairs of bars."""
    drawing = Drawing(190, 15 * len(labels))
    total = sum(clip.votes)
    said = "no valid prediction" if clip.predicted is None else "prediction " + _shares(labels, clip.predicted)
    for row, label in enumerate(labels):
        top = 15 * row
        drawing.text(66, top + 11, label, "tick", "end")
        drawing.rect(70, top + 2, 116 * clip.votes[row] / total, 5, "bar-votes")
        if clip.predicted is not None:
            drawing.rect(70, top + 8, 116 * clip.predicted[row], 5, "bar-model")
    return drawing.render(f"votes {_shares(labels, [votes / total for votes in clip.votes])}; {said}")


def _shares(labels: Sequence[str], values: Sequence[float]) -> str:
    return ", ".join(f"{label} {value:.2f}" for label, value in zip(labels, values, strict=True) if value >= 0.005)


def _scaling(
    title: str,
    x_label: str,
    section: Section,
    curves: Sequence[tuple[System, Mapping[float, Estimate]]],
    x_ticks: Sequence[float] | None,
    samplers: Mapping[str, Mapping[int, Estimate]],
    asymptotes: Sequence[System],
) -> Figure:
    """Return one plot per model; a strategy looks the same in all plots of a section."""
    places = [place for _, points in curves for place in points]
    lines = [e.value for points in samplers.values() for e in points.values()]
    highest = max(*(e.value for _, points in curves for e in points.values()), *lines, 0)
    curved_first = sorted(section.systems, key=lambda system: not system.curves)
    names = dict.fromkeys(system.name for system in curved_first)
    styles = {name: (series(i), MARKERS[(i + i // COLOURS) % len(MARKERS)]) for i, name in enumerate(names)}
    drawings = []
    for model in dict.fromkeys(system.model for system, _ in curves):
        drawing = Drawing(560, 360)
        x = Scale(min(places), max(places), 60, 540, log=True)
        y = Scale(0, min(highest * 1.05, 1), 310, 10)
        drawing.axes(x, y, x_label, JSD, x_ticks)
        for source, of_source in samplers.items():
            drawing.line([(x(at), y(e.value)) for at, e in of_source.items()], f"ref-{_style(source)}")
        for system in asymptotes:
            if system.model == model:
                level = y(system.scores["jsd_bits"].value)
                drawing.line([(x.start, level), (x.end, level)], "ref-exact")
        for system, points in curves:
            if system.model == model:
                colour, marker = styles[system.name]
                drawing.line([(x(at), y(e.value)) for at, e in points.items()], f"curve {colour}")
                for at, estimate in points.items():
                    _interval(drawing, x(at), y, estimate, f"whisker {colour}")
                    drawing.marker(x(at), y(estimate.value), f"dot {colour}", marker)
        drawings.append((model, drawing.render(f"{title}, {model}")))
    legend = [(_dot_key(*styles[name]), name) for name in dict.fromkeys(system.name for system, _ in curves)]
    meanings = {"people": "N draws from the raters' own shares: a perfect model", "prior": "N draws from the prior"}
    legend += [(_line_key(_style(source)), meanings[source]) for source in samplers]
    if asymptotes:
        legend.append((_line_key("exact"), "exact: no sampling, what the histogram tends to"))
    rows = [[system.full_name, number(at), with_interval(e)] for system, points in curves for at, e in points.items()]
    for source, of_source in samplers.items():
        rows += [[f"sampled: {source}", number(at), with_interval(e)] for at, e in of_source.items()]
    rows += [[s.full_name, "\N{INFINITY}", with_interval(s.scores["jsd_bits"])] for s in asymptotes]
    return Figure(title, drawings, ["system", x_label, "JSD bits"], rows, legend)


def _dots(
    section: Section,
    scores: Sequence[Estimate],
    lines: Mapping[str, float],
    width: float,
    limits: tuple[float, float] | None = None,
) -> Drawing:
    """Return one row per system: its name, and below it the score with its interval; lines for the references."""
    row = 32
    drawing = Drawing(width, row * len(scores) + 44)
    low, high = limits or _range([*scores, *(Estimate(v, v, v) for v in lines.values())])
    x, bottom = Scale(low, high, 10, width - 14), row * len(scores) + 4
    for value in x.ticks(5):
        drawing.line([(x(value), 0), (x(value), bottom)], "grid")
        drawing.text(x(value), bottom + 16, number(value), "tick", "middle")
    drawing.text(width / 2, bottom + 36, JSD, "axis", "middle")
    for name, value in lines.items():
        drawing.line([(x(value), 0), (x(value), bottom)], f"ref-{_style(name)}")
    models = sorted({system.model for system in section.systems})
    for index, (system, score) in enumerate(zip(section.systems, scores, strict=True)):
        top, colour = index * row, series(models.index(system.model))
        drawing.text(10, top + 13, system.full_name, "row")
        if math.isfinite(score.low):
            drawing.line([(x(score.low), top + 22), (x(score.high), top + 22)], f"whisker {colour}")
        drawing.marker(x(score.value), top + 22, f"dot {colour}")
    return drawing


def _interval(drawing: Drawing, x: float, y: Scale, estimate: Estimate, css: str) -> None:
    if math.isfinite(estimate.low):
        drawing.line([(x, y(estimate.low)), (x, y(estimate.high))], css)


def _against_held_out(system: System, place: int) -> Estimate:
    """Return the divergence against held-out raters where panels can be halved, else against all votes."""
    if system.held_out is not None:
        return system.held_out[place].model
    return [system.scores, *system.binned][place]["jsd_bits"]


def _reference_lines(section: Section, place: int) -> dict[str, float]:
    """Return the divergence of prior and half panel by the same raters as `_against_held_out`."""
    held_out = section.systems[0].held_out
    if held_out is not None:
        return {"prior": held_out[place].prior.value, "human": held_out[place].human.value}
    prior = section.references["prior"]
    return {"prior": [prior.scores, *prior.binned][place]["jsd_bits"].value}


def _held_out_legend(section: Section) -> list[tuple[Markup, str]]:
    return _legend({"prior": "the prior", "human": "half of the raters"}, _reference_lines(section, 0))


def _limits(section: Section) -> tuple[float, float]:
    places = range(len(section.bins) + 1)
    scores = [_against_held_out(system, place) for system in section.systems for place in places]
    lines = [value for place in places for value in _reference_lines(section, place).values()]
    return _range([*scores, *(Estimate(v, v, v) for v in lines)])


def _range(estimates: Iterable[Estimate]) -> tuple[float, float]:
    """Return a range from 0 to a little above the highest value."""
    ends = [end for e in estimates for end in (e.value, e.high) if math.isfinite(end)]
    return 0.0, min(max(ends) * 1.05, 1.0)


def _style(reference: str) -> str:
    return {"perfect_model": "exact", "people": "human"}.get(reference, reference)


def _legend(meanings: Mapping[str, str], drawn: Mapping[str, float]) -> list[tuple[Markup, str]]:
    return [(_line_key(_style(name)), meaning) for name, meaning in meanings.items() if name in drawn]


def _line_key(style: str) -> Markup:
    drawing = Drawing(30, 12)
    drawing.line([(1, 6), (29, 6)], f"ref-{style}")
    return drawing.render("")


def _dot_key(css: str, marker: str = "circle") -> Markup:
    drawing = Drawing(30, 12)
    drawing.line([(1, 6), (29, 6)], f"curve {css}")
    drawing.marker(15, 6, f"dot {css}", marker)
    return drawing.render("")

"""The plots of the report, one or two for each of its questions."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.errors import counted
from ambi_eval.report.content import Section, System, counterpart
from ambi_eval.report.shapes import JSD, colors_of, curves, dot, dots, names_axis
from ambi_eval.web.charts import (
    FULL,
    HALO,
    PHONE,
    Chart,
    Row,
    Spec,
    chart,
    frontier,
    point,
    series,
    tokens_axis,
    x_axis,
)
from ambi_eval.web.format import count, short, with_interval

ROW_HEIGHT = 21
REFERENCE_NAMES = {
    "perfect_model": "a perfect model",
    "half_panel": "half a panel of raters",
    "one_human": "one rater",
    "prior": "the prior, hears nothing",
}
# The names in narrow plots; the color of a row is that of its model.
WITHOUT_MODEL = {"labelExpr": "slice(datum.label, lastindexof(': ' + datum.label, ': '))"}
DASHED = [5, 4]
DOTTED = [2, 3]


def row_name(section: Section, system: System) -> str:
    """Return the name of a system in plots, without the model if there is one model only."""
    models = {each.model for each in section.systems}
    name = system.full_name if len(models) > 1 else system.name or system.model
    return name + (f" (= {len(system.same_as)} more)" if system.same_as else "")


def number_line(section: Section) -> Chart:
    """Return the plot of all systems and references, sorted by their divergence."""
    rows = [dot(row_name(section, s), s.scores["jsd_bits"], s.model) for s in section.systems]
    references = [
        dot(name, section.references[key].scores["jsd_bits"], "reference")
        for key, name in REFERENCE_NAMES.items()
        if key in section.references
    ]
    ordered = sorted([*rows, *references], key=lambda row: float(row["value"]))
    models = list(dict.fromkeys(system.model for system in section.systems))
    names = [row["row"] for row in ordered]
    far = max(float(row["end"]) for row in ordered)

    def spec(width: int) -> Spec:
        axis = names_axis(width) | (WITHOUT_MODEL if width == PHONE else {})
        y = {"field": "row", "type": "nominal", "sort": names, "title": None, "axis": axis}
        x = x_axis("value", JSD, width, scale={"domain": [0, far * 1.12], "nice": False})
        colors = [*colors_of(models), "var(--muted)"]
        looks = series([*models, "reference"], int(0.8 * width), colors=colors, legend=len(models) > 1)
        return {
            "height": ROW_HEIGHT * len(ordered),
            "data": {"values": ordered},
            "encoding": {"y": y, "tooltip": [{"field": "row", "title": " "}, {"field": "score", "title": "JSD"}]},
            "layer": [
                {
                    "data": {"values": references},
                    "mark": {"type": "rule", "color": "var(--muted)", "strokeDash": DOTTED, "opacity": 0.7},
                    "encoding": {"x": x, "y": None},
                },
                {
                    "mark": {"type": "rule", "strokeWidth": 2},
                    "encoding": {"x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}}
                    | {"color": looks["color"]},
                },
                {"mark": {"type": "point", "filled": True, "size": 70, "opacity": 1}, "encoding": {"x": x} | looks},
                {
                    "mark": {"type": "text", "align": "left", "dx": 8, **HALO},
                    "encoding": {"x": {"field": "end", "type": "quantitative"}, "text": {"field": "short"}},
                },
            ],
        }

    return chart(
        "Divergence from the raters' votes",
        f"Divergence of {counted(len(rows), 'system')} and {counted(len(references), 'reference')}, the best first: "
        + ", ".join(f"{row['row']} {row['short']}" for row in ordered),
        ["system or reference", "JSD bits"],
        [[row["row"], row["score"]] for row in ordered],
        spec,
        width=FULL,
    )


def by_size(section: Section) -> Chart | None:
    """Return divergence against the number of answers, beside that of pure sampling; None without curves."""
    systems = [system for system in section.systems if len(system.curves.get("jsd_bits", {})) > 1]
    if not systems:
        return None
    limits = {system.asymptote for system in systems}
    ends = [system for system in section.systems if system.full_name in limits]
    sizes = sorted({size for system in systems for size in system.curves["jsd_bits"]})
    points = [
        point(row_name(section, system), size, estimate)
        for system in systems
        for size, estimate in system.curves["jsd_bits"].items()
    ]
    exact = [point(row_name(section, s), size, s.scores["jsd_bits"]) for s in ends for size in (sizes[0], sizes[-1])]
    sampled = {
        source: [
            point(f"draws from the {meaning}", size, e) for size, e in section.samplers[source]["jsd_bits"].items()
        ]
        for source, meaning in (("people", "raters' shares"), ("prior", "prior"))
    }
    names = list(dict.fromkeys(point["series"] for point in [*points, *exact]))
    x = {
        "field": "at",
        "type": "quantitative",
        "title": "answers per clip, N",
        "scale": {"type": "log", "domain": [sizes[0], sizes[-1]], "nice": False},
        "axis": {"values": sizes, "grid": False},
    }

    area = {"data": {"values": sampled["people"]}, "mark": {"type": "area", "color": "var(--muted)", "opacity": 0.25}}
    limit = {
        "data": {"values": exact},
        "mark": {"type": "line", "strokeDash": DOTTED, "strokeWidth": 2},
        "encoding": {"color": series(names)["color"]},
    }
    everything = [*points, *exact, *sampled["people"], *sampled["prior"]]
    rows = [[point["series"], count(point["at"]), point["score"]] for point in everything]
    rows += [
        [row_name(section, system), "\N{INFINITY}, extrapolated", with_interval(system.extrapolated["jsd_bits"])]
        for system in systems
        if system.asymptote is None and "jsd_bits" in system.extrapolated
    ]
    return chart(
        "Against the number of answers",
        "Divergence against the number of answers per clip: "
        + ", ".join(f"{row_name(section, s)} from {short(_ends(s)[0])} to {short(_ends(s)[1])}" for s in systems),
        ["system", "N", "JSD bits"],
        rows,
        lambda width: curves(x, points, names, width, [area, limit]),
    )


def by_tokens(section: Section) -> Chart | None:
    """Return divergence against generated tokens per clip; None if no model counts its tokens."""
    told = [system for system in section.systems if not math.isnan(system.tokens.value)]
    paid = [system for system in told if system.tokens.value > 0]
    if not paid:
        return None
    curved = [system for system in paid if len(system.curves.get("jsd_bits", {})) > 1]
    points = [
        point(row_name(section, system), system.tokens.value * size / system.pool_size, estimate)
        for system in curved
        for size, estimate in system.curves["jsd_bits"].items()
    ]
    nothing = min([point["at"] for point in points] + [system.tokens.value for system in paid]) / 2
    singles = [
        point(row_name(section, system), max(system.tokens.value, nothing), system.scores["jsd_bits"])
        for system in told
        if system not in curved
    ]
    cheapest = frontier([*points, *singles])
    names = list(dict.fromkeys(point["series"] for point in points))
    highest = max(point["at"] for point in [*points, *singles])
    x = tokens_axis(nothing, highest * 1.3)

    circles = {
        "data": {"values": singles},
        "mark": {"type": "point", "filled": False, "size": 60, "color": "var(--muted)", "strokeWidth": 2},
    }
    words = {
        "data": {"values": [point for point in singles if point in cheapest]},
        "mark": {"type": "text", "align": "left", "dx": 8, "dy": 10, **HALO},
        "encoding": {"text": {"field": "series"}},
    }
    return chart(
        "Against generated tokens",
        "Divergence against generated tokens per clip; the best at their cost are "
        + ", ".join(f"{p['series']} ({count(p['at']) if p['at'] > nothing else 'no'} tokens)" for p in cheapest),
        ["system", "tokens per clip", "JSD bits"],
        [
            [p["series"], "0" if p["at"] == nothing else f"{p['at']:,.1f}", p["score"]]
            for p in sorted([*points, *singles], key=lambda point: float(point["at"]))
        ],
        lambda width: curves(x, points, names, width, [circles, words]),
    )


def by_ambiguity(section: Section) -> Chart:
    """Return the divergence in each ambiguity bin of the best system of each model, people and the prior."""
    names = [b.name.removesuffix(" bits") for b in section.bins]
    points = []
    for place, name in enumerate(names, start=1):
        for system in section.best:
            points.append(point(row_name(section, system), name, against_held_out(system, place)))
        points += [point(REFERENCE_NAMES[key], name, e) for key, e in held_out_references(section, place).items()]
    all_series = list(dict.fromkeys(point["series"] for point in points))
    best = [row_name(section, system) for system in section.best]
    colors = [*colors_of(best), "var(--fg)", "var(--muted)"]
    x: Spec = {"field": "at", "type": "ordinal", "sort": names}
    x |= {"title": "entropy of a clip's votes, bits", "axis": {"labelAngle": 0}}
    return chart(
        "By ambiguity of the clips",
        "Divergence by the entropy of the votes: "
        + ", ".join(f"{point['series']} at {point['at']} bits {point['short']}" for point in points),
        ["system", "entropy of the votes, bits", "JSD bits"],
        [[point["series"], point["at"], point["score"]] for point in points],
        lambda width: curves(x, points, all_series, width, [], colors),
    )


def against_held_out(system: System, place: int) -> Estimate:
    """Return the divergence from half of the raters if panels can be halved, else from all votes.

    The place is 0 for all clips, 1 for the first bin, and so on.
    """
    if system.held_out is not None:
        return system.held_out[place].model
    return [system.scores, *system.binned][place]["jsd_bits"]


def held_out_references(section: Section, place: int) -> dict[str, Estimate]:
    """Return the divergence of half a panel and of the prior from the same votes as in `against_held_out`."""
    held_out = section.systems[0].held_out
    if held_out is not None:
        return {"half_panel": held_out[place].human, "prior": held_out[place].prior}
    prior = section.references["prior"]
    return {"prior": [prior.scores, *prior.binned][place]["jsd_bits"]}


def confusion(section: Section, system: System) -> Chart:
    """Return the confusion matrix of the predicted top label and the raters' majority label."""
    predicted = [*section.labels, "none valid"]
    cells: list[Row] = [
        {"raters": label, "model": other, "clips": f"{round(value, 2):g}", "share": value / (sum(counts) or 1)}
        for label, counts in zip(section.labels, system.confusion, strict=True)
        for other, value in zip(predicted, counts, strict=True)
        if other != "none valid" or any(row[-1] for row in system.confusion)
    ]

    def spec(width: int) -> Spec:
        bare = {"ticks": False, "domain": False}
        across = {"title": "predicted top label", "orient": "top", "labelAngle": 0 if width > PHONE else -40, **bare}
        down = {"title": "majority of the raters", **bare}
        shade = {"field": "share", "type": "quantitative", "scale": {"domain": [0, 1], "range": [0, 0.6]}}
        return {
            "height": 36 * len(section.labels),
            "data": {"values": cells},
            "encoding": {
                "x": {"field": "model", "type": "nominal", "sort": predicted, "axis": across},
                "y": {"field": "raters", "type": "nominal", "sort": list(section.labels), "axis": down},
                "tooltip": [{"field": "raters"}, {"field": "model"}, {"field": "clips"}],
            },
            "layer": [
                {"mark": {"type": "rect", "color": "var(--c0)"}, "encoding": {"opacity": {**shade, "legend": None}}},
                {"mark": "text", "encoding": {"text": {"field": "clips"}}},
            ],
        }

    return chart(
        f"Labels, clips: {row_name(section, system)}",
        f"Confusion of labels by {system.full_name}: "
        + ", ".join(f"{cell['raters']} predicted as {cell['model']} {cell['clips']}" for cell in cells),
        ["raters", "predicted", "clips"],
        [[cell["raters"], cell["model"], cell["clips"]] for cell in cells],
        spec,
    )


def calibration(section: Section) -> Chart:
    """Return the reliability diagram of the best system of each model."""
    names = [row_name(section, system) for system in section.best]
    points = [
        {**point(name, b.confidence, b.agreement), "clips": count(b.clips)}
        for name, system in zip(names, section.best, strict=True)
        for b in system.reliability
    ]
    diagonal = {
        "data": {"values": [{"at": 0, "value": 0}, {"at": 1, "value": 1}]},
        "mark": {"type": "line", "color": "var(--muted)", "strokeDash": DASHED},
        "encoding": {"tooltip": None},
    }

    def spec(width: int) -> Spec:
        x = x_axis("at", "predicted share of the top label", width, scale={"domain": [0, 1]})
        return curves(x, points, names, width, [diagonal], title="share of raters who chose it")

    return chart(
        "Calibration",
        "Predicted share of the top label against the share of raters who chose it: "
        + ", ".join(f"{p['series']} {short(p['at'])} against {p['short']}" for p in points),
        ["system", "predicted share", "share of raters", "clips"],
        [[p["series"], short(p["at"]), p["score"], p["clips"]] for p in points],
        spec,
    )


def subgroups(section: Section) -> Chart | None:
    """Return the divergence minus that of the prior for groups of speakers; None without such groups."""
    rows = [
        {**dot(f"{group.trait}: {group.name}", group.mean, row_name(section, system)), "clips": count(group.clips)}
        for system in section.best
        for group in system.subgroups
    ]
    if not rows:
        return None
    return dots(
        "Groups of speakers: JSD less that of the prior", "JSD minus the prior's, bits; below 0 is better", rows
    )


def controls(section: Section) -> Chart | None:
    """Return each control beside the same strategy on the real clips; None if no control ran."""
    rows = []
    for control in section.controls:
        twin = counterpart(control, section.systems)
        name = row_name(section, twin) if twin else control.full_name
        rows += [dot(name, twin.scores["jsd_bits"], "the voice")] if twin else []
        rows.append(dot(name, control.scores["jsd_bits"], control.control))
    unique = list({(row["row"], row["series"]): row for row in rows}.values())
    return dots("The voice, and what stood in its place", JSD, unique) if unique else None


def _ends(system: System) -> tuple[float, float]:
    curve: Mapping[int, Estimate] = system.curves["jsd_bits"]
    return curve[min(curve)].value, curve[max(curve)].value

"""A funnel as a table for the terminal, and as an HTML page with plots."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from ambi_eval.errors import counted
from ambi_eval.funnel.content import Funnel
from ambi_eval.funnel.sentence import sentences
from ambi_eval.web.charts import COLORS, FULL, HALF, Chart, Spec, chart, values_of, x_axis, y_axis
from ambi_eval.web.format import short, with_interval
from ambi_eval.web.pages import environment, page_parts, write_text

TEMPLATES = Path(__file__).parent / "templates"
BITS = "bits per vote, gained over the prior of the other speakers"
ROW_HEIGHT = 24


def table(funnel: Funnel) -> Table:
    """Return the table for a terminal of 80 columns."""
    shown = Table("", "bits per vote", "lost here", "raw", box=None)
    clips = counted(funnel.clips, "clip")
    shown.title = f"{funnel.model} on {funnel.corpus}: {clips} by {counted(funnel.clusters, funnel.cluster)}"
    shown.title_justify = "left"
    lost = {step.key: step.lost for step in funnel.steps}
    for stage in funnel.stages:
        before = short(lost[stage.key].value) if stage.key in lost else ""
        shown.add_row(stage.name, with_interval(stage.gain), before, short(stage.raw.value) if stage.raw else "")
    for title, rows in (("beside it", funnel.references), ("controls", funnel.controls)):
        if rows:
            shown.add_row("")
            shown.add_row(f"{title}:")
        for row in rows:
            shown.add_row(f"  {row.name}", with_interval(row.gain))
    return shown


def write_page(funnel: Funnel, path: Path) -> None:
    """Write the page: one file that needs no network; an `AmbiError` if the file cannot be written."""
    template = environment(TEMPLATES).get_template("funnel.html.j2")
    page = template.render(
        funnel=funnel, sentences=sentences(funnel), way=way(funnel), depth=depth(funnel), **page_parts()
    )
    write_text(page, path)


def way(funnel: Funnel) -> Chart:
    """Return the plot of the bits per vote at each stage of the model, and of the references."""
    rows = [{"row": stage.name, "kind": "the model", **values_of(stage.gain)} for stage in funnel.stages]
    rows += [{"row": each.name, "kind": "reference", **values_of(each.gain)} for each in funnel.references]
    names = [row["row"] for row in rows]

    def spec(width: int) -> Spec:
        y = {"field": "row", "type": "nominal", "sort": names, "title": None, "axis": {"labelLimit": width // 2}}
        color = {
            "field": "kind",
            "type": "nominal",
            "scale": {"domain": ["the model", "reference"], "range": [COLORS[0], "var(--muted)"]},
            "legend": None,
        }
        return {
            "height": ROW_HEIGHT * len(rows),
            "data": {"values": rows},
            "encoding": {"y": y, "tooltip": [{"field": "row", "title": " "}, {"field": "score", "title": "bits"}]},
            "layer": [
                {
                    "mark": {"type": "bar", "height": 11},
                    "encoding": {"x": x_axis("value", BITS, width), "color": color},
                },
                {
                    "mark": {"type": "rule", "strokeWidth": 2, "color": "var(--fg)"},
                    "encoding": {"x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}},
                },
                {
                    "mark": {"type": "text", "align": "left", "dx": 6},
                    "encoding": {"x": {"field": "high", "type": "quantitative"}, "text": {"field": "short"}},
                },
            ],
        }

    return chart(
        "From the microphone to the answer",
        "Bits per vote at each stage: " + ", ".join(f"{row['row']} {row['short']}" for row in rows),
        ["stage or reference", "bits per vote"],
        [[row["row"], row["score"]] for row in rows],
        spec,
        width=FULL,
    )


def depth(funnel: Funnel) -> Chart | None:
    """Return the plot of the bits per vote at each layer of the language model; None if there is only one layer."""
    if len(funnel.depth) < 2:
        return None
    rows = [{"at": int(each.name.split()[-1]), **values_of(each.gain)} for each in funnel.depth]

    def spec(width: int) -> Spec:
        x = {"field": "at", "type": "quantitative", "title": "layer", "axis": {"values": [row["at"] for row in rows]}}
        y = y_axis("value", "bits per vote")
        ends = {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}}
        return {
            "height": 230,
            "width": width,
            "data": {"values": rows},
            "encoding": {"x": x, "tooltip": [{"field": "at", "title": "layer"}, {"field": "score", "title": "bits"}]},
            "layer": [
                {"mark": {"type": "area", "opacity": 0.2, "color": COLORS[0]}, "encoding": ends},
                {"mark": {"type": "line", "point": True, "color": COLORS[0]}, "encoding": {"y": y}},
            ],
        }

    return chart(
        "Over the depth of the language model",
        "Bits per vote by layer: " + ", ".join(f"{row['at']}: {row['short']}" for row in rows),
        ["layer", "bits per vote"],
        [[str(row["at"]), row["score"]] for row in rows],
        spec,
        width=HALF,
    )

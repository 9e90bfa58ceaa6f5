"""The report as one HTML file that opens from disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ambi_eval.analysis.evaluate import WORTH
from ambi_eval.metrics import METRICS
from ambi_eval.report import figures
from ambi_eval.report.build import WORST_CLIPS
from ambi_eval.report.content import Content, Section
from ambi_eval.web.pages import STYLE, TABLES, environment, write_text

TEMPLATES = Path(__file__).parent / "templates"


def write_page(content: Content, path: Path) -> None:
    """Write the report as one HTML file that needs nothing else.

    Raises:
        AmbiError: If the file cannot be written.
    """
    write_text(render(content), path)


def render(content: Content) -> str:
    """Return the page."""
    return (
        environment(TEMPLATES)
        .get_template("report.html.j2")
        .render(
            content=content,
            figures=[_figures(section) for section in content.sections],
            bars=figures.vote_bars,
            max_entropy=lambda section: math.log2(len(section.labels)),
            metrics={name: metric.description for name, metric in METRICS.items()}
            | {WORTH: "Number of raters whose mean is as far off, from sq_debiased: more is better"},
            worst_clips=WORST_CLIPS,
            css=Markup(STYLE.read_text(encoding="utf-8")),
            js=Markup(TABLES.read_text(encoding="utf-8")),
        )
    )


def _figures(section: Section) -> dict[str, Any]:
    return {
        "ranking": figures.ranking(section),
        "by_ambiguity": figures.by_ambiguity(section),
        "multiples": figures.multiples(section),
        "by_size": figures.scaling_by_size(section),
        "by_tokens": figures.scaling_by_tokens(section),
        "reliability": [figures.reliability(system) for system in section.systems],
        "entropy": [figures.entropy_map(system, section.labels) for system in section.systems],
    }

"""The report as one HTML file that opens from disk, and its numbers as JSON."""

from __future__ import annotations

import json
import math
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ambi_eval.analysis.evaluate import WORTH
from ambi_eval.errors import AmbiError
from ambi_eval.metrics import METRICS
from ambi_eval.report import figures
from ambi_eval.report.build import WORST_CLIPS
from ambi_eval.report.content import Content, Section, as_json

TEMPLATES = Path(__file__).parent / "templates"


def write_page(content: Content, path: Path) -> None:
    """Write the report as one HTML file that needs nothing else.

    Raises:
        AmbiError: If the file cannot be written.
    """
    _write(path, render(content))


def write_json(content: Any, path: Path) -> None:
    """Write every number of the report, or of a comparison, as JSON; what is undefined is null.

    Raises:
        AmbiError: If the file cannot be written.
    """
    _write(path, json.dumps(as_json(content), indent=1, allow_nan=False))


def render(content: Content) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"short": figures.short, "with_interval": figures.with_interval, "count": _count}
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    return environment.get_template("report.html.j2").render(
        content=content,
        figures=[_figures(section) for section in content.sections],
        bars=figures.vote_bars,
        max_entropy=lambda section: math.log2(len(section.labels)),
        metrics={name: metric.description for name, metric in METRICS.items()}
        | {WORTH: "Number of raters whose mean is as far off, from sq_debiased: more is better"},
        worst_clips=WORST_CLIPS,
        version=metadata.version("ambi-eval"),
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        js=Markup((TEMPLATES / "report.js").read_text(encoding="utf-8")),
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


def _count(value: float) -> str:
    """Return a whole number with commas, a dash where there is none."""
    return f"{value:,.0f}" if math.isfinite(value) else "\N{EN DASH}"


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AmbiError(f"cannot write {path} ({error.strerror or error}): name another file.") from error

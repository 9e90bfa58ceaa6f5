"""Writes the report as one HTML file that opens from disk and needs no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ambi_eval.analysis.evaluate import WORTH
from ambi_eval.analysis.raters.study import REFERENCES
from ambi_eval.funnel.page import TEMPLATES as FUNNEL_TEMPLATES
from ambi_eval.funnel.page import depth, way
from ambi_eval.funnel.sentence import sentences
from ambi_eval.report import budget, columns, plots, ranking, verdict
from ambi_eval.report.build import BEST_CLIPS, FAILED_CLIPS, WORST_CLIPS
from ambi_eval.report.content import ClipPrediction, Content, Section, ShownClip, System
from ambi_eval.votes import shares
from ambi_eval.web.columns import Column
from ambi_eval.web.glossary import CONTROLS, STRATEGIES, WORDS, metrics
from ambi_eval.web.pages import environment, page_parts, write_text

TEMPLATES = Path(__file__).parent / "templates"
# If there are more runs than this, their commands are folded.
FEW_RUNS = 4
QUESTIONS = {
    "well": "How well?",
    "more": "Does more inference help?",
    "where": "Where does it fail?",
    "voice": "Is it the voice?",
    "clips": "Which clips?",
}


def write_page(content: Content, path: Path) -> None:
    """Write the report as one HTML file; an `AmbiError` if the file cannot be written."""
    write_text(render(content), path)


def render(content: Content) -> str:
    """Return the page."""
    return (
        environment(TEMPLATES, FUNNEL_TEMPLATES)
        .get_template("report.html.j2")
        .render(
            content=content,
            questions=QUESTIONS,
            verdicts=verdict.of_models,
            warnings=verdict.section_warnings,
            charts=[_charts(section) for section in content.sections],
            funnels=[(each, sentences(each), way(each), depth(each)) for each in content.funnels],
            columns=columns,
            estimate=Column("", lambda estimate: estimate).cell,
            held_out=plots.against_held_out,
            predictions=_predictions,
            shares=shares,
            ten_times_sentences=budget.ten_times_sentences,
            of_ranking=ranking,
            max_entropy=lambda section: math.log2(len(section.labels)),
            metrics=metrics() | {WORTH: WORDS["worth raters"]},
            strategies=STRATEGIES,
            control_words=CONTROLS,
            rater_references=REFERENCES,
            glossary=_glossary(content),
            few_runs=FEW_RUNS,
            worst=WORST_CLIPS,
            failed=FAILED_CLIPS,
            best=BEST_CLIPS,
            **page_parts(),
        )
    )


def _charts(section: Section) -> dict[str, Any]:
    return {
        "number_line": plots.number_line(section),
        "by_size": plots.by_size(section),
        "by_tokens": plots.by_tokens(section),
        "by_ambiguity": plots.by_ambiguity(section),
        "confusion": [plots.confusion(section, system) for system in section.best],
        "calibration": plots.calibration(section),
        "subgroups": plots.subgroups(section),
        "controls": plots.controls(section),
    }


def _predictions(clip: ShownClip, systems: Sequence[System]) -> list[ClipPrediction]:
    """Return the predictions of some systems for a clip."""
    by_name = {prediction.system: prediction for prediction in clip.predictions}
    return [by_name[system.full_name] for system in systems]


def _glossary(content: Content) -> dict[str, str]:
    """Return the glossary of this report: the strategies that ran, then terms, then metrics."""
    systems = [system for section in content.sections for system in (*section.systems, *section.controls)]
    ran = {name.split()[0] for system in systems for name in (system.name, *system.same_as) if name}
    return {name: said for name, said in STRATEGIES.items() if name in ran} | WORDS | metrics()

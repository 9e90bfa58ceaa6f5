"""A rater study as tables for the terminal."""

from __future__ import annotations

import numpy as np
from rich.console import Group
from rich.table import Table

from ambi_eval.analysis.raters.reliability import Reliability
from ambi_eval.analysis.raters.study import REFERENCES, SCORES, RaterStudy
from ambi_eval.analysis.tables import cell
from ambi_eval.errors import counted

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def tables(title: str, study: RaterStudy) -> Group:
    """Return the tables and notes of a rater study."""
    scores = Table("", *SCORES, "", title=title, title_justify="left", box=None)
    for name, of_metrics in study.scores.items():
        is_system = name not in REFERENCES
        about = f"minus the prior: {cell(study.minus_prior[name]['nll_bits'])} bits" if is_system else REFERENCES[name]
        scores.add_row(name, *(cell(of_metrics[metric]) for metric in SCORES), about)
    blocks: list[Table | str] = [scores, ""]
    if study.groups:
        shown = [name for name in study.scores if name not in REFERENCES] or ["prior", "others_shrunk"]
        headings = [f"{name}{', less the prior' if name not in REFERENCES else ''}" for name in shown]
        about = "nll_bits of a group's ballots minus that of others on the same clips"
        groups = Table("", "raters", "clips", *headings, title=about, title_justify="left", box=None)
        for group in study.groups:
            gaps = (group.beyond_prior.get(name, group.gaps[name])["nll_bits"] for name in shown)
            groups.add_row(f"{group.trait}: {group.name}", str(group.raters), f"{group.clips:,}", *map(cell, gaps))
        blocks += [groups, ""]
    raters = "raters known within a clip only" if study.raters is None else counted(study.raters, "rater")
    facts = [
        f"{counted(study.ballots, 'ballot')} on {counted(study.clips, 'clip')}; {raters}.",
        f"one_human (one rater against the others, jsd_bits): {cell(study.one_human)} by speaker and rater, "
        f"{cell(study.one_human_by_speaker)} by speaker alone.",
        *([] if study.reliability is None else _reliability(study.reliability)),
        "Scores of single ballots that the prediction has not seen, means over clips; ±: half of the two-way 95 % "
        "interval, by speaker and by rater.",
        *study.notes,
    ]
    return Group(*blocks, *facts)


def _reliability(of: Reliability) -> list[str]:
    raw, shrunk = (
        ", ".join(f"{value:.3f}" for value in np.quantile(values, QUANTILES)) for values in (of.agreement, of.shrunk)
    )
    return [
        f"Agreement with the clip's other raters: {of.mean:.3f}; true spread between raters {of.spread:.3f} (standard "
        f"deviation); raters explain {of.reliability:.1%} of the variance of single ballots.",
        f"Quantiles over raters ({', '.join(f'{q:.0%}' for q in QUANTILES)}): raw {raw}; shrunk {shrunk}.",
    ]

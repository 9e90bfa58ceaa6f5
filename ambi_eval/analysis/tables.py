"""References and scores as tables for the terminal, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table

from ambi_eval.analysis.estimate import RESAMPLES, Estimate, as_json
from ambi_eval.analysis.evaluate import DRAWS, WORTH
from ambi_eval.analysis.information.calibration import Calibration
from ambi_eval.analysis.references.baselines import PROBE, Baselines
from ambi_eval.analysis.significance import Comparison
from ambi_eval.analysis.systems import SystemScores
from ambi_eval.errors import counted
from ambi_eval.metrics import HEADLINE

# The metrics that fit a terminal of 80 columns, and those of `--all`.
COLUMNS = ("jsd_bits", "bc", "acc", WORTH)
ALL_COLUMNS = ("jsd_bits", "bc", "r2_pearson", "acc", "macro_f1", "sq_debiased", WORTH)
SHOWN = ("perfect_model", "half_panel", "one_human", "prior", "uniform")
# Another name of `one_human`.
NOT_SHOWN = "humans_1"


def baselines_json(baselines: Baselines) -> dict[str, Any]:
    """Return the scores of the references as JSON values, over all clips and by bin."""
    content: dict[str, Any] = as_json(
        {
            "clips": baselines.clips,
            "krippendorff_alpha": baselines.krippendorff_alpha,
            "best_reachable_accuracy": baselines.best_reachable_accuracy,
            "most_frequent_label": baselines.most_frequent_label,
            "always_majority_first_label_acc": baselines.first_label_accuracy,
            "baselines": baselines.overall,
            "baseline_clips": baselines.counts,
            "bins": [
                {"low": b.low, "high": b.high, "clips": int(b.members.sum()), "baselines": scores}
                for b, scores in zip(baselines.bins, baselines.binned, strict=True)
            ],
            "notes": baselines.notes,
        }
    )
    return content


def system_json(system: SystemScores) -> dict[str, Any]:
    """Return the scores of a system and of the references as JSON values, over all clips and by bin."""
    content = baselines_json(system.baselines)
    bins = zip(content["bins"], system.binned, strict=True)
    against = {
        name: {"difference": c.difference, "p": c.p, "p_corrected": c.p_corrected}
        for name, c in system.baselines.against.items()
    }
    return content | {
        "metrics": as_json(system.overall),
        "calibration": as_json(system.calibration),
        "jsd_bits_minus_reference": as_json(against),
        "bins": [{**of_bin, "metrics": as_json(scores)} for of_bin, scores in bins],
        "notes": [*system.notes, *content["notes"]],
    }


def _calibration(found: Calibration) -> Table:
    """Return the table of a system's information in bits per vote, and of what scaling would gain."""
    title = "THIS SYSTEM calibrated on other speakers (no score: it has seen votes)"
    table = Table("", "bits per vote", title=title, title_justify="left", box=None)
    table.add_row("over the prior, as it is", cell(found.raw))
    table.add_row(f"+ error of sharpness (temperature {_short(found.temperature)})", cell(found.sharpness))
    table.add_row("+ error of naming some labels too often", cell(found.offsets))
    table.add_row("= information about the clips", cell(found.information))
    return table


def tables(title: str, baselines: Baselines, system: SystemScores | None = None, *, everything: bool = False) -> Group:
    """Return the tables for the terminal: scores over all clips, differences from each reference, bins, and notes.

    A system is in the first row, and is compared with each reference. `everything` shows all references and metrics,
    not only those that fit 80 columns.
    """
    names = [
        name
        for name in baselines.overall
        if name != NOT_SHOWN and (everything or name in SHOWN or name.startswith(PROBE))
    ]
    columns = ALL_COLUMNS if everything else COLUMNS
    overall = Table("", "clips", *columns, title=title, title_justify="left", box=None)
    of_bins = (f"{b.name}\n{counted(b.members.sum(), 'clip')}" for b in baselines.bins)
    by_bin = Table(
        "", *of_bins, title=f"{HEADLINE} by ambiguity (entropy of the votes)", title_justify="left", box=None
    )
    if system:
        overall.add_row("THIS SYSTEM", str(baselines.clips), *(cell(system.overall[name]) for name in columns))
        by_bin.add_row("THIS SYSTEM", *(cell(scores[HEADLINE]) for scores in system.binned))
    for name in names:
        scores = baselines.overall[name]
        overall.add_row(name, str(baselines.counts[name]), *(cell(scores[column]) for column in columns))
        if all(name in of_bin for of_bin in baselines.binned):
            by_bin.add_row(name, *(cell(of_bin[name][HEADLINE]) for of_bin in baselines.binned))
    facts = [
        f"Krippendorff's alpha {_short(baselines.krippendorff_alpha)}; best reachable accuracy "
        f"{_short(baselines.best_reachable_accuracy)}; always '{baselines.most_frequent_label}' has the accuracy "
        f"{_short(baselines.first_label_accuracy)} where the first of several tied labels counts as the majority.",
        "±: half of the 95 % interval over clusters of dependent clips; ≥: at least. Human references are no ceilings.",
        *([] if everything else [f"{len(baselines.overall) - len(names)} more references and more metrics: --all."]),
        f"Where chance decides, metrics of sets (macro_f1, weighted_f1, uar, ece, entropy_rho) are means of {DRAWS} "
        f"seeded draws, all others expectations; intervals of ece and entropy_rho come from {RESAMPLES} resamples.",
        *(system.notes if system else ()),
        *baselines.notes,
    ]
    blocks: list[Table | str] = [overall, ""]
    if baselines.against:
        blocks += [_against(baselines.against, names), ""]
    if system and system.calibration:
        blocks += [_calibration(system.calibration), ""]
    return Group(*blocks, by_bin, "", *facts)


def _against(comparisons: Mapping[str, Comparison], names: Sequence[str]) -> Table:
    """Return the table of differences between a system and each reference, on the same clips and raters."""
    title = f"{HEADLINE}, THIS SYSTEM minus (below 0 is better)"
    table = Table("", "difference [95 % interval]", "p", "p corrected", title=title, title_justify="left", box=None)
    for name in names:
        if comparison := comparisons.get("humans_1" if name == "one_human" else name):
            found = comparison.difference
            ends = "" if math.isnan(found.low) else f" [{_short(found.low)}, {_short(found.high)}]"
            table.add_row(name, _short(found.value) + ends, f"{comparison.p:.2g}", f"{comparison.p_corrected:.2g}")
    return table


def cell(estimate: Estimate) -> str:
    """Return a value ± half of its 95% interval, or "≥" and the lower end if the upper end is (nearly) unbounded."""
    if math.isnan(estimate.value) or (math.isinf(estimate.value) and math.isnan(estimate.low)):
        return "-"
    half = (estimate.high - estimate.low) / 2
    if estimate.high == math.inf or half > abs(estimate.value) > 1:  # a number of raters such as 40 [10.7, inf]
        return f"≥{_short(estimate.low)}" if math.isfinite(estimate.low) else "-"
    margin = "" if math.isnan(half) else f" ±{_short(half)}"
    return _short(estimate.value) + margin


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"

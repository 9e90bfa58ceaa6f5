"""References and scores as people read them in a terminal, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table

from ambi_eval.analysis.estimate import RESAMPLES, Estimate
from ambi_eval.analysis.evaluate import DRAWS, WORTH
from ambi_eval.analysis.references.baselines import Baselines
from ambi_eval.analysis.systems import SystemScores

COLUMNS = ("jsd_bits", "bc", "r2_pearson", "acc", "macro_f1", "sq_debiased", WORTH)
BIN_COLUMN = "jsd_bits"
# `one_human` is another name of `humans_1`.
NOT_SHOWN = "one_human"


def baselines_json(baselines: Baselines) -> dict[str, Any]:
    """Return the references as JSON takes them, over all clips and by bin."""
    return {
        "clips": baselines.clips,
        "krippendorff_alpha": _number(baselines.krippendorff_alpha),
        "best_reachable_accuracy": baselines.best_reachable_accuracy,
        "most_frequent_label": baselines.most_frequent_label,
        "always_majority_first_label_acc": baselines.first_label_accuracy,
        "baselines": _plain(baselines.overall),
        "baseline_clips": baselines.counts,
        "bins": [
            {"low": b.low, "high": b.high, "clips": int(b.members.sum()), "baselines": _plain(scores)}
            for b, scores in zip(baselines.bins, baselines.binned, strict=True)
        ],
        "notes": baselines.notes,
    }


def system_json(system: SystemScores) -> dict[str, Any]:
    """Return a system's scores and the references beside them as JSON takes them, over all clips and by bin."""
    content = baselines_json(system.baselines)
    bins = zip(content["bins"], system.binned, strict=True)
    return content | {
        "metrics": _plain(system.overall),
        "bins": [{**of_bin, "metrics": _plain(scores)} for of_bin, scores in bins],
        "notes": [*system.notes, *content["notes"]],
    }


def tables(title: str, baselines: Baselines, system: SystemScores | None = None) -> Group:
    """Return what a terminal shows: all clips, the divergence by bin, and what to know about both."""
    overall = Table("", "clips", *COLUMNS, title=title, title_justify="left", box=None)
    by_bin = Table("", *(f"{b.name} ({b.members.sum()} clips)" for b in baselines.bins), box=None)
    by_bin.title, by_bin.title_justify = f"{BIN_COLUMN} by ambiguity (entropy of the votes)", "left"
    if system:
        overall.add_row("THIS SYSTEM", str(baselines.clips), *(_cell(system.overall[name]) for name in COLUMNS))
        by_bin.add_row("THIS SYSTEM", *(_cell(scores[BIN_COLUMN]) for scores in system.binned))
    for name, scores in baselines.overall.items():
        if name != NOT_SHOWN:
            overall.add_row(name, str(baselines.counts[name]), *(_cell(scores[column]) for column in COLUMNS))
            if all(name in scores for scores in baselines.binned):
                by_bin.add_row(name, *(_cell(scores[name][BIN_COLUMN]) for scores in baselines.binned))
    facts = [
        f"Krippendorff's alpha {_short(baselines.krippendorff_alpha)}; best reachable accuracy "
        f"{_short(baselines.best_reachable_accuracy)}; always '{baselines.most_frequent_label}' has the accuracy "
        f"{_short(baselines.first_label_accuracy)} where the first of several tied labels counts as the majority.",
        "±: half of the 95 % interval over clusters of dependent clips. Human references are no ceilings.",
        f"Where chance decides, metrics of sets (macro_f1, weighted_f1, uar, ece, entropy_rho) are means of {DRAWS} "
        f"seeded draws, all others expectations; intervals of ece and entropy_rho come from {RESAMPLES} resamples.",
        *(system.notes if system else ()),
        *baselines.notes,
    ]
    return Group(overall, "", by_bin, "", *facts)


def _plain(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return estimates, nested to any depth, as numbers; NaN, which JSON lacks, becomes null."""
    return {
        name: {end: _number(getattr(value, end)) for end in ("value", "low", "high")}
        if isinstance(value, Estimate)
        else _plain(value)
        for name, value in scores.items()
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cell(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "-"
    if estimate.high == math.inf:
        return f"≥{_short(estimate.low)}" if math.isfinite(estimate.low) else "-"
    margin = "" if math.isnan(estimate.high) else f" ±{_short((estimate.high - estimate.low) / 2)}"
    return _short(estimate.value) + margin


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)

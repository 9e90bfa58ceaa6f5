"""The columns of the report's tables. A new column is one line here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ambi_eval.report.content import System
from ambi_eval.report.verdict import HALF_PANEL
from ambi_eval.web.columns import Cell, Column, metric, percent, thinking, whole
from ambi_eval.web.format import with_interval
from ambi_eval.web.glossary import WORDS


def _pairs(row: Any) -> Cell:
    of = row.two_alternatives
    return of.score if hasattr(of, "score") else of


def _seeds(row: System) -> Cell:
    return None if math.isnan(row.spread) else f"{row.spread:.3f} over {len(row.seeds)} seeds"


# For systems, controls and references.
METRICS = (
    metric("jsd_bits", "JSD, bits", "0 is best", WORDS["JSD"]),
    metric("bc", "BC", "1 is best"),
    metric("acc", "accuracy"),
    metric("macro_f1", "macro F1"),
    metric("worth_raters", "worth raters", "more is better", WORDS["worth raters"]),
)
SCORES = (*METRICS, Column("pairs told apart", _pairs, "0.5 is chance", help=WORDS["pairs told apart"]))
SPENT = (
    Column("invalid clips", lambda row: row.invalid_rate.value, show=percent, help=WORDS["invalid clips"]),
    whole("tokens per clip", lambda row: row.tokens.value),
)


def costs(rows: Sequence[System]) -> tuple[Column, ...]:
    """Return the columns for systems and controls; with that of thinking if one of them thinks."""
    return (
        *SPENT,
        *thinking(rows, lambda row: row.thinking.value),
        Column("spread", _seeds, help=WORDS["spread"]),
        Column("sampling", lambda row: row.sampling or None),
    )


SAME_RATERS = (
    Column("JSD, bits", lambda row: row.held_out[0].model),
    Column("minus prior's", lambda row: row.held_out[0].model_minus_prior),
    Column(f"minus that of {HALF_PANEL}", lambda row: row.held_out[0].model_minus_human),
    Column("share of the gap closed", lambda row: row.held_out[0].gap_closed, help=WORDS["gap closed"]),
)
AGAINST_BEST = (
    Column("JSD more, bits", lambda row: row.against_best and row.against_best.difference),
    Column("p", lambda row: row.against_best and row.against_best.p, show="{:.2g}".format),
    Column("p, corrected", lambda row: row.against_best and row.against_best.p_corrected, show="{:.2g}".format),
)
# Of the table for a paper: what fits beside each other on a page.
PAPER = (*METRICS, *SPENT, AGAINST_BEST[0], AGAINST_BEST[-1])
UNCERTAINTY = (
    metric("ece_votes", "ECE (votes)", "0 is best"),
    metric("entropy_rho", "rank correlation of entropies", "1 is best"),
    Column("spotting ambiguous clips", lambda row: row.ambiguity_auroc, "0.5 is chance"),
)
# Bits per vote gained over the prior of the other speakers; the scaling is fitted on other speakers.
CALIBRATION = (
    Column("as it is", lambda row: row.calibration and row.calibration.raw, "bits over the prior"),
    Column("error of sharpness", lambda row: row.calibration and row.calibration.sharpness, "one temperature"),
    Column("error of label rates", lambda row: row.calibration and row.calibration.offsets, "weights and offsets"),
    Column("information", lambda row: row.calibration and row.calibration.information, "bits over the prior"),
    Column("temperature", lambda row: row.calibration and row.calibration.temperature, "above 1 is too sure"),
)
ANSWERS = (
    whole("answers per clip", lambda row: row.diagnostics.get("answers_per_clip", row.pool_size)),
    Column("predicts the same", lambda row: "; ".join(row.same_as)),
    Column(
        "answers that could not be used",
        lambda row: "; ".join(f"{number} {reason}" for reason, number in row.failed.items()) or "none",
    ),
    Column(
        "means over clips",
        lambda row: "; ".join(f"{name} {with_interval(mean)}" for name, mean in row.diagnostics.items()),
    ),
)

"""The columns of a board. A new column is one line here, and appears in every board."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ambi_eval.leaderboard.board import INVALID, RankedSystem
from ambi_eval.metrics import HEADLINE
from ambi_eval.web.columns import Cell, Column, metric, percent, thinking, whole
from ambi_eval.web.glossary import WORDS


def _ranks(row: Any) -> Cell:
    rank = row.rank
    return None if rank is None else str(rank.low) if rank.low == rank.high else f"{rank.low} to {rank.high}"


def columns(rows: Sequence[RankedSystem]) -> tuple[Column, ...]:
    """Return the columns of a page with these systems, and with references, which have no rank and no cost."""
    return (
        metric(HEADLINE, "JSD, bits", "0 is best", WORDS["JSD"]),
        whole("rank", lambda row: row.rank and float(row.rank.value)),
        Column("possible ranks", _ranks, "95 %"),
        Column("status", lambda row: row.status),
        whole("tokens per clip", lambda row: row.tokens),
        *thinking(rows, lambda row: row.thinking),
        metric("bc", "BC", "1 is best"),
        metric("acc", "accuracy"),
        metric("macro_f1", "macro F1"),
        Column(
            "invalid clips",
            lambda row: row.scores[INVALID].value if INVALID in row.scores else None,
            show=percent,
            help=WORDS["invalid clips"],
        ),
        Column("sampling", lambda row: getattr(row, "sampling", None)),
    )

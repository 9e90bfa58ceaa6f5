"""Shows what a sweep costs before it runs, and gathers its runs for the report."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ambi_eval.config.model_arguments import ServiceArguments
from ambi_eval.engines.base import arguments_of
from ambi_eval.errors import counted
from ambi_eval.harness.results import Run, read_runs
from ambi_eval.report.content import Section
from ambi_eval.sweep.grid import Cell
from ambi_eval.sweep.jobs import SPENT, results_file
from ambi_eval.web.format import count, short, with_interval

# Counts by name in what a model writes into its results.
NAMED = ("answered_as", "stored_answers_from", "prompt_tokens_by_task")


def probed_tokens(cells: Sequence[Cell], folder: Path) -> dict[str, float]:
    """Return the mean tokens per answer of each finished cell, by name; 0 for `exact`."""
    means = {}
    for cell in cells:
        if file := results_file(folder, cell):
            run = read_runs(file)[0]
            task = run.tasks[cell.task]
            means[cell.name] = float(np.nansum(task.tokens)) / max(1, len(task.texts) * task.pool_size)
    return means


def cost_table(cells: Sequence[Cell], folder: Path, probed: Mapping[str, float] | None = None) -> Table:
    """Return a table of the cost of each cell, and of all cells; finished cells cost nothing.

    `probed` holds the measured mean tokens per answer, by cell; None: the token limit counts.
    """
    table = Table(title=counted(len(cells), "run"), title_justify="left", show_footer=True, box=None)
    rows = []
    for cell in cells:
        state = "done" if results_file(folder, cell) else "" if cell.prepared else "not prepared: published size"
        answers = 0 if state == "done" else cell.answers
        each = cell.max_tokens if probed is None else probed.get(cell.name, float("nan"))
        state = state or ("" if answers or cell.pool == "labels" else "the same answers")
        tokens = answers * each if answers else 0
        money = "" if state == "done" else _money(cell, answers, each)
        rows.append((cell.name, 0 if state == "done" else cell.clips, answers, tokens, money, state))
    table.add_column("run", "all", overflow="fold")
    columns = {"clips": 1, "new answers": 2, "tokens, at most" if probed is None else "tokens, as probed": 3}
    for heading, column in columns.items():
        table.add_column(heading, f"{np.nansum([row[column] for row in rows]):,.0f}", justify="right")
    paid = any(row[4] for row in rows)
    if paid:
        total = sum(row[4] for row in rows if isinstance(row[4], float))
        table.add_column("cost, at most", f"{total:,.2f}", justify="right")
    table.add_column("")
    for name, clips, answers, tokens, money, state in rows:
        cost = [f"{money:,.2f}" if isinstance(money, float) else money] if paid else []
        table.add_row(name, f"{clips:,}", f"{answers:,}", "?" if np.isnan(tokens) else f"{tokens:,.0f}", *cost, state)
    return table


def _money(cell: Cell, answers: int, tokens: float) -> float | str:
    """Return the highest possible cost of a cell's new answers, or a text if it is unknown; empty if there is none.

    A request gets as many answers as the model's arguments and the service allow.
    """
    engine = cell.model.model
    arguments = arguments_of(engine)
    if arguments is None or not issubclass(arguments, ServiceArguments):
        return ""
    from ambi_eval.engines.openai.client import OPENAI
    from ambi_eval.services.gemini import GOOGLE, MOST_CANDIDATES
    from ambi_eval.services.litellm import listed_price

    given: Any = arguments.read(cell.model.model_args, cell.name)
    price = given.price(given.base_url or {"openai-audio": OPENAI, "gemini-audio": GOOGLE}.get(engine, ""))
    if price is None and engine == "litellm-audio":
        price = listed_price(given.model)
    if price is None:
        return "no price known"
    if not answers:
        return 0.0
    if math.isnan(cell.audio_seconds):
        return "length of audio unknown"
    each = answers / cell.clips
    together = min(each, given.samples_per_request or each, MOST_CANDIDATES if engine == "gemini-audio" else each)
    requests = cell.clips * math.ceil(each / together) if cell.pool == "samples" else answers
    text = str(cell.identity["task"].get("doc_to_text") or "") + str(cell.identity["task"].get("labels") or "")
    one = price.most(text, cell.audio_seconds / cell.clips, math.ceil(answers / requests * tokens), batch=given.batch)
    return requests * one


def scores_table(section: Section) -> Table:
    """Return a table of all systems and references on a corpus, the best first."""
    table = Table(title=section.corpus, title_justify="left", box=None)
    table.add_column("system or reference", overflow="fold")
    for heading in ("JSD, bits [95 % interval]", "accuracy", "tokens a clip"):
        table.add_column(heading, justify="right")
    rows = [(s.full_name, s.scores, count(s.tokens.value)) for s in section.systems]
    rows += [(f"({name.replace('_', ' ')})", r.scores, "") for name, r in section.references.items()]
    for name, scores, tokens in sorted(rows, key=lambda row: row[1]["jsd_bits"].value):
        table.add_row(name, with_interval(scores["jsd_bits"]), short(scores["acc"].value), tokens)
    return table


def finished_runs(cells: Sequence[Cell], folder: Path) -> list[Run]:
    """Return the finished cells as runs of `lm_eval`; cells that differ in their task only are one run."""
    together: dict[tuple[str, int, str], list[Run]] = {}
    for cell in cells:
        if file := results_file(folder, cell):
            key = (cell.model_name, cell.seed, str(cell.metadata))
            together.setdefault(key, []).extend(read_runs(file))
    return [_joined(runs, name) for (name, _, _), runs in together.items()]


def _joined(runs: Sequence[Run], name: str) -> Run:
    first = runs[0].results
    configs = {task: config for run in runs for task, config in run.results["configs"].items()}
    seconds = sum(float(run.results["total_evaluation_time_seconds"]) for run in runs)
    infos = [run.info for run in runs]
    counts = {key for key, value in infos[0].items() if type(value) is int or key in SPENT} - {"seed"}
    joined = {key: dict(ChainMap(*(each.get(key, {}) for each in infos))) for key in NAMED}
    names = {key: found for key, found in joined.items() if found}
    set_ups = list(dict.fromkeys(chain.from_iterable(each.get("set_ups", ()) for each in infos)))
    summed = {key: sum(each.get(key, 0) for each in infos) for key in counts}
    info = {**infos[0], **names, **summed, "set_ups": set_ups}
    results = {
        **first,
        "model_name": name,
        "configs": configs,
        "config": {**first["config"], "ambi": info},
        "total_evaluation_time_seconds": str(seconds),
    }
    return replace(runs[0], results=results, tasks={task: each for run in runs for task, each in run.tasks.items()})

"""The table that the harness prints: five numbers for each pipeline of ours, in a readable order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ambi_eval.config.model_names import other_models
from ambi_eval.config.task_settings import TaskSettings
from ambi_eval.errors import counted
from ambi_eval.harness.repeat import our_configs
from ambi_eval.metrics import METRICS

# The metrics of a task that names none itself.
FIVE = ("jsd_bits", "bc", "acc", "macro_f1", "invalid_rate")
FIXED = "fixed by the provider"  # `sampling` in the results if the model ignores the sampling settings
Results = Mapping[str, Any]


class _Key(str):
    """A metric's name that sorts by its place among all metrics, `@3` before `@10`."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        """Return whether it comes before another name."""
        return _place(self) < _place(other)


def _place(key: str) -> tuple[str, int, str, int]:
    name, _, pipeline = key.partition(",")
    metric, _, size = name.partition("@")
    order = [*METRICS, "invalid_rate"]
    return pipeline, order.index(metric) if metric in order else len(order), metric, int(size) if size.isdigit() else 0


def readable(make_table: Callable[..., str]) -> Callable[..., str]:
    """Return the harness's own `make_table`, applied to results with the readable rows of our tasks."""

    def made(results: Results, column: str = "results", sort_results: bool = False) -> str:
        table = make_table(_shown(results, column), column, sort_results)
        info = results.get("config", {}).get("ambi", {})
        if column == "results" and "audio_seconds" in info:
            table = f"{table}\n{cost_line(info)}\n"
        told = other_models(info) if column == "results" else []
        return table + "".join(f"\nANOTHER MODEL: {sentence}\n" for sentence in told)

    return made


def cost_line(info: Results) -> str:
    """Return one line on the cost of a run of a model behind a service: tokens, seconds of audio and money."""
    thought = f" ({info['thinking_tokens']:,} of them thinking)" if info.get("thinking_tokens") else ""
    uncounted = info.get("uncounted_replies")
    told = f" ({counted(uncounted, 'reply', 'replies')} without a count of tokens)" if uncounted else ""
    line = (
        f"{info['model']}: {info['prompt_tokens']:,} prompt tokens ({info['audio_tokens']:,} of audio), "
        f"{info['generated_tokens']:,} generated{thought}{told}, {info['audio_seconds']:,.1f} s of audio, "
    )
    if "cost" not in info:
        return f"{line}no price known"
    prices = info["prices"]
    dated = f" of {prices['date']}" if "date" in prices else ""
    unanswered = info.get("cost_unanswered_at_most")
    more = f", and at most {unanswered:.4f} for requests without a reply or a count" if unanswered else ""
    return f"{line}cost {info['cost']:.4f}{more} (prices{dated}: {prices['source']})"


def _shown(results: Results, column: str) -> Results:
    ours = our_configs(results)
    if not ours or column != "results":
        return results
    rows = {name: _row(row, ours[name]) if name in ours else row for name, row in results[column].items()}
    if results.get("config", {}).get("ambi", {}).get("sampling") == FIXED:
        for name in ours.keys() & rows.keys():
            if (ours[name].get("generation_kwargs") or {}).get("do_sample"):
                rows[name] = {**rows[name], "alias": f"{rows[name].get('alias', name)} [sampling {FIXED}]"}
    # The harness shows the better direction as an arrow. Diagnostics have no better direction.
    arrows = {name: dict(up) for name, up in results.get("higher_is_better", {}).items()}
    for name in ours.keys() & arrows.keys():
        arrows[name] = {m: up for m, up in arrows[name].items() if m.partition("@")[0] in (*METRICS, "invalid_rate")}
    return {**results, column: rows, "higher_is_better": arrows}


def _row(row: Results, config: Results) -> Results:
    """Return a row with the five metrics of the table; with all metrics if the task names its own."""
    default = config.get("metrics") == TaskSettings.model_fields["metrics"].default
    kept = {}
    for key, value in row.items():
        metric, comma, _ = key.partition(",")
        if not comma or not default or metric.removesuffix("_stderr") in FIVE:
            kept[_Key(key) if comma else key] = value
    return kept

"""What quality costs: each cost by hand, the frontier over FLOPs where they are known, and the command."""

import json
import math
import re
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from ambi_eval.analysis.scaling import perfect_sampler
from ambi_eval.cli import app
from ambi_eval.costs.flops import ForwardFlops
from ambi_eval.report.budget import budget, in_terminal
from ambi_eval.report.build import build, by_clips
from ambi_eval.report.page import render
from ambi_eval.report.systems import variants, without_copies

LENGTHS = {"seconds": [1.0, 30.0], "audio": [1000.0, 9000.0], "longest": None}
FLOPS = {**LENGTHS, "token": 10.0, "attention": 0.1, "head": 5.0}


def with_info(runs, **info):
    """The runs, as if the model had said this of itself."""
    return [
        replace(r, results={**r.results, "config": {**r.results["config"], "ambi": {"seed": 0, **info}}}) for r in runs
    ]


def budget_of(runs):
    (asked,) = by_clips(runs)
    return budget(without_copies(variants(asked)))


@pytest.fixture(scope="module")
def counted(runs):
    prompts = {"mine_direct": 40.0, "mine_exact": 30.0, "mine_sc": 30.0}
    return budget_of(with_info(runs, flops=FLOPS, prompt_tokens_by_task=prompts))


def test_costs_are_those_of_the_parts(counted):
    model, cost = ForwardFlops(**FLOPS), counted.costs["good/model: sc dist"]
    assert cost.audio_seconds == pytest.approx(0.1)
    assert cost.encoder == model.encoder(0.1) == 1000
    assert cost.prefill == model.prefill(30)
    assert cost.decode == pytest.approx(20 * model.decode(cost.tokens / 20, 30))
    assert cost.flops == cost.encoder + cost.prefill + cost.decode
    assert math.isnan(cost.seconds), "the run had other tasks, too"
    assert counted.costs["good/model: exact"].decode == 0


def test_the_frontier_is_that_of_flops_where_any_are_known(counted):
    assert counted.by == "FLOPs"
    ordered = [counted.costs[name].flops for name in counted.places]
    assert ordered == sorted(ordered)
    best = math.inf
    for name, place in counted.places.items():
        if place.on_frontier:
            assert counted.scores[name] < best
            best = counted.scores[name]


def test_without_flops_it_is_that_of_tokens(runs):
    found = budget_of(runs)
    assert found.by == "tokens"
    assert all(math.isnan(cost.flops) for cost in found.costs.values())
    assert found.places.keys() == found.costs.keys()


def test_prompts_of_a_task_whose_answers_were_stored_are_those_of_a_task_that_asks_the_same(runs):
    found = budget_of(with_info(runs, flops=FLOPS, prompt_tokens_by_task={"mine_sc": 30.0}))
    assert found.costs["good/model: exact"].prefill == found.costs["good/model: sc dist"].prefill
    assert math.isnan(found.costs["good/model: direct"].flops)
    assert "good/model: direct" not in found.places
    assert found.order[-1].endswith("direct")


def test_ten_times_the_answers_are_read_against_a_perfect_sampler(counted, runs):
    ten = counted.ten_times["good/model: sc dist"]
    logged = runs[0].tasks["mine_sc"].pipelines["dist"].logged
    task = runs[0].tasks["mine_sc"]
    perfect = [perfect_sampler(task.selection, "jsd_bits", size) for size in (1, 10)]
    assert ten.few == 1
    assert ten.gain.value == pytest.approx(np.mean(logged["jsd_bits@1"] - logged["jsd_bits@10"]))
    assert ten.of_sampling.value == pytest.approx(np.mean(perfect[0] - perfect[1]))
    assert ten.beyond_sampling.value == pytest.approx(ten.gain.value - ten.of_sampling.value)
    assert math.isnan(counted.ten_times["good/model: sc vote"].of_sampling.value), "a majority vote is no histogram"


@pytest.fixture(scope="module")
def thinking(runs):
    """The runs, as if the good model had thought 30 tokens before the answers of each clip of a task."""
    good, weak = runs
    task = good.tasks["mine_direct"]
    thought = replace(task, tokens=task.tokens + 30, thinking=np.full(len(task.tokens), 30.0))
    return [replace(good, tasks={**good.tasks, task.name: thought}), weak]


def shown(found):
    console = Console(width=200, file=StringIO())
    console.print(in_terminal("mine", found))
    return console.file.getvalue()


def test_the_last_column_is_above_0_where_a_system_is_worse_than_what_is_as_cheap(runs):
    found = budget_of(runs)
    name, place = next((name, p) for name, p in found.places.items() if p.rival and p.minus_rival.value > 0.001)
    assert place.minus_rival.value == pytest.approx(found.scores[name] - found.scores[place.rival])
    assert re.search(r"\n *system .*  minus the best as cheap *\n", shown(found))


def test_tokens_are_shown_with_thinking_and_without(runs, thinking):
    before, found = (budget_of(each).costs["good/model: direct"] for each in (runs, thinking))
    assert (found.tokens - before.tokens, found.thinking) == (pytest.approx(30), 30)
    heading, row = re.search(r"\n( *system .*)[\s\S]*\n(.*good/model: direct .*)", shown(budget_of(thinking))).groups()
    assert re.split("  +", heading.strip())[2:4] == ["tokens", "without thinking"]
    assert re.split("  +", row.strip())[2:4] == [f"{found.tokens:.1f}", f"{before.tokens:.1f}"]
    assert "thinking" not in shown(budget_of(runs))


@pytest.mark.slow
def test_the_report_has_a_column_of_thinking_if_a_system_thinks(runs, thinking, content):
    assert "thinking</th>" not in render(content)
    page = render(build(thinking))
    assert (page.count(">without thinking</th>"), page.count("of these thinking")) == (1, 1)


def test_thinking_costs_flops_as_any_token_does(thinking, counted):
    prompts = {"mine_direct": 40.0, "mine_exact": 30.0, "mine_sc": 30.0}
    name, model = "good/model: direct", ForwardFlops(**FLOPS)
    found = budget_of(with_info(thinking, flops=FLOPS, prompt_tokens_by_task=prompts)).costs[name]
    assert found.decode == pytest.approx(model.decode(counted.costs[name].tokens + 30, 40))


def test_the_command_prints_the_table_and_writes_json(folders, tmp_path):
    result = CliRunner().invoke(app, ["budget", *map(str, folders), "--json", str(tmp_path / "found.json")])
    assert result.exit_code == 0, result.output
    assert "quality and cost of a clip" in result.stdout
    assert "beyond sampling" in result.stdout.replace("\n", " ")
    (found,) = json.loads((tmp_path / "found.json").read_text()).values()
    assert found["by"] == "tokens"


def test_the_report_holds_the_table(content):
    assert content.sections[0].budget.by == "tokens"
    assert in_terminal("mine", content.sections[0].budget)

"""The paired table: differences, tests and the mistakes one can make in naming two systems."""

import io
import json

import numpy as np
import pytest
import scipy.stats
from rich.console import Console
from typer.testing import CliRunner

from ambi_eval.cli import app
from ambi_eval.errors import AmbiError
from ambi_eval.harness.results import read_runs
from ambi_eval.metrics import METRICS
from ambi_eval.report import verdict
from ambi_eval.report.build import build
from ambi_eval.report.comparison import compare_runs, find, table


def compared(*named):
    return compare_runs(*map(find, named))


def shown(pairs):
    console = Console(width=140, file=io.StringIO())
    console.print(table(pairs))
    return console.file.getvalue()


def test_two_runs_are_compared_task_by_task(folders, runs):
    pairs = compared(*map(str, folders))
    assert [pair.first for pair in pairs] == [
        f"good/model {name} ({runs[0].file.parent})"
        for name in ("mine_direct:answer", "mine_exact:likelihood", "mine_sc:dist", "mine_sc:vote")
    ]
    for pair in pairs:
        assert (pair.clips, pair.left_out, pair.simulated) == (48, 0, False)
        assert "ece_votes" not in pair.metrics
    (first, second) = (run.tasks["mine_exact"] for run in runs)
    for name, comparison in pairs[1].metrics.items():
        a, b = first.pipelines["likelihood"].p, second.pipelines["likelihood"].p
        expected = METRICS[name].value(a, first.votes) - METRICS[name].value(b, first.votes)
        assert comparison.difference.value == pytest.approx(expected, abs=1e-12)
        assert comparison.p <= comparison.p_corrected


def test_p_values_agree_with_scipy_on_the_speakers_sums(folders, runs):
    comparison = compared(*(f"{folder}:mine_exact" for folder in folders))[0].metrics["jsd_bits"]
    a, b = (run.tasks["mine_exact"] for run in runs)
    jsd = METRICS["jsd_bits"].per_clip
    difference = jsd(a.pipelines["likelihood"].p, a.votes) - jsd(b.pipelines["likelihood"].p, b.votes)
    sums = difference.reshape(8, 6).sum(axis=1)
    reference = scipy.stats.permutation_test(
        (sums,), lambda x, axis: np.abs(x.sum(axis=axis)), permutation_type="samples", alternative="greater"
    )
    assert comparison.p == pytest.approx(reference.pvalue)
    assert (comparison.clusters, comparison.smallest_p) == (8, 2**-7)


def test_two_strategies_of_one_run_are_compared(folders):
    (pair,) = compared(f"{folders[0]}:mine_sc:dist", f"{folders[0]}:mine_exact")
    assert pair.first.startswith("good/model mine_sc:dist (")
    assert pair.second.startswith("good/model mine_exact:likelihood (")
    assert pair.verdict.startswith(("A is better than B", "B is better than A", "Neither A nor B"))


def test_a_control_shows_in_the_name_of_its_side(folders, lm_eval, tmp_path):
    silent = lm_eval(tmp_path, 0.1, "m", tasks=["mine_exact"], metadata={"control": "silence"})
    (pair,) = compared(f"{folders[0]}:mine_exact", str(silent))
    assert "mine_exact:likelihood [silence] (" in pair.second
    assert "[silence]" not in pair.first
    assert pair.verdict.startswith("A is better than B: the difference is -0.")
    text = shown([pair])
    assert text.index("A: good/model") < text.index("B: m mine_exact") < text.index("A minus B")


def test_a_system_against_itself_differs_in_nothing(folders):
    (pair,) = compared(f"{folders[0]}:mine_direct", f"{folders[0]}:mine_direct")
    for comparison in pair.metrics.values():
        assert (comparison.difference.value, comparison.p, comparison.p_corrected) == (0, 1, 1)


def test_clips_that_only_one_has_are_left_out_and_counted(folders, lm_eval, tmp_path):
    part = lm_eval(tmp_path, 0.5, "part", tasks=["mine_direct"], limit=12)
    (pair,) = compared(f"{folders[0]}:mine_direct", str(part))
    assert (pair.clips, pair.left_out) == (12, 36)
    assert "PARTIAL: 36 clips that only one of the two has: left out" in shown([pair])


def test_the_table_says_which_way_is_up_and_how_far_p_can_go(folders):
    text = shown(compared(*(f"{folder}:mine_direct" for folder in folders)))
    assert "jsd_bits (lower is better)" in text
    assert "bc (higher is better)" in text
    assert "8 clusters (least possible p: 0.0078)" in text


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("{good}:mine_sd", "{weak}", "has no 'mine_sd', did you mean 'mine_sc"),
        ("{good}:mine_sc:mean", "{weak}", r"has no 'mine_sc:mean'.* \(it has mine_direct:answer, "),
        ("{good}:mine_sc", "{weak}:mine_exact", r"in common .*: name one of each, such as \S+good:mine_sc:\w+\.$"),
        ("{both}", "{weak}", "holds 2 runs: name one of their folders, such as"),
        ("nowhere:x", "{weak}", "nowhere holds no results_"),
    ],
)
def test_mistakes_are_one_sentence(folders, first, second, message):
    good, weak = folders
    names = {"good": good, "weak": weak, "both": good.parent}
    with pytest.raises(AmbiError, match=message) as error:
        compared(first.format(**names), second.format(**names))
    assert "\n" not in str(error.value)


def test_other_votes_cannot_be_compared(folders, lm_eval, corpus, tmp_path):
    (corpus / "other.jsonl").write_text((corpus / "mine.jsonl").read_text().replace('"calm": ', '"calm": 1'))
    task = (corpus / "mine_direct.yaml").read_text().replace("mine_direct", "other_direct")
    (corpus / "other_direct.yaml").write_text(task.replace("mine.jsonl", "other.jsonl"))
    other = lm_eval(tmp_path, 0.5, "other", tasks=["other_direct"], limit=6)
    with pytest.raises(AmbiError, match=r"cannot be compared: they share 6 clips, and the labels .* must be equal"):
        compared(f"{folders[0]}:mine_direct", str(other))


def test_the_command_writes_the_page_and_its_numbers(folders, tmp_path):
    page, numbers = tmp_path / "r.html", tmp_path / "r.json"
    result = CliRunner().invoke(app, ["report", str(folders[1]), "-o", str(page), "--json", str(numbers)])
    assert result.exit_code == 0, result.output
    assert f"wrote {page}" in result.stdout
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    (run,) = read_runs(folders[1])
    assert json.loads(numbers.read_text())["runs"][0]["command"] == run.command


@pytest.mark.slow
def test_the_command_prints_a_comparison_and_the_verdict_on_both_runs(folders, tmp_path):
    numbers = tmp_path / "pairs.json"
    result = CliRunner().invoke(app, ["report", "--compare", *map(str, folders), "--json", str(numbers)])
    assert result.exit_code == 0, result.output
    assert "A: good/model mine_sc:dist (" in result.stdout
    assert "B: weak<model> mine_sc:dist (" in result.stdout
    both = build([run for folder in folders for run in read_runs(folder)])
    assert result.stdout.rstrip().endswith(verdict.in_terminal(verdict.verdicts(both)).rstrip())
    assert len(json.loads(numbers.read_text())) == 4


@pytest.mark.parametrize("arguments", [[], ["run", "--compare", "a", "b"]])
def test_the_command_wants_runs_or_a_comparison(arguments):
    result = CliRunner().invoke(app, ["report", *arguments])
    assert result.exit_code == 2
    assert "name the folders of runs, or two systems with --compare A B" in result.stderr

"""Which runs and pipelines are one system: other seeds, the same predictions; and which are none: controls."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.references import jsd_in_bins
from typer.testing import CliRunner

from ambi_eval.analysis.ambiguity import bin_clips
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.cli import app
from ambi_eval.errors import AmbiError
from ambi_eval.harness.results import read_runs
from ambi_eval.metrics import METRICS
from ambi_eval.report.build import build
from ambi_eval.report.plots import controls
from ambi_eval.report.systems import _average
from ambi_eval.report.verdict import standing_of


def seeded(run, seed):
    """The run, as if the model had drawn with a seed."""
    config = {**run.results["config"], "ambi": {"seed": seed, "model_digest": "d", "dtype": "float32"}}
    return replace(run, results={**run.results, "config": config})


@pytest.fixture(scope="module")
def two(lm_eval, tmp_path_factory):
    """Two runs of one model name that answered differently."""
    out = tmp_path_factory.mktemp("seeds")
    runs = [lm_eval(out / str(skill), skill, "m", tasks=["mine_sc"]) for skill in (0.8, 0.7)]
    return [run for folder in runs for run in read_runs(folder)]


@pytest.mark.slow
def test_runs_with_other_seeds_are_one_system_with_a_spread(two):
    apart = [build([seeded(run, 1)]).sections[0].systems for run in two]
    (section,) = build([seeded(run, seed) for seed, run in enumerate(two)]).sections
    assert [s.full_name for s in section.systems] == [s.full_name for s in apart[0]]
    for merged in section.systems:
        of_seeds = [next(s for s in systems if s.name == merged.name).scores["jsd_bits"] for systems in apart]
        assert merged.seeds == [0, 1]
        assert merged.scores["jsd_bits"].value == pytest.approx(np.mean([e.value for e in of_seeds]))
        assert merged.spread == pytest.approx(np.std([e.value for e in of_seeds], ddof=1))
        half = (merged.scores["jsd_bits"].high - merged.scores["jsd_bits"].low) / 2
        votes = two[0].tasks["mine_sc"].votes
        errors = [METRICS["jsd_bits"].per_clip(r.tasks["mine_sc"].pipelines[merged.pipeline].p, votes) for r in two]
        by_speaker = np.mean(errors, axis=0).reshape(8, 6).sum(axis=1)
        exact = 2.364624 * np.sqrt(8 / 7 * ((by_speaker - by_speaker.mean()) ** 2).sum()) / 48
        assert half >= exact - 1e-9, "never narrower than the interval of the mean over seeds"


def test_the_same_seed_twice_is_two_models(two):
    content = build([seeded(run, 1) for run in two])
    assert [run.label for run in content.runs] == ["m #1", "m #2"]


def test_other_weights_of_one_name_are_two_models(two):
    second = seeded(two[1], 2)
    second.results["config"]["ambi"]["model_digest"] = "another"
    assert [run.label for run in build([seeded(two[0], 1), second]).runs] == ["m #1", "m #2"]


def test_runs_of_other_tasks_are_one_model(lm_eval, tmp_path, two):
    (direct,) = read_runs(lm_eval(tmp_path, 0.8, "m", tasks=["mine_direct"]))
    content = build([seeded(two[0], 1), seeded(direct, 1)])
    assert {run.label for run in content.runs} == {"m"}
    assert {s.full_name for s in content.sections[0].systems} == {"m: sc dist", "m: sc vote", "m: direct"}


def test_settings_that_differ_are_told_in_the_name(lm_eval, tmp_path, two):
    (cold,) = read_runs(lm_eval(tmp_path, 0.8, "m", tasks=["mine_sc"], metadata={"repeats": 5}))
    names = {s.name for s in build([seeded(two[0], 1), seeded(cold, 1)]).sections[0].systems}
    assert {"sc dist (repeats 20)", "sc dist (repeats 5)"} <= names


def test_what_predicts_the_same_is_one_row_that_names_the_others(two):
    run = seeded(two[0], 1)
    task = run.tasks["mine_sc"]
    copies = {**task.pipelines, "copy": replace(task.pipelines["dist"], name="copy")}
    curve = {metric: {**of, "pipelines": {**of["pipelines"], "copy": of["pipelines"]["dist"]}} for metric, of in
             task.curves.items()}  # fmt: skip
    copied = replace(task, pipelines=copies, curves=curve)
    (section,) = build([replace(run, tasks={"mine_sc": copied})]).sections
    assert [(s.name, s.same_as) for s in section.systems if s.same_as] == [("sc dist", ["sc copy"])]
    assert len(section.systems) == 2


@pytest.mark.slow
def test_controls_stand_apart_and_enter_no_correction(lm_eval, tmp_path, two):
    (silent,) = read_runs(lm_eval(tmp_path, 0.2, "m", tasks=["mine_sc"], metadata={"control": "silence"}))
    alone = build([seeded(two[0], 1)]).sections[0]
    section = build([seeded(two[0], 1), seeded(silent, 1)]).sections[0]
    assert [s.full_name for s in section.systems] == [s.full_name for s in alone.systems]
    assert [s.against_best for s in section.systems] == [s.against_best for s in alone.systems]
    assert {c.control for c in section.controls} == {"silence"}
    for control in section.controls:
        twin = next(s for s in section.systems if s.pipeline == control.pipeline)
        expected = control.scores["jsd_bits"].value - twin.scores["jsd_bits"].value
        assert control.against_best.difference.value == pytest.approx(expected)
        assert control.against_best.p == control.against_best.p_corrected


def test_a_control_is_compared_with_what_predicts_the_same_as_its_own_strategy(lm_eval, tmp_path, two):
    tasks = ["mine_sc"]
    (silent,) = read_runs(lm_eval(tmp_path, 0.2, "m", tasks=tasks, metadata={"control": "silence"}))
    task = two[0].tasks["mine_sc"]
    copies = {name: replace(pipeline, p=task.pipelines["dist"].p) for name, pipeline in task.pipelines.items()}
    copied = replace(two[0], tasks={"mine_sc": replace(task, pipelines=copies)})
    section = build([seeded(copied, 1), seeded(silent, 1)]).sections[0]
    assert [(system.name, system.same_as) for system in section.systems] == [("sc dist", ["sc vote"])]
    score = section.systems[0].scores["jsd_bits"].value
    assert {control.pipeline for control in section.controls} == {"dist", "vote"}
    for control in section.controls:
        assert control.against_best.difference.value == pytest.approx(control.scores["jsd_bits"].value - score)
    assert {row[0] for row in controls(section).rows} == {"sc dist (= 1 more)"}


def test_the_control_of_another_strategy_is_named_in_the_verdict(lm_eval, tmp_path, two, runs):
    (silent,) = read_runs(lm_eval(tmp_path, 0.2, "good/model", tasks=["mine_sc"], metadata={"control": "silence"}))
    good = next(run for run in runs if run.model == "good/model")
    (section,) = build([seeded(good, 1), seeded(silent, 1)]).sections
    standing = standing_of(section, section.best[0])
    assert standing.name == "good/model with exact"
    assert (standing.control[0], standing.control_of) == ("silence", "sc dist")


def test_averages_keep_the_structure_and_what_is_no_number():
    values = [{"a": [Estimate(1, 0, 2), None], "n": 3}, {"a": [Estimate(3, 2, 4), None], "n": 3}]
    assert _average(values) == {"a": [Estimate(2.0, 1.0, 3.0), None], "n": 3}


@pytest.fixture
def predictions(runs, tmp_path):
    """A file that predicts the votes' own shares, and the ids of its clips."""
    task = runs[0].tasks["mine_sc"]
    path = tmp_path / "elsewhere.jsonl"
    shares = task.votes / task.votes.sum(axis=1, keepdims=True)
    lines = [
        {"id": clip.id, "distribution": dict(zip(task.settings.labels, row.tolist(), strict=True))}
        for clip, row in zip(task.selection.clips, shares, strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_predictions_of_any_system_stand_beside_the_runs_in_scores_bins_and_tests(runs, predictions):
    (section,) = build(runs, [predictions]).sections
    best, second = section.systems[:2]
    assert (best.full_name, best.name) == ("elsewhere", "")
    assert best.scores["jsd_bits"].value == pytest.approx(0)
    selection = runs[0].tasks["mine_sc"].selection
    own = selection.votes / selection.votes.sum(axis=1, keepdims=True)
    expected = jsd_in_bins(own, selection.votes, bin_clips(selection))
    assert [scores["jsd_bits"].value for scores in best.binned] == pytest.approx(expected, abs=1e-9)
    assert len(expected) == len(section.bins) > 1
    assert min(expected) > 0, "in bins a part of the raters judges, and no prediction knows which"
    assert second.against_best.difference.value == pytest.approx(second.scores["jsd_bits"].value)
    assert len(section.systems) == 9


@pytest.mark.slow
def test_the_command_takes_predictions_and_ends_with_the_verdict(folders, predictions, tmp_path):
    arguments = ["report", str(folders[0]), "--with", str(predictions), "-o", str(tmp_path / "r.html")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "elsewhere is off the raters' votes by 0.000" in result.stdout
    assert ">elsewhere<" in (tmp_path / "r.html").read_text()


def test_predictions_of_other_clips_are_refused(runs, predictions):
    predictions.write_text('{"id": "x", "distribution": {"calm": 1}}')
    with pytest.raises(AmbiError, match=r"elsewhere\.jsonl"):
        build(runs, [predictions])

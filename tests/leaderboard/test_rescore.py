"""Submitted answers score what the harness made of them, to the last digit, by every pipeline of every pool."""

from dataclasses import replace

import numpy as np
import pytest

from ambi_eval.answers.candidate import Candidate
from ambi_eval.answers.label import read_label
from ambi_eval.config.task_settings import OVERRIDES
from ambi_eval.corpora.manifest import read_manifest, write_manifest
from ambi_eval.corpora.registry import ensure_manifest
from ambi_eval.errors import AmbiError
from ambi_eval.leaderboard.rescore import (
    scoring_task,
    task_files,
    task_settings,
    thinking_per_clip,
    tokens_per_clip,
)
from ambi_eval.leaderboard.submission import read_submission
from ambi_eval.leaderboard.verify import overrides
from ambi_eval.paths import manifest_path

KINDS = ["sc", "sc-shares", "exact", "cheap", "exact-silence"]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_score_what_the_run_of_the_harness_gave(copy, kind):
    submission = read_submission(copy(kind))
    for name, pools in submission.pools.items():
        again = scoring_task(name, overrides(submission.card.tasks[name])).score_answers(pools)
        assert again.keys() == submission.claims[name].keys()
        for pipeline, claims in submission.claims[name].items():
            for metric, claimed in claims.items():
                assert again[pipeline].metrics[metric] == pytest.approx(claimed, abs=1e-12), (name, pipeline, metric)


def test_predictions_stand_in_the_order_of_the_clips(copy):
    pools = read_submission(copy("sc")).pools["ambi_demo_sc"]
    task = scoring_task("ambi_demo_sc")
    p = task.score_answers(pools)["dist"].p
    labels = task.settings.labels
    for clip, row in zip(task.selection.clips, p, strict=True):
        said = [shares for answer in pools[clip.id] if (shares := read_label(answer, tuple(labels)).shares)]
        assert row == pytest.approx(np.mean(said, axis=0), abs=1e-12)


def test_the_same_clips_are_asked_about_without_their_audio(copy, tmp_path, monkeypatch):
    pools = read_submission(copy("sc")).pools["ambi_demo_sc"]
    with_audio = scoring_task("ambi_demo_sc").score_answers(pools)
    clips = [replace(clip, audio=None) for clip in read_manifest(ensure_manifest("demo"))]
    monkeypatch.setenv("AMBI_DATA", str(tmp_path))
    manifest_path("demo").parent.mkdir()
    write_manifest(manifest_path("demo"), clips)
    scoring_task.cache_clear()
    without = scoring_task("ambi_demo_sc").score_answers(pools)
    assert {name: found.metrics for name, found in without.items()} == {
        name: found.metrics for name, found in with_audio.items()
    }


def test_a_task_scores_one_submission_after_the_other(copy):
    task = scoring_task("ambi_demo_sc")
    pools = read_submission(copy("sc")).pools["ambi_demo_sc"]
    others = {clip: [Candidate("angry", n_tokens=1)] * 20 for clip in pools}
    first, other, again = task.score_answers(pools), task.score_answers(others), task.score_answers(pools)
    assert first["dist"].metrics == again["dist"].metrics
    assert other["dist"].metrics["jsd_bits"] > first["dist"].metrics["jsd_bits"]


@pytest.mark.parametrize(
    ("task", "changed", "expected"),
    [
        ("ambi_demo_sc", {}, 20),
        ("ambi_demo_sc", {"repeats": 7}, 7),
        ("ambi_demo_direct", {"repeats": 7}, 1),
        ("ambi_demo_bon", {}, 5),
        ("ambi_demo_bon", {"beams": 3}, 3),
        ("ambi_demo_ens", {}, 5),
        ("ambi_demo_exact", {}, 4),
        ("ambi_demo_exact", {"rotations": 4}, 16),
        ("ambi_demo_exact", {"calibration": "silence"}, 8),
    ],
)
def test_a_whole_run_has_so_many_answers_of_a_clip(task, changed, expected):
    assert task_settings(task, tuple(changed.items())).answers_per_clip == expected


def test_tokens_are_those_that_were_drawn():
    config = task_settings("ambi_demo_asc")
    drawn = [Candidate("sad", n_tokens=2, finish="stop")] * 4
    pools = {"a": [*drawn, Candidate(finish="not_drawn")], "b": drawn}
    assert tokens_per_clip(config, pools) == 8
    thought = {"a": [Candidate("sad", n_tokens=2, thinking_tokens=6), Candidate("sad", n_tokens=2)]}
    assert (tokens_per_clip(config, thought), thinking_per_clip(thought)) == (10, 6)
    unknown = {"a": [Candidate("sad", n_tokens=2, thinking_tokens=None)]}
    assert np.isnan([tokens_per_clip(config, unknown), thinking_per_clip(unknown)]).all()
    assert np.isnan(tokens_per_clip(config, {"a": [Candidate("sad")]}))
    assert tokens_per_clip(task_settings("ambi_demo_exact"), {"a": [Candidate("sad")]}) == 0


@pytest.mark.parametrize("value", ["many", -1, 2.5, True, 1e300, "{{ 7*7 }}"])
@pytest.mark.parametrize("task", ["ambi_demo_sc", "ambi_demo_wbon", "ambi_demo_walmv", "ambi_demo_exact"])
def test_an_override_of_any_kind_makes_a_task_or_one_of_the_errors_that_verify_reports(task, value):
    for key in OVERRIDES:
        try:
            assert scoring_task(task, ((key, value),)).config.task == task
        except (AmbiError, TypeError, ValueError):
            continue


def test_only_our_tasks_can_be_scored():
    assert "ambi_crema_d_sc" in task_files()
    assert "ambi_demo" not in task_files(), "a group is no task"
    with pytest.raises(AmbiError, match="no task 'ambi_demo_scc', did you mean 'ambi_demo_sc'"):
        task_settings("ambi_demo_scc")

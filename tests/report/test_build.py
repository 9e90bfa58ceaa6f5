"""The content of the report against what the harness itself computed, and what is left for the report to work out."""

import io
import json
import shutil
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from rich.console import Console
from scipy.special import logit
from typer.testing import CliRunner

from ambi_eval.analysis.ambiguity import bin_clips
from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.references.baselines import baselines
from ambi_eval.api.runs import load
from ambi_eval.cli import app
from ambi_eval.harness.results import read_runs
from ambi_eval.metrics import METRICS
from ambi_eval.report.build import BEST_CLIPS, FAILED_CLIPS, WORST_CLIPS, build, by_clips
from ambi_eval.report.columns import ANSWERS
from ambi_eval.report.comparison import Found, compare_runs, table
from ambi_eval.report.page import render
from ambi_eval.report.systems import asymptotes, system_name
from ambi_eval.report.table import as_csv, latex, markdown, tables
from ambi_eval.report.verdict import verdicts
from ambi_eval.votes import shares

NAMES = ["direct", "exact", "sc dist", "sc vote"]


def system(content, model, name):
    (found,) = [s for s in content.sections[0].systems if (s.model, s.name) == (model, name)]
    return found


def test_systems_asked_about_the_same_clips_share_a_section_the_best_first(content):
    (section,) = content.sections
    scores = [s.scores["jsd_bits"].value for s in section.systems]
    assert scores == sorted(scores)
    assert sorted(s.full_name for s in section.systems) == sorted(
        f"{model}: {name}" for model in ("good/model", "weak<model>") for name in NAMES
    )
    assert (section.clips, section.clusters, section.cluster) == (48, 8, "speaker")
    assert (section.corpus, section.simulated) == ("mine", False)


@pytest.mark.parametrize("metric", ["jsd_bits", "bc", "acc", "macro_f1", "invalid_rate"])
def test_scores_are_those_of_the_harness(runs, content, metric):
    for run in runs:
        for task, pipeline, name in (("direct", "answer", "direct"), ("sc", "dist", "sc dist")):
            found = system(content, run.model, name)
            value = found.invalid_rate if metric == "invalid_rate" else found.scores[metric]
            of_harness = run.results["results"][f"mine_{task}"]
            assert value.value == pytest.approx(of_harness[f"{metric},{pipeline}"], abs=1e-12)
            margin = of_harness[f"{metric}_stderr,{pipeline}"] * 2.364624  # Student's t with 7 degrees of freedom
            if 0 < value.value < 1:  # an interval on the scale of log(x / (1 - x)), brought back
                half = (logit(value.high) - logit(value.low)) / 2 * value.value * (1 - value.value)
                assert half == pytest.approx(margin, abs=1e-6)


def test_curves_are_those_of_the_harness_and_end_with_the_whole_pool(runs, content):
    of_harness = runs[0].results["results"]["mine_sc"]
    points = system(content, "good/model", "sc dist").curves["jsd_bits"]
    assert list(points) == [1, 3, 5, 10, 20]
    for size, estimate in points.items():
        assert estimate.value == pytest.approx(of_harness[f"jsd_bits@{size},dist"], abs=1e-12)
    assert points[20].value == pytest.approx(of_harness["jsd_bits,dist"], abs=1e-12)
    assert system(content, "good/model", "direct").curves == {}


def test_mere_sampling_stands_beside_the_curves_at_the_same_sizes(content):
    section = content.sections[0]
    for source in ("people", "prior"):
        values = [e.value for e in section.samplers[source]["jsd_bits"].values()]
        assert list(section.samplers[source]["jsd_bits"]) == [1, 3, 5, 10, 20]
        assert values == sorted(values, reverse=True)


def test_the_histogram_of_samples_tends_to_the_exact_readout_of_its_own_model(content):
    assert system(content, "weak<model>", "sc dist").asymptote == "weak<model>: exact"
    assert {s.asymptote for s in content.sections[0].systems if s.name != "sc dist"} == {None}


def test_the_curve_of_a_mean_is_extrapolated_from_its_own_end(content):
    sampled = system(content, "good/model", "sc dist")
    at = sampled.curves["bc"]
    assert sampled.extrapolated["bc"].value == pytest.approx(2 * at[20].value - at[10].value)
    assert system(content, "good/model", "sc vote").extrapolated == {}


@pytest.mark.parametrize(
    "kwargs",
    [
        {"gen_kwargs": {"temperature": 0.7}},
        {"gen_kwargs": {"top_p": 0.9}},
        {"metadata": {"length_normalisation": "bytes"}},
    ],
)
def test_under_other_sampling_than_from_the_likelihoods_there_is_no_asymptote(lm_eval, tmp_path, kwargs):
    (run,) = read_runs(lm_eval(tmp_path, 0.5, "m", tasks=["mine_sc", "mine_exact"], **kwargs))
    sampled, exact = run.tasks["mine_sc"], run.tasks["mine_exact"]
    assert asymptotes(sampled, sampled.pipelines["dist"], [exact]) == []


def test_references_are_those_of_the_baselines_command(runs, content):
    task = next(iter(runs[0].tasks.values()))
    found = baselines(task.selection, task.settings, bin_clips(task.selection), acoustic=False)
    for name, reference in content.sections[0].references.items():
        assert reference.scores == found.overall[name]
        assert len(reference.binned) == len(content.sections[0].bins)


def test_the_answers_of_an_adaptive_pool_are_those_that_were_drawn(content):
    sampled, drawn = system(content, "good/model", "sc dist"), Estimate(10.6, 9.0, 12.3)
    assert ANSWERS[0].of(sampled) == 20
    assert ANSWERS[0].of(replace(sampled, diagnostics={"answers_per_clip": drawn})) == drawn


def test_tokens_failures_and_pool_sizes(content):
    sampled, direct = system(content, "good/model", "sc dist"), system(content, "good/model", "direct")
    assert sampled.tokens.value == pytest.approx(20 * (47 * 2 + 9) / 48)
    assert (sampled.pool_size, direct.pool_size) == (20, 1)
    assert sum(sampled.failed.values()) == 20
    assert direct.invalid_rate.value == pytest.approx(1 / 48)
    assert system(content, "good/model", "exact").tokens.value == 0


def test_the_clips_with_the_largest_error_come_first_then_the_best_with_all_answers(content, votes):
    section = content.sections[0]
    best = section.best[0]
    of_best = {clip.clip: next(p for p in clip.predictions if p.system == best.full_name) for clip in section.shown}
    errors = [found.jsd_bits for found in list(of_best.values())[:WORST_CLIPS]]
    assert errors == sorted(errors, reverse=True)
    assert len(section.shown) <= 2 * (WORST_CLIPS + BEST_CLIPS) + FAILED_CLIPS
    for clip in section.shown:
        assert clip.votes == votes[clip.clip].tolist()
        assert [found.system for found in clip.predictions] == [system.full_name for system in section.systems]
        for found in clip.predictions:
            if found.predicted is not None:
                assert METRICS["jsd_bits"].per_clip(found.predicted, clip.votes) == pytest.approx(found.jsd_bits)


def test_a_clip_without_a_usable_answer_says_what_was_answered_instead(content):
    first = next(clip for clip in content.sections[0].shown if clip.clip == "s0_0")
    failed = next(found for found in first.predictions if found.system == "good/model: sc dist")
    assert (failed.jsd_bits, failed.predicted) == (1.0, None)
    assert [count for _, count in failed.answers] == [20]
    assert first.audio.endswith("all.wav#t=0,0.1")


def test_confusion_counts_every_clip(content):
    for s in content.sections[0].systems:
        assert np.sum(s.confusion) == pytest.approx(48)


def test_every_system_is_compared_with_the_best(content, runs):
    best, *others = content.sections[0].systems
    assert best.against_best is None
    for other in others:
        difference = other.against_best.difference.value
        assert difference == pytest.approx(other.scores["jsd_bits"].value - best.scores["jsd_bits"].value)
        assert other.against_best.smallest_p == 2**-7


def test_subgroups_are_read_as_differences_from_the_prior(content, runs):
    s = system(content, "good/model", "direct")
    assert [(g.trait, g.name, g.speakers) for g in s.subgroups] == [("sex", "female", 4), ("sex", "male", 4)]
    prior = content.sections[0].references["prior"].scores["jsd_bits"].value
    assert np.mean([g.mean.value for g in s.subgroups]) == pytest.approx(s.scores["jsd_bits"].value - prior)


def test_clips_that_were_not_prepared_and_clips_that_were_cut_are_said_to_be_partial(runs):
    run = runs[0]
    task = run.tasks["mine_direct"]
    small = replace(task, selection=replace(task.selection, corpus_size=7442))
    cut = {**run.results, "config": {**run.results["config"], "ambi": {"truncated_audio": 1234}}}
    content = build([replace(run, tasks={"mine_direct": small}, results=cut)])
    assert content.sections[0].partial == [
        "48 of the 7,442 clips of the corpus are scored.",
        "good/model heard only the beginning of 1,234 audios: its window is shorter.",
    ]


def test_what_a_run_warned_of_is_told_once_before_any_score(runs):
    run = runs[0]
    task = run.tasks["mine_direct"]
    warned = replace(
        task, warnings=[*task.selection.warnings, "PARTIAL: told elsewhere", "all answers are the same one"]
    )
    mixed = {**run.results, "config": {**run.results["config"], "ambi": {"set_ups": ["cpu", "cuda"]}}}
    content = build([replace(run, tasks={"mine_direct": warned}, results=mixed)])
    told = "CAUTION: good/model, mine_direct: all answers are the same one"
    of_both = "CAUTION: good/model: the answers come from 2 set-ups: cpu, cuda"
    assert [line for line in verdicts(content) if line.startswith("CAUTION")] == [told, of_both]
    assert told.replace("CAUTION:", '<p class="warning"><strong>CAUTION</strong>') in render(content)


def test_a_server_that_answered_with_another_model_is_told_before_any_score(runs):
    told = "ANOTHER MODEL: 'good' was asked for, but the server named another model: 'cheap' (7 replies)."
    config = {**runs[0].results["config"], "ambi": {"model": "good", "answered_as": {"good-latest": 2, "cheap": 7}}}
    run = replace(runs[0], results={**runs[0].results, "config": config})
    content = build([run, runs[1]])
    assert verdicts(content)[0] == told
    shown = told.replace("ANOTHER MODEL:", '<p class="warning"><strong>ANOTHER MODEL</strong>').replace("'", "&#39;")
    assert shown in render(content)


def test_a_comparison_tells_what_was_warned_of_and_of_which_side(runs):
    run = runs[0]
    task = run.tasks["mine_sc"]
    ambi = {"model": "good", "answered_as": {"cheap": 7}, "truncated_audio": 3, "set_ups": ["cpu", "cuda"]}
    warned = replace(
        run,
        tasks={"mine_sc": replace(task, clips_of_task=60, warnings=[*task.warnings, "all answers are the same one"])},
        results={**run.results, "config": {**run.results["config"], "ambi": ambi}},
    )
    sides = [
        Found(name, of, {"mine_sc:dist": ("x", asked, asked.task.pipelines["dist"])})
        for name, of in (("a", warned), ("b", runs[1]))
        for asked in chain(*by_clips([of]))
        if asked.task.name == "mine_sc"
    ]
    (pair,) = compare_runs(*sides)
    other = "A: 'good' was asked for, but the server named another model: 'cheap' (7 replies)."
    assert pair.other_models == [other]
    partial = [
        "A: 48 of 60 clips are scored (12 not asked in this run).",
        "A: good/model heard only the beginning of 3 audios: its window is shorter.",
    ]
    assert pair.partial == partial
    cautions = [
        "A: good/model, mine_sc: all answers are the same one",
        "A: good/model: the answers come from 2 set-ups: cpu, cuda",
    ]
    assert pair.cautions == cautions
    assert compare_runs(sides[0], sides[0])[0].cautions == [each.removeprefix("A: ") for each in cautions]
    (swapped,) = compare_runs(sides[1], sides[0])
    assert swapped.cautions == [each.replace("A: ", "B: ", 1) for each in cautions]
    console = Console(width=200, file=io.StringIO())
    console.print(table([pair]))
    told = [f"ANOTHER MODEL: {other}", *(f"PARTIAL: {each}" for each in partial), *(f"CAUTION: {e}" for e in cautions)]
    assert [line.rstrip() for line in console.file.getvalue().splitlines()[:5]] == told
    for write in (latex, markdown, as_csv):
        text = write([each for section in build([warned]).sections for each in tables(section)])
        assert "all answers are the same one" in text
        assert "heard only the beginning of 3 audios" in text


def test_every_command_that_reads_runs_tells_what_was_warned_of(folders, tmp_path, caplog):
    copied = shutil.copytree(folders[0], tmp_path / "run")
    (file,) = copied.rglob("results_*.json")
    results = json.loads(file.read_text())
    results["config"]["ambi"] = {"model": "good", "answered_as": {"cheap": 7}, "set_ups": ["cpu", "cuda"]}
    results["configs"]["mine_sc"]["warnings"] = ["all answers are the same one"]
    file.write_text(json.dumps(results))
    told = "'good' was asked for, but the server named another model: 'cheap' (7 replies)."
    cautions = [
        "good/model: the answers come from 2 set-ups: cpu, cuda",
        "good/model, mine_sc: all answers are the same one",
    ]
    for command in ("budget", "generalizability"):
        said = CliRunner().invoke(app, [command, str(copied)]).stderr.splitlines()
        assert {f"ANOTHER MODEL: {told}", *(f"CAUTION: {each}" for each in cautions)} <= {*said}
    load(copied)
    assert sorted(caplog.messages) == sorted(f"{file}: {each}" for each in (told, *cautions))


def test_other_clips_make_another_section_and_are_counted(lm_eval, runs, tmp_path):
    part = lm_eval(tmp_path, 0.5, "good/model", tasks=["mine_direct"], limit=12)
    content = build([*runs[:1], *read_runs(part)])
    assert [section.clips for section in content.sections] == [48, 12]
    assert content.sections[1].left_out == {"not asked in this run": 36}
    assert content.sections[1].partial == ["12 of 48 clips are scored (36 not asked in this run)."]
    assert content.sections[0].partial == []
    assert content.sections[1].systems[0].against_best is None


def test_a_control_and_a_transcript_show_in_the_name(lm_eval, tmp_path):
    metadata = {"control": "silence", "transcript": "given"}
    (run,) = read_runs(lm_eval(tmp_path, 0.5, "m", tasks=["mine_direct"], metadata=metadata))
    task = run.tasks["mine_direct"]
    assert system_name(task, task.pipelines["answer"]) == "direct + transcript [silence]"


def test_bins_and_held_out_raters_are_those_of_the_votes(content, runs):
    section = content.sections[0]
    assert sum(b.clips for b in section.bins) == 48
    human = shares(next(iter(runs[0].tasks.values())).votes)
    assert section.ambiguity == pytest.approx(-np.nansum(human * np.log2(np.where(human > 0, human, 1))) / 48)
    for s in section.systems:
        assert len(s.held_out) == len(s.binned) + 1 == len(section.bins) + 1
        overall = s.held_out[0]
        assert overall.model_minus_prior.value == pytest.approx(overall.model.value - overall.prior.value)


def test_single_ballots_judge_every_system(content, runs):
    section = content.sections[0]
    task = runs[0].tasks["mine_direct"]
    assert section.rater_study.ballots == task.votes.sum()
    assert list(section.rater_study.scores)[:4] == ["uniform", "prior", "others", "others_shrunk"]
    assert set(section.rater_study.minus_prior) == {found.full_name for found in section.systems}
    # The log score of single ballots, each clip counting once, is the log-likelihood of its shares.
    expected = METRICS["nll_bits"].value(task.pipelines["answer"].p, task.votes)
    assert section.rater_study.scores["good/model: direct"]["nll_bits"].value == pytest.approx(expected)

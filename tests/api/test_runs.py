import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import ambi_eval
from ambi_eval.api.runs import Runs
from ambi_eval.errors import AmbiError
from ambi_eval.metrics import METRICS

TASKS = ["ambi_demo_sc", "ambi_demo_exact"]


@pytest.fixture(scope="module")
def folder(lm_eval_run, tmp_path_factory):
    """A run of two tasks on six clips."""
    folder = tmp_path_factory.mktemp("api")
    done = lm_eval_run(
        *("--model", "hf-audio", "--model_args", "pretrained=ambi-tiny,store=none", "--tasks", ",".join(TASKS)),
        *("--limit", 6, "--seed", 0, "--log_samples", "--output_path", folder / "run"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_a_run_becomes_a_row_for_each_clip_and_system(folder):
    table = ambi_eval.load(folder).to_pandas()
    assert sorted(set(zip(table["task"], table["pipeline"], strict=True))) == [
        ("ambi_demo_exact", "likelihood"),
        ("ambi_demo_sc", "dist"),
        ("ambi_demo_sc", "vote"),
    ]
    assert len(table) == 3 * 6
    assert set(table["control"]) == {"none"}
    votes, predicted = (pd.DataFrame(table[name].tolist()) for name in ("votes", "predicted"))
    assert np.allclose(METRICS["jsd_bits"].per_clip(predicted.to_numpy(), votes.to_numpy()), table["jsd_bits"])
    assert {len(answers) for answers in table[table["task"] == "ambi_demo_sc"]["answers"]} == {20}
    exact = table[table["task"] == "ambi_demo_exact"]
    read = [[answer.split(": log-likelihood ") for answer in answers] for answers in exact["answers"]]
    likelihoods = pd.DataFrame([{label: math.exp(float(number)) for label, number in of_clip} for of_clip in read])
    shares = likelihoods.div(likelihoods.sum(axis=1), axis=0)
    np.testing.assert_allclose(shares, pd.DataFrame(exact["predicted"].tolist()), atol=1e-3)


def test_checkpoints_in_folders_of_one_name_are_told_apart(folder):
    (run,) = ambi_eval.load(folder).runs
    both = [replace(run, results={**run.results, "model_name": f"/{of}/best"}) for of in "ab"]
    assert [each.model for each in both] == ["best", "best"]
    assert set(Runs(both).to_pandas()["model"]) == {"/a/best", "/b/best"}


def test_the_mean_of_the_table_is_the_score_of_the_run(folder):
    table = ambi_eval.load(folder).to_pandas()
    results = json.loads(next(folder.rglob("results_*.json")).read_text())["results"]
    means = table.groupby(["task", "pipeline"])["jsd_bits"].mean()
    assert means["ambi_demo_sc", "vote"] == pytest.approx(results["ambi_demo_sc"]["jsd_bits,vote"])
    assert means["ambi_demo_exact", "likelihood"] == pytest.approx(results["ambi_demo_exact"]["jsd_bits,likelihood"])


def test_a_run_writes_its_page_and_says_its_verdict(folder, tmp_path):
    runs = ambi_eval.load(folder)
    page = runs.report(tmp_path / "page.html")
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert "ambi-tiny" in runs.verdict
    assert repr(runs) == "Runs(ambi-tiny: 2 tasks)"


def test_a_folder_without_a_run_is_one_sentence(tmp_path):
    with pytest.raises(AmbiError, match=r"holds no results_\*.json: give the folder that --output_path"):
        ambi_eval.load(tmp_path)


def test_evaluate_gives_and_writes_what_the_command_does(folder, tmp_path):
    arguments = {"pretrained": "ambi-tiny", "store": "none", "seed": 0}
    found = ambi_eval.evaluate("hf-audio", TASKS, arguments, output_path=tmp_path, limit=6, random_seed=0)
    pd.testing.assert_frame_equal(ambi_eval.load(tmp_path).to_pandas(), ambi_eval.load(folder).to_pandas())
    results = json.loads(next(folder.rglob("results_*.json")).read_text())["results"]
    for task, key in (("ambi_demo_sc", "jsd_bits,dist"), ("ambi_demo_exact", "jsd_bits,likelihood")):
        assert found["results"][task][key] == results[task][key]


def test_evaluate_takes_a_control():
    found = ambi_eval.evaluate(
        "hf-audio",
        "ambi_demo_exact",
        "pretrained=ambi-tiny,store=none",
        metadata={"control": "silence"},
        limit=2,
    )
    assert found["results"]["ambi_demo_exact"]["alias"] == "ambi_demo_exact [silence]"


@pytest.mark.slow
def test_predictions_in_python_score_as_those_of_a_file(own_corpus, tmp_path):
    clips = [json.loads(line) for line in own_corpus.with_name("mine.jsonl").read_text().splitlines()]
    predicted = {clip["id"]: {"angry": 0.5, "happy": 0.25, "sad": 0.25} for clip in clips}
    predicted[clips[0]["id"]] = None
    file = tmp_path / "predicted.jsonl"
    file.write_text("\n".join(json.dumps({"id": name, "distribution": p}) for name, p in predicted.items()))
    of_dict, of_file = (ambi_eval.score(given, str(own_corpus)) for given in (predicted, file))
    assert repr(of_dict.overall) == repr(of_file.overall)  # some have no interval: NaN
    assert of_dict.overall["jsd_bits"].value > 0


def test_a_wrong_label_in_python_is_one_sentence(own_corpus):
    with pytest.raises(AmbiError, match=r"predictions: 1 line\(s\) with a label that the corpus does not have"):
        ambi_eval.score({"a_1": {"glad": 1.0}}, str(own_corpus))


def test_results_hold_no_error_bars_of_error_bars(folder):
    results = json.loads(next(folder.rglob("results_*.json")).read_text())["results"]
    names = [key for row in results.values() for key in row]
    assert any("_stderr," in name for name in names)
    assert not [name for name in names if "_stderr_stderr" in name]


def test_the_package_says_its_version():
    assert ambi_eval.__version__.count(".") == 2

"""Protocols of other papers, few-shot and pairs run by the stock command, on a model that hears several audios."""

import json

import pytest

from ambi_eval.config.tasks import APART


@pytest.mark.slow
def test_every_strategy_that_stands_in_no_group_runs_on_the_demo(lm_eval_run, tmp_path):
    tasks = [f"ambi_demo_{strategy}" for strategy in APART]
    options = ["--model_args", "pretrained=ambi-tiny,store=none", "--tasks", ",".join(tasks), "--limit", "2"]
    done = lm_eval_run("--model", "hf-audio", *options, "--log_samples", "--output_path", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = tmp_path.rglob("results_*.json")
    results = json.loads(file.read_text())["results"]
    assert results.keys() == set(tasks)
    assert 0 <= results["ambi_demo_pairs"]["acc,likelihood"] <= 1
    heard = {"ambi_demo_few_shot": 4, "ambi_demo_pairs": 2, "ambi_demo_voxemo": 1}
    for task, audios in heard.items():
        (samples,) = tmp_path.rglob(f"samples_{task}_*.jsonl")
        for line in samples.read_text().splitlines():
            context, *_, wanted = json.loads(line)["arguments"]["gen_args_0"].values()
            assert context.count("<audio>") == len(wanted["audio"]) == audios

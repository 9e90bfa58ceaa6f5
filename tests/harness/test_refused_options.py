"""What the harness refuses with a traceback is one sentence where one of our tasks or models is named."""

import pytest

from ambi_eval.errors import AmbiError
from ambi_eval.harness import garbage
from ambi_eval.harness.refused_options import told_in_one_sentence

MODEL = ["--model", "hf-audio", "--model_args", "pretrained=no/such-model"]
OURS = [*MODEL, "--tasks", "ambi_demo_sc"]
CLIP = '{"ambi_demo_sc": [0]}'


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*OURS, "--samples", CLIP, "--limit", "1"], "--limit must be None): leave out one of the two"),
        ([*OURS, "--log_samples"], "--log_samples or --predict_only): add --output_path FOLDER"),
        ([*OURS, "--fewshot_as_multiturn"], "must be set): correct that, or leave the option out"),
        ([*OURS, "--samples", "broken file"], "line 1 column 2 (char 1)): the file after --samples must be JSON"),
        ([*MODEL, "--tasks", "gone.yaml"], "gone.yaml): correct that, or"),
        ([*OURS, "ambi_demo"], "found in both 'ambi_demo_sc' and 'ambi_demo'): name each task once"),
        (MODEL, "--tasks: name at least one task; `lm_eval ls tasks` lists all"),
        ([*OURS, "--config", "gone.yaml"], "gone.yaml): correct that, or"),
        ([*OURS, "--config", "broken file"], "): correct that, or"),
        ([*MODEL, "--config", "typo.yaml"], "keyword argument 'limt'): correct that key in the file after --config"),
        ([*MODEL, "--config", "both.yaml"], "--limit must be None): leave out one of the two"),
        ([*OURS, "--wandb_args", "project=x"], "pip install wandb, or leave out --wandb_args"),
        ([*OURS, "--trackio_args", "project=x"], "): install it, or leave out --trackio_args"),
        (
            [*OURS, "--hf_hub_log_args", "push_results_to_hub=True"],
            "HF_TOKEN environment variable): correct that, or",
        ),
        ([*OURS, "--hf_hub_log_args", "foo=1"], "unexpected keyword argument 'foo'): correct that, or"),
    ],
    ids=lambda value: " ".join(value[4:]) if isinstance(value, list) else "",
)
def test_options_that_the_harness_refuses_end_in_one_sentence(words, said, lm_eval_run, tmp_path):
    (tmp_path / "broken file").write_text("{x")
    (tmp_path / "typo.yaml").write_text("tasks: [ambi_demo_sc]\nlimt: 1\n")
    (tmp_path / "both.yaml").write_text(f"tasks: [ambi_demo_sc]\nsamples: {CLIP}\nlimit: 1\n")
    done = lm_eval_run(*words, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("ambi_eval: ")
    assert said in done.stderr.splitlines()[-1]
    assert done.returncode == 2


def test_the_harness_itself_ends_as_it_always_did(lm_eval_run, tmp_path):
    done = lm_eval_run("--model", "dummy", "--tasks", "lambada", "--log_samples", cwd=tmp_path)
    assert "ValueError: Specify --output_path" in done.stderr.splitlines()[-1]
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("module", "starting", "kind"),
    [("lm_eval.x", True, AmbiError), ("lm_eval.x", False, ValueError), ("ambi_eval.x", True, ValueError)],
)
def test_errors_of_our_own_code_and_of_a_run_keep_their_traceback(module, starting, kind, monkeypatch):
    monkeypatch.setattr(garbage, "starting", starting)
    with pytest.raises(kind, match="no"), told_in_one_sentence():
        exec("raise ValueError('no')", {"__name__": module})


@pytest.mark.parametrize("module", ["utils", "torch.x"])
def test_errors_of_a_tasks_own_functions_and_of_other_packages_keep_their_traceback(module, monkeypatch):
    monkeypatch.setattr(garbage, "starting", True)
    names = {"__name__": "lm_eval.x"}
    exec("def call(run): run()", names)
    with pytest.raises(NameError, match="'gone' is not defined"), told_in_one_sentence():
        names["call"](lambda: exec("gone()", {"__name__": module}))

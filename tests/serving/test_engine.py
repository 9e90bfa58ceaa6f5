"""vllm-audio as the harness uses it, with a program in the place of vLLM."""

import json
import shutil

import pytest
from support.fake_vllm import environment, started

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def vllm_environment(tmp_path_factory):
    return environment(tmp_path_factory.mktemp("vllm"))


@pytest.fixture
def run(lm_eval_run, qwen2_audio_checkpoint, vllm_environment, tmp_path):
    def with_arguments(folder, **given):
        words = {"pretrained": qwen2_audio_checkpoint, "vllm": vllm_environment, "store": tmp_path / "s", **given}
        words = ",".join(f"{name}={value}" for name, value in words.items())
        words = ["--model", "vllm-audio", "--model_args", words, "--tasks", "ambi_demo_sc", "--limit", 2]
        return lm_eval_run(*words, "--output_path", folder, cwd=tmp_path)

    return with_arguments


def test_a_run_starts_a_server_and_one_whose_answers_are_stored_does_not(run, tmp_path):
    first = run("first", serve_log=tmp_path / "first.log")
    assert first.returncode == 0, first.stderr[-3000:]
    again = run("again", serve_log=tmp_path / "again.log")
    assert again.returncode == 0, again.stderr[-3000:]
    assert started(tmp_path / "first.log")["words"][0] == "serve"
    assert not (tmp_path / "again.log").exists()
    one, other = (
        json.loads(next((tmp_path / name).rglob("results_*.json")).read_text()) for name in ("first", "again")
    )
    assert one["results"] == other["results"]
    said = one["config"]["ambi"]
    assert (said["serve_log"], said["serve"][0], said["store_hits"]) == (str(tmp_path / "first.log"), "serve", 0)
    assert other["config"]["ambi"]["requests"] == 0


def test_stored_answers_belong_to_the_weights_not_to_the_place_of_the_folder(run, qwen2_audio_checkpoint, tmp_path):
    assert run("first").returncode == 0
    moved = tmp_path / "elsewhere" / qwen2_audio_checkpoint.name
    shutil.copytree(qwen2_audio_checkpoint, moved)
    assert run("moved", pretrained=moved, serve_log=tmp_path / "moved.log").returncode == 0
    assert not (tmp_path / "moved.log").exists()


def test_a_server_that_dies_ends_the_run_with_one_sentence(run, monkeypatch):
    monkeypatch.setenv("FAKE_VLLM", "dies")
    done = run("dies")
    assert done.returncode == 2
    assert "ended with exit code 1 (ValueError: no kernel takes a head size of 7); its log is" in done.stderr
    assert "Traceback" not in done.stderr

"""A sweep of vllm-audio, with a program in the place of vLLM."""

import pytest
from support import commands
from support.fake_vllm import environment
from support.processes import forked_for_spawned

pytestmark = pytest.mark.slow


def test_a_sweep_starts_one_server_for_all_cells_of_a_model(write_grid, qwen2_audio_checkpoint, tmp_path):
    log = tmp_path / "log.txt"
    given = {
        "pretrained": str(qwen2_audio_checkpoint),
        "vllm": str(environment(tmp_path / "vllm")),
        "serve_log": str(log),
    }
    models = {"served": {"model": "vllm-audio", "model_args": given, "gpus": 0}}
    file = write_grid(models=models, strategies=["sc"], seeds=[0, 1], limit=1)
    with forked_for_spawned():
        done = commands.ambi_eval("sweep", file, "-o", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list((tmp_path / "out").rglob("results_*.json"))) == 2
    assert log.read_text().count('"words"') == 1

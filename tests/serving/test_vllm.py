"""Which `vllm` is started, with what, and who uses it."""

import json
import sys

import pytest
from support.fake_vllm import environment, started

from ambi_eval.config.model_arguments import VLLMAudioArguments
from ambi_eval.errors import AmbiError
from ambi_eval.serving import vllm
from ambi_eval.serving.vllm import SHARED, executable, serve_arguments, served_name, shared_address, shared_server


@pytest.fixture(scope="module")
def vllm_environment(tmp_path_factory):
    return environment(tmp_path_factory.mktemp("vllm"))


@pytest.fixture
def arguments(qwen2_audio_checkpoint, vllm_environment):
    """Read model arguments for a tiny checkpoint."""

    def read(**given):
        given = {"pretrained": str(qwen2_audio_checkpoint), "vllm": str(vllm_environment), **given}
        return VLLMAudioArguments.read(given, "--model_args")

    return read


@pytest.mark.parametrize("named", ["", "bin/vllm", "bin/python"])
def test_an_environment_its_program_and_its_python_name_the_same_vllm(named, vllm_environment):
    assert executable(str(vllm_environment / named)) == str(vllm_environment / "bin" / "vllm")


def test_without_a_name_vllm_is_looked_for_here_and_on_the_path(vllm_environment, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(vllm_environment / "bin"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert executable(None) == str(vllm_environment / "bin" / "vllm")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AmbiError, match="vLLM is neither in this environment nor on PATH; make an environment"):
        executable(None)


def test_an_environment_without_vllm_is_refused(tmp_path):
    with pytest.raises(AmbiError, match=f"vllm={tmp_path}: there is no program .*/bin/vllm; give an environment in"):
        executable(str(tmp_path))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"dtype": "float32"}, ["--dtype", "float32"]),
        ({"tensor_parallel_size": 2, "max_model_len": 512}, ["--max-model-len", "512", "--tensor-parallel-size", "2"]),
        (
            {"data_parallel_size": 8, "data_parallel_backend": "ray"},
            ["--data-parallel-size", "8", "--data-parallel-backend", "ray"],
        ),
        ({"gpu_memory_utilization": 0.8}, ["--gpu-memory-utilization", "0.8"]),
        ({"trust_remote_code": True}, ["--trust-remote-code"]),
        ({"serve_args": "--block-size 32 --x 'a b'"}, ["--block-size", "32", "--x", "a b"]),
        ({"serve_args": ["--x", "a b"]}, ["--x", "a b"]),
    ],
)
def test_model_arguments_become_options_of_vllm_serve(given, expected, arguments, qwen2_audio_checkpoint):
    always = ["--served-model-name", qwen2_audio_checkpoint.name, "--generation-config", "vllm"]
    auto = [] if "dtype" in given else ["--dtype", "auto"]
    found = serve_arguments(arguments(**given))
    assert found[:2] == ["serve", str(qwen2_audio_checkpoint)]
    assert sorted(found[2:]) == sorted([*always, *auto, *expected])


@pytest.mark.parametrize("option", ["--port 1", "--port=1", "--api-key x", "--host=0.0.0.0"])
def test_where_the_server_listens_and_for_whom_is_not_for_the_user_to_say(option, arguments):
    with pytest.raises(AmbiError, match=f"serve_args holds {option.split()[0]}, which vllm-audio sets itself"):
        serve_arguments(arguments(serve_args=option))


def test_a_repository_is_served_under_its_name_and_a_folder_under_its_own(tmp_path):
    assert served_name(VLLMAudioArguments(pretrained="owner/model")) == "owner/model"
    assert served_name(VLLMAudioArguments(pretrained=str(tmp_path))) == tmp_path.name


@pytest.mark.slow
def test_a_shared_server_is_found_for_its_own_arguments_only(arguments, tmp_path, monkeypatch):
    log = tmp_path / "log.txt"
    with shared_server(arguments(serve_log=str(log))) as variables:
        monkeypatch.setenv(SHARED, variables[SHARED])
        found = shared_address(arguments())
        assert found.base_url.startswith("http://127.0.0.1:")
        assert len(found.key) > 20
        assert found.key not in log.read_text()
        assert {"--host", "127.0.0.1"} < set(started(log)["words"])
        assert shared_address(arguments(dtype="bfloat16")) is None


def test_a_shared_server_that_did_not_start_gives_the_reason_to_all(arguments, tmp_path, monkeypatch):
    with shared_server(arguments(vllm=str(tmp_path))) as variables:
        assert "there is no program" in json.loads(variables[SHARED])["error"]
        monkeypatch.setenv(SHARED, variables[SHARED])
        with pytest.raises(AmbiError, match="there is no program"):
            shared_address(arguments())


def test_without_a_shared_server_each_has_its_own(arguments):
    assert shared_address(arguments()) is None
    one, other = (vllm.VLLMServer(arguments()).address for _ in range(2))
    assert one.key != other.key

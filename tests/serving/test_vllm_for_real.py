"""vllm-audio with the real vLLM on a CPU, beside hf-audio: `make test-vllm`."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from support.long_window import with_long_window
from support.relay import Relay
from support.vllm_environment import SERVE_ARGS, VARIABLES, make, why_not
from support.vllm_equalities import EqualsHFAudio
from support.vllm_replies import TASKS

from ambi_eval.config.model_arguments import VLLMAudioArguments
from ambi_eval.doctor.checks import examine
from ambi_eval.engines.hf.loading import checkpoint
from ambi_eval.errors import AmbiError
from ambi_eval.serving.vllm import SHARED, VLLMServer, shared_server

pytestmark = pytest.mark.slow

CLIPS = 12


@pytest.fixture(scope="module")
def vllm():
    """The environment that AMBI_TEST_VLLM names; 1 makes one in this environment."""
    wanted = os.environ.get("AMBI_TEST_VLLM", "0")
    if wanted == "0":
        pytest.skip("the real vLLM takes an environment of 3.7 GB and minutes: make test-vllm")
    folder = Path(sys.prefix) / "vllm" if wanted == "1" else Path(wanted)
    if reason := why_not(folder):
        pytest.skip(f"no environment with vLLM: {reason}")
    return make(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return with_long_window(Path(checkpoint("ambi-tiny")), tmp_path_factory.mktemp("ambi-tiny") / "ambi-tiny-30")


@pytest.fixture(scope="module")
def arguments(vllm, tiny):
    given = {"pretrained": str(tiny), "vllm": str(vllm), "dtype": "float32", "max_model_len": 2048}
    return {**given, "serve_args": SERVE_ARGS, "store": "none", "seed": 0, "timeout": 900.0}


@pytest.fixture(scope="module")
def server(arguments, tmp_path_factory):
    """One server for all runs here, as a sweep has."""
    cores = os.cpu_count() or 1
    log = tmp_path_factory.mktemp("log") / "vllm.log"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**VARIABLES, "VLLM_CPU_OMP_THREADS_BIND": f"0-{min(cores, 4) - 1}"}.items():
            patch.setenv(name, value)
        patch.delenv("OMP_NUM_THREADS", raising=False)
        with shared_server(VLLMAudioArguments.read({**arguments, "serve_log": str(log)}, "test")) as variables:
            assert "error" not in json.loads(variables[SHARED]), variables
            patch.setenv(SHARED, variables[SHARED])
            yield json.loads(variables[SHARED])
            started = psutil.Process().children(recursive=True)
            assert any("VLLM::" in each.name() for each in started)
    _, left = psutil.wait_procs(started, timeout=5)
    assert left == []


@pytest.fixture(scope="module")
def run(server, arguments, tiny):
    manager = TaskManager()

    def evaluate(kind="vllm-audio", tasks=TASKS, metadata=None, limit=CLIPS, **more):
        own = {"vllm-audio": arguments, "hf-audio": {"pretrained": str(tiny), "store": "none", "seed": 0}}
        found = TaskManager(metadata=metadata) if metadata else manager
        options = {"limit": limit, "bootstrap_iters": 0, "task_manager": found, "metadata": metadata}
        return simple_evaluate(kind, {**own.get(kind, {}), **more}, tasks=tasks, **options)

    return evaluate


@pytest.fixture(scope="module")
def runs(run):
    return run(), run("hf-audio")


class TestRealVLLM(EqualsHFAudio):
    @pytest.fixture(scope="class")
    def samples(self, runs):
        return tuple(each["samples"] for each in runs)


def answers(result, task):
    return [sample["resps"] for sample in result["samples"][task]]


def test_scores_are_those_of_hf_audio_where_answers_are_not_sampled(runs):
    ours, theirs = (each["results"] for each in runs)
    for strategy in ("direct", "cot", "ens", "bon,best", "exact"):
        task = f"ambi_demo_{strategy.partition(',')[0]}"
        scores = [name for name in theirs[task] if name.startswith("jsd_bits,")]
        assert scores
        for name in scores:
            assert ours[task][name] == pytest.approx(theirs[task][name], abs=1e-3)


def test_another_clips_voice_gives_worse_likelihoods(run, runs):
    shuffled = run(tasks=["ambi_demo_exact"], metadata={"control": "shuffle"})["results"]["ambi_demo_exact"]
    (name,) = (name for name in shuffled if name.startswith("jsd_bits,"))
    assert shuffled[name] > runs[0]["results"]["ambi_demo_exact"][name] + 0.1


def test_samples_do_not_depend_on_how_many_requests_there_are_at_once(run):
    alone, together = (run(tasks=["ambi_demo_sc"], limit=3, num_concurrent=number) for number in (1, 8))
    assert answers(alone, "ambi_demo_sc") == answers(together, "ambi_demo_sc")


@pytest.fixture
def chat(run, server, monkeypatch):
    """Evaluate with `openai-audio`, which asks the server as one that runs already."""
    monkeypatch.setenv("VLLM_KEY", server["key"])
    given = {"model": server["model"], "base_url": server["base_url"], "api_key_env": "VLLM_KEY", "seed": 0}

    def evaluate(tasks, store="none", **more):
        options = {**given, "store": str(store), "timeout": 900.0, **more}
        return run("openai-audio", tasks, **options)

    return evaluate


def test_openai_audio_gives_the_answers_of_vllm_audio(chat, runs):
    found = chat(["ambi_demo_sc"])
    assert found["config"]["ambi"]["requests"] == CLIPS
    assert answers(found, "ambi_demo_sc") == answers(runs[0], "ambi_demo_sc")


def test_after_the_server_was_killed_nothing_is_asked_again_and_the_scores_are_those_of_an_undisturbed_run(
    chat, runs, server, tmp_path
):
    store, tasks = tmp_path / "store.sqlite", ["ambi_demo_sc", "ambi_demo_exact"]
    with Relay(server["base_url"]) as relay:
        relay.dies_when(lambda: answers_in(store) > 0)
        with pytest.raises(AmbiError, match="failed"):
            chat(tasks, store, base_url=relay.url, num_concurrent=2, max_retries=0)
        kept = answers_in(store)
        assert 0 < kept < CLIPS * 20
        relay.lives()
        again = chat(tasks, store, base_url=relay.url)
    assert again["config"]["ambi"]["store_hits"] == kept
    for task in tasks:
        assert answers(again, task) == answers(runs[0], task)
        scores = {name: score for name, score in runs[0]["results"][task].items() if name.startswith("jsd_bits,")}
        assert scores
        assert {name: again["results"][task][name] for name in scores} == scores


def answers_in(store):
    """How many answers a store holds, which another process may be about to make."""
    if not store.with_name(f"{store.name}-wal").exists():
        return 0
    with closing(sqlite3.connect(store)) as opened:
        return opened.execute("SELECT count(*) FROM candidates").fetchone()[0]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=str)
def test_a_run_that_is_stopped_leaves_no_process_and_another_server_draws_its_samples_again(
    end, run, runs, arguments, tmp_path
):
    store, words = tmp_path / "store.sqlite", {**arguments, "serve_log": tmp_path / "log.txt"}
    words = ",".join(f"{name}={value}" for name, value in {**words, "store": store}.items())
    command = ["-m", "lm_eval", "--model", "vllm-audio", "--model_args", words, "--tasks", "ambi_demo_sc"]
    environment = {name: value for name, value in os.environ.items() if name != SHARED}
    with (tmp_path / "said.txt").open("w+") as said:
        process = subprocess.Popen(
            [sys.executable, *command, "--limit", str(CLIPS)],
            env=environment,
            cwd=tmp_path,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        deadline = time.monotonic() + 300
        while not answers_in(store):
            assert process.poll() is None, (tmp_path / "said.txt").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        started = psutil.Process(process.pid).children(recursive=True)
        assert any("VLLM::" in each.name() for each in started)
        os.killpg(process.pid, end)  # as a terminal does
        assert process.wait(30) == (130 if end == signal.SIGINT else -signal.SIGKILL)
    _, left = psutil.wait_procs(started, timeout=30)
    assert [each for each in left if each.status() != psutil.STATUS_ZOMBIE] == []
    kept = answers_in(store)
    again = run(tasks=["ambi_demo_sc"], store=str(store))
    assert 0 < kept == again["config"]["ambi"]["store_hits"] < CLIPS * 20
    assert answers(again, "ambi_demo_sc") == answers(runs[0], "ambi_demo_sc")


def test_doctor_finds_the_model_healthy(server, arguments):
    words = ",".join(f"{name}={value}" for name, value in arguments.items())
    outcomes = examine("vllm-audio", words)
    assert [(each.name, each.sentence) for each in outcomes if each.status == "failed"] == []
    assert {"searches beams", "hears its window"} <= {each.name for each in outcomes if each.status == "passed"}


def test_a_checkpoint_that_vllm_cannot_serve_is_one_sentence(server, arguments, tmp_path):
    given = {**arguments, "pretrained": str(tmp_path), "serve_log": str(tmp_path / "log.txt")}
    with pytest.raises(
        AmbiError, match=r"^vllm serve .* ended with exit code \d+ \(.+\); its log is .*log\.txt$"
    ) as told:
        VLLMServer(VLLMAudioArguments.read(given, "test")).start()
    assert "Invalid repository ID or local directory" in str(told.value)

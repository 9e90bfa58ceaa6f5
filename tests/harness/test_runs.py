"""Whole runs of the stock `lm_eval` as a user starts them: the demo, real CREMA-D clips, bad input."""

import json
import shutil

import pytest
from support import commands
from support.processes import as_torchrun_starts

pytestmark = pytest.mark.slow

TINY = ["--model", "hf-audio", "--model_args", "pretrained=ambi-tiny", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(lm_eval_run, folder):
    """Run the stock command on ambi-tiny, with a data directory of these tests' own."""
    return lambda *words, **environment: lm_eval_run(
        *TINY, *words, cwd=folder, **{"AMBI_DATA": str(folder / "data"), **environment}
    )


def results_of(folder):
    return json.loads(next(folder.rglob("results_*.json")).read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def demo(run, folder):
    """Every strategy of the demo on a few clips."""
    done = run("--tasks", "ambi_demo", "--limit", "5", "--log_samples", "--output_path", "demo")
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, results_of(folder / "demo")


def test_every_strategy_runs_and_prints_its_scores(demo):
    table, results = demo
    strategies = {name.removeprefix("ambi_demo_") for name in results["results"] if name != "ambi_demo"}
    assert strategies == {"direct", "cot", "bon", "wbon", "almv", "walmv", "sc", "sc_shares", "asc", "ens", "exact"}
    assert "jsd_bits" in table
    assert all(f"ambi_demo_{strategy}" in table for strategy in strategies)


def test_strategies_share_their_pools(demo):
    counters = demo[1]["config"]["ambi"]
    # bon and wbon, almv and walmv, sc and asc: one pool each. Five wordings, one of them that of `direct`.
    assert counters["encodes"] <= 5 * 8, "five clips, a few kinds of request each"


def test_a_second_run_finds_every_answer_and_scores_the_same(demo, run, folder):
    done = run("--tasks", "ambi_demo", "--limit", "5", "--output_path", "again")
    assert done.returncode == 0, done.stderr[-3000:]
    again = results_of(folder / "again")
    assert again["results"] == demo[1]["results"]
    counters = again["config"]["ambi"]
    assert (counters["encodes"], counters["generated_tokens"]) == (0, 0)
    assert counters["store_hits"] > 0


def test_two_processes_score_as_one(demo, folder):
    words = [*TINY, "--tasks", "ambi_demo_sc,ambi_demo_exact", "--limit", "5", "--output_path", "two"]
    processes = as_torchrun_starts("lm_eval", *words, cwd=folder, environment={"AMBI_DATA": str(folder / "other")})
    for process in processes:
        process.output()
        assert process.returncode == 0, process.error[-3000:]
    two, one = results_of(folder / "two")["results"], demo[1]["results"]
    for key, value in one["ambi_demo_sc"].items():
        assert two["ambi_demo_sc"][key] == value, key
    for key, value in one["ambi_demo_exact"].items():
        if isinstance(value, float):
            assert two["ambi_demo_exact"][key] == pytest.approx(value, abs=1e-4), key


def test_real_clips_are_prepared_and_scored_against_real_votes(crema_d, run, folder):
    done = commands.ambi_eval("prepare", "crema_d", "--source", crema_d, cwd=folder, AMBI_DATA=str(folder / "data"))
    assert done.returncode == 0, done.stderr
    assert "250" in done.stdout
    assert "7,192 (no audio file)" in done.stdout or "7,191 (no audio file)" in done.stdout
    done = run("--tasks", "ambi_crema_d_sc", "--limit", "6", "--output_path", "crema")
    assert done.returncode == 0, done.stderr[-3000:]
    results = results_of(folder / "crema")
    assert 0 < results["results"]["ambi_crema_d_sc"]["jsd_bits,dist"] <= 1
    assert results["configs"]["ambi_crema_d_sc"]["clips"] == 250


def write_task(folder, audio="tone.wav", **clip):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    row = {"id": "c1", "audio": audio, "speaker": "a", "votes": {"calm": 1, "tense": 2}, **clip}
    (folder / "mine.jsonl").write_text(json.dumps(row))
    (folder / "mine.yaml").write_text(
        "class: !function ambi_eval.harness.task.AmbiguousEmotionTask\ntask: mine\nstrategy: sc\n"
        "labels: [calm, tense]\nmanifest: mine.jsonl\n"
    )
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: write_task(folder), "tone.wav: there is no such audio file"),
        (lambda folder: write_task(folder, votes={"calm": 0}), "votes must be finite, not negative and not all zero"),
        (lambda folder: write_task(folder, votes={"calm": -1, "tense": 2}), "votes must be finite, not negative"),
        (lambda folder: (write_task(folder) / "mine.jsonl").write_text(""), "holds no clip"),
    ],
    ids=["missing audio", "no votes", "negative votes", "empty manifest"],
)
def test_bad_input_is_one_line_and_exit_code_2(run, folder, make, message):
    make(folder / "mine")
    done = run("--tasks", "mine", "--include_path", "mine")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_data_directory_that_cannot_be_written_is_one_line_and_exit_code_2(run, folder):
    (folder / "file").write_text("no folder")
    done = run("--tasks", "ambi_demo_sc", AMBI_DATA=str(folder / "file"))
    assert done.returncode == 2
    assert str(folder / "file") in done.stderr
    assert "Traceback" not in done.stderr

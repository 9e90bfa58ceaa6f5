"""From a run of the stock `lm_eval` to a submission, and the whole way round to a page in a browser."""

import gzip
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from ambi_eval.errors import AmbiError
from ambi_eval.leaderboard.pack import Statement, pack
from ambi_eval.leaderboard.rerun import rerun
from ambi_eval.leaderboard.site import build
from ambi_eval.leaderboard.submission import read_submission
from ambi_eval.leaderboard.verify import verify

pytestmark = pytest.mark.slow

NAME = "2026-01-31_ambi-tiny"
TASKS = ("ambi_demo_exact", "ambi_demo_sc")


@pytest.fixture
def statement():
    return Statement("tiny", "Apache-2.0", "me", {"demo": "no"}, 1102336)


@pytest.fixture(scope="module")
def run(lm_eval_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    model = ["--model", "hf-audio", "--model_args", "pretrained=ambi-tiny,store=none"]
    done = lm_eval_run(*model, "--tasks", ",".join(TASKS), "--log_samples", "--output_path", out, cwd=out)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture
def packed(run, statement, tmp_path):
    pack(run, statement, tmp_path / "submissions" / NAME)
    return tmp_path / "submissions" / NAME


def test_the_whole_way_round(packed, tmp_path, browser):
    verdict = verify(packed)
    assert (verdict.problems, verdict.notes, verdict.status) == ([], [], "re-scored")
    submission = read_submission(packed)
    assert all(found.confirmed for found in rerun(submission.card, submission.pools, count=5, seed=3).values())
    build(packed.parent, tmp_path / "site", tmp_path / "none.json")
    browser.open(tmp_path / "site" / "index.html", 1280)
    shown = browser.js("return [...document.querySelector('#board-demo').tBodies[0].rows].map(row => row.textContent)")
    ranked = [row for row in shown if NAME in row or "ambi-tiny" in row]
    assert len(ranked) == 3  # the other rows are references
    for pipeline, claims in [*submission.claims["ambi_demo_sc"].items(), *submission.claims["ambi_demo_exact"].items()]:
        assert any(pipeline in row and f"{claims['jsd_bits']:.3f}" in row for row in shown)


def test_a_run_gives_the_same_bytes_each_time(run, packed, statement, tmp_path):
    pack(run, statement, tmp_path / "again" / NAME)
    for path in packed.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / NAME / path.relative_to(packed)).read_bytes()


def test_what_the_run_was_is_said(packed):
    card = yaml.safe_load((packed / "submission.yaml").read_text())
    assert card["model"]["id"] == "ambi-tiny"
    assert card["backend"] | {"versions": None} == {
        "name": "hf-audio",
        "arguments": {"pretrained": "ambi-tiny"},
        "dtype": "float32",
        "device": "cpu",
        "versions": None,
        "sampling": "honoured",
    }
    assert {"lm_eval", "ambi-eval", "torch", "transformers"} <= card["backend"]["versions"].keys()
    sc, exact = card["tasks"]["ambi_demo_sc"], card["tasks"]["ambi_demo_exact"]
    assert (sc["strategy"], sc["n"], sc["generation"]["temperature"]) == ("sc", 20, 1.0)
    assert (exact["strategy"], exact["n"], exact["generation"]) == ("exact", 4, None)
    assert card["tokens"] > 72 * 20
    assert card["wall_seconds"] > 0
    assert card["hardware"].startswith("CPU")


def test_what_the_run_warned_of_comes_with_each_task(run, statement, tmp_path):
    copied = shutil.copytree(run, tmp_path / "run")
    (file,) = copied.rglob("results_*.json")
    results = json.loads(file.read_text())
    results["config"]["ambi"] |= {"truncated_audio": 3, "set_ups": ["cpu" * 60, "cuda" * 60]}
    results["configs"]["ambi_demo_sc"]["warnings"] = ["all answers are\x1b the same one"]
    file.write_text(json.dumps(results))
    packed = tmp_path / "submissions" / NAME
    pack(copied, statement, packed)
    card = yaml.safe_load((packed / "submission.yaml").read_text())
    cut = "ambi-tiny heard only the beginning of 3 audios: its window is shorter."
    mixed = f"ambi-tiny: the answers come from 2 set-ups: {'cpu' * 60}, {'cuda' * 60}"[:299] + "…"
    same = "ambi-tiny, ambi_demo_sc: all answers are\N{REPLACEMENT CHARACTER} the same one"
    assert card["tasks"]["ambi_demo_sc"]["notices"] == [cut, same, mixed]
    assert card["tasks"]["ambi_demo_exact"]["notices"] == [cut, mixed]
    assert verify(packed).notes == [cut, mixed, same]


def test_no_audio_no_path_no_prompt_and_no_vote_is_in_it(packed):
    everything = (packed / "submission.yaml").read_text() + (packed / "results.json").read_text()
    for path in (packed / "samples").iterdir():
        with gzip.open(path, "rt") as file:
            lines = [json.loads(line) for line in file]
        assert all(
            line.keys() == {"clip", "sample", "answer", "finish", "tokens", "logprob", "rating"} for line in lines
        )
        everything += "".join(map(json.dumps, lines))
    for forbidden in (".wav", "votes", "<audio>", "store", str(Path.home()), os.environ["AMBI_DATA"], "Listen to"):
        assert forbidden not in everything


@pytest.mark.parametrize(
    ("name", "training_data", "message"),
    [
        ("tiny", {"demo": "no"}, "named <date>_<model>, such as 2026-01-31_qwen2-audio"),
        (NAME, {}, "say whether the model may have seen demo in training: --training-data demo="),
    ],
)
def test_what_only_the_submitter_knows_must_be_said(run, tmp_path, name, training_data, message):
    with pytest.raises(AmbiError, match=message):
        pack(run, Statement("tiny", "Apache-2.0", "me", training_data), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_a_part_of_the_clips_is_not_written(run, statement, tmp_path):
    """As `--limit` leaves it: fewer logged samples, and hashes over these."""
    part = Path(shutil.copytree(run, tmp_path / "part"))
    for path in part.rglob("samples_*.jsonl"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(AmbiError, match=r"is not what .* was computed from"):
        pack(part, statement, tmp_path / NAME)
    assert not (tmp_path / NAME).exists()


def test_several_runs_are_not_one_submission(run, statement, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(run, tmp_path / "runs" / name)
    with pytest.raises(AmbiError, match="holds 2 runs: name the results file of one of them"):
        pack(tmp_path / "runs", statement, tmp_path / NAME)


def test_a_copy_of_what_was_submitted_is_not_written(run, packed, statement):
    again = packed.with_name("2026-02-01_again")
    with pytest.raises(AmbiError, match=f"cannot be submitted, .* is not written: .*100.0% .* {NAME}"):
        pack(run, statement, again)
    assert not again.exists()

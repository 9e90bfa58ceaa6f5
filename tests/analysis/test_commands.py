import json

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, rel_entr, softmax
from typer.testing import CliRunner

from ambi_eval.cli import app
from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.other_votes import target_votes


def run(*arguments, exit_code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


@pytest.fixture
def predictions(own_corpus, tmp_path):
    clips = target_votes(load_corpus(str(own_corpus))).clips
    path = tmp_path / "predictions.jsonl"
    path.write_text("\n".join(json.dumps({"id": clip.id, "distribution": {clip.acted: 1}}) for clip in clips))
    return path


@pytest.mark.slow
def test_baselines_prints_tables_or_json(own_corpus):
    assert "majority_oracle_tie_split" not in run("baselines", own_corpus).stdout
    assert "majority_oracle_tie_split" in run("baselines", own_corpus, "--all").stdout
    content = json.loads(run("baselines", own_corpus, "--json", "--edge", 0.9, "--no-acoustic").stdout)
    assert content["corpus"] == "mine"
    assert content["clips"] == 40
    assert sum(b["clips"] for b in content["bins"]) == 40
    assert content["bins"][0]["high"] <= 0.9 < content["bins"][1]["low"]
    assert not any(note.startswith("acoustic") for note in content["notes"])


def test_score_prints_tables_or_json(own_corpus, predictions):
    text = run("score", predictions, "--corpus", own_corpus, "--smooth", "prior").stdout
    assert text.startswith("predictions.jsonl against mine (voice): 40 clips; 8 clusters")
    assert "THIS SYSTEM" in text
    assert "smoothed: temperature" in text
    content = json.loads(run("score", predictions, "--corpus", own_corpus, "--json", "--against", "acted").stdout)
    assert (content["corpus"], content["against"], content["clips"]) == ("mine", "acted", 40)
    assert content["metrics"]["jsd_bits"]["value"] == 0
    assert set(content["bins"][0]) == {"low", "high", "clips", "metrics", "baselines"}
    assert "prior" in content["baselines"]


@pytest.mark.slow
def test_score_shows_what_a_temperature_fitted_on_other_speakers_recovers(own_corpus, tmp_path):
    """Predictions that know the votes, but are too sure of them."""
    found = target_votes(load_corpus(str(own_corpus)))
    labels, speakers = list(found.clips[0].votes), np.array([clip.speaker for clip in found.clips])
    votes = np.array([[clip.votes[label] for label in labels] for clip in found.clips], dtype=float)
    q = votes / votes.sum(axis=1, keepdims=True)
    p = softmax(4 * np.log(votes + 0.5), axis=1)
    lines = (
        {"id": clip.id, "distribution": dict(zip(labels, row, strict=True))}
        for clip, row in zip(found.clips, p, strict=True)
    )
    path = tmp_path / "sure.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    calibration = json.loads(run("score", path, "--corpus", own_corpus, "--json").stdout)["calibration"]
    prior = np.array([q[speakers != speaker].mean(axis=0) for speaker in speakers])
    raw = float((rel_entr(q, prior) - rel_entr(q, p)).sum(axis=1).mean() / np.log(2))
    assert calibration["raw"]["value"] == pytest.approx(raw, abs=0.005), "but for the speakers of the same fold"
    assert calibration["sharpness"]["value"] > 0.1
    of_all = minimize_scalar(lambda t: -(q * log_softmax(np.log(p) / t, axis=1)).sum(), (0.1, 10)).x
    assert calibration["temperature"] == pytest.approx(of_all, rel=0.1)
    parts = [calibration[part]["value"] for part in ("raw", "sharpness", "offsets")]
    assert sum(parts) == pytest.approx(calibration["information"]["value"])
    line = next(line for line in run("score", path, "--corpus", own_corpus).stdout.splitlines() if "as it is" in line)
    assert f"{calibration['raw']['value']:.3f}".lstrip("0") in line


def test_a_partial_file_is_scored_only_if_that_is_wanted(own_corpus, predictions):
    predictions.write_text("\n".join(predictions.read_text().split("\n")[:30]))
    result = run("score", predictions, "--corpus", own_corpus, exit_code=2)
    assert result.stderr.startswith(f"ambi_eval: {predictions}: 10 of 40 clips are missing")
    content = json.loads(run("score", predictions, "--corpus", own_corpus, "--allow-partial", "--json").stdout)
    assert content["clips"] == 30
    assert content["notes"][0].startswith("PARTIAL: 10 of 40 clips are missing")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["baselines", "crema"], "no corpus 'crema', did you mean 'crema_d'?"),
        (["baselines", "MINE", "--edge", "9"], "no clip has an entropy between 9 and 1.58496 bits: choose other edges"),
        (["score", "none.jsonl", "--corpus", "MINE"], "none.jsonl cannot be read"),
        (["score", "none.jsonl", "--corpus", "MINE", "--against", "face"], "no 'face' votes of mine"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(own_corpus, arguments, message):
    arguments = [str(own_corpus) if argument == "MINE" else argument for argument in arguments]
    result = run(*arguments, exit_code=2)
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_part_of_a_corpus_is_judged_alone(tmp_path):
    clips = [
        {"id": name, "votes": {"calm": 2, "tense": 1}, "speaker": name, "split": split}
        for name, split in (("a", "test1"), ("b", "test1"), ("c", "train"))
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, clips)))
    (tmp_path / "mine.yaml").write_text("manifest: mine.jsonl\nlabels: [calm, tense]\n")
    corpus = tmp_path / "mine.yaml"
    content = json.loads(run("baselines", corpus, "--metadata", "split=test1", "--json", "--no-acoustic").stdout)
    assert (content["corpus"], content["clips"]) == ("mine:split=test1", 2)
    refused = run("baselines", corpus, "--metadata", "splt=test1", exit_code=2)
    assert "--metadata splt=test1 sets nothing, did you mean 'split'?" in refused.stderr

"""The model answers again: honest answers come out, forged ones do not, and no code of the submitter's is run."""

import re

import numpy as np
import pytest
from typer.testing import CliRunner

from ambi_eval.cli import app
from ambi_eval.errors import AmbiError
from ambi_eval.leaderboard.rerun import REFUSED_AT, Rerun, evidence, rerun
from ambi_eval.leaderboard.submission import read_submission
from ambi_eval.leaderboard.verify import verify


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sc", "sc-shares", "exact", "exact-silence", "cheap"])
def test_what_ambi_tiny_answered_comes_out_again(copy, kind):
    submission = read_submission(copy(kind))
    for name, found in rerun(submission.card, submission.pools, count=3, seed=1).items():
        assert (found.compared, found.agreeing, found.required, found.example) == (3, 3, 1.0, None), name
        assert found.confirmed


def listen_to_the_votes(lines):
    """Where the model was unsure, say what makes the score better; every fifth answer is another one now."""
    for line in lines[::5]:
        line["answer"] = "happy" if line["answer"] != "happy" else "neutral"


@pytest.mark.slow
def test_a_consistent_forgery_passes_every_check_but_the_re_run(copy, edit):
    folder = copy("sc")
    edit.answers(folder, listen_to_the_votes)
    edit.forge(folder)
    verdict = verify(folder)
    assert (verdict.problems, verdict.status) == ([], "re-scored")
    result = CliRunner().invoke(app, ["leaderboard", "verify", str(folder), "--rerun", "30", "--seed", "0"])
    assert result.exit_code == 1, result.output
    assert re.search(r"answers came out again \(seed 0, weights \w+.*100% must", result.stdout, re.DOTALL)
    assert "was submitted" in result.stdout


@pytest.mark.slow
def test_flattered_likelihoods_and_costs_do_not_come_out_again(copy, edit):
    for change in (lambda line: line.update(tokens=1), lambda line: line.update(logprob=line["logprob"] + 0.01)):
        folder = copy("sc", f"2026-01-01_{id(change)}")
        edit.answers(folder, lambda lines, change=change: [change(line) for line in lines] and None)
        submission = read_submission(folder)
        found = rerun(submission.card, submission.pools, count=3, seed=1)["ambi_demo_sc"]
        assert (found.agreeing, found.confirmed) == (0, False)


def claims_a_gpu(card):
    card["backend"].update(device="cuda", dtype="bfloat16")


def flatter_a_seventh(lines):
    """Forge fewer answers than rounding on other hardware may change."""
    for line in lines[::7]:
        line["answer"] = "happy" if line["answer"] != "happy" else "neutral"


@pytest.mark.slow
def test_a_few_answers_that_the_model_finds_improbable_are_a_forgery_on_any_hardware(copy, edit):
    folder = copy("sc")
    edit.card(folder, claims_a_gpu)
    found = {}
    for kind in ("honest", "forged"):
        submission = read_submission(folder)
        found[kind] = rerun(submission.card, submission.pools, count=250, seed=1)["ambi_demo_sc"]
        edit.answers(folder, flatter_a_seventh)
    assert found["honest"].agreeing >= 240
    assert found["honest"].evidence < 10
    assert found["honest"].confirmed
    assert found["forged"].agreeing >= 0.8 * 250, "the share alone does not find it"
    assert found["forged"].evidence > REFUSED_AT
    assert not found["forged"].confirmed
    assert "are no samples of this model" in found["forged"].reason


def test_honest_differences_of_likelihoods_are_rarely_evidence():
    """An honest run reaches evidence C with a probability of at most 1 / C, however long it is."""
    rng = np.random.default_rng(0)
    for scale in (0.3, 3.0, 30.0):
        reached = np.array([evidence(rng.standard_t(2, 300) * scale) for _ in range(400)])
        for capital in (4, 20):
            allowed = 1 / capital + 3 * np.sqrt(1 / capital / 400)
            assert (reached >= capital).mean() <= allowed


@pytest.mark.parametrize(
    ("differences", "least", "most"),
    [
        ([], 1, 1),
        ([0.0] * 500, 1, 1),
        ([0.01, -0.01] * 50, 1, 1.1),
        ([3.0] * 25, REFUSED_AT, np.inf),  # improbable answers
        ([-3.0] * 25, REFUSED_AT, np.inf),  # too probable ones: drawn at a lower temperature, say
        ([3.0] * 25 + [-3.0] * 500, REFUSED_AT, np.inf),  # what was reached counts
        ([np.nan_to_num(np.inf)] * 25, REFUSED_AT, np.inf),
    ],
)
def test_evidence_grows_where_differences_have_one_sign(differences, least, most):
    assert least <= evidence(differences) <= most


def test_differences_that_are_no_numbers_confirm_nothing():
    found = Rerun(compared=2, agreeing=2, required=0.8, example=None, evidence=evidence([0.0, float("nan")]))
    assert not found.confirmed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card["backend"].update(name="openai-audio"), "only models of hf-audio can be run again"),
        (
            lambda card: card["backend"]["arguments"].update(trust_remote_code=True),
            "'trust_remote_code' is not allowed",
        ),
        (lambda card: card["backend"]["arguments"].update(store="/tmp/x.sqlite"), "'store' is not allowed"),
        (
            lambda card: card["backend"]["arguments"].update(attn_implementation="somebody/kernel"),
            "'attn_implementation' is not allowed",
        ),
        (lambda card: card["model"].update(digest="0" * 64), "ambi-tiny has other weights than were submitted"),
    ],
)
def test_a_model_that_is_another_or_wants_more_than_to_answer_is_refused(copy, edit, change, message):
    folder = copy("sc")
    edit.card(folder, change)
    submission = read_submission(folder)
    with pytest.raises(AmbiError, match=message):
        rerun(submission.card, submission.pools, count=1, seed=1)

"""The model answers again: honest answers come out, forged ones do not, and no code of the submitter's is run."""

import re

import pytest
from typer.testing import CliRunner

from ambi_eval.cli import app
from ambi_eval.errors import AmbiError
from ambi_eval.leaderboard.rerun import rerun
from ambi_eval.leaderboard.submission import read_submission
from ambi_eval.leaderboard.verify import verify

pytestmark = pytest.mark.slow


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


def test_flattered_likelihoods_and_costs_do_not_come_out_again(copy, edit):
    for change in (lambda line: line.update(tokens=1), lambda line: line.update(logprob=line["logprob"] + 0.01)):
        folder = copy("sc", f"2026-01-01_{id(change)}")
        edit.answers(folder, lambda lines, change=change: [change(line) for line in lines] and None)
        submission = read_submission(folder)
        found = rerun(submission.card, submission.pools, count=3, seed=1)["ambi_demo_sc"]
        assert (found.agreeing, found.confirmed) == (0, False)


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

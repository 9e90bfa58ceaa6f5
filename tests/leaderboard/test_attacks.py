"""Attacks on the leaderboard: each submission stands for itself, and what cannot be is refused or shown apart."""

import json
import math
import os
import shutil

import pytest

from ambi_eval.errors import AmbiError
from ambi_eval.leaderboard import verify as verifying
from ambi_eval.leaderboard.rescore import scoring_task
from ambi_eval.leaderboard.site import build
from ambi_eval.leaderboard.untrusted import printable
from ambi_eval.leaderboard.verify import verify, verify_all


@pytest.mark.parametrize(
    "attack",
    [
        lambda folder: (folder / "2026-01-01_link").symlink_to(folder),
        lambda folder: os.mkfifo(folder / "2026-01-01_fifo"),
        lambda folder: (folder / "2026-01-01_empty").mkdir(),
        lambda folder: (folder / os.fsdecode(b"2026-01-01_\xff\x1b[2J")).mkdir(),
    ],
    ids=["a link", "a fifo", "an empty folder", "a name that is no text"],
)
def test_one_bad_submission_does_not_stop_the_others(copy, tmp_path, attack):
    good = copy("sc")
    attack(good.parent)
    refused, accepted = [], []
    for verdict in verify_all(good.parent):
        (refused if verdict.problems else accepted).append(verdict)
    assert [verdict.name for verdict in accepted] == [good.name]
    assert len(refused) == 1
    assert refused[0].name.isprintable()
    assert all(problem.isprintable() for problem in refused[0].problems)
    site = build(good.parent, tmp_path / "site", tmp_path / "none.json")
    assert (len(site.shown), len(site.refused)) == (1, 1)


def test_whatever_is_raised_while_one_is_examined_is_its_problem_alone(copy, monkeypatch):
    good, bad = copy("sc"), copy("exact")
    plain = verifying.read_submission

    def read(folder):
        if folder.name == bad.name:
            raise ZeroDivisionError("\x1b[2J surprise")
        return plain(folder)

    monkeypatch.setattr(verifying, "read_submission", read)
    by_name = {verdict.name: verdict.problems for verdict in verify_all(good.parent)}
    assert by_name[good.name] == []
    (problem,) = by_name[bad.name]
    assert "cannot be examined (ZeroDivisionError" in problem
    assert problem.isprintable()


def test_more_than_a_thousand_entries_are_no_reason_to_stop(copy):
    good = copy("sc")
    for number in range(1001):
        (good.parent / f"notes-{number}.txt").touch()
    assert [verdict.name for verdict in verify_all(good.parent)] == [good.name]


def one_logprob_less(lines):
    lines[3]["logprob"] = None


def free(lines):
    lines[0]["tokens"] = 0


def too_much_mass(lines):
    for line in lines[:4]:
        line["logprob"] = math.log(0.3)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("sc", one_logprob_less, "1 of 1440 answers lack a log-likelihood: all must have one, or none"),
        ("sc", free, "has a text but 0 tokens"),
        ("exact", too_much_mass, r"the likelihoods of the labels of the clip .* sum to 1\.200, above 1"),
    ],
)
def test_numbers_that_cannot_be_are_refused(copy, edit, kind, change, message):
    folder = copy(kind)
    edit.answers(folder, change)
    with pytest.raises(AssertionError, match=message):
        assert verify(folder).problems == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card["seeds"].update(sampling=-1), "seeds.sampling"),
        (lambda card: card["seeds"].update(torch=10**4000), "Exceeds the limit|seeds.torch|not valid"),
        (lambda card: card["tasks"]["ambi_demo_sc"]["overrides"].update(repeats=10**7), "overrides.repeats"),
        (lambda card: card["backend"]["arguments"].update(seed=float("inf")), "arguments.seed"),
    ],
)
def test_numbers_of_the_card_have_ranges(copy, edit, change, message):
    folder = copy("sc")
    edit.card(folder, change)
    (problem,) = verify(folder).problems
    assert any(part in problem for part in message.split("|")), problem


def test_claims_about_pipelines_or_metrics_that_nobody_knows_are_refused(copy, edit, tmp_path, monkeypatch):
    monkeypatch.setenv("AMBI_DATA", str(tmp_path / "data"))
    folder, task = copy("sc"), "ambi_msp_podcast_sc"
    shutil.move(folder / "samples" / "ambi_demo_sc.jsonl.gz", folder / "samples" / f"{task}.jsonl.gz")
    edit.card(folder, lambda card: card["tasks"].update({task: card["tasks"].pop("ambi_demo_sc")}))
    edit.card(folder, lambda card: card.update(training_data={"msp_podcast": "unknown"}))
    edit.claims(folder, lambda claims: claims.update({task: claims.pop("ambi_demo_sc")}))
    assert verify(folder).problems == [], "its votes are not here, so all of it is claimed"
    edit.claims(folder, lambda claims: claims[task].update(magic={"jsd_bits": 0.0}))
    assert "must be about the pipelines dist, vote, not magic" in verify(folder).problems[0]
    edit.claims(folder, lambda claims: (claims[task].pop("magic"), claims[task]["dist"].update(greatness=1.0)))
    assert "the claims invent a metric: greatness" in verify(folder).problems[0]


def shuffled(lines):
    """The same answers, in another order within each clip, with blanks, case and letters that nobody sees."""
    by_clip = {}
    for line in lines:
        by_clip.setdefault(line["clip"], []).append(line)
    changed = []
    for pool in by_clip.values():
        for number, line in enumerate(reversed(pool)):
            answer = f"{line['answer'].upper()}\u200b "
            changed.append({**line, "sample": number, "answer": answer})
    return changed


def test_a_copy_is_found_whatever_its_order_case_and_blanks(copy, edit):
    original, forged = copy("sc-shares"), copy("sc-shares", "2026-11-23_mine")
    edit.answers(forged, shuffled)
    edit.forge(forged)
    problems = verify(forged).problems
    assert any(f"of its answers are those of {original.name}" in problem for problem in problems), problems


def test_votes_as_answers_are_shown_apart_without_a_rank(copy, edit, tmp_path):
    folder = copy("sc")
    task = scoring_task("ambi_demo_sc")
    labels = task.settings.labels
    rows = {clip.id: votes for clip, votes in zip(task.selection.clips, task.selection.votes, strict=True)}

    def votes_as_answers(lines):
        for line in lines:
            shares = rows[line["clip"]] / rows[line["clip"]].sum()
            place = (line["sample"] + 0.5) / 20
            line["answer"] = labels[int((shares.cumsum() < place).sum())]

    edit.answers(folder, votes_as_answers)
    edit.forge(folder)
    (board,) = build(folder.parent, tmp_path / "site", tmp_path / "none.json").boards
    assert [row.method for row in board.implausible] == ["sc dist"]
    assert board.implausible[0].rank is None
    assert "sc dist" not in [row.method for row in board.systems]
    assert "made from the votes" in (tmp_path / "site" / "index.html").read_text()


def test_a_record_with_an_unknown_status_is_named(copy, tmp_path):
    record = tmp_path / "verified.json"
    record.write_text(json.dumps({copy("sc").name: {"digest": "x", "tasks": {"ambi_demo_sc": "perfect"}}}))
    with pytest.raises(AmbiError, match="holds no record of verified submissions"):
        build(copy("exact").parent, tmp_path / "site", record)


def test_what_would_command_a_terminal_is_replaced():
    assert printable("a\x1b[2J\udcff\u202eb") == "a\N{REPLACEMENT CHARACTER}[2J" + "\N{REPLACEMENT CHARACTER}" * 2 + "b"


@pytest.mark.slow
def test_a_page_stays_small_whatever_the_text(copy, edit, tmp_path):
    folder = copy("sc")

    def long(lines):
        for line in lines:
            line["answer"] += " " + "word " * 3000

    edit.answers(folder, long)
    edit.forge(folder)
    build(folder.parent, tmp_path / "site", tmp_path / "none.json")
    assert max(path.stat().st_size for path in (tmp_path / "site").rglob("*.html")) < 2_000_000

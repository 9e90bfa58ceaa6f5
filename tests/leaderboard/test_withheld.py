"""A corpus whose votes are half withheld: what is published tells none of them, and only who has them scores them."""

import json
import re

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from typer.testing import CliRunner

from ambi_eval.cli import app
from ambi_eval.corpora.manifest import Clip, Rating, read_manifest, write_manifest
from ambi_eval.corpora.registry import ensure_manifest
from ambi_eval.errors import AmbiError
from ambi_eval.leaderboard.rescore import scoring_task
from ambi_eval.leaderboard.submission import read_submission
from ambi_eval.leaderboard.withheld import read_withheld, score_withheld, withhold

LABELS = ["angry", "happy", "neutral", "sad"]


@pytest.fixture
def split(tmp_path, monkeypatch):
    """The demo corpus as its maintainers would publish it: the folder of both files, and the whole manifest's clips."""
    whole = ensure_manifest("demo")
    clips = read_manifest(whole)
    monkeypatch.setenv("AMBI_DATA", str(tmp_path / "data"))
    withhold(whole, tmp_path / "data" / "demo", seed=3)
    scoring_task.cache_clear()
    return tmp_path / "data" / "demo", clips


def test_half_of_the_speakers_are_published_without_anything_that_tells_their_votes(split):
    folder, whole = split
    public, private = read_manifest(folder / "manifest.parquet"), read_withheld(folder / "private.jsonl")
    hidden = [clip for clip in public if clip.votes_hash]
    assert [clip.id for clip in public] == [clip.id for clip in whole]
    assert {clip.id for clip in hidden} == private.keys()
    speakers = {clip.speaker for clip in hidden}
    assert len(speakers) == len({clip.speaker for clip in whole}) // 2
    assert not speakers & {clip.speaker for clip in public if not clip.votes_hash}
    for before, clip in zip(whole, public, strict=True):
        if clip.votes_hash:
            assert (clip.votes, clip.ratings, clip.consensus, clip.valence) == ({}, (), None, None)
            assert private[clip.id].votes == before.votes
        else:
            assert (clip.votes, clip.ratings) == (before.votes, before.ratings)
    assert len({each.salt for each in private.values()}) == len(private)
    assert (folder / "private.jsonl").stat().st_mode & 0o077 == 0


def test_neither_the_whole_manifest_nor_earlier_votes_are_written_over(split):
    folder, _ = split
    before = {path: path.read_bytes() for path in folder.iterdir()}
    whole = ensure_manifest("demo")
    for file in ("manifest.parquet", "private.jsonl"):
        with pytest.raises(AmbiError, match=rf"{file} is there already: name another folder, or delete it first"):
            withhold(whole, folder, seed=4)
        (folder / file).unlink()
        before.pop(folder / file)
        assert {path: path.read_bytes() for path in folder.iterdir()} == before


def only_labels(lines):
    for line in lines:
        if line["answer"] not in LABELS:
            line["answer"] = "neutral"


def test_the_rules_hold_for_the_public_half_and_the_private_file_scores_the_other(split, copy, edit):
    folder, whole = split
    submission = copy("sc")
    runner = CliRunner()
    told = runner.invoke(app, ["leaderboard", "verify", str(submission)])
    assert told.exit_code == 1, "its claims are about all clips"
    edit.answers(submission, only_labels)
    edit.forge(submission)  # as a run on the public manifest claims
    found = runner.invoke(app, ["leaderboard", "verify", str(submission), "--private", str(folder / "private.jsonl")])
    assert found.exit_code == 0, found.output
    halves = re.search(r"dist: jsd_bits (\.?[\d.]+) on 36 clips with withheld votes, ([\d.]+) on", found.stdout)
    # An independent computation of both numbers, from the answers and the whole manifest.
    pools = read_submission(submission).pools["ambi_demo_sc"]
    hidden = read_withheld(folder / "private.jsonl").keys()
    expected = {True: [], False: []}
    for clip in whole:
        p = np.array([sum(str(answer) == label for answer in pools[clip.id]) for label in LABELS]) / 20
        q = np.array([clip.votes.get(label, 0.0) for label in LABELS])
        expected[clip.id in hidden].append(jensenshannon(p, q, base=2) ** 2)
    assert [float(each) for each in halves.groups()] == pytest.approx(
        [np.mean(expected[True]), np.mean(expected[False])], abs=5e-5
    )


def test_answers_that_repeat_the_public_votes_are_noticed(split, copy, edit):
    folder, _ = split
    votes = {clip.id: clip.votes for clip in read_manifest(folder / "manifest.parquet")}

    def memorize(lines):
        for line in lines:
            if known := votes[line["clip"]]:
                labels = np.repeat(
                    list(known), np.round(20 * np.array(list(known.values())) / sum(known.values())).astype(int)
                )
                line["answer"] = str(labels[line["sample"] % len(labels)])

    submission = copy("sc")
    edit.answers(submission, memorize)
    edit.forge(submission)
    pools = read_submission(submission).pools["ambi_demo_sc"]
    private = read_withheld(folder / "private.jsonl")
    (dist, *_) = score_withheld("ambi_demo_sc", (), pools, private, folder)
    assert "standard errors where the votes are public" in str(dist)


def other_votes(row):
    row["votes"] = {label: count + 1 for label, count in row["votes"].items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.pop(0), r"private\.jsonl lacks the votes of the clip 'test_\d+_\d+' of ambi_demo_sc"),
        (lambda rows: other_votes(rows[0]), r"are not those that its votes_hash stands for"),
        (lambda rows: rows[0].update(salt="0" * 64), r"are not those that its votes_hash stands for"),
        (lambda rows: rows[0].update(salt="0"), r"line 1: String should have at least 32 characters"),
        (lambda rows: rows[0].update(votes={}), r"line 1: Dictionary should have at least 1 item"),
        (lambda rows: rows.clear(), r"private\.jsonl is empty: give the private\.jsonl that `withhold` wrote"),
    ],
)
def test_votes_that_are_not_the_withheld_ones_are_refused(split, copy, edit, change, message):
    folder, _ = split
    submission, private = copy("sc"), folder / "private.jsonl"
    edit.forge(submission)
    rows = [json.loads(line) for line in private.read_text().splitlines()]
    change(rows)
    private.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = CliRunner().invoke(app, ["leaderboard", "verify", str(submission), "--private", str(private)])
    assert found.exit_code == 2 or isinstance(found.exception, AmbiError), found.output
    assert re.search(message, str(found.exception) + found.output)


def test_a_split_of_a_split_and_of_one_speaker_is_refused(split, tmp_path):
    folder, _ = split
    with pytest.raises(AmbiError, match="withholds votes already: give the whole manifest"):
        withhold(folder / "manifest.parquet", tmp_path, seed=0)
    write_manifest(tmp_path / "one.parquet", [Clip(id=each, votes={"sad": 1.0}, speaker="anna") for each in "ab"])
    with pytest.raises(AmbiError, match="has one speaker"):
        withhold(tmp_path / "one.parquet", tmp_path, seed=0)


def test_a_manifest_says_either_the_votes_or_their_hash(tmp_path):
    clip = Clip(id="a", votes={"sad": 1.0}, ratings=(Rating("r", ("sad",)),), votes_hash="0" * 64)
    with pytest.raises(AmbiError, match="clip 'a' has both votes and the votes_hash of withheld ones"):
        write_manifest(tmp_path / "m.parquet", [clip])

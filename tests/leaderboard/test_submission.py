"""A submission on disk: read as it was written, byte for byte the same again, and nothing beside its files."""

import hashlib
import shutil

import pytest
from support.files import no_file_larger_than

from ambi_eval.errors import AmbiError
from ambi_eval.leaderboard.submission import read_submission, write_submission


def digests(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("kind", ["sc", "sc-shares", "exact", "cheap", "exact-silence"])
def test_what_was_read_is_written_with_the_same_bytes(copy, tmp_path, kind):
    folder = copy(kind)
    submission = read_submission(folder)
    write_submission(tmp_path / "again" / folder.name, submission.card, submission.claims, submission.pools)
    assert digests(tmp_path / "again" / folder.name) == digests(folder)


def test_attributes_of_answers_come_back(copy):
    pools = read_submission(copy("sc")).pools["ambi_demo_sc"]
    assert len(pools) == 72
    first = pools["test_01_001"]
    assert [answer.number for answer in first] == list(range(20))
    assert {type(answer.logprob) for answer in first} == {float}
    assert {(answer.n_tokens, answer.finish) for answer in first} == {(2, "stop")}


def test_thinking_comes_back_and_is_left_out_where_there_is_none(copy, edit, tmp_path):
    folder = copy("sc")
    assert {answer.thinking_tokens for answer in read_submission(folder).pools["ambi_demo_sc"]["test_01_001"]} == {0}
    edit.answers(folder, lambda lines: [{**line, "thinking_tokens": n or None} for n, line in enumerate(lines)])
    submission = read_submission(folder)
    thought = [answer.thinking_tokens for answer in submission.pools["ambi_demo_sc"]["test_01_001"]]
    assert thought == [None, *range(1, 20)]
    again = tmp_path / "again" / folder.name
    write_submission(again, submission.card, submission.claims, submission.pools)
    assert read_submission(again).pools == submission.pools
    assert [each.thinking_tokens for each in read_submission(again).pools["ambi_demo_sc"]["test_01_001"]] == thought


def test_the_digest_is_that_of_all_files(copy, edit):
    folder = copy("sc")
    before = read_submission(folder).digest
    assert read_submission(folder).digest == before
    edit.card(folder, lambda card: card.update(contact="somebody else"))
    assert read_submission(folder).digest != before


def drop(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: drop(folder / "submission.yaml"), "lacks submission.yaml"),
        (lambda folder: drop(folder / "results.json"), r"lacks results\.json"),
        (lambda folder: drop(folder / "samples"), "lacks samples"),
        (lambda folder: (folder / "run.py").write_text("print(1)"), r"does not belong into a submission: run\.py"),
        (lambda folder: (folder / "audio").mkdir(), "does not belong into a submission: audio"),
        (lambda folder: (folder / "samples" / "clip.wav").write_bytes(b"RIFF"), r"holds what is no \*\.jsonl\.gz"),
        (lambda folder: (folder / "samples" / "x.jsonl.gz").mkdir(), "is no plain file"),
        (lambda folder: (folder / "samples" / "..jsonl.gz").write_bytes(b""), "do not name the same tasks"),
        (
            lambda folder: (folder / "samples" / "ambi_demo_cot.jsonl.gz").write_bytes(b""),
            "the same tasks: ambi_demo_cot",
        ),
        (lambda folder: drop(folder / "samples" / "ambi_demo_sc.jsonl.gz"), "the same tasks: ambi_demo_sc"),
    ],
)
def test_missing_and_further_files_are_refused(copy, harm, message):
    folder = copy("sc")
    harm(folder)
    with pytest.raises(AmbiError, match=message):
        read_submission(folder)


@pytest.mark.parametrize("target", ["submission.yaml", "results.json", "samples", "samples/ambi_demo_sc.jsonl.gz"])
def test_links_are_refused_wherever_they_stand(copy, tmp_path, target):
    folder = copy("sc")
    outside = tmp_path / "outside"
    shutil.move(folder / target, outside)
    (folder / target).symlink_to(outside)
    with pytest.raises(AmbiError, match="link"):
        read_submission(folder)


def test_a_folder_that_is_a_link_is_refused(copy):
    folder = copy("sc")
    link = folder.with_name("2026-01-01_link")
    link.symlink_to(folder)
    with pytest.raises(AmbiError, match="is no folder"):
        read_submission(link)


@pytest.mark.parametrize(
    "name", ["sc", "2026-11-22_", "2026-11-22_<script>", "2026-11-22_a b", "2026-11-22_..%2f", "x" * 200]
)
def test_the_folder_is_named_date_and_model(copy, name):
    with pytest.raises(AmbiError, match="must be named <date>_<model>"):
        read_submission(copy("sc", name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1: sample 1 .* stands where 0 must"),
        (lambda lines: lines + lines[:20], "line 1441: sample 0 .* stands where 20 must"),
        (lambda lines: lines[:5] + lines[6:], "line 6: sample 6 .* stands where 5 must"),
    ],
)
def test_samples_are_numbered_in_order(copy, edit, change, message):
    folder = copy("sc")
    edit.answers(folder, change)
    with pytest.raises(AmbiError, match=message):
        read_submission(folder)


def test_nothing_is_written_over_and_no_folder_where_none_can_be(copy, tmp_path):
    folder = copy("sc")
    submission = read_submission(folder)
    content = submission.card, submission.claims, submission.pools
    with pytest.raises(AmbiError, match="is there already: name another folder"):
        write_submission(folder, *content)
    (tmp_path / "2026-01-01_notes").mkdir()
    (tmp_path / "2026-01-01_notes" / "submission.yaml").write_text("my notes")
    with pytest.raises(AmbiError, match="is there already: name another folder"):
        write_submission(tmp_path / "2026-01-01_notes", *content)
    assert (tmp_path / "2026-01-01_notes" / "submission.yaml").read_text() == "my notes"
    (tmp_path / "file").touch()
    with pytest.raises(AmbiError, match="cannot write"):
        write_submission(tmp_path / "file" / "2026-01-01_x", *content)
    assert list((tmp_path / "submissions").iterdir()) == [folder]


def test_a_full_disk_is_told_and_leaves_no_part_of_a_submission(copy, tmp_path):
    submission = read_submission(copy("sc"))
    folder = tmp_path / "2026-01-01_x"
    with no_file_larger_than(1000), pytest.raises(AmbiError, match=r"cannot write .*2026-01-01_x \(File too large\)"):
        write_submission(folder, submission.card, submission.claims, submission.pools)
    assert not folder.exists()

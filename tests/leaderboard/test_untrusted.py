"""Every file that could do harm ends in one sentence, early, and without being believed."""

import gzip
import os
import tracemalloc

import pytest

from ambi_eval.errors import AmbiError
from ambi_eval.leaderboard import untrusted
from ambi_eval.leaderboard.untrusted import (
    UnpackLimit,
    folder_entries,
    gzip_lines,
    parse_json,
    plain_file,
    read_json,
    read_yaml,
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!python/object/apply:os.system ['touch HACKED']", "uses the tag"),
        ("a: !!python/name:os.system x", "uses the tag"),
        ("a: !local x", "uses the tag '!local'"),
        ("a: !!str 1", "uses the tag"),
        ("a: &x [1]\nb: *x", "uses an anchor or alias"),
        ("a: 1\na: 2", "the key 'a' stands there twice"),
        ("a: {b: 1, b: 2}", "the key 'b' stands there twice"),
        ("a: " + "[" * 30 + "]" * 30, "nested deeper than 20 levels"),
        ("a: " + "[" * 20_000, "nested deeper than 20 levels"),
        ("a: " + "9" * 5000, "is not valid"),
        ("a: [1", "is not valid"),
        ("a: \x00", "is not valid"),
        ("a: 1\n---\nb: 2", "is not valid"),
        ("a: " + "x" * 70_000, "at most 64,000 are allowed"),
    ],
)
def test_yaml_that_is_more_than_plain_content_is_refused(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "submission.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(AmbiError, match=message):
        read_yaml(tmp_path / "submission.yaml")
    assert not (tmp_path / "HACKED").exists()


def test_plain_yaml_and_json_are_read(tmp_path):
    (tmp_path / "a.yaml").write_text("a: [1, {b: 'ü'}]\nc: null\n", encoding="utf-8")
    (tmp_path / "a.json").write_text('{"a": [1, {"b": "ü"}], "c": null}', encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == read_json(tmp_path / "a.json") == {"a": [1, {"b": "ü"}], "c": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ('{"a": 1e999}', "1e999 is too large"),
        ('{"a": ' + "9" * 5000 + "}", "no strict JSON"),
        ('{"a": 1, "a": 2}', "a key stands there twice"),
        ('[{"b": {"a": 1, "a": 1}}]', "a key stands there twice"),
        ("[" * 200_000, "no strict JSON"),
        ('{"a":' * 200_000, "no strict JSON"),
        ("{'a': 1}", "no strict JSON"),
        ("", "no strict JSON"),
    ],
)
def test_json_that_is_not_strict_is_refused(text, message):
    with pytest.raises(AmbiError, match=f"^here is .*{message}|{message}"):
        parse_json(text, "here")


def test_text_that_is_no_utf_8_is_refused(tmp_path):
    (tmp_path / "a.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(AmbiError, match=r"a\.json is no UTF-8 text"):
        read_json(tmp_path / "a.json")


def test_a_bomb_of_one_line_is_refused_before_it_takes_memory(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        for _ in range(200):
            file.write(b"0" * 1_000_000)
    assert path.stat().st_size < 300_000
    tracemalloc.start()
    with pytest.raises(AmbiError, match="has a line of more than 256,000 bytes"):
        list(gzip_lines(path, UnpackLimit()))
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_a_bomb_of_many_lines_or_of_many_files_is_refused(tmp_path):
    path, budget = tmp_path / "bomb.jsonl.gz", UnpackLimit(1_000_000)
    path.write_bytes(gzip.compress(b"{}\n" * 200_000, mtime=0))
    assert sum(1 for _ in gzip_lines(path, budget)) == 200_000
    with pytest.raises(AmbiError, match="unpacks to more than 1,000,000 bytes"):
        for _ in gzip_lines(path, budget):
            pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", "no whole gzip file"),
        (gzip.compress(b"{}\n" * 1000, mtime=0)[:-20], "no whole gzip file"),
        (gzip.compress(b"{}\n", mtime=0)[:-8] + b"\0" * 8, "no whole gzip file"),
        (gzip.compress(b"\xff\xfe\n", mtime=0), "is no UTF-8 text"),
    ],
)
def test_broken_gzip_is_refused(tmp_path, content, message):
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    with pytest.raises(AmbiError, match=message):
        list(gzip_lines(tmp_path / "a.jsonl.gz", UnpackLimit()))


def test_a_file_that_is_too_large_is_not_opened(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    with path.open("wb") as file:
        file.truncate(30_000_000)
    with pytest.raises(AmbiError, match="has 30,000,000 bytes; at most 20,000,000 are allowed"):
        list(gzip_lines(path, UnpackLimit()))


def test_links_pipes_and_missing_files_are_refused(tmp_path):
    (tmp_path / "secret").write_text("a: 1")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe.yaml")
    for name, message in (("link.yaml", "is no plain file"), ("pipe.yaml", "no plain file"), ("x", "cannot be read")):
        with pytest.raises(AmbiError, match=message):
            plain_file(tmp_path / name, 1000)
    with pytest.raises(AmbiError, match=r"link\.yaml is a link or a special file"):
        folder_entries(tmp_path)


def test_a_folder_with_too_many_entries_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(untrusted, "ENTRIES", 3)
    for number in range(4):
        (tmp_path / str(number)).touch()
    with pytest.raises(AmbiError, match="has 4 entries; at most 3"):
        folder_entries(tmp_path)

import sys
from io import BytesIO, TextIOWrapper

import pytest
from typer.testing import CliRunner

from ambi_eval.cli import app
from ambi_eval.errors import counted, did_you_mean, print_in_any_encoding


@pytest.mark.parametrize(
    ("name", "hint"),
    [("stragety", ", did you mean 'strategy'?"), ("zzz", ""), ("lab", ", did you mean 'labels'?"), ("", "")],
)
def test_a_near_name_is_suggested(name, hint):
    assert did_you_mean(name, ["strategy", "labels"]) == hint


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (0, ["clip"], "0 clips"),
        (1, ["clip"], "1 clip"),
        (1, ["reply", "replies"], "1 reply"),
        (7442, ["reply", "replies"], "7,442 replies"),
    ],
)
def test_one_thing_is_no_plural(number, words, said):
    assert counted(number, *words) == said


def test_what_a_terminal_cannot_show_ends_no_command(monkeypatch):
    written = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(written, encoding="ascii"))
    print_in_any_encoding()
    sys.stdout.write("≥ .5")
    sys.stdout.flush()
    assert written.getvalue() == b"? .5"
    monkeypatch.undo()
    done = CliRunner(charset="ascii").invoke(app, ["corpora", "--help"])
    assert done.exit_code == 0

import pytest

from ambi_eval.errors import counted, did_you_mean


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

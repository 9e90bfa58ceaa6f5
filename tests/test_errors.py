import pytest

from ambi_eval.errors import did_you_mean


@pytest.mark.parametrize(
    ("name", "hint"),
    [("stragety", ", did you mean 'strategy'?"), ("zzz", ""), ("lab", ", did you mean 'labels'?"), ("", "")],
)
def test_a_near_name_is_suggested(name, hint):
    assert did_you_mean(name, ["strategy", "labels"]) == hint

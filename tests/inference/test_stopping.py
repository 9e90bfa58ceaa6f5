import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from ambi_eval.answers.pool import Reader
from ambi_eval.inference.stopping import StopRule, majority_confidence

RULE = StopRule(Reader(("angry", "happy", "sad"), "label"), 0.95, 4)


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_confidence_is_the_posterior_mass_over_a_half(first, second):
    mass, _ = quad(beta(first + 1, second + 1).pdf, 0.5, 1)
    assert majority_confidence(first, second) == pytest.approx(mass, abs=1e-6)


@pytest.mark.parametrize(
    ("answers", "settled"),
    [
        ([], False),
        (["happy"] * 3, False),
        (["happy"] * 4, True),
        (["happy"] * 4 + ["sad"], False),
        (["happy"] * 6 + ["sad"], True),
        (["happy"] * 4 + ["I do not know"] * 9, True),
        (["no idea"] * 20, False),
        (["happy", "sad"] * 10, False),
        (["Happy.", "happy", "**happy**", "the emotion is happy"], True),
    ],
)
def test_drawing_stops_when_the_majority_is_settled(answers, settled):
    assert RULE.settled(answers) is settled

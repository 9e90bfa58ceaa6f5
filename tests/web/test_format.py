"""Numbers as pages and JSON show them."""

import math

import pytest

from ambi_eval.analysis.estimate import UNDEFINED, Estimate
from ambi_eval.web.format import DASH, count, short, with_interval


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (1.0, "1.000"),
        (5.678, "5.68"),
        (56.78, "56.8"),
        (1234.5, "1,234"),
        (-0.5, "-0.500"),
        (-0.0001, "0.000"),
        (None, DASH),
        (math.inf, "\N{INFINITY}"),
    ],
)
def test_short_numbers(value, text):
    assert short(value) == text


def test_intervals_in_brackets():
    assert with_interval(Estimate(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"
    assert with_interval(Estimate(0.5, float("nan"), float("nan"))) == "0.500"
    assert (
        with_interval(UNDEFINED) == with_interval(None) == with_interval(Estimate(math.inf, math.nan, math.nan)) == DASH
    )


def test_counts_have_commas():
    assert (count(1234567.4), count(math.nan)) == ("1,234,567", DASH)

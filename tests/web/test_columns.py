"""A cell shows a number with its interval, sorts by the number, and lets no text become HTML."""

import math
from types import SimpleNamespace

import pytest

from ambi_eval.analysis.estimate import UNDEFINED, Estimate
from ambi_eval.web.columns import Column, metric, percent


@pytest.mark.parametrize(
    ("value", "html"),
    [
        (Estimate(0.5, 0.25, 0.75), '<td data-value="0.5">0.500<small>[0.250, 0.750]</small></td>'),
        (Estimate(12.0, 10.7, math.inf), '<td data-value="12.0">at least 10.7</td>'),
        (Estimate(0.5, math.nan, math.nan), '<td data-value="0.5">0.500</td>'),
        (UNDEFINED, '<td data-value="">\N{EN DASH}</td>'),
        (0.25, '<td data-value="0.25">0.250</td>'),
        (None, '<td data-value="">\N{EN DASH}</td>'),
        ("<b>&", '<td class="left">&lt;b&gt;&amp;</td>'),
    ],
)
def test_what_stands_in_a_cell(value, html):
    assert Column("", lambda row: row).cell(value) == html


def test_a_metric_that_a_row_lacks_is_a_dash():
    assert "\N{EN DASH}" in metric("bc", "BC").cell(SimpleNamespace(scores={}))


def test_shares_in_per_cent():
    assert percent(0.1234) == "12.3 %"

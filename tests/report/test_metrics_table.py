"""The documentation of the metrics is that of the code."""

import pytest
from support import ROOT

from ambi_eval.metrics import METRICS
from ambi_eval.report.metrics_table import metrics_table

DOCS = ROOT / "docs" / "metrics.md"


def test_the_documented_table_is_the_one_that_the_code_prints():
    assert metrics_table() in DOCS.read_text(encoding="utf-8"), "put in what ambi_eval.report.metrics_table prints"


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_explained_below_its_line(name):
    _, _, text = DOCS.read_text(encoding="utf-8").partition(metrics_table())
    assert f"`{name}`" in text

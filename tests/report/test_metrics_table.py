"""The documentation of the metrics is that of the code."""

import pytest

from ambi_eval.config.docs import written
from ambi_eval.metrics import METRICS
from ambi_eval.report.metrics_table import PAGE, metrics_table


def test_the_documented_table_is_the_one_of_the_code():
    page = PAGE.read_text(encoding="utf-8")
    assert written(page, {"metrics": metrics_table()}) == page, "run: python -m ambi_eval.report.metrics_table"
    assert written(page.replace("| `bc` |", "| `cb` |"), {"metrics": metrics_table()}) == page


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_explained_below_the_table(name):
    _, _, text = PAGE.read_text(encoding="utf-8").partition("<!-- end -->")
    assert f"`{name}`" in text, f"write the formula, range and source of {name} into {PAGE}"

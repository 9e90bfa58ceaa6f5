"""The harness's table of our tasks: five metrics, a natural order, arrows only where better means something."""

import json

import pytest
from lm_eval.utils import make_table

from ambi_eval.config.task_settings import TaskSettings
from ambi_eval.harness.table import FIVE, readable

DEFAULT = TaskSettings.model_fields["metrics"].default


def results(metrics):
    row = {"alias": "ambi_demo_sc"}
    for name in (*FIVE, "ess", "jsd_bits@10", "jsd_bits@3", "nll_bits"):
        row |= {f"{name},dist": 0.5, f"{name}_stderr,dist": 0.1, f"{name}_stderr_stderr,dist": "N/A"}
    return {
        "results": {"ambi_demo_sc": row, "arc": {"alias": "arc", "acc,none": 0.5, "zeta,none": 1.0}},
        "configs": {"ambi_demo_sc": {"manifest": "demo", "metrics": metrics}, "arc": {}},
        "versions": {"ambi_demo_sc": 1.0, "arc": 1},
        "n-shot": {},
        "higher_is_better": {
            "ambi_demo_sc": {"jsd_bits": False, "jsd_bits@3": False, "bc": True, "ess": True},
            "arc": {"acc": True},
        },
    }


def rows(text):
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    return [(row[4], row[5]) for row in cells]


def test_a_task_shows_five_metrics_and_those_of_others_stay_as_they_are():
    shown = rows(readable(make_table)(results(DEFAULT)))
    assert [name for name, _ in shown] == [*FIVE, "acc", "zeta"]


@pytest.mark.parametrize("metrics", [["all"], ["jsd_bits", "nll_bits"]])
def test_who_asks_for_metrics_sees_everything_in_a_natural_order(metrics):
    shown = rows(readable(make_table)(results(metrics)))
    assert [name for name, _ in shown[:4]] == ["jsd_bits", "jsd_bits@3", "jsd_bits@10", "bc"]
    assert {"ess", "nll_bits"} < {name for name, _ in shown}


@pytest.mark.parametrize(
    ("sampling", "do_sample", "said"),
    [("fixed by the provider", True, True), ("fixed by the provider", False, False), ("honoured", True, False)],
)
def test_a_task_whose_samples_come_of_another_distribution_says_so(sampling, do_sample, said):
    given = results(DEFAULT)
    given["config"] = {"ambi": {"sampling": sampling}}
    given["configs"]["ambi_demo_sc"]["generation_kwargs"] = {"do_sample": do_sample}
    shown = readable(make_table)(given)
    assert ("ambi_demo_sc [sampling fixed by the provider]" in shown) is said


def test_a_diagnostic_has_no_arrow():
    arrows = dict(rows(readable(make_table)(results(["all"]))))
    assert (arrows["jsd_bits"], arrows["jsd_bits@3"], arrows["bc"], arrows["ess"]) == ("↓", "↓", "↑", "")


def test_the_results_themselves_keep_every_number():
    given = results(DEFAULT)
    before = json.dumps(given)
    readable(make_table)(given)
    assert json.dumps(given) == before

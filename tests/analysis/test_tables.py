import io
import json
import math

import pytest
from rich.console import Console

from ambi_eval.analysis.ambiguity import bin_clips
from ambi_eval.analysis.estimate import UNDEFINED, Estimate
from ambi_eval.analysis.evaluate import WORTH
from ambi_eval.analysis.references.baselines import baselines
from ambi_eval.analysis.tables import ALL_COLUMNS, COLUMNS, SHOWN, baselines_json, cell, tables
from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.other_votes import target_votes
from ambi_eval.metrics import METRICS


@pytest.fixture(scope="module")
def own(own_corpus):
    config = load_corpus(str(own_corpus))
    selection = target_votes(config)
    return baselines(selection, config, bin_clips(selection))


def test_json_has_a_value_and_an_interval_for_every_metric_and_null_for_what_is_undefined(own):
    content = json.loads(json.dumps(baselines_json(own), allow_nan=False))
    assert content["clips"] == 40
    assert content["krippendorff_alpha"] == own.krippendorff_alpha
    assert set(content["baselines"]) == set(own.overall)
    for name, scores in content["baselines"].items():
        assert list(scores) == [*METRICS, WORTH]
        for metric, estimate in scores.items():
            value = own.overall[name][metric].value
            assert estimate["value"] == (value if math.isfinite(value) else None)
            assert set(estimate) == {"value", "low", "high"}
    assert content["baselines"]["uniform"]["entropy_rho"] == {"value": None, "low": None, "high": None}
    assert sum(b["clips"] for b in content["bins"]) == 40
    assert set(content["bins"][0]["baselines"]) <= set(own.overall)
    assert {"prior", "half_panel", "one_human", "perfect_model"} <= set(content["bins"][0]["baselines"])


def test_the_tables_show_every_reference_once_and_fit_their_width(own):
    console = Console(width=130, markup=False, highlight=False, file=io.StringIO())
    console.print(tables("mine", own, everything=True))
    lines = console.file.getvalue().splitlines()
    assert lines[0].strip() == "mine"
    for name in own.overall.keys() - {"humans_1"}:
        rows = [line.split() for line in lines if line.split()[:1] == [name]]
        assert len(rows) == 1 + all(name in scores for scores in own.binned), name
    assert lines[1].split() == ["clips", *ALL_COLUMNS]
    uniform = next(line.split() for line in lines if line.strip().startswith("uniform"))
    jsd = own.overall["uniform"]["jsd_bits"]
    assert uniform[1:4] == ["40", f"{jsd.value:.3f}"[1:], "±" + f"{(jsd.high - jsd.low) / 2:.3f}"[1:]]
    assert any(line.startswith("acoustic: 0 of 40 clips") for line in lines)


def test_five_references_fit_eighty_columns_without_a_broken_row(own):
    console = Console(width=80, markup=False, highlight=False, file=io.StringIO())
    console.print(tables("mine", own))
    lines = console.file.getvalue().splitlines()
    assert lines[1].split() == ["clips", *COLUMNS]
    for name in SHOWN:
        assert sum(line.split()[:1] == [name] for line in lines) == 2, name
    assert max(map(len, lines)) <= 80
    assert any("--all" in line for line in lines)


@pytest.mark.parametrize(
    ("estimate", "shown"),
    [
        (Estimate(0.25, 0.2, 0.3), ".250 ±.050"),
        (Estimate(-0.25, math.nan, math.nan), "-.250"),
        (Estimate(2.6, 2.4, 2.8), "2.600 ±.200"),
        (Estimate(10.75, 10.5, 11.0), "10.750 ±.250"),
        (Estimate(40.0, 10.7, math.inf), "≥10.700"),
        (Estimate(8.6, 5.25, 600.0), "≥5.250"),
        (Estimate(math.inf, 20.5, math.inf), "≥20.500"),
        (Estimate(math.inf, math.inf, math.inf), "-"),
        (Estimate(math.inf, math.nan, math.nan), "-"),
        (UNDEFINED, "-"),
    ],
)
def test_a_cell_shows_half_of_the_interval_or_its_low_end_where_it_is_open(estimate, shown):
    assert cell(estimate) == shown

"""The plots: what they show stands in their tables, and a screen reader is told."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from ambi_eval.report import plots
from ambi_eval.web.format import with_interval


def all_plots(section):
    for draw in (plots.number_line, plots.by_size, plots.by_tokens, plots.by_ambiguity, plots.calibration):
        yield draw(section)
    yield plots.subgroups(section)
    yield from (plots.confusion(section, system) for system in section.best)


def test_every_plot_is_valid_has_a_description_and_a_table(content):
    for chart in all_plots(content.sections[0]):
        assert chart.rows
        assert {len(row) for row in chart.rows} == {len(chart.header)}
        assert len(chart.description) > 40
        for drawing in (chart.wide, chart.narrow):
            ElementTree.fromstring(drawing)
            assert "NaN" not in drawing


def test_the_number_line_holds_every_system_and_reference_the_best_first(content):
    section = content.sections[0]
    chart = plots.number_line(section)
    assert {row[0] for row in chart.rows} == {
        *(plots.row_name(section, system) for system in section.systems),
        *plots.REFERENCE_NAMES.values(),
    }
    values = [float(row[1].split()[0]) for row in chart.rows]
    assert values == sorted(values)


def test_a_single_model_is_not_named_in_every_row(content):
    section = content.sections[0]
    alone = replace(section, systems=[s for s in section.systems if s.model == "good/model"])
    assert plots.row_name(alone, alone.systems[0]) == alone.systems[0].name
    assert plots.row_name(section, section.systems[0]) == section.systems[0].full_name


def test_a_long_name_of_a_model_does_not_hide_its_strategies_on_a_phone(content):
    section = content.sections[0]
    named = [replace(s, model=f"Qwen/Qwen2.5-Omni-7B, {s.model}") for s in section.systems]
    texts = ElementTree.fromstring(plots.number_line(replace(section, systems=named)).narrow).itertext()
    assert {system.name for system in named} <= set(texts)


def test_what_predicts_the_same_is_counted_in_the_row(content):
    section = content.sections[0]
    assert plots.row_name(section, replace(section.systems[0], same_as=["a", "b"])).endswith(" (= 2 more)")


def test_curves_hold_every_size_and_what_sampling_gives(content):
    rows = plots.by_size(content.sections[0]).rows
    names = {row[0] for row in rows}
    assert {"good/model: sc dist", "weak<model>: sc vote", "good/model: exact"} < names
    assert {"draws from the raters' shares", "draws from the prior"} < names
    assert [row[1] for row in rows if row[0] == "good/model: sc dist"][:5] == ["1", "3", "5", "10", "20"]


def test_where_the_exact_readout_did_not_run_the_curve_is_extrapolated(content):
    section = content.sections[0]
    alone = replace(section, systems=[replace(system, asymptote=None) for system in section.systems])
    assert not any("extrapolated" in row[1] for row in plots.by_size(section).rows)
    assert any("extrapolated" in row[1] for row in plots.by_size(alone).rows)


def test_tokens_are_those_of_as_many_answers(content):
    section = content.sections[0]
    rows = [row for row in plots.by_tokens(section).rows if row[0] == "good/model: sc dist"]
    whole = next(s for s in section.systems if s.full_name == "good/model: sc dist").tokens.value
    assert [float(row[1]) for row in rows] == pytest.approx([whole * n / 20 for n in (1, 3, 5, 10, 20)], abs=0.06)
    assert "good/model: exact (no tokens)" in plots.by_tokens(section).description


def test_without_samples_or_tokens_there_is_no_curve(content):
    section = content.sections[0]
    exact = replace(section, systems=[s for s in section.systems if s.name == "exact"])
    assert plots.by_size(exact) is None
    assert plots.by_tokens(exact) is None


def test_without_halved_panels_all_votes_judge_and_people_have_no_line(content):
    section = content.sections[0]
    alone = replace(section, systems=[replace(s, held_out=None) for s in section.systems])
    rows = plots.by_ambiguity(alone).rows
    assert plots.REFERENCE_NAMES["half_panel"] not in {row[0] for row in rows}
    first = section.systems[0]
    name = section.bins[0].name.removesuffix(" bits")
    assert [first.full_name, name, with_interval(first.binned[0]["jsd_bits"])] in rows


def test_controls_stand_beside_the_same_strategy_on_the_voice(content):
    section = content.sections[0]
    real = section.systems[0]
    control = replace(real, name=f"{real.name} [silence]", control="silence")
    assert plots.controls(section) is None
    rows = plots.controls(replace(section, controls=[control])).rows
    assert [row[:2] for row in rows] == [[real.full_name, "the voice"], [real.full_name, "silence"]]

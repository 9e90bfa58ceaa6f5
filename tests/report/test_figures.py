"""The plots: what they show stands in their tables, and a screen reader is told."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from ambi_eval.analysis.estimate import UNDEFINED, Estimate
from ambi_eval.report import figures
from ambi_eval.web.format import short, with_interval

DASH = "\N{EN DASH}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (1.0, "1.000"),
        (5.678, "5.68"),
        (56.78, "56.8"),
        (1234.5, "1,234"),
        (-0.5, "-0.500"),
        (None, DASH),
    ],
)
def test_short_numbers(value, text):
    assert short(value) == text


def test_intervals_in_brackets():
    assert with_interval(Estimate(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"
    assert with_interval(Estimate(0.5, float("nan"), float("nan"))) == "0.500"
    assert with_interval(UNDEFINED) == DASH


def test_where_the_exact_readout_did_not_run_the_curve_is_extrapolated(content):
    section = content.sections[0]
    alone = replace(section, systems=[replace(system, asymptote=None) for system in section.systems])
    for shown, end in ((section, "\N{INFINITY}"), (alone, "\N{INFINITY}, extrapolated")):
        places = [row[1] for row in figures.scaling_by_size(shown).rows]
        assert {place for place in places if "\N{INFINITY}" in place} == {end}


def all_figures(section):
    for draw in (
        figures.ranking,
        figures.by_ambiguity,
        figures.multiples,
        figures.scaling_by_size,
        figures.scaling_by_tokens,
    ):
        yield draw(section)
    for system in section.systems:
        yield figures.reliability(system)
        yield figures.entropy_map(system, section.labels)


def test_every_plot_is_valid_has_a_description_and_a_table(content):
    for figure in all_figures(content.sections[0]):
        assert figure.rows
        assert {len(row) for row in figure.rows} == {len(figure.header)}
        for _, drawing in figure.drawings:
            root = ElementTree.fromstring(drawing)
            assert root.get("role") == "img"
            assert len(root.get("aria-label")) > 20
            assert "nan" not in drawing


def test_tables_hold_every_system_and_line_of_their_plot(content):
    section = content.sections[0]
    names = {system.full_name for system in section.systems}
    assert {row[0] for row in figures.ranking(section).rows} == names
    by_ambiguity = figures.by_ambiguity(section)
    groups = len(section.bins) + 1
    assert len(by_ambiguity.rows) == groups * (len(names) + 2)
    assert len(by_ambiguity.drawings) == groups
    by_size = {row[0] for row in figures.scaling_by_size(section).rows}
    assert by_size == {
        "good/model: sc dist",
        "good/model: sc vote",
        "weak<model>: sc dist",
        "weak<model>: sc vote",
        "sampled: people",
        "sampled: prior",
        "good/model: exact likelihood",
        "weak<model>: exact likelihood",
    }


def test_tokens_are_those_of_as_many_answers(content):
    section = content.sections[0]
    rows = [row for row in figures.scaling_by_tokens(section).rows if row[0] == "good/model: sc dist"]
    whole = next(s for s in section.systems if s.full_name == "good/model: sc dist").tokens.value
    assert [float(row[1]) for row in rows] == pytest.approx([whole * n / 20 for n in (1, 3, 5, 10, 20)], rel=1e-3)


def test_without_samples_or_tokens_there_is_no_curve(content):
    section = content.sections[0]
    exact = replace(section, systems=[s for s in section.systems if s.name == "exact likelihood"])
    assert figures.scaling_by_size(exact) is None
    assert figures.scaling_by_tokens(exact) is None


def test_without_halved_panels_all_votes_judge_and_people_have_no_line(content):
    section = content.sections[0]
    alone = replace(section, systems=[replace(s, held_out=None) for s in section.systems])
    figure = figures.by_ambiguity(alone)
    assert "half" not in "".join(row[1] for row in figure.rows)
    first = section.systems[0]
    assert [section.bins[0].name, first.full_name, with_interval(first.binned[0]["jsd_bits"])] in figure.rows


def test_bars_tell_votes_and_prediction_in_words(content):
    section = content.sections[0]
    system = next(s for s in section.systems if s.name == "sc dist")
    described = ElementTree.fromstring(figures.vote_bars(system.worst[0], section.labels)).get("aria-label")
    assert described == "votes tense 0.50, sad 0.50; no valid prediction"

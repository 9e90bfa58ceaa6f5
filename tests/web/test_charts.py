"""A plot is one image with words, in the colors of the page, at two sizes; names in it stay text."""

import re
from xml.etree import ElementTree

import pytest

from ambi_eval.analysis.estimate import UNDEFINED, Estimate
from ambi_eval.errors import AmbiError
from ambi_eval.web.charts import (
    FULL,
    PHONE,
    chart,
    frontier,
    packed_script,
    point,
    script_hash,
    series,
    tokens_axis,
    values_of,
    write_figure,
)

TROUBLE = '</script><img src=x onerror=alert(1)>&"'


def drawn():
    def spec(width):
        return {
            "height": 60,
            "data": {"values": [{"row": TROUBLE, "value": 0.5, "series": "a"}]},
            "layer": [
                {
                    "mark": "point",
                    "encoding": {
                        "y": {"field": "row", "type": "nominal"},
                        "x": {"field": "value", "type": "quantitative"},
                        **series(["a"]),
                    },
                }
            ],
        }

    return chart("title", f"said of {TROUBLE}", ["a"], [["1"]], spec, width=FULL)


@pytest.mark.parametrize(("size", "width"), [("wide", FULL), ("narrow", PHONE)])
def test_it_is_one_image_of_its_width_with_a_description(size, width):
    root = ElementTree.fromstring(getattr(drawn(), size))
    assert (root.get("role"), root.get("aria-label")) == ("img", f"said of {TROUBLE}")
    assert float(root.get("width")) == pytest.approx(width, abs=1)
    assert not any("role" in element.attrib for element in root.iter() if element is not root)
    assert TROUBLE in [element.text for element in root.iter()]


def test_colors_are_those_of_the_page():
    svg = drawn().wide
    assert "var(--c0)" in svg
    assert "var(--fg)" in svg
    assert re.findall(r'(?:fill|stroke)="(?!none|transparent|var|url)([^"]*)"', svg) == []


def test_no_name_ends_the_element_that_holds_the_specification():
    assert "</script" not in drawn().spec


def test_drawing_twice_gives_the_same_bytes():
    assert drawn() == drawn()


@pytest.mark.parametrize(("ending", "begins"), [(".pdf", b"%PDF"), (".svg", b"<svg"), (".png", b"\x89PNG")])
def test_a_figure_for_a_paper_has_the_light_colors_and_no_variables(tmp_path, ending, begins):
    write_figure(drawn(), tmp_path / f"figure{ending}")
    content = (tmp_path / f"figure{ending}").read_bytes()
    assert content.startswith(begins)
    assert b"var(" not in content
    assert (b"#0072b2" in content) == (ending == ".svg")


def test_a_figure_of_another_ending_is_refused(tmp_path):
    with pytest.raises(
        AmbiError, match=r"--figure \S+\.jpg: its ending says the format, and must be one of \.pdf, \.svg"
    ):
        write_figure(drawn(), tmp_path / "figure.jpg")


def test_series_are_told_apart_without_colors():
    looks = series([str(number) for number in range(12)])
    pairs = list(zip(looks["color"]["scale"]["range"], looks["shape"]["scale"]["range"], strict=True))
    assert len(set(pairs)) == 12


def test_an_interval_that_is_not_defined_has_no_length():
    assert values_of(Estimate(0.5, float("nan"), float("nan"))) == {
        "value": 0.5,
        "low": 0.5,
        "high": 0.5,
        "short": "0.500",
        "score": "0.500",
    }
    assert values_of(UNDEFINED)["short"] == "\N{EN DASH}"


@pytest.mark.parametrize(
    ("nothing", "highest", "marks"),
    [(10, 755, [50, 100, 200, 500]), (1, 5000, [10, 100, 1000]), (1, 13, [2, 5, 10])],
)
def test_an_axis_of_tokens_has_enough_marks_to_read_it(nothing, highest, marks):
    assert tokens_axis(nothing, highest)["axis"]["values"] == [nothing, *marks]


def test_the_frontier_holds_what_nothing_beats_for_as_little():
    points = [point(name, at, Estimate(value, value, value)) for name, at, value in FRONTIER]
    assert [found["series"] for found in frontier(points)] == ["cheap", "better", "best"]


FRONTIER = [("better", 10, 0.3), ("cheap", 1, 0.5), ("worse", 20, 0.4), ("best", 30, 0.1), ("dearer", 40, 0.1)]


def test_the_script_is_packed_to_less_than_half_a_megabyte():
    assert 100_000 < len(packed_script()) < 500_000
    assert script_hash("") == "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"

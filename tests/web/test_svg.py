"""Scales, ticks and shapes."""

from xml.etree import ElementTree

import pytest

from ambi_eval.web.svg import MARKERS, Drawing, Scale, number


@pytest.mark.parametrize(
    ("scale", "value", "position"),
    [
        (Scale(0, 1, 10, 110), 0.25, 35),
        (Scale(0, 1, 110, 10), 0.25, 85),
        (Scale(0, 1, 0, 100), 1.5, 100),
        (Scale(0, 1, 0, 100), -3, 0),
        (Scale(1, 100, 0, 100, log=True), 10, 50),
        (Scale(1, 100, 0, 100, log=True), 0, 0),
        (Scale(1, 1, 0, 100, log=True), 1, 0),
        (Scale(5, 5, 0, 100), 5, 0),
    ],
)
def test_positions(scale, value, position):
    assert scale(value) == pytest.approx(position)


@pytest.mark.parametrize(
    ("scale", "count", "ticks"),
    [
        (Scale(0, 1, 0, 1), 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Scale(0, 0.37, 0, 1), 4, [0, 0.1, 0.2, 0.3]),
        (Scale(0, 2.585, 0, 1), 5, [0, 1, 2]),
        (Scale(0, 0, 0, 1), 5, [0]),
        (Scale(3, 400, 0, 1, log=True), 5, [5, 10, 20, 50, 100, 200]),
    ],
)
def test_ticks_are_round_values_within_the_scale(scale, count, ticks):
    assert scale.ticks(count) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("value", "text"), [(0.3, "0.3"), (0.30000000000000004, "0.3"), (20, "20"), (1234.5, "1,234"), (0, "0")]
)
def test_numbers_on_axes(value, text):
    assert number(value) == text


def test_a_drawing_is_valid_xml_whatever_the_texts():
    drawing = Drawing(100, 50)
    drawing.axes(Scale(0, 1, 20, 90), Scale(0, 1, 40, 5), "a < b & c", '"y"')
    for marker in MARKERS:
        drawing.marker(5, 5, "dot c0", marker)
    drawing.rect(1, 1, -3, 4, "cell", opacity=0.5)
    drawing.text(1, 1, "<script>")
    root = ElementTree.fromstring(drawing.render('says "<b>"'))
    assert root.get("aria-label") == 'says "<b>"'
    assert {"a < b & c", '"y"', "<script>"} <= {text.text for text in root.iter("text")}
    assert root.find("rect").get("width") == "0", "no negative widths"

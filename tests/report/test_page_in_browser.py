"""The page in a real browser, opened from disk."""

import time

import pytest
from support.accessibility import serious_violations, small_texts

from ambi_eval.report.page import write_page

TABLES = "[...document.querySelectorAll('table.sortable')]"
CLIPS = "document.querySelector('#table1')"
SHOWN = f"[...{CLIPS}.tBodies[0].rows].filter(row => row.offsetParent !== null)"


@pytest.fixture(scope="module")
def file(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(content, path)
    return path


@pytest.fixture(params=[1280, 390], ids=["desktop", "phone"])
def opened(browser, file, request):
    browser.open(file, request.param)
    return browser


def choose(browser, name, value):
    browser.js(
        f"const field = document.querySelector('.filters').elements['{name}']; field.value = {value!r};"
        "field.dispatchEvent(new Event('input', {bubbles: true}));"
    )


def test_it_loads_without_an_error_or_a_request(browser, file):
    browser.requests()
    browser.open(file, 1280)
    assert browser.console() == []
    assert [url for url in browser.requests() if not url.startswith("data:")] == [file.as_uri()]


def test_nothing_is_wider_than_the_screen(opened):
    assert opened.js("return document.documentElement.scrollWidth <= window.innerWidth")
    assert len(opened.screenshot()) > 20_000


@pytest.mark.parametrize(("column", "number"), [(0, False), (1, True), (2, True), (3, True), (4, False)])
def test_clips_sort_by_a_click_and_back_by_another(opened, column, number):
    key = f"row => {'Number' if number else 'String'}(row.cells[{column}].firstChild.textContent.trim())"
    for direction in ("ascending", "descending"):
        opened.js(f"{CLIPS}.querySelectorAll('thead button')[{column}].click()")
        assert opened.js(f"return {CLIPS}.querySelectorAll('th')[{column}].getAttribute('aria-sort')") == direction
        values = opened.js(f"return [...{CLIPS}.tBodies[0].rows].map({key})")
        ordered = sorted(values) if number else sorted(values, key=str.lower)
        assert values == (ordered if direction == "ascending" else ordered[::-1])


def test_scores_sort_without_the_references_among_them(opened):
    opened.js("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    opened.js("document.querySelectorAll('#scores1 thead button')[2].click()")
    values = opened.js(
        "return [...document.querySelector('#scores1').tBodies[0].rows].map(r => +r.cells[2].dataset.value)"
    )
    assert values == sorted(values)
    assert len(values) == 8


@pytest.mark.parametrize(
    ("name", "value", "matches"),
    [
        ("label", "tense", "row.dataset.label.split('/').includes('tense')"),
        ("text", "NOT SURE", "row.textContent.includes('not sure')"),
    ],
)
def test_clips_are_filtered_and_counted(opened, name, value, matches):
    every = opened.js(f"return {CLIPS}.tBodies[0].rows.length")
    choose(opened, name, value)
    expected = opened.js(f"return [...{CLIPS}.tBodies[0].rows].filter(row => {matches}).length")
    assert 0 < expected < every
    assert opened.js(f"return {SHOWN}.length") == expected
    assert opened.js(f"return {SHOWN}.every(row => {matches})")
    assert opened.js("return document.querySelector('.filters output').textContent") == f"{expected} of {every} rows"
    choose(opened, name, "")
    assert opened.js(f"return {SHOWN}.length") == every


def test_no_two_texts_of_a_plot_lie_on_each_other_and_none_is_too_small(opened):
    assert opened.overlapping_texts("figure svg") == []
    assert small_texts(opened) == []


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (390, True)], ids=["wide and light", "phone and dark"])
def test_axe_finds_no_serious_violation(browser, file, width, dark):
    browser.open(file, width, dark=dark)
    assert serious_violations(browser) == []


def test_plots_become_live_when_pointed_at_without_a_request_or_an_error(browser, file):
    browser.open(file, 1280)
    browser.requests()
    pointed = "document.querySelectorAll('.plot.wide').forEach(p => p.dispatchEvent(new PointerEvent('pointerenter')))"
    browser.js(pointed)
    count = "document.querySelectorAll('figure{}').length"
    deadline = time.monotonic() + 30
    while browser.js(f"return {count.format('.live')} < {count.format('')}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert browser.js(f"return {count.format('.live')}") == browser.js(f"return {count.format('')}") > 5
    assert browser.console() == []
    assert [url for url in browser.requests() if not url.startswith("data:")] == []
    assert browser.js("return [...document.querySelectorAll('.live svg')].every(s => s.getAttribute('aria-label'))")


def test_the_clips_come_within_six_screens(browser, file):
    browser.open(file, 1400)
    assert browser.js(f"return {CLIPS}.getBoundingClientRect().top") < 6 * 900


def test_on_paper_nothing_is_cut_and_no_heading_stands_alone(browser, file):
    browser.open(file, 720)  # what is between the margins of A4
    browser.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert (
            browser.js(
                """
            const shown = element => element.checkVisibility() && element.getBoundingClientRect().width;
            return [...document.querySelectorAll("p, td, th, svg text, svg, table, pre")].filter(shown)
              .filter(e => e.getBoundingClientRect().left < 0 || e.getBoundingClientRect().right > window.innerWidth)
              .map(e => e.textContent.slice(0, 60)).slice(0, 5);
            """
            )
            == []
        )
        headings = "[...document.querySelectorAll('h1, h2, h3, h4')]"
        assert browser.js(f"return {headings}.every(h => getComputedStyle(h).breakAfter === 'avoid')")
        assert browser.js(
            "return [...document.querySelectorAll('.filters, summary, audio')].every(e => !e.offsetParent)"
        )
    finally:
        browser.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})

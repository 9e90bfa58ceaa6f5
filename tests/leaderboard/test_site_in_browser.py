"""The site in a real browser, from disk and from a server, with texts that would like to be scripts."""

import functools
import http.server
import threading
from pathlib import PurePosixPath
from urllib.parse import urlparse

import pytest
from support.accessibility import serious_violations, small_texts

BOARD = "document.querySelector('#board-demo')"
ROWS = f"[...{BOARD}.tBodies[0].rows]"
SHOWN = f"{ROWS}.filter(row => row.offsetParent !== null)"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Address:
    """Something with an address, as the browser wants it."""

    def __init__(self, url):
        self.url = url

    def as_uri(self):
        return self.url


@pytest.fixture(scope="module")
def root(site):
    """The address of the site on a server of its own."""
    handler = functools.partial(Quiet, directory=str(site[1]))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()


@pytest.fixture(params=[1280, 390], ids=["desktop", "phone"])
def opened(browser, root, request):
    browser.open(Address(f"{root}index.html"), request.param)
    return browser


def choose(browser, name, value):
    browser.js(
        f"const field = document.querySelector('.filters').elements['{name}']; field.value = {value!r};"
        "field.dispatchEvent(new Event('input', {bubbles: true}));"
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_loads_without_an_error_from_its_own_files_only(browser, root, site, width):
    browser.requests()
    pages = [str(path.relative_to(site[1])) for path in site[1].rglob("*.html")]
    for page in pages:
        browser.open(Address(root + page), width)
        assert browser.console() == []
        assert browser.js("return document.documentElement.scrollWidth <= window.innerWidth"), page
        assert browser.js("return document.title") != "pwned"
        assert browser.js("return document.querySelectorAll('img, body script:not([type])').length") == 0
    files = {"page.css", "leaderboard.css", "tables.js", "charts.js", "icon.svg"}
    asked = {url for url in browser.requests() if not url.startswith("data:")}
    assert {urlparse(url).netloc for url in asked} == {urlparse(root).netloc}
    assert {PurePosixPath(urlparse(url).path).name for url in asked} - files == {
        PurePosixPath(page).name for page in pages
    }


def test_it_works_from_disk_too(browser, site):
    browser.open(site[1] / "index.html", 1280)
    assert browser.console() == []
    assert browser.js(f"return {BOARD}.querySelectorAll('thead button').length") == 11


def test_the_policy_stops_a_script_that_got_into_the_page(opened):
    opened.js(
        "const script = document.createElement('script'); script.textContent = \"document.title = 'pwned'\";"
        "document.body.append(script);"
    )
    assert opened.js("return document.title") != "pwned"
    assert any("Content Security Policy" in entry["message"] for entry in opened.console())


@pytest.mark.parametrize("column", [1, 2, 5, 6])
def test_systems_sort_by_a_click_and_back_by_another(opened, column):
    for direction in ("ascending", "descending"):
        opened.js(f"{BOARD}.querySelectorAll('thead button')[{column}].click()")
        assert opened.js(f"return {BOARD}.querySelectorAll('th')[{column}].getAttribute('aria-sort')") == direction
        shown = opened.js(f"return {ROWS}.map(row => row.cells[{column}].dataset.value)")
        values = [float(value) for value in shown if value]
        assert shown[len(values) :] == [""] * (len(shown) - len(values)), "what has no value comes last"
        assert values == sorted(values, reverse=direction == "descending")
        assert len(set(values)) > 2


@pytest.mark.parametrize(("begin", "first", "end"), [("1 to ", 5, ""), ("", -5, " ± 0.1")])
def test_texts_sort_by_all_numbers_in_them(opened, begin, first, end):
    changed = f"cell.textContent = `{begin}${{k + {first}}}{end}`; delete cell.dataset.value;"
    opened.js(f"{ROWS}.map(row => row.cells[3]).forEach((cell, k) => {{ {changed} }})")
    texts = [f"{begin}{k + first}{end}" for k in range(opened.js(f"return {ROWS}.length"))]
    assert len(texts) > 6  # so that some have two digits
    for ordered in (texts, texts[::-1]):
        opened.js(f"{BOARD}.querySelectorAll('thead button')[3].click()")
        assert opened.js(f"return {ROWS}.map(row => row.cells[3].textContent)") == ordered


@pytest.mark.parametrize(
    ("name", "value", "matches"),
    [
        ("strategy", "sc", "row.dataset.strategy === 'sc'"),
        ("status", "re-scored", "row.dataset.status === 're-scored'"),
        ("text", "CHEAPER", "row.textContent.includes('cheaper')"),
        ("text", "<script>", "row.textContent.includes('<script>')"),
    ],
)
def test_systems_are_filtered_and_counted(opened, name, value, matches):
    every = opened.js(f"return {ROWS}.length")
    choose(opened, name, value)
    expected = opened.js(f"return {ROWS}.filter(row => {matches}).length")
    assert 0 < expected <= every
    assert opened.js(f"return {SHOWN}.length") == expected
    assert opened.js(f"return {SHOWN}.every(row => {matches})")
    assert opened.js("return document.querySelector('.filters output').textContent") == f"{expected} of {every} rows"
    choose(opened, name, "")
    assert opened.js(f"return {SHOWN}.length") == every


def test_a_click_on_a_system_leads_to_its_page_and_back(opened):
    name = opened.js(f"return {BOARD}.querySelector('tbody a').nextSibling.textContent.split(';')[0]")
    opened.js(f"{BOARD}.querySelector('tbody a').click()")
    assert opened.js("return document.querySelector('h1').textContent") == name
    opened.js("document.querySelector('nav a').click()")
    assert opened.js(f"return {BOARD} !== null")


def test_no_two_texts_of_a_plot_lie_on_each_other_and_none_is_too_small(opened):
    assert opened.overlapping_texts(".plot svg") == []
    assert small_texts(opened) == []


def test_the_headline_column_is_seen_at_once_and_the_first_one_stays(opened):
    inside = f"(cell => cell.getBoundingClientRect().right <= window.innerWidth)({ROWS}[0].cells[1])"
    assert opened.js(f"return {inside}")
    opened.js(f"{BOARD}.closest('.scroll').scrollLeft = 400")
    assert opened.js(f"return {ROWS}[0].cells[0].getBoundingClientRect().left >= 0")


@pytest.mark.parametrize("page", ["index.html", "rules.html", "submissions/", "models/"])
def test_axe_finds_no_serious_violation(browser, root, site, page):
    if page.endswith("/"):
        page += next((site[1] / page).iterdir()).name
    for width, dark in ((1400, False), (390, True)):
        browser.open(Address(root + page), width, dark=dark)
        assert serious_violations(browser) == []

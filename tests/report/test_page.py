"""The page: one file, complete without a network, with every number; whatever a model answers stays text."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.analysis.raters.study import study_raters
from ambi_eval.errors import AmbiError
from ambi_eval.funnel.content import VERSION, Funnel, NamedGain, Stage, Step, funnels_in
from ambi_eval.funnel.sentence import sentences
from ambi_eval.harness.results import read_runs
from ambi_eval.metrics import METRICS
from ambi_eval.report.build import build
from ambi_eval.report.content import Content
from ambi_eval.report.page import QUESTIONS, render, write_page
from ambi_eval.report.verdict import verdicts
from ambi_eval.web.format import short
from ambi_eval.web.pages import write_json

VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """Elements and text of a page; refuses tags that do not match."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(html)
        assert self.open == [], "tags that were never closed"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(content):
    return Page(render(content))


def test_it_is_well_formed_and_asks_for_nothing(page, content):
    assert all(not attrs["href"].startswith(("http", "//")) for attrs in page.all("a") + page.all("link"))
    sources = [attrs["src"] for _, attrs in page.elements if "src" in attrs]
    assert sources
    assert all(source.startswith("file:") for source in sources), "only the clips on this machine"
    html = render(content)
    assert not re.search(r"url\((?!#)", html), "plots may name their own clip paths"
    assert "@import" not in html
    assert len(html) < 1_500_000
    (policy,) = (attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not any(name == "style" or name.startswith("on") for tag, attrs in page.elements for name in attrs)


def test_the_questions_come_in_their_order_after_the_verdict(content):
    html = render(content)
    places = [html.index(line[:60].replace("'", "&#39;").replace("<", "&lt;").replace(">", "&gt;")) for line in
              verdicts(content)] + [html.index(f">{title}</h3>") for title in QUESTIONS.values()]  # fmt: skip
    assert places == sorted(places)


def test_the_glossary_has_a_sentence_for_each_strategy_that_ran_and_each_metric(content):
    first, *others = content.sections[0].systems
    merged = replace(content.sections[0], systems=[replace(first, same_as=["walmv mean"]), *others])
    words = re.findall("<dt>(.*?)</dt><dd>.+?</dd>", render(replace(content, sections=[merged])))
    assert {"walmv", "sc", "exact", "direct", *METRICS} <= set(words)
    assert "wbon" not in words


def test_answers_and_names_stay_text(page):
    assert "<img src=x onerror=alert(1)> & I'm not sure." in page.text
    assert "weak<model>" in page.text
    assert page.all("img") == []
    kinds = [attrs.get("type") for attrs in page.all("script")]
    assert kinds.count(None) == 1
    assert set(kinds) == {None, "application/json", "text/plain"}


def test_every_headline_number_stands_in_the_page(page, content):
    for system in content.sections[0].systems:
        for metric in (*METRICS, "worth_raters"):
            found = system.scores[metric]
            shown = found.low if found.high == math.inf else found.value  # "at least 10.7"
            assert math.isinf(shown) or short(shown) in page.text
        assert short(system.two_alternatives.score.value) in page.text
        for held_out in system.held_out:
            assert short(held_out.model.value) in page.text


def test_commands_versions_prompts_and_references_are_there(page, content):
    for run in content.runs:
        assert run.command in page.text
        assert f"lm_eval {run.versions['lm_eval']}" in page.text
    assert "name the emotion that" in page.text
    for reference in content.sections[0].references.values():
        assert reference.description in page.text


def test_every_plot_has_words_for_screen_readers_and_a_table_behind_it(page):
    assert all(attrs.get("role") == "img" and len(attrs["aria-label"]) > 40 for attrs in page.all("svg"))
    plots = len(page.all("figure"))
    assert len(page.all("svg")) == 2 * plots, "one for wide screens, one for phones"
    assert page.text.count("Show numbers") == plots
    assert all(attrs.get("scope") for attrs in page.all("th"))


@pytest.mark.parametrize(
    ("word", "changes"),
    [("SIMULATED RATERS", {"simulated": True}), ("PARTIAL", {"partial": ["12 of 48 clips are scored."]})],
)
def test_what_must_be_known_first_is_said_in_a_banner_and_at_the_heading(page, content, word, changes):
    assert word not in page.text
    warned = Page(render(replace(content, sections=[replace(content.sections[0], **changes)])))
    assert warned.text.count(word) == 2
    banners = [attrs for attrs in warned.all("p") if attrs.get("class") == "warning"]
    assert len(banners) == 1


def test_audio_is_linked_and_played_from_its_file_but_never_embedded(page, content):
    links = {attrs["href"] for attrs in page.all("a") if attrs["href"].startswith("file:")}
    assert any(re.fullmatch(r"file:///.*/all\.wav#t=0,0\.1", link) for link in links)
    players = page.all("audio")
    assert len(players) == len(content.sections[0].shown)
    assert {attrs["preload"] for attrs in players} == {"none"}
    assert "data:audio" not in render(content)


def test_one_system_alone_and_panels_that_cannot_be_halved_make_a_page_too(content):
    section = content.sections[0]
    exact = next(s for s in section.systems if s.name == "exact")
    alone = replace(exact, held_out=None, two_alternatives=None, against_best=None, subgroups=[])
    page = Page(render(replace(content, sections=[replace(section, systems=[alone])])))
    assert "there is no half panel to compare with" in page.text
    assert "no two clips share a speaker" in page.text
    assert "Is the best really better?" not in page.text
    assert "No run drew several answers or told its tokens" in page.text
    assert "No control was run" in page.text


def test_weights_that_are_practically_uniform_are_called_so(content):
    section = content.sections[0]
    said = "indistinguishable from the unweighted mean"
    for share, times in ((0.4, 0), (0.99, 1)):
        weighted = replace(section.systems[0], diagnostics={"near_uniform": Estimate(share, share, share)})
        text = Page(render(replace(content, sections=[replace(section, systems=[weighted])]))).text
        assert (text.count(said) > 0) == bool(times)


def test_a_single_clip_makes_a_page_without_intervals(lm_eval, tmp_path):
    (section,) = build(read_runs(lm_eval(tmp_path, 0.5, "m", limit=1))).sections
    assert (section.clips, section.clusters, len(section.bins)) == (1, 1, 1)
    html = render(Content("now", [], [section]))
    text = Page(html).text
    assert not re.search(r"[>\s\[,]nan[<\s\],]", html)
    assert "[" not in text.partition("How well?")[2].partition("Does more inference help?")[0]


def test_files_are_written_with_their_folder_or_the_reason_is_said(content, tmp_path):
    for _ in range(2):  # the second time in the place of the first
        write_page(content, tmp_path / "new" / "report.html")
        write_json(content, tmp_path / "new" / "report.json")
    assert (tmp_path / "new" / "report.html").read_text(encoding="utf-8") == render(content)
    assert json.loads((tmp_path / "new" / "report.json").read_text())["sections"][0]["clips"] == 48
    with pytest.raises(AmbiError, match=r"cannot write .*report.html \(.*\): name another file"):
        write_page(content, tmp_path / "new" / "report.html" / "report.html")


@pytest.mark.slow
def test_raters_and_their_groups_have_a_table(content, runs):
    task, section = runs[0].tasks["mine_direct"], content.sections[0]
    known = {f"rater{number}": {"sex": "female" if number % 2 else "male"} for number in range(9)}
    p = {system.full_name: task.pipelines["answer"].p for system in section.systems}
    study = study_raters(replace(task.selection, raters=known), task.settings, p)
    text = Page(render(replace(content, sections=[replace(section, rater_study=study)]))).text
    assert "sex: female" in text
    assert "the shares of the clip's other raters" in text
    without = Page(render(replace(content, sections=[replace(section, rater_study=None)]))).text
    assert "what single raters say" not in without


@pytest.mark.slow
def test_a_funnel_that_lies_among_the_results_has_a_section(runs, tmp_path):
    estimate = Estimate(0.5, 0.4, 0.6)
    stages = [Stage(key, key, estimate) for key in ("encoder", "projected", "layers", "exact", "direct")]
    steps = [Step(stage.key, estimate, {}) for stage in stages[1:]]
    depth = [NamedGain("layer 1", estimate, 9), NamedGain("layer 2", Estimate(0.5, math.nan, math.nan), 9)]
    funnel = Funnel(VERSION, "m<1>", "d", "mine", False, ["a"], 9, 3, "speaker", stages, steps, estimate, estimate)
    funnel = replace(funnel, depth=depth, references=depth[:1], controls=[], notes=["a note"])
    write_json(funnel, tmp_path / "deep" / "funnel.json")
    (found,) = funnels_in(tmp_path)
    page = render(build(runs, funnels=[found]))
    assert "Where m&lt;1&gt; loses what it hears" in page
    assert sentences(found)[-1] in page
    assert 'href="#funnel1"' in page
    assert "loses what it hears" not in render(build(runs))

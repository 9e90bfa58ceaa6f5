"""The site: every number of the boards, whatever is submitted stays text, and nothing is asked of a network."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from support.references import jsd_in_bins

from ambi_eval.analysis.ambiguity import bin_clips
from ambi_eval.corpora.registry import corpus_names
from ambi_eval.errors import AmbiError
from ambi_eval.leaderboard import board as board_module
from ambi_eval.leaderboard.published import Published, read_published
from ambi_eval.leaderboard.record import apply_record, write_record
from ambi_eval.leaderboard.rescore import scoring_task
from ambi_eval.leaderboard.site import POLICY, _write, board_page, build, published_beside
from ambi_eval.leaderboard.verify import verify
from ambi_eval.metrics import METRICS
from ambi_eval.web.format import short


class Page(HTMLParser):
    """Elements and text of a page."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def built(shipped, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    return build(shipped, folder / "site", folder / "none.json"), folder / "site"


def test_every_submission_has_a_page_and_every_link_a_target(built):
    site, out = built
    pages = sorted(out.rglob("*.html"))
    assert len(list((out / "submissions").iterdir())) == len(site.shown) == 5
    assert [page.name for page in out.glob("*.html")].count("index.html") == 1
    assert {"rules.html", "format.html"} < {page.name for page in pages}
    assert len(list((out / "models").iterdir())) == 1
    for path in pages:
        page = Page(path)
        for tag, attrs in page.elements:
            for target in (attrs.get("href"), attrs.get("src")):
                if target and not target.startswith(("#", "https:")):
                    assert (path.parent / target).resolve().is_file(), (path, target)
            assert not any(name.startswith("on") or name == "style" for name in attrs), (tag, attrs)
        assert page.all("style") == []
        scripts = [attrs for attrs in page.all("script") if attrs.get("type") != "application/json"]
        assert all(attrs.get("src") for attrs in scripts), "no script stands in a page"
        policy = next(attrs for attrs in page.all("meta") if attrs.get("http-equiv"))
        assert policy == {"http-equiv": "Content-Security-Policy", "content": POLICY}


def test_ranks_scores_references_and_bins_stand_in_the_first_page(built):
    site, out = built
    (board,) = site.boards
    text = Page(out / "index.html").text
    for row in board.systems:
        assert short(row.scores["jsd_bits"].value) in text
        assert all(short(estimate.value) in text for estimate in row.binned)
    assert [reference.name for reference in board.references] == ["prior", "half panel", "one human", "perfect model"]
    for name in ("prior", "half panel", "one human", "perfect model", "text-only", "SIMULATED RATERS", "How to submit"):
        assert name in text
    assert [row.control for row in board.controls] == ["silence"]
    assert text.count("best at this cost") == 1, "exact is the best, and the cheapest"
    names = [row.title for row in board.rows]
    assert (names[0], names[1], names[-1]) == ("perfect model", "ambi-tiny with exact likelihood", "prior")


def test_thinking_has_a_column_if_a_system_thinks(built, copy, edit, tmp_path):
    assert "thinking" not in Page(built[1] / "index.html").text
    folder = copy("sc")
    edit.answers(folder, lambda lines: [{**line, "thinking_tokens": 3} for line in lines])
    site = build(folder.parent, tmp_path / "site", tmp_path / "none.json")
    before = next(row.tokens for row in built[0].boards[0].systems if row.method == "sc dist")
    assert {row.thinking for row in site.boards[0].systems} == {60}
    assert {row.tokens for row in site.boards[0].systems} == {before + 60}
    for page in (tmp_path / "site" / "index.html", *(tmp_path / "site" / "models").iterdir()):
        assert "of these thinking" in Page(page).text


def test_what_a_run_warned_of_stands_with_its_system(built, copy, edit, tmp_path):
    told = "heard only the beginning of 3 audios: <its window> is shorter"
    other = "'a' was asked for, but the server named another model: 'b' (7 replies)."
    folder = copy("cheap")

    def warn(card):
        card["backend"]["other_models"] = [other]
        for task in card["tasks"].values():
            task["notices"] = [told]

    edit.card(folder, warn)
    build(folder.parent, tmp_path / "site", tmp_path / "none.json")
    board = (tmp_path / "site" / "index.html").read_text()
    for each in (told.replace("<", "&lt;").replace(">", "&gt;"), other.replace("'", "&#39;")):
        assert f'<small><span class="chip">CAUTION</span> {each}</small>' in board
        assert each in (tmp_path / "site" / "submissions" / f"{folder.name}.html").read_text()
        (page,) = (tmp_path / "site" / "models").iterdir()
        assert each in page.read_text()
    results = json.loads((tmp_path / "site" / "results.json").read_text())
    assert results["boards"][0]["systems"][0]["notices"] == [other, told]
    assert "CAUTION" not in (built[1] / "index.html").read_text()


def test_a_model_has_a_page_over_all_corpora_and_published_numbers_stand_apart(copy, tmp_path):
    folder = copy("sc").parent
    theirs = {"system": "theirs", "metric": "JS", "split": "all", "source": "a paper", "checked": "second-hand"}
    numbers = [theirs | {"corpus": "demo", "value": 0.125}, theirs | {"corpus": "iemocap", "value": 0.375}]
    (folder.parent / "published.yaml").write_text(json.dumps(numbers))
    site = build(folder, tmp_path / "site", tmp_path / "none.json")
    text = Page(tmp_path / "site" / "index.html").text
    assert "As published, not comparable" in text
    assert "not read in the source itself" in text
    assert [each.value for each in site.published] == [0.125, 0.375]
    assert "iemocap" in text, "of a corpus without a board, on the first page"
    assert "0.375" in text
    (model,) = (tmp_path / "site" / "models").iterdir()
    assert "sc dist" in Page(model).text
    (folder.parent / "published.yaml").write_text("- {corpus: demo}")
    with pytest.raises(AmbiError, match=r"published.yaml: 0.system"):
        build(folder, tmp_path / "site", tmp_path / "none.json")


def test_each_part_of_a_corpus_has_a_tab_that_a_browser_takes_for_a_file(built, tmp_path):
    (demo,) = built[0].boards
    parts = [replace(demo, corpus=f"iemocap:session={number}") for number in (1, 2)]
    theirs = {"system": "a", "metric": "JS", "value": 0.1, "split": "all", "source": "a paper", "checked": "source"}
    published = [Published(corpus=corpus, **theirs) for corpus in ("iemocap", "demo", "crema_d")]
    site = replace(built[0], boards=[demo, *parts], published=published)
    assert [board_page(site, board) for board in site.boards] == [
        "index.html",
        "iemocap-session-1.html",
        "iemocap-session-2.html",
    ]
    _write(site, tmp_path, {})
    for page in ("index.html", "iemocap-session-2.html"):
        tabs = [attrs["href"] for attrs in Page(tmp_path / page).all("a") if attrs.get("class") == "tab"]
        assert tabs == ["index.html", "iemocap-session-1.html", "iemocap-session-2.html"]
        assert all((tmp_path / tab).is_file() for tab in tabs)
    assert "ambi_iemocap_sc,ambi_iemocap_exact" in Page(tmp_path / "iemocap-session-1.html").text
    (model,) = (tmp_path / "models").iterdir()
    links = {attrs["href"] for attrs in Page(model).all("a")}
    assert {f"../{board_page(site, board)}" for board in site.boards} <= links, "over all corpora"
    shown = [[each.corpus for each in published_beside(site, board)] for board in site.boards]
    assert shown == [["demo", "crema_d"], ["iemocap"], ["iemocap"]]


def test_the_published_numbers_that_ship_fit_the_schema(shipped):
    assert {each.corpus for each in read_published(shipped.parent / "published.yaml")} <= set(corpus_names())


def test_pages_of_removed_submissions_go_and_other_files_stay(copy, tmp_path):
    first, second, out = copy("sc"), copy("exact"), tmp_path / "site"
    build(first.parent, out, tmp_path / "none.json")
    (out / "submissions" / "mine.html").write_text("not of the site")
    assert (out / "submissions" / f"{second.name}.html").is_file()
    shutil.rmtree(second)
    build(first.parent, out, tmp_path / "none.json")
    assert {path.name for path in (out / "submissions").iterdir()} == {f"{first.name}.html", "mine.html"}


def test_scores_of_the_board_are_those_of_the_metrics(built):
    (board,) = built[0].boards
    verdict = next(verdict for verdict in built[0].shown if verdict.name.endswith("-sc"))
    p = verdict.tasks["ambi_demo_sc"].pipelines["dist"].p
    votes = scoring_task("ambi_demo_sc").selection.votes
    row = next(row for row in board.systems if row.method == "sc dist")
    assert replace(row, prompt_language="it").method == "sc dist in it"
    for name in ("jsd_bits", "bc", "acc", "macro_f1"):
        assert row.scores[name].value == pytest.approx(METRICS[name].value(p, votes), abs=1e-12)
        assert row.scores[name].value == pytest.approx(verdict.claims["ambi_demo_sc"]["dist"][name], abs=1e-9)
    assert sum(b.clips for b in board.bins) == board.clips
    selection = scoring_task("ambi_demo_sc").selection
    expected = jsd_in_bins(p, votes, bin_clips(selection))
    assert [estimate.value for estimate in row.binned] == pytest.approx(expected, abs=1e-9)
    assert len(expected) == len(board.bins) > 1
    values = [row.scores["jsd_bits"].value for row in board.systems]
    assert values == sorted(values)
    assert [row.rank.value for row in board.systems] == [1 + sum(v < value - 1e-12 for v in values) for value in values]


def test_results_are_strict_json_of_the_same_numbers(built):
    site, out = built
    content = json.loads((out / "results.json").read_text(), parse_constant=pytest.fail)
    assert (
        content["boards"][0]["systems"][0]["scores"]["jsd_bits"]["value"]
        == site.boards[0].systems[0].scores["jsd_bits"].value
    )
    assert {submission["status"] for submission in content["submissions"]} == {"re-scored"}
    assert content["refused"] == []


def test_a_second_build_gives_the_same_bytes(built, shipped, tmp_path):
    build(shipped, tmp_path / "again", tmp_path / "none.json")
    for path in built[1].rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(built[1])).read_bytes(), path


def test_what_is_submitted_stays_text(site, trouble):
    content, out = site
    assert (len(content.shown), len(content.refused)) == (5, 1)
    for path in (out / "index.html", next((out / "submissions").glob("*-sc.html"))):
        page = Page(path)
        assert trouble in page.text
        assert page.all("img") == []
        assert len([attrs for attrs in page.all("script") if attrs.get("type") != "application/json"]) == 2
    assert "<img src=x onerror=alert(3)>" in Page(out / "index.html").text
    assert f"sad {trouble}" in Page(next((out / "submissions").glob("*-sc.html"))).text


def test_refused_submissions_are_shown_as_such_and_nowhere_else(copy, edit, tmp_path):
    honest, forged = copy("exact-silence"), copy("exact")
    edit.claims(forged, lambda claims: claims["ambi_demo_exact"]["likelihood"].update(jsd_bits=0.01))
    site = build(honest.parent, tmp_path / "site", tmp_path / "none.json")
    assert [verdict.name for verdict in site.refused] == [forged.name]
    text = Page(tmp_path / "site" / "index.html").text
    assert "Not shown" in text
    assert "jsd_bits is claimed to be 0.01" in text
    assert not (tmp_path / "site" / "submissions" / f"{forged.name}.html").exists()


def test_what_maintainers_found_out_raises_the_status_of_these_very_files(copy, edit, tmp_path):
    folder, record = copy("sc"), tmp_path / "verified.json"
    verdict = verify(folder)
    apply_record(record, verdict)
    assert verdict.status == "re-scored", "nobody has found out anything"
    record.write_text(json.dumps({folder.name: {"digest": verdict.digest, "tasks": {"ambi_demo_sc": "re-run"}}}))
    apply_record(record, verdict)
    assert verdict.status == "re-run"
    edit.card(folder, lambda card: card.update(contact="somebody else"))
    changed = verify(folder)
    apply_record(record, changed)
    assert changed.status == "re-scored"


def test_a_record_keeps_what_it_holds_of_others(copy, tmp_path):
    record = tmp_path / "verified.json"
    for kind in ("sc", "exact"):
        write_record(record, verify(copy(kind)))
    assert len(json.loads(record.read_text())) == 2
    record.write_text("[]")
    with pytest.raises(AmbiError, match="holds no record"):
        apply_record(record, verify(copy("cheap")))


def test_nothing_to_show_and_nowhere_to_write_are_said(copy, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(AmbiError, match="holds no submissions"):
        build(tmp_path / "empty", tmp_path / "site", tmp_path / "none.json")
    (tmp_path / "file").touch()
    with pytest.raises(AmbiError, match="cannot write"):
        build(copy("sc").parent, tmp_path / "file" / "site", tmp_path / "none.json")


def test_another_site_is_not_written_over(copy, tmp_path):
    (tmp_path / "index.html").write_text("my site")
    with pytest.raises(AmbiError, match="holds a site that is no leaderboard: name another folder"):
        build(copy("exact").parent, tmp_path, tmp_path / "none.json")
    assert (tmp_path / "index.html").read_text() == "my site"


def test_a_corpus_whose_votes_are_elsewhere_has_a_board_of_claims(copy, edit, tmp_path, monkeypatch):
    monkeypatch.setenv("AMBI_DATA", str(tmp_path / "data"))
    folder = copy("sc")
    task = "ambi_msp_podcast_sc"
    shutil.move(folder / "samples" / "ambi_demo_sc.jsonl.gz", folder / "samples" / f"{task}.jsonl.gz")
    edit.claims(folder, lambda claims: claims.update({task: claims.pop("ambi_demo_sc")}))
    edit.card(folder, lambda card: card["tasks"].update({task: card["tasks"].pop("ambi_demo_sc")}))
    edit.card(folder, lambda card: card.update(training_data={"msp_podcast": "unknown"}))
    (board,) = build(folder.parent, tmp_path / "site", tmp_path / "none.json").boards
    assert (board.corpus, board.clips, board.simulated) == ("msp_podcast", 0, False)
    assert {(row.status, row.rank) for row in board.systems} == {("claimed", None)}
    text = Page(tmp_path / "site" / "index.html").text
    assert "scores are claims, without ranks, intervals or references" in text
    assert "prior" in text
    assert not re.search(r"\bnan\b", text)


@pytest.mark.parametrize("others", [["test1", "test2"], ["test1", None]])
def test_a_board_never_mixes_splits(others, monkeypatch):
    """Two submissions of the same task, of other splits, come to boards of their own."""

    def submission(split):
        changed = {"split": split} if split else {}
        card = SimpleNamespace(tasks={"ambi_msp_podcast_sc": SimpleNamespace(overrides=changed)})
        return SimpleNamespace(card=card, tasks={"ambi_msp_podcast_sc": None})

    made = {}
    board = SimpleNamespace(simulated=False)
    monkeypatch.setattr(board_module, "_board", lambda corpus, entries: made.setdefault(corpus, entries) and board)
    board_module.boards([submission(split) for split in (*others, others[0])])
    assert sorted(map(len, made.values())) == [1, 2]
    for corpus, entries in made.items():
        assert {entry.settings.clips_name for entry in entries} == {corpus}

"""Writes the boards as a static site, which can be read without a server, a network or scripts."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup

from ambi_eval.errors import AmbiError
from ambi_eval.leaderboard.board import Board, RankedSystem, boards
from ambi_eval.leaderboard.columns import columns
from ambi_eval.leaderboard.plots import quality_against_cost
from ambi_eval.leaderboard.published import PUBLISHED, Published, read_published
from ambi_eval.leaderboard.record import apply_record
from ambi_eval.leaderboard.verify import Verdict, verify_all
from ambi_eval.web.charts import script
from ambi_eval.web.columns import Column
from ambi_eval.web.glossary import STRATEGIES
from ambi_eval.web.pages import CHARTS, STYLE, TABLES, environment, write_json

TEMPLATES = Path(__file__).parent / "templates"
# The style and scripts of the report, and those of boards only.
FILES = (STYLE, TABLES, CHARTS, TEMPLATES / "leaderboard.css", TEMPLATES / "icon.svg")
# Pages may load files of this site only; a script or style inside a page does not run.
POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"
RESULTS = "results.json"
# Pages made from Markdown, each with its source file, relative to the folder of the submissions.
WORDS = {"rules.html": Path("../README.md"), "format.html": Path("../../docs/leaderboard.md")}
LINKS = {"../docs/leaderboard.md": "format.html", "../leaderboard/README.md": "rules.html"}
PAGE = re.compile(r"(?:submissions/|models/)?[A-Za-z0-9_.-]+\.html")


@dataclass(frozen=True, eq=False)
class Site:
    """The built site: submissions on its boards, those refused for problems, and numbers that others published."""

    boards: Sequence[Board]
    shown: Sequence[Verdict]
    refused: Sequence[Verdict]
    published: Sequence[Published] = ()


def build(submissions: Path, out: Path, record: Path) -> Site:
    """Verify all submissions and write the site.

    The parent folder of the submissions may hold `published.yaml`, and the rules in `README.md`. The site, in `out`,
    has `index.html`, `results.json`, and a page for each corpus, model and submission; pages of an earlier build that
    this one lacks are deleted. `record` is the maintainers' record of checks that are not possible on this machine.

    Raises:
        AmbiError: If there are no submissions, or the site cannot be written.
    """
    verdicts = verify_all(submissions)
    if not verdicts:
        raise AmbiError(f"{submissions} holds no submissions: make one with `ambi-eval leaderboard pack`.")
    shown = [verdict for verdict in verdicts if not verdict.problems]
    for verdict in shown:
        apply_record(record, verdict)
    refused = [verdict for verdict in verdicts if verdict.problems]
    site = Site(boards(shown), shown, refused, read_published(submissions.parent / PUBLISHED))
    try:
        _write(site, out, _words(submissions))
    except OSError as error:
        raise AmbiError(f"cannot write {out} ({error.strerror or error}): name another folder.") from error
    return site


def _write(site: Site, out: Path, words: dict[str, Markup]) -> None:
    templates = environment(TEMPLATES)
    models: dict[str, list[tuple[Board, RankedSystem]]] = {}
    for board in site.boards:
        for row in (*board.systems, *board.controls):
            models.setdefault(row.model, []).append((board, row))
    tabs = {board.corpus: board_page(site, board) for board in site.boards}
    templates.globals |= {
        "policy": POLICY,
        "estimate": Column("", lambda estimate: estimate).cell,
        "strategies": STRATEGIES,
        "tabs": tabs,
        "words": words,
        "model_page": model_page,
    }
    pages: dict[str, tuple[str, dict[str, Any]]] = {
        f"submissions/{v.name}.html": ("submission.html.j2", {"verdict": v}) for v in site.shown
    }
    for model, rows in models.items():
        pages[model_page(model)] = (
            "model.html.j2",
            {"model": model, "rows": rows, "columns": columns([row for _, row in rows])},
        )
    for board in site.boards:
        content = {
            "board": board,
            "columns": columns([*board.systems, *board.controls, *board.implausible]),
            "plot": quality_against_cost(board),
            "published": published_beside(site, board),
            "refused": site.refused,
        }
        pages[tabs[board.corpus]] = ("board.html.j2", content)
    if not site.boards:
        pages["index.html"] = ("empty.html.j2", {"refused": site.refused, "published": site.published})
    for name, text in words.items():
        pages[name] = ("words.html.j2", {"text": text})
    _forget(out, pages.keys())
    for folder in ("submissions", "models"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for file in FILES:
        shutil.copyfile(file, out / file.name)
    (out / "vega.js").write_text(script(), encoding="utf-8")
    for name, (template, content) in pages.items():
        html = templates.get_template(template).render(root="../" * name.count("/"), here=name, **content)
        (out / name).write_text(html, encoding="utf-8")
    write_json(_results(site, sorted(pages)), out / RESULTS)


def board_page(site: Site, board: Board) -> str:
    """Return the name of a board's page: the first board is the start page."""
    first = board is site.boards[0]
    return "index.html" if first else re.sub(r"[^A-Za-z0-9_.-]+", "-", board.corpus) + ".html"


def published_beside(site: Site, board: Board) -> list[Published]:
    """Return the published numbers about a board's corpus; the first board adds those of corpora without a board."""
    with_board = {each.corpus_name for each in site.boards}
    first = board is site.boards[0]
    return [
        each for each in site.published if each.corpus == board.corpus_name or (first and each.corpus not in with_board)
    ]


def model_page(model: str) -> str:
    """Return the name of a model's page: the model's letters and digits, and a digest that makes it unique."""
    readable = re.sub(r"[^a-z0-9]+", "-", model.lower())[:60].strip("-")
    return f"models/{readable or 'model'}-{sha256(model.encode()).hexdigest()[:8]}.html"


def _words(submissions: Path) -> dict[str, Markup]:
    """Return the HTML of the rules and of the format, if the files exist; other links between files become text."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    found = {}
    for page, path in WORDS.items():
        file = (submissions.absolute() / path).resolve()
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            for link, target in LINKS.items():
                text = text.replace(f"]({link})", f"]({target})")
            text = re.sub(r"\[([^]]+)\]\((?!https?:)[^)]+\.md[^)]*\)", r"\1", text)
            found[page] = Markup(markdown.render(text))
    return found


def _forget(out: Path, pages: Collection[str]) -> None:
    """Delete pages of an earlier build that this one lacks, such as those of removed submissions.

    Raises:
        AmbiError: If the folder holds another site.
    """
    try:
        earlier = json.loads((out / RESULTS).read_text(encoding="utf-8"))["pages"]
        stale = {name for name in earlier if PAGE.fullmatch(name)} - set(pages)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if (out / "index.html").exists():
            raise AmbiError(f"{out} holds a site that is no leaderboard: name another folder, or delete it.") from error
        return
    for name in stale:
        (out / name).unlink(missing_ok=True)


def _results(site: Site, pages: Sequence[str]) -> object:
    """Return every number of the site."""
    return {
        "boards": list(site.boards),
        "submissions": [
            {"name": verdict.name, "digest": verdict.digest, "status": verdict.status, "notes": verdict.notes}
            | {"card": verdict.card.model_dump() if verdict.card else None, "claims": verdict.claims}
            for verdict in site.shown
        ],
        "refused": [{"name": verdict.name, "problems": verdict.problems} for verdict in site.refused],
        "published": [each.model_dump() for each in site.published],
        "pages": pages,
    }

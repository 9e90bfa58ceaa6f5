"""The boards as a static site: plain pages that need no server, no network and no script to be read."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ambi_eval.errors import AmbiError
from ambi_eval.leaderboard.board import SHOWN, Board, boards
from ambi_eval.leaderboard.figures import quality_against_cost
from ambi_eval.leaderboard.record import apply_record
from ambi_eval.leaderboard.verify import Verdict, verify_all
from ambi_eval.web.pages import STYLE, TABLES, environment, write_json

TEMPLATES = Path(__file__).parent / "templates"
# The look and the sorting of the report, and what boards have beyond it.
FILES = (
    STYLE,
    TABLES,
    TEMPLATES / "leaderboard.css",
    TEMPLATES / "filter.js",
    TEMPLATES / "icon.svg",
)
# Only what comes with the pages is ever loaded, and no script or style that stands in a page.
POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, eq=False)
class Site:
    """What was built.

    Attributes:
        boards: The boards.
        shown: Submissions that stand on them.
        refused: Submissions that do not, for their problems.
    """

    boards: Sequence[Board]
    shown: Sequence[Verdict]
    refused: Sequence[Verdict]


def build(submissions: Path, out: Path, record: Path) -> Site:
    """Verify all submissions and write the site.

    Args:
        submissions: The folder of all submissions.
        out: The folder of the site: `index.html`, `results.json`, and a page for each submission.
        record: What maintainers have found out where votes or models are not at hand.

    Raises:
        AmbiError: If there are no submissions, or the site cannot be written.
    """
    verdicts = verify_all(submissions)
    if not verdicts:
        raise AmbiError(f"{submissions} holds no submissions: make one with `ambi-eval leaderboard pack`.")
    shown = [verdict for verdict in verdicts if not verdict.problems]
    for verdict in shown:
        apply_record(record, verdict)
    site = Site(boards(shown), shown, [verdict for verdict in verdicts if verdict.problems])
    try:
        _write(site, out)
    except OSError as error:
        raise AmbiError(f"cannot write {out} ({error.strerror or error}): name another folder.") from error
    return site


def _write(site: Site, out: Path) -> None:
    templates = environment(TEMPLATES)
    templates.globals |= {"policy": POLICY, "metrics": SHOWN}
    (out / "submissions").mkdir(parents=True, exist_ok=True)
    for file in FILES:
        shutil.copyfile(file, out / file.name)
    plots = [quality_against_cost(board) for board in site.boards]
    index = templates.get_template("index.html.j2").render(site=site, plots=plots, root="")
    (out / "index.html").write_text(index, encoding="utf-8")
    write_json(_results(site), out / "results.json")
    page = templates.get_template("submission.html.j2")
    for verdict in site.shown:
        html = page.render(verdict=verdict, root="../")
        (out / "submissions" / f"{verdict.name}.html").write_text(html, encoding="utf-8")


def _results(site: Site) -> object:
    """Return every number of the site."""
    return {
        "boards": list(site.boards),
        "submissions": [
            {"name": verdict.name, "digest": verdict.digest, "status": verdict.status, "notes": verdict.notes}
            | {"card": verdict.card.model_dump() if verdict.card else None, "claims": verdict.claims}
            for verdict in site.shown
        ],
        "refused": [{"name": verdict.name, "problems": verdict.problems} for verdict in site.refused],
    }

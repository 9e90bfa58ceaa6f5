"""What report, funnel and leaderboard share: the environment of their templates, and writing files."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ambi_eval.analysis.estimate import as_json
from ambi_eval.errors import AmbiError, counted
from ambi_eval.paths import writing
from ambi_eval.web.charts import packed_script, script, script_hash
from ambi_eval.web.format import count, short, with_interval

TEMPLATES = Path(__file__).parent / "templates"
# The beginnings of our pages, our JSON and our tables; a file that begins otherwise is another program's.
OURS = (
    re.compile(r'\s*<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta http-equiv='),
    re.compile(r"[{\[](\n [^ ]|[}\]])"),
    re.compile(r"(% |<!-- )Tables of ambi_eval|corpus,clips,kind,system,"),
)
STYLE, TABLES, CHARTS = (TEMPLATES / name for name in ("page.css", "tables.js", "charts.js"))


@cache
def environment(*templates: Path) -> jinja2.Environment:
    """Return the Jinja environment for the templates in some folders, with the macros that all pages share.

    Repeated calls return the same object, so that a template is compiled once.
    """
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*templates, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    found.filters |= {"short": short, "with_interval": with_interval, "count": count, "counted": counted}
    found.globals["version"] = metadata.version("ambi-eval")
    found.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    return found


def page_parts() -> dict[str, str]:
    """Return the parts of a one-file page that do not depend on its content, by their names in the templates.

    `css`, `js` and `vega` (compressed) are the style sheet and the scripts. `policy` is the Content-Security-Policy: no
    network, and no other style sheet or script.
    """
    style = STYLE.read_text(encoding="utf-8")
    scripts = TABLES.read_text(encoding="utf-8") + CHARTS.read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; style-src {script_hash(style)}; script-src {script_hash(scripts)} "
        f"{script_hash(script())}; img-src data:; media-src data: file:; base-uri 'none'; form-action 'none'"
    )
    return {"policy": policy, "css": Markup(style), "js": Markup(scripts), "vega": Markup(packed_script())}


def write_json(content: Any, path: Path) -> None:
    """Write content as JSON, see `as_json`; an `AmbiError` if the file cannot be written."""
    write_text(json.dumps(as_json(content), indent=1, allow_nan=False), path)


def write_text(text: str, path: Path) -> None:
    """Write a page or JSON; its folder is created if it is missing, and an earlier file of the same kind is replaced.

    Raises:
        AmbiError: If the file cannot be written, or if a file of another program lies there.
    """
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as earlier:
            head = earlier.read(1000)
        if head and not any(begins.match(text) and begins.match(head) for begins in OURS):
            raise AmbiError(f"{path} holds something else already: name another file, or delete it first.")
    with writing(path, "name another file.") as unfinished:
        unfinished.write_text(text, encoding="utf-8")

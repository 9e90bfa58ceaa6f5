"""What `make docs` adds to the pages of this folder: those that lie elsewhere in the repository, and the commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from ambi_eval.cli import app

ROOT = Path(__file__).parents[1]
# Files outside this folder that are pages of the site.
ELSEWHERE = {
    "leaderboard/README.md": "leaderboard_rules.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside of this folder, and the one that the program writes about itself."""
    pages = {page: (ROOT / path).read_text(encoding="utf-8") for path, page in ELSEWHERE.items()}
    pages["commands.md"] = commands()
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links to files outside of this folder lead to their pages."""
    up = "../" * page.file.src_uri.count("/")
    for path, name in ELSEWHERE.items():
        markdown = re.sub(rf"\]\((\.\./)*{re.escape(path)}", f"]({up}{name}", markdown)
    return re.sub(r"\]\((\.\./)*docs/", f"]({up}", markdown)


def commands() -> str:
    """Return a page with the help of every command of `ambi-eval`."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="ambi-eval")
    text = get_docs_for_click(obj=command, ctx=context, name="ambi-eval", title="The command `ambi-eval`")
    text = re.sub(r"^(#+) `ambi-eval (.*)`$", r"\1 ambi-eval \2", text, flags=re.MULTILINE)
    text = re.sub(r"^\*\*Commands\*\*:\n\n(\* .*\n)+", "", text, flags=re.MULTILINE)  # it cuts their sentences
    return re.sub(r"^(Example: )(.*)$", r"\1`\2`", text, flags=re.MULTILINE)

"""Notes of earlier runs about servers, in a small file of the data directory."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from ambi_eval.errors import AmbiError
from ambi_eval.paths import data_dir, writing


def known(base_url: str) -> dict[str, Any]:
    """Return the notes about a server; empty if there are none."""
    return _all().get(base_url, {})


def note(base_url: str, **what: Any) -> None:
    """Add to the notes about a server; if the file cannot be written, the next run finds out the same again."""
    content, file = _all(), data_dir() / "servers.json"
    if content.get(base_url, {}).items() >= what.items():
        return
    content[base_url] = {**content.get(base_url, {}), **what}
    with contextlib.suppress(AmbiError), writing(file, "the next run finds out the same again") as unfinished:
        unfinished.write_text(json.dumps(content, indent=1))


def _all() -> dict[str, dict[str, Any]]:
    """Return all notes by server; empty if the file is missing or damaged."""
    try:
        content = json.loads((data_dir() / "servers.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and all(isinstance(each, dict) for each in content.values()) else {}

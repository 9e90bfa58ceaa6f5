"""Notes about servers from earlier runs, in a small file of the data directory."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from ambi_eval.errors import AmbiError
from ambi_eval.paths import data_dir, writing


def known(base_url: str) -> dict[str, Any]:
    """Return the notes about a server; empty if there are none, or if the file is damaged."""
    return _all().get(base_url, {})


def note(base_url: str, **what: Any) -> None:
    """Add to the notes about a server; if the file cannot be written, the next run finds it out again."""
    if known(base_url).items() >= what.items():
        return
    content = _all()
    content[base_url] = {**content.get(base_url, {}), **what}
    file = data_dir() / "servers.json"
    with contextlib.suppress(AmbiError), writing(file, "the next run finds it out again") as unfinished:
        unfinished.write_text(json.dumps(content, indent=1))


def _all() -> dict[str, dict[str, Any]]:
    try:
        content = json.loads((data_dir() / "servers.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and all(isinstance(each, dict) for each in content.values()) else {}

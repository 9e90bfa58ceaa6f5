"""The maintainers' record of checks that need licensed votes or the model itself, which others do not have."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from ambi_eval.errors import AmbiError
from ambi_eval.leaderboard.schema import check
from ambi_eval.leaderboard.untrusted import read_json
from ambi_eval.leaderboard.verify import STATUSES, Status, Verdict
from ambi_eval.paths import writing

RECORD = "verified.json"


class _Entry(TypedDict):
    """The record of one submission."""

    digest: str
    tasks: dict[str, Status]


ENTRIES: TypeAdapter[dict[str, _Entry]] = TypeAdapter(dict[str, _Entry])


def write_record(path: Path, verdict: Verdict) -> None:
    """Record how far each task of a submission is confirmed; the records of other submissions do not change.

    Raises:
        AmbiError: If the file cannot be read or written.
    """
    known = _read(path)
    known[verdict.name] = {
        "digest": verdict.digest,
        "tasks": {name: findings.status for name, findings in verdict.tasks.items()},
    }
    with writing(path, "name another file.") as unfinished:
        unfinished.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def apply_record(path: Path, verdict: Verdict) -> None:
    """Raise the status of a submission's tasks to the recorded one, if its files are still the same.

    Raises:
        AmbiError: If the record is damaged.
    """
    written = _read(path).get(verdict.name, {})
    if written.get("digest") != verdict.digest:
        return
    for name, findings in verdict.tasks.items():
        status = max(findings.status, written["tasks"].get(name, findings.status), key=STATUSES.index)
        verdict.tasks[name] = replace(findings, status=status)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    try:
        found: dict[str, dict[str, Any]] = check(ENTRIES, read_json(path), path.name)
    except AmbiError as error:
        raise AmbiError(f"{path} holds no record of verified submissions: restore it ({error}).") from error
    return found

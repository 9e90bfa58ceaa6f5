"""Writes the tables of docs/tasks.md from the settings: `python -m ambi_eval.config.docs`, in a checkout."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from ambi_eval.config.generation import GenerationSettings
from ambi_eval.config.settings import Settings
from ambi_eval.config.task_settings import (
    CorpusSettings,
    Place,
    StopRuleSettings,
    TaskSettings,
    VerifierSettings,
    key_of,
)

PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"
REACHES: dict[Place, str] = {
    "everywhere": "every task",
    "samples": "tasks that sample: `pool: samples`",
    "beams": "tasks that search: `pool: beams`",
    "labels": "tasks that read likelihoods: `pool: labels`",
    "verifier": "tasks with a verifier",
}
TYPES = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`", list: "list", tuple: "list"}


def tables() -> dict[str, str]:
    """Return the tables of the page, by the name in their `<!-- table: NAME -->` line."""
    corpus = CorpusSettings.model_fields.keys()
    task = TaskSettings.model_fields.keys() - corpus - {"harness"}
    return {
        "corpus": _keys(TaskSettings, [name for name in TaskSettings.model_fields if name in corpus]),
        "strategy": _keys(TaskSettings, [name for name in TaskSettings.model_fields if name in task]),
        "generation": _keys(GenerationSettings, GenerationSettings.model_fields),
        "verifier": _keys(VerifierSettings, VerifierSettings.model_fields),
        "stop_rule": _keys(StopRuleSettings, StopRuleSettings.model_fields),
        "overrides": _overrides(),
    }


def written(page: str) -> str:
    """Return a page with every table of it as the settings say."""
    for name, table in tables().items():
        before, mark, rest = page.partition(f"<!-- table: {name} -->\n")
        assert mark, f"the page has no place for the table {name}"
        page = before + mark + table + rest[rest.index("<!-- end -->") :]
    return page


def _keys(kind: type[Settings], names: Iterable[str]) -> str:
    rows = [
        f"| `{name}` | {_type(kind.model_fields[name])} | {kind.model_fields[name].description} | "
        f"{_default(kind.model_fields[name])} |"
        for name in names
    ]
    return "\n".join(["| key | value | meaning | default |", "|---|---|---|---|", *rows, ""])


def _overrides() -> str:
    rows = [
        f"| `--metadata {key}=...` | `{name}`{' and `num_beams`' if key == 'beams' else ''} | {REACHES[place]} |"
        for kind, prefix in ((TaskSettings, ""), (VerifierSettings, "verifier."))
        for name in (f"{prefix}{field}" for field in kind.model_fields)
        for key, place in key_of(name.removeprefix(prefix), kind).overrides.items()
    ]
    return "\n".join(["| option | sets | reaches |", "|---|---|---|", *rows, ""])


def _type(field: FieldInfo) -> str:
    return " or ".join(_words(field.annotation))


def _words(annotation: Any) -> list[str]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return [", ".join(f"`{value}`" for value in arguments)]
    if origin in (Union, UnionType):
        return [word for argument in arguments if argument is not NoneType for word in _words(argument)]
    return [TYPES.get(origin or annotation, "`key: value`")]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default in (None, {}, [], ()):
        return "none"
    return f"`{field.default if isinstance(field.default, str) else json.dumps(field.default)}`"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

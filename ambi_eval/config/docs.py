"""Writes the tables of settings in docs/ from the settings: `python -m ambi_eval.config.docs`, in a checkout."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from ambi_eval.config import known_models
from ambi_eval.config.corpus_settings import CorpusSettings, PairSettings, Place, ShotSettings
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.config.model_arguments import ARGUMENTS, ModelArguments, ServerArguments, ServiceArguments
from ambi_eval.config.settings import Settings
from ambi_eval.config.task_settings import StopRuleSettings, TaskSettings, VerifierSettings, key_of

PAGES = [Path(__file__).parents[2] / "docs" / name for name in ("tasks.md", "models.md", "api_models.md")]
BASES = (ServiceArguments, ServerArguments, ModelArguments)
REACHES: dict[Place, str] = {
    "everywhere": "every task",
    "samples": "tasks that sample: `pool: samples`",
    "beams": "tasks that search: `pool: beams`",
    "labels": "tasks that read likelihoods: `pool: labels`",
    "verifier": "tasks with a verifier",
}
TYPES = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`", list: "list", tuple: "list"}


def tables() -> dict[str, str]:
    """Return the tables of all pages, by the name in their `<!-- table: NAME -->` line."""
    corpus = CorpusSettings.model_fields.keys()
    task = TaskSettings.model_fields.keys() - corpus - {"harness"}
    return {
        "corpus": _keys(TaskSettings, [name for name in TaskSettings.model_fields if name in corpus]),
        "strategy": _keys(TaskSettings, [name for name in TaskSettings.model_fields if name in task]),
        "generation": _keys(GenerationSettings, GenerationSettings.model_fields),
        "verifier": _keys(VerifierSettings, VerifierSettings.model_fields),
        "pairs": _keys(PairSettings, ["label"]),
        "shots": _keys(ShotSettings, ShotSettings.model_fields),
        "stop_rule": _keys(StopRuleSettings, StopRuleSettings.model_fields),
        "overrides": _overrides(),
        "models": known_models.table(),
        "model_args": _keys(ModelArguments, ModelArguments.model_fields),
        "service": _own_keys(ServiceArguments, ModelArguments),
        **{name: _own_keys(kind, next(b for b in BASES if issubclass(kind, b))) for name, kind in ARGUMENTS.items()},
    }


def written(page: str, known: Mapping[str, str] | None = None) -> str:
    """Return a page with its tables replaced by the current ones, by default those of `tables`."""
    known = tables() if known is None else known
    return re.sub(
        r"(<!-- table: (\S+) -->\n).*?(?=<!-- end -->)", lambda found: found[1] + known[found[2]], page, flags=re.DOTALL
    )


def _keys(kind: type[Settings], names: Iterable[str]) -> str:
    rows = [_row(name, kind.model_fields[name]) for name in names]
    return "\n".join(["| key | value | meaning | default |", "|---|---|---|---|", *rows, ""])


def _row(name: str, field: FieldInfo) -> str:
    value, meaning = " or ".join(_words(field.annotation)), " ".join((field.description or "").split())
    return f"| `{name}` | {value} | {meaning} | {_default(field)} |"


def _own_keys(kind: type[ModelArguments], beyond: type[ModelArguments]) -> str:
    """Return the table of a model's arguments without those of its base class `beyond`."""
    return _keys(kind, [name for name in kind.model_fields if name not in beyond.model_fields])


def _overrides() -> str:
    rows = [
        f"| `--metadata {key}=...` | `{name}`{' and `num_beams`' if key == 'beams' else ''} | {REACHES[place]} |"
        for kind, prefix in ((TaskSettings, ""), (VerifierSettings, "verifier."))
        for name in (f"{prefix}{field}" for field in kind.model_fields)
        for key, place in key_of(name.removeprefix(prefix), kind).overrides.items()
    ]
    return "\n".join(["| option | sets | reaches |", "|---|---|---|", *rows, ""])


def _words(annotation: Any) -> list[str]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0])
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
    for each in PAGES:
        each.write_text(written(each.read_text(encoding="utf-8")), encoding="utf-8")

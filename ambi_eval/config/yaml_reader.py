"""Reads YAML in two degrees of trust: a user's own task files, and files that anyone may have written."""

from __future__ import annotations

from typing import Any

import yaml

from ambi_eval.errors import AmbiError

DEPTH = 20


# The parser in C, some times as fast, where PyYAML was built with it. It may overflow its stack on text that is nested
# very deeply, so it reads only what `_refuse_all_but_plain_yaml` has let pass.
_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeys:
    """What YAML's safe loaders lack: they let the last one of equal keys win; with this they refuse them."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [str(key.value) for key, _ in node.value]
        if repeated := [key for key in keys if keys.count(key) > 1]:
            raise ValueError(f"the key '{repeated[0]}' stands there twice")
        found: dict[Any, Any] = super().construct_mapping(node, deep)  # type: ignore[misc]
        return found


class _PlainLoader(_UniqueKeys, _FAST):
    """Plain YAML."""


class _TaskLoader(_UniqueKeys, yaml.SafeLoader):
    """YAML as the harness reads it, with `!function` left as its text: nothing is imported or run."""


_TaskLoader.add_constructor("!function", lambda loader, node: str(node.value))


def parse_yaml(text: str, where: str, *, trusted: bool) -> Any:
    """Return the content of a YAML text.

    Args:
        text: The text.
        where: What error messages call it.
        trusted: Whether it is the user's own: such a text may use anchors and `!function`. In others, everything is
            written out, at most 20 levels deep.

    Raises:
        AmbiError: If it is no YAML, has a key twice, or uses what it may not.
    """
    try:
        if not trusted:
            _refuse_all_but_plain_yaml(text, where)
        return yaml.load(text, Loader=_TaskLoader if trusted else _PlainLoader)
    except RecursionError as error:
        raise AmbiError(f"{where} is nested too deeply to be read") from error
    except (yaml.YAMLError, ValueError) as error:
        said = " ".join(str(error).replace(' in "<unicode string>"', "").split()).replace(" ,", ",")
        raise AmbiError(f"{where} is not valid YAML: {said[:300]}") from error


def _refuse_all_but_plain_yaml(text: str, where: str) -> None:
    """Look through the text without recursion: only what passes here is built, and building is recursive."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:
            raise AmbiError(f"{where} is nested deeper than {DEPTH} levels.")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise AmbiError(f"{where} uses an anchor or alias; write everything out.")
        if tag := getattr(event, "tag", None):
            raise AmbiError(f"{where} uses the tag '{tag}'; tags are not allowed.")

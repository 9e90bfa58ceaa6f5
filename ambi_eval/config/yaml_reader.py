"""Reads YAML: a user's own files with all features, and files from other people with plain ones only."""

from __future__ import annotations

from typing import Any

import yaml

from ambi_eval.errors import AmbiError

DEPTH = 20


# The parser in C is several times faster, if PyYAML was built with it. Very deeply nested text may overflow its stack,
# so it reads only text that `_refuse_all_but_plain_yaml` has accepted.
_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeys:
    """A mixin for PyYAML's loaders that refuses repeated keys; they take the last one silently."""

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
        where: Its name in error messages.
        trusted: Whether it is the user's own, and so may use anchors and `!function`. Other texts may not, and have at
            most 20 levels.

    Raises:
        AmbiError: If it is not valid YAML, has a key twice, or uses a feature that it may not.
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
    """Raise for anchors, tags and deep nesting; this parses without recursion, as the loader itself does not."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:
            raise AmbiError(f"{where} is nested deeper than {DEPTH} levels.")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise AmbiError(f"{where} uses an anchor or alias; write everything out.")
        if tag := getattr(event, "tag", None):
            raise AmbiError(f"{where} uses the tag '{tag}'; tags are not allowed.")

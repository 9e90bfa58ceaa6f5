"""Reads YAML: a user's own files with all features, and files from other people with plain ones only."""

from __future__ import annotations

from typing import Any

import yaml

from ambi_eval.errors import AmbiError

# Levels of mappings and lists, one in another, that a text may have: in anybody's file, and in the user's own.
DEPTH = 20
OWN_DEPTH = 200


# The loader in C is about ten times faster, if PyYAML was built with it. Its parser counts levels without recursion,
# but very deeply nested text would overflow its stack when it builds the content: `_refuse` comes first.
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


class _TaskLoader(_UniqueKeys, _FAST):
    """YAML as the harness reads it, with `!function` left as its text: nothing is imported or run."""


_TaskLoader.add_constructor("!function", lambda loader, node: str(node.value))


def parse_yaml(text: str, where: str, *, trusted: bool) -> Any:
    """Return the content of a YAML text, which messages call `where`.

    A `trusted` text is the user's own, and so may use anchors and `!function`. Other texts may not, and have at most 20
    levels.

    Raises:
        AmbiError: If it is not valid YAML, has a key twice, is nested too deeply, or uses a feature that it may not.
    """
    try:
        _refuse(text, where, trusted)
        return yaml.load(text, Loader=_TaskLoader if trusted else _PlainLoader)
    except (yaml.YAMLError, ValueError) as error:
        said = " ".join(str(error).replace(' in "<unicode string>"', "").split()).replace(" ,", ",")
        raise AmbiError(f"{where} is not valid YAML: {said[:300]}") from error


def _refuse(text: str, where: str, trusted: bool) -> None:
    """Raise for deep nesting and, unless the text is trusted, for anchors and tags; this parses without recursion."""
    most, parser = (OWN_DEPTH, _FAST) if trusted else (DEPTH, yaml.SafeLoader)
    depth = 0
    for event in yaml.parse(text, Loader=parser):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > most:
            raise AmbiError(f"{where} is nested deeper than {most} levels.")
        if trusted:
            continue
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise AmbiError(f"{where} uses an anchor or alias; write everything out.")
        if tag := getattr(event, "tag", None):
            raise AmbiError(f"{where} uses the tag '{tag}'; tags are not allowed.")

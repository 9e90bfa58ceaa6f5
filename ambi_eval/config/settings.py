"""`Settings`: the base of all sets of keys that a user may write; a mistake gives one clear sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from typing_extensions import Self

from ambi_eval.errors import AmbiError, did_you_mean

# pydantic's names of errors -> how a message continues after "it must be"; other errors keep pydantic's own words.
PLAIN_WORDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number of less than 4,300 digits",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "`key: value` lines",
    "mapping_type": "`key: value` lines",
    "model_type": "`key: value` lines",
    "model_attributes_type": "`key: value` lines",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "string_pattern_mismatch": "text like {pattern}",
    "string_too_short": "text of at least {min_length} character(s)",
    "string_too_long": "text of at most {max_length} characters",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
}
LONGEST_VALUE, LONGEST_KEY = 80, 200


class Settings(BaseModel):
    """A set of keys with types, defaults and descriptions; other keys are refused.

    A description is the text below a key. Types are strict: `"5"` and `true` are no numbers. Settings are immutable;
    `model_copy` returns changed ones.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @classmethod
    def read(cls, given: Any, where: str) -> Self:
        """Return the settings that a mapping holds.

        Args:
            given: The mapping, as read from YAML, JSON or the command line.
            where: The place of the mapping in error messages: the path of a file, `--model_args` ...

        Raises:
            AmbiError: For the first mistake; the sentence names the place, the key, the value and the fix.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise AmbiError.of([f"{where}: {each}" for each in problems(cls, error, given)]) from error


def problems(kind: type[BaseModel], error: ValidationError, given: Any) -> list[str]:
    """Return one clause for each mistake that pydantic found in a mapping, without the place of the mapping.

    Unknown keys come first, because a key that is missing may be one of them with a typing error.
    """
    by_key: dict[tuple[Any, ...], list[ErrorDetails]] = {}
    for each in error.errors(include_url=False):
        by_key.setdefault(_path_in(given, each), []).append(each)
    ordered = sorted(by_key.items(), key=lambda item: item[1][0]["type"] != "extra_forbidden")
    return [_clause(kind, path, errors) for path, errors in ordered]


def show_value(value: Any) -> str:
    """Return a user's value for an error message: one line of at most 80 characters."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write integers of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def _path_in(given: Any, error: ErrorDetails) -> tuple[Any, ...]:
    """Return the path of an error in the mapping, without the names that pydantic adds for members of a union."""
    path: list[Any] = []
    for step in error["loc"]:
        try:
            given = given[step]
        except (KeyError, IndexError, TypeError):
            return (*path, step) if error["type"] == "missing" else tuple(path)
        path.append(step)
    return tuple(path)


def _clause(kind: type[BaseModel], path: tuple[Any, ...], errors: list[ErrorDetails]) -> str:
    """Return what is wrong with one key; there are several `errors` if the key may have one of several types."""
    first, key = errors[0], ".".join(map(str, path))[:LONGEST_KEY]
    if first["type"] == "extra_forbidden":
        known = _known_keys(kind, path[:-1])
        hint = did_you_mean(str(path[-1]), known) or f" ({', '.join(sorted(known))})"
        return f"unknown key '{key}'{hint}"
    if first["type"] == "missing":
        return f"the key '{key}' is missing"
    if first["type"] == "value_error" and not path:
        return str(first["ctx"]["error"])
    value = show_value(first["input"])
    if not path:
        return f"it must hold `key: value` lines, it holds {value}"
    must_be = f"must be {' or '.join(map(_must_be, errors))}"
    names = [name for each in errors if each["type"] == "literal_error" for name in _names(each)]
    if hint := did_you_mean(value.strip("'"), names):
        return f"{key} is {value}{hint} It {must_be}"
    return f"{key} is {value}; it {must_be}"


def _must_be(error: ErrorDetails) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] == "literal_error":
        names = _names(error)
        return f"one of {', '.join(names)}" if len(names) > 1 else names[0]
    if words := PLAIN_WORDS.get(error["type"]):
        return words.format(**error.get("ctx", {}))
    return error["msg"].removeprefix("Input should be ")


def _names(error: ErrorDetails) -> list[str]:
    """Return the allowed values of a key from pydantic's text `'a', 'b' or 'c'`."""
    return re.findall(r"'([^']*)'", error["ctx"]["expected"])


def _known_keys(kind: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    for step in path:
        if step in kind.model_fields:
            kind = next(_models_in(kind.model_fields[step].annotation), kind)
    return [field.alias or name for name, field in kind.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)

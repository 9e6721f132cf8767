"""Whether parsed JSON is as a schema says: the part of JSON Schema that `mdtree.output_schema` uses, and no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mdtree.errors import InputError
from mdtree.report_words import visible

Schema = Mapping[str, Any]

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (isinstance(value, int) and not isinstance(value, bool)) or _is_whole(value),
}

_ARTICLES = {"object": "an object", "array": "a list", "integer": "an integer", "string": "a text", "null": "null"}


def check_schema(values: Any, schema: Schema, where: str) -> None:
    """Refuse what is not as the schema says.

    Parameters
    ----------
    values : object
        Parsed JSON.
    schema : mapping
        With the keywords type, const, enum, minimum, maximum, properties, required, additionalProperties,
        propertyNames, items and anyOf.
    where : str
        How to call the values in an error.

    Raises
    ------
    InputError
        Names the first place that is not as it should be, and what should stand there.
    """
    _check_value(values, schema, where)
    if isinstance(values, dict):
        _check_object(values, schema, where)
    elif isinstance(values, list) and "items" in schema:
        for number, value in enumerate(values):
            check_schema(value, schema["items"], f"{where}[{number}]")


def _check_value(value: Any, schema: Schema, where: str) -> None:
    kind = schema.get("type")
    if kind is not None and not _TYPES[kind](value):
        raise InputError(f"{where} is not {_ARTICLES.get(kind, f'a {kind}')}")
    if "const" in schema and not _same(value, schema["const"]):
        raise InputError(f"{where} is not {schema['const']!r}")
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        raise InputError(f"{where} is not known", f"one of {', '.join(map(str, schema['enum']))}")
    if "minimum" in schema and value < schema["minimum"]:
        raise InputError(f"{where} is less than {schema['minimum']}")
    if "maximum" in schema and value > schema["maximum"]:
        raise InputError(f"{where} is more than {schema['maximum']}")
    if "anyOf" in schema:
        _check_any(value, schema["anyOf"], where)


def _check_object(values: Mapping[str, Any], schema: Schema, where: str) -> None:
    for name in schema.get("required", ()):
        if name not in values:
            raise InputError(f"{where} has no {name}")
    known, other = schema.get("properties", {}), schema.get("additionalProperties")
    for name, value in values.items():
        inner = known.get(name, other)
        if "propertyNames" in schema:
            _check_value(name, schema["propertyNames"], f"the name {visible(name, 40)!r} in {where}")
        if inner is not None:
            check_schema(value, inner, f"{where}.{visible(name, 40)}")


def _check_any(value: Any, choices: list[Schema], where: str) -> None:
    refused = None
    for choice in choices:
        try:
            return check_schema(value, choice, where)
        except InputError as error:
            refused = refused or error
    if refused is not None:
        raise refused


def _same(value: Any, other: Any) -> bool:
    """1 and 1.0 are the same number, 1 and true are not the same."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()

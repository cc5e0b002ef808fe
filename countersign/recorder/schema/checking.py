"""Holds a document against our own JSON Schema: enough of it for that one, and not a library more for users.

What is not told is what is not there to be wrong: unknown keys are let through, for keys are only ever added.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from countersign.recorder.schema import load_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LARGEST = 2**63 - 1  # what the store takes


def what_is_wrong(document: Any, definition: str = "recording") -> str | None:
    """The first thing in the document that is not as the schema's definition has it; None where all is."""
    definitions = _definitions()
    return _wrong(document, definitions[definition], definitions, "")


@cache
def _definitions() -> Mapping[str, Any]:
    return load_schema()["$defs"]  # type: ignore[no-any-return]


def _wrong(value: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any], at: str) -> str | None:
    if "$ref" in schema:
        return _wrong(value, definitions[schema["$ref"].rpartition("/")[2]], definitions, at)
    here = at.lstrip(".") or "it"
    if "anyOf" in schema:
        tried = [_wrong(value, one, definitions, at) for one in schema["anyOf"]]
        return None if None in tried else tried[0]
    if "const" in schema and value != schema["const"]:
        return f"{here}: expected {schema['const']!r}, got {_shown(value)}"
    if "enum" in schema and not any(
        value is one or (type(value) is type(one) and value == one) for one in schema["enum"]
    ):
        return f"{here}: expected one of {', '.join(map(str, schema['enum']))}, got {_shown(value)}"
    kinds = schema.get("type")
    if kinds is not None:
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if not any(_KINDS[kind](value) for kind in kinds):
            return f"{here}: expected {' or '.join(kinds)}, got {_shown(value)}"
    return _bounds(value, schema, here) or _inside(value, schema, definitions, at)


def _bounds(value: Any, schema: Mapping[str, Any], here: str) -> str | None:
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            return f"{here}: it is empty"
        if "pattern" in schema and not re.search(_closed(schema["pattern"]), value):
            return f"{here}: expected {schema['pattern']}, got {_shown(value)}"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        least, most = schema.get("minimum", -_LARGEST), schema.get("maximum", _LARGEST)
        if not least <= value <= most:
            return f"{here}: expected {least} to {most}, got {_shown(value)}"
    return None


def _closed(pattern: str) -> str:
    """In JSON Schema ``$`` is the end of the text (ECMA-262), in Python the place before a last line feed as well."""
    return f"{pattern[:-1]}\\Z" if pattern.endswith("$") else pattern


def _inside(value: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any], at: str) -> str | None:
    if isinstance(value, dict):
        for key in schema.get("required", ()):
            if key not in value:
                return f"{f'{at}.{key}'.lstrip('.')}: it is missing"
        for key, inner in schema.get("properties", {}).items():
            if key in value and (wrong := _wrong(value[key], inner, definitions, f"{at}.{key}")):
                return wrong
    elif isinstance(value, list) and "items" in schema:
        for number, entry in enumerate(value):
            if wrong := _wrong(entry, schema["items"], definitions, f"{at}[{number}]"):
                return wrong
    return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


_KINDS: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": _is_integer,
    "number": _is_number,
}

"""Values of the model out of TOML and back, and what an editor is told of them: three uses of one annotation.

A frozen dataclass is a table whose keys are its fields; what may stand at a key is the field's annotation. So nothing
about a scenario is said twice: a field that is added to the model is read, written and in the schema. A few kinds of
values have words of their own in TOML: durations, moments, recipes, the faults of responders and of the wire.
"""

from __future__ import annotations

import math
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from datetime import date, datetime, time
from types import MappingProxyType
from typing import Any, Literal

from countersign.ca.recipes import Recipe, RecipeError, to_toml
from countersign.ca.recipes.reading import read_recipe
from countersign.ca.revocation import Fault, fault_of
from countersign.errors import UserError
from countersign.proxy.faults import WireFault, read_fault
from countersign.scenarios.model import Duration, Mistake, Moment, nearest

Json = dict[str, Any]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d|w)?", re.ASCII)


def read(kind: Any, value: Any, path: str = "") -> Any:
    """``value`` (of TOML) as this annotation has it. Raises :class:`Mistake` with the path of what is wrong."""
    if kind in _OWN:
        return _own(kind, value, path)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        return _one_of(inner, value, path)
    if origin is Literal:
        if value not in inner or type(value) is not str:
            hint = nearest(value, inner) if isinstance(value, str) else ""
            raise Mistake(path, f"expected {_listed(inner)}, got {_shown(value)}{hint}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise Mistake(path, f"expected a list, got {_shown(value)}")
        return tuple(read(inner[0], each, _at(path, str(number))) for number, each in enumerate(value, 1))
    if origin is Mapping:
        table = _table(value, path)
        return MappingProxyType({key: read(inner[1], each, _at(path, key)) for key, each in table.items()})
    if isinstance(kind, type) and is_dataclass(kind):
        return _made(kind, value, path)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise Mistake(path, f"expected {_NAMES[kind]}, got {_shown(value)}")
    return value


def _one_of(kinds: tuple[Any, ...], value: Any, path: str) -> Any:
    """The only one of several kinds, or the first that takes it."""
    kinds = _without_none(kinds)
    if len(kinds) == 1:
        return read(kinds[0], value, path)
    mistakes = []
    for kind in kinds:
        try:
            return read(kind, value, path)
        except Mistake as wrong:
            mistakes.append((kind, wrong))
    meant = [
        wrong
        for kind, wrong in mistakes
        if (isinstance(value, dict) and kind in _OWN)
        or (isinstance(value, str) and typing.get_origin(kind) is Literal)
        or (isinstance(value, list) and typing.get_origin(kind) is tuple)
    ]
    if meant:
        raise meant[0]
    raise Mistake(
        path, f"expected {' or '.join(_NAMES.get(kind, 'a table') for kind, _ in mistakes)}, got {_shown(value)}"
    )


def _without_none(kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    """The kinds of a union but None; those of a moment, which is a union itself, are one."""
    kinds = tuple(each for each in kinds if each is not type(None))
    return (Moment,) if set(kinds) == set(typing.get_args(Moment)) else kinds


def _made(kind: type[Any], value: Any, path: str) -> Any:
    table = _table(value, path)
    known = keys(kind)
    given = {}
    for key, each in table.items():
        if key not in known:
            raise Mistake(_at(path, key), f"there is no such key{nearest(key, known)}; expected {_listed(known)}")
        one = known[key]
        given[one.name] = read(hints(kind)[one.name], each, _at(path, key))
    for key, one in known.items():
        if one.name not in given and one.default is MISSING and one.default_factory is MISSING:
            raise Mistake(_at(path, key), "expected this key, and it is not there")
    try:
        return kind(**given)
    except UserError as wrong:
        raise _placed(wrong, path) from wrong


def write(kind: Any, value: Any) -> Any:
    """The value as TOML (and JSON) has it; of tables only what is otherwise than unless said."""
    for own in _OWN.values():
        if own.is_one(value) and own.applies(kind):
            return own.write(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {
            key: write(hints(type(value))[one.name], there)
            for key, one in keys(type(value)).items()
            if (there := getattr(value, one.name)) is not None and there != default_of(one)
        }
    if isinstance(value, tuple):
        (inner,) = {each for each in _inner(kind) if each is not Ellipsis} or {Any}
        return [write(inner, each) for each in value]
    if isinstance(value, Mapping):
        inner = next(iter(reversed(_inner(kind))), Any)
        return {key: write(inner, each) for key, each in value.items()}
    return value


def _inner(kind: Any) -> tuple[Any, ...]:
    """What a tuple or mapping holds, also where the annotation has None beside it."""
    if typing.get_origin(kind) in {types.UnionType, typing.Union}:
        kind = next((each for each in typing.get_args(kind) if typing.get_origin(each) in {tuple, Mapping}), kind)
    return typing.get_args(kind)


def schema(kind: Any) -> Json:
    """The JSON Schema (2020-12) of what may stand there."""
    if kind in _OWN:
        return dict(_OWN[kind].schema)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        found = [schema(each) for each in _without_none(inner)]
        return found[0] if len(found) == 1 else {"anyOf": found}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple:
        return {"type": "array", "items": schema(inner[0])}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": schema(inner[1])}
    if isinstance(kind, type) and is_dataclass(kind):
        return table_schema(kind)
    return {"type": _JSON_TYPES[kind]}


def table_schema(kind: type[Any]) -> Json:
    """The JSON Schema of a table, its keys closed."""
    known = keys(kind)
    found: Json = {
        "type": "object",
        "properties": {key: schema(hints(kind)[one.name]) for key, one in known.items()},
        "additionalProperties": False,
    }
    needed = [k for k, one in known.items() if one.default is MISSING and one.default_factory is MISSING]
    if needed:
        found["required"] = needed
    return found


# -- dataclasses -------------------------------------------------------------------------------------------------

_HINTS: dict[type[Any], dict[str, Any]] = {}
_RENAMED = {"steps": "step"}
"""What a field is called in TOML, where that is an array of tables with a name for one."""


def keys(kind: type[Any]) -> dict[str, Field[Any]]:
    """The fields of a dataclass by their keys in TOML."""
    return {_RENAMED.get(each.name, each.name): each for each in fields(kind)}


def hints(kind: type[Any]) -> dict[str, Any]:
    """The annotations of its fields, as types."""
    found = _HINTS.get(kind)
    if found is None:
        found = _HINTS[kind] = typing.get_type_hints(kind)
    return found


def default_of(one: Field[Any]) -> Any:
    return one.default_factory() if one.default_factory is not MISSING else one.default


def _at(path: str, key: str) -> str:
    return ".".join(each for each in (path, key) if each)


def _table(value: Any, path: str) -> Json:
    if not isinstance(value, dict):
        raise Mistake(path, f"expected a table, got {_shown(value)}")
    return value


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names))


def _shown(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value if len(value) <= 60 else f"{value[:60]}...")
        case int() | float():
            return "a number" if len(f"{value:.0e}") > 60 or abs(value) > 1e15 else str(value)
        case list():
            return "a list"
        case dict():
            return "a table"
    return "a date"


_NAMES: dict[Any, str] = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", bytes: "bytes in hexadecimal digits",
    Recipe: "a table of a recipe",
}  # fmt: skip
_JSON_TYPES: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


# -- kinds with words of their own -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Own:
    """A kind of value that TOML has in words."""

    type: Any
    read: Callable[[Any], Any]
    write: Callable[[Any], Any]
    schema: Json
    hint: Any = None

    def is_one(self, value: Any) -> bool:
        return isinstance(value, self.type)

    def applies(self, kind: Any) -> bool:
        """Numbers are durations only where the annotation says so."""
        return self.hint is None or kind is self.hint or self.hint in typing.get_args(kind)


def _own(kind: Any, value: Any, path: str) -> Any:
    try:
        return _OWN[kind].read(value)
    except UserError as wrong:
        raise _placed(wrong, path) from wrong


def _placed(wrong: UserError, path: str) -> Mistake:
    """The mistake at the whole path; those who check their own values say which key it was (``key``)."""
    text = wrong.text if isinstance(wrong, Mistake) else str(wrong)
    return Mistake(_at(path, str(getattr(wrong, "key", ""))), text)


def duration(value: Any) -> Duration:
    """``"90s"``, ``"14d"``, ``1.5`` (seconds). Raises :class:`Mistake`."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 1e12:
        return Duration(float(value))
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise Mistake("", f'expected a time such as "90s", "15m", "36h" or "14d", got {_shown(value)}')
    return Duration(float(found[1]) * _UNITS[found[2] or "s"])


def duration_text(seconds: float) -> str:
    """In the largest unit that makes a whole number of it."""
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def _moment(value: Any) -> Moment:
    if isinstance(value, datetime | time):
        return value
    if isinstance(value, str) and not isinstance(value, date):
        for kind in (time, datetime):
            try:
                return kind.fromisoformat(value)
            except ValueError:
                continue
    raise Mistake("", f"expected a moment (2026-12-01T02:00:00Z) or a time of day (02:00:00), got {_shown(value)}")


def _read_recipe(value: Any) -> Recipe:
    if not isinstance(value, dict):
        raise Mistake("", f"expected the table of a recipe, got {_shown(value)}")
    try:
        return read_recipe("own", value, where="the scenario")
    except RecipeError as wrong:
        raise Mistake(
            "", str(wrong).removeprefix("cannot read the recipe in the scenario, [own]").lstrip(" :")
        ) from wrong


def _write_recipe(recipe: Recipe) -> Json:
    (found,) = tomllib.loads(to_toml(recipe)).values()
    return dict(found)


def _read_fault(value: Any) -> Fault:
    if not isinstance(value, str | dict):
        raise Mistake("", f'expected a fault in words ("ocsp:tryLater") or as a table, got {_shown(value)}')
    return fault_of(value)


def _read_wire(value: Any) -> WireFault:
    if not isinstance(value, dict):
        raise Mistake("", f"expected the table of a fault, got {_shown(value)}")
    return read_fault(value)


def _write_wire(fault: WireFault) -> Json:
    place: Json = {"within": fault.offset} if fault.place == "within" else {"place": fault.place}
    options = {key: each.hex() if isinstance(each, bytes) else each for key, each in fault.options.items()}
    return {"do": fault.do, "leg": fault.leg, "to": fault.to, "at": fault.at, **place, **options}


def _read_bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise Mistake("", f"expected bytes in hexadecimal digits, got {_shown(value)}")
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise Mistake("", f"expected bytes in hexadecimal digits, got {_shown(value)}") from None


_OWN: dict[Any, _Own] = {
    Duration: _Own(
        float, duration, duration_text, {"type": ["string", "number"], "examples": ["90s", "14d"]}, hint=Duration
    ),
    Moment: _Own((datetime, time), _moment, lambda value: value.isoformat(), {"type": "string"}),
    Recipe: _Own(Recipe, _read_recipe, _write_recipe, {"type": "object"}),
    Fault: _Own(Fault, _read_fault, str, {"type": ["string", "object"], "examples": ["ocsp:tryLater"]}),
    WireFault: _Own(
        WireFault,
        _read_wire,
        _write_wire,
        {"type": "object", "properties": {"do": {"type": "string"}}, "required": ["do"]},
    ),
    bytes: _Own(bytes, _read_bytes, bytes.hex, {"type": "string", "pattern": "^([0-9a-fA-F]{2})*$"}),
}

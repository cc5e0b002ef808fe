"""Recipes as TOML: one table a recipe, its name the recipe's id, its keys the fields of :class:`Recipe`.

    [leaf-expired]
    title = "The leaf has expired"
    wrong = "notAfter was yesterday"
    breaks = ["leaf.not_after"]
    leaf.not_after = "-1d"

``false`` leaves a field out, ``{ der = "0500" }`` puts these bytes there. A certificate beside the usual three is
``other.NAME``. Reading is strict: a key that is none, or a value of the wrong kind, is an error that names file, recipe
and key, what was expected, and the nearest right name. :func:`to_toml` writes what :func:`read_recipes` reads.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.ca.recipes.changing import check
from countersign.ca.recipes.model import (
    BasicConstraints,
    CertSpec,
    Extension,
    NameConstraints,
    Recipe,
    RecipeError,
    Send,
)
from countersign.errors import UserError
from countersign.recorder.private_files import FileFault, read_regular
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    Reader = Callable[[Any], Any]


_LARGEST = 1 << 20  # bytes
_MOST = 2_000


def load_recipes(path: str | os.PathLike[str]) -> dict[str, Recipe]:
    """The recipes in a file by their ids. Raises :class:`RecipeError`."""
    path = Path(path)
    try:
        data = read_regular(path, at_most=_LARGEST)
    except FileFault as wrong:
        raise RecipeError(f"cannot use the recipes: {wrong}") from wrong
    if data is None:
        raise RecipeError(f"cannot read the recipes in {path}: no such file or directory; name a TOML file")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as wrong:
        raise RecipeError(f"cannot read the recipes in {path}: it is not UTF-8 (byte {wrong.start})") from wrong
    return read_recipes(text, where=str(path))


def read_recipes(text: str, *, where: str = "the text") -> dict[str, Recipe]:
    """The recipes in TOML ``text`` by their ids; ``where`` is how errors call it. Raises :class:`RecipeError`."""
    tables = read_toml(text, "recipes", where)
    if len(tables) > _MOST:
        raise RecipeError(f"cannot read the recipes in {where}: there are {len(tables)}, expected at most {_MOST}")
    return {name: read_recipe(name, table, where=where) for name, table in tables.items()}


def read_toml(text: str, what: str, where: str) -> dict[str, Any]:
    """The tables of a TOML file of ``what``, called ``where`` in errors. Raises :class:`RecipeError`."""
    try:
        return tomllib.loads(text)
    except ValueError as wrong:  # a number of more digits than Python takes is one too
        raise RecipeError(f"cannot read the {what} in {where}: it is not TOML ({printable(str(wrong))})") from wrong
    except RecursionError as wrong:
        raise RecipeError(f"cannot read the {what} in {where}: its lists or tables are too deep") from wrong


def read_recipe(name: str, table: Any, *, where: str) -> Recipe:
    """The recipe that a table of TOML is; ``where`` is the file that it stands in. Raises :class:`RecipeError`."""
    place = _Place(where, f"[{name}]")
    if not isinstance(table, dict):
        raise place.error(f"expected a table of its own for each recipe, got {_kind(table)}")
    return _recipe(name, table, place)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where we are in a file, for errors."""

    file: str
    path: str

    def at(self, key: str) -> _Place:
        return _Place(self.file, f"{self.path} {key}" if self.path.endswith("]") else f"{self.path}.{key}")

    def error(self, what: str) -> RecipeError:
        return RecipeError(f"cannot read the recipe in {self.file}, {printable(self.path)}: {printable(what)}")

    def unknown(self, key: str, known: Iterable[str]) -> RecipeError:
        known = sorted(known)
        near = difflib.get_close_matches(key, known, 1, 0.5)
        return self.error(
            f"there is no {key!r} here; {f'did you mean {near[0]}? ' if near else ''}expected {', '.join(known)}"
        )


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number with a point", str: "text", list: "a list"}
    return names.get(type(value), "a table" if isinstance(value, dict) else "a date")


def _recipe(name: str, table: dict[str, Any], place: _Place) -> Recipe:
    given: dict[str, Any] = {"id": name}
    for key, value in table.items():
        here = place.at(key)
        match key:
            case "leaf" | "intermediate" | "root":
                given[key] = _spec(value, here)
            case "other":
                given[key] = tuple(_spec(each, here.at(one), name=one) for one, each in _table(value, here).items())
            case "send":
                given[key] = _read_table(Send, _SEND, value, here)
            case _ if key in _RECIPE:
                given[key] = _read(_RECIPE[key], value, here)
            case _:
                raise place.unknown(key, {*_RECIPE, "leaf", "intermediate", "root", "other", "send"})
    try:
        return Recipe(**given)
    except RecipeError as wrong:
        raise place.error(str(wrong)) from wrong


def _spec(table: Any, place: _Place, *, name: str = "") -> CertSpec:
    given = {key: _read_key(_SPEC, key, value, place) for key, value in _table(table, place).items()}
    for key, value in given.items():
        try:
            check(CertSpec(**{key: value}))
        except UserError as wrong:
            raise place.at(key).error(str(wrong)) from wrong
    return CertSpec(name=name, **given)


def _read_table(kind: type[Any], readers: dict[str, _Reader], table: Any, place: _Place) -> Any:
    return kind(**{key: _read_key(readers, key, value, place) for key, value in _table(table, place).items()})


def _read_key(readers: dict[str, _Reader], key: str, value: Any, place: _Place) -> Any:
    if key not in readers:
        raise place.unknown(key, readers)
    return _read(readers[key], value, place.at(key))


def _table(value: Any, place: _Place) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise place.error(f"expected a table, got {_kind(value)}")
    return value


# -- kinds of values ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reader:
    """The kinds of value that a key takes, as letters of :data:`_KINDS`, and the table that may stand there."""

    letters: str
    table: type[Any] | None = None

    @property
    def expected(self) -> str:
        kinds = [_KINDS[letter] for letter in self.letters]
        if self.table:
            kinds.insert(0, "{ " + ", ".join(f"{each.name} = ..." for each in fields(self.table)) + " }")
        return " or ".join(kinds)


_KINDS = {
    "t": "text",
    "n": "a number",
    "h": 'a number in hexadecimal ("0x1f", "-0x01")',
    "w": "a list of texts",
    "b": "true or false",
    "f": "false",
    "d": '{ der = "hexadecimal digits" }',
    "x": 'hexadecimal digits in quotes ("0500")',
    "e": 'a list of { oid = "1.2.3", value = "0500", critical = true }',
}

_RECIPE = {
    "title": _Reader("t"),
    "wrong": _Reader("t"),
    "rfc": _Reader("t"),
    "breaks": _Reader("w"),
    "role": _Reader("t"),
    "mimic": _Reader("b"),
    "trust": _Reader("w"),
    "impostor": _Reader("b"),
    "served": _Reader("b"),
    "host": _Reader("t"),
    "handshake": _Reader("t"),
    "openssl": _Reader("t"),
    "openssl_strict": _Reader("t"),
    "jvm": _Reader("t"),
    "cryptography": _Reader("t"),
}
_SEND = {"order": _Reader("tw"), "unrelated": _Reader("n"), "count": _Reader("n"), "size": _Reader("n")}
_TEXTS, _LISTS = _Reader("t"), _Reader("wfd")
_SPEC = {
    "like": _TEXTS,
    "subject_of": _TEXTS,
    "key_of": _TEXTS,
    "issuer": _TEXTS,
    "signed_by": _TEXTS,
    "issuer_name": _Reader("wd"),
    "version": _Reader("nd"),
    "serial": _Reader("nhd"),
    "not_before": _TEXTS,
    "not_after": _TEXTS,
    "validity": _Reader("d"),
    "subject": _Reader("wd"),
    "key": _TEXTS,
    "public_key": _Reader("d"),
    "signature": _TEXTS,
    "signature_broken": _Reader("b"),
    "inner_algorithm": _Reader("td"),
    "outer_algorithm": _Reader("td"),
    "extensions": _Reader("f"),
    "san": _LISTS,
    "more_names": _Reader("n"),
    "basic_constraints": _Reader("fd", BasicConstraints),
    "key_usage": _LISTS,
    "more_key_usage": _Reader("w"),
    "extended_key_usage": _LISTS,
    "ski": _Reader("tfd"),
    "aki": _Reader("tfd"),
    "name_constraints": _Reader("fd", NameConstraints),
    "policies": _LISTS,
    "ocsp": _Reader("wf"),
    "ca_issuers": _Reader("wf"),
    "crl": _LISTS,
    "must_staple": _Reader("bd"),
    "scts": _Reader("nfd"),
    "extra": _Reader("e"),
    "twice": _Reader("w"),
    "critical": _Reader("w"),
    "not_critical": _Reader("w"),
}
_INNER: dict[type[Any], dict[str, _Reader]] = {
    BasicConstraints: {"ca": _Reader("b"), "path_length": _Reader("n")},
    NameConstraints: {"permitted": _Reader("w"), "excluded": _Reader("w")},
    Extension: {"oid": _Reader("t"), "value": _Reader("x"), "critical": _Reader("b")},
}


def _read(reader: _Reader, value: Any, place: _Place) -> Any:
    """``value`` as the field takes it."""
    for letter in reader.letters:
        found = _taken(letter, value, place)
        if found is not _NOT_TAKEN:
            return found
    if reader.table and isinstance(value, dict):
        return _read_table(reader.table, _INNER[reader.table], value, place)
    raise place.error(f"expected {reader.expected}, got {_kind(value)}")


_NOT_TAKEN: Any = object()


def _taken(letter: str, value: Any, place: _Place) -> Any:
    match letter, value:
        case "b", bool():
            return value
        case "f", bool() if not value:
            return value
        case "n", int() if not isinstance(value, bool):
            return value
        case "t", str():
            return value
        case "h", str():
            try:
                return int(value, 16)
            except ValueError:
                raise place.error(f"expected {_KINDS['h']}, got {value!r}") from None
        case "w", list() if all(isinstance(each, str) for each in value):
            return tuple(value)
        case "x", str():
            return _bytes(value, place)
        case "d", {"der": str() as digits, **rest} if not rest:
            return _bytes(digits, place)
        case "e", list():
            return tuple(
                _read_table(Extension, _INNER[Extension], each, place.at(str(number)))
                for number, each in enumerate(value, 1)
            )
    return _NOT_TAKEN


def _bytes(digits: str, place: _Place) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise place.error(f"expected pairs of hexadecimal digits, got {digits!r}") from None


# -- writing -----------------------------------------------------------------------------------------------------


def to_toml(recipe: Recipe) -> str:
    """The table of a recipe, with what is otherwise than by default and nothing else."""
    lines = [f"[{_key(recipe.id)}]"]
    for each in fields(Recipe):
        value = getattr(recipe, each.name)
        if each.name in _RECIPE and value != each.default:
            lines.append(f"{each.name} = {_value(value)}")
    for name, spec in recipe.specs.items():
        prefix = name if name in {"leaf", "intermediate", "root"} else f"other.{_key(name)}"
        lines += [f"{prefix}.{key} = {_value(value, key)}" for key, value in spec.changed.items()]
        if not spec.changed and prefix.startswith("other."):
            lines.append(f"{prefix} = {{}}")
    for each in fields(Send):
        if (value := getattr(recipe.send, each.name)) != each.default:
            lines.append(f"send.{each.name} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if name and all(each.isascii() and (each.isalnum() or each in "-_") for each in name) else _text(name)


def _text(text: str) -> str:
    """A basic string of TOML 1.0: JSON's, but that DEL has to be escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any, key: str = "") -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f'"{value:#x}"' if key == "serial" else str(value)
        case str():
            return _text(value)
        case bytes():
            return f'{{ der = "{value.hex()}" }}'
        case tuple():
            return f"[{', '.join(_value(each) for each in value)}]"
        case Extension():
            return f'{{ oid = "{value.oid}", value = "{value.value.hex()}", critical = {_value(value.critical)} }}'
        case _:
            said = ((each.name, getattr(value, each.name)) for each in fields(value))
            return "{ " + ", ".join(f"{name} = {_value(each)}" for name, each in said if each is not None) + " }"

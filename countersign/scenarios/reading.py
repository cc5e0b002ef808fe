"""Scenarios as TOML: one file a scenario, its name the scenario's id, its keys the fields of the model.

    title = "The leaf has expired"
    family = "validity"
    extends = "plain"
    certificate.recipe = "leaf-expired"

    [parameters.days]
    default = 14

    [[step]]

    [[step]]
    after = "{days}d"
    rotate = "intermediate"

``extends`` names one scenario or several, whose tables this one's are laid over; a list takes the place of a list.
``{days}`` in any text is the parameter of that name, and where it is the whole text it is the number itself. Reading is
strict: a mistake is shown with file, line, key, what was expected, and the nearest right name.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from countersign.errors import UserError
from countersign.recorder.private_files import FileFault, read_regular
from countersign.recorder.wire.text import printable
from countersign.scenarios.lines import line_of, lines_of
from countersign.scenarios.model import PARTS, Mistake, Parameter, Scenario, nearest
from countersign.scenarios.typed import Json, read, write

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from countersign.scenarios.expect import Expect

MOST_BYTES = 1 << 18
"""The largest file of a scenario."""

_DEEPEST = 30
_LONGEST_LINEAGE = 20
_LONG_KEY = re.compile(
    r"""(?<![\w.-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){%d}""" % _DEEPEST  # noqa: UP031
)
"""What takes tomllib a time that grows with the square of it."""

_PLACE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_SYNTAX = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")

Value = str | int | float | bool
"""What a parameter may be."""

Find = Callable[[str], "Source"]

_MOST_MISTAKES = 8  # that are told of one file


class ScenarioError(UserError):
    """A scenario that cannot be read or run; the text says where, what was expected, and what came."""


class Source:
    """The text of a scenario, read as far as TOML goes. ``name`` is how errors call it."""

    def __init__(self, text: str, *, name: str, id: str) -> None:  # noqa: A002 - what it is called in the model
        self.name, self.id, self._text = name, id, text
        self.table = self._parsed()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Source:
        """From a file. Raises :class:`ScenarioError`."""
        path = Path(path)
        try:
            data = read_regular(path, at_most=MOST_BYTES)
        except FileFault as fault:
            raise ScenarioError(f"cannot read the scenario: {fault}") from None
        if data is None:
            raise ScenarioError(f"cannot read the scenario: there is no file {path}")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as wrong:
            raise ScenarioError(f"cannot read the scenario in {path}: it is not UTF-8 (byte {wrong.start})") from None
        return cls(text, name=str(path), id=path.stem)

    def _parsed(self) -> Json:
        if found := _LONG_KEY.search(self._text):
            line = self._text.count("\n", 0, found.start()) + 1
            raise ScenarioError(f"{printable(self.name)}:{line}: a key of more than {_DEEPEST} parts")
        try:
            table = tomllib.loads(self._text)
        except RecursionError:
            raise self.error("", "its lists or tables are too deep") from None
        except ValueError as wrong:  # a number of more digits than Python takes is one too
            found = _SYNTAX.search(str(wrong))
            line = int(found[1]) if found and found[1] else self._text.count("\n") + 1
            text = printable(_SYNTAX.sub("", str(wrong)))
            raise ScenarioError(f"{printable(self.name)}:{line}: it is not TOML: {text}") from None
        _check_size(self, table, 0)
        return table

    def error(self, key: str, text: str) -> ScenarioError:
        """A sentence with file and line."""
        line = line_of(lines_of(self._text), tuple(key.split("."))) if key else None
        where = printable(self.name) + (f":{line}" if line else "")
        return ScenarioError(f"{where}: {printable(key)}: {printable(text)}" if key else f"{where}: {printable(text)}")


def _check_size(source: Source, value: Any, depth: int) -> None:
    """Numbers of more than the 64 bits that TOML has cannot even be shown."""
    if isinstance(value, int) and value.bit_length() > 63:
        raise source.error("", "there is a number in it of more than 64 bits")
    if depth > _DEEPEST:
        raise source.error("", f"its lists or tables are more than {_DEEPEST} deep")
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_size(source, each, depth + 1)


def read_scenario(source: Source, *, find: Find | None = None, given: Mapping[str, str] | None = None) -> Scenario:
    """The scenario in ``source``.

    ``find`` gives the sources that it extends; ``given`` are values of its parameters as text. Raises
    :class:`ScenarioError`.
    """
    table = _whole(source, find, ())
    try:
        parameters = read(Mapping[str, Parameter], table.get("parameters", {}), "parameters")
        parameters = _set(parameters, given or {}, source)
        placed = _placed(table, {name: each.default for name, each in parameters.items()}, "")
        placed["id"] = table.get("id", source.id)
    except Mistake as wrong:
        raise source.error(wrong.key, wrong.text) from wrong
    try:
        scenario: Scenario = read(Scenario, placed, "")
    except Mistake as wrong:
        found = [wrong, *_further(placed, wrong)]
        raise ScenarioError("; ".join(str(source.error(each.key, each.text)) for each in found)) from wrong
    return replace(scenario, parameters=parameters)


def _further(table: Json, first: Mistake) -> Iterator[Mistake]:
    """What else is wrong with it, as far as that shows when each key that is wrong is taken away; nothing that is wrong
    because of that.
    """
    left, taken = copy.deepcopy(table), [first.key]
    while len(taken) < _MOST_MISTAKES and _taken_away(left, taken[-1].split(".")):
        try:
            read(Scenario, left, "")
        except Mistake as another:
            if any(key.startswith(another.key) for key in taken):
                return
            yield another
            taken.append(another.key)
        else:
            return


def _taken_away(inside: Any, path: Sequence[str]) -> bool:
    """Whether there was such a key. What stands in a list stays, or others would have its number."""
    *above, last = path
    for part in above:
        if isinstance(inside, list) and part.isdecimal() and 0 < int(part) <= len(inside):
            inside = inside[int(part) - 1]
        else:
            inside = inside.get(part) if isinstance(inside, dict) else None
    return isinstance(inside, dict) and inside.pop(last, None) is not None


def _whole(source: Source, find: Find | None, below: tuple[str, ...]) -> Json:
    """The table with those of what it extends underneath."""
    table = dict(source.table)
    said = table.pop("extends", [])
    names = [said] if isinstance(said, str) else said
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise source.error("extends", "expected the id of a scenario, or a list of ids")
    lineage = (*below, source.id)
    if len(lineage) > _LONGEST_LINEAGE:
        raise source.error("extends", f"more than {_LONGEST_LINEAGE} scenarios extend each other")
    base: Json = {}
    for name in names:
        if name in lineage:
            circle = " extends ".join((*lineage[lineage.index(name) :], name))
            raise source.error("extends", f"{circle}, and so on for ever")
        if find is None:
            raise source.error("extends", f"there is no scenario {name!r} here")
        try:
            parent = find(name)
        except ScenarioError as wrong:
            raise source.error("extends", str(wrong)) from wrong
        inherited = _whole(parent, find, lineage)
        inherited.pop("id", None)
        base = _laid_over(inherited, base)
    return _laid_over(table, base)


def _laid_over(upper: Json, lower: Json) -> Json:
    made = dict(lower)
    for key, value in upper.items():
        there = made.get(key)
        made[key] = _laid_over(value, there) if isinstance(value, dict) and isinstance(there, dict) else value
    return made


# -- parameters --------------------------------------------------------------------------------------------------


def _set(parameters: Mapping[str, Parameter], given: Mapping[str, str], source: Source) -> Mapping[str, Parameter]:
    """The parameters with what was given in the place of their defaults."""
    made = dict(parameters)
    for name, text in given.items():
        if name not in parameters:
            known = f"its parameters are {', '.join(parameters)}" if parameters else "it has no parameters"
            hint = nearest(name, parameters)
            raise ScenarioError(f"cannot set {name!r} of the scenario {source.id!r}: {known}{hint}")
        try:
            made[name] = replace(parameters[name], default=_value(parameters[name].default, text))
        except Mistake as wrong:
            raise ScenarioError(f"cannot set {name}={text} of the scenario {source.id!r}: {wrong.text}") from wrong
    return MappingProxyType(made)


def _value(default: Value, text: str) -> Value:
    """``text`` as a value of the kind that the default is of."""
    match default:
        case bool():
            if text.lower() not in {"true", "false"}:
                raise Mistake("", f"expected true or false, got {text!r}")
            return text.lower() == "true"
        case int():
            if not re.fullmatch(r"[+-]?\d{1,15}", text, re.ASCII):
                raise Mistake("", f"expected a whole number, got {text!r}")
            return int(text)
        case float():
            if not re.fullmatch(r"[+-]?\d{1,15}(\.\d{1,15})?", text, re.ASCII):
                raise Mistake("", f"expected a number, got {text!r}")
            return float(text)
    return text


def _placed(value: Any, values: Mapping[str, Value], path: str) -> Any:
    """The value with parameters in the place of their names; braces around other words stay."""
    match value:
        case dict():
            return {
                k: v if (path, k) == ("", "parameters") else _placed(v, values, f"{path}.{k}") for k, v in value.items()
            }
        case list():
            return [_placed(each, values, path) for each in value]
        case str():
            whole = _PLACE.fullmatch(value)
            if whole and whole[1] in values:
                return values[whole[1]]
            return _PLACE.sub(lambda found: str(values.get(found[1], found[0])), value)
    return value


# -- several at once ---------------------------------------------------------------------------------------------


def composed(scenarios: Sequence[Scenario]) -> Scenario:
    """One scenario of several, whose parts add up. Raises :class:`ScenarioError` where two say different things."""
    first, *others = scenarios
    made = first
    for other in others:
        made = _both(made, other)
    return made


def _both(one: Scenario, other: Scenario) -> Scenario:
    given: dict[str, Any] = {}
    for part in (*PARTS, "client_certificate", "steps", "schedule", "match"):
        ours, theirs = getattr(one, part), getattr(other, part)
        usual = getattr(Scenario(id="x"), part)
        if theirs in {usual, ours} if _hashable(theirs, ours) else theirs == ours:
            given[part] = ours
        elif ours == usual:
            given[part] = theirs
        elif part in {"revocation", "wire"}:
            given[part] = ours + theirs
        else:
            both = f"cannot run {one.id!r} and {other.id!r} at once"
            raise ScenarioError(f"{both}: each says something else of {part}; leave one of them out")
    shared = one.parameters.keys() & other.parameters.keys()
    if shared:
        raise ScenarioError(f"cannot run {one.id!r} and {other.id!r} at once: both have a parameter {min(shared)!r}")
    try:
        return Scenario(
            id=f"{one.id}+{other.id}",
            family=one.family,
            title=f"{one.title}; {other.title}",
            story="\n\n".join(filter(None, (one.story, other.story))),
            sources=tuple(dict.fromkeys((*one.sources, *other.sources))),
            tags=tuple(dict.fromkeys((*one.tags, *other.tags))),
            waits=one.waits or other.waits,
            expect=_expect_both(one.expect, other.expect),
            parameters=MappingProxyType({**one.parameters, **other.parameters}),
            **given,
        )
    except Mistake as wrong:
        raise ScenarioError(f"cannot run {one.id!r} and {other.id!r} at once: {wrong}") from wrong


def _hashable(*values: Any) -> bool:
    try:
        hash(values)
    except TypeError:
        return False
    return True


def _expect_both(one: Expect, other: Expect) -> Expect:
    """What is wrong stays wrong beside what is right; how a family says so cannot be told of both together."""
    if one.right == "accept":
        return other
    if other.right == "accept" or one.right == "refuse":
        return one
    return other


# -- writing -----------------------------------------------------------------------------------------------------


_FIRST = ("id", "title", "family", "story", "sources", "tags", "waits", "parameters", "match")
_LAST = ("expect", "schedule", "step")


def table_of(scenario: Scenario) -> Json:
    """The scenario as the table that :func:`read_scenario` makes it of, JSON-able."""
    table = {"id": scenario.id, **write(Scenario, scenario)}
    first = [key for key in _FIRST if key in table]
    last = [key for key in _LAST if key in table]
    between = [key for key in table if key not in {*first, *last}]
    return {key: table[key] for key in (*first, *between, *last)}


def to_toml(scenario: Scenario) -> str:
    """The scenario as TOML; reading it again gives an equal one."""
    table = table_of(scenario)
    steps = table.pop("step", [])
    lines = list(_lines(table, ""))
    for step in steps:
        lines += ["", "[[step]]", *_lines(step, "")]
    return "\n".join(lines) + "\n"


def _lines(table: Json, prefix: str) -> Iterable[str]:
    for key, value in table.items():
        path = f"{prefix}{_key(key)}"
        if isinstance(value, dict) and value:
            yield from _lines(value, f"{path}.")
        else:
            yield f"{path} = {_inline(value)}"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)


def _text(text: str) -> str:
    """A basic string of TOML 1.0; what does not print is escaped, for it is shown on terminals."""
    escaped = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
    return (
        '"'
        + "".join(escaped.get(each) or (each if each.isprintable() else f"\\U{ord(each):08x}") for each in text)
        + '"'
    )


def _inline(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case list():
            return f"[{', '.join(map(_inline, value))}]"
        case dict():
            return "{ " + ", ".join(f"{_key(k)} = {_inline(v)}" for k, v in value.items()) + " }" if value else "{}"
        case float():
            return repr(value)
    return str(value)

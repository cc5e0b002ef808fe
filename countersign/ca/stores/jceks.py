"""The secret keys of JCEKS, walked over and never looked into.

A secret key stands in the file as a serialised Java object (``SealedObjectForKeyProtector``) that no length precedes:
to find its end is to read Java's serialisation protocol (Java Object Serialization Specification, 6.4). The walk
keeps the handles that later parts refer to, makes no object of anything, and refuses what such a key never has:
proxies, enums, exceptions, classes that read themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from countersign.ca.stores.fields import Cursor

_HEADER = b"\xac\xed\x00\x05"
_FIRST_HANDLE = 0x7E0000
_WRITE_METHOD, _SERIALIZABLE = 0x01, 0x02
_SIZES = {"B": 1, "C": 2, "D": 8, "F": 4, "I": 4, "J": 8, "S": 2, "Z": 1}
_DEEPEST = 16
_MOST_FIELDS = 256


class _Tag(IntEnum):
    """TC_NULL and its like (6.4.2)."""

    NULL = 0x70
    REFERENCE = 0x71
    CLASS = 0x72
    OBJECT = 0x73
    STRING = 0x74
    ARRAY = 0x75
    BLOCK = 0x77
    END_OF_BLOCK = 0x78
    LONG_BLOCK = 0x7A
    LONG_STRING = 0x7C


@dataclass(slots=True)
class _Class:
    """A class description: how its instances lie in the stream; ``fields`` are type codes."""

    name: str
    flags: int = 0
    fields: list[str] = field(default_factory=list)
    above: _Class | None = None


def skip_object(cursor: Cursor) -> None:
    """Move ``cursor`` behind the serialised object that begins there."""
    if cursor.take(4, "a serialised key") != _HEADER:
        cursor.offset -= 4
        raise cursor.broken("expected a serialised Java object (ac ed 00 05)")
    _Walk(cursor).content(0)


class _Walk:
    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._handles: list[_Class | None] = []

    def content(self, depth: int) -> None:
        """One object, string, array, null or reference."""
        cursor = self._cursor
        if depth > _DEEPEST:
            raise cursor.broken(f"a serialised key of more than {_DEEPEST} levels")
        match code := cursor.number(1, "a serialised object"):
            case _Tag.NULL:
                pass
            case _Tag.REFERENCE:
                self._referred()
            case _Tag.OBJECT:
                described = self._class(depth)
                self._handles.append(None)
                self._instance(described, depth)
            case _Tag.STRING:
                cursor.text("a serialised text")
                self._handles.append(None)
            case _Tag.LONG_STRING:
                cursor.take(cursor.number(8, "a length"), "a serialised text")
                self._handles.append(None)
            case _Tag.ARRAY:
                self._array(depth)
            case _Tag.CLASS:
                cursor.offset -= 1
                self._class(depth)
            case _:
                cursor.offset -= 1
                raise cursor.broken(f"a serialised key has a part 0x{code:02x}, which none has")

    def _referred(self) -> _Class | None:
        handle = self._cursor.number(4, "a reference") - _FIRST_HANDLE
        if not 0 <= handle < len(self._handles):
            raise self._cursor.broken("a reference to nothing in a serialised key")
        return self._handles[handle]

    def _class(self, depth: int) -> _Class | None:
        """A class description, a reference to one, or null."""
        cursor = self._cursor
        if depth > _DEEPEST:
            raise cursor.broken(f"a serialised key of more than {_DEEPEST} levels")
        code = cursor.number(1, "a class description")
        if code == _Tag.NULL:
            return None
        if code == _Tag.REFERENCE:
            return self._referred()
        if code != _Tag.CLASS:
            raise cursor.broken(f"expected a class description, got 0x{code:02x}")
        described = _Class(cursor.text("the name of a class"))
        cursor.take(8, "a serial version")
        self._handles.append(described)
        described.flags = cursor.number(1, "the flags of a class")
        if described.flags not in {_SERIALIZABLE, _SERIALIZABLE | _WRITE_METHOD}:
            raise cursor.broken(f"a class with flags 0x{described.flags:02x} in a serialised key")
        count = cursor.number(2, "the number of fields")
        if count > _MOST_FIELDS:
            raise cursor.broken(f"expected at most {_MOST_FIELDS} fields in a class, got {count}")
        for _ in range(count):
            kind = chr(cursor.number(1, "the type of a field"))
            cursor.text("the name of a field")
            if kind in "L[":
                self.content(depth + 1)
            elif kind not in _SIZES:
                raise cursor.broken(f"a field of type {kind!r} in a serialised key")
            described.fields.append(kind)
        self._annotations(depth)
        described.above = self._class(depth + 1)
        return described

    def _annotations(self, depth: int) -> None:
        """What stands there until the end of block data."""
        cursor = self._cursor
        while (code := cursor.number(1, "an annotation")) != _Tag.END_OF_BLOCK:
            if code == _Tag.BLOCK:
                cursor.take(cursor.number(1, "a length"), "block data")
            elif code == _Tag.LONG_BLOCK:
                cursor.take(cursor.number(4, "a length"), "block data")
            else:
                cursor.offset -= 1
                self.content(depth + 1)

    def _instance(self, described: _Class | None, depth: int) -> None:
        """The values of an object, those of its uppermost class first."""
        line: list[_Class] = []
        while described is not None and len(line) <= _DEEPEST:
            line.append(described)
            described = described.above
        for each in reversed(line):
            for kind in each.fields:
                self._value(kind, depth)
            if each.flags & _WRITE_METHOD:
                self._annotations(depth)

    def _value(self, kind: str, depth: int) -> None:
        if kind in _SIZES:
            self._cursor.take(_SIZES[kind], "a value")
        else:
            self.content(depth + 1)

    def _array(self, depth: int) -> None:
        described = self._class(depth)
        self._handles.append(None)
        kind = described.name[1:2] if described else ""
        count = self._cursor.number(4, "the length of an array")
        if kind in _SIZES:
            self._cursor.take(_SIZES[kind] * count, "an array")
        elif kind and kind in "L[":
            for _ in range(count):
                self.content(depth + 1)
        else:
            raise self._cursor.broken("an array without a known type in a serialised key")

"""The ground under the message decoders: a bounds-checked reader, and layouts that read, build and show.

Every length-prefixed field of TLS is read through a sub-reader that knows where its field ends, and that must be
finished: what is left over is a problem, what is declared but missing is a problem, and reading goes on behind the
field either way. Nothing here raises for wire input. A problem names the field by its dotted path and the byte by its
offset in the whole message; the path is put together only when there is a problem, so clean messages pay nothing.

A message is described once, as the annotations of a frozen dataclass::

    @dataclass(frozen=True, slots=True)
    class KeyShareEntry(Struct):
        group: Annotated[int, Number(2, names.GROUPS)]
        key_exchange: Annotated[bytes, Bytes(2, minimum=1)]

and the three things that can be done with it follow from that description: :func:`read_struct` reads it,
:meth:`Struct.body` builds the very same bytes, :meth:`Struct.fields` gives the JSON form. Codecs know nothing of TLS
beyond its presentation language (RFC 8446 section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from struct import Struct as PackedFormat
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, TypeVar, get_args, get_origin, get_type_hints

from countersign.recorder.wire.names import hexadecimal, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

S = TypeVar("S", bound="Struct")

MAX_PROBLEMS: Final = 100
"""So many problems of one message are noted: a hostile one could have one for each byte."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """A field that is not as its RFC says: where, what was expected, what came. Reading went on after it.

    ``offset`` counts bytes from the start of the message (of the decompressed message inside a CompressedCertificate).
    ``unreached`` are the fields of a struct that its bytes end before; ``field`` is the first of them then.
    """

    field: str
    offset: int
    expected: str
    got: str
    unreached: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.field} at byte {self.offset}: expected {self.expected}, got {self.got}"


class _ShortError(Exception):
    """A field of fixed size reaches over the end of what holds it. Caught by the nearest struct, never outside."""

    def __init__(self, field: str, offset: int, expected: str, got: str) -> None:
        super().__init__(field)
        self.field, self.offset, self.expected, self.got = field, offset, expected, got


def byte_count(number: int) -> str:
    return "1 byte" if number == 1 else f"{number} bytes"


class Reader:
    """A view from ``pos`` to ``end`` of ``data``. Sub-readers share the data and the list of problems."""

    __slots__ = ("data", "end", "name", "parent", "pos", "problems")

    def __init__(self, data: bytes, problems: list[FieldProblem], *, name: str, pos: int = 0) -> None:
        self.data = data
        self.pos = pos
        self.end = len(data)
        self.problems = problems
        self.name = name
        self.parent: Reader | None = None

    def child(self, size: int, name: str) -> Reader:
        """A reader of the next ``size`` bytes, which this one skips; the caller has checked that they are there."""
        sub = Reader.__new__(Reader)
        sub.data = self.data
        sub.pos = self.pos
        sub.end = self.pos = self.pos + size
        sub.problems = self.problems
        sub.name = name
        sub.parent = self
        return sub

    @property
    def left(self) -> int:
        return self.end - self.pos

    @property
    def path(self) -> str:
        """The dotted path of this reader: ``client_hello.extensions[3].key_share``."""
        return self.name if self.parent is None else _join(self.parent.path, self.name)

    def problem(
        self, field: str, expected: str, got: str, *, offset: int | None = None, unreached: tuple[str, ...] = ()
    ) -> None:
        """Note a problem; of a message that has more than :data:`MAX_PROBLEMS` of them, the first ones."""
        where = self.pos if offset is None else offset
        noted = len(self.problems)
        if noted < MAX_PROBLEMS - 1:
            self.problems.append(FieldProblem(_join(self.path, field), where, expected, got, unreached))
        elif noted == MAX_PROBLEMS - 1:
            expected, got = f"fewer than {MAX_PROBLEMS} problems in one message", "more, which are left out"
            self.problems.append(FieldProblem(_join(self.path, field), where, expected, got))

    def take(self, size: int, field: str) -> bytes:
        pos = self.pos
        if size > self.end - pos:
            raise _ShortError(field, pos, byte_count(size), byte_count(self.end - pos))
        self.pos = pos + size
        return self.data[pos : self.pos]

    def uint(self, size: int, field: str) -> int:
        pos = self.pos
        if size > self.end - pos:
            raise _ShortError(field, pos, byte_count(size), byte_count(self.end - pos))
        self.pos = pos + size
        return int.from_bytes(self.data[pos : pos + size], "big")

    def rest(self) -> bytes:
        pos, self.pos = self.pos, self.end
        return self.data[pos : self.end]

    def sub(self, prefix: int, field: str, *, minimum: int = 0, maximum: int | None = None) -> Reader:
        """The reader of a vector with a length of ``prefix`` bytes (RFC 8446 3.4).

        A length outside of the declared bounds is noted; one that reaches over the end is noted and cut.
        """
        start = self.pos
        size = self.uint(prefix, field)
        if size < minimum or (maximum is not None and size > maximum):
            bounds = f"at least {byte_count(minimum)}" if size < minimum else f"at most {byte_count(maximum or 0)}"
            self.problem(field, bounds, byte_count(size), offset=start)
        if size > self.end - self.pos:
            self.problem(field, f"{byte_count(size)} as declared", byte_count(self.end - self.pos), offset=start)
            size = self.end - self.pos
        return self.child(size, field)

    def finish(self) -> None:
        """Everything must have been read."""
        if self.pos != self.end:
            self.problem("", "nothing more", f"{byte_count(self.end - self.pos)} left over")
            self.pos = self.end


def _join(path: str, field: str) -> str:
    if not path or not field or field.startswith("["):
        return path + field
    return f"{path}.{field}"


# --------------------------------------------------------------------------------------------------------- codecs


class Codec:
    """How one field is read, built and shown. ``empty`` stands in for a field that was never reached."""

    __slots__ = ()
    empty: ClassVar[Any] = b""

    def nothing(self) -> Any:
        """The value of a field that was never reached."""
        return self.empty

    def read(self, reader: Reader, field: str) -> Any:
        raise NotImplementedError

    def build(self, value: Any) -> bytes:
        raise NotImplementedError

    def show(self, value: Any) -> Any:
        """The value as JSON can say it."""
        raise NotImplementedError


class Number(Codec):
    """An unsigned number of ``size`` bytes; with a table of names it shows as its name or as ``0x6a6a``."""

    __slots__ = ("name", "size")
    empty = 0

    def __init__(self, size: int, name: Mapping[int, str] | Callable[[int], str] | None = None) -> None:
        self.size = size
        self.name = _naming(size, name)

    def read(self, reader: Reader, field: str) -> int:
        return reader.uint(self.size, field)

    def build(self, value: int) -> bytes:
        return value.to_bytes(self.size, "big")

    def show(self, value: int) -> str | int:
        return value if self.name is None else self.name(value)


class Fixed(Codec):
    """Exactly ``size`` bytes, shown as hex."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size

    def read(self, reader: Reader, field: str) -> bytes:
        return reader.take(self.size, field)

    def build(self, value: bytes) -> bytes:
        return value

    def show(self, value: bytes) -> str:
        return value.hex()


class Rest(Codec):
    """All that is left of the enclosing field, shown as hex."""

    __slots__ = ()

    def read(self, reader: Reader, field: str) -> bytes:  # noqa: ARG002
        return reader.rest()

    def build(self, value: bytes) -> bytes:
        return value

    def show(self, value: bytes) -> Any:
        return value.hex()


class Bytes(Codec):
    """``opaque field<minimum..maximum>`` behind a length of ``prefix`` bytes, shown as hex."""

    __slots__ = ("maximum", "minimum", "prefix")

    def __init__(self, prefix: int, minimum: int = 0, maximum: int | None = None) -> None:
        self.prefix, self.minimum, self.maximum = prefix, minimum, maximum

    def read(self, reader: Reader, field: str) -> bytes:
        return reader.sub(self.prefix, field, minimum=self.minimum, maximum=self.maximum).rest()

    def build(self, value: bytes) -> bytes:
        return len(value).to_bytes(self.prefix, "big") + value

    def show(self, value: bytes) -> Any:
        return value.hex()


class Text(Bytes):
    """An opaque field that should be ASCII text: shown so, hostile bytes escaped."""

    __slots__ = ()

    def show(self, value: bytes) -> str:
        return readable(value)


class Numbers(Codec):
    """A vector of numbers of one size, the work-horse of hellos: a tuple of ints."""

    __slots__ = ("_format", "item", "maximum", "minimum", "name", "prefix")
    empty = ()

    def __init__(
        self,
        prefix: int,
        item: int,
        name: Mapping[int, str] | Callable[[int], str] | None = None,
        minimum: int = 0,
        maximum: int | None = None,
    ) -> None:
        self.prefix, self.item, self.minimum, self.maximum = prefix, item, minimum, maximum
        self.name = _naming(item, name)

    def read(self, reader: Reader, field: str) -> tuple[int, ...]:
        sub = reader.sub(self.prefix, field, minimum=self.minimum, maximum=self.maximum)
        odd = sub.left % self.item
        if odd:
            sub.problem("", f"a multiple of {self.item} bytes", byte_count(sub.left), offset=sub.pos)
            sub.end -= odd
        data = sub.rest()
        if self.item == 1:
            return tuple(data)
        if self.item == 2:
            return _shorts(len(data) // 2).unpack(data)
        return tuple(int.from_bytes(data[at : at + self.item], "big") for at in range(0, len(data), self.item))

    def build(self, value: tuple[int, ...]) -> bytes:
        body = b"".join(number.to_bytes(self.item, "big") for number in value)
        return len(body).to_bytes(self.prefix, "big") + body

    def show(self, value: tuple[int, ...]) -> list[Any]:
        return list(value) if self.name is None else [self.name(number) for number in value]


class Many(Codec):
    """A vector of items of any codec; without a prefix, as many as the enclosing field holds."""

    __slots__ = ("item", "maximum", "minimum", "prefix")
    empty = ()

    def __init__(self, prefix: int, item: Codec, minimum: int = 0, maximum: int | None = None) -> None:
        self.prefix, self.item, self.minimum, self.maximum = prefix, item, minimum, maximum

    def read(self, reader: Reader, field: str) -> tuple[Any, ...]:
        if self.prefix:
            sub = reader.sub(self.prefix, field, minimum=self.minimum, maximum=self.maximum)
        else:
            sub = reader.child(reader.left, field)
        items: list[Any] = []
        while sub.pos < sub.end:
            before = sub.pos
            try:
                items.append(self.item.read(sub, f"[{len(items)}]"))
            except _ShortError as short:
                note_short(sub, short)
            if sub.pos == before:  # an item of no bytes: a vector of them would never end
                break
        return tuple(items)

    def build(self, value: tuple[Any, ...]) -> bytes:
        body = b"".join([self.item.build(item) for item in value])
        return len(body).to_bytes(self.prefix, "big") + body if self.prefix else body

    def show(self, value: tuple[Any, ...]) -> list[Any]:
        return [self.item.show(item) for item in value]


class Nested(Codec):
    """A struct inside a struct; with a prefix, behind a length of its own."""

    __slots__ = ("maximum", "minimum", "prefix", "struct")

    def __init__(self, struct: type[Struct], prefix: int = 0, minimum: int = 0, maximum: int | None = None) -> None:
        self.struct, self.prefix, self.minimum, self.maximum = struct, prefix, minimum, maximum

    def read(self, reader: Reader, field: str) -> Struct:
        if self.prefix:
            sub = reader.sub(self.prefix, field, minimum=self.minimum, maximum=self.maximum)
            value = read_struct(self.struct, sub)
            sub.finish()
            return value
        sub = reader.child(reader.left, field)
        value = read_struct(self.struct, sub)
        reader.pos = sub.pos
        return value

    def build(self, value: Struct) -> bytes:
        body = value.body()
        return len(body).to_bytes(self.prefix, "big") + body if self.prefix else body

    def show(self, value: Struct) -> Any:
        return value.fields()

    def nothing(self) -> Struct:
        return self.struct(*[codec.nothing() for _, codec in layout(self.struct)])


@cache
def _shorts(count: int) -> PackedFormat:
    return PackedFormat(f">{count}H")


def _naming(size: int, name: Mapping[int, str] | Callable[[int], str] | None) -> Callable[[int], str] | None:
    if name is None or callable(name):
        return name
    table, digits = name, 2 * size
    return lambda value: table.get(value) or hexadecimal(value, digits=digits)


# --------------------------------------------------------------------------------------------------------- structs


class Struct:
    """Base of everything with a layout. Subclasses are frozen dataclasses with slots."""

    __slots__ = ()

    def body(self) -> bytes:
        """The bytes of this struct, as they were read."""
        return b"".join([codec.build(getattr(self, name)) for name, codec in layout(type(self))])

    def fields(self) -> dict[str, Any]:
        """The JSON form: names for known numbers, hex for opaque bytes, escaped text for text."""
        return {name: codec.show(getattr(self, name)) for name, codec in layout(type(self))}


_LAYOUTS: Final[dict[type[Struct], tuple[tuple[str, Codec], ...]]] = {}


def layout(struct: type[Struct]) -> tuple[tuple[str, Codec], ...]:
    """The codecs of a struct's fields, in their order on the wire."""
    known = _LAYOUTS.get(struct)
    if known is not None:
        return known
    found = []
    for name, hint in get_type_hints(struct, include_extras=True).items():
        if get_origin(hint) is Annotated:
            codec = next((extra for extra in get_args(hint)[1:] if isinstance(extra, Codec)), None)
            if codec is not None:
                found.append((name, codec))
    _LAYOUTS[struct] = tuple(found)
    return _LAYOUTS[struct]


def note_short(reader: Reader, short: _ShortError, unreached: tuple[str, ...] = ()) -> None:
    """Note a field that was not there; nothing behind it in this reader can be trusted to start anywhere."""
    reader.problem(short.field, short.expected, short.got, offset=short.offset, unreached=unreached)
    reader.pos = reader.end


def read_struct(struct: type[S], reader: Reader, fields: tuple[tuple[str, Codec], ...] | None = None) -> S:
    """Read a struct; the fields that the data does not reach are empty, and a problem says so.

    ``fields`` is another layout than its own.
    """
    fields = _LAYOUTS.get(struct) or layout(struct) if fields is None else fields
    values: list[Any] = []
    try:
        for name, codec in fields:
            values.append(codec.read(reader, name))
    except _ShortError as short:
        note_short(reader, short, tuple(name for name, _ in fields[len(values) :]))
        values.extend(codec.nothing() for _, codec in fields[len(values) :])
    return struct(*values)


U8: Final = Number(1)
U16: Final = Number(2)
U24: Final = Number(3)
U32: Final = Number(4)

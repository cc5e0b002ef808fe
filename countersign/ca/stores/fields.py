"""Reads the two encodings that key stores are made of, always knowing at which offset of the file it stands.

:class:`Node` is one tag, length and value of BER. :mod:`countersign.recorder.der` reads certificates and does not
know where in a file it is; a key store that breaks off has to be told by its offset. And PKCS #12 and PKCS #7 files
come with indefinite lengths and strings in segments (NSS and old Java write such; X.690 8.1.3.6, 8.7.3), which
certificates never do.

:class:`Cursor` reads what Java's DataOutputStream wrote: big-endian numbers, and texts in its own UTF-8.

Both raise :class:`StructureBroken` and nothing else, read each byte a bounded number of times and go no deeper than
``DEEPEST``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from countersign.ca.stores.errors import StructureBroken
from countersign.recorder import der

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEPEST = 32
MOST_CHILDREN = 20_000
_END_OF_CONTENTS = b"\x00\x00"


@dataclass(frozen=True, slots=True)
class Source:
    """Bytes, and what sentences call them (``the file``, ``the decrypted certificates``)."""

    data: bytes
    name: str = "the file"
    form: str = "store"

    def broken(self, offset: int, what: str) -> StructureBroken:
        return StructureBroken(offset, what, where=self.name, form=self.form)

    def whole(self) -> Node:
        """The one node that these bytes are, with nothing behind it."""
        node, after = self.node(0, len(self.data))
        if after != len(self.data):
            raise self.broken(after, f"{len(self.data) - after} bytes after the end")
        return node

    def node(self, start: int, end: int) -> tuple[Node, int]:
        """The node at ``start`` and the offset after it, which may not be beyond ``end``."""
        tag, body, length = self._header(start, end)
        if length is not None:
            if length > end - body:
                raise self.broken(start, f"a length says {length} bytes where {end - body} are left")
            return Node(self, tag, start, body, body + length), body + length
        contents_end = self._end_of_contents(start, body, end)
        return Node(self, tag, start, body, contents_end), contents_end + 2

    def _header(self, start: int, end: int) -> tuple[int, int, int | None]:
        """Tag, offset of the body, and length (``None``: indefinite)."""
        data = self.data
        if start + 2 > end:
            raise self.broken(start, f"expected a tag and a length, got {end - start} bytes")
        tag, length, body = data[start], data[start + 1], start + 2
        if tag & 0x1F == 0x1F:
            raise self.broken(start, "a tag of more than one byte, which no key store has")
        if length == 0x80 and tag & 0x20:
            return tag, body, None
        if length & 0x80:
            count = length & 0x7F
            if not 0 < count <= 8 or body + count > end:
                raise self.broken(start + 1, f"expected a length of at most 8 bytes, got one of {count}")
            length = int.from_bytes(data[body : body + count])
            body += count
        return tag, body, length

    def _end_of_contents(self, start: int, body: int, end: int) -> int:
        """Where the end-of-contents stands of the indefinite length at ``start`` (X.690 8.1.5)."""
        offset, open_nodes = body, 1
        while True:
            if offset + 2 > end:
                raise self.broken(start, "an indefinite length without its end")
            if self.data[offset : offset + 2] == _END_OF_CONTENTS:
                open_nodes -= 1
                if not open_nodes:
                    return offset
                offset += 2
                continue
            _, inner, length = self._header(offset, end)
            if length is None:
                open_nodes += 1
                if open_nodes > DEEPEST:
                    raise self.broken(offset, f"more than {DEEPEST} levels of indefinite lengths")
                offset = inner
            elif length > end - inner:
                raise self.broken(offset, f"a length says {length} bytes where {end - inner} are left")
            else:
                offset = inner + length


@dataclass(frozen=True, slots=True)
class Node:
    """One tag, length and value: header from ``start``, value from ``body`` up to ``end``, in ``source``."""

    source: Source
    tag: int
    start: int
    body: int
    end: int

    @property
    def value(self) -> bytes:
        return self.source.data[self.body : self.end]

    @property
    def raw(self) -> bytes:
        """Header and value in definite form, which is how they came unless the length was indefinite."""
        if self.source.data[self.body - 1] == 0x80 and self.body == self.start + 2:
            return der.encode(self.tag, *(child.raw for child in self.children()))
        return self.source.data[self.start : self.end]

    def broken(self, what: str) -> StructureBroken:
        return self.source.broken(self.start, what)

    def expect(self, tag: int, what: str) -> Node:
        """Itself if it is a ``tag``."""
        if self.tag != tag:
            raise self.broken(f"expected {what} (tag 0x{tag:02x}), got tag 0x{self.tag:02x}")
        return self

    def children(self, *, at_most: int = MOST_CHILDREN) -> list[Node]:
        """What its value is made of."""
        found: list[Node] = []
        offset = self.body
        while offset < self.end:
            if len(found) == at_most:
                raise self.source.broken(offset, f"expected at most {at_most} parts, got more")
            node, offset = self.source.node(offset, self.end)
            found.append(node)
        return found

    def sequence(self, what: str, least: int = 0, most: int = MOST_CHILDREN) -> list[Node]:
        """The parts of a SEQUENCE, of which there are between ``least`` and ``most``."""
        parts = self.expect(der.SEQUENCE, what).children(at_most=most)
        if len(parts) < least:
            raise self.broken(f"expected at least {least} parts in {what}, got {len(parts)}")
        return parts

    def only(self, what: str) -> Node:
        """The one node inside an explicit tag."""
        parts = self.children(at_most=1)
        if not parts:
            raise self.broken(f"expected {what}, got nothing")
        return parts[0]

    def octets(self, what: str, *, tag: int = der.OCTET_STRING) -> bytes:
        """The bytes of an OCTET STRING (or of one tagged ``tag`` implicitly), its segments put together."""
        if self.tag not in {tag, tag | 0x20}:
            self.expect(tag, what)
        if self.tag == tag:
            return self.value
        return b"".join(child.octets(what) for child in self._segments(what))

    def _segments(self, what: str) -> Iterator[Node]:
        for child in self.children():
            yield child.expect(der.OCTET_STRING, f"a segment of {what}")

    def inside(self, what: str, *, tag: int = der.OCTET_STRING) -> Source:
        """What an OCTET STRING holds, to be read on: offsets stay those of the file where it is in one piece."""
        octets = self.octets(what, tag=tag)
        if self.tag == tag:
            return _Window(self.source.data, self.source.name, self.source.form, self.body, self.end)
        return Source(octets, f"{what}, put together from its segments", self.source.form)

    def oid(self, what: str) -> str:
        """The dotted form of an OBJECT IDENTIFIER."""
        try:
            return der.decode_oid(self.expect(der.OID, what).value)
        except der.DerError as wrong:
            raise self.broken(f"{what}: {wrong}") from wrong

    def integer(self, what: str) -> int:
        """A number of at most 64 bytes."""
        try:
            return der.decode_integer(self.expect(der.INTEGER, what).value)
        except der.DerError as wrong:
            raise self.broken(f"{what}: {wrong}") from wrong


@dataclass(frozen=True, slots=True)
class _Window(Source):
    """A part of other bytes, read in place."""

    start: int = 0
    end: int = 0

    def whole(self) -> Node:
        node, after = self.node(self.start, self.end)
        if after != self.end:
            raise self.broken(after, f"{self.end - after} bytes after the end")
        return node


class Cursor:
    """Reads big-endian numbers and Java's texts one after another."""

    def __init__(self, source: Source, offset: int = 0, end: int | None = None) -> None:
        self.source = source
        self.offset = offset
        self.end = len(source.data) if end is None else end

    def broken(self, what: str) -> StructureBroken:
        return self.source.broken(self.offset, what)

    def take(self, size: int, what: str) -> bytes:
        """The next ``size`` bytes."""
        if size > self.end - self.offset:
            raise self.broken(f"expected {size} bytes of {what}, {self.end - self.offset} are left")
        data = self.source.data[self.offset : self.offset + size]
        self.offset += size
        return data

    def number(self, size: int, what: str, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(size, what), signed=signed)

    def text(self, what: str) -> str:
        """A text as ``DataOutputStream.writeUTF`` has it: a length of two bytes, and UTF-8 with a twist."""
        start = self.offset
        data = self.take(self.number(2, f"the length of {what}"), what)
        try:
            return decode_utf(data)
        except UnicodeDecodeError as wrong:
            raise self.source.broken(start, f"expected {what} in Java's UTF-8, got other bytes") from wrong

    def block(self, what: str) -> bytes:
        """Bytes behind their length in four bytes."""
        return self.take(self.number(4, f"the length of {what}"), what)


def decode_utf(data: bytes) -> str:
    """Java's modified UTF-8: NUL in two bytes, and what is beyond the BMP as two surrogates of three bytes each."""
    text = data.replace(b"\xc0\x80", b"\x00").decode("utf-8", "surrogatepass")
    return text.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass")


def encode_utf(text: str) -> bytes:
    """The same the other way, without the length."""
    units = text.encode("utf-16-be", "surrogatepass")
    points = "".join(chr(int.from_bytes(units[at : at + 2])) for at in range(0, len(units), 2))
    return points.encode("utf-8", "surrogatepass").replace(b"\x00", b"\xc0\x80")

"""DER in pieces: just enough to cut a certificate where its fields meet, whatever the fields hold.

A certificate library reads a certificate or refuses it. A witness may not refuse: the certificate that broke a
handshake is the one that has to be shown, field by field, and minted again with the same oddity in the same place.
So nothing here knows what a field means. A :class:`Piece` is one tag, length and value with its own bytes beside it;
:func:`pieces` walks a body; lengths are honoured only inside their parent. X.690 8.1 has the encoding; the lax forms
that OpenSSL takes (a length in more bytes than it needs) are taken, the indefinite length is not.

Everything raises :class:`DerError` and nothing else, and costs time in proportion to the bytes that it walks over.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OID = 0x06
ENUMERATED = 0x0A
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31

_HIGH_TAG = 0x1F
_LONG_OID = 64
_PEM_LINE = 64


class DerError(ValueError):
    """These bytes are not the DER that was expected here; the text says what was expected and what came."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One tag, length and value. ``tag`` is the first identifier byte; ``raw`` has header and body as they came."""

    tag: int
    body: bytes
    raw: bytes

    def expect(self, tag: int, what: str) -> Piece:
        """Itself, if it is a ``tag``; else :class:`DerError`."""
        if self.tag != tag:
            raise DerError(f"expected {what} (tag 0x{tag:02x}), got tag 0x{self.tag:02x}")
        return self


def pieces(body: bytes) -> Iterator[Piece]:
    """The pieces that lie one after another in ``body``, which they must fill exactly."""
    offset = 0
    while offset < len(body):
        piece = first_piece(body, offset)
        yield piece
        offset += len(piece.raw)


def first_piece(data: bytes, start: int = 0) -> Piece:
    """The piece that begins at ``start``; what comes after it is not looked at."""
    end = len(data)
    offset = start + 1
    if offset >= end:
        raise DerError(f"expected a tag and a length, got {end - start} bytes")
    tag = data[start]
    if tag & _HIGH_TAG == _HIGH_TAG:  # X.690 8.1.2.4: the tag number goes on in the next bytes
        while offset < end and data[offset] & 0x80:
            offset += 1
        offset += 1
        if offset >= end:
            raise DerError("expected the end of a long tag, got the end of the data")
    length = data[offset]
    offset += 1
    if length & 0x80:
        count = length & 0x7F
        if not count:
            raise DerError("expected a definite length, got an indefinite one")
        if count > 8 or offset + count > end:
            raise DerError(f"expected a length of at most 8 bytes, got one of {count}")
        length = int.from_bytes(data[offset : offset + count])
        offset += count
    if offset + length > end:
        raise DerError(f"a length says {length} bytes where {end - offset} are left")
    return Piece(tag, data[offset : offset + length], data[start : offset + length])


def whole(data: bytes, tag: int, what: str) -> Piece:
    """The one piece that ``data`` must be, without anything after it."""
    piece = first_piece(data).expect(tag, what)
    if len(piece.raw) != len(data):
        raise DerError(f"{len(data) - len(piece.raw)} bytes after {what}")
    return piece


def at_most(count: int, body: bytes, what: str) -> list[Piece]:
    """The pieces of ``body``, of which there may be no more than ``count``."""
    found = list(islice(pieces(body), count + 1))
    if len(found) > count:
        raise DerError(f"expected at most {count} parts in {what}, got more")
    return found


def exactly(count: int, body: bytes, what: str) -> list[Piece]:
    """The ``count`` pieces that ``body`` must be made of."""
    found = at_most(count, body, what)
    if len(found) != count:
        raise DerError(f"expected {count} parts in {what}, got {len(found)}")
    return found


def children(data: bytes, what: str) -> list[Piece]:
    """What is inside the one SEQUENCE that ``data`` must be: 256 pieces at most, a bound on what reading costs."""
    return at_most(256, whole(data, SEQUENCE, what).body, what)


def encode(tag: int, *parts: bytes) -> bytes:
    """One piece: ``tag``, the shortest length, and ``parts`` as its value (X.690 10.1)."""
    body = b"".join(parts)
    length = len(body)
    if length < 0x80:
        return bytes((tag, length)) + body
    size = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(size))) + size + body


def to_pem(data: bytes, label: str = "CERTIFICATE") -> bytes:
    """DER between BEGIN and END lines (RFC 7468)."""
    text = base64.b64encode(data)
    lines = [text[start : start + _PEM_LINE] for start in range(0, len(text), _PEM_LINE)]
    name = label.encode("ascii")
    return b"\n".join((b"-----BEGIN " + name + b"-----", *lines, b"-----END " + name + b"-----", b""))


def encode_integer(value: int) -> bytes:
    """An INTEGER in the fewest bytes, sign kept (X.690 8.3)."""
    magnitude = value if value >= 0 else ~value
    return encode(INTEGER, value.to_bytes(magnitude.bit_length() // 8 + 1, signed=True))


def encode_oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER (X.690 8.19)."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    body = bytearray()
    for arc in (first * 40 + second, *rest):
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(arc & 0x7F | 0x80)
        body += bytes(reversed(septets))
    return encode(OID, bytes(body))


def decode_oid(body: bytes) -> str:
    """The dotted form of an OBJECT IDENTIFIER's value."""
    if not body or body[-1] & 0x80:
        raise DerError("expected a whole object identifier, got one that is empty or cut")
    if len(body) > _LONG_OID:
        raise DerError(f"expected an object identifier of at most {_LONG_OID} bytes, got {len(body)}")
    arcs: list[int] = []
    arc = 0
    for byte in body:
        arc = arc << 7 | byte & 0x7F
        if not byte & 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - first * 40, *arcs[1:])))


def bit_length(body: bytes) -> int:
    """The size of a positive INTEGER in bits, without making a number of it."""
    digits = body.lstrip(b"\x00")
    return len(digits) * 8 - 8 + digits[0].bit_length() if digits else 0


def decode_integer(body: bytes) -> int:
    """The value of a short INTEGER; what is longer than 64 bytes is refused, not computed."""
    if not 0 < len(body) <= 64:
        raise DerError(f"expected an integer of 1 to 64 bytes, got {len(body)}")
    return int.from_bytes(body, signed=True)


def decode_bits(body: bytes) -> bytes:
    """The bytes of a BIT STRING, the count of unused bits taken off (X.690 8.6)."""
    if not body or body[0] > 7:
        raise DerError("expected a bit string, got one without its count of unused bits")
    return body[1:]

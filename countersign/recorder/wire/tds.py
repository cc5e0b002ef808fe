"""TDS, the protocol of Microsoft SQL Server, as far as TLS is inside of it.

Up to version 7 a TDS conversation begins in clear with PRELOGIN messages, which agree on encryption (MS-TDS 2.2.6.5).
Then the TLS handshake goes on inside of TDS packets, eight bytes of header before each piece of it: from the client in
packets of type PRELOGIN, from the server in the same or in those of a response. Once the handshake is over the headers
stop, and TLS records follow each other as elsewhere. Where the two have agreed to encrypt the login alone
(``ENCRYPT_OFF``), plain TDS comes behind it. TDS 8 begins with TLS, like any other protocol, and needs nothing of this.
"""

from __future__ import annotations

from typing import Final

HEADER_SIZE: Final = 8
PRELOGIN: Final = 0x12
_RESPONSE: Final = 0x04
_TLS_TYPES: Final = frozenset(range(20, 25))
_RECORD_HEADER: Final = 5

_OPTIONS: Final = {
    0: "version",
    1: "encryption",
    2: "instance",
    3: "thread",
    4: "mars",
    5: "trace",
    6: "federated authentication",
    7: "nonce",
}
_ENCRYPTION: Final = {0: "off (the login alone)", 1: "on", 2: "not supported", 3: "required"}
_MOST_OPTIONS: Final = 32
_FOR_EVER: Final = 1 << 62


def holds_tls(head: bytes | bytearray, at: int) -> int:
    """Bytes of TLS in the TDS packet whose payload begins at ``at``, if one does; else 0."""
    start = at - HEADER_SIZE
    if start < 0 or head[start] != PRELOGIN or head[0] != PRELOGIN:
        return 0
    return max(0, int.from_bytes(head[start + 2 : start + 4], "big") - HEADER_SIZE)


def tell_prelogin(data: bytes) -> str | None:
    """What a PRELOGIN message, or the answer to one, says: its encryption, and which options it has besides.

    None where it is neither.
    """
    if len(data) <= HEADER_SIZE or data[0] not in {PRELOGIN, _RESPONSE}:
        return None
    body = data[HEADER_SIZE:]
    others: list[str] = []
    encryption = "not named"
    at = 0
    while at < len(body) and body[at] != 0xFF:
        if at + 5 > len(body) or at >= 5 * _MOST_OPTIONS:
            return None
        offset, size = (int.from_bytes(body[at + n : at + n + 2], "big") for n in (1, 3))
        value = body[offset : offset + size]
        if body[at] == 1 and value:
            encryption = _ENCRYPTION.get(value[0], f"0x{value[0]:02x}")
        elif size:
            others.append(_OPTIONS.get(body[at], f"option 0x{body[at]:02x}"))
        at += 5
    what = "PRELOGIN" if data[0] == PRELOGIN else "response"
    return f"{what}: encryption {encryption}" + (f"; {', '.join(others)}" if others else "")


class Unwrapper:
    """The TLS of one side, from its first record on. ``left`` is what remains of the TDS packet that it begins in."""

    __slots__ = ("_head", "_left", "_record", "_record_left", "_wrapped", "in_clear")

    def __init__(self, left: int = 0) -> None:
        self._left = left
        self._wrapped = True
        self._head = b""  # the beginning of a TDS header
        self._record = b""  # the beginning of a record's header
        self._record_left = 0
        self.in_clear = False
        """Plain TDS has begun: nothing that follows is TLS."""

    def feed(self, data: bytes) -> bytes:
        """The bytes of TLS among the next bytes of the stream."""
        data, self._head = self._head + data, b""
        out: list[bytes] = []
        at = 0
        while at < len(data) and not self.in_clear:
            if self._wrapped and not self._left:
                if data[at] not in {PRELOGIN, _RESPONSE}:
                    self._wrapped = False
                    continue
                if len(data) - at < HEADER_SIZE:
                    self._head = data[at:]
                    break
                self._left = max(0, int.from_bytes(data[at + 2 : at + 4], "big") - HEADER_SIZE)
                at += HEADER_SIZE
                continue
            piece = data[at : at + self._left] if self._wrapped else data[at:]
            at += len(piece)
            self._left -= len(piece) if self._wrapped else 0
            out.append(piece[: self._records(piece)])
        return b"".join(out)

    def gap(self, missing: int) -> None:
        """So many bytes are not to be had. Behind a hole that is larger than the packet, TLS is taken to go on bare;
        behind one that is larger than the record, to go on to the end.
        """
        self._record_left = self._record_left - missing if missing <= self._record_left else _FOR_EVER
        self._record = b""
        self._wrapped = missing <= self._left
        self._left = self._left - missing if self._wrapped else 0

    def _records(self, piece: bytes) -> int:
        """How much of it is records; the rest is in clear."""
        at = 0
        while at < len(piece):
            if self._record_left:
                step = min(self._record_left, len(piece) - at)
                self._record_left -= step
                at += step
                continue
            if not self._record and piece[at] not in _TLS_TYPES:
                self.in_clear = True
                return at
            step = _RECORD_HEADER - len(self._record)
            self._record += piece[at : at + step]
            at += step
            if len(self._record) == _RECORD_HEADER:
                self._record_left, self._record = int.from_bytes(self._record[3:], "big"), b""
        return min(at, len(piece))

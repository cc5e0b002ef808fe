"""Handshake reassembly of one direction: fragments of records come in, whole messages come out.

A handshake message may be spread over several records, and a record may hold several messages (RFC 8446 5.1). Its
header declares up to 2^24 - 1 bytes. Nothing is reserved for a declaration: memory grows with what arrives, and only
up to ``keep`` bytes a message. What arrives beyond that is counted and hashed, so that the recording still says how
long the message was and whether two of them were the same.

The caller pulls one message at a time, for a message may change the keys under which the next record is read
(ServerHello, Finished, KeyUpdate), and it must know whether anything was left behind it in the same record.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from hashlib import _Hash

HEADER_SIZE = 4
KEEP = 256 * 1024


class Handshake(NamedTuple):
    """One message: its first ``keep`` bytes in ``raw``, header included; ``length`` is the declared one plus four.

    ``digest`` is set when more arrived than was kept; ``arrived`` is less than ``length`` in one that was cut short.
    """

    code: int
    length: int
    raw: bytes
    arrived: int
    digest: str = ""


class HandshakeAssembler:
    """Feed the payload of a handshake record, then pull messages until there is none."""

    __slots__ = ("_arrived", "_declared", "_fragment", "_hash", "_keep", "_kept", "_pos")

    def __init__(self, keep: int = KEEP) -> None:
        self._keep = max(keep, HEADER_SIZE)
        self._fragment = b""
        self._pos = 0
        self._kept = bytearray()  # the beginning of a message whose rest has not come
        self._arrived = 0  # of that message, kept or not
        self._declared = 0  # its length with header; 0 while the header is not whole
        self._hash: _Hash | None = None  # over all of it, from when it outgrew the cap

    def feed(self, fragment: bytes) -> None:
        """Take one record's payload; what the one before it left has been pulled already."""
        self._fragment = fragment if self._pos == len(self._fragment) else self._fragment[self._pos :] + fragment
        self._pos = 0

    def next(self) -> Handshake | None:
        """The next whole message, or None when the fragment is used up."""
        if not self._arrived:
            whole = self._at_once()
            if whole is not None:
                return whole
        if not self._declared:
            self._take(HEADER_SIZE - self._arrived)
            if self._arrived == HEADER_SIZE:
                self._declared = HEADER_SIZE + int.from_bytes(self._kept[1:4], "big")
        if self._declared:
            self._take(self._declared - self._arrived)
            if self._arrived == self._declared:
                return self.flush()
        self._fragment, self._pos = b"", 0
        return None

    @property
    def unread(self) -> int:
        """Bytes of the last fragment that were not pulled yet."""
        return len(self._fragment) - self._pos

    @property
    def pending(self) -> bool:
        """Whether a message was begun and is not finished."""
        return self._arrived > 0

    def flush(self) -> Handshake:
        """What there is of the message that was begun; forget it. Only sensible while :attr:`pending`."""
        raw = bytes(self._kept)
        message = Handshake(
            code=raw[0] if raw else -1,
            length=self._declared or HEADER_SIZE,
            raw=raw,
            arrived=self._arrived,
            digest=self._hash.hexdigest() if self._hash else "",
        )
        self._kept = bytearray()
        self._arrived = self._declared = 0
        self._hash = None
        return message

    def _at_once(self) -> Handshake | None:
        """The common case: the whole message lies in this fragment and below the cap."""
        fragment, pos = self._fragment, self._pos
        if len(fragment) - pos < HEADER_SIZE:
            return None
        length = HEADER_SIZE + (fragment[pos + 1] << 16 | fragment[pos + 2] << 8 | fragment[pos + 3])
        if length > self._keep or len(fragment) - pos < length:
            return None
        self._pos = pos + length
        return Handshake(fragment[pos], length, fragment[pos : pos + length], length)

    def _take(self, wanted: int) -> None:
        part = memoryview(self._fragment)[self._pos : self._pos + wanted]
        if not part:
            return
        self._pos += len(part)
        self._arrived += len(part)
        room = self._keep - len(self._kept)
        if self._hash is None and len(part) > room:
            self._hash = sha256(self._kept)
        if self._hash is not None:
            self._hash.update(part)
        if room > 0:
            self._kept += part[:room]

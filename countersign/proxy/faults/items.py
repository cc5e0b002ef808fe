"""Messages on their way through a direction with faults: whole, in clear, and with how their records were cut."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from countersign.recorder.wire.names import TLS12
from countersign.recorder.wire.records import ALERT, CHANGE_CIPHER_SPEC, HANDSHAKE

if TYPE_CHECKING:
    from countersign.recorder.wire.messages import HandshakeMessage

END = -1
"""The content type of no message at all: the connection is closed here."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A record as it came. ``count`` is its number under its key, and ``generation`` how often that was updated."""

    raw: bytes
    payload: bytes
    epoch: int
    generation: int = 0
    count: int = 0
    padding: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a message that came in one record; ``last``: it is the last thing in that record."""

    data: bytes
    origin: Origin
    last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One handshake message, change-cipher-spec or alert, or what one record of another type holds.

    ``name`` is as in a fault's ``at``, and empty for bytes that are no record. ``epoch`` is what it is to be sealed
    under, ``then`` what is in force behind it. Its ``pieces`` say how it came; without them it gets records of its own,
    of at most ``record_size`` bytes, each with ``padding`` zeros where there is encryption. ``opened`` is false for
    what could not be opened: its ``data`` is ciphertext, and it can only go on as it came.
    """

    name: str
    content_type: int
    data: bytes
    epoch: int = 0
    then: int = 0
    version: int = TLS12
    pieces: tuple[Piece, ...] = ()
    opened: bool = True
    record_size: int = 1 << 14
    padding: int = 0

    def with_data(self, data: bytes) -> Item:
        """The same message with other bytes."""
        return replace(self, data=data, pieces=())

    def beside(self, name: str, message: HandshakeMessage | bytes, *, epoch: int) -> Item:
        """A handshake message beside this one."""
        data = message if isinstance(message, bytes) else message.build()
        return Item(name=name, content_type=HANDSHAKE, data=data, epoch=epoch, then=epoch, version=self._version())

    def alert(self, level: int, description: int, *, epoch: int) -> Item:
        """An alert beside this message."""
        data = bytes((level, description))
        return Item(name="alert", content_type=ALERT, data=data, epoch=epoch, then=epoch, version=self._version())

    def change_cipher_spec(self) -> Item:
        """A change-cipher-spec before this message, in clear, where it changes nothing."""
        return Item(
            name="change_cipher_spec",
            content_type=CHANGE_CIPHER_SPEC,
            data=b"\1",
            epoch=0,
            then=self.epoch,
            version=self._version(),
        )

    def end(self) -> Item:
        """Behind this the connection is closed."""
        return Item(name="end", content_type=END, data=b"", epoch=self.then, then=self.then)

    def _version(self) -> int:
        return max(self.version, 0x0301)

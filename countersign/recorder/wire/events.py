"""What the decoders say: frozen events, in the order in which things happened.

A *leg* is one TLS conversation with two sides, named by their TLS roles: ``client`` (who sent the ClientHello)
and ``server``. Every event carries ``t``, the seconds since the session's start by a monotonic clock that the
caller read; nothing in this package knows what time it is.

The bytes come first. A :class:`Message` holds what was on the wire (after decryption, where it was encrypted) and
how it was framed; what its fields say is read from those bytes later, by :mod:`countersign.recorder.wire.reading`,
so that a better reading tomorrow improves the recordings of today.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from countersign.recorder.wire.told import Told


class Side(StrEnum):
    """Who sent it, by TLS role within its leg."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def peer(self) -> Side:
        return Side.SERVER if self is Side.CLIENT else Side.CLIENT


class Content(StrEnum):
    """What kind of record carried a message (RFC 8446 5.1, RFC 6520)."""

    HANDSHAKE = "handshake"
    ALERT = "alert"
    CHANGE_CIPHER_SPEC = "change_cipher_spec"
    HEARTBEAT = "heartbeat"


@dataclass(frozen=True, slots=True)
class Message:
    """One handshake message, alert, change-cipher-spec or heartbeat.

    ``raw`` is the whole message: for handshake messages the four bytes of header and the body (RFC 8446 4), for
    alerts the level and the description, for change-cipher-spec its one byte. ``length`` is the number of bytes
    that the message has on the wire, so ``len(raw) < length`` says that only the beginning was kept, or that the
    rest never came; ``digest`` is over everything that arrived. An encrypted message that could not be opened but
    whose kind shows from outside (an encrypted alert or change-cipher-spec below TLS 1.3) has an empty ``raw``.

    ``code`` is the handshake type, the alert description or the change-cipher-spec's byte; ``-1`` when unreadable.

    ``told`` is set where the bytes were never seen and somebody wrote down what they said (an imported log). Then
    ``raw`` is empty and ``length`` is 0, which here mean that they are not known.
    """

    t: float
    sender: Side
    content: Content
    code: int
    encrypted: bool
    length: int
    raw: bytes
    digest: str = ""
    told: Told | None = None

    @property
    def form(self) -> bytes:
        """The bytes, or what stands for them where only their content was told."""
        return self.raw if self.told is None else self.told.form

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the whole message, of what was not kept as well."""
        return self.digest or sha256(self.raw).hexdigest()

    @property
    def complete(self) -> bool:
        return len(self.raw) == self.length

    def is_handshake(self, code: int) -> bool:
        """Whether it is the handshake message of this type."""
        return self.code == code and self.content is Content.HANDSHAKE


@dataclass(frozen=True, slots=True)
class ApplicationData:
    """Application data in ``records`` records that came together; ``length`` counts its bytes.

    ``length`` is of the plaintext where the records were opened, else of the record payloads as they were sent.
    """

    t: float
    sender: Side
    records: int
    length: int


@dataclass(frozen=True, slots=True)
class EncryptedRecord:
    """A protected record that was not opened and is not known to be application data.

    ``content_type`` is the outer one (RFC 8446 5.2: 23 for everything in TLS 1.3). ``alert_size`` marks TLS 1.3
    records of the size of an alert.
    """

    t: float
    sender: Side
    content_type: int
    length: int
    alert_size: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """Something on the wire that is not as its RFC says; reading went on after it.

    ``field`` is a dotted path (``record.length``, ``client_hello.extensions[3].key_share``), ``offset`` the byte
    within the message (or, for ``record.*``, within the stream of that side, for ``log.*`` the line of the log) where
    it was noticed. ``message`` is the number of the message in its leg where there is one.
    """

    t: float
    sender: Side
    field: str
    offset: int
    expected: str
    got: str
    message: int | None = None

    def __str__(self) -> str:
        place = "line" if self.field.startswith("log.") else "byte"
        return f"{self.field} at {place} {self.offset}: expected {self.expected}, got {self.got}"


Event = Message | ApplicationData | EncryptedRecord | Problem

"""StartTLS in LDAP (RFC 4511 4.14): an ExtendedRequest with the name 1.3.6.1.4.1.1466.20037.

Both sides send LDAPMessages, BER SEQUENCEs one after the other (5.1: definite lengths only). Only the first bytes of
each are kept for reading; a bind's credentials stand behind what is told of it. The answer belongs to the request whose
messageID it carries.
"""

from __future__ import annotations

from typing import ClassVar, Final

from countersign.proxy.ways.starttls.dialect import HELLO_START, Dialect
from countersign.proxy.ways.starttls.events import Event, Said
from countersign.recorder.wire.dialogue import EXTENDED_RESPONSE, START_TLS, LdapMessage, ldap_message
from countersign.recorder.wire.events import Side

_KEPT: Final = 1024
_SEQUENCE: Final = 0x30


class _Messages:
    """Cuts one side into messages."""

    __slots__ = ("head", "left", "wrong")

    def __init__(self) -> None:
        self.head = bytearray()  # the first bytes of the message that is not whole
        self.left: int | None = None  # bytes of it to come; None while its length is not known
        self.wrong: str | None = None

    def take(self, data: bytes, at: int) -> int:
        """Take bytes of one message, up to its end."""
        while self.left is None:
            if at == len(data):
                return at
            self.head.append(data[at])
            at += 1
            self._length()
            if self.wrong is not None:
                return at
        taken = min(self.left, len(data) - at)
        self.head += data[at : at + max(0, min(taken, _KEPT - len(self.head)))]
        self.left -= taken
        return at + taken

    def _length(self) -> None:
        """X.690 8.1.3, once the header is whole."""
        head = self.head
        if head[0] != _SEQUENCE:
            self.wrong = f"0x{head[0]:02x}"
        elif len(head) >= 2:
            count = head[1] & 0x7F if head[1] & 0x80 else 0
            if head[1] == 0x80 or count > 8:
                self.wrong = f"a length of the form 0x{head[1]:02x}"
            elif len(head) == 2 + count:
                self.left = int.from_bytes(head[2:], "big") if count else head[1]

    def message(self) -> LdapMessage | None:
        """The message that has just become whole, or None for what is none; begins the next one."""
        found = ldap_message(bytes(self.head))
        self.head.clear()
        self.left = None
        return found


class Ldap(Dialect):
    """LDAP."""

    name: ClassVar[str] = "ldap"
    server_first: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self._sides = {Side.CLIENT: _Messages(), Side.SERVER: _Messages()}
        self._number = -1

    def _between_units(self) -> bool:
        return not self._sides[Side.CLIENT].head

    def _client(self, data: bytes, events: list[Event]) -> int:
        return self._read(Side.CLIENT, data, events)

    def _server(self, data: bytes, events: list[Event]) -> int:
        return self._read(Side.SERVER, data, events)

    def _read(self, side: Side, data: bytes, events: list[Event]) -> int:
        messages = self._sides[side]
        at = 0
        while at < len(data):
            if at and side is Side.CLIENT and not messages.head and data[at] == HELLO_START:
                break
            at = messages.take(data, at)
            if messages.wrong is not None:
                expected = "a BER SEQUENCE (0x30) with a definite length"
                self._lose(side, "message", expected, messages.wrong, events)
                break
            if messages.left != 0:
                break
            message = messages.message()
            if message is None:
                self._lose(side, "message", "a messageID and an operation", "something else", events)
                break
            events.append(Said(side, str(message)))
            self._message(side, message, events)
            if self._agreed or (side is Side.CLIENT and self._asked):
                break
        return len(data) if self._unread and side is Side.SERVER else at

    def _message(self, side: Side, message: LdapMessage, events: list[Event]) -> None:
        if side is Side.CLIENT:
            self.sure = True
            if message.name == START_TLS:
                self._number = message.number
                self._ask(events)
        elif self._asked and message.operation == EXTENDED_RESPONSE and message.number == self._number:
            if message.result == 0:  # RFC 4511 4.14.2
                self._agree(events)
            else:
                self._decline(str(message), events)

"""What all dialects have in common: who may say what around the moment in which TLS begins.

A dialect watches both directions of a dialogue and decides, byte by byte, what is passed on. Three moments count:

    ... the dialogue ...      everything is passed on as it comes, and told
    the client asks           what it sends behind its request is held back
    the server agrees         that is: nothing in clear is passed on any more, neither way
    the client begins TLS     the dialogue is over

Holding back is what closes the hole of CVE-2011-0411: commands that somebody put behind STARTTLS in the same segment
were kept by servers and believed to have come through TLS. Here they are never passed on: when the server has agreed,
bytes of the client that are not the beginning of TLS are dropped and told as a violation, and so is everything that the
server says before it has seen a ClientHello (CVE-2021-33515 and others: https://nostarttls.secvuln.info). When the
server has declined, what was held back goes on as a part of the dialogue.

A subclass reads its protocol: :meth:`Dialect._client` and :meth:`Dialect._server` take the bytes of a side, append what
they see to ``events``, and say how many of the bytes they took: less than all only when the side has just asked or
agreed, or when TLS begins there. They never hold bytes back themselves: a unit (a line, a message) that is not whole
yet is passed on as it comes, and only its beginning, of a bounded size, is kept for reading.

A dialogue that turns out not to be of the protocol goes on unread. Then TLS is where the client, having its turn, sends
a ClientHello; five bytes that may be the beginning of one wait for the sixth, for the other side, or for a silence.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

from countersign.proxy.ways.starttls.events import (
    Agreed,
    Asked,
    Declined,
    Event,
    Forward,
    Said,
    Settled,
    Upgraded,
    Violation,
)
from countersign.recorder.wire.dialogue import LineRedactor
from countersign.recorder.wire.events import Side

HELD_AT_MOST: Final = 64 * 1024
HELLO_START: Final = 0x16
"""No unit of any of these protocols begins with this byte, and every TLS conversation does (RFC 8446 5.1)."""

TEXT_AT_MOST: Final = 4000
"""Bytes of a unit that are kept for reading and telling."""

NO_TEXT: Final = re.compile(rb"[^\t\r\n\x20-\x7e\x80-\xff]")

_HELLO = re.compile(rb"\x16\x03[\x00-\x04]..\x01", re.DOTALL)
"""A record of type handshake that begins with a ClientHello (RFC 8446 4, 5.1)."""
_BEGINNING = re.compile(rb"\x16(?:\x03(?:[\x00-\x04].{0,2})?)?\Z", re.DOTALL)


class Dialect:
    """One dialogue. ``fits`` is False once the words are not of this protocol; ``sure`` once they certainly are."""

    name: ClassVar[str]
    server_first: ClassVar[bool | None] = True
    """The server speaks first, so the target has to be dialled before the client has said anything. None: who knows."""

    def __init__(self) -> None:
        self.fits = True
        self.sure = False
        self.upgraded = False
        self._asked = False
        self._agreed = False
        self._settled = False
        self._unread = False
        self._held = bytearray()  # of the client
        self._dropped = {Side.CLIENT: 0, Side.SERVER: 0}
        self._last: Side | None = None  # who spoke last
        self._redactor = LineRedactor()

    @property
    def protocol(self) -> str:
        """Which protocol it is, for the recording."""
        return self.name

    def receive(self, side: Side, data: bytes) -> list[Event]:
        """What a side sent, in any slicing. After :class:`Upgraded` nothing may be fed any more."""
        events: list[Event] = []
        if not data:
            return events
        if self._settled:
            events.append(Forward(side, data))
        elif self._agreed:
            self._behind_agreement(side, data, events)
        elif side is Side.SERVER:
            self._from_server(data, events)
        elif self._asked:
            self._hold(data, events)
        else:
            self._from_client(data, events)
        return events

    def silence(self) -> list[Event]:
        """Nothing has come from either side for some 200 ms: what waits to be told apart is passed on.

        A client that begins TLS and hears nothing may have got an answer that was not taken for the one that it is.
        """
        events: list[Event] = []
        if self._asked and _HELLO.match(self._held):
            got = "one without it"
            self._violation(Side.CLIENT, "upgrade", "a ClientHello behind the server's answer", got, events)
            self._upgrade(bytes(self._held), events)
        elif self._unread and not self._agreed:
            self._release(events)
        return events

    # -- for the subclass

    def _client(self, data: bytes, events: list[Event]) -> int:
        """Read the client's bytes; how many of them were taken."""
        raise NotImplementedError

    def _server(self, data: bytes, events: list[Event]) -> int:
        """The same for the server's."""
        raise NotImplementedError

    def _between_units(self) -> bool:
        """Whether the client is between two units, where TLS could begin."""
        raise NotImplementedError

    def _ask(self, events: list[Event]) -> None:
        self._asked = self.sure = True
        events.append(Asked())

    def _agree(self, events: list[Event]) -> None:
        self._agreed = True
        events.append(Agreed())

    def _decline(self, text: str, events: list[Event]) -> None:
        self._asked = False
        events.append(Declined(text))

    def _settle(self, reason: str, events: list[Event]) -> None:
        self._settled = self.sure = True
        self._asked = False
        events.append(Settled(reason))

    def _violation(self, side: Side, field: str, expected: str, got: str, events: list[Event]) -> None:
        events.append(Violation(side, f"{self.name}.{field}", expected, got))

    def _odd(self, side: Side, field: str, expected: str, got: str, events: list[Event]) -> None:
        """The side does not begin as this protocol does. If it is this protocol nevertheless, it is read on."""
        self.fits = False
        self._violation(side, field, expected, got, events)

    def _lose(self, side: Side, field: str, expected: str, got: str, events: list[Event]) -> None:
        """The side cannot be read: from here the dialogue goes on unread."""
        self.fits = self._asked = False
        self._unread = True
        self._violation(side, field, expected, got, events)

    # -- the dialogue

    def _from_client(self, data: bytes, events: list[Event]) -> None:
        while data and not self._unread and not self._settled:
            if data[0] == HELLO_START and self._between_units():
                if self._last is not None:
                    self._violation(Side.CLIENT, "upgrade", "a request for TLS before TLS", "a ClientHello", events)
                self._upgrade(data, events)
                return
            self._last = Side.CLIENT
            taken = self._client(data, events)
            self._forward(Side.CLIENT, data[:taken], events)
            data = data[taken:]
            if self._agreed:  # where the server is not asked, as in MySQL
                self._behind_agreement(Side.CLIENT, data, events)
                return
            if self._asked:
                self._hold(data, events)
                return
        if data and self._settled:
            self._forward(Side.CLIENT, data, events)
        elif data:
            self._unread_client(data, events)

    def _from_server(self, data: bytes, events: list[Event]) -> None:
        if self._unread:
            self._release(events)
            self._last = Side.SERVER
            self._tell_unread(Side.SERVER, data, events)
            self._forward(Side.SERVER, data, events)
            return
        self._last = Side.SERVER
        taken = self._server(data, events)
        self._forward(Side.SERVER, data[:taken], events)
        held = bytes(self._held)
        if self._agreed:
            self._held.clear()
            self._behind_agreement(Side.SERVER, data[taken:], events)
            if _HELLO.match(held):
                expected = "a ClientHello behind the server's answer"
                self._violation(Side.CLIENT, "upgrade", expected, "one before it", events)
            self._behind_agreement(Side.CLIENT, held, events)
        elif held and not self._asked:
            self._held.clear()
            self._from_client(held, events)

    def _hold(self, data: bytes, events: list[Event]) -> None:
        room = HELD_AT_MOST - len(self._held)
        self._held += data[:room]
        if len(data) > room and not self._dropped[Side.CLIENT]:
            expected = f"at most {HELD_AT_MOST} bytes before the server's answer"
            self._violation(Side.CLIENT, "upgrade", expected, "more, which were dropped", events)
        self._dropped[Side.CLIENT] += max(0, len(data) - room)

    def _forward(self, side: Side, data: bytes, events: list[Event]) -> None:
        if data:
            events.append(Forward(side, data))

    # -- unread

    def _unread_client(self, data: bytes, events: list[Event]) -> None:
        if self._held or self._last is not Side.CLIENT:
            data = bytes(self._held) + data
            self._held.clear()
            if _HELLO.match(data):
                self._upgrade(data, events)
                return
            if _BEGINNING.match(data):
                self._held += data
                return
        self._last = Side.CLIENT
        self._tell_unread(Side.CLIENT, data, events)
        self._forward(Side.CLIENT, data, events)

    def _release(self, events: list[Event]) -> None:
        held = bytes(self._held)
        self._held.clear()
        if held:
            self._last = Side.CLIENT
            self._tell_unread(Side.CLIENT, held, events)
            self._forward(Side.CLIENT, held, events)

    def _tell_unread(self, side: Side, data: bytes, events: list[Event]) -> None:
        if NO_TEXT.search(data):
            events.append(Said(side, f"({len(data)} bytes)"))
            return
        text = data[:TEXT_AT_MOST].decode("utf-8", "backslashreplace")
        from_client = side is Side.CLIENT
        lines = text.splitlines(keepends=True)
        events.extend(Said(side, self._redactor.line(line, from_client=from_client)) for line in lines)

    # -- after the agreement

    def _behind_agreement(self, side: Side, data: bytes, events: list[Event]) -> None:
        """Nothing in clear is passed on. The client's ClientHello is looked for, and ends it."""
        if side is Side.SERVER:
            self._drop(side, data, events)
            return
        self._held += data
        found = _HELLO.search(self._held)
        if found is not None:
            self._drop(side, bytes(self._held[: found.start()]), events)
            self._upgrade(bytes(self._held[found.start() :]), events)
            return
        beginning = _BEGINNING.search(self._held)
        start = len(self._held) if beginning is None else beginning.start()
        self._drop(side, bytes(self._held[:start]), events)
        del self._held[:start]

    def _drop(self, side: Side, data: bytes, events: list[Event]) -> None:
        if data and not self._dropped[side]:  # one violation a side, however much it is
            what = "a ClientHello" if side is Side.CLIENT else "silence up to the ClientHello"
            got = f"{len(data)} bytes in clear, which were not passed on"
            self._violation(side, "injection", f"{what} and nothing in clear", got, events)
        self._dropped[side] += len(data)

    def _upgrade(self, data: bytes, events: list[Event]) -> None:
        self._held.clear()
        self.upgraded = True
        events.append(Upgraded(data))

"""STARTTLS in XMPP (RFC 6120 5), between clients and servers and between servers.

Both directions are XML streams. What counts are the elements right below the stream's own: ``<starttls/>`` of the
client, ``<proceed/>`` or ``<failure/>`` of the server, each in the namespace of TLS. A stream may begin anew inside of
the old one (after SASL): a new ``<stream:stream>`` is depth one again.
"""

from __future__ import annotations

from typing import ClassVar, Final

from countersign.proxy.ways.starttls.dialect import HELLO_START, Dialect
from countersign.proxy.ways.starttls.events import Event, Said
from countersign.recorder.wire.dialogue import XmlRedactor, XmlScanner, XmlToken
from countersign.recorder.wire.events import Side

_NAMESPACE: Final = b"urn:ietf:params:xml:ns:xmpp-tls"
_STREAM: Final = b"http://etherx.jabber.org/streams"


class _Stream:
    """One direction."""

    __slots__ = ("depth", "element", "header", "redactor", "scanner")

    def __init__(self) -> None:
        self.scanner = XmlScanner()
        self.redactor = XmlRedactor()
        self.depth = 0
        self.header = b""  # the tag that opened the stream
        self.element = b""  # the tag that opened the element below it

    def ended(self, token: XmlToken) -> bytes | None:
        """The opening tag of an element right below the stream, once that element is whole."""
        if token.kind == "open":
            if token.name == "stream" and (_STREAM in token.raw or not self.depth):
                self.depth, self.header = 0, token.raw
            elif self.depth == 1:
                self.element = token.raw
            self.depth += 1
        elif token.kind == "empty":
            return token.raw if self.depth == 1 else None
        elif token.kind == "close":
            self.depth -= 1
            return self.element if self.depth == 1 else None
        return None

    def is_of_tls(self, tag: bytes) -> bool:
        """Whether the element has the namespace of TLS: by its own declaration, or by a prefix of the stream's."""
        return _NAMESPACE in tag or (_NAMESPACE in self.header and b":" in tag.partition(b" ")[0])


class Xmpp(Dialect):
    """XMPP, of client and of server streams."""

    name: ClassVar[str] = "xmpp"
    server_first: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self._streams = {Side.CLIENT: _Stream(), Side.SERVER: _Stream()}

    def _between_units(self) -> bool:
        return self._streams[Side.CLIENT].scanner.between

    def _client(self, data: bytes, events: list[Event]) -> int:
        return self._read(Side.CLIENT, data, events)

    def _server(self, data: bytes, events: list[Event]) -> int:
        return self._read(Side.SERVER, data, events)

    def _read(self, side: Side, data: bytes, events: list[Event]) -> int:
        stream = self._streams[side]
        told: list[str] = []
        place = len(events)
        at = len(data)
        for token in stream.scanner.feed(data):
            if token.kind == "text" and not stream.header and token.raw.strip():
                self._lose(side, "stream", "<stream:stream ...>", "something else", events)
                break
            start = token.end - len(token.raw)
            if start > 0 and token.kind == "text" and token.raw[0] == HELLO_START and side is Side.CLIENT:
                at = start
                break
            told.append(stream.redactor.token(token))
            tag = stream.ended(token)
            if not self._opened(stream, side, token, events):
                break
            if tag is not None and self._element(side, stream, tag, events):
                at = token.end
                break
        if stream.scanner.lost:
            limit = XmlScanner.TAG_AT_MOST
            self._lose(side, "stream", f"tags of at most {limit} bytes", "a longer one", events)
        if text := "".join(told):
            events.insert(place, Said(side, text))
        return at

    def _opened(self, stream: _Stream, side: Side, token: XmlToken, events: list[Event]) -> bool:
        """The first element must be the stream's."""
        if stream.header or token.kind in {"other", "text"}:
            return True
        self._lose(side, "stream", "<stream:stream ...>", "something else", events)
        return False

    def _element(self, side: Side, stream: _Stream, tag: bytes, events: list[Event]) -> bool:
        """Whether the side is done with it: the client has asked, or the server has agreed."""
        name = XmlToken("open", tag, 0).name
        self.sure = True
        if not stream.is_of_tls(tag):
            return False
        if side is Side.CLIENT and name == "starttls":
            self._ask(events)
        elif side is Side.SERVER and self._asked and name == "proceed":
            self._agree(events)
        elif side is Side.SERVER and self._asked and name == "failure":
            self._decline("<failure/>", events)
            return False
        return self._agreed or (side is Side.CLIENT and self._asked)

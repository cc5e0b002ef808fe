"""Protocols of lines: cutting both directions into lines, and telling them without credentials.

A line ends with LF, a CR before it or not, for servers take both. Of a line that is longer than a reader needs only the
beginning is kept. What is no line (a message's text, an IMAP literal) the subclass takes away by itself while it says
that a side is in such a body.
"""

from __future__ import annotations

from typing import Final

from countersign.proxy.ways.starttls.dialect import HELLO_START, NO_TEXT, TEXT_AT_MOST, Dialect
from countersign.proxy.ways.starttls.events import Event, Said
from countersign.recorder.wire.events import Side

WAITING_AT_MOST: Final = 1000
"""Commands that may wait for their answers."""


class LineDialect(Dialect):
    """Base of the protocols of lines."""

    def __init__(self) -> None:
        super().__init__()
        self._partial = {Side.CLIENT: bytearray(), Side.SERVER: bytearray()}
        self._length = {Side.CLIENT: 0, Side.SERVER: 0}  # of the line that is not whole

    # -- for the subclass

    def _command(self, line: str, events: list[Event]) -> None:
        """A line of the client, without its end."""
        raise NotImplementedError

    def _reply(self, line: str, events: list[Event]) -> None:
        """A line of the server, without its end."""
        raise NotImplementedError

    def _in_body(self, side: Side) -> bool:  # noqa: ARG002 - most have none
        """Whether the side is sending something that is no lines."""
        return False

    def _body(self, side: Side, data: bytes, at: int, events: list[Event]) -> int:
        """Take that away; where it ends, or where the data does."""
        raise NotImplementedError

    # -- for the base

    def _between_units(self) -> bool:
        return self._length[Side.CLIENT] == 0 and not self._in_body(Side.CLIENT)

    def _client(self, data: bytes, events: list[Event]) -> int:
        at = 0
        while at < len(data):
            if self._in_body(Side.CLIENT):
                at = self._body(Side.CLIENT, data, at, events)
                continue
            if at and data[at] == HELLO_START and not self._length[Side.CLIENT]:
                break
            at, line = self._line(Side.CLIENT, data, at, events)
            if line is not None:
                self._command(line, events)
                if self._asked or self._unread:
                    break
        return at

    def _server(self, data: bytes, events: list[Event]) -> int:
        at = 0
        while at < len(data):
            if self._in_body(Side.SERVER):
                at = self._body(Side.SERVER, data, at, events)
                continue
            at, line = self._line(Side.SERVER, data, at, events)
            if line is not None:
                self._reply(line, events)
                if self._agreed:
                    break
                if self._unread:
                    return len(data)
        return at

    def _line(self, side: Side, data: bytes, at: int, events: list[Event]) -> tuple[int, str | None]:
        """The line that ends in these bytes, told; none while it is not whole."""
        partial = self._partial[side]
        end = data.find(b"\n", at) + 1
        piece = data[at : end or len(data)]
        if self.fits and not self.sure and NO_TEXT.search(piece):
            self._odd(side, "line", "text", "control characters", events)
        partial += piece[: TEXT_AT_MOST - len(partial)]
        self._length[side] += len(piece)
        if not end:
            return len(data), None
        text = partial.decode("utf-8", "backslashreplace")
        told = self._redactor.line(text, from_client=side is Side.CLIENT)
        if self._length[side] > len(partial):
            told += f"... ({self._length[side]} bytes)\r\n"
        events.append(Said(side, told))
        partial.clear()
        self._length[side] = 0
        return end, text.rstrip("\r\n")


def verb(line: str) -> str:
    """The first word, in upper case."""
    return line.split(" ", 1)[0].strip().upper()

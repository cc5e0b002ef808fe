"""STARTTLS in IMAP (RFC 9051 6.2.1, RFC 3501 6.2.1).

Answers carry the tag of their command, so nothing has to be counted. A line that ends in ``{17}`` is followed by a
literal of 17 bytes, after which the line goes on (RFC 9051 4.3): a literal is passed on unread, for it may hold
anything, the words of a command too. A server may refuse a client's literal with the command's own answer; then it
never comes.
"""

from __future__ import annotations

import re
from typing import ClassVar

from countersign.proxy.ways.starttls._lines import LineDialect
from countersign.proxy.ways.starttls.events import Event, Said
from countersign.recorder.wire.events import Side

_LITERAL = re.compile(r"\{(\d{1,10})\+?\}$")
_GREETING = re.compile(r"\* (?:OK|PREAUTH|BYE)\b", re.IGNORECASE)
_COMMAND = re.compile(r"([^\s(){%*\"\\+]+) ([A-Za-z0-9]+)\b")


class Imap(LineDialect):
    """IMAP."""

    name: ClassVar[str] = "imap"

    def __init__(self) -> None:
        super().__init__()
        self._greeted = False
        self._tag = ""  # of the command that is being sent
        self._upgrade_tag = ""
        self._literal = {Side.CLIENT: 0, Side.SERVER: 0}
        self._size = 0
        self._goes_on = {Side.CLIENT: False, Side.SERVER: False}  # the next line is the rest of one before a literal

    def _in_body(self, side: Side) -> bool:
        return self._literal[side] > 0

    def _body(self, side: Side, data: bytes, at: int, events: list[Event]) -> int:
        taken = min(self._literal[side], len(data) - at)
        self._literal[side] -= taken
        if not self._literal[side]:
            events.append(Said(side, "(a literal)\r\n"))
        return at + taken

    def _begin_literal(self, side: Side, line: str) -> None:
        """Where the line ends in one."""
        found = _LITERAL.search(line)
        self._literal[side] = int(found[1]) if found else 0
        self._goes_on[side] = found is not None

    def _command(self, line: str, events: list[Event]) -> None:
        goes_on = self._goes_on[Side.CLIENT]
        self._begin_literal(Side.CLIENT, line)
        found = None if goes_on else _COMMAND.match(line)
        if found is None:
            return
        self._tag = found[1]
        if found[2].upper() == "STARTTLS":
            self._upgrade_tag = self._tag
            self._ask(events)

    def _reply(self, line: str, events: list[Event]) -> None:
        goes_on = self._goes_on[Side.SERVER]
        self._begin_literal(Side.SERVER, line)
        if goes_on:
            return
        if not self._greeted:
            self._greeted = True
            if not _GREETING.match(line):
                self._odd(Side.SERVER, "greeting", "* OK", repr(line[:80]), events)
            else:
                self.sure = True  # no other protocol greets so
            return
        tag, _, rest = line.partition(" ")
        if tag == self._tag and self._literal[Side.CLIENT] and not self._asked:
            self._literal[Side.CLIENT], self._goes_on[Side.CLIENT] = 0, False
        if self._asked and tag == self._upgrade_tag:
            if rest[:2].upper() == "OK":
                self._agree(events)
            else:
                self._decline(line, events)

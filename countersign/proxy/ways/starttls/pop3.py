"""STLS in POP3 (RFC 2595 4)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar

from countersign.proxy.ways.starttls._lines import WAITING_AT_MOST, LineDialect, verb
from countersign.recorder.wire.events import Side

if TYPE_CHECKING:
    from countersign.proxy.ways.starttls.events import Event

_GREETING = "(greeting)"
_ALWAYS_LONG = frozenset({"CAPA", "RETR", "TOP"})
_LONG_ALONE = frozenset({"AUTH", "LIST", "UIDL"})  # without an argument (RFC 1939 5, 7; RFC 1734)


class Pop3(LineDialect):
    """POP3. Commands may be pipelined (RFC 2449 6.6), so answers are counted, those of several lines to their end."""

    name: ClassVar[str] = "pop3"

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[tuple[str, bool]] = deque([(_GREETING, False)])  # the command, and whether its +OK is long
        self._long = False  # the answer goes on to a line with a dot alone
        self._continues = False  # the next line of the client goes on with AUTH

    def _command(self, line: str, events: list[Event]) -> None:
        if self._continues:  # RFC 5034 4
            self._continues = False
            return
        if len(self._waiting) == WAITING_AT_MOST:
            self._lose(Side.CLIENT, "command", f"at most {WAITING_AT_MOST} commands waiting", "more", events)
            return
        word = verb(line)
        alone = not line[len(word) :].strip()
        self._waiting.append((word, word in _ALWAYS_LONG or (alone and word in _LONG_ALONE)))
        if word == "STLS":
            self._ask(events)

    def _reply(self, line: str, events: list[Event]) -> None:
        if self._long:
            self._long = line != "."
            return
        if line.startswith("+ ") or line == "+":
            self._continues = True
            return
        good = line.startswith("+OK")
        if not good and not line.startswith("-ERR"):
            self._unexpected(line, events)
            return
        if not self._waiting:
            return
        command, long = self._waiting.popleft()
        self._long = long and good
        if command == _GREETING:
            self.sure = True  # no other protocol greets so
        elif command == "STLS":
            if good:
                self._agree(events)
            else:
                self._decline(line, events)

    def _unexpected(self, line: str, events: list[Event]) -> None:
        if self._waiting and self._waiting[0][0] == _GREETING:
            self._waiting.popleft()
            self._odd(Side.SERVER, "greeting", "+OK", repr(line[:80]), events)
        else:
            self._violation(Side.SERVER, "reply", "+OK or -ERR", repr(line[:80]), events)

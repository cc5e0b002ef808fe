"""STARTTLS in SMTP (RFC 3207) and LMTP (RFC 2033).

The text of a message (DATA, BDAT) is no dialogue: it is passed on, not read and not told. In LMTP each recipient that
was accepted gets an answer of its own for it.
"""

from __future__ import annotations

from typing import ClassVar

from countersign.proxy.ways.starttls._lines import verb
from countersign.proxy.ways.starttls._replies import GREETING, ReplyDialect
from countersign.proxy.ways.starttls.events import Event, Said
from countersign.recorder.wire.events import Side

_VERBS = frozenset(
    {
        "AUTH", "BDAT", "BURL", "DATA", "EHLO", "ETRN", "EXPN", "HELO", "HELP", "LHLO", "MAIL", "NOOP", "QUIT", "RCPT",
        "RSET", "STARTTLS", "VRFY", "XCLIENT", "XFORWARD",
    }
)  # fmt: skip
_GREETS = frozenset({220, 421, 521, 554})  # RFC 5321 4.2, RFC 7504


class Smtp(ReplyDialect):
    """SMTP and LMTP."""

    name: ClassVar[str] = "smtp"

    def __init__(self) -> None:
        super().__init__()
        self._lmtp = False
        self._recipients = 0
        self._data = False  # the text of a message, up to a line with a dot alone
        self._octets = 0  # of a BDAT chunk that are still to come
        self._last_chunk = False
        self._tail = b""
        self._size = 0
        self._continues = False  # the next line of the client goes on with AUTH

    def _command(self, line: str, events: list[Event]) -> None:
        if self._continues:  # RFC 4954 4
            self._continues = False
            return
        word = verb(line)
        if not self.sure and word not in _VERBS:
            self._odd(Side.CLIENT, "command", "a command of SMTP", "another word", events)
        self.sure = self.sure or word not in {"AUTH", "HELP", "NOOP", "QUIT"}  # those FTP has too
        if word == "LHLO":
            self._lmtp = True
        if word == "BDAT" and self._begin_chunk(line, events):  # RFC 3030 2: the answer comes behind the chunk
            return
        self._await(word, events)
        if word == "STARTTLS":
            self._ask(events)

    def _begin_chunk(self, line: str, events: list[Event]) -> bool:
        words = line.split()
        if len(words) < 2 or not (words[1].isascii() and words[1].isdigit()) or len(words[1]) > 12:
            return False
        self._octets, self._size = int(words[1]), int(words[1])
        self._last_chunk = len(words) > 2 and words[2].upper() == "LAST"
        if not self._octets:
            self._await_delivery(events, whole=self._last_chunk)
        return True

    def _await_delivery(self, events: list[Event], *, whole: bool) -> None:
        """RFC 2033 4.2: LMTP answers a whole message once for each recipient."""
        for _ in range(max(1, self._recipients) if self._lmtp and whole else 1):
            if not self._unread:
                self._await("(message)", events)
        if whole:
            self._recipients = 0

    def _in_body(self, side: Side) -> bool:
        return side is Side.CLIENT and (self._data or self._octets > 0)

    def _body(self, side: Side, data: bytes, at: int, events: list[Event]) -> int:
        if self._octets:
            taken = min(self._octets, len(data) - at)
            self._octets -= taken
            if not self._octets:
                events.append(Said(side, f"(a message's text, {self._size} bytes)\r\n"))
                self._await_delivery(events, whole=self._last_chunk)
            return at + taken
        text = self._tail + data[at:]
        found = text.find(b"\r\n.\r\n")
        if found < 0:
            self._size += len(data) - at
            self._tail = text[-4:]
            return len(data)
        end = at + found + 5 - len(self._tail)
        events.append(Said(side, f"(a message's text, {self._size + end - at} bytes)\r\n"))
        self._data = False
        self._await_delivery(events, whole=True)
        return end

    def _preliminary(self, code: int) -> bool:
        if code == 334 and self._waiting and self._waiting[0] == "AUTH":
            self._continues = True
            return True
        return False

    def _answered(self, command: str, code: int, line: str, events: list[Event]) -> None:
        if command == GREETING and code not in _GREETS:
            self._odd(Side.SERVER, "greeting", "220", repr(line[:80]), events)
        elif command == "STARTTLS":  # RFC 3207 4: 220, 501 or 454
            if code == 220:
                self._agree(events)
            else:
                self._decline(line, events)
        elif command == "RCPT" and code // 100 == 2:
            self._recipients += 1
        elif command in {"MAIL", "RSET"}:
            self._recipients = 0
        elif command == "DATA" and code == 354:
            self._data, self._size, self._tail = True, 0, b"\r\n"

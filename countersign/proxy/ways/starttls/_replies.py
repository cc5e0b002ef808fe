"""Protocols whose answers begin with three digits: SMTP (RFC 5321 4.2) and FTP (RFC 959 4.2).

Commands may be pipelined (RFC 2920), so which answer belongs to which command is a matter of counting: a queue of
commands that wait, the greeting first, from which each final answer takes one.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

from countersign.proxy.ways.starttls._lines import WAITING_AT_MOST, LineDialect
from countersign.recorder.wire.events import Side

if TYPE_CHECKING:
    from countersign.proxy.ways.starttls.events import Event

GREETING = "(greeting)"
_REPLY = re.compile(r"(\d{3})(?:([ -])(.*))?", re.DOTALL)


class ReplyDialect(LineDialect):
    """Base of SMTP and FTP."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[str] = deque([GREETING])
        self._continuing = ""  # the code of an answer of several lines

    # -- for the subclass

    def _answered(self, command: str, code: int, line: str, events: list[Event]) -> None:
        """A final answer to a command came."""
        raise NotImplementedError

    def _preliminary(self, code: int) -> bool:
        """Whether another answer follows to the same command."""
        raise NotImplementedError

    # -- lines

    def _await(self, command: str, events: list[Event]) -> None:
        if len(self._waiting) == WAITING_AT_MOST:
            self._lose(Side.CLIENT, "command", f"at most {WAITING_AT_MOST} commands waiting", "more", events)
        else:
            self._waiting.append(command)

    def _reply(self, line: str, events: list[Event]) -> None:
        found = _REPLY.fullmatch(line)
        if self._continuing:
            if found is None or found[1] != self._continuing or found[2] == "-":
                return
            self._continuing = ""
        elif found is None:
            self._unexpected(line, events)
            return
        elif found[2] == "-":
            self._continuing = found[1]
            return
        code = int(found[1])
        if self._preliminary(code) or not self._waiting:  # an answer to nothing: 421, mostly
            return
        self._answered(self._waiting.popleft(), code, line, events)

    def _unexpected(self, line: str, events: list[Event]) -> None:
        expected = "an answer that begins with three digits"
        if self._waiting and self._waiting[0] == GREETING:
            self._waiting.popleft()
            self._odd(Side.SERVER, "reply", expected, repr(line[:80]), events)
        else:
            self._violation(Side.SERVER, "reply", expected, repr(line[:80]), events)

"""AUTH TLS in FTP (RFC 4217).

The control connection alone: data connections go where PASV, EPSV or PORT say, which is inside of TLS by then, to the
target's own address. A client that can reach that address reaches it past this proxy; one that cannot fails, as it
does behind every device that does not rewrite these answers. Nothing here rewrites them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from countersign.proxy.ways.starttls._lines import verb
from countersign.proxy.ways.starttls._replies import GREETING, ReplyDialect
from countersign.recorder.wire.events import Side

if TYPE_CHECKING:
    from countersign.proxy.ways.starttls.events import Event

_VERBS = frozenset(
    {
        "ABOR", "ACCT", "ADAT", "ALLO", "APPE", "AUTH", "CCC", "CDUP", "CLNT", "CONF", "CWD", "DELE", "ENC", "EPRT",
        "EPSV", "FEAT", "HELP", "HOST", "LANG", "LIST", "LPRT", "LPSV", "MDTM", "MIC", "MKD", "MLSD", "MLST", "MODE",
        "NLST", "NOOP", "OPTS", "PASS", "PASV", "PBSZ", "PORT", "PROT", "PWD", "QUIT", "REIN", "REST", "RETR", "RMD",
        "RNFR", "RNTO", "SITE", "SIZE", "SMNT", "STAT", "STOR", "STOU", "STRU", "SYST", "TYPE", "USER",
    }
)  # fmt: skip
_SHARED = frozenset({"AUTH", "HELP", "NOOP", "QUIT"})
_TLS = frozenset({"TLS", "SSL", "TLS-C", "TLS-P"})
"""RFC 4217 2 has the first; the drafts before it had the others."""


class Ftp(ReplyDialect):
    """FTP's control connection."""

    name: ClassVar[str] = "ftp"

    def _command(self, line: str, events: list[Event]) -> None:
        word = verb(line)
        if not self.sure and word not in _VERBS:
            self._odd(Side.CLIENT, "command", "a command of FTP", "another word", events)
        self.sure = self.sure or word not in _SHARED
        upgrade = word == "AUTH" and line[4:].strip().upper() in _TLS
        self._await("AUTH TLS" if upgrade else word, events)
        if upgrade:
            self._ask(events)

    def _preliminary(self, code: int) -> bool:
        return code < 200  # RFC 959 4.2: the final answer follows

    def _answered(self, command: str, code: int, line: str, events: list[Event]) -> None:
        if command == GREETING and code not in {220, 421, 530}:
            self._odd(Side.SERVER, "greeting", "220", repr(line[:80]), events)
        elif command == "AUTH TLS":  # RFC 4217 4
            if code in {234, 334}:
                self._agree(events)
            else:
                self._decline(line, events)

"""``--starttls auto``: whichever protocol the words fit, and TLS after words that fit none.

Every dialect watches the dialogue from its first byte, beside one that understands nothing and waits for a ClientHello
where the client has its turn. Up to a request for TLS all of them pass on the same bytes, so which one speaks for them
does not matter; one whose protocol it is not falls out, and the first that is sure of its own stays alone.

What happens before any byte is the caller's: a client that says nothing for :data:`SILENCE` seconds waits for a server
that speaks first, and the target has to be dialled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from countersign.proxy.ways.starttls.dialect import Dialect
from countersign.proxy.ways.starttls.ftp import Ftp
from countersign.proxy.ways.starttls.imap import Imap
from countersign.proxy.ways.starttls.ldap import Ldap
from countersign.proxy.ways.starttls.mysql import Mysql
from countersign.proxy.ways.starttls.pop3 import Pop3
from countersign.proxy.ways.starttls.postgres import Postgres
from countersign.proxy.ways.starttls.smtp import Smtp
from countersign.proxy.ways.starttls.xmpp import Xmpp

if TYPE_CHECKING:
    from countersign.proxy.ways.starttls.events import Event
    from countersign.recorder.wire.events import Side

SILENCE: Final = 0.2
"""Seconds without a byte, after which the target is dialled, or :meth:`Dialect.silence` called."""

DIALECTS: Final[tuple[type[Dialect], ...]] = (Smtp, Imap, Pop3, Ftp, Ldap, Postgres, Mysql, Xmpp)


class Unknown(Dialect):
    """Words of any kind: passed on unread."""

    name: ClassVar[str] = "unknown"

    def __init__(self) -> None:
        super().__init__()
        self._unread = True


class Auto(Dialect):
    """The dialects that fit as yet."""

    name: ClassVar[str] = "auto"
    server_first: ClassVar[bool | None] = None

    def __init__(self) -> None:
        super().__init__()
        self._fitting: list[Dialect] = [*(dialect() for dialect in DIALECTS), Unknown()]

    @property
    def protocol(self) -> str:
        """The protocol, once it is known; ``unknown`` until then."""
        return self._fitting[0].protocol if len(self._fitting) == 1 else Unknown.name

    def receive(self, side: Side, data: bytes) -> list[Event]:
        """What a side sent: read by all that fit, told by the first of those that still do."""
        read = [(dialect, dialect.receive(side, data)) for dialect in self._fitting]
        fitting = [(dialect, events) for dialect, events in read if dialect.fits]
        sure = [pair for pair in fitting if pair[0].sure]
        chosen, events = (sure or fitting or read)[0]  # one that has stayed alone goes on whatever comes
        self._fitting = [chosen] if sure or not fitting else [dialect for dialect, _ in fitting]
        self.upgraded = chosen.upgraded
        return events

    def silence(self) -> list[Event]:
        return self._fitting[0].silence()

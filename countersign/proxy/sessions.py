"""Sessions that are taken up again (resumption), on both legs, so that a client sees what it would see without us.

What the client offers to resume is a session that it has with *us*; what the target can resume is one that it has with
*us*, too. Each is as good as the other only where both are of the same conversation partners. So:

*The target* is asked to resume only where the client asks, and with a session of the same :class:`Place`: same target,
server name, ALPN protocols and hello, and the same client certificate behind it (RFC 8446 2.2: the certificate of the
first handshake goes on to count in all that resume it). Whose ticket it is that the client offers is remembered from
when it was issued.

*The client's* session is taken up again only where the target has taken up its own. Where the target wants a full
handshake, the client gets one, on a leaf after what the target shows now, and with it a new session. How a session can
be declined: :mod:`countersign.proxy._openssl`. Where the target gives no session below TLS 1.3, nor does the proxy. In
TLS 1.3 that cannot be known in time, for tickets come after the handshake.

*No certificate is inherited.* A session id or ticket is there for everybody to see who hears the ClientHello, and who
sends it has proven nothing until the client leg stands. A client that is behind a resumed session of somebody's
certificate with the target therefore must have resumed with us, by a session in which it has proven to own that very
certificate; else the session ends before a byte is passed on.

*What is kept.* The newest session of a place, for less than two hours, and what is least used goes first. A session
whose connection ends with a fatal alert, or by something that cannot be taken, is not taken up again (RFC 5246 7.2.2,
RFC 8446 6.2); one that ends without a close_notify is (RFC 5246 7.2.1). A ticket that the client holds is a ticket all
the same, and is declined with the target's.

*Several processes.* Tickets are good for all that were forked after the bases were made. Session ids, the sessions
with targets, and whose a ticket is, each process knows for itself; what it does not know is a full handshake on both
legs.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

from countersign.proxy._openssl import NO_SESSIONS
from countersign.proxy.settings import Mtls
from countersign.recorder.recording import FailureCode, LegRole, Party
from countersign.recorder.wire import codes
from countersign.recorder.wire.names import TLS13

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.proxy._openssl import ClientSession, Prepared, TlsConnection, TlsServerSide
    from countersign.proxy.context import Context, Over
    from countersign.proxy.leg import TlsLeg
    from countersign.proxy.mtls import Exchange
    from countersign.recorder.wire.reading import HelloSummary

_HOLDS = 7000.0  # seconds; OpenSSL takes up no session of ours that is two hours old
_PLACES = 512
_TICKETS = 8192
_IDS = 50_000  # more than OpenSSL's caches hold, or one that it would take up again could be unknown here
_CHAIN_AT_MOST = 32 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Whom a session with a target is for. ``holder`` is the SHA-256 of the client's own certificate, where one of its
    stands behind the session.
    """

    target: str
    sni: bytes | None
    alpn: tuple[bytes, ...]
    hello: Prepared
    holder: bytes | None = None

    @property
    def scope(self) -> bytes:
        """What a client's session is good for, whoever holds it: this target by this name."""
        name = b"" if self.sni is None else b"\0" + self.sni
        return sha256(self.target.encode() + b"\0" + name).digest()


@dataclass(frozen=True, slots=True)
class Issued:
    """A session that a client has from us: the base that can take it up, whose it is, and until when that is known."""

    base: int
    holder: bytes | None
    until: float


@dataclass(frozen=True, slots=True)
class _Kept:
    session: ClientSession
    until: float
    by: weakref.ref[TlsConnection]


class Sessions:
    """What an engine knows of sessions: those with targets, and which of the clients' are whose."""

    def __init__(self, server_side: TlsServerSide, *, monotonic: Callable[[], float], size: int = _PLACES) -> None:
        self._server_side = server_side
        self._monotonic = monotonic
        self._size = size
        self._open: dict[Place, dict[TlsConnection, None]] = {}
        self._kept: OrderedDict[Place, _Kept] = OrderedDict()
        self._tickets: OrderedDict[bytes, Issued] = OrderedDict()
        self._ids: OrderedDict[bytes, Issued] = OrderedDict()

    def forget(self) -> None:
        """Nothing from before is taken up again; what is open goes on, and leaves nothing behind."""
        self._server_side.forget()
        for known in (self._open, self._kept, self._tickets, self._ids):
            known.clear()

    # -- with clients

    def offered(self, summary: HelloSummary) -> tuple[int | None, Issued | None]:
        """The base that could take up what a client offers, and what this process knows of it."""
        for ticket in tickets_in(summary):
            base = self._server_side.base_of(ticket)
            if base is not None:
                return base, self._current(self._tickets.get(_digest(ticket)))
        found = self._ids.get(_digest(summary.session_id)) if summary.session_id else None
        return None if found is None else found.base, self._current(found)

    def _current(self, issued: Issued | None) -> Issued | None:
        return issued if issued is not None and issued.until > self._monotonic() else None

    def watch(
        self, connection: TlsConnection, base: int, holder: Callable[[], bytes | None], *, by_ticket: bool
    ) -> None:
        """Hear which sessions a client gets on this connection; ``by_ticket``: tickets, too, whose base is known."""
        given = _Given(self, connection, base, holder)
        connection.tap_only(codes.SERVER_HELLO, given.answered, written=True)
        if by_ticket:
            connection.tap_only(codes.NEW_SESSION_TICKET, given.ticket, written=True)

    def issued(self, identity: bytes, base: int, holder: bytes | None, *, is_ticket: bool = False) -> None:
        """A client has got this session id or ticket."""
        known, at_most = (self._tickets, _TICKETS) if is_ticket else (self._ids, _IDS)
        digest = _digest(identity)
        known[digest] = Issued(base, holder, self._monotonic() + _HOLDS)
        known.move_to_end(digest)
        if len(known) > at_most:
            known.popitem(last=False)

    def buried(self, session_id: bytes) -> None:
        """Its connection was broken off, and nobody takes it up again."""
        self._ids.pop(_digest(session_id), None)

    # -- with targets

    def find(self, place: Place) -> ClientSession | None:
        """The newest session of this place."""
        for connection in reversed(self._open.get(place, {})):
            if connection.resumable:
                self._keep(place, connection)
                break
        kept = self._kept.get(place)
        if kept is None:
            return None
        if kept.until < self._monotonic():
            del self._kept[place]
            return None
        self._kept.move_to_end(place)
        return kept.session

    def opened(self, place: Place, connection: TlsConnection, at_close: Callable[[TlsConnection], None]) -> None:
        """The handshake with the target is done; what it gives on this connection is for this place."""
        if not connection.resumed:
            self._kept.pop(place, None)  # the target knows nothing of it any more, or wants to know nothing
        there = self._open.setdefault(place, {})
        there[connection] = None

        connection.at_close = partial(self._closed, place, connection, there, at_close)

    def _closed(
        self,
        place: Place,
        connection: TlsConnection,
        there: dict[TlsConnection, None],
        at_close: Callable[[TlsConnection], None],
    ) -> None:
        at_close(connection)
        if self._open.get(place) is not there:
            return  # all was forgotten meanwhile
        del there[connection]
        if not there:
            del self._open[place]
        if connection.sound:
            if connection.resumable:
                self._keep(place, connection)
        elif (kept := self._kept.get(place)) is not None and kept.by() is connection:
            del self._kept[place]

    def _keep(self, place: Place, connection: TlsConnection) -> None:
        session = connection.session()
        if sum(map(len, session.chain)) > _CHAIN_AT_MOST:
            return
        self._kept[place] = _Kept(session, self._monotonic() + _HOLDS, weakref.ref(connection))
        self._kept.move_to_end(place)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)


class _Given:
    """Hears which sessions a client gets on one connection."""

    __slots__ = ("_base", "_connection", "_holder", "_session_id", "_sessions")

    def __init__(
        self, sessions: Sessions, connection: TlsConnection, base: int, holder: Callable[[], bytes | None]
    ) -> None:
        self._sessions = sessions
        self._connection = connection
        self._base = base
        self._holder = holder
        self._session_id = b""

    def answered(self, data: bytes) -> None:
        """A ServerHello of ours (RFC 5246 7.4.1.3); the session id of TLS 1.3's is an echo."""
        if self._connection.version != TLS13:
            self._session_id = data[39 : 39 + data[38]]
            if self._session_id:
                self._sessions.issued(self._session_id, self._base, self._holder())
                self._connection.at_close = self._closed

    def ticket(self, data: bytes) -> None:
        """A NewSessionTicket of ours."""
        ticket = _ticket(data, tls13=self._connection.version == TLS13)
        self._sessions.issued(ticket, self._base, self._holder(), is_ticket=True)

    def _closed(self) -> None:
        if not self._connection.sound:
            self._sessions.buried(self._session_id)


class Resumption:
    """What one connection of a client takes up again, and what it leaves to be taken up."""

    __slots__ = (
        "_context", "_exchange", "_offered_base", "_on", "_place", "_resumes_holder", "_sessions", "_target_resumed",
        "_wanted",
    )  # fmt: skip

    def __init__(self, context: Context, place: Place, summary: HelloSummary, exchange: Exchange) -> None:
        self._context = context
        self._exchange = exchange
        self._sessions = context.engine.sessions
        self._place = place
        self._on = context.settings.resumption and context.orders.resumes
        self._offered_base, issued = self._sessions.offered(summary)
        self._resumes_holder = issued.holder if issued is not None else None
        # Whose certificate stands behind a session, only the process knows that has issued it.
        unsure = context.conduct.mtls is Mtls.RELAY and issued is None
        self._wanted = self._on and self._offered_base is not None and not unsure
        self._target_resumed = False
        self._note(summary)

    def _note(self, summary: HelloSummary) -> None:
        notes = self._context.recording.not_mirrored
        if summary.has_early_data:
            notes.append("extensions: early_data; 0-RTT data is refused, and the client has to send it again")
        offers = bool(tickets_in(summary)) or bool(summary.session_id and TLS13 not in summary.versions)
        if not offers:
            return
        if not self._on:
            notes.append("resumption: off")
        elif self._offered_base is None:
            notes.append("resumption: the session that the client offers is none that this proxy has given it")
        elif not self._wanted:
            notes.append("resumption: whose certificate is behind the session that the client offers is not known here")

    def _place_of(self, holder: bytes | None) -> Place:
        return self._place if holder is None else replace(self._place, holder=holder)

    def session(self) -> ClientSession | None:
        """What the target is asked to take up again."""
        if not self._wanted:
            return None
        found = self._sessions.find(self._place_of(self._resumes_holder))
        if found is None:
            self._context.recording.not_mirrored.append("resumption: there is no session with the target to take up")
        return found

    def target_done(self, connection: TlsConnection) -> None:
        """The server leg stands."""
        self._target_resumed = connection.resumed
        if self._on and connection.verify_error is None:  # or a target that is not trusted would seem so next time
            self._sessions.opened(self._place_of(self._holder), connection, self._note_early_data)

    def _note_early_data(self, connection: TlsConnection) -> None:
        if connection.early_data:
            text = f"early_data: the target takes {connection.early_data} bytes of 0-RTT data, the client is given none"
            self._context.recording.not_mirrored.append(text)

    @property
    def _holder(self) -> bytes | None:
        """Whose certificate stands behind this connection."""
        return self._resumes_holder if self._target_resumed else self._exchange.holder

    @property
    def base(self) -> int:
        """The base for the client leg: the one that can take up what the client offers, if the target has, too."""
        if not self._on:
            return NO_SESSIONS
        offered = self._offered_base
        if offered is None:
            return 0
        return offered if self._target_resumed else 1 - offered

    @property
    def scope(self) -> bytes:
        """What the client's session is good for."""
        return self._place.scope

    def gives(self, server: TlsLeg) -> bool:
        """Whether the client gets a session from us: where we have one, or it is too early to tell."""
        early = not server.stands or server.connection.version == TLS13
        return self._on and (early or server.connection.resumable or self._target_resumed)

    def client_begins(self, connection: TlsConnection) -> None:
        """The client leg is about to begin."""
        if self._on:
            relays = self._context.conduct.mtls is Mtls.RELAY
            self._sessions.watch(connection, self.base, lambda: self._holder, by_ticket=relays)

    def client_done(self, leg: TlsLeg) -> Over | None:
        """The client leg stands. What ends the session where it may not be behind the target's."""
        if not self._target_resumed:
            return None
        recording = self._context.recording
        if not leg.connection.resumed:
            recording.not_mirrored.append("resumption: the target has resumed, the client made a full handshake")
        if self._holder is None:
            return None
        shown = leg.connection.shown()
        if leg.connection.resumed and shown is not None and sha256(shown).digest() == self._holder:
            recording.mtls.update(
                mode=Mtls.RELAY.value,
                why="both legs have resumed; the client's certificate is that of the first handshake",
            )
            return None
        text = "offered a session behind which there is a client certificate, and did not take it up;"
        text += " what the target thinks of that certificate's owner is not for this client"
        return self._context.over(LegRole.CLIENT, Party.CLIENT, code=FailureCode.BROKEN_MESSAGE, text=text)


def tickets_in(summary: HelloSummary) -> tuple[bytes, ...]:
    """All that a ClientHello offers to resume by, session ids left out (RFC 8446 4.2.11, RFC 5077 3.2)."""
    return (*summary.psk_identities, *((summary.session_ticket,) if summary.session_ticket else ()))


def _digest(identity: bytes) -> bytes:
    return sha256(identity).digest()


def _ticket(message: bytes, *, tls13: bool) -> bytes:
    """The ticket in a NewSessionTicket of ours (RFC 8446 4.6.1, RFC 5077 3.3)."""
    at = 13 + message[12] if tls13 else 8
    size = int.from_bytes(message[at : at + 2])
    return message[at + 2 : at + 2 + size]

"""What is said before TLS: how a client names its target, and how it hears what became of it.

A prelude is a value. Each mode has one, and they compose: a PROXY header in front of any of them, a STARTTLS dialogue
behind any of them, is a prelude that runs another one. Its one method takes the client's stream and a :class:`Reach`,
and gives what was :class:`Asked`:

    asked = await prelude.run(stream, reach)
    await reach.open(asked)              check, dial, tell the client; the session does it unless the prelude has

The dial belongs to the session, because what may be dialled is decided there and a failure is an outcome of the
session. What the client is told of it belongs to the prelude, for each protocol has its own words: that is
:class:`Reply`. A prelude whose protocol has none (reverse, transparent) leaves it out, and then the target is dialled
when the ClientHello is there.

A prelude that needs the target's own words (STARTTLS: the banner comes from there) calls ``reach.open`` itself, talks
to both, and gives back what was asked with ``reply`` taken out. One that has served the client by itself, so that there
is nothing left to relay (plain ``http://`` requests, each with a connection from ``reach.fetch``), gives None.

Every prelude keeps its own time limit, of ``reach.limits``, and leaves what came behind its dialogue in the stream
(:meth:`~countersign.proxy.stream.Stream.unread`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import h11

from countersign.errors import UserError
from countersign.proxy.redaction import REDACTED, request_record
from countersign.proxy.settings import Mode, parse_address
from countersign.recorder.recording import Ending, FailureCode, Party
from countersign.recorder.wire.records import looks_like_tls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from countersign.proxy.dial import SockAddr
    from countersign.proxy.settings import Address, Limits, Settings
    from countersign.proxy.stream import Stream


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client has asked for.

    ``target`` is None where the ClientHello decides: then ``by_name`` gives the target for a server name, or for none,
    and there can be no ``reply``. ``addresses`` are where the target is, if the prelude knows; else its name is
    resolved. ``record`` goes into the recording's ``prelude``, credentials left out. ``by_client`` tells that the
    client chose the target, so that it may be one that nobody should reach. ``client`` is who the client really is,
    where a proxy in front of this one said so.
    """

    target: Address | None
    addresses: tuple[SockAddr, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    reply: Reply | None = None
    by_client: bool = True
    client: str | None = None
    by_name: Callable[[str | None], Address | None] | None = None


class Reply(Protocol):
    """Tells the client how the dial went, once; what it gives is added to the recording's ``prelude``."""

    def granted(self) -> Mapping[str, Any]:
        """The connection to the target stands."""

    def refused(self, code: FailureCode, text: str) -> Mapping[str, Any]:
        """It does not; ``text`` is a whole sentence without its full stop."""


class Reach(Protocol):
    """What a prelude may ask of its session."""

    @property
    def limits(self) -> Limits:
        """Seconds that each step may take."""

    async def open(self, asked: Asked) -> Stream:
        """The connection to the target, made once: checked, dialled, and the client told. A failure ends the session,
        with an exception that a prelude lets through.
        """

    async def fetch(self, target: Address) -> Stream:
        """Another connection, to a target that the client has named, checked alike; who fetches it closes it.

        Raises :class:`~countersign.proxy.dial.DialFailed`.
        """


class Prelude(Protocol):
    """One way in."""

    async def run(self, stream: Stream, reach: Reach) -> Asked | None:
        """Let the client say what it wants. Raises :class:`PreludeFailed`."""


class PreludeFailed(Exception):  # noqa: N818 - an outcome of the session
    """The client did not ask as it should, and has been answered. ``text`` ends a sentence that starts with ``by``."""

    def __init__(
        self, code: FailureCode, text: str, *, by: Party = Party.CLIENT, record: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.by = by
        self.record = record or {}


def prelude_of(settings: Settings) -> Prelude:
    """The prelude of a mode."""
    if settings.mode is Mode.REVERSE:
        assert settings.target is not None
        return Reverse(settings.target)
    return Connect()


@dataclass(frozen=True, slots=True)
class Reverse:
    """Every client goes to the same target, and says nothing before its ClientHello."""

    target: Address

    async def run(self, stream: Stream, reach: Reach) -> Asked:  # noqa: ARG002 - as every prelude
        return Asked(self.target, by_client=False)


# -- CONNECT (RFC 9110 9.3.6) --------------------------------------------------------------------------------------

_HEAD_AT_MOST = 64 * 1024


@dataclass(frozen=True, slots=True)
class Connect:
    """The CONNECT request of a client that knows that it talks to a proxy, parsed by h11."""

    async def run(self, stream: Stream, reach: Reach) -> Asked:
        try:
            async with asyncio.timeout(reach.limits.hello):
                return await self._asked(stream)
        except TimeoutError:
            raise PreludeFailed(FailureCode.SILENT, "connected and sent no CONNECT request in time") from None

    async def _asked(self, stream: Stream) -> Asked:
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_AT_MOST)
        first, size = b"", 0
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError as error:
                text = "sent no proxy request that can be understood"  # h11 quotes the line, credentials and all
                if looks_like_tls(first):
                    text = "began with TLS where a CONNECT request belongs: it takes this proxy for the target itself"
                raise _refused(stream, error.error_status_hint or 400, "this is not a proxy request", text) from None
            if isinstance(event, h11.Request):
                break
            data = await stream.read()
            if not data:
                if not size:
                    text = "connected and closed without sending a CONNECT request"
                    raise PreludeFailed(FailureCode.NO_REQUEST, text)
                how = "reset the connection" if stream.ending is Ending.RESET else "closed"
                raise PreludeFailed(FailureCode.BAD_REQUEST, f"{how} in the middle of its proxy request")
            first = first or data[:16]
            size += len(data)
            parser.receive_data(data)
        if size - len(parser.trailing_data[0]) > _HEAD_AT_MOST:  # h11 minds only a request that is not whole
            text = f"sent no proxy request that can be understood: its head is longer than {_HEAD_AT_MOST} bytes"
            raise _refused(stream, 431, "the request is too long", text)
        record = {"request": request_record(event.method, event.target, event.http_version, event.headers)}
        if event.method != b"CONNECT":
            method = record["request"]["method"]
            what = "an unknown" if method == REDACTED else f"a {method}"
            raise _refused(
                stream,
                501,
                "this proxy takes CONNECT requests only",
                f"sent {what} request where a CONNECT request belongs",
                record=record,
                code=FailureCode.UNSUPPORTED_REQUEST,
            )
        try:
            target = parse_address(event.target.decode("ascii"), what="CONNECT")
        except (UserError, UnicodeDecodeError):
            text = "sent a CONNECT request whose target is not HOST:PORT"
            raise _refused(stream, 400, "CONNECT takes HOST:PORT", text, record=record) from None
        stream.unread(parser.trailing_data[0])
        return Asked(target, record=record, reply=_HttpReply(stream))


def _refused(
    stream: Stream,
    status: int,
    answer: str,
    text: str,
    *,
    record: Mapping[str, Any] | None = None,
    code: FailureCode = FailureCode.BAD_REQUEST,
) -> PreludeFailed:
    _answer(stream, status, answer)
    return PreludeFailed(code, text, record={**(record or {}), "answer": status})


@dataclass(frozen=True, slots=True)
class _HttpReply:
    stream: Stream

    def granted(self) -> Mapping[str, Any]:
        self.stream.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return {"answer": 200}

    def refused(self, code: FailureCode, text: str) -> Mapping[str, Any]:
        status = 502
        if code in {FailureCode.TARGET_NOT_ALLOWED, FailureCode.REFUSED_BY_RULE}:
            status = 403
        elif code in {FailureCode.DIAL_TIMEOUT, FailureCode.RESOLVER_TIMEOUT}:
            status = 504
        _answer(self.stream, status, text)
        return {"answer": status}


_PHRASES = {
    400: "Bad Request",
    403: "Forbidden",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    502: "Bad Gateway",
    504: "Gateway Timeout",
}


def _answer(stream: Stream, status: int, text: str) -> None:
    """Refuse a request, with the reason as text."""
    body = f"countersign: {text}\n".encode("ascii", "backslashreplace")
    head = f"HTTP/1.1 {status} {_PHRASES.get(status, 'Error')}\r\nContent-Type: text/plain; charset=us-ascii\r\n"
    allow = "Allow: CONNECT\r\n" if status == 501 else ""
    head += f"Content-Length: {len(body)}\r\nConnection: close\r\n{allow}\r\n"
    stream.write(head.encode("ascii") + body)

"""The answers over HTTP: OCSP, CRLs and issuers' certificates on a port of their own (RFC 6960 A, RFC 5280 4.2.2).

    async with Responder(Authority.make()) as responder:
        leaf, issuer, *_ = issue(responder.authority, "host").chain     # its certificates say where it answers
        responder.revoke(leaf)
        await responder.change([parse_fault("ocsp:tryLater")])

aiohttp parses HTTP; what is said is decided in :mod:`~countersign.ca.revocation.answers`; here are the doors, the
paths, and the ways of sending that are faults. Three things are done for the faults' sake:

*Doors.* To refuse a connection the port must be closed, and yet nobody else may take it meanwhile. So every port is
held by a socket that is bound and never listens, and the one that listens is opened and closed beside it; the holder
allows a second socket on its port (SO_REUSEADDR) only for the moment that this takes. All kinds of URLs share one door,
unless they are ``apart``: who connects has not said yet what for, so a responder can refuse for one kind or one issuer
alone only where each has its own port.

*A reset* is a close with SO_LINGER at nought; anything else would be a polite end.

*A large CRL* is written to a file without a name and sent from there, so that a hundred of them asked for at once cost
a hundred buffers.

Whoever asks is held for hostile: requests are bounded in bytes and time, connections in number; what is no OCSP request
gets malformedRequest and what is no HTTP request a 400; nothing that came in is echoed. It listens on loopback unless
told otherwise. What it gives out is public by nature, so no Host header is checked.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import ipaddress
import logging
import os
import re
import socket
import struct
import tempfile
import time
import weakref
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote_to_bytes

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from countersign.ca.revocation.answers import Answers, Manner
from countersign.ca.revocation.crl import write_big_crl
from countersign.ca.revocation.faults import Fault, Kind, What
from countersign.ca.revocation.issuers import Issuers, Served, entry_for, labelled, named
from countersign.ca.revocation.points import CaForm, CrlForm, CrlStyle, Points, Urls, with_points
from countersign.ca.revocation.register import Entry, Reason, Register, State
from countersign.ca.revocation.replies import MOVED, BigCrl, Reply, disguised
from countersign.errors import EnvironmentFault, UserError
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from aiohttp.web_request import BaseRequest

    from countersign.ca.authority import Authority

log = logging.getLogger("countersign.revocation")

_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_PIECE = 1 << 16
_LONGEST_LINE = 1 << 17
_SHOWN = 200
_STALLED = 30.0  # seconds for a client to read a piece
_WIRE = (What.RESET, What.HANG, What.SLOW, What.DRIP, What.TRUNCATED)
_HELD = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may cost: seconds for a request and between two, bytes of a request, connections of all."""

    request_seconds: float = 10.0
    idle_seconds: float = 15.0
    request_bytes: int = 1 << 16
    connections: int = 512


@dataclass(frozen=True, slots=True)
class Asked:
    """One question and what came of it.

    ``at`` is when it came, ``monotonic`` the same by :func:`time.monotonic`; ``kind`` is ``None`` where nothing was
    asked that a certificate names. ``serials`` are hexadecimal. ``sent`` counts the bytes of the body, ``seconds`` the
    time until the end. Who is refused is never seen: there is none of these for it.
    """

    url: str
    method: str
    kind: Kind | None
    at: datetime
    monotonic: float
    client: str
    answer: str
    issuer: str | None = None
    serials: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    status: int = 0
    sent: int = 0
    seconds: float = 0.0

    def to_json(self, started: float) -> dict[str, Any]:
        """As it stands in the recording of a session that started at that monotonic time."""
        return {"url": self.url, "asked_at": round(self.monotonic - started, 6), "answer": self.answer}


class Responder:
    """Answers for every issuer of some authorities while it runs; see the top of the module.

    ``register`` says what is revoked (by default nothing); ``crl`` which CRLs certificates point at; ``host`` is the
    name in their URLs, by default the address that it listens on. ``on_asked`` is called with each :class:`Asked`; the
    last thousand are in ``asked`` too. ``now`` is for tests.
    """

    def __init__(
        self,
        *authorities: Authority,
        register: Register | None = None,
        faults: Iterable[Fault] = (),
        manner: Manner | None = None,
        crl: CrlStyle = CrlStyle.FULL,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        host: str | None = None,
        apart: bool = False,
        beyond_loopback: bool = False,
        on_asked: Callable[[Asked], None] | None = None,
        limits: Limits | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not authorities:
            raise UserError("a responder needs an authority to answer for")
        if not beyond_loopback and not _is_loopback(listen[0]):
            raise UserError(
                f"cannot listen on {listen[0]}: everybody who reaches it could ask; say that this is meant"
                " (--beyond-loopback), or listen on 127.0.0.1"
            )
        if host is not None and not _HOST.fullmatch(host):
            raise UserError(f"cannot write URLs with the host {host!r}: expected a name or an address")
        self.register = Register() if register is None else register
        self.asked: deque[Asked] = deque(maxlen=_HELD)
        self._given = authorities
        self._manner, self._crl, self._limits, self._now = manner or Manner(), crl, limits or Limits(), now
        self._listen, self._host, self._apart = listen, host, apart
        self._on_asked = on_asked
        self._faults = self._checked(faults)
        self._authorities: tuple[Authority, ...] = ()
        self._answers: Answers | None = None
        self._doors: list[_Door] = []
        self._routes: dict[str, Callable[[], Reply]] = {}
        self._server: web.Server | None = None
        self._big: dict[tuple[Any, ...], tuple[float, asyncio.Task[_BigFile]]] = {}

    # -- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. Raises :class:`EnvironmentFault` where that cannot be."""
        try:
            urls = await self._open_doors()
            authorities = tuple(_pointed(self._given, urls, self._crl))
            served = list(_served(authorities, urls))
            answers = Answers(Issuers(served), self.register, self._manner, self._faults, self._now)
            await asyncio.to_thread(answers.prepare)  # an RSA key takes a while
        except BaseException:
            self._close_doors()
            raise
        self._authorities, self._answers = authorities, answers
        self._routes = dict(_routes(answers))
        self._server = web.Server(self._handle, handler_cancellation=True)
        await self._let_in()

    async def stop(self) -> None:
        """Let go of the port; answers that are on their way are broken off."""
        self._close_doors()
        if self._server is not None:
            for connection in self._server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await self._server.shutdown(1.0)
        for big in await asyncio.gather(*(task for _, task in self._big.values()), return_exceptions=True):
            if isinstance(big, _BigFile):
                big.close()
        self._big.clear()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # -- what it is asked from inside ----------------------------------------------------------------------------

    @property
    def authorities(self) -> tuple[Authority, ...]:
        """The authorities with intermediates that carry their points; empty before the start."""
        return self._authorities

    @property
    def authority(self) -> Authority:
        """The first of them."""
        return self._authorities[0]

    @property
    def addresses(self) -> list[str]:
        """Where it listens, ``host:port``."""
        return [door.address for door in self._doors]

    @property
    def answers(self) -> Answers:
        """What is answered; there is nothing before the start."""
        if self._answers is None:
            raise RuntimeError("the responder has not been started")
        return self._answers

    @property
    def labels(self) -> tuple[str, ...]:
        """What the issuers are called in URLs and faults: ``root``, ``intermediate-1`` ..."""
        return tuple(label for label, _, _ in labelled(self._given))

    def urls(self, label: str | None = None) -> Urls:
        """Where an issuer is answered for; by default the one that issues leaves."""
        served = self.answers.issuers.by_label.get(label or self._leaf_label)
        if served is None:
            raise UserError(f"no issuer called {label!r} is answered for: there are {', '.join(self.labels)}")
        return served.urls

    def points(self, label: str | None = None) -> Points:
        """What the certificates of an issuer have to carry; by default those of the one that issues leaves."""
        return self.urls(label).points(self._crl)

    def staple(self, certificate: bytes) -> bytes:
        """See :meth:`Answers.staple`."""
        return self.answers.staple(certificate)

    def revoke(
        self,
        certificate: bytes | int,
        *,
        reason: Reason = Reason.UNSPECIFIED,
        at: datetime | None = None,
        issuer: str | None = None,
        state: State = State.REVOKED,
    ) -> Entry:
        """Enter a certificate (DER, or its serial number) in the register as revoked, or as in another ``state``.

        The issuer is told by the name in the certificate; of a bare number it is the one called ``issuer``, by default
        the one that issues leaves. Raises :class:`UserError` for a certificate of somebody else.
        """
        entry = entry_for(named(*self._authorities), certificate, issuer or self._leaf_label, at or self._now())
        entry = replace(entry, reason=reason, state=state)
        self.register.put(entry)
        return entry

    @property
    def _leaf_label(self) -> str:
        """Who issues leaves of the first authority."""
        return self.labels[len(self._given[0].intermediates)]

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What goes wrong at the moment."""
        return self._faults

    async def change(self, faults: Iterable[Fault]) -> None:
        """Other faults from now on; connections that are to be refused now are broken off."""
        self._faults = self._checked(faults)
        if self._answers is not None:
            self._answers.change(self._faults)
            await self._let_in()

    def _checked(self, faults: Iterable[Fault]) -> tuple[Fault, ...]:
        checked = tuple(faults)
        for fault in checked:
            if fault.issuer is not None and fault.issuer not in self.labels:
                raise UserError(f"the fault {fault} names no issuer here: there are {', '.join(self.labels)}")
            if fault.what is What.REFUSE and not self._apart and (fault.issuer or fault.on != frozenset(Kind)):
                raise UserError(
                    f"the fault {fault} needs a port for each kind of URL and each issuer (--apart):"
                    " who is refused has not said yet what it wants"
                )
        return checked

    # -- doors ---------------------------------------------------------------------------------------------------

    async def _open_doors(self) -> dict[str, Urls]:
        """Take the ports, without listening yet, and say what the URLs are."""
        host, port = self._listen
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            behind = [(label, kind) for label in self.labels for kind in Kind] if self._apart else [None]
            for number, what in enumerate(behind):
                self._doors.append(_Door(found[0], port + number if port else 0, what))
        except OSError as wrong:
            reason = (wrong.strerror or str(wrong)).lower()
            raise EnvironmentFault(
                f"cannot listen on {host}:{port}: {reason}; choose another port, or 0 for any free one"
            ) from wrong
        bases = {door.behind: f"http://{self._host_in_urls(door)}:{door.port}" for door in self._doors}

        def base(label: str, kind: Kind) -> str:
            return bases.get((label, kind)) or bases[None]

        return {
            label: Urls(label, base(label, Kind.OCSP), base(label, Kind.CRL), base(label, Kind.AIA))
            for label in self.labels
        }

    def _host_in_urls(self, door: _Door) -> str:
        host = self._host or door.host
        return f"[{host}]" if ":" in host else host

    async def _let_in(self) -> None:
        """Open the doors that nobody is refused at, and close the others."""
        assert self._server is not None
        for door in self._doors:
            label, kind = door.behind or (None, None)
            refused = any(
                fault.what is What.REFUSE and (kind is None or fault.befalls(kind, label)) for fault in self._faults
            )
            if refused:
                door.shut()
                for connection in self._server.connections:
                    transport = connection.transport
                    if transport is not None and transport.get_extra_info("sockname")[1] == door.port:
                        _reset(transport)
            else:
                await door.open(self._connection)

    def _close_doors(self) -> None:
        for door in self._doors:
            door.close()
        self._doors.clear()

    def _connection(self) -> asyncio.Protocol:
        assert self._server is not None
        if len(self._server.connections) >= self._limits.connections:
            return _Full()
        return _Connection(
            self._server,
            self._not_http,
            self._limits.idle_seconds,
            loop=asyncio.get_running_loop(),
            lingering_time=1.0,
            access_log=None,
            logger=log,
            max_line_size=_LONGEST_LINE,
            auto_decompress=False,
        )

    # -- one question --------------------------------------------------------------------------------------------

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, _Connection)
        connection.answering()
        try:
            return await self._answer(request)
        finally:
            connection.expect()

    async def _answer(self, request: BaseRequest) -> web.StreamResponse:
        asked = self._noted(request)
        reply = await self._reply(request)
        reply = disguised(reply, _path(request.raw_path), request.method)
        asked = replace(
            asked,
            kind=reply.kind,
            issuer=reply.issuer,
            serials=tuple(f"{serial:x}" for serial in reply.serials),
            faults=tuple(map(str, reply.faults)),
            status=reply.status,
            answer=reply.says,
        )
        sending = _Sending(request, reply)
        try:
            await sending.send(await self._body(reply))
        except (ConnectionError, asyncio.CancelledError):
            sending.left = True
            raise
        finally:
            self._note(replace(asked, answer=sending.in_words(asked.answer), sent=sending.sent))
        assert sending.response is not None
        return sending.response

    async def _reply(self, request: BaseRequest) -> Reply:
        """What is to be answered; the faults that are HTTP's are not done yet."""
        path = _path(request.raw_path).removeprefix(MOVED)
        if request.method not in {"GET", "HEAD", "POST"}:
            return Reply(None, "405: only GET and POST are answered", status=405)
        if request.method != "POST" and (route := self._routes.get(path)):
            return route()
        if path != "/ocsp" and not path.startswith("/ocsp/"):
            return Reply(None, "404: there is nothing of that name", status=404)
        try:
            data, trouble = await self._posted(request) if request.method == "POST" else self._in_path(path)
        except TimeoutError:
            seconds = self._limits.request_seconds
            return Reply(None, f"408: the request took more than {seconds:g} s", status=408)
        if trouble:
            return self.answers.malformed(trouble)
        return self.answers.to_request(data, cacheable=request.method != "POST")

    async def _posted(self, request: BaseRequest) -> tuple[bytes, str]:
        """RFC 6960 A.1: the request is the body. Raises TimeoutError for one that comes too slowly."""
        most, data = self._limits.request_bytes, bytearray()
        if (request.content_length or 0) > most:
            return b"", f"a body of {request.content_length} bytes"
        try:
            async with asyncio.timeout(self._limits.request_seconds):
                while piece := await request.content.readany():
                    data += piece
                    if len(data) > most:
                        return b"", f"a body of more than {most} bytes"
        except web.RequestPayloadError:
            return b"", "a body that breaks off"
        return bytes(data), ""

    def _in_path(self, path: str) -> tuple[bytes, str]:
        """RFC 6960 A.1: the request is the end of the path in base64, percent-encoded or not."""
        first, _, rest = path.removeprefix("/ocsp").removeprefix("/").partition("/")
        text = rest if first in self.labels else path.removeprefix("/ocsp").removeprefix("/")
        if len(text) > 3 * self._limits.request_bytes:
            return b"", f"a path of {len(text)} characters"
        encoded = unquote_to_bytes(text).replace(b" ", b"+")
        try:
            data = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
        except binascii.Error:
            return b"", "a path that is no base64"
        return (data, "") if len(data) <= self._limits.request_bytes else (b"", f"{len(data)} bytes in the path")

    async def _body(self, reply: Reply) -> bytes | _BigFile:
        """The body, a large CRL as a file that is written once and serves until half of its life is over."""
        if isinstance(reply.body, bytes):
            return reply.body
        big, now = reply.body, time.monotonic()
        key = (reply.issuer, big.size, big.broken, big.signer.key_id, big.fields.issuer, big.fields.entries)
        until, task = self._big.get(key, (0.0, None))
        if task is None or until <= now or (task.done() and (task.cancelled() or task.exception())):
            self._big = {kept: value for kept, value in list(self._big.items())[-3:] if value[0] > now}
            task = asyncio.create_task(asyncio.to_thread(_write_big, big), name="write a large CRL")
            self._big[key] = (now + self._manner.lasts.total_seconds() / 2, task)
        return await asyncio.shield(task)

    # -- what is noted -------------------------------------------------------------------------------------------

    def _noted(self, request: BaseRequest) -> Asked:
        transport = request.transport
        peer = transport.get_extra_info("peername") if transport else None
        here = transport.get_extra_info("sockname") if transport else None
        door = next((door for door in self._doors if here and door.port == here[1]), None)
        base = f"http://{self._host_in_urls(door)}:{door.port}" if door else ""
        path = printable(_path(request.raw_path), limit=_SHOWN, ascii_only=True)
        return Asked(
            url=f"{base}{path}",
            method=printable(request.method, limit=_SHOWN, ascii_only=True),
            kind=None,
            at=self._now(),
            monotonic=time.monotonic(),
            client=f"{peer[0]}:{peer[1]}" if peer else "",
            answer="",
        )

    def _note(self, asked: Asked) -> None:
        asked = replace(asked, seconds=round(time.monotonic() - asked.monotonic, 6))
        self.asked.append(asked)
        if self._on_asked is not None:
            self._on_asked(asked)

    def _not_http(self, request: BaseRequest, error: HttpProcessingError) -> None:
        """What came was no HTTP request; aiohttp answers 400."""
        answer = f"400: no HTTP request ({type(error).__name__})"
        self._note(replace(self._noted(request), answer=answer, status=400))


# -- sending -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Sending:
    """One reply on its way, and what became of it."""

    request: BaseRequest
    reply: Reply
    response: web.StreamResponse | None = None
    sent: int = 0
    left: bool = False
    started: float = field(default_factory=time.monotonic)

    async def send(self, body: bytes | _BigFile) -> None:
        """The whole of it, or what the first fault of the wire leaves of it."""
        fault = self._fault
        response = self.response = web.StreamResponse(status=self.reply.status)
        response.headers.update(self.reply.headers)
        response.headers["Server"] = "countersign"
        if self.reply.status not in {204, 304}:
            response.headers["Content-Type"] = self.reply.content_type
            response.content_length = len(body)
        if fault and fault.what is What.RESET:
            self._reset()
            return
        if fault and fault.what in {What.HANG, What.SLOW}:
            await asyncio.sleep(fault.seconds)
        if fault and fault.what is What.HANG:
            self._close()
            return
        await response.prepare(self.request)
        if self.request.method == "HEAD":
            await response.write_eof()
            return
        if fault and fault.what is What.DRIP:
            await self._drip(body, fault.seconds)
        elif fault and fault.what is What.TRUNCATED:
            await self._write(body, len(body) // 2)
            self._close()
            return
        else:
            await self._write(body, len(body))
        await response.write_eof()

    @property
    def _fault(self) -> Fault | None:
        """The first fault of the wire, which is the one that is done."""
        return next((fault for fault in self.reply.faults if fault.what in _WIRE), None)

    async def _write(self, body: bytes | _BigFile, count: int) -> None:
        assert self.response is not None
        for start in range(0, count, _PIECE):
            piece = body[start : min(start + _PIECE, count)]
            try:
                async with asyncio.timeout(_STALLED):
                    await self.response.write(piece)
            except TimeoutError:
                self._reset()
                raise ConnectionResetError("nobody reads the answer") from None
            self.sent += len(piece)

    async def _drip(self, body: bytes | _BigFile, seconds: float) -> None:
        assert self.response is not None
        for at in range(len(body)):
            await asyncio.sleep(seconds)
            await self.response.write(body[at : at + 1])
            self.sent += 1

    def _reset(self) -> None:
        if self.request.transport is not None:
            _reset(self.request.transport)

    def _close(self) -> None:
        """Once what was written has gone out."""
        if self.request.transport is not None:
            self.request.transport.close()

    def in_words(self, said: str) -> str:
        """What was said, what was done to it on purpose, and whether anybody waited for the end."""
        match self._fault.what if self._fault else None:
            case What.RESET:
                said = "a reset"
            case What.HANG:
                said = "nothing"
            case What.TRUNCATED:
                said = f"the first {self.sent} bytes of: {said}"
        faults = f" [{', '.join(map(str, self.reply.faults))}]" if self.reply.faults else ""
        left = f"; the client left after {time.monotonic() - self.started:.1f} s and {self.sent} bytes"
        return f"{said}{faults}{left if self.left else ''}"


def _reset(transport: asyncio.Transport) -> None:
    """Close with a RST: linger for no time at all."""
    there = transport.get_extra_info("socket")
    if there is not None:
        with contextlib.suppress(OSError):
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _BigFile:
    """A file without a name that is read at any place by anybody; it is gone when nobody reads it any more."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor, self._size = descriptor, size
        self.close = weakref.finalize(self, os.close, descriptor)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, wanted: slice) -> bytes:
        start, end, _ = wanted.indices(self._size)
        return os.pread(self._descriptor, end - start, start)


def _write_big(big: BigCrl) -> _BigFile:
    with tempfile.TemporaryFile() as file:
        size = write_big_crl(file, big.signer, big.fields, big.size, broken=big.broken)
        return _BigFile(os.dup(file.fileno()), size)


# -- connections -------------------------------------------------------------------------------------------------


class _Connection(web.RequestHandler):
    """aiohttp's connection, with a time for each request to begin, which does not log what strangers send."""

    __slots__ = ("_late", "_not_http", "_seconds")

    def __init__(
        self,
        server: web.Server,
        not_http: Callable[[BaseRequest, HttpProcessingError], None],
        seconds: float,
        **settings: Any,
    ) -> None:
        super().__init__(server, **settings)
        self._not_http, self._seconds = not_http, seconds
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.expect()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.answering()
        super().connection_lost(exc)

    def expect(self) -> None:
        """The head of a request, the first or another, has to be here in time."""
        if self.transport is not None:
            self._late = asyncio.get_running_loop().call_later(self._seconds, self.force_close)

    def answering(self) -> None:
        """It is here."""
        if self._late is not None:
            self._late.cancel()

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        self._not_http(request, exc)
        response = web.Response(status=400, text="400: no HTTP request\n", headers={"Server": "countersign"})
        response.force_close()
        return response


class _Full(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


class _Door:
    """A port that is ours whether it is open or not; see the top of the module.

    ``behind`` is what is asked for there, an issuer's label and a kind of URL, or ``None`` for everything.
    """

    def __init__(self, where: tuple[Any, ...], port: int, behind: tuple[str, Kind] | None) -> None:
        self._family, address = where[0], where[4]
        self.behind = behind
        self._server: asyncio.Server | None = None
        self._holder = self._bound((address[0], port, *address[2:]))
        self._address = self._holder.getsockname()
        try:
            with self._bound(self._address) as trial:  # whether it can be listened on; and Linux checks the port anew
                trial.listen()
            self._let_others_in(allow=False)
        except BaseException:
            self._holder.close()
            raise

    def _bound(self, address: tuple[Any, ...]) -> socket.socket:
        made = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
        except BaseException:
            made.close()
            raise
        return made

    def _let_others_in(self, *, allow: bool) -> None:
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(allow))

    @property
    def host(self) -> str:
        return str(self._address[0])

    @property
    def port(self) -> int:
        return int(self._address[1])

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def open(self, make: Callable[[], asyncio.Protocol]) -> None:
        if self._server is not None:
            return
        self._let_others_in(allow=True)
        try:
            listener = self._bound(self._address)
            self._server = await asyncio.get_running_loop().create_server(make, sock=listener, backlog=128)
        finally:
            self._let_others_in(allow=False)

    def shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def close(self) -> None:
        self.shut()
        self._holder.close()


# -- what is where -----------------------------------------------------------------------------------------------


def _pointed(authorities: Sequence[Authority], urls: dict[str, Urls], style: CrlStyle) -> Iterator[Authority]:
    """The authorities with intermediates that say where their issuers answer for them."""
    labels = (label for label, _, _ in labelled(authorities))
    for authority in authorities:
        own = [next(labels) for _ in authority.issuers]
        yield with_points(authority, [urls[label].points(style) for label in own])


def _served(authorities: Sequence[Authority], urls: dict[str, Urls]) -> Iterator[Served]:
    """Those whose keys are here."""
    for label, authority, number in labelled(authorities):
        issuer, above = authority.issuers[number], authority.issuers[:number]
        if issuer.held is not None:
            yield Served(issuer, tuple(one.der for one in reversed(above)), urls[label])


def _routes(answers: Answers) -> Iterator[tuple[str, Callable[[], Reply]]]:
    """The paths of files, each with what answers for it."""
    for label, served in answers.issuers.by_label.items():
        for form in CrlForm:
            yield _path(served.urls.crl(form)), partial(answers.crl, label, form)
        for kind in CaForm:
            yield _path(served.urls.ca(kind)), partial(answers.ca, label, kind)


def _path(target: str) -> str:
    """The path of a request's target, which names the host as well where a proxy was asked (RFC 9112 3.2.2)."""
    if not target.lower().startswith("http://"):
        return target
    return f"/{target[7:].partition('/')[2]}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

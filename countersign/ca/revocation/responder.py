"""The answers over HTTP: OCSP, CRLs and issuers' certificates on a port of their own (RFC 6960 A, RFC 5280 4.2.2).

    async with Responder(Authority.make()) as responder:
        leaf, issuer, *_ = issue(responder.authority, "host").chain     # its certificates say where it answers
        responder.revoke(leaf)
        await responder.change([parse_fault("ocsp:tryLater")])

An authority that is rotated while its responder runs is followed there: before each answer it is looked whether its
directory holds another generation (``reopen``), and the old one's URLs go on to serve the old one.

aiohttp parses HTTP; what is said is decided in :mod:`~countersign.ca.revocation.answers`; here are the paths,
the questions, and what is remembered of them.

All kinds of URLs share one port, unless they are ``apart``: who connects has not said yet what for, so a responder can
refuse for one kind or one issuer alone only where each has its own.

Whoever asks is held for hostile: requests are bounded in bytes and time, connections in number; what is no OCSP request
gets malformedRequest and what is no HTTP request a 400; nothing that came in is echoed. It listens on loopback unless
told otherwise. What it gives out is public by nature, so no Host header is checked.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import logging
import re
import socket
import time
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote_to_bytes

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from countersign.ca.errors import AuthorityError
from countersign.ca.keeping import generations_seen
from countersign.ca.revocation.answers import Answers, Manner
from countersign.ca.revocation.doors import Door
from countersign.ca.revocation.faults import Fault, Kind, What
from countersign.ca.revocation.issuers import Issuers, Served, entry_for, labelled, named
from countersign.ca.revocation.points import CaForm, CrlForm, CrlStyle, Points, Urls, url_name, with_points
from countersign.ca.revocation.register import Entry, Reason, Register, State
from countersign.ca.revocation.replies import MOVED, Reply, disguised
from countersign.ca.revocation.sending import BigFile, Sending, reset, write_big
from countersign.errors import EnvironmentFault, UserError, words_of
from countersign.recorder.private_files import FileFault
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from aiohttp.web_request import BaseRequest

    from countersign.ca.authority import Authority

log = logging.getLogger("countersign.revocation")

_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_LONGEST_LINE = 1 << 17
_SHOWN = 200
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
    last thousand are in ``asked`` too. ``reopen`` loads the authorities again, in a thread, when the first of them has
    been rotated in its directory. ``now`` is for tests.
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
        reopen: Callable[[], Iterable[Authority]] | None = None,
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
        self._reopen, self._reopening = reopen, asyncio.Lock()
        self._seen: tuple[int, ...] | None = None  # so that a rotation before the start is not missed
        self._faults = self._checked(faults)
        self._authorities: tuple[Authority, ...] = ()
        self._answers: Answers | None = None
        self._doors: list[Door] = []
        self._routes: dict[str, Callable[[], Reply]] = {}
        self._server: web.Server | None = None
        self._big: dict[tuple[Any, ...], tuple[float, asyncio.Task[BigFile]]] = {}

    # -- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. Raises :class:`EnvironmentFault` where that cannot be."""
        try:
            urls = await self._open_doors(self._given)
            authorities = tuple(_pointed(self._given, urls, self._crl))
            issuers = Issuers(_served(authorities, urls))
            answers = Answers(issuers, self.register, self._manner, self._faults, self._now)
            await asyncio.to_thread(answers.prepare)  # an RSA key takes a while
        except BaseException:
            self._close_doors()
            raise
        self._authorities, self._answers = authorities, answers
        self._routes = dict(_routes(answers))
        self._server = web.Server(self._handle, handler_cancellation=True)
        await self._let_in()

    async def _follow(self) -> None:
        """Answer for the next generation too, if there is one by now."""
        directory = self._given[0].directory
        if self._reopen is None or directory is None or generations_seen(directory) == self._seen:
            return
        async with self._reopening:
            seen = generations_seen(directory)
            if seen == self._seen:
                return
            self._seen = seen
            try:
                await self.answer_for(await asyncio.to_thread(self._reopen))
            except (AuthorityError, EnvironmentFault, FileFault) as wrong:
                log.warning("the CA was rotated, and the responder stays with what it had: %s", wrong)

    async def answer_for(self, authorities: Iterable[Authority]) -> None:
        """Answer for these from now on. What those before had for URLs goes on to work for issuers that are still among
        them. Raises :class:`EnvironmentFault` where a port that is needed cannot be had.
        """
        given = tuple(authorities)
        urls = await self._open_doors(given)
        pointed = tuple(_pointed(given, urls, self._crl))
        issuers = Issuers(_served(pointed, urls))
        await asyncio.to_thread(self.answers.make_signers, issuers)
        self._given, self._authorities = given, pointed
        self.answers.serve(issuers)
        self._routes = dict(_routes(self.answers))
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
            if isinstance(big, BigFile):
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
        """What the issuers are called in faults: ``root``, ``intermediate-1`` ..."""
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
        return self.register.revoke(entry) if entry.is_revoked else self.register.put(entry)

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

    async def _open_doors(self, given: Sequence[Authority]) -> dict[str, Urls]:
        """Take the ports that are not taken, without listening yet, and say what the URLs are, by the names in them.

        The first authority's come last: it is the youngest, and those before it had the ports before it.
        """
        host, port = self._listen
        labels = {url_name(each.issuers[number], number): label for label, each, number in labelled(given)}
        names = [url_name(one, at) for each in (*given[1:], given[0]) for at, one in enumerate(each.issuers)]
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            behind = [(name, kind) for name in dict.fromkeys(names) for kind in Kind] if self._apart else [None]
            have = {door.behind for door in self._doors}
            for what in (what for what in behind if what not in have):
                self._doors.append(Door(found[0], port + len(self._doors) if port else 0, what))
        except OSError as wrong:
            reason = words_of(wrong)
            raise EnvironmentFault(
                f"cannot listen on {host}:{port}: {reason}; choose another port, or 0 for any free one"
            ) from wrong
        bases = {door.behind: f"http://{self._host_in_urls(door)}:{door.port}" for door in self._doors}

        def base(name: str, kind: Kind) -> str:
            return bases.get((name, kind)) or bases[None]

        return {
            name: Urls(label, name, base(name, Kind.OCSP), base(name, Kind.CRL), base(name, Kind.AIA))
            for name, label in labels.items()
        }

    def _host_in_urls(self, door: Door) -> str:
        host = self._host or door.host
        return f"[{host}]" if ":" in host else host

    async def _let_in(self) -> None:
        """Open the doors that nobody is refused at, and close the others."""
        assert self._server is not None
        labels = {one.urls.name: label for label, one in self.answers.issuers.by_label.items()}
        for door in self._doors:
            name, kind = door.behind or (None, None)
            label = labels.get(name) if name else None
            refused = any(
                fault.what is What.REFUSE and (kind is None or fault.befalls(kind, label)) for fault in self._faults
            )
            if refused:
                door.shut()
                for connection in self._server.connections:
                    transport = connection.transport
                    if transport is not None and transport.get_extra_info("sockname")[1] == door.port:
                        reset(transport)
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
        sending = Sending(request, reply)
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
        await self._follow()
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
        names = {one.urls.name for one in self.answers.issuers.by_label.values()}
        text = rest if first in names else path.removeprefix("/ocsp").removeprefix("/")
        if len(text) > 3 * self._limits.request_bytes:
            return b"", f"a path of {len(text)} characters"
        encoded = unquote_to_bytes(text).replace(b" ", b"+")
        try:
            data = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
        except binascii.Error:
            return b"", "a path that is no base64"
        return (data, "") if len(data) <= self._limits.request_bytes else (b"", f"{len(data)} bytes in the path")

    async def _body(self, reply: Reply) -> bytes | BigFile:
        """The body, a large CRL as a file that is written once and serves until half of its life is over."""
        if isinstance(reply.body, bytes):
            return reply.body
        big, now = reply.body, time.monotonic()
        key = (reply.issuer, big.size, big.broken, big.signer.key_id, big.fields.issuer, big.fields.entries)
        until, task = self._big.get(key, (0.0, None))
        if task is None or until <= now or (task.done() and (task.cancelled() or task.exception())):
            self._big = {kept: value for kept, value in list(self._big.items())[-3:] if value[0] > now}
            task = asyncio.create_task(asyncio.to_thread(write_big, big), name="write a large CRL")
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


# -- what is where -----------------------------------------------------------------------------------------------


def _pointed(authorities: Sequence[Authority], urls: dict[str, Urls], style: CrlStyle) -> Iterator[Authority]:
    """The authorities with intermediates that say where their issuers answer for them."""
    for authority in authorities:
        own = (urls[url_name(issuer, number)] for number, issuer in enumerate(authority.issuers))
        yield with_points(authority, [each.points(style) for each in own])


def _served(authorities: Sequence[Authority], urls: dict[str, Urls]) -> Iterator[Served]:
    """Those whose keys are here."""
    for _, authority, number in labelled(authorities):
        issuer, above = authority.issuers[number], authority.issuers[:number]
        if issuer.held is not None:
            yield Served(issuer, tuple(one.der for one in reversed(above)), urls[url_name(issuer, number)])


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

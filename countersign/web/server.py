"""The control API over HTTP: who asks is judged by :mod:`.guard`, what is asked is done by :mod:`.control`::

    GET  /v1/status                         POST /v1/step      {} or {"to": 2}
    GET  /v1/recordings?limit=&before=      POST /v1/scenario  {"id": "missing-intermediate"} or {"id": null}
    GET  /v1/recordings/ID                  POST /v1/fault     {"fault": {"do": "cut"}, "connections": 1}
                                            POST /v1/rotate    {"what": "leaf"}
                                            POST /v1/pass      {}

Every answer is JSON; one that declines is ``{"schema": 1, "error": "a sentence"}``.

aiohttp parses HTTP, and what it is given is bounded on every side (its CVE-2025-69226 and those beside it were of
bodies, chunks and cookies without end): so many connections, each for one request and for a minute at most, its head
by aiohttp's own limits, its body by ours. A body is read only for whoever has shown the token; nobody looks at cookies.
"""

from __future__ import annotations

import asyncio
import json
import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, unquote

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from countersign.errors import EnvironmentFault
from countersign.proxy.listening import cannot_listen
from countersign.web.control import Control, Declined
from countersign.web.guard import Head, refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp.web_request import BaseRequest

    from countersign.proxy import Address
    from countersign.web.control import Json

TOLD: Mapping[str, Callable[[Control, Json], Awaitable[Json]]] = MappingProxyType(
    {
        "/v1/step": Control.step,
        "/v1/scenario": Control.scenario,
        "/v1/fault": Control.fault,
        "/v1/rotate": Control.rotate,
        "/v1/pass": Control.pass_,
    }
)
"""What is posted where."""

MOST_BODY = 1 << 16
"""Bytes; the longest that anybody has to say is a fault with bytes in it."""

_CONNECTIONS = 32
_WHOLE = 60.0  # seconds: a scenario with RSA keys takes a few
_BODY = 10.0
_LINE = 4096
_HEADERS = 64
_KEYS = 20
_ALWAYS = {
    "Server": "countersign",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

log = logging.getLogger("countersign.control")


class ControlServer:
    """``async with``; ``addresses`` is where it listens then."""

    def __init__(self, control: Control, listen: Address, token: str) -> None:
        self._control, self._listen, self._token = control, listen, token
        self.accepted = 0
        """Connections so far."""
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen. Raises :class:`EnvironmentFault` where that cannot be."""
        self._server = web.Server(self._handle)
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self._connection, self._listen.host, self._listen.port, backlog=_CONNECTIONS
            )
        except OSError as error:
            raise EnvironmentFault(cannot_listen(self._listen, error)) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        assert self._listener is not None
        self._listener.close()
        await self._server.shutdown(1.0)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each listener."""
        assert self._listener is not None
        return [listener.getsockname()[:2] for listener in self._listener.sockets]

    def _connection(self) -> asyncio.Protocol:
        assert self._server is not None
        self.accepted += 1
        return _Connection(
            self._server,
            loop=asyncio.get_running_loop(),
            lingering_time=1.0,
            access_log=None,
            logger=log,
            max_line_size=_LINE,
            max_field_size=_LINE,
            max_headers=_HEADERS,
            auto_decompress=False,
        )

    # -- one request ---------------------------------------------------------------------------------------------

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        try:
            done = await self._done(request)
            return _answer(200, await asyncio.to_thread(_packed, done))
        except Declined as declined:
            return _declined(declined.status, declined.text)
        except EnvironmentFault as fault:  # the store's
            return _declined(503, str(fault))

    async def _done(self, request: BaseRequest) -> Json:
        transport = request.transport
        if transport is None:
            raise Declined(400, "the connection has gone")
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
        head = Head(request.method, request.raw_path, headers)
        refused = refusal(head, here=transport.get_extra_info("sockname")[:2], token=self._token)
        if refused is not None:
            raise Declined(refused.status, refused.text)
        path, _, query = request.raw_path.partition("?")
        if path in TOLD:
            _check_method(request, "POST")
            if query:
                raise Declined(400, "what is told stands in the body, not behind a ?")
            return await TOLD[path](self._control, await _body(request))
        return await self._asked(request, path, query)

    async def _asked(self, request: BaseRequest, path: str, query: str) -> Json:
        folder, _, last = path.rpartition("/")
        if path == "/v1/status":
            _check_method(request, "GET")
            return self._control.status()
        if path == "/v1/recordings":
            _check_method(request, "GET")
            return await self._control.recordings(_query(query))
        if folder == "/v1/recordings" and last:
            _check_method(request, "GET")
            return await self._control.recording(unquote(last))
        raise Declined(404, "there is nothing of that name")


def _check_method(request: BaseRequest, method: str) -> None:
    if request.method != method:
        raise Declined(405, f"this takes {method} alone")
    if method == "GET" and request.can_read_body:
        raise Declined(400, "a question has no body")


def _query(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=_KEYS, errors="strict"
        )
    except ValueError:
        raise Declined(400, "what is behind the ? cannot be read: expected KEY=VALUE with & between") from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise Declined(400, "a key stands behind the ? twice")
    return dict(pairs)


async def _body(request: BaseRequest) -> Json:
    """The object that was posted."""
    too_large = Declined(413, f"the body is larger than {MOST_BODY} bytes")
    if (request.content_length or 0) > MOST_BODY:
        raise too_large
    data = bytearray()
    try:
        async with asyncio.timeout(_BODY):
            while piece := await request.content.readany():
                data += piece
                if len(data) > MOST_BODY:
                    raise too_large
    except TimeoutError:
        raise Declined(408, f"the body did not come within {_BODY:g} s") from None
    except web.RequestPayloadError:
        raise Declined(400, "the body breaks off") from None
    try:
        said = json.loads(bytes(data).decode("utf-8"))
    except (ValueError, RecursionError):
        raise Declined(400, "the body is no JSON") from None
    if not isinstance(said, dict):
        raise Declined(400, "the body has to be a JSON object")
    return said


def _packed(document: Json) -> bytes:
    return json.dumps(document, ensure_ascii=True).encode("ascii") + b"\n"


def _declined(status: int, text: str) -> web.Response:
    return _answer(status, _packed({"schema": 1, "error": text}))


def _answer(status: int, body: bytes) -> web.Response:
    """Each on a connection of its own, so that nothing waits behind a request that was refused unread."""
    headers = {**_ALWAYS, **({"WWW-Authenticate": "Bearer"} if status == 401 else {})}
    response = web.Response(status=status, body=body, headers=headers, content_type="application/json")
    response.force_close()
    return response


class _Connection(web.RequestHandler):
    """aiohttp's connection, as long as there are few, and for a time. What strangers send is not logged."""

    __slots__ = ("_all", "_end")

    def __init__(self, server: web.Server, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._all = server
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        if len(self._all.connections) > _CONNECTIONS:
            transport.abort()
            return
        self._end = asyncio.get_running_loop().call_later(_WHOLE, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        return _declined(400, "this is no HTTP request that is taken here")

"""The embedded target: an HTTPS server behind a CA that looks like a public one, for demos and tests.

It answers every request with a short text that says what it saw of the client. One port asks for a client certificate
(and names the CAs that it takes), one does not. It runs on the engine's own streams and legs, as a TLS server.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import cached_property
from typing import TYPE_CHECKING, Self

import h11

from countersign.ca import Authority, Plan, issue
from countersign.proxy import (
    RECEIVE_BUFFER,
    Buffers,
    ClientJudging,
    EndOfData,
    Offer,
    ReceiveBuffer,
    Stream,
    TlsConnection,
    TlsServerSide,
    TlsTrouble,
)
from countersign.recorder.wire.codes import CLIENT_HELLO
from countersign.recorder.wire.events import Message, Side
from countersign.recorder.wire.leg import LegDecoder
from countersign.recorder.wire.names import version_name
from countersign.recorder.wire.reading import summarize_client_hello

if TYPE_CHECKING:
    from countersign.ca import Minted

HOST = "instance.lab.test"
_EVERY_VERSION = (0x0303, 0x0304)
_SUITES = (0x1302, 0x1303, 0x1301, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8)
_SECONDS = 20.0


class Pki:
    """The public-looking CA of the lab, the CA of its clients, and what is issued under both; each is made when it is
    first asked for.
    """

    def __init__(self, public: Authority, hosts: tuple[str, ...]) -> None:
        self.public, self._hosts = public, hosts

    @classmethod
    def make(cls, *hosts: str) -> Self:
        """New keys throughout; nothing is written anywhere."""
        return cls(Authority.make(Plan(name="Lab Public Trust")), hosts or (HOST, "localhost", "127.0.0.1"))

    @cached_property
    def server(self) -> Minted:
        return issue(self.public, *self._hosts)

    @cached_property
    def clients(self) -> Authority:
        return Authority.make(Plan(name="Lab Client Trust"))

    @cached_property
    def client(self) -> Minted:
        return issue(self.clients, "mid.lab.test", purpose="client")


class EmbeddedTarget:
    """An HTTPS server on loopback: ``plain_port`` asks for nothing, ``asking_port`` for a client certificate.

    ``judges``: that has to be there, of the lab's client CA, of now, and for clients; else whatever is shown is taken.
    ``default`` is shown to clients that name no server (RFC 6066 3), as a host of many sites does. ``server`` is its
    certificate, that of the ``pki`` unless it is given. ``kept`` is how many seconds it waits for another request.
    """

    def __init__(
        self,
        pki: Pki,
        *,
        judges: bool = False,
        default: Minted | None = None,
        server: Minted | None = None,
        kept: float = _SECONDS,
    ) -> None:
        self.pki = pki
        self._server = pki.server if server is None else server
        self._judging = ClientJudging(required=True, roots=(pki.clients.root.der,)) if judges else ClientJudging()
        self._default = default
        self._kept = kept
        self.requests = 0
        self._side = TlsServerSide()
        self._buffers = Buffers()
        self._receive = ReceiveBuffer()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for asks in (False, True):
            self._servers.append(
                await loop.create_server(
                    lambda asks=asks: Stream(self._receive, lambda stream: self._accepted(stream, asks)),  # type: ignore[misc]
                    "127.0.0.1",
                    0,
                )
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def plain_port(self) -> int:
        return int(self._servers[0].sockets[0].getsockname()[1])

    @property
    def asking_port(self) -> int:
        return int(self._servers[1].sockets[0].getsockname()[1])

    def _accepted(self, stream: Stream, asks: bool) -> None:  # noqa: FBT001
        task = asyncio.get_running_loop().create_task(self._serve(stream, asks), name="lab-target")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, stream: Stream, asks: bool) -> None:  # noqa: FBT001
        try:
            with contextlib.suppress(TlsTrouble, EndOfData, TimeoutError, h11.RemoteProtocolError):
                async with asyncio.timeout(_SECONDS):
                    begun, shown = b"", self._server
                    if self._default is not None:
                        begun, named = await _begun(stream)
                        shown = shown if named else self._default
                    connection = self._side.connection(
                        Offer(_EVERY_VERSION, _SUITES),
                        chain=shown.chain,
                        key=shown.key,
                        alpn=b"http/1.1",
                        ask_for=(self.pki.clients.issuer.der, self.pki.clients.root.der) if asks else None,
                        judging=self._judging if asks else ClientJudging(),
                    )
                    with contextlib.closing(connection):
                        connection.feed(begun)
                        await self._talk(stream, connection)
        finally:
            stream.close()

    async def _talk(self, stream: Stream, connection: TlsConnection) -> None:
        while True:
            try:
                done = connection.handshake()
            finally:
                stream.write(connection.drain(self._buffers))
            if done:
                break
            if not await self._more(stream, connection):
                return
        http = h11.Connection(h11.SERVER)
        while True:
            event = http.next_event()
            if isinstance(event, h11.Request):
                self._answer(http, stream, connection, event)
                if http.our_state is h11.MUST_CLOSE:
                    connection.close_notify()
                    stream.write(connection.drain(self._buffers))
                    return
            elif event is h11.PAUSED:
                http.start_next_cycle()
            elif event is h11.NEED_DATA:
                count = connection.read(self._buffers)
                stream.write(connection.drain(self._buffers))
                if count:
                    http.receive_data(self._buffers.read(count))
                elif not await (self._another if _is_answered(http) else self._more)(stream, connection):
                    return
            elif isinstance(event, h11.ConnectionClosed):
                return

    async def _another(self, stream: Stream, connection: TlsConnection) -> bool:
        """Whether anything comes behind an answer while it is waited for; where not, it ends in good order."""
        try:
            async with asyncio.timeout(self._kept):
                return await self._more(stream, connection)
        except TimeoutError:
            connection.close_notify()
            stream.write(connection.drain(self._buffers))
            return False

    async def _more(self, stream: Stream, connection: TlsConnection) -> bool:
        data = await stream.read()
        if data:
            connection.feed(data)
        return bool(data)

    def _answer(self, http: h11.Connection, stream: Stream, connection: TlsConnection, request: h11.Request) -> None:
        self.requests += 1
        chain = connection.peer_chain()
        seen = f"{len(chain)} client certificate(s)" if chain else "no client certificate"
        body = f"{HOST}: {request.method.decode()} seen over {version_name(connection.version)}, {seen}\n"
        headers = [("Server", "countersign-lab"), ("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
        out = http.send(h11.Response(status_code=200, headers=headers)) or b""
        if request.method != b"HEAD":
            out += http.send(h11.Data(data=body.encode())) or b""
        out += http.send(h11.EndOfMessage()) or b""
        connection.write(out)
        stream.write(connection.drain(self._buffers))


def _is_answered(http: h11.Connection) -> bool:
    return {http.our_state, http.their_state} == {h11.DONE}


async def _begun(stream: Stream) -> tuple[bytes, bool]:
    """What a client begins with, up to its hello, and whether that names a server."""
    decoder, begun = LegDecoder(), b""
    while data := await stream.read():
        begun += data
        for event in decoder.receive(Side.CLIENT, data, 0.0):
            if isinstance(event, Message) and event.code == CLIENT_HELLO:
                return begun, summarize_client_hello(event.raw).sni_raw is not None
        if decoder.is_tls is False or len(begun) > RECEIVE_BUFFER:
            break
    return begun, True

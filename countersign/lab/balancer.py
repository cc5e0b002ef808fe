"""The load balancer of the lab: ends TLS as an ADCv2 does and hands what is inside to an aiohttp server.

What a load balancer asks of its clients changes while it runs (a CA record is published, an administrator turns
inbound mutual TLS on), and which CA names it sends in its CertificateRequest is what clients choose their certificate
by. So it asks :class:`Asking` anew for each connection, and runs on the engine's TLS, which the standard library's
cannot replace: that sends no CA names (RFC 8446 4.2.4).

aiohttp speaks to a transport. :class:`_Inside` is one whose bytes are those within TLS; ``get_extra_info`` has the
chain that the client showed, as :data:`CLIENT_CHAIN`.

aiohttp reads requests that come before their turn (RFC 9112 9.3.2) without a bound. So each is handed on when the one
before has been answered, which :func:`answered` tells; until then the client is not read from.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import h11

from countersign.errors import EnvironmentFault
from countersign.proxy import (
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
from countersign.proxy.listening import cannot_listen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from countersign.ca import Minted
    from countersign.proxy import Address

CLIENT_CHAIN = "countersign.client_chain"

_VERSIONS = (0x0303, 0x0304)
_SUITES = (0x1302, 0x1303, 0x1301, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0x009C, 0x009D)
_HANDSHAKE = 20.0  # seconds
_IDLE = 120.0
_KEPT = 100
_SELF_SIGNED = 18  # X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT


@dataclass(frozen=True, slots=True)
class Asking:
    """What a client is asked for: a certificate under one of these CA certificates (DER); ``required``: it has to
    show one.
    """

    authorities: tuple[bytes, ...]
    required: bool


class Balancer:
    """``async with``; ``ports`` is where it listens then.

    ``asking`` says what the next client is asked for, None: for nothing. A self-signed certificate is let through, for
    it is the instance that answers it (403); one that no CA here has issued, is expired, or is for servers alone ends
    the handshake with the alert that OpenSSL has for it.
    """

    def __init__(
        self,
        listen: Address,
        identity: Minted,
        asking: Callable[[], Asking | None],
        protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        self._listen, self._identity = listen, identity
        self._asking, self._protocol = asking, protocol
        self._side = TlsServerSide(resumes=False)  # a session would outlive the CA record that it was made under
        self._buffers = Buffers()
        self._receive = ReceiveBuffer()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.refused: list[str] = []
        """Why handshakes failed, in OpenSSL's words; the last hundred."""

    async def __aenter__(self) -> Self:
        """Listen. Raises :class:`EnvironmentFault` where that cannot be."""
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: Stream(self._receive, self._accepted), self._listen.host, self._listen.port
            )
        except OSError as error:
            raise EnvironmentFault(cannot_listen(self._listen, error)) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def ports(self) -> tuple[int, ...]:
        assert self._server is not None
        return tuple(int(socket.getsockname()[1]) for socket in self._server.sockets)

    def _accepted(self, stream: Stream) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(stream), name="lab-balancer")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, stream: Stream) -> None:
        try:
            connection = self._connection()
        except TlsTrouble as trouble:  # a CA record that is no certificate
            self._refuse(str(trouble))
            stream.close()
            return
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HANDSHAKE):
                    there = await self._shaken(stream, connection)
                if there:
                    await self._pass_on(stream, connection)
        finally:
            connection.close()
            stream.close()

    def _connection(self) -> TlsConnection:
        asking = self._asking()
        judging = ClientJudging()
        if asking is not None:
            judging = ClientJudging(asking.required, asking.authorities, frozenset({_SELF_SIGNED}))
        return self._side.connection(
            Offer(_VERSIONS, _SUITES),
            chain=self._identity.chain,
            key=self._identity.key,
            alpn=b"http/1.1",
            ask_for=None if asking is None else asking.authorities,
            judging=judging,
        )

    def _refuse(self, why: str) -> None:
        self.refused.append(why)
        del self.refused[:-_KEPT]

    async def _shaken(self, stream: Stream, connection: TlsConnection) -> bool:
        """The handshake; False where it failed. In TLS 1.3 a refusal comes after the client believes itself done."""
        try:
            while True:
                try:
                    done = connection.handshake()
                finally:
                    stream.write(connection.drain(self._buffers))
                if done:
                    return True
                data = await stream.read()
                if not data:
                    return False
                connection.feed(data)
        except (TlsTrouble, EndOfData) as trouble:
            error = connection.verify_error
            self._refuse(error[0] if error else str(trouble) or "the client left")
            return False

    async def _pass_on(self, stream: Stream, connection: TlsConnection) -> None:
        """Bytes within TLS to the protocol, until either side has enough."""
        protocol = self._protocol()
        inside = _Inside(stream, connection, self._buffers, protocol)
        requests = _Requests()
        protocol.connection_made(inside)
        try:
            while not inside.is_closing():
                count = connection.read(self._buffers)
                stream.write(connection.drain(self._buffers))
                if count:
                    for piece in requests.cut(self._buffers.read(count)):
                        protocol.data_received(piece)
                        await inside.answered(requests.ended)
                        if inside.is_closing():
                            break
                    continue
                await inside.reading.wait()
                async with asyncio.timeout(_IDLE):
                    await stream.drained()  # whoever does not read is not read from
                    data = await stream.read()
                if not data:
                    break
                connection.feed(data)
        except (TlsTrouble, EndOfData, TimeoutError):
            pass
        finally:
            inside.abort()
            protocol.connection_lost(None)


class _Requests:
    """Where one request ends and the next begins. What is no HTTP is not cut: it gets its 400 and is closed."""

    def __init__(self) -> None:
        self._current = h11.Connection(h11.SERVER)
        self._lost = False
        self.ended = 0

    def cut(self, data: bytes) -> Iterator[bytes]:
        """The bytes, in pieces that end where requests do."""
        while data:
            rest = b"" if self._lost else self._after_one(data)
            yield data[: len(data) - len(rest)]
            data = rest

    def _after_one(self, data: bytes) -> bytes:
        """What comes behind the request that ends in ``data``, if one does."""
        try:
            self._current.receive_data(data)
            while not isinstance(event := self._current.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return b""
        except h11.RemoteProtocolError:
            self._lost = True
            return b""
        rest = self._current.trailing_data[0]
        self.ended += 1
        self._current = h11.Connection(h11.SERVER)
        return rest


class _Inside(asyncio.Transport):
    """What aiohttp writes to; what the client sends is given to it by :meth:`Balancer._pass_on`."""

    def __init__(
        self, stream: Stream, connection: TlsConnection, buffers: Buffers, protocol: asyncio.BaseProtocol
    ) -> None:
        super().__init__({"peername": (stream.peer_host(), 0), CLIENT_CHAIN: connection.peer_chain()})
        self._stream, self._connection, self._buffers = stream, connection, buffers
        self._protocol = protocol
        self._closed = False
        self.reading = asyncio.Event()
        self.reading.set()
        self._answers = 0
        self._answer = asyncio.Event()

    async def answered(self, requests: int) -> None:
        """Wait until so many requests have been answered, or there will be no more answers."""
        while self._answers < requests and not self._closed:
            self._answer.clear()
            await self._answer.wait()

    def answer(self) -> None:
        self._answers += 1
        self._answer.set()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed:
            return
        try:
            self._connection.write(bytes(data))
        except TlsTrouble:
            self.abort()
        self._stream.write(self._connection.drain(self._buffers))

    def writelines(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(pieces))

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        """With close_notify; whoever reads is woken by the end of the stream."""
        if not self._closed:
            self._closed = True
            self._connection.close_notify()
            self._stream.write(self._connection.drain(self._buffers))
            self._stream.close()
            self._wake()

    def abort(self) -> None:
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self.reading.set()
        self._answer.set()

    def pause_reading(self) -> None:
        self.reading.clear()

    def resume_reading(self) -> None:
        self.reading.set()

    def is_reading(self) -> bool:
        return self.reading.is_set()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol


def answered(transport: Any) -> None:
    """A request on this transport has its answer, or is about to have it."""
    if isinstance(transport, _Inside):
        transport.answer()


def chain_of(transport: Any) -> Sequence[bytes]:
    """The chain (DER, leaf first) that the client behind this transport has shown."""
    return () if transport is None else transport.get_extra_info(CLIENT_CHAIN) or ()

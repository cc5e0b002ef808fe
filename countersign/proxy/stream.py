"""One TCP connection as the engine uses it: bytes are pulled at first, and pushed to a sink once they are relayed.

Preludes and handshakes read step by step: :meth:`Stream.read`. Bulk data is pushed: :meth:`Stream.pour_into` hands
every chunk to a callback straight from the event loop's receive buffer, which all streams of a loop share, so an
idle connection holds no buffer and no task. The end of the bytes and a full send buffer are told to the same sink.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Protocol

from countersign.recorder.recording import Ending

if TYPE_CHECKING:
    from collections.abc import Callable

RECEIVE_BUFFER = 64 * 1024
_LINGER = 1.0  # seconds that a closed connection may still take to hand over its last bytes
_PULLED_AT_MOST = 256 * 1024  # bytes that wait for read() before the peer is slowed down


class Sink(Protocol):
    """What a relay offers to a stream that pours into it."""

    def data(self, chunk: memoryview) -> None:
        """Bytes came; the chunk is overwritten when this returns."""

    def ended(self, how: Ending) -> None:
        """No more bytes come."""

    def room(self, *, free: bool) -> None:
        """The send buffer is full, or has room again."""

    def crashed(self, error: Exception) -> None:
        """A fault of our own was met in ``data``; nothing more comes."""


class Stream(asyncio.BufferedProtocol):
    """A TCP connection. ``ending`` says how the peer's bytes ended, once they have."""

    def __init__(self, buffer: bytearray, on_connected: Callable[[Stream], None] | None = None) -> None:
        self._view = memoryview(buffer)
        self._on_connected = on_connected
        self._pulled = bytearray()
        self._reader: asyncio.Future[None] | None = None
        self._writers: list[asyncio.Future[None]] = []
        self._sink: Sink | None = None
        self._paused = False
        self._full = False
        self._closing = False
        self._transport: asyncio.Transport | None = None
        self.ending: Ending | None = None
        self.received = 0
        self.on_end: Callable[[], None] | None = None  # called at the end of the bytes while nothing is relayed
        self.closed = asyncio.get_running_loop().create_future()

    # -- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        raw = transport.get_extra_info("socket")
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        transport.set_write_buffer_limits(high=RECEIVE_BUFFER * 2, low=RECEIVE_BUFFER // 2)
        if self._on_connected is not None:
            self._on_connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's signature
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        if self._closing:
            return
        self.received += nbytes
        if self._sink is not None:
            self._pour(self._view[:nbytes])
            return
        self._pulled += self._view[:nbytes]
        if len(self._pulled) > _PULLED_AT_MOST:
            self.pause()
        self._wake()

    def _pour(self, chunk: memoryview) -> None:
        assert self._sink is not None
        try:
            self._sink.data(chunk)
        except Exception as error:  # noqa: BLE001 - the event loop would swallow it; the session has to know
            self._sink.crashed(error)

    def eof_received(self) -> bool:
        self._end(Ending.FIN)
        return not self._closing  # our direction stays open: half-close

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(Ending.RESET if exc is not None else Ending.FIN)
        self._full = False
        for waiter in self._writers:
            if not waiter.done():
                waiter.set_result(None)
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._full = True
        if self._sink is not None:
            self._sink.room(free=False)

    def resume_writing(self) -> None:
        self._full = False
        for waiter in self._writers:
            if not waiter.done():
                waiter.set_result(None)
        self._writers.clear()
        if self._sink is not None:
            self._sink.room(free=True)

    def _end(self, how: Ending) -> None:
        if self.ending is None:
            self.ending = how
            if self._sink is not None:
                self._sink.ended(how)
            elif self.on_end is not None:
                self.on_end()
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # -- called by the engine

    async def read(self) -> bytes:
        """What has come, at least a byte; empty at the end, and ``ending`` says which."""
        while not self._pulled and self.ending is None:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        taken = bytes(self._pulled)
        self._pulled.clear()
        self.resume()
        return taken

    def unread(self, data: bytes) -> None:
        """Put bytes back in front: the next :meth:`read` or the sink gets them."""
        self._pulled[:0] = data

    def pour_into(self, sink: Sink) -> None:
        """From now on everything goes to the sink, what has been waiting first."""
        self._sink = sink
        if self._pulled:
            waiting = bytes(self._pulled)
            self._pulled.clear()
            self._pour(memoryview(waiting))
        if self.ending is not None:
            sink.ended(self.ending)
        self.resume()

    def write(self, data: bytes | memoryview) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the send buffer has room."""
        if self._full and not self.closed.done():
            waiter = asyncio.get_running_loop().create_future()
            self._writers.append(waiter)
            await waiter

    @property
    def full(self) -> bool:
        return self._full

    def pause(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def finish(self) -> None:
        """No more bytes from us (a TCP half-close); what the peer sends still comes."""
        if self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(OSError, RuntimeError):
                self._transport.write_eof()

    def close(self) -> None:
        """Send what waits, then close; within a second, however slow the peer is.

        While the peer has not ended its side, what it still sends is read and dropped: closing over unread bytes would
        reset the connection, and a reset can overtake the alert that was sent last.
        """
        transport = self._transport
        if transport is None or transport.is_closing() or self._closing:
            return
        self._closing = True
        self._sink = None
        self.resume()
        if self.ending is None:
            self.finish()
        else:
            transport.close()
        if self.ending is None or transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(_LINGER, transport.abort)

    def abort(self) -> None:
        """Close at once with a reset, as a device does that drops a connection."""
        if self._transport is None:
            return
        raw = self._transport.get_extra_info("socket")
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self._sink = None  # the end that follows is ours, not the peer's
        self.on_end = None
        self._transport.abort()

    @property
    def gone(self) -> bool:
        """Closed or aborted by us: nothing can be said or heard any more."""
        return self._closing or self._transport is None or self._transport.is_closing()

    def peer(self) -> str:
        return address_text(self._transport.get_extra_info("peername") if self._transport else None)

    def peer_host(self) -> str:
        name = self._transport.get_extra_info("peername") if self._transport else None
        return str(name[0]) if name else ""


def address_text(name: tuple[object, ...] | None) -> str:
    """``127.0.0.1:443`` or ``[::1]:443``."""
    if not name:
        return "unknown"
    host, port = str(name[0]), name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

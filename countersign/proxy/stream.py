"""One TCP connection as the engine uses it: bytes are pulled at first, and pushed to a sink once they are relayed.

Preludes and handshakes read step by step: :meth:`Stream.read`. Bulk data is pushed: :meth:`Stream.pour_into` hands
every chunk to a callback straight from the event loop's receive buffer, which all streams of a loop share, so an
idle connection holds no buffer and no task. The end of the bytes and a full send buffer are told to the same sink.

*Turns.* What is read at once is worked off at once, while everybody else waits. A kilobyte of bulk data costs
microseconds, a kilobyte of key updates or of records with a byte each a thousand times as much, and only the sink's
work can tell them apart. So that is timed: a stream is read in smaller bites while its bites take long, and in larger
ones while they do not. Order and back-pressure are as ever: what is not read waits in the kernel, and the peer with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING, Protocol

from countersign.recorder.recording import Ending

if TYPE_CHECKING:
    from collections.abc import Callable

RECEIVE_BUFFER = 64 * 1024
_LINGER = 1.0  # seconds that a closed connection may still take to hand over its last bytes
_PULLED_AT_MOST = 256 * 1024  # bytes that wait for read() before the peer is slowed down
_FIRST_BITE = 8 * 1024  # bytes that are worked off at once while nothing is known of what they cost
_LEAST_BITE = 512
_TURN = 0.005  # seconds that the work of one bite may take before the next is smaller


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
        self._bite = self._view[:_FIRST_BITE]
        self._on_connected = on_connected
        self._pulled = bytearray()
        self._reader: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._held = False  # by whom the bytes are for
        self._paused = False  # the transport does not read
        self._left = False  # the last read() left something
        self._told = False  # the sink knows of the end
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
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # TCP_NODELAY is asyncio's own choice already
        transport.set_write_buffer_limits(high=RECEIVE_BUFFER * 2, low=RECEIVE_BUFFER // 2)
        if self._on_connected is not None:
            self._on_connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's signature
        return self._bite

    def buffer_updated(self, nbytes: int) -> None:
        if self._closing:
            return
        self.received += nbytes
        if self._sink is not None:
            self._pour(self._sink, self._bite[:nbytes])
            return
        self._pulled += self._bite[:nbytes]
        if len(self._pulled) > _PULLED_AT_MOST:
            self.pause()
        self._wake()

    def _pour(self, sink: Sink, chunk: memoryview) -> None:
        began = time.monotonic()
        try:
            sink.data(chunk)
        except Exception as error:  # noqa: BLE001 - the event loop would swallow it; the session has to know
            sink.crashed(error)
        took = time.monotonic() - began
        size = len(self._bite)
        if took > _TURN:
            self._bite = self._view[: max(size // 2, _LEAST_BITE)]
        elif len(chunk) == size < RECEIVE_BUFFER and took < _TURN / 4:
            self._bite = self._view[: size * 2]

    def _pour_waiting(self) -> None:
        """What came before there was a sink, in bites like the rest; then how it ended, if it has."""
        if self._sink is None or self._held:
            return
        if self._pulled:
            bite = bytes(self._pulled[: len(self._bite)])
            del self._pulled[: len(bite)]
            self._pour(self._sink, memoryview(bite))
            asyncio.get_running_loop().call_soon(self._pour_waiting)
        elif self.ending is not None:
            self._tell_end(self.ending)
        self._regulate()

    def eof_received(self) -> bool:
        self._end(Ending.FIN)
        return not self._closing  # our direction stays open: half-close

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(Ending.RESET if exc is not None else Ending.FIN)
        self._full = False
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._full = True
        if self._sink is not None:
            self._sink.room(free=False)

    def resume_writing(self) -> None:
        self._full = False
        if self._sink is not None:
            self._sink.room(free=True)

    def _end(self, how: Ending) -> None:
        if self.ending is None:
            self.ending = how
            if self._sink is None:
                if self.on_end is not None:
                    self.on_end()
            elif how is Ending.RESET or not self._pulled:
                self._pulled.clear()  # a reset takes with it what nobody has read (RFC 9293 3.10.7.4)
                self._tell_end(how)
        self._wake()

    def _tell_end(self, how: Ending) -> None:
        if self._sink is not None and not self._told:
            self._told = True
            self._sink.ended(how)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # -- called by the engine

    async def read(self) -> bytes:
        """What has come, a byte at least and a bite at most; empty at the end, and ``ending`` says which."""
        if self._left:
            await asyncio.sleep(0)  # others have their turn between two bites of the same
        while not self._pulled and self.ending is None:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        taken = bytes(self._pulled[:_FIRST_BITE])
        del self._pulled[:_FIRST_BITE]
        self._left = bool(self._pulled)
        if not self._left:
            self.resume()
        return taken

    def unread(self, data: bytes) -> None:
        """Put bytes back in front: the next :meth:`read` or the sink gets them."""
        self._pulled[:0] = data

    def pour_into(self, sink: Sink) -> None:
        """From now on everything goes to the sink, what has been waiting first; nothing where we have ended it."""
        if self._closing:
            return
        self._sink = sink
        self._held = False
        self._pour_waiting()

    def write(self, data: bytes | memoryview) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    @property
    def full(self) -> bool:
        return self._full

    def pause(self) -> None:
        """Nothing more of the peer's is wanted for now."""
        self._held = True
        self._regulate()

    def resume(self) -> None:
        """What comes is welcome again."""
        if self._held:
            self._held = False
            if self._sink is not None and (self._pulled or self.ending is not None):
                asyncio.get_running_loop().call_soon(self._pour_waiting)
            self._regulate()

    def _regulate(self) -> None:
        """Read from the socket unless somebody wants to wait, or has something before it to work off."""
        stop = self._held or bool(self._sink is not None and self._pulled)
        if stop != self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = stop
            if stop:
                self._transport.pause_reading()
            else:
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
        self._pulled.clear()
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
        self._closing = True  # the end that follows is ours, not the peer's
        self._sink = None
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

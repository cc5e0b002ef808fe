"""A TCP connection on the event loop, with no more between the two than a proxy of thousands of them can afford.

What asyncio's own transport takes beyond this: four turns of the loop until a connection may be read from, twice the
calls for each read, and 2 KB that an idle connection holds. It does all that this one does and is what
:class:`~countersign.proxy.stream.Stream` is written against, so either can stand under it; where there is TLS of
asyncio's underneath (an upstream proxy with ``https://``), its own does.

Needs a loop with ``add_reader``, as the listeners do.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from countersign.proxy.stream import Stream

_HIGH_WATER = 64 * 1024


class SocketTransport(asyncio.Transport):
    """Pours what comes into the stream's buffer and sends what it writes, at once where the kernel takes it."""

    __slots__ = (
        "_closing", "_ended", "_eof_sent", "_fd", "_full", "_high", "_loop", "_lost", "_low", "_paused", "_peer",
        "_socket", "_stream", "_waiting",
    )  # fmt: skip

    def __init__(self, stream: Stream, connected: socket.socket, peer: tuple[Any, ...] | None) -> None:
        # Its base has nothing for us to keep.
        self._loop = asyncio.get_running_loop()
        self._stream: Stream | None = stream
        self._socket = connected
        self._fd = connected.fileno()
        self._peer = _peer(connected) if peer is None else peer
        self._waiting = bytearray()
        self._high, self._low = _HIGH_WATER, _HIGH_WATER // 4
        self._full = False  # and the stream knows
        self._paused = False
        self._ended = False  # the peer's bytes have
        self._eof_sent = False
        self._closing = False
        self._lost = False

    @classmethod
    def begin(cls, stream: Stream, connected: socket.socket, peer: tuple[Any, ...] | None = None) -> Stream:
        """Put the stream on this non-blocking, connected socket, which is the transport's from here on.

        Whoever has accepted it knows the peer's address; the socket of a peer that is gone already does not.
        """
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made = cls(stream, connected, peer)
        stream.connection_made(made)
        made._read_again()
        return stream

    # -- reading

    def _read_again(self) -> None:
        if not (self._closing or self._paused or self._ended):
            self._loop.add_reader(self._fd, self._can_read)

    def _can_read(self) -> None:
        stream = self._stream
        if self._closing or stream is None:
            return
        try:
            count = self._socket.recv_into(stream.get_buffer(-1))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._break(error)
            return
        if count:
            try:
                stream.buffer_updated(count)
            except Exception as error:  # noqa: BLE001 - a fault of ours; the session has to hear of an end
                told = {"message": "a connection could not take what came", "exception": error, "transport": self}
                self._loop.call_exception_handler(told)
                self._break(error)
            return
        self._ended = True
        self._loop.remove_reader(self._fd)
        if not stream.eof_received():
            self.close()

    def pause_reading(self) -> None:
        if not (self._closing or self._paused):
            self._paused = True
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        if not self._closing and self._paused:
            self._paused = False
            self._read_again()

    def is_reading(self) -> bool:
        return not (self._closing or self._paused)

    # -- writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._lost or self._eof_sent or not data:
            return
        if not self._waiting:
            try:
                sent = self._socket.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._break(error)
                return
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
            self._loop.add_writer(self._fd, self._can_write)
        self._waiting += data
        self._regulate()

    def _can_write(self) -> None:
        try:
            sent = self._socket.send(self._waiting)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._break(error)
            return
        del self._waiting[:sent]
        if not self._waiting:  # before the stream hears of room, for it may end the connection in that moment
            self._loop.remove_writer(self._fd)
        self._regulate()
        if self._waiting or self._lost:
            return
        if self._closing:
            self._lose(None)
        elif self._eof_sent:
            self._shut()

    def _regulate(self) -> None:
        size, stream = len(self._waiting), self._stream
        if stream is None:
            return
        if not self._full and size > self._high:
            self._full = True
            stream.pause_writing()
        elif self._full and size <= self._low:
            self._full = False
            stream.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = _HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low
        self._regulate()

    def get_write_buffer_size(self) -> int:
        return len(self._waiting)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not (self._closing or self._eof_sent):
            self._eof_sent = True
            if not self._waiting:
                self._shut()

    def _shut(self) -> None:
        with contextlib.suppress(OSError):  # the peer has reset it meanwhile, and reading will tell
            self._socket.shutdown(socket.SHUT_WR)

    # -- the end

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._stop_reading()
            if not self._waiting:
                self._lose(None)

    def abort(self) -> None:
        self._break(None)

    def _break(self, error: Exception | None) -> None:
        """Over at once, whatever waits."""
        if self._lost:
            return
        if self._waiting:
            self._waiting.clear()
            self._loop.remove_writer(self._fd)
        if not self._closing:
            self._stop_reading()
        self._lose(error)

    def _stop_reading(self) -> None:
        self._closing = True
        self._loop.remove_reader(self._fd)

    def _lose(self, error: Exception | None) -> None:
        """The stream hears of it in a turn of its own, for it may be in the middle of something now."""
        if not self._lost:
            self._lost = True
            self._loop.call_soon(self._gone, error)

    def _gone(self, error: Exception | None) -> None:
        stream, self._stream = self._stream, None
        self._socket.close()
        if stream is not None:
            stream.connection_lost(error)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            return self._peer
        return self._socket if name == "socket" else default


def _peer(connected: socket.socket) -> tuple[Any, ...] | None:
    try:
        found: tuple[Any, ...] = connected.getpeername()
    except OSError:  # it was reset before we came to ask
        return None
    return found

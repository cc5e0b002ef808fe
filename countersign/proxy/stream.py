"""One TCP connection as the engine uses it: bytes are pulled at first, and pushed to a sink once they are relayed.

Preludes and handshakes read step by step: :meth:`Stream.read`. Bulk data is pushed: :meth:`Stream.pour_into` hands
every chunk to a callback straight from the event loop's receive buffer, which all streams of a loop share, so an
idle connection holds no buffer and no task. The end of the bytes and a full send buffer are told to the same sink.

*Turns.* What is read at once is worked off at once, while everybody else waits. A kilobyte of bulk data costs
microseconds, a kilobyte of key updates or of records with a byte each a thousand times as much, and only the sink's
work can tell them apart. So that is timed: a stream is read in smaller bites while its bites take long, and in larger
ones while they do not. Order and back-pressure are as ever: what is not read waits in the kernel, and the peer with it.

*Lanes.* Where something is to be done to the bytes on purpose, or the network is to be bad, a direction has a
:class:`~countersign.proxy.lane.Lane` between the socket and whoever reads or writes; else nothing. What a lane of the
peer's bytes ends, ends here as if the peer or the network had ended it. What a lane of ours ends is our own doing:
:attr:`Stream.ending` is then ``STOPPED``. A peer that goes is noticed at once, also behind a silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from countersign.proxy.faults.effects import Close, Finish, Reset, Send
from countersign.proxy.lane import Lane
from countersign.recorder.recording import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from countersign.proxy.faults.effects import Applied, Effect
    from countersign.proxy.lane import Out, Timers
    from countersign.proxy.network import Weather

    Work = Callable[[bytes], Iterable[Effect]]

RECEIVE_BUFFER = 128 * 1024
_SEND_BUFFER = 128 * 1024  # bytes that may wait for a peer before what they come from is not read any more
_LINGER = 1.0  # seconds that a closed connection may still take to hand over its last bytes
_PATIENCE = 2.0  # seconds that a closed connection may take on top of that for what its lane still holds
_PULLED_AT_MOST = 256 * 1024  # bytes that wait for read() before the peer is slowed down
_FIRST_BITE = 8 * 1024  # bytes that are worked off at once while nothing is known of what they cost
_LEAST_BITE = 512
_ALONE_AT_MOST = 4096  # bytes of a write that is a segment of its own, if it fits in one
_COPIES = sys.version_info < (3, 12)  # later transports keep a view of what they cannot send at once, and no copy
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
        """A fault of our own was met in ``data`` or ``ended``; nothing more comes."""


class ReceiveBuffer:
    """What all streams of a loop receive into. A view of its beginning is made once for each size: an idle connection
    holds none of its own.
    """

    __slots__ = ("_views", "_whole")

    def __init__(self, size: int = RECEIVE_BUFFER) -> None:
        self._whole = memoryview(bytearray(size))
        self._views: dict[int, memoryview] = {}

    def first(self, size: int) -> memoryview:
        """Its first bytes, so many or all."""
        view = self._views.get(size)
        if view is None:
            view = self._views[size] = self._whole[:size]
        return view


class Stream(asyncio.BufferedProtocol):
    """A TCP connection. ``ending`` says how the peer's bytes ended, once they have."""

    def __init__(self, buffer: ReceiveBuffer, on_connected: Callable[[Stream], None] | None = None) -> None:
        self._buffer = buffer
        self._bite = buffer.first(_FIRST_BITE)
        self._on_connected = on_connected
        self._pulled = bytearray()
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._held = False  # by whom the bytes are for
        self._paused = False  # the transport does not read
        self._left = False  # the last read() left something
        self._told = False  # the sink knows of the end
        self._full = False
        self._closing = False
        self._finished = False  # our FIN is out, or behind what waits
        self._transport: asyncio.Transport | None = None
        self._outward: Lane | None = None
        self._inward: Lane | None = None
        self._work: Work | None = None
        self._speaks: Work | None = None
        self.timers: Timers = asyncio.get_running_loop()
        self.ending: Ending | None = None
        self.received = 0
        self.on_sent: Callable[[bytes], None] | None = None  # called with what leaves our lane, in the moment it does
        self.on_applied: Callable[[Applied, bool], None] | None = None  # with a fault, and whether it is in our lane
        self.on_end: Callable[[], None] | None = None  # called at the end of the bytes while nothing is relayed
        self.on_hung_up: Callable[[Ending], None] | None = None  # when an order ends our side, or both (see ``ending``)
        self._lost = False  # the connection is, and the transport with it
        self._closed: asyncio.Future[None] | None = None

    # -- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        raw = transport.get_extra_info("socket")
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # TCP_NODELAY is asyncio's own choice already
        self.tell_when_full()
        if self._on_connected is not None:
            self._on_connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's signature
        return self._bite

    def buffer_updated(self, nbytes: int) -> None:
        if self._closing:
            return
        self.received += nbytes
        if self._inward is not None:
            self._into(self._inward, bytes(self._bite[:nbytes]))
        else:
            self._arrived(self._bite[:nbytes])

    def _arrived(self, chunk: memoryview) -> None:
        """Bytes of the peer, at the end of their lane where they have one."""
        if self._sink is not None:
            self._pour(self._sink, chunk)
            return
        self._pulled += chunk
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
            self._bite = self._buffer.first(max(size // 2, _LEAST_BITE))
        elif len(chunk) == size < RECEIVE_BUFFER and took < _TURN / 4:
            self._bite = self._buffer.first(size * 2)

    def _pour_waiting(self) -> None:
        """What came before there was a sink, in bites like the rest; then how it ended, if it has."""
        if self._sink is None or self._held:
            return
        if self._pulled:
            bite = bytes(self._pulled[: len(self._bite)])
            del self._pulled[: len(bite)]
            self._pour(self._sink, memoryview(bite))
            asyncio.get_running_loop().call_soon(self._pour_waiting)
        else:
            if self._inward is not None:
                self._inward.go_on()  # what is in the lane has waited behind this
            if self.ending is not None:
                self._tell_end(self.ending)
        self._regulate()

    def eof_received(self) -> bool:
        if self._inward is None or self._inward.silent:
            self._end(Ending.FIN)
        else:
            self._inward.put((Finish(),))
        return not self._closing  # our direction stays open: half-close

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(Ending.RESET if exc is not None else Ending.FIN)
        for lane in (self._inward, self._outward):
            if lane is not None:
                lane.drop()
        self._let_go()
        self._full = False
        self._wake_writer()
        self._lost = True
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        self._full = True
        if self._outward is None:
            self._tell_room()

    def resume_writing(self) -> None:
        self._full = False
        if self._outward is None:
            self._tell_room()
        else:
            self._outward.go_on()

    def _tell_room(self) -> None:
        self._wake_writer()
        if self._sink is not None:
            self._sink.room(free=not self.full)

    def _end(self, how: Ending) -> None:
        if self.ending is None:
            self.ending = how
            if self._sink is None:
                if self.on_end is not None:
                    self.on_end()
            elif how in {Ending.RESET, Ending.STOPPED} or not self._pulled:
                self._pulled.clear()  # a reset takes with it what nobody has read (RFC 9293 3.10.7.4)
                self._tell_end(how)
        self._wake()

    def _hang_up(self, how: Ending) -> None:
        if self.on_hung_up is not None:
            self.on_hung_up(how)

    def _tell_end(self, how: Ending) -> None:
        if self._sink is not None and not self._told:
            self._told = True
            try:
                self._sink.ended(how)
            except Exception as error:  # noqa: BLE001 - as in _pour: the session would wait for the end for ever
                self._sink.crashed(error)
            if self._lost:
                self._let_go()

    @property
    def closed(self) -> asyncio.Future[None]:
        """Done when the connection is gone."""
        if self._closed is None:
            self._closed = asyncio.get_running_loop().create_future()
            if self._lost:
                self._closed.set_result(None)
        return self._closed

    def _let_go(self) -> None:
        """The connection is gone: hold nobody who holds it, so that all of them are freed at once."""
        self.on_sent = self.on_applied = self.on_hung_up = self.on_end = None
        if self._told:
            self._sink = None

    def _wake_writer(self) -> None:
        if self._writer is not None and not self._writer.done() and (self.gone or not self.full):
            self._writer.set_result(None)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # -- called by the engine

    async def read(self, *, until: float | None = None) -> bytes:
        """What has come, a byte at least and a bite at most; empty at the end, and ``ending`` says which.

        Raises :class:`TimeoutError` from ``until`` on, by the loop's clock.
        """
        loop = asyncio.get_running_loop()
        if self._left:
            await asyncio.sleep(0)  # others have their turn between two bites of the same
        if until is not None and loop.time() >= until:
            raise TimeoutError
        while not self._pulled and self.ending is None:
            self._reader = reader = loop.create_future()
            timer = None if until is None else loop.call_at(until, self._wake)
            try:
                await reader
            finally:
                if self._reader is reader:  # else this one was given up, and another waits by now
                    self._reader = None
                if timer is not None:
                    timer.cancel()
            if until is not None and loop.time() >= until and not self._pulled and self.ending is None:
                raise TimeoutError
        taken = bytes(self._pulled[:_FIRST_BITE])
        del self._pulled[:_FIRST_BITE]
        self._left = bool(self._pulled)
        if not self._left:
            self.resume()
        return taken

    def unread(self, data: bytes) -> None:
        """Put bytes back in front: the next :meth:`read` or the sink gets them."""
        self._pulled[:0] = data

    def set_aside(self) -> bytes:
        """What nobody has read yet, taken out."""
        waiting = bytes(self._pulled)
        self._pulled.clear()
        return waiting

    def pour_into(self, sink: Sink) -> None:
        """From now on everything goes to the sink, what has been waiting first; nothing where we have ended it."""
        if self._closing:
            if self.ending in {Ending.STOPPED, Ending.RESET}:  # by an order, before there was a sink
                sink.ended(self.ending)
            return
        self._sink = sink
        self._held = False
        self._pour_waiting()

    def write(self, data: bytes | memoryview) -> None:
        """Send, unless our side has ended; a view is good for anything else when this returns."""
        if self._outward is not None:
            if data:
                self._outward.put((Send(bytes(data)),) if self._speaks is None else self._speaks(bytes(data)))
        elif data and self._transport is not None and self._speakable:
            self._transport.write(data if _COPIES else bytes(data))

    @property
    def _speakable(self) -> bool:
        """The transport takes bytes: behind ``write_eof`` it would raise."""
        return self._transport is not None and not self._finished and not self._transport.is_closing()

    async def drained(self) -> None:
        """Wait until the peer has taken enough of what was written: nobody's answer may pile up here. One at a time."""
        while self.full and not self.gone:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    def perform(self, effects: Iterable[Effect]) -> None:
        """Do this to our direction, behind what was written before."""
        self._outward_lane().put(effects)

    def receive_through(self, work: Work | None) -> None:
        """From now on what the peer sends becomes what ``work`` makes of it; what nobody has read yet does, too."""
        lane = self._inward_lane()
        self._work = work
        if self._pulled and work is not None:
            self._into(lane, self.set_aside())

    @property
    def sent_all(self) -> bool:
        """Nothing of what was written waits here any more, or for good."""
        return not self._full and (self._outward is None or self._outward.empty)

    def send_through(self, work: Work | None) -> None:
        """From now on what is written becomes what ``work`` makes of it."""
        self._outward_lane()
        self._speaks = work

    def shape(self, *, outward: Weather | None = None, inward: Weather | None = None) -> None:
        """From now on the network is like this, for what we send and for what comes."""
        if outward is not None:
            self._outward_lane().shape(outward)
        if inward is not None:
            self._inward_lane().shape(inward)

    def _outward_lane(self) -> Lane:
        if self._outward is None:
            self._outward = Lane(
                _Outward(self),
                self.timers,
                on_room=self._tell_room,
                on_applied=partial(self._tell_applied, outward=True),
            )
            if self._transport is not None:
                self._transport.set_write_buffer_limits(high=0)  # so that each write is a segment of its own
        return self._outward

    def _inward_lane(self) -> Lane:
        if self._inward is None:
            self._inward = Lane(
                _Inward(self),
                self.timers,
                on_room=self._regulate,
                on_applied=partial(self._tell_applied, outward=False),
            )
        return self._inward

    def _tell_applied(self, applied: Applied, *, outward: bool) -> None:
        if self.on_applied is not None:
            self.on_applied(applied, outward)

    def take_in(self, effects: Iterable[Effect]) -> None:
        """The same with what comes from the peer, behind what has come before."""
        self._inward_lane().put(effects)

    def _into(self, lane: Lane, data: bytes) -> None:
        if self._work is None:
            lane.put((Send(data),))
            return
        try:
            lane.put(self._work(data))
        except Exception as error:
            if self._sink is None:
                raise
            self._sink.crashed(error)  # the event loop would swallow it; the session has to know

    @property
    def full(self) -> bool:
        return self._full if self._outward is None else self._outward.full

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
            if self._inward is not None:
                self._inward.go_on()
            self._regulate()

    def _regulate(self) -> None:
        """Read from the socket unless somebody wants to wait, or has something before it to work off."""
        stop = self._held or self._behind or (self._inward is not None and self._inward.full)
        if stop != self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = stop
            if stop:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    @property
    def _behind(self) -> bool:
        """Something came before there was a sink, and it has not had all of it yet."""
        return self._sink is not None and bool(self._pulled)

    def finish(self) -> None:
        """No more bytes from us (a TCP half-close); what the peer sends still comes."""
        if self._outward is not None:
            self.on_hung_up = None  # from here on it is no order's doing
            self._outward.put((Finish(),))
        else:
            self._finish_now()

    def _finish_now(self) -> None:
        if self._transport is not None and self._speakable:
            self._finished = True
            with contextlib.suppress(OSError, RuntimeError):
                self._transport.write_eof()

    def close(self, *, patient: bool = True) -> None:
        """Send what waits, then close; within a second, however slow the peer is. What waits in a lane gets two more,
        if we are ``patient``.

        While the peer has not ended its side, what it still sends is read and dropped: closing over unread bytes would
        reset the connection, and a reset can overtake the alert that was sent last.
        """
        transport = self._transport
        if transport is None or transport.is_closing() or self._closing:
            return
        self._closing = True
        self._wake_writer()
        self._sink = None
        self.on_sent = self.on_applied = self.on_hung_up = None
        self._pulled.clear()
        if self._inward is not None:
            self._inward.drop()
        self.resume()
        if self._outward is None or self._outward.empty or not patient:
            self._close_now()
        else:
            waited = asyncio.get_running_loop().call_later(min(self._outward.ahead, _PATIENCE), self._close_now)
            self.closed.add_done_callback(lambda _: waited.cancel())
            self._outward.on_empty = self._close_now

    def _close_now(self) -> None:
        """What was written is with the kernel, or never will be."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._outward is not None:
            self._outward.drop()
        if self.ending in {None, Ending.STOPPED}:
            self._finish_now()
        else:
            transport.close()
        if self.ending in {None, Ending.STOPPED} or transport.get_write_buffer_size():
            lingered = asyncio.get_running_loop().call_later(_LINGER, transport.abort)
            self.closed.add_done_callback(lambda _: lingered.cancel())

    def abort(self) -> None:
        """Close at once with a reset, as a device does that drops a connection."""
        if self._transport is None:
            return
        raw = self._transport.get_extra_info("socket")
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        for lane in (self._inward, self._outward):
            if lane is not None:
                lane.drop()
        self._closing = True  # the end that follows is ours, not the peer's
        self._wake_writer()
        self._sink = None
        self.on_sent = self.on_applied = self.on_hung_up = None
        self.on_end = None
        self._transport.abort()

    # -- lent to somebody who moves its bytes without us

    @property
    def lendable(self) -> bool:
        """Whether its bytes go straight from the socket to us, and ours straight to the socket."""
        return not self.gone and self._inward is None and self._outward is None

    @property
    def pouring(self) -> bool:
        """Something has come that nobody has had yet."""
        return bool(self._pulled)

    @property
    def sending(self) -> bool:
        """Something of what was written is still here."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def tell_when_full(self) -> None:
        """The sink is told of room when there is some, and when there is none."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=_SEND_BUFFER, low=_SEND_BUFFER // 4)

    def tell_when_sent(self) -> None:
        """The sink is told of room when all that was written is with the kernel."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=0)

    def lend(self) -> int:
        """A descriptor of its socket, for whoever asks to close. Raises :class:`OSError` where there is none."""
        raw = self._transport.get_extra_info("socket") if self._transport is not None else None
        if raw is None:
            raise OSError(errno.ENOTCONN, "not connected")
        return os.dup(raw.fileno())

    def lent(self, count: int) -> None:
        """So many bytes came for whoever has borrowed the socket."""
        self.received += count

    def lent_ended(self, how: Ending) -> None:
        """That is how the peer's bytes ended."""
        self._end(how)

    @property
    def gone(self) -> bool:
        """Closed or aborted by us: nothing can be said or heard any more."""
        return self._closing or self._transport is None or self._transport.is_closing()

    def peer(self) -> str:
        return address_text(self._transport.get_extra_info("peername") if self._transport else None)

    def peer_host(self) -> str:
        name = self._transport.get_extra_info("peername") if self._transport else None
        return str(name[0]) if name else ""


class _Outward:
    """Where our bytes leave their lane."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def blocked(self) -> bool:
        return self._stream._full  # noqa: SLF001 - a part of the stream

    def take(self, effect: Out) -> None:
        stream = self._stream
        match effect:
            case Send(data):
                if stream._finished:  # noqa: SLF001
                    return
                if stream.on_sent is not None:
                    stream.on_sent(data)
                if stream._transport is not None and stream._speakable:  # noqa: SLF001
                    stream._transport.write(data[_sent_alone(stream._transport, data) :])  # noqa: SLF001
            case Finish():
                stream._hang_up(Ending.FIN)  # noqa: SLF001
                stream._finish_now()  # noqa: SLF001
            case Close():
                stream._hang_up(Ending.FIN)  # noqa: SLF001
                stream._end(Ending.STOPPED)  # noqa: SLF001
                stream.close()
            case Reset():
                stream._hang_up(Ending.RESET)  # noqa: SLF001
                stream._end(Ending.STOPPED)  # noqa: SLF001
                stream.abort()


def _sent_alone(transport: asyncio.Transport, data: bytes) -> int:
    """Send it as a segment that the kernel adds nothing to; how many bytes of it were taken.

    The kernel sends each write at once while it may (TCP_NODELAY), but what waits for the congestion window it puts
    together, unless a record is said to end there (Linux, ``MSG_EOR`` of tcp(7)'s sendmsg).
    """
    raw = transport.get_extra_info("socket")
    if sys.platform != "linux" or len(data) > _ALONE_AT_MOST or transport.get_write_buffer_size() or raw is None:
        return 0
    try:
        with raw.dup() as own:
            return int(own.send(data, socket.MSG_EOR))
    except OSError:
        return 0  # it is full, or gone: the transport knows what to do


class _Inward:
    """Where the peer's bytes leave their lane."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def blocked(self) -> bool:
        return self._stream._held or self._stream._behind  # noqa: SLF001 - a part of the stream

    def take(self, effect: Out) -> None:
        stream = self._stream
        match effect:
            case Send(data):
                stream._arrived(memoryview(data))  # noqa: SLF001
            case Finish():
                stream._end(Ending.FIN)  # noqa: SLF001
            case Close():
                stream._end(Ending.FIN)  # noqa: SLF001
                stream.perform((Finish(),))  # what has come is still to be read
            case Reset():
                stream._end(Ending.RESET)  # noqa: SLF001
                stream._hang_up(Ending.RESET)  # noqa: SLF001
                stream.abort()


def address_text(name: tuple[object, ...] | None) -> str:
    """``127.0.0.1:443`` or ``[::1]:443``."""
    if not name:
        return "unknown"
    host, port = str(name[0]), name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

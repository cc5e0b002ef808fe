"""Moving application data between two connections, both ways, with back-pressure and half-close.

Each direction is a :class:`~countersign.proxy.stream.Sink`: its source pours in, its destination gets the bytes at
once, and while the destination's send buffer is full its source is not read. Ends are mirrored as they came: a
close_notify becomes a close_notify, a FIN a FIN, a reset a reset; the other direction goes on until it ends too.

What OpenSSL's memory BIOs grow to they keep, so a connection that rests gets new ones: after its handshake, and when
nothing has moved for a moment after bulk data.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from countersign.proxy._openssl import CertificateAsked, EndOfData, TlsTrouble
from countersign.recorder.recording import Ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.proxy._openssl import Buffers
    from countersign.proxy.leg import TlsLeg
    from countersign.proxy.splice import Splice
    from countersign.proxy.stream import Stream


_REST = 0.05  # seconds without a byte, from which on a connection rests
_BULK = 8 * 1024  # bytes at once, from which on it is worth making BIOs anew


def _nothing() -> None:
    """What is to be done where there is nothing to do."""


class Relay:
    """Two directions and the moment when both have ended, or nothing has moved for too long.

    ``legs`` rest when nothing has moved for a moment behind :meth:`bulk_moved`.
    """

    __slots__ = ("_idle", "_legs", "_loop", "_moved", "_open", "_resting", "_timer", "at_end", "finished", "timed_out")

    def __init__(self, *, idle: float, legs: tuple[TlsLeg, ...] = ()) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle = idle
        self._open = 2
        self._moved = self._loop.time()
        self._timer = self._loop.call_later(idle, self._check)
        self._legs = legs
        self._resting: asyncio.TimerHandle | None = None
        self.timed_out = False
        self.at_end: Callable[[], None] = _nothing
        """Called once, by :meth:`let_go`."""
        self.finished: asyncio.Future[None] = self._loop.create_future()

    def moved(self) -> None:
        self._moved = self._loop.time()

    def bulk_moved(self) -> None:
        """What moved is so much that something has grown by it."""
        if self._resting is None:
            self._resting = self._loop.call_later(_REST, self._rest)

    def _rest(self) -> None:
        left = self._moved + _REST - self._loop.time()
        if left > 0:
            self._resting = self._loop.call_later(left, self._rest)
        else:
            self._resting = None
            for leg in self._legs:
                leg.rest()

    def direction_ended(self) -> None:
        self._open -= 1
        if self._open == 0:
            self.finish()

    def finish(self, error: Exception | None = None) -> None:
        """Both directions are over; with a fault of our own when there is one."""
        self._timer.cancel()
        if self._resting is not None:
            self._resting.cancel()
        if self.finished.done():
            return
        if error is None:
            self.finished.set_result(None)
        else:
            self.finished.set_exception(error)

    def let_go(self) -> None:
        """Whoever waited for the end has met it, or waits no more: nothing is held from here on."""
        self.finish()
        at_end, self.at_end = self.at_end, _nothing
        at_end()

    def _check(self) -> None:
        left = self._moved + self._idle - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check)
        else:
            self.timed_out = True
            self.finish()


class _Direction:
    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def crashed(self, error: Exception) -> None:
        self._relay.finish(error)


class RawDirection(_Direction):
    """Bytes as they are; ``watch`` sees each chunk before it is passed on, and ``ended`` the end.

    ``passed`` is called when a chunk has been passed on. ``splice`` may take its place, when it has been asked for.
    """

    def __init__(
        self,
        relay: Relay,
        source: Stream,
        destination: Stream,
        *,
        watch: Callable[[memoryview], None],
        ended: Callable[[Ending], None],
        passed: Callable[[], None],
    ) -> None:
        super().__init__(relay)
        self._source = source
        self._destination = destination
        self._watch = watch
        self._ended = ended
        self._passed = passed
        self.back: RawDirection | None = None
        self.splice: Splice | None = None

    def data(self, chunk: memoryview) -> None:
        self._relay.moved()
        self._watch(chunk)
        self._destination.write(bytes(chunk))
        if self._destination.full:
            self._source.pause()
        self._passed()

    def ended(self, how: Ending) -> None:
        self._ended(how)
        if how is Ending.RESET:
            self._destination.abort()
            self._relay.finish()
            return
        if how is Ending.STOPPED:  # by an order, and both ways
            self._relay.finish()
            return
        self._destination.finish()
        self._relay.direction_ended()

    def room(self, *, free: bool) -> None:
        """Our source's own send buffer: the other direction's destination."""
        if self.back is None:
            return
        splice = self.back.splice
        if splice is not None and splice.waiting:
            if free:
                splice.go_on()
        else:
            (self.back._source.resume if free else self.back._source.pause)()  # noqa: SLF001 - the same class


class TlsDirection(_Direction):
    """Application data of one leg, decrypted and encrypted again for the other.

    ``watch`` sees it when it has been passed on, and nothing at its end; it gives whether it wants to see more.
    ``trouble`` hears of a leg that broke, with what came from it last. ``asked`` is called when the source asks for a
    certificate and its leg waits for one; :meth:`go_on` goes on.
    """

    def __init__(
        self,
        relay: Relay,
        source: TlsLeg,
        destination: TlsLeg,
        *,
        buffers: Buffers,
        trouble: Callable[[TlsLeg, TlsTrouble, bytes], None],
        asked: Callable[[], None],
        watch: Callable[[bytes], bool] | None = None,
    ) -> None:
        super().__init__(relay)
        self._asked = asked
        self.moved: Callable[[], None] | None = None
        """Called when something has come from the source, or its end."""
        self._source = source
        self._destination = destination
        self._buffers = buffers
        self._trouble = trouble
        self._watch = watch
        self._closed = False  # the source has sent close_notify

    def begin(self) -> None:
        """Pass on what came with the end of the handshake, then pour; nothing when the relay is over already."""
        if not self._relay.finished.done():
            self._pump(self._source.last_read)
        if not self._relay.finished.done():
            self._source.last_read = b""
            self._source.connection.let_go()
            self._source.rest()
            self._source.stream.pour_into(self)

    def go_on(self) -> None:
        """Go on where the source's leg has waited."""
        if not self._relay.finished.done():
            self._pump()

    def data(self, chunk: memoryview) -> None:
        self._relay.moved()
        if len(chunk) >= _BULK:
            self._relay.bulk_moved()
        if self._closed:
            return  # nothing belongs after a close_notify (RFC 8446 6.1), and it must not pile up in OpenSSL
        try:
            self._source.feed(chunk, lent=True)
        except TlsTrouble as trouble:
            self._broken(self._source, trouble)
            return
        try:
            self._pump(chunk)
        finally:
            self._source.connection.take_back()

    def _pump(self, chunk: memoryview | bytes = b"") -> None:
        source, destination, buffers = self._source, self._destination, self._buffers
        moved = False
        watched: list[bytes] = []
        broken: TlsTrouble | None = None
        asked = False
        leg = source  # whose trouble it would be
        try:
            while not self._closed and (count := source.connection.read(buffers)):
                moved = True
                records = source.connection.records
                source.count(count, records)
                destination.count_sent(count, records)
                leg = destination
                destination.connection.pass_on(buffers, count)
                leg = source
                if self._watch is not None:
                    watched.append(buffers.read(count))
            if source.connection.holding:
                source.connection.retry()
        except EndOfData:
            self._closed = True
            watched.append(b"")
            destination.connection.close_notify()
        except TlsTrouble as trouble:
            broken = trouble.with_traceback(None)  # which has this frame, and this frame has it
        except CertificateAsked:
            asked = True
        answered = source.flush()
        source.only_answered = bool(answered) and not moved
        destination.flush()
        for data in watched:
            self._show(data)
        if broken is not None:
            self._broken(leg, broken, bytes(chunk) if leg is source else b"")
            return
        if asked:
            self._asked()
        if self.moved is not None:
            self.moved()
        balance(source, destination)
        balance(destination, source)

    def _show(self, data: bytes) -> None:
        if self._watch is not None and not self._watch(data):
            self._watch = None

    def _broken(self, leg: TlsLeg, trouble: TlsTrouble, chunk: bytes = b"") -> None:
        """``leg`` is over; what the other one still has to say is for :class:`LastWords`."""
        leg.stands = False
        self._trouble(leg, trouble, chunk)
        leg.stream.close()
        other = self._destination if leg is self._source else self._source
        other.stream.pause()  # nothing more is passed on
        self._relay.finish()

    def ended(self, how: Ending) -> None:
        self._source.ended(how)
        if self._relay.finished.done():
            return
        if not self._closed:
            self._show(b"")
        if how is Ending.RESET:
            self._destination.stream.abort()
            self._relay.finish()
            return
        if how is Ending.STOPPED:  # by an order, and both ways
            self._relay.finish()
            return
        self._destination.stream.finish()
        self._destination.connection.part()
        self._relay.direction_ended()
        if self.moved is not None:
            self.moved()

    def room(self, *, free: bool) -> None:  # noqa: ARG002 - both ends are looked at
        """The send buffer of our *source's* stream; what fills it comes from our destination, or answers the source."""
        balance(self._destination, self._source)
        balance(self._source, self._destination)


class LastWords:
    """What is still said on a leg that stands when the session is over: recorded, and passed on to nobody."""

    def __init__(self, leg: TlsLeg, *, buffers: Buffers) -> None:
        self._leg = leg
        self._buffers = buffers
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, *, goodbye: bool) -> None:
        """Read what has come already, end our side (with a close_notify or without), then listen."""
        self._read()
        if goodbye:
            self._leg.connection.close_notify()
            self._leg.flush()
        self._leg.stream.finish()
        self._leg.stream.pour_into(self)

    def data(self, chunk: memoryview) -> None:
        if self._leg.stands:
            self._leg.feed(chunk)
            self._read()

    def _read(self) -> None:
        try:
            while count := self._leg.connection.read(self._buffers):
                self._leg.count(count, self._leg.connection.records)
        except (EndOfData, TlsTrouble, CertificateAsked):
            self._leg.stands = False
        self._leg.flush()

    def ended(self, how: Ending) -> None:
        self._leg.ended(how)
        if not self.over.done():
            self.over.set_result(None)

    def room(self, *, free: bool) -> None:
        """Nothing is sent any more."""

    def crashed(self, error: Exception) -> None:
        if not self.over.done():
            self.over.set_exception(error)


def balance(source: TlsLeg, destination: TlsLeg) -> None:
    """Read from the source only while the destination takes what comes, and the source what it is answered.

    To read from a peer that does not read itself is right as long as what it says is for the other side. A peer that
    makes OpenSSL answer and takes no answer (key updates without end, RFC 8446 4.6.3) would fill our memory.
    """
    unanswerable = source.only_answered and source.stream.full
    held = destination.connection.holding > destination.patience
    if destination.stream.full or held or unanswerable or source.waits:
        source.stream.pause()
    else:
        source.stream.resume()

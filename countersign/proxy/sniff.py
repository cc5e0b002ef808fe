"""The first thing that a client says, which ought to be a ClientHello: taken off the stream and read once.

A hello may come in any slicing: over many segments, and over many records of a byte each (RFC 8446 5.1), so what may
cost much is bounded: :data:`HELLO_AT_MOST` bytes are more than OpenSSL takes, and :data:`RECORDS_AT_MOST` records more
than any client makes of it. They are read in slices. A slice of many records costs a hundred times what one of the same
size in a single record does; behind such a one the next waits for its turn (:mod:`countersign.proxy.turns`).

What came stays here until the hello is whole and its leg begins. Meanwhile a snapshot of the session shows its
beginning, by a copy of the decoder that is told that nothing more comes.
"""

from __future__ import annotations

import asyncio
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from countersign.proxy.context import Over
from countersign.recorder.recording import Ending, FailureCode, LegRole, Party
from countersign.recorder.wire.codes import CLIENT_HELLO
from countersign.recorder.wire.events import Content, EncryptedRecord, Event, Message, Side
from countersign.recorder.wire.leg import LegDecoder
from countersign.recorder.wire.reading import HelloSummary, summarize_client_hello
from countersign.recorder.wire.records import Flaw, RecordFramer

if TYPE_CHECKING:
    from countersign.proxy.context import Context

HELLO_AT_MOST = 192 * 1024
RECORDS_AT_MOST = 4096
_FIRST_SLICE = 512
_SLICE = 8 * 1024
_RECORDS_A_SLICE = 4  # more are costly

Chunk = tuple[float, bytes]
"""When it came, and the bytes."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What the client began with. ``first`` is None where it does not speak TLS; ``summary`` is of a ClientHello.

    ``chunks`` is all that came. ``decoder`` has read it but for what is ``unread``, and told ``events``.
    """

    first: Message | EncryptedRecord | None
    summary: HelloSummary | None = None
    chunks: tuple[Chunk, ...] = ()
    decoder: LegDecoder = field(default_factory=LegDecoder)
    events: tuple[Event, ...] = ()
    unread: tuple[Chunk, ...] = ()


class Sniffer:
    """Takes the client's first bytes off its stream. ``role`` is the leg that they are on while nothing is decided."""

    def __init__(self, context: Context, role: LegRole) -> None:
        self._context = context
        self._role = role
        self._chunks: list[Chunk] = []
        self._events: list[Event] = []
        self._decoder = LegDecoder()
        self._framer = RecordFramer(sslv2_may_come=True)
        self._first: Message | EncryptedRecord | None = None
        self._size = 0
        self._records = 0
        self._costly = False
        self._taken = False

    async def hello(self) -> Hello:
        """The ClientHello, or what came in its place. Ends the session when nothing does."""
        context, limit = self._context, self._context.settings.limits.hello
        until = asyncio.get_running_loop().time() + limit
        try:
            while data := await context.client.read(until=until):
                t = context.clock()
                while data:
                    if self._costly:
                        await context.engine.turns.mine()
                    size = _FIRST_SLICE if self._costly or not self._size else _SLICE
                    begun = self._receive(t, data[:size])
                    data = data[size:]
                    if begun:
                        return self._take(t, data)
        except TimeoutError:
            now = self.give_up(Ending.SILENT)
            if context.shaping.came and not self._size:
                raise Over from None
            said = f"sent only {self._size} bytes, not a whole ClientHello," if self._size else "sent no ClientHello"
            text = f"connected and {said} within {limit:g} s"
            raise context.over(None, Party.CLIENT, code=FailureCode.SILENT, text=text, t=now) from None
        ending = context.client.ending or Ending.STOPPED
        now = self.give_up(ending)
        if context.shaping.came and not self._size:
            raise Over  # it was not let through, and the recording has it, and how both sides ended
        how = "reset the connection" if ending is Ending.RESET else "closed the connection"
        if self._size:
            text = f"sent {self._size} bytes and {how} in the middle of its ClientHello"
            raise context.over(None, Party.CLIENT, code=FailureCode.CUT_HELLO, text=text, t=now)
        text = f"connected and {how} without sending a ClientHello"
        raise context.over(None, Party.CLIENT, code=FailureCode.NO_HELLO, text=text, t=now)

    def _receive(self, t: float, data: bytes) -> bool:
        """The next slice; whether it is known now what the client began with."""
        self._chunks.append((t, data))
        self._size += len(data)
        self._context.recording.changed = True
        before = self._records
        self._framer.feed(data)
        while (frame := self._framer.next()) is not None:
            self._records += not isinstance(frame, Flaw)
        self._costly = self._records - before > _RECORDS_A_SLICE
        if self._size > HELLO_AT_MOST or self._records > RECORDS_AT_MOST:
            now = self.give_up(Ending.STOPPED)
            text = f"sent {self._size} bytes in {self._records} records and still no whole ClientHello;"
            text += f" {HELLO_AT_MOST} bytes in {RECORDS_AT_MOST} records are the most that is taken"
            raise self._context.over(None, Party.CLIENT, code=FailureCode.HELLO_TOO_LONG, text=text, t=now)
        events = self._decoder.receive(Side.CLIENT, data, t)
        if self._decoder.is_tls is False:
            return True
        self._events += events
        self._first = next((event for event in events if isinstance(event, Message | EncryptedRecord)), None)
        return self._first is not None

    def _take(self, t: float, rest: bytes) -> Hello:
        unread = ((t, rest),) if rest else ()
        first, summary = self._first, None if self._first is None else _summary(self._first)
        self._taken = True
        hello = Hello(first, summary, (*self._chunks, *unread), self._decoder, tuple(self._events), unread)
        del self._chunks, self._events, self._decoder, self._framer, self._first  # a session may be long
        return hello

    def unfinished(self) -> list[Message]:
        """What there is of a hello that is not whole."""
        if self._taken or not self._chunks:
            return []
        copy = deepcopy(self._decoder)
        events = [*self._events, *copy.end(Side.CLIENT, self._context.clock())]
        return [event for event in events if isinstance(event, Message)]

    def give_up(self, ending: Ending) -> float:
        """Put on the recording what there is of a hello that never became whole, and how it ended: that was now.

        Where a fault has held some of it back, that is on the recording all the same: it was on the wire.
        """
        now, shaping, recording = self._context.clock(), self._context.shaping, self._context.recording
        if self._taken or not (self._chunks or shaping.came):
            return now
        self._taken = True
        if shaping.came:
            self._decoder = LegDecoder()
            self._events = [event for t, data in shaping.came for event in self._decoder.receive(Side.CLIENT, data, t)]
        recording.add(self._role, [*self._events, *self._decoder.end(Side.CLIENT, now)])
        if shaping.hung_up is not None:
            t, how = shaping.hung_up
            recording.end(self._role, Side.SERVER, how, t)
            ending = Ending.STOPPED if how is Ending.RESET else ending
        elif ending is Ending.SILENT and shaping.came and not self._size:
            recording.end(self._role, Side.SERVER, Ending.SILENT, now)  # it was our turn
            return now
        recording.end(self._role, Side.CLIENT, ending, now)
        return now


def _summary(first: Message | EncryptedRecord) -> HelloSummary | None:
    if isinstance(first, Message) and first.content is Content.HANDSHAKE and first.code == CLIENT_HELLO:
        return summarize_client_hello(first.raw)
    return None

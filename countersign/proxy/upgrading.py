"""STARTTLS: the dialogue in clear between client and target, moved byte by byte until TLS begins, or never does.

What may pass is decided by the dialects (:mod:`countersign.proxy.ways.starttls`), which see both directions. The target
is dialled first, for most of these protocols begin with its banner; only where the dialect is not known a client that
speaks at once is read first, since what it says may be a ClientHello.

A dialogue in which no TLS can come any more goes on here, unread, to its end.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from countersign.proxy.ways.starttls import SILENCE, Forward, Transcript, Upgraded
from countersign.recorder.recording import Ending
from countersign.recorder.wire.events import Side

if TYPE_CHECKING:
    from countersign.proxy.prelude import Asked, Prelude, Reach
    from countersign.proxy.stream import Stream
    from countersign.proxy.ways.starttls import Dialect, Event


@dataclass(frozen=True, slots=True)
class Starttls:
    """A dialogue behind another prelude."""

    inner: Prelude
    dialect: type[Dialect]

    async def run(self, stream: Stream, reach: Reach) -> Asked | None:
        asked = await self.inner.run(stream, reach)
        if asked is None:
            return None
        dialogue = _Dialogue(stream, reach, self.dialect())
        if self.dialect.server_first is None and asked.reply is None and await dialogue.begins_at_once():
            return asked
        upgraded = await dialogue.run(await reach.open(asked))
        return replace(asked, reply=None) if upgraded else None


class _Dialogue:
    def __init__(self, client: Stream, reach: Reach, dialect: Dialect) -> None:
        self._reach = reach
        self._dialect = dialect
        self._transcript = Transcript()
        self._streams = {Side.CLIENT: client}
        self._reading: dict[Side, asyncio.Task[bytes]] = {}
        self._early: list[Event] = []
        self._ended: set[Side] = set()

    async def begins_at_once(self) -> bool:
        """Whether the client's first words are TLS; else they wait for the target."""
        client = self._streams[Side.CLIENT]
        try:
            async with asyncio.timeout(SILENCE):
                data = await client.read()
        except TimeoutError:
            return False
        self._early = self._receive(Side.CLIENT, data)
        for event in self._early:
            if isinstance(event, Upgraded):
                client.unread(event.data)
                return True
        if not data:
            self._ended.add(Side.CLIENT)
        return False

    async def run(self, target: Stream) -> bool:
        """True when the client begins TLS; False when the dialogue ended without."""
        self._streams[Side.SERVER] = target
        try:
            if await self._pass_on(self._early):
                return True
            for side in self._ended:
                self._streams[side.peer].finish()
            while len(self._ended) < 2:
                for side in Side:
                    if side not in self._reading and side not in self._ended:
                        reading = self._streams[side].read()
                        self._reading[side] = asyncio.create_task(reading, name=f"read {side.value}")
                if await self._step():
                    return True
            return False
        finally:
            for task in self._reading.values():
                task.cancel()

    async def _step(self) -> bool:
        """Wait for either side; whether TLS begins."""
        quiet, limit = True, SILENCE
        done: set[asyncio.Task[bytes]] = set()
        while not done:
            done, _ = await asyncio.wait(self._reading.values(), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if not done and not quiet:
                self._reach.stop_idle()
            if not done:
                quiet, limit = False, self._reach.limits.idle
                if await self._pass_on(self._note(self._dialect.silence())):
                    return True
        for side in (Side.SERVER, Side.CLIENT):  # the target's answer goes before what the client says behind it
            task = self._reading.get(side)
            if task is None or task not in done:
                continue
            del self._reading[side]
            data = task.result()
            if not data:
                if self._end(side):
                    return False
                continue
            if await self._pass_on(self._receive(side, data)):
                return True
        return False

    def _end(self, side: Side) -> bool:
        """A side says no more; whether that is the end of both."""
        self._ended.add(side)
        other = self._streams[side.peer]
        if self._streams[side].ending is Ending.RESET:
            other.abort()
            self._ended.add(side.peer)
            return True
        other.finish()
        return False

    def _receive(self, side: Side, data: bytes) -> list[Event]:
        return self._note(self._dialect.receive(side, data))

    def _note(self, events: list[Event]) -> list[Event]:
        if events:
            before = len(self._transcript.problems)
            self._transcript.note(events, self._reach.clock())
            problems = self._transcript.problems[before:]
            self._reach.note(self._transcript.record(self._dialect.protocol), problems=problems)
        return events

    async def _pass_on(self, events: list[Event]) -> bool:
        """Whether TLS begins with these."""
        for event in events:
            if isinstance(event, Forward):
                other = self._streams[event.side.peer]
                other.write(event.data)
                await other.drained()
            elif isinstance(event, Upgraded):
                client = self._streams[Side.CLIENT]
                task = self._reading.pop(Side.CLIENT, None)
                more = task.result() if task is not None and task.done() else b""
                if task is not None:
                    task.cancel()
                client.unread(event.data + more)
                return True
        return False

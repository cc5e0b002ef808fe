"""Connections that are only watched: TLS that passes through as it is, and what is no TLS at all.

Behind the first 256 KiB of application data there is nothing to see that would be worth its price. From there on the
kernel moves the bytes by itself (:mod:`.splice`): they are counted, and the recording says from which byte on nobody
has looked at them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from countersign.proxy.relay import RawDirection, Relay
from countersign.proxy.splice import Splice
from countersign.recorder.recording import Ending, LegRole
from countersign.recorder.wire.events import Problem, Side
from countersign.recorder.wire.records import looks_like_http_request
from countersign.recorder.wire.redaction import first_bytes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from countersign.proxy.context import Context
    from countersign.proxy.sniff import Hello
    from countersign.proxy.stream import Stream

_NOT_TLS_KEPT = 64
_LOOKED_AT = 256 * 1024  # bytes of application data
_KEYS = {Side.CLIENT: "from_client", Side.SERVER: "from_target"}


class _Watcher(Protocol):
    """Sees what both sides send before it is passed on."""

    def saw(self, side: Side, data: bytes | memoryview, t: float) -> None:
        """The next bytes of this side."""

    def counted(self, side: Side, length: int, t: float) -> None:
        """It sent so many bytes, at which nobody looks."""

    def ended(self, side: Side, how: Ending, *, watched: bool) -> None:
        """It sends no more; whether all that it sent was looked at."""

    @property
    def enough(self) -> bool:
        """Whether nothing that is to come needs to be looked at."""


async def pass_through(context: Context, hello: Hello, *, dial: Callable[[], Awaitable[Stream]]) -> Relay:
    """Relay TLS unchanged, and record what shows from outside; the relay has begun."""
    watcher = _TlsWatcher(context, hello)
    for t, data in hello.unread:
        watcher.saw(Side.CLIENT, data, t)
    return _relay(context, await dial(), hello, watcher)


async def relay_not_tls(context: Context, hello: Hello, *, dial: Callable[[], Awaitable[Stream]]) -> Relay:
    """Relay what is no TLS unchanged, and keep its first bytes; the relay has begun."""
    recording = context.recording
    recording.not_tls = True
    recording.action = "relay"
    watcher = _FirstBytes(context)
    t, got = hello.chunks[0]
    expected = "a TLS record of type handshake (0x16)"
    problem = Problem(t, Side.CLIENT, "record.content_type", 0, expected, f"0x{got[0]:02x}")
    recording.problems.append((LegRole.THROUGH, problem))
    for t, data in hello.chunks:
        watcher.saw(Side.CLIENT, data, t)
    return _relay(context, await dial(), hello, watcher)


class _TlsWatcher:
    def __init__(self, context: Context, hello: Hello) -> None:
        self._context = context
        self._decoder = hello.decoder
        self._leg = context.recording.leg(LegRole.THROUGH)
        context.recording.add(LegRole.THROUGH, hello.events)

    def saw(self, side: Side, data: bytes | memoryview, t: float) -> None:
        self._context.recording.add(LegRole.THROUGH, self._decoder.receive(side, data, t))

    def counted(self, side: Side, length: int, t: float) -> None:
        """The records of it are not known, nor what of it is application data."""
        self._leg.count(side, length, t, records=0)

    def ended(self, side: Side, how: Ending, *, watched: bool) -> None:
        now = self._context.clock()
        if watched:
            self._context.recording.add(LegRole.THROUGH, self._decoder.end(side, now))
        self._context.recording.end(LegRole.THROUGH, side, how, now)

    @property
    def enough(self) -> bool:
        return sum(count.length for count in self._leg.data) > _LOOKED_AT


class _FirstBytes:
    def __init__(self, context: Context) -> None:
        self._recording = context.recording
        self._first = dict.fromkeys(Side, b"")
        self._seen = 0
        self._keep()

    def saw(self, side: Side, data: bytes | memoryview, t: float) -> None:  # noqa: ARG002 - as every watcher
        self._seen += len(data)
        room = _NOT_TLS_KEPT - len(self._first[side])
        if room > 0:
            self._first[side] += bytes(data[:room])
            self._keep()

    def _keep(self) -> None:
        told = {_KEYS[side]: first_bytes(data) for side, data in self._first.items()}
        http = {"protocol": "http"} if looks_like_http_request(self._first[Side.CLIENT]) else {}
        self._recording.prelude["not_tls"] = told | http
        self._recording.changed = True

    def counted(self, side: Side, length: int, t: float) -> None:
        """There is no leg to count it on."""

    def ended(self, side: Side, how: Ending, *, watched: bool) -> None:
        """There is no leg that could end."""

    @property
    def enough(self) -> bool:
        return self._seen > _LOOKED_AT


def _relay(context: Context, target: Stream, hello: Hello, watcher: _Watcher) -> Relay:
    relay = Relay(idle=context.settings.limits.idle)
    unwatched: dict[str, float | int] = {}
    splices: list[Splice] = []

    def passed() -> None:
        if watcher.enough:
            for splice in splices:
                splice.ask()

    def direction(side: Side, source: Stream, destination: Stream) -> RawDirection:
        def begun() -> None:
            unwatched.setdefault("t", round(context.clock(), 6))
            unwatched[_KEYS[side]] = source.received
            context.recording.prelude["unwatched"] = dict(unwatched)
            context.recording.changed = True

        def moved(count: int) -> None:
            source.lent(count)
            watcher.counted(side, count, context.clock())

        made = RawDirection(
            relay,
            source,
            destination,
            watch=lambda data: watcher.saw(side, data, context.clock()),
            ended=lambda how: watcher.ended(side, how, watched=_KEYS[side] not in unwatched),
            passed=passed,
        )
        made.splice = Splice(relay, source, destination, context.engine.pipes, begun=begun, moved=moved)
        splices.append(made.splice)
        return made

    up = direction(Side.CLIENT, context.client, target)
    down = direction(Side.SERVER, target, context.client)
    up.back, down.back = down, up
    context.shaping.passes_through(b"".join(data for _t, data in hello.chunks), target)
    for _t, data in hello.chunks:
        target.write(data)  # seen already
    context.client.pour_into(up)
    target.pour_into(down)

    def over() -> None:
        for splice in splices:
            splice.close()
        splices.clear()
        up.back = down.back = None  # they held each other, and all of the session

    relay.at_end = over
    return relay

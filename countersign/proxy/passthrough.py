"""Connections that are only watched: TLS that passes through as it is, and what is no TLS at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from countersign.proxy.relay import RawDirection, Relay
from countersign.recorder.recording import Ending, LegRole
from countersign.recorder.wire.events import Problem, Side
from countersign.recorder.wire.redaction import first_bytes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from countersign.proxy.context import Context
    from countersign.proxy.sniff import Hello
    from countersign.proxy.stream import Stream

_NOT_TLS_KEPT = 64
_KEYS = {Side.CLIENT: "from_client", Side.SERVER: "from_target"}


class _Watcher(Protocol):
    """Sees what both sides send before it is passed on."""

    def saw(self, side: Side, data: bytes | memoryview, t: float) -> None:
        """The next bytes of this side."""

    def ended(self, side: Side, how: Ending) -> None:
        """It sends no more."""


async def pass_through(context: Context, hello: Hello, *, dial: Callable[[], Awaitable[Stream]]) -> None:
    """Relay TLS unchanged, and record what shows from outside."""
    watcher = _TlsWatcher(context, hello)
    for t, data in hello.unread:
        watcher.saw(Side.CLIENT, data, t)
    await _relay(context, await dial(), hello, watcher)


async def relay_not_tls(context: Context, hello: Hello, *, dial: Callable[[], Awaitable[Stream]]) -> None:
    """Relay what is no TLS unchanged, and keep its first bytes."""
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
    await _relay(context, await dial(), hello, watcher)


class _TlsWatcher:
    def __init__(self, context: Context, hello: Hello) -> None:
        self._context = context
        self._decoder = hello.decoder
        context.recording.add(LegRole.THROUGH, hello.events)

    def saw(self, side: Side, data: bytes | memoryview, t: float) -> None:
        self._context.recording.add(LegRole.THROUGH, self._decoder.receive(side, data, t))

    def ended(self, side: Side, how: Ending) -> None:
        now = self._context.clock()
        self._context.recording.add(LegRole.THROUGH, self._decoder.end(side, now))
        self._context.recording.end(LegRole.THROUGH, side, how, now)


class _FirstBytes:
    def __init__(self, context: Context) -> None:
        self._recording = context.recording
        self._first = dict.fromkeys(Side, b"")
        self._keep()

    def saw(self, side: Side, data: bytes | memoryview, t: float) -> None:  # noqa: ARG002 - as every watcher
        room = _NOT_TLS_KEPT - len(self._first[side])
        if room > 0:
            self._first[side] += bytes(data[:room])
            self._keep()

    def _keep(self) -> None:
        self._recording.prelude["not_tls"] = {_KEYS[side]: first_bytes(data) for side, data in self._first.items()}
        self._recording.changed = True

    def ended(self, side: Side, how: Ending) -> None:
        """There is no leg that could end."""


async def _relay(context: Context, target: Stream, hello: Hello, watcher: _Watcher) -> None:
    relay = Relay(idle=context.settings.limits.idle)

    def direction(side: Side, source: Stream, destination: Stream) -> RawDirection:
        return RawDirection(
            relay,
            source,
            destination,
            watch=lambda data: watcher.saw(side, data, context.clock()),
            ended=lambda how: watcher.ended(side, how),
        )

    up = direction(Side.CLIENT, context.client, target)
    down = direction(Side.SERVER, target, context.client)
    up.back, down.back = down, up
    for _t, data in hello.chunks:
        target.write(data)  # seen already
    context.client.pour_into(up)
    target.pour_into(down)
    await context.until_finished(relay)

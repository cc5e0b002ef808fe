"""One TLS conversation of ours: an OpenSSL connection, the stream under it, and the tap that records both.

Every byte passes :meth:`TlsLeg.feed` or :meth:`TlsLeg.flush`, so that the tap sees the wire in both directions before
(or right after) OpenSSL does; what OpenSSL says of the encrypted part is settled after each step.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from countersign.recorder.recording import Ending, LegRole
from countersign.recorder.wire import codes, records
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.names import is_tls13
from countersign.recorder.wire.tap import LegTap

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.proxy._openssl import Buffers, TlsConnection
    from countersign.proxy.stream import Stream
    from countersign.recorder.live import LiveRecording


_FIRST = 64


class HandshakeEnded(Exception):  # noqa: N818 - a fact about the wire
    """The peer's bytes ended, or its time did, in the middle of the handshake."""

    def __init__(self, how: Ending) -> None:
        super().__init__(how.value)
        self.how = how


class TlsLeg:
    """A leg in which the proxy is one of the two sides."""

    def __init__(
        self,
        role: LegRole,
        stream: Stream,
        connection: TlsConnection,
        recording: LiveRecording,
        *,
        buffers: Buffers,
        clock: Callable[[], float],
        tap: LegTap | None = None,
    ) -> None:
        self.role = role
        self.stream = stream
        self.connection = connection
        self.peer = Side.CLIENT if role is LegRole.CLIENT else Side.SERVER
        self.live = recording.leg(role)
        self._us = self.peer.peer
        self._recording = recording
        self._buffers = buffers
        self._clock = clock
        self._tap = tap or LegTap()
        self._heard = False
        self.first = b""  # the peer's first bytes, for when they are not TLS
        self.peer_alert: int | None = None
        """The fatal alert of the peer that OpenSSL has read."""
        self.stands = False
        """The handshake is done, and neither a fatal alert nor a close_notify of the peer has come since."""
        self.only_answered = False
        """What the peer said last was for OpenSSL alone, and OpenSSL has answered it."""
        connection.tap(self._hear)

    def _hear(self, written: bool, content_type: int, version: int, data: bytes) -> None:  # noqa: FBT001 - OpenSSL's flag
        self._tap.inside(self._us if written else self.peer, content_type, version, data)
        if not written and content_type == records.ALERT and len(data) == 2 and self._is_fatal(*data):
            self.peer_alert = data[1]
        self._heard = True

    def _is_fatal(self, level: int, description: int) -> bool:
        """The level means nothing in TLS 1.3 (RFC 8446 6)."""
        return description not in codes.NEVER_FATAL and (level == codes.FATAL or is_tls13(self._tap.version))

    def feed(self, data: bytes | memoryview, *, seen: bool = False) -> None:
        """Bytes from the peer; ``seen`` when the tap has had them already."""
        if len(self.first) < _FIRST:
            self.first += bytes(data[: _FIRST - len(self.first)])
        if not seen and not self._tap.wire_done:
            self._recording.add(self.role, self._tap.wire(self.peer, data, self._clock()))
        self.connection.feed(data)

    def flush(self) -> int:
        """Send what OpenSSL wants sent, and settle what it said meanwhile; how many bytes that were."""
        out = self.connection.drain(self._buffers)
        if out:
            if not self._tap.wire_done:
                self._recording.add(self.role, self._tap.wire(self._us, out, self._clock()))
            self.stream.write(out)
        if self._heard:
            self._heard = False
            self._recording.add(self.role, self._tap.settle(self._clock()))
        return len(out)

    async def handshake(self, limit: float) -> None:
        """Go on until it is done. What was to be sent has been sent, also when this raises
        :class:`~countersign.proxy._openssl.TlsTrouble` or :class:`HandshakeEnded`.
        """
        try:
            async with asyncio.timeout(limit):
                while True:
                    try:
                        done = self.connection.handshake()
                    finally:
                        self.flush()
                    if done:
                        self.stands = True
                        return
                    data = await self.stream.read()
                    if not data:
                        assert self.stream.ending is not None
                        raise HandshakeEnded(self.stream.ending)
                    self.feed(data)
        except TimeoutError:
            raise HandshakeEnded(Ending.SILENT) from None

    def count(self, length: int) -> None:
        """Application data came from the peer."""
        if self.peer not in self.live.data:
            self._recording.changed = True  # its first is news; the rest is only more
        self.live.count(self.peer, length, self._clock())

    def count_sent(self, length: int) -> None:
        """Application data went to the peer."""
        self.live.count(self._us, length, self._clock())

    def ended(self, how: Ending) -> None:
        """The peer's bytes ended, perhaps in the middle of a message."""
        t = self._clock()
        if not self._tap.wire_done:  # else the tap was fed up to anywhere
            self._recording.add(self.role, self._tap.end(self.peer, t))
        self._recording.end(self.role, self.peer, how, t)

    def close(self) -> None:
        """Forget the OpenSSL connection; the stream stays as it is."""
        self.connection.close()

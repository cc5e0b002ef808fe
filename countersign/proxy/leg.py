"""One TLS conversation of ours: an OpenSSL connection, the stream under it, and the tap that records both.

Every byte passes :meth:`TlsLeg.feed` or :meth:`TlsLeg.flush`, so that the tap sees the wire in both directions before
(or right after) OpenSSL does; what OpenSSL says of the encrypted part is settled after each step.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from countersign.proxy.faults.armed import Armed, entry
from countersign.proxy.sealer import LateAlert
from countersign.recorder.recording import Ending, Failure, FailureCode, LegRole, Party
from countersign.recorder.wire import codes, records
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.names import TLS13, is_tls13
from countersign.recorder.wire.protection import TLS13_SUITES
from countersign.recorder.wire.tap import LegTap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from countersign.proxy._openssl import Buffers, TlsConnection
    from countersign.proxy.faults.armed import Served
    from countersign.proxy.faults.effects import Applied, Effect
    from countersign.proxy.faults.model import WireFault
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

    __slots__ = (
        "_armed", "_buffers", "_clock", "_early", "_heard", "_late", "_recording", "_tap", "_us", "connection", "first",
        "last_read", "live", "only_answered", "patience", "peer", "peer_alert", "role", "stands", "stream", "waits",
    )  # fmt: skip

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
        self.last_read = b""  # of the handshake; what is behind its end has yet to be read
        self.waits = False
        """The peer is not to be read: OpenSSL waits for what we have to say."""
        self.patience = 0
        """How much may wait to be sent to the peer before who sends it is not read any more."""
        self._armed: Armed | None = None
        self._late: LateAlert | None = None
        self._early = b""  # came behind the hello, before there was a leg
        connection.tap(self._hear)
        stream.on_hung_up = self._hung_up

    def arm(self, faults: Sequence[WireFault], served: Served | None = None) -> None:
        """Put these faults in the way of what passes, before anything has. From now on the wire alone is recorded."""
        connection = self.connection
        keep, master = connection.on_secret, connection.master_secret
        armed = Armed(self.role, faults, keep=keep, master=master, served=served, cannot=self._cannot_serve)
        self._armed = armed
        self._tap = armed.witness
        self._late = None  # the way out can say what it likes
        connection.log_secrets(armed.secret)
        stream = self.stream
        stream.on_sent, stream.on_applied = self._sent, self._applied
        self._early = stream.set_aside()
        stream.receive_through(self._received)
        stream.perform(armed.out.begin())
        stream.take_in(armed.into.begin())

    @property
    def armed(self) -> bool:
        """Whether faults stand in the way of what passes."""
        return self._armed is not None

    def _hung_up(self, how: Ending) -> None:
        """Our side was ended by an order, and not the peer's, which takes ours with it."""
        if self.stream.ending is None:
            self._recording.end(self.role, self._us, how, self._clock())

    def _cannot_serve(self) -> None:
        text = "cannot serve this chain: OpenSSL takes no such certificate, and a handshake of this kind cannot be made"
        text += " without it (below TLS 1.2, or without AEAD)"
        failure = Failure(self._clock(), self.role, Party.PROXY, code=FailureCode.CANNOT_MIMIC, text=text)
        self._recording.fail(failure)

    def _applied(self, applied: Applied, ours: bool) -> None:  # noqa: FBT001 - the stream's signature
        sender = self._us if ours else self.peer
        self._recording.fault(self.role, entry(applied, self.live, sender, self._clock()))

    def _received(self, data: bytes) -> Iterable[Effect]:
        """What becomes of bytes from the peer on a leg with faults; the tap sees them as they came."""
        assert self._armed is not None
        self._recording.add(self.role, self._tap.wire(self.peer, data, self._clock()))
        return self._armed.into.feed(data)

    def _hear(self, written: bool, content_type: int, version: int, data: bytes) -> None:  # noqa: FBT001 - OpenSSL's flag
        self._tap.inside(self._us if written else self.peer, content_type, version, data)
        if not written and content_type == records.ALERT and len(data) == 2 and self._is_fatal(*data):
            self.peer_alert = data[1]
        elif written and content_type == records.HANDSHAKE and data[0] == codes.KEY_UPDATE:
            self._late = None  # OpenSSL goes on with other keys
        self._heard = True

    def _is_fatal(self, level: int, description: int) -> bool:
        """The level means nothing in TLS 1.3 (RFC 8446 6)."""
        return description not in codes.NEVER_FATAL and (level == codes.FATAL or is_tls13(self._tap.version))

    def feed(self, data: bytes | memoryview, *, seen: bool = False, lent: bool = False) -> None:
        """Bytes from the peer; ``seen`` when the tap has had them already, ``lent`` when they need not be copied before
        :meth:`TlsConnection.take_back`.
        """
        if not self.stands and len(self.first) < _FIRST:
            self.first += bytes(data[: _FIRST - len(self.first)])
        if self._armed is not None and seen:
            self._tap.wire(self.peer, data, self._clock())  # a tap of its own, which has to know it too
            self.stream.take_in(self._armed.into.feed(data))  # comes back when it has been through the faults
            return
        if self._armed is None and not seen and not self._tap.wire_done:
            self._recording.add(self.role, self._tap.wire(self.peer, data, self._clock()))
        if lent:
            self.connection.lend(data)
        else:
            self.connection.feed(data)

    def flush(self) -> int:
        """Send what OpenSSL wants sent, and settle what it said meanwhile; how many bytes that were."""
        out = self.connection.drain(self._buffers)
        if self._armed is not None:
            self.stream.perform(self._armed.out.feed(out))
            self.stream.perform(self._armed.out.rest())
        elif out:
            self._sent(out)
            self.stream.write(out)
        if self._heard:
            self._heard = False
            self._recording.add(self.role, self._tap.settle(self._clock()))
        if self._armed is not None:
            self.stream.take_in(self._armed.into.again())  # what had come before there were keys to see what is in it
        return len(out)

    def _sent(self, out: bytes | memoryview) -> None:
        if not self._tap.wire_done:
            self._recording.add(self.role, self._tap.wire(self._us, out, self._clock()))
        if self._late is not None and not self._late.sent(out):
            self._late = None

    def may_alert(self) -> None:
        """Be able to send an alert of our choice when the handshake is done (:meth:`alert`)."""
        late, keep = LateAlert(), self.connection.on_secret

        def secret(line: bytes) -> None:
            late.hear(line)
            keep(line)

        self._late = late
        self.connection.log_secrets(secret)

    def alert(self, description: int) -> None:
        """Tell the peer by this fatal alert, behind all that OpenSSL has sent (RFC 8446 6.2).

        Nothing is told where the handshake was not of TLS 1.3, or so much was sent meanwhile that nobody counts it.
        """
        if self._armed is not None:
            self.stream.perform(self._armed.out.say(codes.FATAL, description))
        elif self._late is not None and self.stands:
            record = self._late.seal(self.connection.chosen_cipher(tuple(TLS13_SUITES)), description)
            if record is not None:
                self._tap.inside(self._us, records.ALERT, TLS13, bytes((codes.FATAL, description)))
                self._sent(record)
                self.stream.write(record)
                self._recording.add(self.role, self._tap.settle(self._clock()))

    async def handshake(self, limit: float) -> None:
        """Go on until it is done. What was to be sent has been sent, also when this raises
        :class:`~countersign.proxy._openssl.TlsTrouble` or :class:`HandshakeEnded`.
        """
        if self._armed is not None and self._early:
            early, self._early = self._early, b""
            self.stream.take_in(self._received(early))
        until = asyncio.get_running_loop().time() + limit
        while True:
            try:
                done = self.connection.handshake()
            finally:
                self.flush()
            if done:
                self.stands = True
                return
            try:
                data = await self.stream.read(until=until)
            except TimeoutError:
                raise HandshakeEnded(Ending.SILENT) from None
            if not data:
                assert self.stream.ending is not None
                raise HandshakeEnded(self.stream.ending)
            self.last_read = data
            self.feed(data)

    def count(self, length: int, records: int = 1) -> None:
        """Application data came from the peer."""
        if self._armed is not None:
            return  # its tap counts what it sees on the wire
        if not self.live.has_data_of(self.peer):
            self._recording.changed = True  # its first is news; the rest is only more
        self.live.count(self.peer, length, self._clock(), records)

    def count_sent(self, length: int, records: int = 1) -> None:
        """Application data went to the peer."""
        if self._armed is None:
            self.live.count(self._us, length, self._clock(), records)

    def ended(self, how: Ending) -> None:
        """The peer's bytes ended, perhaps in the middle of a message."""
        t = self._clock()
        if not self._tap.wire_done:  # else the tap was fed up to anywhere
            self._recording.add(self.role, self._tap.end(self.peer, t))
        self._recording.end(self.role, self.peer, how, t)

    def rest(self) -> None:
        """Give back what only a handshake or bulk data needs."""
        self.connection.shed()
        self.first = b""
        if self._tap.wire_done:
            self._tap.let_go()

    def close(self) -> None:
        """Forget the OpenSSL connection; the stream stays as it is."""
        if self._armed is not None:  # what a fault has cut off in its middle
            self._recording.add(self.role, self._tap.end(self._us, self._clock()))
        self.connection.close()

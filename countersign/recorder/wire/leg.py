"""One TLS conversation, both directions: bytes in, events out. It never raises on what came over the wire.

What a record is, its outer type does not say alone. Per direction there are these states:

*In clear.* Handshake messages, alerts and change-cipher-spec are read as they come.

*Protected, TLS 1.0 to 1.2.* From this side's change-cipher-spec on. The outer type stays true (RFC 5246 6.2.3), so
without keys application data is told as such, an encrypted alert or change-cipher-spec is a message whose content is
not known, and a handshake record is an :class:`EncryptedRecord`. A renegotiation runs inside; its encrypted
change-cipher-spec takes the next keys. Where bytes are missing, the change-cipher-spec may be among them: behind a hole
application data, an alert that is none in clear, and a handshake record that cannot be read as messages of that side
are taken for protected.

*Protected, TLS 1.3.* Every protected record says 23 outside (RFC 8446 5.2), and a record that says anything else is in
clear: the change-cipher-spec of the compatibility mode (RFC 8446 D.4), the second ClientHello, an alert of a side that
has no keys yet. What is inside only the keys tell. Without them this is the rule:

- A client needs the server's Finished before it sends anything under handshake keys. So the server's handshake is
  over with the client's first protected record after ServerHello, and the client's is over when the server sends
  something after that. (A server that speaks before it has the client's Finished, "0.5-RTT", and a client whose
  flight arrives in pieces around it, is counted over too early; both then sum up as application data.)
- Where the client offered early data, its first records may be that: two more turns are waited for.
- A side that has sent more than 512 protected records or 1 MiB of them is past any handshake.
- Until then a record is an :class:`EncryptedRecord`, from then on :class:`ApplicationData`, which here means
  "application data, or a ticket or key update that cannot be told from it".
- A record of the size of an alert is an :class:`EncryptedRecord` that is marked even then, the first sixteen of a
  side: 2 bytes of alert, 1 of type and the tag, 19 together (11 with CCM_8); and 16 more with a JSSE peer, which pads
  whatever is not application data with 16 zeros: its alert has 35 bytes of payload.

With a key log, records are opened. A key may come later than its record: a TLS client writes its log line after it
has sent the flight. Such records are held in the order of their arrival, at most 1 MiB a direction; then that
direction is given out as if there were no keys, and stays so. A direction of which 64 records in a row do not open
is given up alike: the key log is not this conversation's, or records are missing. A key log that has the application
secret alone opens what comes behind the handshake, and the handshake stays closed.

Early data is the one place where a record that does not open is no problem. Its key is another one (RFC 8446 4.2.10), a
server may have declined it, and the client that does not know yet goes on sending. So while early data may be in
flight each record is tried with the early key, then with the first handshake key.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from countersign.recorder.wire import codes, decryption, names, records, secrets
from countersign.recorder.wire.events import (
    ApplicationData,
    Content,
    EncryptedRecord,
    Event,
    Message,
    Problem,
    Side,
)
from countersign.recorder.wire.extensions import EarlyData, EncryptThenMac, SelectedVersion, SupportedVersions
from countersign.recorder.wire.handshakes import HEADER_SIZE, KEEP, Handshake, HandshakeAssembler
from countersign.recorder.wire.messages import (
    ClientHello,
    HelloRetryRequest,
    ServerHello,
    Sslv2ClientHello,
    glance,
)
from countersign.recorder.wire.protection import sealed_lengths
from countersign.recorder.wire.records import Flaw, Record, RecordFramer, Skipped
from countersign.recorder.wire.skimming import (
    SkimmedClientHello,
    SkimmedServerHello,
    skim_client_hello,
    skim_server_hello,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from countersign.recorder.wire.secrets import KeyLog

HELD_AT_MOST = 1 << 20
STRAY_DATA = "application data before any key is in use"
"""What came, of a problem."""
PROBLEMS_AT_MOST = 100
_HELD_OVERHEAD = 64
_OVER_AFTER_RECORDS = 512
_OVER_AFTER_BYTES = 1 << 20
_MISSES_AT_MOST = 64
_ALERTS_IN_A_RECORD = 16
_ALERT_SIZED_AT_MOST = 16
_LEAST_SEALED = 5 + 17  # a record of nothing but a type and its tag
_TRIED_BEHIND_A_GAP = 4096
_UP_TO_RANDOM = 38  # header, version, random
_LONGEST_IN_CLEAR = 3  # the first byte of a length: no message of a handshake in clear reaches 256 KiB
_IN_CLEAR = {
    Side.CLIENT: frozenset({1, 11, 15, 16, 21, 23}),
    Side.SERVER: frozenset({0, 2, 4, 11, 12, 13, 14, 22, 23}),
}
"""Handshake messages that a side may send in clear (RFC 5246 7.4)."""


class _Epoch(Enum):
    """Which secret of TLS 1.3 protects a direction."""

    EARLY = "early"
    HANDSHAKE = "handshake"
    APPLICATION = "application"


_LABELS = {
    (Side.CLIENT, _Epoch.HANDSHAKE): secrets.CLIENT_HANDSHAKE_TRAFFIC_SECRET,
    (Side.SERVER, _Epoch.HANDSHAKE): secrets.SERVER_HANDSHAKE_TRAFFIC_SECRET,
    (Side.CLIENT, _Epoch.APPLICATION): secrets.CLIENT_TRAFFIC_SECRET_0,
    (Side.SERVER, _Epoch.APPLICATION): secrets.SERVER_TRAFFIC_SECRET_0,
}


@dataclass(frozen=True, slots=True, eq=False)
class _Agreement:
    """What one ClientHello and its ServerHello agreed on."""

    client_random: bytes
    hello: SkimmedServerHello


class _Held(NamedTuple):
    """A record that waits for its key. ``over``: whether its side's handshake was over when it came."""

    serial: int
    t: float
    over: bool
    record: Record


class _Direction:
    """What is known of one side's stream."""

    __slots__ = (
        "agreement",
        "alert_sized",
        "assembler",
        "assembling_under",
        "blind",
        "ccs",
        "clear_beyond_hello",
        "early_opener",
        "epoch",
        "finished",
        "framer",
        "half_alert",
        "half_alert_encrypted",
        "held",
        "held_bytes",
        "key_number",
        "misses",
        "opener",
        "problems",
        "sealed_bytes",
        "sealed_records",
        "side",
        "stray_records",
        "unseen",
    )

    def __init__(self, side: Side, keep: int) -> None:
        self.side = side
        self.framer = RecordFramer(sslv2_may_come=side is Side.CLIENT)
        self.assembler = HandshakeAssembler(keep)
        self.assembling_under = 0  # what the unfinished message began under: 0 in clear, 1 + key_number encrypted
        self.key_number = 0  # how often the keys of this direction have changed
        self.half_alert = b""
        self.half_alert_encrypted = False
        self.ccs = False  # a change-cipher-spec came in clear
        self.clear_beyond_hello = False  # sent handshake messages in clear that TLS 1.3 does not have there
        self.sealed_records = 0
        self.sealed_bytes = 0
        self.alert_sized = 0
        self.finished = False  # its TLS 1.3 Finished was seen
        self.epoch = _Epoch.HANDSHAKE
        self.agreement: _Agreement | None = None  # whose keys are in use below TLS 1.3
        self.opener: decryption.Opener | None = None
        self.early_opener: decryption.Tls13Opener | None = None
        self.held: deque[_Held] = deque()
        self.held_bytes = 0
        self.blind = False  # its records will not be opened any more
        self.misses = 0  # records in a row that did not open
        self.stray_records = 0  # application-data records without any key
        self.unseen = 0  # how many records a gap may have swallowed since the last one that opened
        self.problems = 0


class _Sink:
    """Where the events of one side at one time go; ``over`` is what was known at that time, if it has passed."""

    __slots__ = ("_direction", "events", "over", "t")

    def __init__(self, direction: _Direction, t: float, events: list[Event], *, over: bool | None = None) -> None:
        self._direction = direction
        self.t = t
        self.events = events
        self.over = over

    def message(
        self, content: Content, code: int, raw: bytes, *, encrypted: bool, length: int | None = None, digest: str = ""
    ) -> None:
        length = len(raw) if length is None else length
        self.events.append(Message(self.t, self._direction.side, content, code, encrypted, length, raw, digest))

    def handshake(self, message: Handshake, *, encrypted: bool) -> None:
        self.message(
            Content.HANDSHAKE,
            message.code,
            message.raw,
            encrypted=encrypted,
            length=message.length,
            digest=message.digest,
        )

    def encrypted_record(self, content_type: int, length: int, *, alert_size: bool = False) -> None:
        self.events.append(EncryptedRecord(self.t, self._direction.side, content_type, length, alert_size))

    def application_data(self, count: int, length: int) -> None:
        """Sum up what comes together."""
        side = self._direction.side
        last = self.events[-1] if self.events else None
        if isinstance(last, ApplicationData) and last.sender is side and last.t == self.t:
            self.events[-1] = ApplicationData(self.t, side, last.records + count, last.length + length)
        else:
            self.events.append(ApplicationData(self.t, side, count, length))

    def problem(self, field: str, offset: int, expected: str, got: str) -> None:
        """Tell a problem, the first hundred of a side; then that there are more; then only count."""
        direction = self._direction
        direction.problems += 1
        if direction.problems > PROBLEMS_AT_MOST + 1:
            return
        if direction.problems > PROBLEMS_AT_MOST:
            field, expected = "problems", f"at most {PROBLEMS_AT_MOST} problems of one side"
            got = "more, which are only counted"
        self.events.append(Problem(self.t, direction.side, field, offset, expected, got))

    def flaw(self, flaw: Flaw) -> None:
        self.problem(flaw.field, flaw.offset, flaw.expected, flaw.got)


class LegDecoder:
    """Decode both directions of one TLS conversation, in the order in which they were seen.

    ``keylog`` may still grow while bytes come. ``keep`` bounds what is kept of one handshake message.
    """

    def __init__(self, *, keylog: KeyLog | None = None, keep: int = KEEP) -> None:
        self.clear_alone = False
        """What is under a key in TLS 1.3 is known from elsewhere: here it is only stepped over."""
        self._keylog = keylog
        self._keep = keep
        self._client = _Direction(Side.CLIENT, keep)
        self._server = _Direction(Side.SERVER, keep)
        self._head = b""  # the client's first bytes, until they show whether this is TLS
        self._offer: SkimmedClientHello | None = None
        self._agreement: _Agreement | None = None
        self._turns = 0  # protected records after ServerHello: how often the sender changed
        self._serial = 0
        self._hellos = 0
        self._holed = False  # bytes of either side are missing
        self.is_tls: bool | None = None
        """False once the client's first bytes cannot be TLS, True once they are; None while undecided."""
        self._is13 = False
        self.version: int | None = None
        """The version agreed on, known from the server's hello (or hello retry request)."""
        self.cipher_suite: int | None = None
        self.client_random: bytes | None = None
        """That of the first ClientHello: the name of this conversation in a key log."""
        self.handshake_counts = {Side.CLIENT: 0, Side.SERVER: 0}
        """Whole handshake messages that came in clear; a hello in SSLv2 form is not counted."""
        self.alert_counts = {Side.CLIENT: 0, Side.SERVER: 0}
        """Alerts that came in clear."""
        self.change_cipher_spec_counts = {Side.CLIENT: 0, Side.SERVER: 0}
        """Change-cipher-specs that came in clear."""

    @property
    def problem_counts(self) -> Mapping[Side, int]:
        """How many problems each side had; only the first hundred of a side were told."""
        return {Side.CLIENT: self._client.problems, Side.SERVER: self._server.problems}

    def sealed_seen(self, side: Side) -> bool:
        """Whether this side has protected its records already: nothing in clear can follow but by mistake."""
        direction = self._direction(side)
        if self._is13:
            return direction.sealed_records > 0 and self._agreement is not None
        return self._ccs_counts(direction)

    def receive(self, sender: Side, data: bytes | memoryview, t: float) -> list[Event]:
        """Take the next bytes of one side. A view is read before this returns and never kept."""
        if self.is_tls is False:
            return self._not_tls(sender, data, t)
        out: list[Event] = []
        direction = self._direction(sender)
        sink = _Sink(direction, t, out)
        if sender is Side.CLIENT and self.is_tls is None:
            self._head += bytes(data)
            self.is_tls = records.looks_like_tls(self._head[:5])
            if self.is_tls is None:
                return out
            if self.is_tls is False:
                return self._not_tls(sender, b"", t)
            data, self._head = self._head, b""
        self._drain(out)
        framer = direction.framer
        framer.feed(data)
        while (frame := framer.next()) is not None:
            if isinstance(frame, Skipped):
                sink.application_data(frame.records, frame.length)
            elif isinstance(frame, Record):
                hellos = self._hellos
                self._record(direction, frame, sink)
                if self._hellos != hellos:
                    self._drain(out)  # records that came before the hello which says how to open them
            else:
                sink.flaw(frame)
        return out

    def unlock(self, t: float) -> list[Event]:  # noqa: ARG002 - events keep the time of their records
        """The key log has new lines: open what was held for them."""
        out: list[Event] = []
        self._drain(out)
        return out

    def lacks_bytes(self) -> None:
        """Take notice that bytes of a side are missing from before the first that is given."""
        self._holed = True

    def gap(self, sender: Side, missing: int, t: float) -> list[Event]:
        """Take notice that so many bytes of this side were not seen; what it sends next lies behind them.

        The message with the hole ends there, and reading goes on at the next record. Under a key, the records behind
        the gap are tried with the sequence numbers that the missing ones may have had.
        """
        if self.is_tls is False:
            return []
        out: list[Event] = []
        self._holed = True
        direction = self._direction(sender)
        sink = _Sink(direction, t, out)
        framer = direction.framer
        sink.problem("stream.gap", framer.offset, "the next bytes of the stream", f"{missing} bytes that are missing")
        if sender is Side.CLIENT and self._head:
            framer.feed(self._head)
            self._head, self.is_tls = b"", True
            framer.next()
        holed = False
        for frame in framer.gap(missing):
            if isinstance(frame, Skipped):
                sink.application_data(frame.records, frame.length)
            elif isinstance(frame, Record):
                holed = True
                if not self._is_protected(direction, frame):
                    self._unfinished_record(direction, frame, sink)
                elif frame.content_type == records.APPLICATION_DATA:
                    self._sealed(direction, frame, sink)
        self._flush(direction, sink)
        direction.unseen += missing // _LEAST_SEALED + 1 + holed
        return out

    def end(self, sender: Side, t: float) -> list[Event]:
        """Take notice that this side sends no more: tell what is unfinished, give out what was held."""
        if self.is_tls is False:
            return self._not_tls(sender, b"", t, over=True)
        out: list[Event] = []
        direction = self._direction(sender)
        sink = _Sink(direction, t, out)
        if sender is Side.CLIENT and self._head:
            sink.problem("record", 0, "5 bytes of record header", f"{len(self._head)} bytes")
            self._head = b""
        self._drain(out)
        for frame in direction.framer.rest():
            if isinstance(frame, Flaw):
                sink.flaw(frame)
            elif isinstance(frame, Record):
                self._unfinished_record(direction, frame, sink)
        self._flush(direction, sink)
        self._give_out(direction, out)
        return out

    def _not_tls(self, sender: Side, data: bytes | memoryview, t: float, *, over: bool = False) -> list[Event]:
        """Say once what came instead of a ClientHello: its first five bytes, however they were sliced."""
        if sender is Side.SERVER or not self._head:
            return []
        self._head = (self._head + bytes(data[:5]))[:5]
        if len(self._head) < 5 and not over:
            return []
        head, self._head = self._head, b""
        out: list[Event] = []
        _Sink(self._client, t, out).problem("record", 0, "a ClientHello", records.shown(head))
        return out

    # records

    def _direction(self, side: Side) -> _Direction:
        return self._client if side is Side.CLIENT else self._server

    def _record(self, direction: _Direction, record: Record, sink: _Sink) -> None:
        if record.content_type == records.SSLV2_HELLO:
            self._sslv2_hello(record, sink)
            return
        if self._is_protected(direction, record):
            self._protected(direction, record, sink)
            keyless = self._keylog is None or direction.blind
            if keyless:
                self._may_skip(direction)
        else:
            self._in_clear(direction, record, sink)

    def _is_protected(self, direction: _Direction, record: Record) -> bool:
        """Whether a record is under a key; see the rules above."""
        if self._is13:
            return record.content_type == records.APPLICATION_DATA
        if self._ccs_counts(direction):
            return True
        if self._holed and _seems_protected(direction, record):
            if record.content_type != records.HANDSHAKE:  # which may be the rest of a message that began in the hole
                direction.ccs, direction.agreement, direction.opener = True, self._agreement, None
            return True
        early_data = self.version is None and self._offer is not None and self._offer.early_data
        return early_data and record.content_type == records.APPLICATION_DATA and direction.side is Side.CLIENT

    def _ccs_counts(self, direction: _Direction) -> bool:
        """Whether this side's change-cipher-spec has put its keys on: it does not in TLS 1.3."""
        if not direction.ccs or self._is13:
            return False
        if self.version is None and self._offer is not None and self._offer.tls13:
            # No ServerHello yet. In TLS 1.3 a client may send one of these ahead of its second hello or its early
            # data; in TLS 1.2 its key exchange has gone before, and our view of the other direction is late.
            return direction.clear_beyond_hello
        return True

    def _protected(self, direction: _Direction, record: Record, sink: _Sink) -> None:
        if direction.assembler.pending and direction.assembling_under == 0:
            self._key_change_within(direction, record.offset, sink)
        direction.sealed_records += 1
        direction.sealed_bytes += record.length
        if self._is13:
            if record.length > records.MAX_TLS13:
                _too_long(record, records.MAX_TLS13, sink)
            if self._agreement is not None and (direction.side is Side.SERVER) == (self._turns % 2 == 0):
                self._turns += 1
        if self._keylog is None or direction.blind:
            self._sealed(direction, record, sink)
        elif direction.held or not self._open(direction, record, sink):
            self._hold(direction, record, sink)

    def _in_clear(self, direction: _Direction, record: Record, sink: _Sink) -> None:
        if record.length > records.MAX_PLAINTEXT:
            _too_long(record, records.MAX_PLAINTEXT, sink)
        if self.clear_alone:  # for a message that begins here may have its end under the key
            direction.framer.skip = False
        if record.content_type == records.APPLICATION_DATA:
            # Whatever this is, it is not application data of this conversation.
            sink.problem("record.type", record.offset, "a handshake record", STRAY_DATA)
            direction.stray_records += 1
            if direction.stray_records <= _OVER_AFTER_RECORDS:
                sink.encrypted_record(record.content_type, record.length)
            elif self._offer is None:
                # So much without any hello is no injected plaintext but a capture that began in the middle.
                sink.application_data(1, record.length)
                direction.framer.skip = True
            return
        if self._is13 and self.sealed_seen(direction.side) and record.content_type != records.CHANGE_CIPHER_SPEC:
            got = f"{names.content_type_name(record.content_type)} in clear"
            sink.problem("record.type", record.offset, "a protected record", got)
        self._content(direction, record.content_type, record.payload, record.offset, sink, encrypted=False)

    def _content(
        self,
        direction: _Direction,
        content_type: int,
        payload: bytes,
        offset: int,
        sink: _Sink,
        *,
        encrypted: bool,
    ) -> None:
        """What is in a record, in clear or opened."""
        if content_type == records.HANDSHAKE:
            self._handshake(direction, payload, offset, sink, encrypted=encrypted)
            return
        if direction.assembler.pending:
            # RFC 8446 5.1: handshake messages MUST NOT be interleaved with other record types.
            got = f"{names.content_type_name(content_type)} within a handshake message"
            sink.problem("record.type", offset, "the rest of a handshake message", got)
        if content_type == records.APPLICATION_DATA:
            sink.application_data(1, len(payload))
        elif content_type == records.ALERT:
            self._alerts(direction, payload, offset, sink, encrypted=encrypted)
        elif content_type == records.CHANGE_CIPHER_SPEC:
            self._change_cipher_spec(direction, payload, offset, sink, encrypted=encrypted)
        elif content_type == records.HEARTBEAT:
            code = payload[0] if payload else -1
            raw = payload[: self._keep]
            sink.message(Content.HEARTBEAT, code, raw, encrypted=encrypted, length=len(payload))
        else:
            sink.problem("record.type", offset, "a type within 20 to 24", str(content_type))
            sink.encrypted_record(records.APPLICATION_DATA, len(payload))

    def _handshake(self, direction: _Direction, payload: bytes, offset: int, sink: _Sink, *, encrypted: bool) -> None:
        if not payload:
            # RFC 8446 5.1, RFC 5246 6.2.1: no zero-length fragments of handshake messages.
            sink.problem("record.content", offset, "at least 1 byte", "an empty handshake record")
            return
        assembler = direction.assembler
        under = 1 + direction.key_number if encrypted else 0
        if assembler.pending and direction.assembling_under != under:
            self._key_change_within(direction, offset, sink)
        assembler.feed(payload)
        while (message := assembler.next()) is not None:
            sink.handshake(message, encrypted=encrypted)
            if not encrypted:
                self.handshake_counts[direction.side] += 1
            if self._react(direction, message, encrypted=encrypted) and assembler.unread:
                # RFC 8446 5.1: a message that changes keys ends its record.
                got = f"{assembler.unread} bytes behind {names.handshake_type_name(message.code)}"
                sink.problem("record.fragment", offset, "a key change at its end", got)
        direction.assembling_under = under

    def _alerts(self, direction: _Direction, payload: bytes, offset: int, sink: _Sink, *, encrypted: bool) -> None:
        """RFC 8446 6: one alert of two bytes. Below 1.3 several in one record, and one in two, were allowed."""
        whole = len(payload) == 2 and not direction.half_alert
        if not whole and not encrypted and self._holed and len(payload) > 2:  # a gap may have swallowed what keyed it
            sink.message(Content.ALERT, -1, b"", encrypted=True, length=len(payload))
            return
        if not whole:
            sink.problem("record.content", offset, "2 bytes, one alert", str(len(payload)))
            payload = direction.half_alert + payload
            direction.half_alert = b""
        for at in range(0, min(len(payload), 2 * _ALERTS_IN_A_RECORD), 2):
            raw = payload[at : at + 2]
            if len(raw) == 1:
                direction.half_alert, direction.half_alert_encrypted = raw, encrypted
                break
            sink.message(Content.ALERT, raw[1], raw, encrypted=encrypted)
            if not encrypted:
                self.alert_counts[direction.side] += 1

    def _change_cipher_spec(
        self, direction: _Direction, payload: bytes, offset: int, sink: _Sink, *, encrypted: bool
    ) -> None:
        code = payload[0] if payload else -1
        raw = payload[: self._keep]
        sink.message(Content.CHANGE_CIPHER_SPEC, code, raw, encrypted=encrypted, length=len(payload))
        if not encrypted:
            self.change_cipher_spec_counts[direction.side] += 1
        if payload != b"\x01":
            got = f"{len(payload)} bytes, the first {code}" if payload else "none"
            sink.problem("change_cipher_spec", offset, "the byte 1", got)
            return
        if self._is13:
            return
        if encrypted:
            if direction.agreement is self._agreement:
                sink.problem("change_cipher_spec", offset, "a renegotiation before it", "none")
                return
            direction.agreement = self._agreement
            direction.opener = None
        elif direction.side is Side.SERVER and self._offer is not None and self._agreement is None:
            sink.problem("change_cipher_spec", offset, "a ServerHello before it", "none")
            return
        else:
            direction.ccs = True
            direction.agreement = self._agreement
            direction.opener = None
        direction.key_number += 1

    def _sslv2_hello(self, record: Record, sink: _Sink) -> None:
        raw = record.payload
        sink.message(Content.HANDSHAKE, codes.CLIENT_HELLO, raw, encrypted=False)
        self._client_hello(raw)

    # what messages change

    def _react(self, direction: _Direction, message: Handshake, *, encrypted: bool) -> bool:
        """Follow the handshake; True where the keys of this direction change behind the message."""
        code = message.code
        if encrypted and self._is13:
            if code == codes.FINISHED and direction.epoch is not _Epoch.APPLICATION:
                direction.finished = True
                return self._next_epoch(direction, _Epoch.APPLICATION)
            if code == codes.KEY_UPDATE and direction.epoch is _Epoch.APPLICATION:
                if isinstance(direction.opener, decryption.Tls13Opener):
                    direction.opener = direction.opener.updated()
                direction.key_number += 1
                return True
            if code == codes.END_OF_EARLY_DATA and direction.epoch is _Epoch.EARLY:
                return self._next_epoch(direction, _Epoch.HANDSHAKE)
            return False
        if code == codes.CLIENT_HELLO and direction.side is Side.CLIENT:
            self._client_hello(message.raw)
        elif code == codes.SERVER_HELLO and direction.side is Side.SERVER:
            return self._server_hello(message.raw)
        else:
            direction.clear_beyond_hello = True
        return False

    def _next_epoch(self, direction: _Direction, epoch: _Epoch) -> bool:
        direction.epoch = epoch
        direction.opener = None
        direction.key_number += 1
        return True

    def _client_hello(self, raw: bytes) -> None:
        self._hellos += 1
        self._offer = _offer(raw)
        if self._offer is None:
            return
        if self.client_random is None:
            self.client_random = self._offer.random
        self._client.framer.skip = self._server.framer.skip = False
        if self._offer.early_data and self._agreement is None:
            self._client.epoch = _Epoch.EARLY

    def _server_hello(self, raw: bytes) -> bool:
        """Take what the server chose; True where its next record is protected."""
        self._hellos += 1
        skimmed = skim_server_hello(raw)
        if skimmed is not None:
            return self._agree(skimmed)
        hello = glance(raw).value
        if not isinstance(hello, ServerHello | HelloRetryRequest):
            return False
        version, encrypt_then_mac = hello.legacy_version, False
        for extension in hello.extensions or ():
            if isinstance(extension, SelectedVersion):
                version = extension.selected_version
            elif isinstance(extension, EncryptThenMac):
                encrypt_then_mac = True
        if isinstance(hello, HelloRetryRequest):
            self.version, self.cipher_suite = version, hello.cipher_suite
            self._is13 = names.is_tls13(version)
            return False
        suite, compression = hello.cipher_suite, hello.compression_method
        return self._agree(SkimmedServerHello(hello.random, version, suite, compression, encrypt_then_mac))

    def _agree(self, hello: SkimmedServerHello) -> bool:
        self.version, self.cipher_suite = hello.version, hello.suite
        self._is13 = names.is_tls13(hello.version)
        self._agreement = _Agreement(self._offer.random if self._offer is not None else b"", hello)
        if not self._is13 and self._client.epoch is _Epoch.EARLY:
            self._client.epoch = _Epoch.HANDSHAKE
        return self._is13

    # protected records that stay closed

    def _sealed(self, direction: _Direction, record: Record, sink: _Sink) -> None:
        """What can be said of a protected record from outside."""
        content_type, length = record.content_type, record.length
        if not self._ccs_counts(direction):
            alert_size = self._is13 and length in self._alert_sizes()
            if self._is_over(direction) if sink.over is None else sink.over:
                if not alert_size or direction.alert_sized >= _ALERT_SIZED_AT_MOST:
                    sink.application_data(1, length)
                    return
                direction.alert_sized += 1
            sink.encrypted_record(content_type, length, alert_size=alert_size)
        elif content_type == records.APPLICATION_DATA:
            sink.application_data(1, length)
        elif content_type in {records.ALERT, records.CHANGE_CIPHER_SPEC}:
            sink.message(codes.CONTENTS[content_type], -1, b"", encrypted=True, length=length)
        else:
            sink.encrypted_record(content_type, length)

    def _is_over(self, direction: _Direction) -> bool:
        """Whether a side's TLS 1.3 handshake must be over; the rule and its limits stand above."""
        if direction.finished:
            return True
        if direction.sealed_records > _OVER_AFTER_RECORDS or direction.sealed_bytes > _OVER_AFTER_BYTES:
            return True
        turns = 2 if direction.side is Side.SERVER else 3
        if self._offer is not None and self._offer.early_data:
            turns += 2
        return self._turns >= turns

    def _alert_sizes(self) -> frozenset[int]:
        return sealed_lengths(self.cipher_suite, codes.ALERT_LENGTH)

    def _may_skip(self, direction: _Direction) -> None:
        """Let the framer count the rest of the application data by itself, once nothing can change any more."""
        framer = direction.framer
        if self._is13 and self.clear_alone:
            framer.skip, framer.skip_at_most = True, records.MAX_TLS13
        elif self._is13:
            framer.skip = self._is_over(self._client) and self._is_over(self._server)
            framer.skip_not = self._alert_sizes() if direction.alert_sized < _ALERT_SIZED_AT_MOST else frozenset()
        else:
            framer.skip = self.version is not None and direction.ccs

    # protected records that are opened

    def _open(self, direction: _Direction, record: Record, sink: _Sink) -> bool:
        """Open a record and read what is in it. False where its key is not there yet, and nothing was done."""
        if direction.blind:
            self._sealed(direction, record, sink)
            return True
        opened: decryption.Opened | None
        if self.version is not None and not self._is13:
            if direction.opener is None and not self._key_below_tls13(direction, record, sink):
                return direction.blind
            opened = direction.opener.open(record) if direction.opener is not None else None
        elif direction.epoch is _Epoch.EARLY:
            opened = self._open_early(direction, record)
            if opened is None:
                if self._handshake_secret_missing(direction):
                    return False
                if direction.early_opener is not None:
                    direction.early_opener.miss(record)
                self._sealed(direction, record, sink)
                return True
        elif direction.opener is None and not self._key_of_tls13(direction, record, sink):
            if direction.blind or not self._handshake_stays_closed(direction):
                return direction.blind
            opened = self._open_first_data(direction, record)
            if opened is None:
                direction.misses += self._is_over(direction)
                direction.blind = direction.misses >= _MISSES_AT_MOST
                self._sealed(direction, record, sink)
                return True
        else:
            opened = direction.opener.open(record) if direction.opener is not None else None
        if opened is None and direction.unseen:
            opened = self._open_behind_gap(direction, record, sink)
            if opened is None:
                return True
        if opened is None:
            if direction.opener is not None:
                direction.opener.miss(record)
            got = "one that does not open with the key log's secret"
            sink.problem("record.protection", record.offset, "an authentic record", got)
            sink.encrypted_record(record.content_type, record.length)
            direction.misses += 1
            direction.blind = direction.misses >= _MISSES_AT_MOST
            return True
        direction.misses = direction.unseen = 0
        content_type, plain = opened
        self._content(direction, content_type, plain, record.offset, sink, encrypted=True)
        return True

    def _open_behind_gap(self, direction: _Direction, record: Record, sink: _Sink) -> decryption.Opened | None:
        """Try the sequence numbers that this record may have; where none fits, the direction stays closed."""
        opener = direction.opener
        for _ in range(min(direction.unseen, _TRIED_BEHIND_A_GAP) if opener is not None else 0):
            assert opener is not None
            opener.miss(record)
            opened = opener.open(record)
            if opened is not None:
                return opened
        direction.blind = True
        got = "one that does not open: records are missing before it, and so may a change of keys be"
        sink.problem("record.protection", record.offset, "an authentic record", got)
        self._sealed(direction, record, sink)
        return None

    def _secrets(self, client_random: bytes | None) -> Mapping[str, bytes]:
        return self._keylog.get(client_random) if self._keylog is not None and client_random else {}

    def _key_below_tls13(self, direction: _Direction, record: Record, sink: _Sink) -> bool:
        agreement = direction.agreement or self._agreement
        if agreement is None:
            return False
        direction.agreement = agreement
        master = self._secrets(agreement.client_random).get(secrets.CLIENT_RANDOM)
        if master is None:
            return False
        if not agreement.hello.compression:
            direction.opener = decryption.tls12_opener(
                direction.side,
                version=agreement.hello.version,
                suite=agreement.hello.suite,
                master=master,
                client_random=agreement.client_random,
                server_random=agreement.hello.random,
                encrypt_then_mac=agreement.hello.encrypt_then_mac,
            )
        if direction.opener is None:
            self._cannot_open(direction, agreement.hello.version, agreement.hello.suite, record, sink)
        return direction.opener is not None

    def _key_of_tls13(self, direction: _Direction, record: Record, sink: _Sink) -> bool:
        secret = self._secrets(self.client_random).get(_LABELS[direction.side, direction.epoch])
        if secret is None or self.version is None or self.cipher_suite is None:
            return False
        direction.opener = decryption.tls13_opener(self.cipher_suite, secret)
        if direction.opener is None:
            self._cannot_open(direction, self.version, self.cipher_suite, record, sink)
        return direction.opener is not None

    def _handshake_secret_missing(self, direction: _Direction) -> bool:
        label = _LABELS[direction.side, _Epoch.HANDSHAKE]
        return self._agreement is None or label not in self._secrets(self.client_random)

    def _handshake_stays_closed(self, direction: _Direction) -> bool:
        """Whether the key log has this side's application secret without the handshake secret, which comes first."""
        if self.cipher_suite is None or direction.epoch is not _Epoch.HANDSHAKE:
            return False
        return _LABELS[direction.side, _Epoch.APPLICATION] in self._secrets(self.client_random)

    def _open_first_data(self, direction: _Direction, record: Record) -> decryption.Opened | None:
        """Open the first record behind a handshake that stays closed; None for those of the handshake."""
        assert self.cipher_suite is not None
        secret = self._secrets(self.client_random)[_LABELS[direction.side, _Epoch.APPLICATION]]
        opener = decryption.tls13_opener(self.cipher_suite, secret)
        opened = opener.open(record) if opener is not None else None
        if opened is not None:
            self._next_epoch(direction, _Epoch.APPLICATION)
            direction.finished = True
            direction.opener = opener
        return opened

    def _open_early(self, direction: _Direction, record: Record) -> decryption.Opened | None:
        """Try the early key, then the handshake key that follows it (RFC 8446 4.2.10)."""
        found = self._secrets(self.client_random)
        opened = None
        early = found.get(secrets.CLIENT_EARLY_TRAFFIC_SECRET)
        if direction.early_opener is not None:
            opened = direction.early_opener.open(record)
        elif early is not None and self._offer is not None:
            # The suite is that of the ticket, which the wire does not show: the one that opens it.
            for suite in self._offer.suites:
                opener = decryption.tls13_opener(suite, early)
                opened = opener.open(record) if opener is not None else None
                if opened is not None:
                    direction.early_opener = opener
                    break
        if opened is not None:
            return opened
        handshake = found.get(secrets.CLIENT_HANDSHAKE_TRAFFIC_SECRET)
        if handshake is None or self._agreement is None:
            return None
        opener = decryption.tls13_opener(self._agreement.hello.suite, handshake)
        opened = opener.open(record) if opener is not None else None
        if opened is not None:
            self._next_epoch(direction, _Epoch.HANDSHAKE)
            direction.opener = opener
        return opened

    def _cannot_open(self, direction: _Direction, version: int, suite: int, record: Record, sink: _Sink) -> None:
        direction.blind = True
        got = f"{names.cipher_suite_name(suite)} with {names.version_name(version)}"
        sink.problem("record.protection", record.offset, "a cipher suite that can be opened here", got)
        self._sealed(direction, record, sink)

    # holding

    def _hold(self, direction: _Direction, record: Record, sink: _Sink) -> None:
        self._serial += 1
        direction.held.append(_Held(self._serial, sink.t, self._is_over(direction), record))
        direction.held_bytes += len(record.payload) + _HELD_OVERHEAD
        if direction.held_bytes > HELD_AT_MOST:
            direction.blind = True
            self._give_out(direction, sink.events)

    def _give_out(self, direction: _Direction, out: list[Event]) -> None:
        for held in direction.held:
            self._sealed(direction, held.record, _Sink(direction, held.t, out, over=held.over))
        direction.held.clear()
        direction.held_bytes = 0

    def _drain(self, out: list[Event]) -> None:
        """Open what can be opened, oldest first over both directions: one may need what the other says."""
        if not (self._client.held or self._server.held):
            return
        blocked: set[Side] = set()
        while True:
            waiting = [d for d in (self._client, self._server) if d.held and d.side not in blocked]
            if not waiting:
                return
            direction = min(waiting, key=lambda d: d.held[0].serial)
            held = direction.held[0]
            if not self._open(direction, held.record, _Sink(direction, held.t, out, over=held.over)):
                blocked.add(direction.side)
                continue
            direction.held.popleft()
            direction.held_bytes -= len(held.record.payload) + _HELD_OVERHEAD

    # ends and problems

    def _unfinished_record(self, direction: _Direction, record: Record, sink: _Sink) -> None:
        """The beginning of a record in clear still says the beginning of its message."""
        if record.content_type == records.SSLV2_HELLO:
            length = record.length + 2
            sink.message(Content.HANDSHAKE, codes.CLIENT_HELLO, record.payload, encrypted=False, length=length)
        elif record.payload and record.content_type == records.HANDSHAKE and not self._is_protected(direction, record):
            self._handshake(direction, record.payload, record.offset, sink, encrypted=False)
        elif record.payload and record.content_type == records.ALERT and not self._is_protected(direction, record):
            direction.half_alert += record.payload[:1]

    def _flush(self, direction: _Direction, sink: _Sink) -> None:
        """Tell what was begun and did not come to its end."""
        if direction.assembler.pending:
            message = direction.assembler.flush()
            sink.handshake(message, encrypted=direction.assembling_under > 0)
            sink.problem("handshake.length", message.arrived, f"{message.length} bytes", f"{message.arrived}")
            if not direction.assembling_under:
                self._react_to_part(direction, message)
        if direction.half_alert:
            raw, direction.half_alert = direction.half_alert, b""
            sink.message(Content.ALERT, -1, raw, encrypted=direction.half_alert_encrypted, length=2)

    def _react_to_part(self, direction: _Direction, message: Handshake) -> None:
        """The beginning of a hello says what opens the rest, if it is long enough for that."""
        if message.code == codes.CLIENT_HELLO and direction.side is Side.CLIENT and len(message.raw) >= _UP_TO_RANDOM:
            self._client_hello(message.raw)
        elif message.code == codes.SERVER_HELLO and direction.side is Side.SERVER and _tells_version(message.raw):
            self._server_hello(message.raw)

    def _key_change_within(self, direction: _Direction, offset: int, sink: _Sink) -> None:
        """RFC 8446 5.1: handshake messages MUST NOT span key changes."""
        sink.problem("record.fragment", offset, "the rest of a handshake message under its key", "another key")
        self._flush(direction, sink)


def _too_long(record: Record, most: int, sink: _Sink) -> None:
    sink.problem("record.length", record.offset + 3, f"at most {most}", str(record.length))


def _seems_protected(direction: _Direction, record: Record) -> bool:
    """Whether a record behind a hole, of a side without keys so far, can hardly be in clear."""
    payload = record.payload
    if record.content_type == records.ALERT:
        return len(payload) != 2 or payload[0] not in {1, 2}
    if record.content_type == records.HANDSHAKE:
        return not direction.assembler.pending and not _reads_as_messages(direction.side, payload)
    return record.content_type == records.APPLICATION_DATA


def _reads_as_messages(side: Side, payload: bytes) -> bool:
    at = 0
    while at + HEADER_SIZE <= len(payload):
        if payload[at] not in _IN_CLEAR[side] or payload[at + 1] > _LONGEST_IN_CLEAR:
            return False
        at += HEADER_SIZE + int.from_bytes(payload[at + 1 : at + HEADER_SIZE], "big")
    return at > 0


def _tells_version(raw: bytes) -> bool:
    """Whether the beginning of a ServerHello tells the suite and the version: in TLS 1.3 that is an extension."""
    hello = glance(raw).value
    extensions = hello.extensions if isinstance(hello, ServerHello | HelloRetryRequest) else None
    return any(isinstance(one, SelectedVersion) for one in extensions or ())


def _offer(raw: bytes) -> SkimmedClientHello | None:
    """What a ClientHello of either form offers; None where its bytes do not reach that far."""
    skimmed = skim_client_hello(raw)
    if skimmed is not None:
        return skimmed
    hello = glance(raw).value
    if isinstance(hello, Sslv2ClientHello):
        # RFC 5246 E.2: the challenge, with zeros before it, is the client random.
        suites = tuple(spec for spec in hello.cipher_specs if spec <= 0xFFFF)
        return SkimmedClientHello(hello.challenge.rjust(32, b"\x00")[-32:], suites, tls13=False, early_data=False)
    if not isinstance(hello, ClientHello):
        return None
    early_data = tls13 = False
    for extension in hello.extensions or ():
        if isinstance(extension, SupportedVersions):
            tls13 = any(names.is_tls13(version) for version in extension.versions)
        elif isinstance(extension, EarlyData):
            early_data = True
    return SkimmedClientHello(hello.random, tuple(hello.cipher_suites), tls13, early_data)

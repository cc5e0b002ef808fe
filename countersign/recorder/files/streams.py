"""TCP reassembly: packets in, what each side said out.

*What a reader gets.* For each conversation one :class:`Opened`, then :class:`Data` and :class:`Gap` of both sides, then
its end. ``Closed`` with ``how="fin"`` ends one direction; the conversation is over with the second of them, or with a
``Closed`` whose ``from_initiator`` is None. After that nothing more is said of it. An event has the time of the packet
that brought it about, so data that waited behind a missing segment has the time when that arrived, as for the receiver.

*Order* (RFC 9293 3.4). A stream knows the sequence number of its next byte. A segment that begins there is given at
once; one behind it is a retransmission, of which only the new part counts; one ahead waits. A single byte before the
next one is a keep-alive (RFC 9293 3.8.4), whatever it holds. Whoever brings a byte first wins; bytes that contradict it
are dropped and :class:`Noted`, as far as what they contradict is still in memory.

*Holes.* A capture can lack what the receiver has. A hole is given up, as a :class:`Gap`, when the receiver has
acknowledged it several times and it still was not filled (packets change places on their way into a capture, so once
is no proof), when more than ``max_buffered`` waits behind it, or when the conversation ends. Bytes that were
acknowledged and behind which nothing came are a hole too, at the end: all of a side that the capture does not have, for
one. A segment farther ahead than anything can be under way is dropped, unless another follows on it: then very much is
missing, and that is a gap.

*Beginnings.* A SYN opens a conversation, or a SYN-ACK where that is the first packet. Without either the first
payload does; then nobody saw who began it, and the side with the better known or lower port is taken for the responder.
A single byte is not enough, for it may be a keep-alive's.

*Ends.* A conversation is remembered for a while after its end, so that what arrives late is not a new one. A SYN opens
a new one under the same addresses if its number is another, or if the old one has ended; an old one that had not is
``silent`` then. So is one without a packet for ``idle_ns`` of the capture's time. When there are more conversations
than ``max_conversations``, those are dropped that have ended, then those without data, then the longest idle
(``stopped``, as at the end of the capture). A reset counts if its number is near the sender's next one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from ipaddress import IPv6Address
from struct import Struct
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from countersign.recorder.files.packets import Pieces, SegmentFinder, same_where_both

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from countersign.recorder.files.capture import Packet

WELL_KNOWN_PORTS: Final = frozenset({443, 465, 636, 853, 989, 990, 993, 995, 3269, 5061, 5671, 6443, 8443, 9443})
"""Ports of servers that speak TLS, for conversations whose beginning nobody saw."""

_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10
_NUMBERS = 0xFFFFFFFF
_HALF = 1 << 31
_FAR = 1 << 26  # more than is ever under way at once
_NEAR = 1 << 20
_PATIENCE = 4  # acknowledgements of a hole before it is given up
_OVERHEAD = 1000  # what a waiting segment costs beside its bytes, in memory and when others are compared with it
_REMEMBERED = 64  # segments, of all streams, that a retransmission is compared with

_FIXED_PART = Struct("!IIBB").unpack_from  # sequence number, acknowledgement number, size of the header, flags


@dataclass(frozen=True, slots=True)
class Endpoint:
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Opened:
    """``midstream``: no SYN was seen, so who is the initiator is a guess."""

    conversation: int
    t_ns: int
    initiator: Endpoint
    responder: Endpoint
    midstream: bool


@dataclass(frozen=True, slots=True)
class Data:
    conversation: int
    t_ns: int
    from_initiator: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes that were sent here and that the capture does not hold; ``missing`` is modulo 2^32."""

    conversation: int
    t_ns: int
    from_initiator: bool
    missing: int


@dataclass(frozen=True, slots=True)
class Noted:
    """Something odd about a stream that changes nothing; said once of each."""

    conversation: int
    t_ns: int
    from_initiator: bool
    text: str


@dataclass(frozen=True, slots=True)
class Closed:
    """One direction is over (``fin``), or with None both. ``reset_by_initiator`` says who sent a reset."""

    conversation: int
    t_ns: int
    from_initiator: bool | None
    how: Literal["fin", "reset", "silent", "stopped"]
    reset_by_initiator: bool | None = None


Event = Opened | Data | Gap | Noted | Closed

_NOTHING: Final[Iterator[Event]] = iter(())


class _Header(NamedTuple):
    """What of a segment decides to which conversation it belongs."""

    key: bytes
    sequence: int
    acknowledged: int
    flags: int
    size: int
    t: int


class _Side:
    """One direction. ``base + count`` is the number of its next byte, once ``base`` is known."""

    __slots__ = (
        "acknowledged",
        "base",
        "conversation",
        "cost",
        "count",
        "ended",
        "fin",
        "first_acknowledged",
        "from_initiator",
        "key",
        "noted",
        "patience",
        "peer",
        "pieces",
        "stray",
    )

    peer: _Side

    def __init__(self, conversation: _Conversation, key: bytes, *, from_initiator: bool) -> None:
        self.conversation = conversation
        self.key = key
        self.from_initiator = from_initiator
        self.base = -1
        self.acknowledged = -1  # by the receiver, last
        self.first_acknowledged = -1  # as long as the base is not known
        self.count = 0
        self.pieces: Pieces | None = None  # behind a hole
        self.cost = 0  # of what waits there
        self.fin = -1  # the count at which it ends
        self.ended = False
        self.patience = _PATIENCE
        self.stray = -1  # where the last segment that was far off ends
        self.noted = False

    @property
    def waits(self) -> bool:
        """For a hole to be filled."""
        return self.pieces is not None or (self.fin >= 0 and not self.ended)


class _Conversation:
    __slots__ = ("last", "midstream", "number", "over", "sides")

    def __init__(self, number: int, t_ns: int, *, midstream: bool) -> None:
        self.number = number
        self.last = t_ns
        self.midstream = midstream
        self.over = False
        self.sides: tuple[_Side, _Side]


class Reassembler:
    """The conversations of one capture.

    ``max_buffered`` bytes may wait behind a hole of one stream, eight times as many behind all holes together.
    """

    def __init__(
        self,
        *,
        max_buffered: int = 4 << 20,
        max_conversations: int = 1 << 14,
        idle_ns: int = 3600 * 10**9,
    ) -> None:
        self._max_buffered = max_buffered
        self._max_conversations = max(1, max_conversations)
        self._idle = idle_ns
        self._finder = SegmentFinder()
        self._sides: dict[bytes, _Side] = {}
        self._conversations: dict[int, _Conversation] = {}
        self._waiting: dict[_Side, None] = {}  # streams with a hole, the oldest first
        self._buffered = 0
        self._remembered: deque[tuple[_Side, int, bytes]] = deque(maxlen=_REMEMBERED)
        self._opened = 0
        self._now = 0
        self._look_at = 0  # when to look for the idle
        self._events: list[Event] = []

    @property
    def passed_over(self) -> Counter[str]:
        """Packets in which no TCP segment was found, by what they were."""
        return self._finder.passed_over

    def packet(self, packet: Packet) -> Iterator[Event]:
        """What this packet brings about."""
        found = self._finder.find(packet)
        if found is None:
            return _NOTHING
        key, data, at, stop = found
        sequence, acknowledged, size, flags = _FIXED_PART(data, at + 4)
        if size < 0x50:
            return _NOTHING
        start = at + (size >> 4) * 4
        t = packet.time_ns
        if t > self._look_at:
            self._look_for_idle(t)
        self._now = t
        side = self._sides.get(key)
        if flags & (_SYN | _RST) or side is None or side.conversation.over:
            header = _Header(key, sequence, acknowledged, flags, stop - start, t)
            side = self._unusual(side, header)
            if side is None:
                return self._said()
            if flags & _SYN:
                sequence += 1
        conversation = side.conversation
        conversation.last = t
        if stop > start:
            if side.base < 0:
                side.base = sequence
            if (
                side.pieces is None
                and side.fin < 0
                and (sequence - side.base - side.count) & _NUMBERS == 0
                and stop <= len(data)
            ):  # the usual case: next in order, and all there
                payload = data[start:stop]
                self._remembered.append((side, side.count, payload))
                side.count += stop - start
                self._events.append(Data(conversation.number, t, side.from_initiator, payload))
            else:
                self._segment(side, sequence, data[start:stop], stop - start)
        if flags & _FIN and side.base >= 0 and side.fin < 0:
            self._fin(side, sequence + max(0, stop - start))
        if flags & _ACK:
            peer = side.peer
            peer.acknowledged = acknowledged
            if peer.base < 0 or peer.pieces is not None or peer.fin >= 0:
                self._acknowledged(peer, acknowledged)
        return self._said()

    def finish(self) -> Iterator[Event]:
        """The capture is over: what still waits, and that nothing more comes."""
        for conversation in list(self._conversations.values()):
            self._end(conversation, conversation.last, "stopped")
        self._sides.clear()
        self._conversations.clear()
        return self._said()

    def _said(self) -> Iterator[Event]:
        if not self._events:
            return _NOTHING
        events, self._events = self._events, []
        return iter(events)

    # beginnings and resets

    def _unusual(self, side: _Side | None, header: _Header) -> _Side | None:
        """A segment with SYN or RST, of a conversation that is over, or of none. Whose it is, if it is to be read."""
        key, sequence, _, flags, size, t = header
        if flags & _RST:
            if side is not None and not side.conversation.over:
                self._reset(side, sequence)
            return None
        if flags & _SYN:
            return self._syn(side, header)
        if size <= 1:
            return None
        if side is not None:  # late, or new under old addresses
            away = (sequence - side.base - side.count) & _NUMBERS
            if side.base < 0 or away <= _FAR or away >= _NUMBERS - _FAR:
                return None
        source, target = key[-4:-2], key[-2:]
        from_responder = (_is_known(source), target) > (_is_known(target), source)
        return self._open(key, t, from_initiator=not from_responder, midstream=True)

    def _syn(self, side: _Side | None, header: _Header) -> _Side | None:
        base = (header.sequence + 1) & _NUMBERS
        answers = bool(header.flags & _ACK)
        if side is not None and side.conversation.over:
            if answers and side.base == base:
                return None
            side = None
        elif side is not None and side.base < 0:  # the answer, or a simultaneous opening (RFC 9293 3.5)
            side.base = base
        elif side is not None and side.base != base:
            if side.conversation.midstream and (side.base - base) & _NUMBERS < _NEAR:
                return None  # the SYN of this one, come late
            if answers and side.peer.base == header.acknowledged:
                return None
            self._end(side.conversation, header.t, "silent")
            side = None
        if side is None:
            side = self._open(header.key, header.t, from_initiator=not answers, midstream=False)
            side.base = base
        if answers and side.peer.base < 0:
            side.peer.base = header.acknowledged
        return side

    def _reset(self, side: _Side, sequence: int) -> None:
        """RFC 9293 3.10.7: in the window. The answer to a SYN has whatever number, for its sender had none yet."""
        away = (sequence - side.base - side.count) & _NUMBERS
        if side.base < 0 or away < _FAR or away > _NUMBERS - _FAR:
            self._end(side.conversation, self._now, "reset", reset_by_initiator=side.from_initiator)

    def _open(self, key: bytes, t: int, *, from_initiator: bool, midstream: bool) -> _Side:
        """A conversation whose first packet went this way; any earlier one under these addresses is forgotten."""
        width = len(key) // 2 - 2
        back = key[width : 2 * width] + key[:width] + key[2 * width + 2 :] + key[2 * width : 2 * width + 2]
        old = self._sides.get(key) or self._sides.get(back)
        if old is not None:
            self._forget(old.conversation)
        if len(self._conversations) >= self._max_conversations:
            self._make_room()
        self._opened += 1
        conversation = _Conversation(self._opened, t, midstream=midstream)
        side = _Side(conversation, key, from_initiator=from_initiator)
        peer = _Side(conversation, back, from_initiator=not from_initiator)
        side.peer, peer.peer = peer, side
        conversation.sides = (side, peer) if from_initiator else (peer, side)
        self._sides[back] = peer
        self._sides[key] = side
        self._conversations[conversation.number] = conversation
        source, target = _endpoint(key, 0, width), _endpoint(key, 1, width)
        ends = (source, target) if from_initiator else (target, source)
        self._events.append(Opened(conversation.number, t, *ends, midstream))
        return side

    # data

    def _segment(self, side: _Side, sequence: int, data: bytes, size: int) -> None:
        """A segment with ``size`` bytes of payload, of which ``data`` was captured, that is not simply the next."""
        away = (sequence - side.base - side.count) & _NUMBERS
        if _FAR < away < _HALF:
            if side.stray < 0 or (sequence - side.stray) & _NUMBERS > _NEAR:
                side.stray = (sequence + size) & _NUMBERS
                return
            self._give_up_all(side)
            away = (sequence - side.base - side.count) & _NUMBERS
            self._miss(side, away)
            away = 0
        start = side.count + (away if away < _HALF else away - _NUMBERS - 1)
        if size == 1 and (start == side.count - 1 or start == side.fin):
            return  # a keep-alive; the FIN has a number too
        if start < side.count:
            self._compare(side, start, data)
        if 0 <= side.fin < start + size:
            self._note(side, "bytes behind the end of the stream (FIN); they are left out")
            size = side.fin - start
            data = data[: max(0, size)]
        if start + size <= side.count:
            return
        if start < side.count:
            data, size, start = data[side.count - start :], size - (side.count - start), side.count
        if side.pieces is None and start == side.count:
            self._give(side, data, size)
            self._finished(side)
            return
        if side.pieces is None:
            side.pieces = Pieces()
            side.patience = _PATIENCE
            self._waiting[side] = None
        if not side.pieces.add(start, start + size, data):
            self._note(side, "bytes sent twice differ; the first ones stand")
        self._go_on(side)
        while side.cost > self._max_buffered and side.pieces is not None:
            self._give_up(side)
        while self._buffered > 8 * self._max_buffered and self._waiting:
            self._give_up(next(iter(self._waiting)))

    def _give(self, side: _Side, data: bytes, size: int) -> None:
        """The next ``size`` bytes, of which these were captured."""
        if data:
            self._remembered.append((side, side.count, data))
            self._events.append(Data(side.conversation.number, self._now, side.from_initiator, data))
        side.count += len(data)
        if size > len(data):
            self._miss(side, size - len(data))

    def _miss(self, side: _Side, missing: int) -> None:
        if missing:
            self._events.append(Gap(side.conversation.number, self._now, side.from_initiator, missing))
            side.count += missing
        side.stray = -1

    def _go_on(self, side: _Side) -> None:
        """Give what waits and is next."""
        pieces = side.pieces
        if pieces is None:
            return
        for start, stop, data in pieces.take(side.count):
            self._give(side, data, stop - start)
            side.patience = _PATIENCE
        cost = pieces.size + _OVERHEAD * len(pieces.parts)
        self._buffered += cost - side.cost
        side.cost = cost
        if not cost:
            side.pieces = None
            self._waiting.pop(side, None)
            self._finished(side)

    def _give_up(self, side: _Side) -> None:
        """The hole before what waits will not be filled."""
        side.patience = _PATIENCE
        if side.pieces is not None:
            self._miss(side, side.pieces.parts[0][0] - side.count)
            self._go_on(side)
        elif side.fin > side.count:
            self._miss(side, side.fin - side.count)
            self._finished(side)

    def _give_up_all(self, side: _Side) -> None:
        while side.waits:
            self._give_up(side)

    def _give_up_end(self, side: _Side) -> None:
        """What was acknowledged and never came. The last number of it may be that of a FIN, so it does not count."""
        base = side.first_acknowledged if side.base < 0 else side.base
        if base >= 0 and side.acknowledged >= 0 and not side.ended:
            missing = (side.acknowledged - base - side.count - 1) & _NUMBERS
            self._miss(side, missing if missing < _FAR else 0)

    def _acknowledged(self, side: _Side, acknowledged: int) -> None:
        """The receiver says what it has of this stream."""
        if side.base < 0:
            # A lost SYN-ACK. In the middle of a stream it may be far behind what is under way, and is no help.
            if not side.conversation.midstream:
                side.base = acknowledged
            elif side.first_acknowledged < 0:
                side.first_acknowledged = acknowledged
            return
        if not side.waits or side.conversation.over:
            return
        hole = (side.pieces.parts[0][0] if side.pieces is not None else side.fin) - side.count
        if hole <= (acknowledged - side.base - side.count) & _NUMBERS < _HALF:
            side.patience -= 1
            if side.patience <= 0:
                self._give_up(side)

    def _compare(self, side: _Side, start: int, data: bytes) -> None:
        """A retransmission with what was sent first, as far as that is remembered."""
        stop = start + len(data)
        for other, other_start, sent in reversed(self._remembered):
            if other is side:
                if not same_where_both(start, data, other_start, sent):
                    self._note(side, "bytes sent twice differ; the first ones stand")
                    return
                if other_start <= start and stop <= other_start + len(sent):
                    return

    def _note(self, side: _Side, text: str) -> None:
        if not side.noted:
            side.noted = True
            self._events.append(Noted(side.conversation.number, self._now, side.from_initiator, text))

    # ends

    def _fin(self, side: _Side, sequence: int) -> None:
        away = (sequence - side.base - side.count) & _NUMBERS
        if _FAR < away < _NUMBERS - _FAR:
            return
        side.fin = side.count + away if away < _HALF else side.count
        if side.pieces is not None:
            side.fin = max(side.fin, side.pieces.parts[-1][1])
        side.patience = _PATIENCE
        self._finished(side)

    def _finished(self, side: _Side) -> None:
        """Tell that a stream has ended, when all of it was given."""
        if side.fin != side.count or side.ended or side.pieces is not None:
            return
        conversation = side.conversation
        side.ended = True
        self._events.append(Closed(conversation.number, self._now, side.from_initiator, "fin"))
        conversation.over = side.peer.ended

    def _end(
        self,
        conversation: _Conversation,
        t: int,
        how: Literal["reset", "silent", "stopped"],
        *,
        reset_by_initiator: bool | None = None,
    ) -> None:
        """Both directions are over, whatever still waits."""
        if conversation.over:
            return
        self._now = t
        for side in conversation.sides:
            self._give_up_all(side)
            self._give_up_end(side)
        if not conversation.over:
            conversation.over = True
            self._events.append(Closed(conversation.number, t, None, how, reset_by_initiator))

    def _forget(self, conversation: _Conversation, how: Literal["silent", "stopped"] = "silent") -> None:
        self._end(conversation, conversation.last if how == "stopped" else self._now, how)
        self._conversations.pop(conversation.number, None)
        for side in conversation.sides:
            if self._sides.get(side.key) is side:
                del self._sides[side.key]
            del side.peer  # they refer to each other, and many of them should not wait for the garbage collector
        del conversation.sides

    def _look_for_idle(self, t: int) -> None:
        """Of two packets in a row the earlier tells the time, so that one with a wrong clock closes nothing."""
        now = min(t, self._now)
        if now <= self._look_at and self._look_at:
            return
        self._look_at = now + self._idle // 4
        for conversation in [c for c in self._conversations.values() if now - c.last > self._idle]:
            self._now = now
            self._forget(conversation)

    def _make_room(self) -> None:
        """Drop an eighth of the conversations, those first of which least is to be expected."""
        order = sorted(
            self._conversations.values(),
            key=lambda c: (not c.over, bool(c.sides[0].count or c.sides[1].count), c.last),
        )
        now = self._now
        for conversation in order[: max(1, len(order) // 8)]:
            self._forget(conversation, "stopped")
        self._now = now


def _is_known(port: bytes) -> bool:
    return int.from_bytes(port, "big") in WELL_KNOWN_PORTS


def _endpoint(key: bytes, which: int, width: int) -> Endpoint:
    address = key[which * width : (which + 1) * width]
    port = int.from_bytes(key[2 * width + 2 * which : 2 * width + 2 * which + 2], "big")
    return Endpoint(".".join(map(str, address)) if width == 4 else str(IPv6Address(address)), port)

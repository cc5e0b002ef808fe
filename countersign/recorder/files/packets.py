"""From captured packets to TCP segments: link layers, IP, and what stands between IP and TCP.

Link types: Ethernet, Linux cooked (both versions), raw IP, BSD loopback (both byte orders), PPP, Cisco's HDLC, and what
iptables logs (NFLOG). Between the link and IP: VLAN tags, MPLS labels, PPPoE, SNAP. Between IP and TCP: the options and
extension headers of both versions, IP in IP, 6in4, GRE, and what mirrors of traffic arrive in: ERSPAN, VXLAN, Geneve.
Of nested packets the innermost TCP counts.

Lengths are those of the IP header, so padding and checksums behind it are no data. Where a header gives none (segments
before the network card has cut them up have 0 there) it is all that was on the wire. Checksums are not looked at: on
the machine that sends, the card fills them in later.

*Fragments* are put together within bounds: of bytes, of packets, of time. Those that are still incomplete when a bound
is reached are given up, the oldest first; TCP then sees a missing segment. Where fragments overlap, the byte that
arrived first stays (:class:`Pieces`), as with TCP segments.

What is not TCP, or cannot be read, is counted by its kind, and so are the fragments of a packet that was given up:
:attr:`SegmentFinder.passed_over`.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from countersign.recorder.files.capture import Packet

Segment = tuple[bytes, bytes, int, int]
"""Who to whom, the bytes, where in them the TCP header begins, and where the segment ends or would if all of it had
been captured. The first is source, destination (4 or 16 bytes each), source port, destination port."""

_IPV4, _IPV6, _ETHERNET = 0x0800, 0x86DD, 0x6558
_ERSPAN2, _ERSPAN3 = 0x88BE, 0x22EB
_VLANS = frozenset({0x8100, 0x88A8, 0x9100, 0x9200})
_MPLS = frozenset({0x8847, 0x8848})
_PPPOE = 0x8864
_PPP = {0x0021: _IPV4, 0x0057: _IPV6}
_HDLC = frozenset({0x0F00, 0x8F00})  # to one, to all
_RAW = frozenset({12, 14, 101, 228, 229})  # LINKTYPE_RAW and what DLT_RAW was on some systems; IPV4; IPV6
_FAMILIES = {2: _IPV4, 10: _IPV6, 24: _IPV6, 28: _IPV6, 30: _IPV6}  # Linux, NetBSD and OpenBSD, FreeBSD, Darwin

_TCP, _IPV4_INSIDE, _IPV6_INSIDE, _GRE, _UDP = 6, 4, 41, 47, 17
_VXLAN_PORTS = frozenset({4789, 8472})  # the second is what Linux had before there was a number
_GENEVE_PORT = 6081
_LEAST_TCP = 20
_FRAGMENT, _AUTHENTICATION = 44, 51
_EXTENSIONS = frozenset({0, 43, 60, 135, 139, 140, _FRAGMENT, _AUTHENTICATION})

_MOST_KINDS: Final = 64
_ECHO_NS: Final = 10**9  # a capture may have each fragment twice; the second of the last must not begin anew
_ENDS_EARLY: Final = "packets that end in a header"
_PART: Final = ""  # of a packet that is not whole yet
_NOT_WHOLE: Final = "fragments of IP packets that are not whole"
_DAMAGED: Final = "packets with a damaged IP header"


class Pieces:
    """Parts of a sequence of bytes that do not overlap, in order. The first to bring a byte wins.

    A piece is (start, stop, data); the data is shorter where the end of it was not captured.
    """

    __slots__ = ("parts", "size")

    def __init__(self) -> None:
        self.size = 0
        """Bytes of data in them."""
        self.parts: list[tuple[int, int, bytes]] = []

    def add(self, start: int, stop: int, data: bytes) -> bool:
        """Keep what is new of it. False if it says something else about bytes that are there already."""
        parts = self.parts
        first = bisect_left(parts, (start,))
        if first and parts[first - 1][1] > start:
            first -= 1
        last, at, agrees, whole = first, start, True, len(data) == stop - start
        fresh: list[tuple[int, int, bytes]] = []
        while last < len(parts) and parts[last][0] < stop:
            known = parts[last]
            if at < known[0]:
                fresh.append((at, known[0], data[at - start : known[0] - start]))
            agrees &= same_where_both(start, data, known[0], known[2])
            whole &= len(known[2]) == known[1] - known[0]
            at = known[1]
            last += 1
        if at < stop:
            fresh.append((at, stop, data[at - start : stop - start]))
        if fresh:
            self.size += sum(len(part[2]) for part in fresh)
            together = sorted([*parts[first:last], *fresh])
            if last > first and whole:  # one piece, so that no one pays again and again for walking over many
                together = [(together[0][0], together[-1][1], b"".join(part[2] for part in together))]
            parts[first:last] = together
        return agrees

    def take(self, start: int) -> list[tuple[int, int, bytes]]:
        """Take out the pieces that begin at ``start`` and follow on each other."""
        count = 0
        for piece in self.parts:
            if piece[0] != start:
                break
            start = piece[1]
            self.size -= len(piece[2])
            count += 1
        taken = self.parts[:count]
        del self.parts[:count]
        return taken


def same_where_both(start: int, data: bytes, other_start: int, other: bytes) -> bool:
    """Whether two parts of a sequence agree on the bytes that both have."""
    begin, end = max(start, other_start), min(start + len(data), other_start + len(other))
    return end <= begin or data[begin - start : end - start] == other[begin - other_start : end - other_start]


class _Datagram:
    """A fragmented IP packet of which not all is there, or one that was whole a moment ago."""

    __slots__ = ("cost", "count", "done", "length", "pieces", "started")

    def __init__(self, started: int) -> None:
        self.started = started
        self.count = 0
        self.pieces = Pieces()
        self.length = -1
        self.cost = 0
        self.done = False


class Fragments:
    """Puts fragmented packets together (RFC 791 3.2, RFC 8200 4.5); ``max_bytes`` is for all of them."""

    def __init__(self, *, max_bytes: int = 4 << 20, max_packets: int = 1024, max_age_ns: int = 30 * 10**9) -> None:
        self._max_bytes = max_bytes
        self._max_packets = max_packets
        self._max_age = max_age_ns
        self._waiting: dict[bytes, _Datagram] = {}
        self._cost = 0
        self._lost = 0

    @property
    def not_whole(self) -> int:
        """Fragments of packets of which the rest never came, or has not come yet."""
        return self._lost + sum(datagram.count for datagram in self._waiting.values())

    def add(self, key: bytes, offset: int, data: bytes, t_ns: int, *, more: bool) -> bytes | None:
        """One fragment; the whole payload when nothing is missing any more."""
        datagram = self._waiting.get(key)
        if datagram is not None and abs(t_ns - datagram.started) > (_ECHO_NS if datagram.done else self._max_age):
            self._forget(key)
            datagram = None
        if datagram is None:
            datagram = self._waiting[key] = _Datagram(t_ns)
        if datagram.done:
            return None
        datagram.count += 1
        stop = offset + len(data)
        if stop > 0xFFFF or (more and len(data) & 7) or not data:
            self._forget(key)
            return None
        if not more and datagram.length < 0:
            datagram.length = stop
        datagram.pieces.add(offset, stop, data)
        cost = len(data) + 200
        datagram.cost += cost
        self._cost += cost
        parts = datagram.pieces.parts
        if datagram.length >= 0 and parts[0][0] == 0 and parts[-1][1] >= datagram.length:
            payload = b"".join(part[2] for part in parts)
            if len(payload) == parts[-1][1]:
                self._cost -= datagram.cost
                datagram.cost, datagram.count, datagram.pieces = 0, 0, Pieces()
                datagram.done, datagram.started = True, t_ns
                return payload[: datagram.length]
        while self._waiting and (self._cost > self._max_bytes or len(self._waiting) > self._max_packets):
            self._forget(next(iter(self._waiting)))
        return None

    def _forget(self, key: bytes) -> None:
        datagram = self._waiting.pop(key)
        self._cost -= datagram.cost
        self._lost += datagram.count


class SegmentFinder:
    """Finds the TCP segment in a packet."""

    def __init__(self, fragments: Fragments | None = None) -> None:
        self._passed_over: Counter[str] = Counter()
        self._fragments = fragments or Fragments()

    @property
    def passed_over(self) -> Counter[str]:
        """Packets in which no TCP segment was found, by what they were."""
        counted = self._passed_over.copy()
        if self._fragments.not_whole:
            counted[_NOT_WHOLE] = self._fragments.not_whole
        return counted

    def find(self, packet: Packet) -> Segment | None:
        """The segment with at least its fixed header (20 bytes), if there is one."""
        data = packet.data
        try:
            # What nearly all packets are: Ethernet, IPv4 without options, in one piece, TCP.
            if (
                packet.link_type == 1
                and data[12:15] == b"\x08\x00\x45"
                and data[23] == _TCP
                and not (data[20] & 0x3F or data[21])
            ):
                stop = 14 + (data[16] << 8 | data[17])
                if 34 + _LEAST_TCP <= stop <= packet.original_length and len(data) >= 34 + _LEAST_TCP:
                    return data[26:38], data, 34, stop
            found = self._walk(packet)
        except (IndexError, struct.error):
            found = _ENDS_EARLY
        if not isinstance(found, str):
            return found
        if found and (found in self._passed_over or len(self._passed_over) < _MOST_KINDS):
            self._passed_over[found] += 1
        return None

    def _walk(self, packet: Packet) -> Segment | str:
        """From one header to the next; in the end the segment, or what was found instead.

        Each step goes forward in ``data``, or into a payload that was put together from fragments.
        """
        data, end = packet.data, packet.original_length
        kind, at = _behind_link_header(packet.link_type, data)
        if kind < 0:
            return f"link type {packet.link_type}"
        while True:
            if kind == _IPV4:  # RFC 791 3.1
                total, identification, fragment, proto = struct.unpack_from("!HHHxB", data, at + 2)
                size = (data[at] & 15) * 4
                if data[at] >> 4 != 4 or size < 20 or 0 < total < size:
                    return _DAMAGED
                if total:  # else it was captured before the card cut it up
                    end = min(end, at + total)
                addresses = data[at + 12 : at + 20]
                at += size
                if fragment & 0x3FFF:
                    key = addresses + struct.pack("!HB", identification, proto)
                    part = data[at:end] if end <= len(data) else b""
                    offset, more = (fragment & 0x1FFF) * 8, bool(fragment & 0x2000)
                    whole = self._fragments.add(key, offset, part, packet.time_ns, more=more)
                    if whole is None:
                        return _PART
                    data, at, end = whole, 0, len(whole)
            elif kind == _IPV6:  # RFC 8200 3
                if data[at] >> 4 != 6:
                    return _DAMAGED
                total, proto = struct.unpack_from("!HB", data, at + 4)
                if total:
                    end = min(end, at + 40 + total)
                addresses = data[at + 8 : at + 40]
                at += 40
                while proto in _EXTENSIONS:  # RFC 8200 4
                    if proto == _AUTHENTICATION:  # RFC 4302 2.2
                        proto, at = data[at], at + (data[at + 1] + 2) * 4
                    elif proto != _FRAGMENT:
                        proto, at = data[at], at + (data[at + 1] + 1) * 8
                    else:
                        proto, fragment = struct.unpack_from("!BxH", data, at)
                        key = addresses + data[at + 4 : at + 8]
                        at += 8
                        if fragment & 0xFFF9:  # else it is all there (RFC 6946)
                            part = data[at:end] if end <= len(data) else b""
                            offset, more = fragment & 0xFFF8, bool(fragment & 1)
                            whole = self._fragments.add(key, offset, part, packet.time_ns, more=more)
                            if whole is None:
                                return _PART
                            data, at, end = whole, 0, len(whole)
            elif kind in _VLANS:
                kind, at = _number(data, at + 2), at + 4
                continue
            elif kind in _MPLS:  # RFC 3032 2.1
                while not data[at + 2] & 1:
                    at += 4
                at += 4
                kind = _by_version(data, at)
                continue
            elif kind == _PPPOE:  # RFC 2516 4
                kind, at = _PPP.get(_number(data, at + 6), 0), at + 8
                continue
            elif kind == _ETHERNET:
                kind, at = _number(data, at + 12), at + 14
                continue
            elif 8 <= kind < 0x600 and data[at : at + 6] == b"\xaa\xaa\x03\0\0\0":  # a length, then SNAP (RFC 1042)
                kind, at = _number(data, at + 6), at + 8
                continue
            else:
                return "packets that are not IP"

            if proto == _TCP:
                if min(end, len(data)) - at < _LEAST_TCP:
                    return _ENDS_EARLY
                return addresses + data[at : at + 4], data, at, end
            if proto == _IPV4_INSIDE:
                kind = _IPV4
            elif proto == _IPV6_INSIDE:
                kind = _IPV6
            elif proto == _GRE and not data[at + 1] & 7:  # RFC 2784 2, RFC 2890 2
                flags = data[at]
                options = sum(bool(flags & flag) for flag in (0x80, 0x20, 0x10))
                kind, at = _number(data, at + 2), at + 4 + 4 * options
                # draft-foschiano-erspan-03 4: types I and II have one number, and only II a sequence number before it
                if kind == _ERSPAN2:
                    kind, at = _ETHERNET, at + 8 * bool(flags & 0x10)
                elif kind == _ERSPAN3:
                    kind, at = _ETHERNET, at + 12 + 8 * (data[at + 11] & 1)
            elif proto == _UDP and _number(data, at + 2) in _VXLAN_PORTS and data[at + 8] & 8:  # RFC 7348 5
                kind, at = _ETHERNET, at + 16
            elif proto == _UDP and _number(data, at + 2) == _GENEVE_PORT:  # RFC 8926 3.4
                kind, at = _number(data, at + 10), at + 16 + 4 * (data[at + 8] & 0x3F)
            else:
                return "IP packets that are not TCP"


def _behind_link_header(link_type: int, data: bytes) -> tuple[int, int]:
    """The EtherType of what comes first, and where; -1 where the link type is none that is read here."""
    if link_type == 1:
        return _ETHERNET, 0
    if link_type in _RAW:
        return _by_version(data, 0), 0
    if link_type == 113:
        return _number(data, 14), 16
    if link_type == 276:
        return _number(data, 0), 20
    if link_type in {9, 50}:  # RFC 1662 3.1, whose address and control may be left out; the second may be Cisco's
        if _number(data, 0) in _HDLC:
            return _number(data, 2), 4
        at = 2 if _number(data, 0) == 0xFF03 else 0
        return _PPP.get(_number(data, at), 0), at + 2
    if link_type == 51:
        return _PPPOE, 0
    if link_type == 104:
        return _number(data, 2), 4
    if link_type == 239:
        return _behind_nflog(data)
    if link_type in {0, 108}:  # the first in the order of the machine that captured, the second in the network's
        return _FAMILIES.get(max(data[0], data[3]) if not _number(data, 1) else 0, 0), 4
    return -1, 0


def _behind_nflog(data: bytes) -> tuple[int, int]:
    """Four bytes, then attributes in the order of the machine that captured; number 9 is the packet."""
    at = 4
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("<HH", data, at)
        if kind & 0x7FFF == 9:
            return _by_version(data, at + 4), at + 4
        at += max(4, size + (-size & 3))
    return 0, at


def _number(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def _by_version(data: bytes, at: int) -> int:
    """IPv4 and IPv6 tell themselves apart."""
    return {4: _IPV4, 6: _IPV6}.get(data[at] >> 4, 0)

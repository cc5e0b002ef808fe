from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from countersign.recorder.files.capture import Packet
from countersign.recorder.files.packets import Fragments, Pieces, Segment, SegmentFinder
from tests.peers.process import run
from tests.recorder.packet_makers import (
    ACK,
    C2S,
    ETHERNET,
    PSH,
    RAW,
    T0,
    V6,
    Ends,
    enhanced,
    ethernet,
    interface,
    ipv4,
    ipv6,
    section,
    tcp,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEGMENT4, SEGMENT6 = (tcp(ends, 1000, 2000, PSH | ACK, b"payload") for ends in (C2S, V6))
IP4, IP6 = ipv4(C2S, SEGMENT4), ipv6(V6, SEGMENT6)
SNAP = b"\xaa\xaa\x03\0\0\0"


def cooked(kind: int) -> bytes:
    return struct.pack("!HHH8sH", 0, 1, 6, b"\x02" + bytes(7), kind)


def cooked2(kind: int) -> bytes:
    return struct.pack("!HHIHBB8s", kind, 0, 1, 1, 0, 6, b"\x02" + bytes(7))


def extension(following: int, size: int = 8) -> bytes:
    return bytes([following, size // 8 - 1, 1, size - 4]) + bytes(size - 4)


TUNNEL: Ends = ("1.1.1.1", 0, "2.2.2.2", 0)


def udp(port: int, payload: bytes) -> bytes:
    return ipv4(TUNNEL, struct.pack("!HHHH", 40_000, port, 8 + len(payload), 0) + payload, proto=17)


WRAPPED: dict[str, tuple[int, bytes]] = {
    "Ethernet": (ETHERNET, ethernet(IP4)),
    "Ethernet, padded": (ETHERNET, ethernet(IP4) + bytes(40)),
    "Ethernet, IPv6": (ETHERNET, ethernet(IP6, 0x86DD)),
    "VLAN": (ETHERNET, ethernet(b"\0\x07\x08\0" + IP4, 0x8100)),
    "QinQ": (ETHERNET, ethernet(b"\0\x07\x81\0\0\x09\x86\xdd" + IP6, 0x88A8)),
    "MPLS": (ETHERNET, ethernet(b"\0\1\0\x40\0\1\1\x40" + IP4, 0x8847)),
    "MPLS, IPv6": (ETHERNET, ethernet(b"\0\1\1\x40" + IP6, 0x8847)),
    "PPPoE": (ETHERNET, ethernet(struct.pack("!BBHHH", 0x11, 0, 5, len(IP4) + 2, 0x21) + IP4, 0x8864)),
    "PPPoE, IPv6": (ETHERNET, ethernet(struct.pack("!BBHHH", 0x11, 0, 5, len(IP6) + 2, 0x57) + IP6, 0x8864)),
    "SNAP": (ETHERNET, ethernet(SNAP + b"\x08\0" + IP4, len(IP4) + 8)),
    "cooked": (113, cooked(0x0800) + IP4),
    "cooked, IPv6": (113, cooked(0x86DD) + IP6),
    "cooked, VLAN": (113, cooked(0x8100) + b"\0\x07\x08\0" + IP4),
    "cooked v2": (276, cooked2(0x0800) + IP4),
    "cooked v2, IPv6": (276, cooked2(0x86DD) + IP6),
    "raw": (RAW, IP4),
    "raw, IPv6": (RAW, IP6),
    "raw 12": (12, IP4),
    "raw 14": (14, IP6),
    "IPv4": (228, IP4),
    "IPv6": (229, IP6),
    "null, little-endian": (0, b"\2\0\0\0" + IP4),
    "null, big-endian": (0, b"\0\0\0\2" + IP4),
    "null, IPv6 of FreeBSD": (0, b"\x1c\0\0\0" + IP6),
    "null, IPv6 of macOS": (0, b"\x1e\0\0\0" + IP6),
    "loop": (108, b"\0\0\0\2" + IP4),
    "loop, IPv6": (108, b"\0\0\0\x18" + IP6),
    "IPv4 options": (RAW, ipv4(C2S, SEGMENT4, options=b"\x07\x04\x04\0" + bytes(8))),
    "IPv4, do not fragment": (RAW, ipv4(C2S, SEGMENT4, frag=0x4000)),
    "IPv4 without a length": (RAW, ipv4(C2S, SEGMENT4, total=0)),
    "IPv6 without a length": (RAW, ipv6(V6, SEGMENT6, total=0)),
    "IPv6 extensions": (RAW, ipv6(V6, extension(60) + extension(43, 16) + extension(6) + SEGMENT6, proto=0)),
    "IPv6, whole fragment": (RAW, ipv6(V6, b"\6\0\0\0\0\0\0\1" + SEGMENT6, proto=44)),
    "IPv6, AH": (RAW, ipv6(V6, b"\6\4" + bytes(22) + SEGMENT6, proto=51)),
    "IPv4 in IPv4": (RAW, ipv4(TUNNEL, IP4, proto=4)),
    "IPv6 in IPv4": (RAW, ipv4(TUNNEL, IP6, proto=41)),
    "IPv4 in IPv6": (RAW, ipv6(V6, IP4, proto=4)),
    "GRE": (RAW, ipv4(TUNNEL, b"\0\0\x08\0" + IP4, proto=47)),
    "GRE with all options": (RAW, ipv4(TUNNEL, b"\xb0\0\x86\xdd" + bytes(12) + IP6, proto=47)),
    "PPP": (9, b"\0\x21" + IP4),
    "PPP, address and control": (9, b"\xff\x03\0\x57" + IP6),
    "PPP in HDLC": (50, b"\xff\x03\0\x21" + IP4),
    "Cisco's HDLC in PPP's": (50, b"\x0f\0\x08\0" + IP4),
    "PPPoE alone": (51, struct.pack("!BBHHH", 0x11, 0, 5, len(IP4) + 2, 0x21) + IP4),
    "Cisco's HDLC": (104, b"\x0f\0\x86\xdd" + IP6),
    "NFLOG": (239, b"\2\0\0\5" + struct.pack("<HHHxx", 6, 5, 7) + struct.pack("<HH", 4 + len(IP4), 9) + IP4),
    "VXLAN": (RAW, udp(4789, b"\x08\0\0\0\0\0\7\0" + ethernet(IP4))),
    "VXLAN, VLAN, IPv6": (RAW, udp(4789, b"\x08\0\0\0\0\0\7\0" + ethernet(b"\0\7\x86\xdd" + IP6, 0x8100))),
    "Geneve": (RAW, udp(6081, b"\2\0\x65\x58\0\0\7\0" + bytes(8) + ethernet(IP4))),
    "Geneve, IPv6": (RAW, udp(6081, b"\0\0\x86\xdd\0\0\7\0" + IP6)),
    "ERSPAN I": (RAW, ipv4(TUNNEL, b"\0\0\x88\xbe" + ethernet(IP4), proto=47)),
    "ERSPAN II": (RAW, ipv4(TUNNEL, b"\x10\0\x88\xbe" + bytes(4) + b"\x10" + bytes(7) + ethernet(IP4), proto=47)),
    "ERSPAN III": (
        RAW,
        ipv4(TUNNEL, b"\x10\0\x22\xeb" + bytes(4) + b"\x20" + bytes(11) + ethernet(IP6, 0x86DD), proto=47),
    ),
    "GRE, Ethernet": (RAW, ipv4(TUNNEL, b"\0\0\x65\x58" + ethernet(IP4), proto=47)),
}


def packet(link: int, data: bytes, *, original: int | None = None, t: int = T0) -> Packet:
    return Packet(t, link, data, len(data) if original is None else original, None)


def key(ends: Ends) -> bytes:
    addresses = IP4[12:20] if ends is C2S else IP6[8:40]
    return addresses + struct.pack("!HH", ends[1], ends[3])


def text(found: Segment | None) -> tuple[bytes, bytes] | None:
    """Who to whom, and the segment; None where it is not all there."""
    if found is None:
        return None
    who, data, at, stop = found
    return who, data[at:stop]


@pytest.mark.parametrize("name", WRAPPED)
def test_the_segment_is_found_in(name: str) -> None:
    link, data = WRAPPED[name]
    finder = SegmentFinder()
    assert text(finder.find(packet(link, data))) in {(key(C2S), SEGMENT4), (key(V6), SEGMENT6)}
    assert not finder.passed_over


@pytest.mark.parametrize("name", WRAPPED)
def test_a_packet_cut_anywhere_is_no_error_and_its_segment_keeps_its_length(name: str) -> None:
    link, data = WRAPPED[name]
    finder = SegmentFinder()
    found = 0
    for cut in range(len(data)):
        segment = finder.find(packet(link, data[:cut], original=len(data)))
        if segment is not None:
            found += 1
            assert segment[3] - segment[2] == 27
    assert found in {7, 7 + 40}
    assert sum(finder.passed_over.values()) == len(data) - found


@pytest.mark.peer("tshark")
def test_tshark_finds_the_same_segments(tmp_path: Path) -> None:
    file = section()
    links = sorted({link for link, _ in WRAPPED.values()} - {12, 14})  # which mean something else to Wireshark
    file += b"".join(map(interface, links))
    names = [name for name, (link, _) in WRAPPED.items() if link in links and name != "IPv6 without a length"]
    file += b"".join(enhanced(WRAPPED[name][1], number=links.index(WRAPPED[name][0])) for name in names)
    (tmp_path / "all").write_bytes(file)
    fields = ("-T", "fields", "-e", "tcp.srcport", "-e", "tcp.payload")
    done = run("tshark", "-n", "-r", tmp_path / "all", "-o", "ip.tso_support:TRUE", *fields).check()
    lines = dict(zip(names, done.stdout.splitlines(), strict=True))
    assert {name: line for name, line in lines.items() if line != f"50000\t{b'payload'.hex()}"} == {}


@pytest.mark.parametrize(
    ("link", "data", "kind"),
    [
        (105, bytes(60), "link type 105"),
        (ETHERNET, ethernet(bytes(40), 0x0806), "packets that are not IP"),
        (0, b"\x07\0\0\0" + bytes(40), "packets that are not IP"),
        (RAW, bytes(40), "packets that are not IP"),
        (RAW, ipv4(C2S, bytes(40), proto=17), "IP packets that are not TCP"),
        (RAW, ipv6(V6, bytes(40), proto=58), "IP packets that are not TCP"),
        (RAW, ipv4(C2S, b"\0\1\x88\x0b" + bytes(40), proto=47), "IP packets that are not TCP"),
        (RAW, ipv4(C2S, SEGMENT4[:19]), "packets that end in a header"),
        (RAW, ipv4(C2S, SEGMENT4, total=39), "packets that end in a header"),
        (RAW, b"", "packets that end in a header"),
        (ETHERNET, ethernet(b""), "packets that end in a header"),
        (RAW, ipv6(V6, bytes(4), proto=0), "packets that end in a header"),
        (RAW, b"\x44" + IP4[1:], "packets with a damaged IP header"),
        (RAW, ipv4(C2S, SEGMENT4, total=19), "packets with a damaged IP header"),
        (ETHERNET, ethernet(IP6, 0x0800), "packets with a damaged IP header"),
        (ETHERNET, ethernet(IP4, 0x86DD), "packets with a damaged IP header"),
    ],
)
def test_what_has_no_segment_is_counted_by_its_kind(link: int, data: bytes, kind: str) -> None:
    finder = SegmentFinder()
    assert finder.find(packet(link, data)) is None
    assert finder.passed_over == {kind: 1}


def test_a_length_beyond_the_packet_is_not_believed() -> None:
    assert text(SegmentFinder().find(packet(RAW, ipv4(C2S, SEGMENT4, total=5000)))) == (key(C2S), SEGMENT4)
    assert text(SegmentFinder().find(packet(ETHERNET, ethernet(ipv4(C2S, SEGMENT4, total=5000))))) is not None


def test_kinds_of_what_is_passed_over_are_bounded() -> None:
    finder = SegmentFinder()
    for link in range(1000, 3000):
        finder.find(packet(link, b""))
    assert len(finder.passed_over) == 64


@given(st.sampled_from([0, 1, 9, 12, 50, 51, 101, 104, 108, 113, 239, 276]), st.binary(max_size=120))
def test_no_bytes_raise(link: int, data: bytes) -> None:
    SegmentFinder().find(packet(link, data))


@given(st.sampled_from(sorted(WRAPPED)), st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=5))
def test_no_damaged_header_raises(name: str, changes: list[tuple[int, int]]) -> None:
    link, whole = WRAPPED[name]
    data = bytearray(whole)
    for at, value in changes:
        data[at % len(data)] = value
    SegmentFinder().find(packet(link, bytes(data)))


# -- fragments ---------------------------------------------------------------------------------------------------


def fragments4(segment: bytes, size: int, *, ident: int = 7) -> list[bytes]:
    starts = range(0, len(segment), size)
    return [
        ipv4(C2S, segment[at : at + size], ident=ident, frag=at // 8 | (0x2000 if at + size < len(segment) else 0))
        for at in starts
    ]


def fragments6(segment: bytes, size: int, *, ident: int = 7) -> list[bytes]:
    return [
        ipv6(
            V6,
            struct.pack("!BBHI", 6, 0, at | (at + size < len(segment)), ident) + segment[at : at + size],
            proto=44,
        )
        for at in range(0, len(segment), size)
    ]


LONG4, LONG6 = (tcp(ends, 1, 1, ACK, bytes(range(256)) * 8) for ends in (C2S, V6))


@given(data=st.data(), size=st.sampled_from([8, 16, 512, 1480]), v6=st.booleans())
def test_fragments_in_any_order_and_twice_give_the_packet_once(*, data: st.DataObject, size: int, v6: bool) -> None:
    pieces = fragments6(LONG6, size) if v6 else fragments4(LONG4, size)
    order = data.draw(st.permutations(pieces))
    twice = data.draw(st.lists(st.sampled_from(pieces), max_size=3))
    finder = SegmentFinder()
    found = [text(finder.find(packet(RAW, piece))) for piece in [*order, *twice]]
    assert [segment for segment in found if segment] == [(key(V6), LONG6) if v6 else (key(C2S), LONG4)]


def test_packets_whose_fragments_mix_are_kept_apart() -> None:
    other = LONG4[:20] + LONG4[20:][::-1]
    finder = SegmentFinder()
    mixed = [p for pair in zip(fragments4(LONG4, 800), fragments4(other, 800, ident=8), strict=True) for p in pair]
    found = [text(finder.find(packet(RAW, piece))) for piece in mixed]
    assert [segment for segment in found if segment] == [(key(C2S), LONG4), (key(C2S), other)]


def test_where_fragments_overlap_the_first_byte_stays() -> None:
    first = ipv4(C2S, LONG4[:800], ident=7, frag=0x2000)
    forged = ipv4(C2S, bytes(1200), ident=7, frag=0x2000 | 400 // 8)
    last = ipv4(C2S, LONG4[1600:], ident=7, frag=1600 // 8)
    finder = SegmentFinder()
    assert [finder.find(packet(RAW, piece)) for piece in (first, forged)] == [None, None]
    assert text(finder.find(packet(RAW, last))) == (key(C2S), LONG4[:800] + bytes(800) + LONG4[1600:])


def test_the_same_number_is_another_packet_later() -> None:
    finder = SegmentFinder()
    for t in (T0, T0 + 2 * 10**9):  # put together both times, though the first may still be echoed
        found = [finder.find(packet(RAW, piece, t=t)) for piece in fragments4(LONG4, 800)]
        assert text(found[-1]) == (key(C2S), LONG4)
    one, two, three = fragments4(LONG4, 800)
    assert finder.find(packet(RAW, one, t=T0 + 10 * 10**9)) is None
    assert finder.find(packet(RAW, two, t=T0 + 50 * 10**9)) is None
    assert finder.find(packet(RAW, three, t=T0 + 50 * 10**9)) is None  # the first one is too old


@pytest.mark.parametrize(("offset", "data", "more"), [(65528, bytes(16), False), (0, bytes(9), True), (8, b"", False)])
def test_fragments_that_cannot_be_are_dropped(*, offset: int, data: bytes, more: bool) -> None:
    fragments = Fragments()
    assert fragments.add(b"key", offset, data, T0, more=more) is None
    assert (fragments._waiting, fragments._cost) == ({}, 0)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("make", [fragments4, fragments6])
def test_a_fragment_that_was_cut_when_captured_is_a_missing_segment(
    make: Callable[[bytes, int], list[bytes]], which: int
) -> None:
    finder = SegmentFinder()
    for n, piece in enumerate(make(LONG4 if make is fragments4 else LONG6, 800)):
        assert finder.find(packet(RAW, piece[:88] if n == which else piece, original=len(piece))) is None


def test_fragments_count_as_passed_over_as_long_as_their_packet_is_not_whole() -> None:
    kind = "fragments of IP packets that are not whole"
    finder = SegmentFinder()
    one, two, three = fragments4(LONG4, 800)
    for piece, count in ((one, 1), (three, 2), (two, 0), (two, 0)):
        finder.find(packet(RAW, piece))
        assert finder.passed_over[kind] == count
    finder.find(packet(RAW, one, t=T0 + 100 * 10**9))
    finder.find(packet(RAW, two, t=T0 + 200 * 10**9))
    assert finder.passed_over == {kind: 2}


def test_fragments_without_end_stay_within_their_bounds() -> None:
    fragments = Fragments(max_bytes=100_000, max_packets=50)
    for n in range(3000):
        fragments.add(b"%d" % (n % 100), 8 * (n * 7 % 4000), bytes(1400), T0 + n, more=True)
        assert fragments._cost <= 100_000 + 65536
        assert len(fragments._waiting) <= 51
    assert fragments._cost == sum(datagram.cost for datagram in fragments._waiting.values())


# -- pieces ------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 40), st.binary(max_size=12), st.integers(0, 4)), max_size=12))
def test_pieces_are_what_byte_by_byte_the_first_ones_say(adds: list[tuple[int, bytes, int]]) -> None:
    pieces, bytewise = Pieces(), dict[int, int | None]()
    for start, data, missing in adds:
        stop = start + len(data) + missing
        agrees = True
        for n in range(start, stop):
            value = data[n - start] if n < start + len(data) else None
            known = bytewise.setdefault(n, value)
            agrees &= value is None or known is None or value == known
        assert pieces.add(start, stop, data) is agrees
    flat: dict[int, int | None] = {}
    for start, stop, data in pieces.parts:
        for n in range(start, stop):
            assert n not in flat
            flat[n] = data[n - start] if n < start + len(data) else None
    assert flat == bytewise
    assert pieces.size == sum(len(data) for _, _, data in pieces.parts)
    assert pieces.parts == sorted(pieces.parts)


def test_many_pieces_under_one_become_one() -> None:
    pieces = Pieces()
    for n in range(100):
        pieces.add(n * 10, n * 10 + 5, b"first")
    assert not pieces.add(0, 1000, b"x" * 1000)
    assert pieces.parts == [(0, 1000, b"firstxxxxx" * 100)]
    assert pieces.take(0) == [(0, 1000, b"firstxxxxx" * 100)]
    assert (pieces.size, pieces.parts) == (0, [])

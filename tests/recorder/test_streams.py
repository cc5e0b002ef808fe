from __future__ import annotations

import itertools
import random
import re
import socket
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from countersign.recorder.files.capture import Packet, read_capture
from countersign.recorder.files.streams import Closed, Data, Endpoint, Event, Gap, Noted, Opened, Reassembler
from tests.peers.process import run
from tests.recorder.packet_makers import (
    ACK,
    C2S,
    ETHERNET,
    FIN,
    PSH,
    RAW,
    RST,
    SYN,
    T0,
    V6,
    Ends,
    back,
    ethernet,
    ipv4,
    ipv6,
    pcap,
    tcp,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

ISN_C, ISN_S = 1000, 5000
SECOND = 10**9


class Talk:
    """Packets of one TCP connection; each method gives raw IP. ``at`` is where in the sender's stream, from 0."""

    def __init__(self, ends: Ends = C2S, *, client: int = ISN_C, server: int = ISN_S) -> None:
        self.ends = ends
        self.isn = (client, server)

    def segment(
        self,
        sender: int,
        at: int,
        data: bytes = b"",
        *,
        flags: int = PSH | ACK,
        acked: int = 0,
        total: int | None = None,
    ) -> bytes:
        ends = back(self.ends) if sender else self.ends
        ack = self.isn[1 - sender] + 1 + acked if flags & ACK else 0
        packed = tcp(ends, self.isn[sender] + 1 + at, ack, flags, data)
        return ipv6(ends, packed, total=total) if ":" in ends[0] else ipv4(ends, packed, total=total)

    def c(self, at: int, data: bytes = b"", *, flags: int = PSH | ACK, acked: int = 0) -> bytes:
        return self.segment(0, at, data, flags=flags, acked=acked)

    def s(self, at: int, data: bytes = b"", *, flags: int = PSH | ACK, acked: int = 0) -> bytes:
        return self.segment(1, at, data, flags=flags, acked=acked)

    def syn(self) -> bytes:
        return self.c(-1, flags=SYN)

    def syn_ack(self) -> bytes:
        return self.s(-1, flags=SYN | ACK)

    def open(self) -> list[bytes]:
        return [self.syn(), self.syn_ack(), self.c(0, flags=ACK)]

    def fins(self, at_c: int, at_s: int) -> list[bytes]:
        return [
            self.c(at_c, flags=FIN | ACK, acked=at_s),
            self.s(at_s, flags=FIN | ACK, acked=at_c + 1),
            self.c(at_c + 1, flags=ACK, acked=at_s + 1),
        ]


TALK = Talk()


def at_ms(packets: Iterable[bytes], *, link: int = RAW) -> list[Packet]:
    """The first at T0, the others each a millisecond later."""
    return [Packet(T0 + n * 10**6, link, data, len(data), None) for n, data in enumerate(packets)]


def followed(packets: Iterable[Packet], reassembler: Reassembler | None = None) -> list[Event]:
    reassembler = reassembler or Reassembler()
    return [*itertools.chain.from_iterable(map(reassembler.packet, packets)), *reassembler.finish()]


def short(events: Iterable[Event]) -> list[str]:
    """Events in a line each: conversation, sender, what. The end of the capture is left out."""
    lines = []
    for event in events:
        side = "<" if isinstance(event, Data | Gap | Noted) and not event.from_initiator else ">"
        match event:
            case Opened():
                what = f"{event.initiator.port} to {event.responder.port}{' (midstream)' if event.midstream else ''}"
                lines.append(f"{event.conversation} open {what}")
            case Data():
                lines.append(f"{event.conversation} {side} {event.data.decode('latin-1')}")
            case Gap():
                lines.append(f"{event.conversation} {side} gap {event.missing}")
            case Noted():
                lines.append(f"{event.conversation} {side} note: {event.text}")
            case Closed(how="stopped"):
                pass
            case Closed():
                who = {True: ">", False: "<", None: "-"}[event.from_initiator]
                by = {True: " by >", False: " by <", None: ""}[event.reset_by_initiator]
                lines.append(f"{event.conversation} {who} {event.how}{by}")
    return lines


def said(*packets: bytes) -> list[str]:
    """Of a conversation that was opened, what comes after that."""
    lines = short(followed(at_ms([*TALK.open(), *packets])))
    assert lines[0] == "1 open 50000 to 443"
    return lines[1:]


def streams(events: Iterable[Event], number: int = 1) -> tuple[bytes, bytes]:
    """What initiator and responder said, gaps as ``[n]``."""
    out = (bytearray(), bytearray())
    for event in events:
        if isinstance(event, Data) and event.conversation == number:
            out[not event.from_initiator].extend(event.data)
        elif isinstance(event, Gap) and event.conversation == number:
            out[not event.from_initiator].extend(b"[%d]" % event.missing)
    return bytes(out[0]), bytes(out[1])


# -- in order ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [C2S, V6])
def test_a_plain_conversation_is_told_with_its_times(ends: Ends) -> None:
    talk = Talk(ends)
    packets = [*talk.open(), talk.c(0, b"question"), talk.s(0, b"answer", acked=8), *talk.fins(8, 6)]
    assert followed(at_ms(packets)) == [
        Opened(1, T0, Endpoint(ends[0], 50000), Endpoint(ends[2], 443), midstream=False),
        Data(1, T0 + 3 * 10**6, from_initiator=True, data=b"question"),
        Data(1, T0 + 4 * 10**6, from_initiator=False, data=b"answer"),
        Closed(1, T0 + 5 * 10**6, from_initiator=True, how="fin"),
        Closed(1, T0 + 6 * 10**6, from_initiator=False, how="fin"),
    ]


def test_what_is_open_at_the_end_of_the_capture_is_stopped() -> None:
    last = T0 + 4 * 10**6
    events = followed(at_ms([*TALK.open(), TALK.c(0, b"hi"), TALK.c(2, flags=FIN | ACK)]))
    assert events[-2:] == [
        Closed(1, last, from_initiator=True, how="fin"),
        Closed(1, last, from_initiator=None, how="stopped"),
    ]


def test_a_reassembler_that_saw_nothing_says_nothing() -> None:
    assert followed([]) == []
    assert followed(at_ms([b"", bytes(40)])) == []


def test_padding_behind_the_packet_is_no_data() -> None:
    frames = [ethernet(packet) + bytes(6) for packet in [*TALK.open(), TALK.c(0, flags=ACK), TALK.c(0, b"a")]]
    assert short(followed(at_ms(frames, link=ETHERNET)))[1:] == ["1 > a"]


def test_segments_that_the_card_would_have_cut_up_are_whole() -> None:
    large = random.Random(1).randbytes(64_000)
    packets = [*TALK.open(), TALK.segment(0, 0, large, total=0), TALK.segment(0, 64_000, large, total=0)]
    assert streams(followed(at_ms(packets)))[0] == large * 2


def test_packets_that_are_no_tcp_are_counted() -> None:
    reassembler = Reassembler()
    followed([*at_ms([bytes(60)], link=105), *at_ms([ipv4(C2S, b"", proto=1)])], reassembler)
    assert reassembler.passed_over == {"link type 105": 1, "IP packets that are not TCP": 1}


def test_a_tcp_header_shorter_than_it_can_be_is_passed_over() -> None:
    damaged = bytearray(TALK.c(0, b"data"))
    damaged[32] = 0x40
    assert said(bytes(damaged)) == []


# -- who began ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "line"),
    [
        (50000, 443, "1 open 50000 to 443 (midstream)"),
        (443, 50000, "1 open 50000 to 443 (midstream)"),
        (8443, 80, "1 open 80 to 8443 (midstream)"),
        (60000, 9999, "1 open 60000 to 9999 (midstream)"),
        (9999, 60000, "1 open 60000 to 9999 (midstream)"),
        (443, 8443, "1 open 8443 to 443 (midstream)"),
        (7, 7, "1 open 7 to 7 (midstream)"),
    ],
)
def test_without_a_syn_the_better_known_or_lower_port_is_the_responder(source: int, target: int, line: str) -> None:
    talk = Talk(("10.0.0.1", source, "10.0.0.2", target))
    assert short(followed(at_ms([talk.c(500, b"middle")])))[0] == line


def test_a_capture_that_begins_in_the_middle_goes_on_from_there() -> None:
    packets = [TALK.s(100, b"fast", acked=50), TALK.c(50, b"ack", acked=20), TALK.s(104, b" flow"), TALK.c(53, b"!")]
    assert short(followed(at_ms(packets)))[1:] == ["1 < fast", "1 > ack", "1 <  flow", "1 > !"]


def test_a_syn_ack_tells_who_began() -> None:
    packets = [TALK.syn_ack(), TALK.c(3, b"lo"), TALK.c(0, b"hel")]
    assert short(followed(at_ms(packets))) == ["1 open 50000 to 443", "1 > hel", "1 > lo"]


def test_a_syn_ack_that_was_not_captured_is_no_loss() -> None:
    packets = [TALK.syn(), TALK.c(0, flags=ACK), TALK.s(3, b"lo"), TALK.s(0, b"hel")]
    assert short(followed(at_ms(packets)))[1:] == ["1 < hel", "1 < lo"]


@pytest.mark.parametrize(
    "packet",
    [
        TALK.c(0, flags=ACK),
        TALK.c(0, flags=FIN | ACK),
        TALK.s(0, flags=RST),
        TALK.c(0, b"x"),
    ],
    ids=["ACK", "FIN", "RST", "one byte"],
)
def test_what_may_be_the_last_of_an_older_conversation_opens_none(packet: bytes) -> None:
    assert followed(at_ms([packet])) == []


def test_data_in_the_syn_counts() -> None:
    packets = [TALK.c(-1, b"early", flags=SYN), TALK.s(-1, flags=SYN | ACK, acked=5), TALK.c(5, b" late")]
    shifted = tcp(C2S, ISN_C, 0, SYN, b"early")
    packets[0] = ipv4(C2S, shifted)
    assert short(followed(at_ms(packets)))[1:] == ["1 > early", "1 >  late"]


def test_data_in_the_syn_that_was_not_taken_is_sent_again_and_counts_once() -> None:
    packets = [ipv4(C2S, tcp(C2S, ISN_C, 0, SYN, b"early")), TALK.syn_ack(), TALK.c(0, b"early and late")]
    assert short(followed(at_ms(packets)))[1:] == ["1 > early", "1 >  and late"]


def test_a_simultaneous_opening_is_one_conversation() -> None:
    packets = [TALK.syn(), TALK.s(-1, flags=SYN), TALK.c(-1, flags=SYN | ACK), TALK.s(-1, flags=SYN | ACK)]
    packets += [TALK.s(0, b"me"), TALK.c(0, b"too")]
    assert short(followed(at_ms(packets))) == ["1 open 50000 to 443", "1 < me", "1 > too"]


# -- out of order, twice, overlapping ----------------------------------------------------------------------------


def test_a_retransmission_counts_once() -> None:
    assert said(TALK.c(0, b"abc"), TALK.c(0, b"abc"), TALK.c(3, b"def"), TALK.c(0, b"abcdef")) == ["1 > abc", "1 > def"]


def test_of_a_longer_retransmission_the_new_part_counts() -> None:
    assert said(TALK.c(0, b"abc"), TALK.c(1, b"bcde")) == ["1 > abc", "1 > de"]


def test_what_is_out_of_order_waits_and_has_the_time_of_what_it_waited_for() -> None:
    events = followed(at_ms([*TALK.open(), TALK.c(3, b"two"), TALK.s(0, b"between"), TALK.c(0, b"one")]))
    assert short(events)[1:] == ["1 < between", "1 > one", "1 > two"]
    assert [event.t_ns - T0 for event in events[1:4]] == [4 * 10**6, 5 * 10**6, 5 * 10**6]


def test_numbers_that_begin_anew_are_no_gap() -> None:
    talk = Talk(client=0xFFFFFFFD, server=0xFFFFFFFF)
    packets = [*talk.open(), talk.c(6, b"gh"), talk.s(0, b"ok"), talk.c(0, b"abc"), talk.c(3, b"def"), talk.c(1, b"bc")]
    assert short(followed(at_ms(packets)))[1:] == ["1 < ok", "1 > abc", "1 > def", "1 > gh"]


@pytest.mark.parametrize(
    "again", [TALK.c(0, b"FORGED"), TALK.c(1, b"EAL"), TALK.c(3, b"L more"), TALK.c(0, b"FORGED and more")]
)
def test_bytes_sent_twice_that_differ_are_noted_and_the_first_stand(again: bytes) -> None:
    lines = said(TALK.c(0, b"real 1"), again, TALK.s(0, b"ok"), TALK.c(0, b"FORGED"))
    assert lines[:2] == ["1 > real 1", "1 > note: bytes sent twice differ; the first ones stand"]
    assert "".join(lines).count("note") == 1
    assert "FORGED" not in "".join(lines)


def test_a_forgery_is_noticed_behind_later_segments() -> None:
    lines = said(TALK.c(0, b"abc"), TALK.c(3, b"def"), TALK.s(0, b"ok"), TALK.c(0, b"Xbc"))
    assert lines[3:] == ["1 > note: bytes sent twice differ; the first ones stand"]


def test_bytes_that_wait_and_differ_are_noted_and_the_first_stand() -> None:
    packets = [TALK.c(2, b"real"), TALK.c(1, b"xFORGEDx"), TALK.c(0, b"a")]
    assert said(*packets) == ["1 > note: bytes sent twice differ; the first ones stand", "1 > a", "1 > xrealEDx"]


def test_a_keep_alive_is_no_data_whatever_its_byte() -> None:
    packets = [TALK.c(0, b"abc"), TALK.c(2, b"\0"), TALK.c(2, b"?"), TALK.c(2), TALK.c(3, b"def")]
    assert said(*packets) == ["1 > abc", "1 > def"]
    ended = [TALK.c(0, b"abc"), TALK.c(3, flags=FIN | ACK), TALK.c(3, b"\0"), TALK.s(0, b"ok")]
    assert said(*ended) == ["1 > abc", "1 > fin", "1 < ok"]


def test_a_probe_of_a_zero_window_is_data_once() -> None:
    assert said(TALK.c(0, b"a"), TALK.c(1, b"b"), TALK.c(1, b"b"), TALK.c(1, b"bc")) == ["1 > a", "1 > b", "1 > c"]


def cut_up(data: st.DataObject, whole: bytes, sender: int) -> list[tuple[int, int, bytes]]:
    """Segments that cover it, and some more that repeat parts of it."""
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(whole) - 1)), max_size=12)) | {0, len(whole)})
    parts = list(itertools.pairwise(cuts))
    spans = st.tuples(st.integers(0, len(whole)), st.integers(0, len(whole))).map(lambda span: (min(span), max(span)))
    parts += data.draw(st.lists(spans, max_size=8))
    return [(sender, begin, whole[begin:end]) for begin, end in parts]


@given(
    st.data(),
    st.binary(min_size=2, max_size=60),
    st.binary(min_size=2, max_size=60),
    st.sampled_from([0, 1000, 0x7FFFFFF0, 0xFFFFFFE0, 0xFFFFFFFF]),
)
def test_any_order_and_overlap_gives_the_two_streams(
    data: st.DataObject, client: bytes, server: bytes, isn: int
) -> None:
    talk = Talk(client=isn, server=isn ^ 0x80000000)
    segments = [*cut_up(data, client, 0), *cut_up(data, server, 1)]
    order = data.draw(st.permutations([*segments, (0, len(client), None), (1, len(server), None)]))
    packets = [
        talk.segment(sender, at, part or b"", flags=FIN | ACK if part is None else PSH | ACK)
        for sender, at, part in order
    ]
    events = followed(at_ms([*talk.open(), *packets]))
    assert streams(events) == (client, server)
    ends = short(event for event in events if not isinstance(event, Data))[1:]
    assert sorted(ends) == ["1 < fin", "1 > fin"]


def place_of(events: Iterable[Event], whole: bytes, *, from_initiator: bool) -> int:
    """How far it goes, gaps counted; each byte is the one that was sent."""
    place = 0
    for event in events:
        if isinstance(event, Data) and event.from_initiator is from_initiator:
            assert event.data == whole[place : place + len(event.data)]
            place += len(event.data)
        elif isinstance(event, Gap) and event.from_initiator is from_initiator:
            place += event.missing
    return place


@given(st.data(), st.integers(1, 40))
def test_with_any_loss_and_any_acknowledgement_every_byte_is_at_its_place(data: st.DataObject, size: int) -> None:
    whole = bytes(range(size))
    segments = cut_up(data, whole, 0)
    chosen = data.draw(st.lists(st.sampled_from(segments), max_size=20))
    packets = TALK.open()
    for _, at, part in chosen:
        packets.append(TALK.c(at, part))
        packets += [TALK.s(0, acked=data.draw(st.integers(0, size + 1)))] * data.draw(st.integers(0, 5))
    if data.draw(st.booleans()):
        packets += TALK.fins(size, 0)
    events = followed(at_ms(packets))
    assert not [event for event in events if isinstance(event, Noted)]
    assert place_of(events, whole, from_initiator=True) <= size + 1  # it may have been a FIN that was acknowledged


@given(st.data())
def test_a_capture_with_all_packets_twice_says_the_same(data: st.DataObject) -> None:
    packets = at_ms([*TALK.open(), TALK.c(0, b"abc"), TALK.s(0, b"xyz"), TALK.c(3, b"def"), *TALK.fins(6, 3)])
    delay = data.draw(st.integers(0, 2))
    twice = [p for n in range(len(packets) + delay) for p in (packets[n : n + 1] + packets[max(0, n - delay) :][:1])]
    assert short(followed(twice)) == short(followed(packets))


# -- what the capture does not hold ------------------------------------------------------------------------------


def test_a_hole_that_the_receiver_does_not_have_is_a_gap_after_several_acknowledgements() -> None:
    packets = [TALK.c(0, b"abc"), TALK.c(5, b"fgh"), TALK.s(0, b"1", acked=8), TALK.s(1, b"2", acked=8)]
    packets += [TALK.s(2, b"3", acked=8), TALK.s(3, b"4", acked=8), TALK.s(4, b"5", acked=8), TALK.c(8, b"ijk")]
    lines = ["1 > abc", "1 < 1", "1 < 2", "1 < 3", "1 < 4", "1 > gap 2", "1 > fgh", "1 < 5", "1 > ijk"]
    assert said(*packets) == lines


def test_an_acknowledgement_that_overtook_the_data_makes_no_gap() -> None:
    assert said(TALK.c(3, b"def"), TALK.s(0, b"ok", acked=6), TALK.c(0, b"abc")) == ["1 < ok", "1 > abc", "1 > def"]


def test_a_hole_that_nobody_acknowledged_is_waited_for() -> None:
    answers = [TALK.s(n, b"x", acked=2) for n in range(20)]
    assert said(TALK.c(3, b"def"), *answers, TALK.c(0, b"abc"))[-2:] == ["1 > abc", "1 > def"]


def test_holes_that_are_left_at_the_end_are_gaps() -> None:
    packets = [TALK.c(2, b"cd"), TALK.c(6, b"gh"), TALK.c(10, flags=FIN | ACK)]
    assert said(*packets) == ["1 > gap 2", "1 > cd", "1 > gap 2", "1 > gh", "1 > gap 2", "1 > fin"]


def test_a_missing_end_that_was_acknowledged_is_a_gap_before_the_fin() -> None:
    packets = [TALK.c(0, b"ab"), TALK.c(4, flags=FIN | ACK), *[TALK.s(n, b"x", acked=5) for n in range(4)]]
    assert said(*packets)[-2:] == ["1 > gap 2", "1 > fin"]


def test_bytes_that_were_acknowledged_and_never_came_are_a_gap_at_the_end() -> None:
    tail = [*TALK.open(), TALK.s(0, b"ab"), TALK.c(0, flags=ACK, acked=2), TALK.c(0, flags=ACK, acked=9)]
    assert said(*tail)[-2:] == ["1 < ab", "1 < gap 6"]
    fin_alone = [*TALK.open(), TALK.s(0, b"ab"), TALK.c(0, flags=ACK, acked=3)]
    assert said(*fin_alone)[-1] == "1 < ab"


def test_a_side_of_which_the_capture_has_nothing_is_one_gap() -> None:
    """As with a mirror of one direction, from the beginning and from the middle."""
    sent = [TALK.c(0, b"hello", acked=0), TALK.c(5, b"!", acked=4000), TALK.c(6, flags=FIN | ACK, acked=5000)]
    assert said(TALK.syn(), TALK.c(0, flags=ACK), *sent)[-2:] == ["1 > fin", "1 < gap 4999"]
    assert said(*sent)[-1] == "1 < gap 4999"
    assert said(TALK.syn(), TALK.c(0, flags=ACK), TALK.c(0, b"hello"))[-1] == "1 > hello"


def test_no_more_than_its_bound_waits_behind_a_hole() -> None:
    reassembler = Reassembler(max_buffered=10_000)
    followed_on: list[Event] = []
    for packet in at_ms([*TALK.open(), *(TALK.c(1 + n * 1000, bytes(1000)) for n in range(30))]):
        followed_on += reassembler.packet(packet)
        assert reassembler._buffered <= 10_000
    assert sum(isinstance(event, Gap) for event in followed_on) == 1
    assert sum(len(event.data) for event in followed_on if isinstance(event, Data)) == 30_000


def test_of_all_that_waits_the_oldest_is_given_up_first() -> None:
    reassembler = Reassembler(max_buffered=10_000)
    talks = [Talk(("10.0.0.1", 50_000 + n, "10.0.0.2", 443)) for n in range(20)]
    events: list[Event] = []
    for talk in talks:
        for packet in at_ms([*talk.open(), talk.c(1, bytes(7000))]):
            events += reassembler.packet(packet)
        assert reassembler._buffered <= 80_000
    assert [event.conversation for event in events if isinstance(event, Gap)] == list(range(1, 11))
    list(reassembler.finish())
    assert (reassembler._buffered, reassembler._waiting) == (0, {})


def test_tiny_segments_behind_a_hole_cost_more_than_their_bytes() -> None:
    reassembler = Reassembler(max_buffered=100_000)
    tracemalloc.start()
    try:
        for packet in at_ms([*TALK.open(), *(TALK.c(1 + 2 * n, b"x") for n in range(6000))]):
            list(reassembler.packet(packet))
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert size < 4 << 20  # of which the packets here are most


def test_what_waits_twice_costs_once() -> None:
    reassembler = Reassembler(max_buffered=10_000)
    events: list[Event] = []
    for packet in at_ms([*TALK.open(), *[TALK.c(1, bytes(5000))] * 100]):
        events += reassembler.packet(packet)
    assert not [event for event in events if isinstance(event, Gap)]


def test_packets_cut_when_captured_leave_gaps() -> None:
    packets = [*TALK.open(), TALK.c(3, b"defgh"), TALK.c(0, b"abc"), TALK.c(8, b"ijk"), TALK.c(11, b"lm")]
    cut = [Packet(T0 + n, RAW, data[:42], len(data), None) for n, data in enumerate(packets)]
    assert short(followed(cut))[1:] == ["1 > ab", "1 > gap 1", "1 > de", "1 > gap 3", "1 > ij", "1 > gap 1", "1 > lm"]


def test_packets_cut_within_their_tcp_header_leave_gaps() -> None:
    data = ipv4(C2S, tcp(C2S, ISN_C + 1, 0, ACK, b"payload", options=bytes(12)))
    packets = [*at_ms(TALK.open()), Packet(T0, RAW, data[:40], len(data), None), *at_ms([TALK.c(7, b"!")])]
    assert short(followed(packets))[1:] == ["1 > gap 7", "1 > !"]


def test_a_segment_far_ahead_is_dropped_and_a_second_that_follows_on_it_is_a_gap() -> None:
    assert said(TALK.c(0, b"a"), TALK.c(1 << 28, b"stray"), TALK.c(1, b"b")) == ["1 > a", "1 > b"]
    far = 1 << 28
    packets = [TALK.c(0, b"a"), TALK.c(far, b"lost"), TALK.c(far + 4, b"found"), TALK.c(far + 9, b"!")]
    assert said(*packets) == ["1 > a", f"1 > gap {far + 3}", "1 > found", "1 > !"]


def test_a_stream_of_more_than_four_gibibytes_is_followed() -> None:
    step = 1 << 30
    packets, at = [TALK.c(0, b"a")], 1
    for _ in range(6):
        at += step
        packets += [TALK.c(at, b"bc"), TALK.c(at + 2, b"de")]
        at += 4
    gaps = [line for line in said(*packets) if "gap" in line]
    assert gaps == [f"1 > gap {step + 2}"] * 6


# -- addresses used again ----------------------------------------------------------------------------------------


def test_a_new_syn_with_another_number_is_another_conversation() -> None:
    new = Talk(client=777_777, server=888_888)
    packets = [*TALK.open(), TALK.c(2, b"lost"), *new.open(), new.c(0, b"new"), new.s(0, b"yes")]
    assert short(followed(at_ms(packets))) == [
        *("1 open 50000 to 443", "1 > gap 2", "1 > lost", "1 - silent"),
        *("2 open 50000 to 443", "2 > new", "2 < yes"),
    ]


@pytest.mark.parametrize("end", [TALK.fins(3, 0), [TALK.s(0, flags=RST | ACK)]], ids=["FIN", "RST"])
@pytest.mark.parametrize("new", [TALK, Talk(client=99, server=98)], ids=["same number", "other number"])
def test_a_syn_after_the_end_is_another_conversation(end: list[bytes], new: Talk) -> None:
    packets = [*TALK.open(), TALK.c(0, b"old"), *end, *new.open(), new.c(0, b"new")]
    lines = short(followed(at_ms(packets)))
    assert lines[-2:] == ["2 open 50000 to 443", "2 > new"]
    assert len([line for line in lines if "open" in line]) == 2


def test_addresses_used_again_the_other_way_round_are_another_conversation() -> None:
    new = Talk(back(C2S))
    packets = [*TALK.open(), *TALK.fins(0, 0), *new.open(), new.c(0, b"new"), new.s(0, b"way")]
    assert short(followed(at_ms(packets)))[-3:] == ["2 open 443 to 50000", "2 > new", "2 < way"]


def test_a_syn_sent_again_opens_nothing() -> None:
    packets = [TALK.syn(), TALK.syn(), TALK.syn_ack(), TALK.syn_ack(), TALK.c(0, b"a"), TALK.syn_ack(), TALK.syn()]
    assert short(followed(at_ms([*packets, TALK.c(1, b"b")]))) == ["1 open 50000 to 443", "1 > a", "1 > b"]


def test_a_second_answer_to_the_same_syn_opens_nothing() -> None:
    other = Talk(server=99)
    packets = [*TALK.open(), other.syn_ack(), TALK.c(0, b"a"), TALK.s(0, b"b")]
    assert short(followed(at_ms(packets))) == ["1 open 50000 to 443", "1 > a", "1 < b"]


def test_an_answer_to_a_syn_that_was_not_captured_is_another_conversation() -> None:
    new = Talk(client=777, server=888)
    packets = [*TALK.open(), TALK.c(0, b"old"), new.syn_ack(), new.c(0, b"new")]
    assert short(followed(at_ms(packets)))[2:] == ["1 - silent", "2 open 50000 to 443", "2 > new"]


def test_a_syn_that_comes_behind_its_data_opens_nothing_more() -> None:
    assert short(followed(at_ms([TALK.c(0, b"abc"), TALK.syn(), TALK.syn_ack(), TALK.c(3, b"def")]))) == [
        *("1 open 50000 to 443 (midstream)", "1 > abc", "1 > def")
    ]


def test_what_comes_late_is_not_another_conversation() -> None:
    late = [TALK.c(0, b"abc"), TALK.s(1, flags=ACK), TALK.c(3, flags=FIN | ACK), TALK.s(0, flags=RST), TALK.syn_ack()]
    assert said(TALK.c(0, b"abc"), *TALK.fins(3, 0), *late) == ["1 > abc", "1 > fin", "1 < fin"]


def test_data_under_old_addresses_that_does_not_belong_there_is_another_conversation() -> None:
    lines = said(*TALK.fins(0, 0), TALK.c(1 << 30, b"unseen"))
    assert lines[-2:] == ["2 open 50000 to 443 (midstream)", "2 > unseen"]


# -- ends --------------------------------------------------------------------------------------------------------


def test_one_side_may_go_on_after_the_other_has_ended() -> None:
    packets = [TALK.c(0, b"last", flags=FIN | ACK), TALK.s(0, b"one"), TALK.s(3, b"two"), TALK.s(6, flags=FIN | ACK)]
    assert said(*packets) == ["1 > last", "1 > fin", "1 < one", "1 < two", "1 < fin"]


def test_a_fin_waits_for_what_goes_before_it() -> None:
    packets = [TALK.c(6, b"ghi", flags=FIN | ACK), TALK.c(3, b"def"), TALK.c(0, b"abc"), TALK.c(9, flags=FIN | ACK)]
    assert said(*packets) == ["1 > abc", "1 > def", "1 > ghi", "1 > fin"]


def test_data_behind_a_fin_is_noted_and_left_out() -> None:
    packets = [TALK.c(0, b"abc", flags=FIN | ACK), TALK.c(3, b"de"), TALK.c(5, b"fg")]
    assert said(*packets) == [
        "1 > abc",
        "1 > fin",
        "1 > note: bytes behind the end of the stream (FIN); they are left out",
    ]


def test_a_reset_ends_both_directions_and_says_who_sent_it() -> None:
    packets = [TALK.c(0, b"abc"), TALK.c(5, b"f"), TALK.s(0, flags=RST | ACK), TALK.c(6, b"late")]
    assert said(*packets) == ["1 > abc", "1 > gap 2", "1 > f", "1 - reset by <"]
    assert said(TALK.c(0, flags=RST))[-1] == "1 - reset by >"


def test_a_refused_connection_is_reset_by_the_responder() -> None:
    refusal = ipv4(back(C2S), tcp(back(C2S), 0, ISN_C + 1, RST | ACK))
    assert short(followed(at_ms([TALK.syn(), refusal]))) == ["1 open 50000 to 443", "1 - reset by <"]


def test_a_reset_with_an_impossible_number_ends_nothing() -> None:
    assert said(TALK.c(0, b"abc"), TALK.c(1 << 29, flags=RST), TALK.c(3, b"def")) == ["1 > abc", "1 > def"]


# -- bounds ------------------------------------------------------------------------------------------------------


def many(count: int, *, syn_only: bool = False) -> Iterable[bytes]:
    for n in range(count):
        talk = Talk((f"10.1.{n >> 8 & 255}.{n & 255}", 1024 + (n >> 16), "10.0.0.2", 443))
        yield talk.syn()
        if not syn_only:
            yield talk.syn_ack()
            yield talk.c(0, b"data")


def test_who_is_silent_for_too_long_is_over() -> None:
    other = Talk(("10.0.0.9", 1, "10.0.0.2", 443))
    packets = at_ms([*TALK.open(), TALK.c(3, b"lost"), *other.open()])
    packets += [Packet(T0 + n * 600 * SECOND, RAW, other.c(n - 1, b"x"), 41, None) for n in range(1, 10)]
    lines = short(followed(packets, Reassembler(idle_ns=1800 * SECOND)))
    assert lines[5:9] == ["2 > x", "1 > gap 3", "1 > lost", "1 - silent"]
    assert lines[9:] == ["2 > x"] * 5


def test_one_packet_with_a_wrong_clock_ends_nothing() -> None:
    packets = at_ms([*TALK.open(), TALK.c(0, b"a"), TALK.c(1, b"b"), TALK.c(2, b"c")])
    packets[4] = Packet(T0 * 2, RAW, packets[4].data, 41, None)
    packets.insert(0, Packet(T0 * 2, RAW, Talk(V6).syn(), 60, None))
    assert short(followed(packets, Reassembler(idle_ns=SECOND)))[2:] == ["2 > a", "2 > b", "2 > c"]


def test_conversations_are_bounded_and_those_with_data_are_kept_longest() -> None:
    reassembler = Reassembler(max_conversations=100)
    events = list(itertools.chain.from_iterable(map(reassembler.packet, at_ms([*TALK.open(), TALK.c(0, b"a")]))))
    for packet in at_ms(many(5000, syn_only=True)):
        events += reassembler.packet(packet)
        assert len(reassembler._conversations) <= 100
        assert len(reassembler._sides) <= 200
    events += [event for packet in at_ms([TALK.c(1, b"b")]) for event in reassembler.packet(packet)]
    assert streams(events)[0] == b"ab"
    events += reassembler.finish()
    assert sum(isinstance(event, Opened) for event in events) == 5001
    assert sum(isinstance(event, Closed) for event in events) == 5001


def test_ended_conversations_make_room_first() -> None:
    reassembler = Reassembler(max_conversations=16)
    ended = [Talk((f"10.2.0.{n}", 1, "10.0.0.2", 443)) for n in range(8)]
    events: list[Event] = []
    for packet in at_ms([*TALK.open(), *(p for talk in ended for p in [*talk.open(), *talk.fins(0, 0)]), *many(8)]):
        events += reassembler.packet(packet)
    assert not [event for event in events if isinstance(event, Closed) and event.how == "stopped"]


def test_memory_does_not_grow_with_the_number_of_conversations() -> None:
    reassembler = Reassembler(max_conversations=500)
    tracemalloc.start()
    try:
        for packet in at_ms(many(1000)):
            list(reassembler.packet(packet))
        before = tracemalloc.get_traced_memory()[0]
        for n, data in enumerate(many(4000)):
            list(reassembler.packet(Packet(T0 + n * 10**6, RAW, data, len(data), None)))
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 200_000


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 0xFFFFFFFF), st.integers(0, 63), st.binary(max_size=9))))
def test_one_bad_conversation_does_not_hurt_the_others(bad: Sequence[tuple[int, int, int, bytes]]) -> None:
    good = [*TALK.open(), TALK.c(3, b"def"), TALK.c(0, b"abc"), TALK.s(0, b"xyz", acked=6), *TALK.fins(6, 3)]
    alone = short(followed(at_ms(good)))
    evil = Talk(("10.6.6.6", 666, "10.0.0.2", 443), client=0, server=0)
    hostile = [evil.segment(sender, at, data, flags=flags) for sender, at, flags, data in bad]
    mixed = [p for pair in itertools.zip_longest(good, hostile) for p in pair if p is not None]
    events = followed(at_ms(mixed))
    assert short(event for event in events if event.conversation == 1) == alone
    assert {type(event) for event in events} <= {Opened, Data, Gap, Noted, Closed}


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(-9, 30), st.integers(0, 63), st.binary(max_size=9)), max_size=30)
)
def test_whatever_is_sent_every_conversation_is_opened_once_and_over_once(
    sent: Sequence[tuple[int, int, int, bytes]],
) -> None:
    state: dict[int, set[bool | None]] = {}
    for event in followed(at_ms([TALK.segment(sender, at, data, flags=flags) for sender, at, flags, data in sent])):
        if isinstance(event, Opened):
            assert event.conversation not in state
            state[event.conversation] = set()
        ended = state[event.conversation]
        assert None not in ended
        assert ended != {True, False}
        if isinstance(event, Closed):
            assert event.from_initiator not in ended
            ended.add(event.from_initiator)
        elif isinstance(event, Data | Gap):
            assert event.from_initiator not in ended
    assert all(None in ended or ended == {True, False} for ended in state.values())


def test_a_connection_with_itself_does_no_harm() -> None:
    own = Talk(("10.0.0.1", 443, "10.0.0.1", 443))
    assert short(followed(at_ms([own.syn(), own.c(-1, flags=SYN | ACK), own.c(0, b"me"), own.c(2, b"too")])))[0] == (
        "1 open 443 to 443"
    )


# -- as others see it --------------------------------------------------------------------------------------------

ODD = {
    "out of order": [
        TALK.c(3, b"def"),
        TALK.s(0, b"ok"),
        TALK.c(0, b"abc"),
        TALK.s(2, b"!", acked=6),
        *TALK.fins(6, 3),
    ],
    "retransmitted": [TALK.c(0, b"abc"), TALK.c(0, b"abc"), TALK.c(3, b"def"), TALK.c(0, b"abcdefg"), TALK.c(7, b"h")],
    "overlapping": [TALK.c(0, b"abc"), TALK.c(5, b"fgh"), TALK.c(2, b"cdefg"), TALK.c(8, b"i")],
    "keep-alives": [TALK.c(0, b"abc"), TALK.s(0, acked=3), TALK.c(2, b"\0"), TALK.s(0, acked=3), TALK.c(3, b"def")],
    "half-closed": [TALK.c(0, b"bye", flags=FIN | ACK), TALK.s(0, b"still", acked=4), TALK.s(5, b"here", acked=4)],
    "reset": [TALK.c(0, b"abc"), TALK.s(0, b"no", acked=3), TALK.s(2, flags=RST | ACK, acked=3)],
}


@pytest.mark.peer("tshark")
@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("isn", [1000, 0xFFFFFFFD])
def test_tshark_follows_the_stream_to_the_same_bytes(name: str, isn: int, tmp_path: Path) -> None:
    shift = (isn - ISN_C) & 0xFFFFFFFF

    def moved(packet: bytes) -> bytes:
        """The same with other numbers of the client."""
        place = 24 if packet[12:16] == b"\x0a\0\0\1" else 28
        number = (int.from_bytes(packet[place : place + 4], "big") + shift) & 0xFFFFFFFF
        return packet[:place] + number.to_bytes(4, "big") + packet[place + 4 :]

    path = tmp_path / "odd.pcap"
    path.write_bytes(pcap(map(moved, [*TALK.open(), *ODD[name]]), link=RAW))
    done = run("tshark", "-n", "-r", path, "-q", "-z", "follow,tcp,raw,0").check()
    lines = re.findall(r"^(\t?)([0-9a-f]+)$", done.stdout, re.MULTILINE)
    theirs = tuple(b"".join(bytes.fromhex(data) for tab, data in lines if bool(tab) is side) for side in (False, True))
    assert streams(followed(item for item in read_capture(path) if isinstance(item, Packet))) == theirs


@pytest.mark.peer("tcpdump")
def test_a_real_transfer_comes_out_as_it_was_sent(tmp_path: Path) -> None:
    from tests.peers.tshark import Capture

    if not Capture.permitted():
        pytest.skip("nobody may capture here")
    there, home = random.Random(1).randbytes(400_000), random.Random(2).randbytes(600_000)
    path = tmp_path / "live.pcap"

    def answer(listener: socket.socket) -> None:
        with listener.accept()[0] as peer:
            for at in range(0, len(home), 60_000):
                assert len(peer.recv(40_000, socket.MSG_WAITALL)) == 40_000
                peer.sendall(home[at : at + 60_000])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=answer, args=(listener,))
        with Capture(port, pcap=path):
            thread.start()
            with socket.create_connection(("127.0.0.1", port)) as client:
                for at in range(0, len(there), 40_000):
                    client.sendall(there[at : at + 40_000])
                    assert len(client.recv(60_000, socket.MSG_WAITALL)) == 60_000
                    time.sleep(0.01)  # tcpdump loses what comes faster than it writes, and on a busy machine some more
            thread.join(10)
    events = followed(item for item in read_capture(path) if isinstance(item, Packet))
    assert isinstance(events[0], Opened)
    assert events[0].responder == Endpoint("127.0.0.1", port)
    assert place_of(events, there, from_initiator=True) > 200_000
    assert place_of(events, home, from_initiator=False) > 300_000

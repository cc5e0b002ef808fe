"""A direction with faults in its way: what comes out follows from the bytes that came, however they were sliced."""

from __future__ import annotations

from functools import cache
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings, strategies as st
from OpenSSL import SSL

from countersign.proxy.faults import FAULTS, FaultKind, WireFault, read_fault
from countersign.proxy.faults.effects import Applied, Close, Send
from countersign.proxy.faults.way import Way
from countersign.proxy.sealer import Agreed, Keyring
from countersign.recorder.wire.events import ApplicationData, Side
from tests.recorder.tls_pairs import C, Pair, S, decode, messages, pair

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from countersign.proxy.faults.effects import Effect

KINDS: dict[str, dict[str, Any]] = {
    "TLS 1.3": {},
    "TLS 1.3 with ChaCha20": {"suites": "TLS_CHACHA20_POLY1305_SHA256"},
    "TLS 1.3 with another group first": {"client_groups": "X25519:P-256", "server_groups": "P-256"},
    "TLS 1.3 with a big certificate": {"cert": "big"},
    "TLS 1.2 with GCM": {"version": SSL.TLS1_2_VERSION, "ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"},
    "TLS 1.2 with ChaCha20": {"version": SSL.TLS1_2_VERSION, "ciphers": "ECDHE-ECDSA-CHACHA20-POLY1305"},
    "TLS 1.2 with CBC": {"version": SSL.TLS1_2_VERSION, "ciphers": "ECDHE-ECDSA-AES128-SHA"},
    "TLS 1.2 with a big certificate": {"version": SSL.TLS1_2_VERSION, "cert": "big"},
}


@cache
def spoken(kind: str) -> Pair:
    """A handshake, data both ways, and goodbyes."""
    made = pair(**KINDS[kind])
    made.run()
    made.say(made.client, b"GET / HTTP/1.1\r\n\r\n")
    made.say(made.server, b"x" * 500)
    made.close()
    return made


def ring_of(talk: Pair) -> Keyring:
    """All secrets from the beginning."""
    ring = Keyring(Agreed())
    for secret in talk.keylog:
        ring.add(secret.label, secret.secret)
    return ring


def through(
    talk: Pair, faults: Sequence[Mapping[str, object]], *, cut: Sequence[int] = (), side: Side = S
) -> tuple[list[tuple[Side, bytes]], list[Applied]]:
    """The conversation with the bytes of one side brought through these faults, in slices of these sizes."""
    ring = ring_of(talk)
    read = [read_fault(fault) for fault in faults]
    ways = {each: Way(each, [], source=ring, wire=ring) for each in Side}
    ways[side] = Way(side, [(FAULTS[fault.do], fault) for fault in read], source=ring, wire=ring)
    log: list[tuple[Side, bytes]] = []
    applied: list[Applied] = []
    for number, (sender, data) in enumerate(talk.log):
        effects: list[Effect] = []
        for piece in slices(data, cut[number % len(cut)] if cut else len(data)):
            effects += ways[sender].feed(piece)
        log.append((sender, sent([*effects, *ways[sender].rest()])))
        applied += [effect for effect in effects if isinstance(effect, Applied)]
    return log, applied


def slices(data: bytes, size: int) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def sent(effects: Iterable[Effect]) -> bytes:
    """What goes out before an end."""
    until = takewhile(lambda effect: not isinstance(effect, Close), effects)
    return b"".join(effect.data for effect in until if isinstance(effect, Send))


@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_touches_comes_out_as_it_went_in(kind: str) -> None:
    talk = spoken(kind)
    assert through(talk, [])[0] == talk.log


FAULTED: list[Mapping[str, object]] = [
    {"do": "alert", "at": "certificate", "alert": "unknown_ca", "level": "warning"},
    {"do": "alert", "at": "finished", "place": "after", "level": "warning"},
    {"do": "corrupt", "at": "server_hello", "byte": -1},
    {"do": "corrupt", "at": "certificate", "byte": 200},
    {"do": "drop", "at": "certificate"},
    {"do": "drop", "at": "certificate_verify"},
    {"do": "duplicate", "at": "server_hello"},
    {"do": "duplicate", "at": "finished"},
    {"do": "swap", "at": "certificate"},
    {"do": "swap", "at": "finished"},
    {"do": "wrong_message", "message": "finished", "at": "certificate"},
    {"do": "empty_certificate"},
    {"do": "unsolicited_extension", "at": "server_hello"},
    {"do": "unsolicited_extension", "at": "encrypted_extensions"},
    {"do": "split_records", "at": "certificate", "size": 50},
    {"do": "one_byte_records", "at": "server_hello", "all": False},
    {"do": "record_padding", "zeros": 20},
    {"do": "key_update_flood", "count": 3},
]


@settings(max_examples=40)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    faults=st.lists(st.sampled_from(FAULTED), min_size=1, max_size=3),
    cut=st.lists(st.integers(5, 3000), min_size=1, max_size=5),
)
def test_slicing_changes_nothing(kind: str, faults: list[Mapping[str, object]], cut: list[int]) -> None:
    talk = spoken(kind)
    whole, sliced = through(talk, faults), through(talk, faults, cut=cut)
    assert sliced == whole


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "CBC" not in kind and "big" not in kind])
@pytest.mark.parametrize(
    "fault",
    [
        {"do": "split_records", "at": "finished", "size": 3},
        {"do": "split_records", "at": "server_hello", "size": 7, "all": True},
        {"do": "one_byte_records", "at": "certificate"},
        {"do": "record_padding", "zeros": 100},
        {"do": "alert", "at": "finished", "place": "after", "alert": "user_canceled", "level": "warning"},
        {"do": "key_update_flood", "count": 5, "at": "application_data"},
    ],
    ids=lambda fault: f"{fault['do']} at {fault.get('at')}",
)
def test_what_is_sealed_anew_says_the_same_under_the_same_keys(kind: str, fault: Mapping[str, object]) -> None:
    """An independent decoder opens it with the key log: the messages are the same, but for what was put in."""
    talk = spoken(kind)
    log, applied = through(talk, [fault])
    added = {"alert": ("alert", 90), "key_update_flood": ("handshake", 24)}.get(str(fault["do"]))
    before, after = decode(talk.log, keylog=talk.keylog), decode(log, keylog=talk.keylog)
    expected, found = messages(before), messages(after)
    if kind.startswith("TLS 1.2") and fault["do"] in {"record_padding", "key_update_flood"}:
        assert log == talk.log
        assert not applied
        return
    assert applied
    assert log != talk.log
    assert [each for each in found if (each[1], each[2]) != added] == expected
    assert not [event for event in after if type(event).__name__ == "Problem"]


@pytest.mark.parametrize("kind", ["TLS 1.3", "TLS 1.2 with GCM"])
@pytest.mark.parametrize("side", [C, S])
def test_a_dropped_finished_is_missing_and_what_is_behind_it_can_be_read(kind: str, side: Side) -> None:
    talk = spoken(kind)
    fault = {"do": "drop", "at": "finished"} | ({"to": "proxy"} if side is C else {})
    log, applied = through(talk, [fault], side=side)
    assert [each.at for each in applied] == ["finished"]
    finished = [each for each in messages(decode(log, keylog=talk.keylog)) if each[0] == side and each[2] == 20]
    assert not [each for each in finished if each[1] == "handshake"]


def test_a_message_that_comes_in_two_records_is_found() -> None:
    talk = spoken("TLS 1.2 with a big certificate")
    log, applied = through(talk, [{"do": "corrupt", "at": "certificate", "byte": 30_000}])
    assert applied[0].byte == 30_000
    before, after = (b"".join(data for sender, data in each if sender is S) for each in (talk.log, log))
    different = [at for at, (one, other) in enumerate(zip(before, after, strict=True)) if one != other]
    assert len(different) == 1


def test_what_is_put_before_a_message_cuts_its_record_in_two() -> None:
    """ServerHello, Certificate and what follows may share a record: what is behind the cut gets one of its own."""
    talk = spoken("TLS 1.2 with GCM")
    first = b"".join(data for sender, data in talk.log if sender is S)
    joined = joined_records(first)
    way = Way(S, [faulted("alert", at="server_hello_done", level="warning")], source=ring_of(talk), wire=ring_of(talk))
    out = sent(way.feed(joined))
    seen = messages(decode([(C, talk.log[0][1]), (S, out)]))
    names = [(content, code) for sender, content, code, *_ in seen if sender == "server"]
    assert names[:5] == [("handshake", 2), ("handshake", 11), ("handshake", 12), ("alert", 40), ("handshake", 14)]


def faulted(do: str, **options: object) -> tuple[FaultKind, WireFault]:
    fault = read_fault({"do": do, **options})
    return FAULTS[fault.do], fault


def joined_records(data: bytes) -> bytes:
    """The first handshake records in clear as a single one."""
    payload, at = b"", 0
    while at < len(data) and data[at] == 22 and data[at + 5] in {2, 11, 12, 14}:
        size = int.from_bytes(data[at + 3 : at + 5])
        payload += data[at + 5 : at + 5 + size]
        at += 5 + size
        if payload.endswith(b"\x0e\0\0\0"):
            break
    return b"\x16\3\3" + len(payload).to_bytes(2) + payload + data[at:]


@given(data=st.binary(max_size=300), cut=st.integers(1, 20))
def test_bytes_that_are_no_tls_go_on_as_they_are(data: bytes, cut: int) -> None:
    """Hostile input neither raises nor is lost, once it is told that no more comes."""
    ring = Keyring(Agreed())
    fault = read_fault({"do": "drop", "at": "certificate"})
    way = Way(C, [(FAULTS["drop"], fault)], source=ring, wire=ring)
    out = b"".join(sent(way.feed(piece)) for piece in slices(data, cut))
    assert data.startswith(out)
    way.rest()


def test_a_message_that_declares_to_be_longer_than_anything_is_not_waited_for() -> None:
    ring = Keyring(Agreed())
    way = Way(C, [(FAULTS["drop"], read_fault({"do": "drop", "at": "certificate"}))], source=ring, wire=ring)
    record = b"\x16\3\3\0\x04\x0b\xff\xff\xff"
    assert sent(way.feed(record)) == record
    assert sent(way.feed(b"any bytes")) == b"any bytes"


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    cut=st.integers(1, 200),
    fault=st.sampled_from(["none", "drop", "swap", "alert"]),
)
def test_messages_are_found_however_they_lie_in_records(sizes: list[int], cut: int, fault: str) -> None:
    """Borders of records anywhere, in the four bytes of a message's header as well (RFC 5246 6.2.1)."""
    talk = spoken("TLS 1.2 with GCM")
    hello, flight = talk.log[0][1], cut_up(joined_records(talk.log[1][1]), sizes)
    faults = [] if fault == "none" else [faulted(fault, at="server_key_exchange")]

    def through_way(size: int) -> bytes:
        way = Way(S, faults, source=ring_of(talk), wire=ring_of(talk))
        out = [effect for piece in slices(flight, size) for effect in way.feed(piece)]
        return sent([*out, *way.rest()])

    out = through_way(cut)
    assert out == through_way(len(flight))
    seen = [each[1:3] for each in messages(decode([(C, hello), (S, out)], end=False)) if each[0] == S]
    expected = {
        "none": [2, 11, 12, 14],
        "drop": [2, 11, 14],
        "swap": [2, 11, 14, 12],
        "alert": [2, 11, 40],
    }[fault]
    assert [code for _, code in seen] == expected
    if fault == "none":
        assert out == flight


def cut_up(record: bytes, sizes: list[int]) -> bytes:
    """What is in one record, in records of these sizes over and over."""
    payload, out, number = record[5:], b"", 0
    while payload:
        piece, payload = payload[: sizes[number % len(sizes)]], payload[sizes[number % len(sizes)] :]
        out += b"\x16\3\3" + len(piece).to_bytes(2) + piece
        number += 1
    return out


MESSAGE_KINDS = sorted(name for name, kind in FAULTS.items() if kind.sort == "message" and name != "corrupt")
CODES = {"server_hello": 2, "certificate": 11, "server_key_exchange": 12, "certificate_verify": 15, "finished": 20}


@given(
    do=st.sampled_from(MESSAGE_KINDS),
    messages=st.lists(
        st.tuples(st.sampled_from([1, 2, 4, 8, 11, 12, 13, 14, 15, 20, 24, 255]), st.binary(max_size=80)), max_size=6
    ),
    real=st.integers(0, 5),
    end=st.binary(max_size=10),
)
def test_no_message_makes_a_fault_raise(do: str, messages: list[tuple[int, bytes]], real: int, end: bytes) -> None:
    """Nonsense in every message, between real ones."""
    talk = spoken("TLS 1.2 with GCM" if real % 2 else "TLS 1.3")
    nonsense = b"".join(
        b"\x16\3\3" + (4 + len(body)).to_bytes(2) + bytes([code]) + len(body).to_bytes(3) + body
        for code, body in messages
    )
    ring = ring_of(talk)
    kind = FAULTS[do]
    side = C if "client" not in kind.sides else S
    fault = read_fault({"do": do, "leg": "server" if side is C else "client"})
    ways = {each: Way(each, [(kind, fault)] if each is side else [], source=ring, wire=ring) for each in (C, S)}
    for number, (sender, data) in enumerate(talk.log):
        if number == real:
            ways[S].feed(nonsense)
            ways[C].feed(nonsense)
        ways[sender].feed(data)
    ways[side].feed(end)
    ways[side].rest()


def test_a_download_is_not_cut_into_bytes_without_end() -> None:
    """Cutting is bounded, so that nobody else waits for it."""
    talk = pair(suites="TLS_AES_128_GCM_SHA256")
    talk.run()
    talk.say(talk.server, b"x" * 400_000)
    log, applied = through(talk, [{"do": "one_byte_records", "at": "finished"}])
    assert applied
    records = sum(1 for _ in records_of(b"".join(data for sender, data in log if sender is S)))
    assert 16_384 < records < 25_000
    before, after = (decode(each, keylog=talk.keylog, end=False) for each in (talk.log, log))
    assert data_in(after) == data_in(before) == 400_000


def records_of(data: bytes) -> Iterable[bytes]:
    at = 0
    while at < len(data):
        size = 5 + int.from_bytes(data[at + 3 : at + 5])
        yield data[at : at + size]
        at += size


def data_in(events: Iterable[object]) -> int:
    return sum(event.length for event in events if isinstance(event, ApplicationData) and event.sender is S)

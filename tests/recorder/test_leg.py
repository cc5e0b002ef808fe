"""The decoder of a leg: slicing, keys that come late or never, wrong bytes of every kind, and bounds."""

from __future__ import annotations

import random
import time
import tracemalloc
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings, strategies as st
from OpenSSL import SSL

from countersign.recorder.wire.events import (
    ApplicationData,
    Content,
    EncryptedRecord,
    Event,
    Message,
    Problem,
    Side,
)
from countersign.recorder.wire.keyschedule import key_block
from countersign.recorder.wire.leg import HELD_AT_MOST, PROBLEMS_AT_MOST, LegDecoder
from countersign.recorder.wire.messages import DecodeContext, decode_message
from countersign.recorder.wire.secrets import HANDSHAKE_LABELS, KeyLog
from tests.recorder.tls_pairs import (
    C,
    Pair,
    S,
    Sealer,
    connected,
    decode,
    early,
    messages,
    pair,
    problems,
    sealed,
    summed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TLS10, TLS12 = SSL.TLS1_VERSION, SSL.TLS1_2_VERSION

CONVERSATIONS: dict[str, dict[str, Any]] = {
    "1.3": {},
    "1.3 hello retry request": {"client_groups": "X25519:P-384", "server_groups": "P-384"},
    "1.3 client certificate, long messages": {"ask": True, "present": True, "cert": "big"},
    "1.3 refused": {"client_trusts": False},
    "1.2": {"version": TLS12, "client_groups": "X25519"},
    "1.2 cbc": {"version": TLS12, "ciphers": "AES128-SHA:@SECLEVEL=0", "cert": "rsa"},
    "1.0": {"version": TLS10, "ciphers": "AES128-SHA:@SECLEVEL=0", "cert": "rsa"},
}


@cache
def conversation(name: str) -> Pair:
    return connected(**CONVERSATIONS[name])


def record(content_type: int, payload: bytes, version: int = 0x0303) -> bytes:
    return bytes((content_type,)) + version.to_bytes(2, "big") + len(payload).to_bytes(2, "big") + payload


def fields(events: Iterable[Event]) -> list[str]:
    return [problem.field for problem in problems(events)]


def client_hello(**settings: Any) -> bytes:
    """The ClientHello message of a real client."""
    made = pair(**settings)
    made.client.step()
    return made.client.flush()[5:]


def bytewise(data: bytes) -> Iterable[bytes]:
    return (data[n : n + 1] for n in range(len(data)))


# Slicing


@pytest.mark.parametrize("keys", [True, False], ids=["keys", "no keys"])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_events_do_not_depend_on_slicing(name: str, *, keys: bool) -> None:
    made = conversation(name)
    keylog = made.keylog if keys else None
    whole = decode(made.log, keylog=keylog)
    dice = random.Random(name)

    def anyhow(data: bytes) -> Iterable[bytes]:
        at = 0
        while at < len(data):
            size = dice.choice((1, 4, 5, 6, 100, 5000))
            yield data[at : at + size]
            at += size

    for cut in (bytewise, anyhow, anyhow):
        sliced = decode(made.log, keylog=keylog, cut=cut)
        for side in (C, S):
            assert summed(sliced, side) == summed(whole, side)


def test_a_view_of_a_buffer_that_is_used_again_is_safe() -> None:
    made = conversation("1.3 client certificate, long messages")
    buffer = bytearray(1000)
    decoder = LegDecoder(keylog=made.keylog)
    events: list[Event] = []
    for sender, data in made.log:
        for at in range(0, len(data), 1000):
            part = data[at : at + 1000]
            buffer[: len(part)] = part
            events += decoder.receive(sender, memoryview(buffer)[: len(part)], 0.0)
            buffer[:] = bytes(1000)
    for side in (C, S):
        assert messages(events, side) == messages(decode(made.log, keylog=made.keylog), side)


def test_one_hello_in_a_thousand_fragmentations_is_a_thousand_equal_messages() -> None:
    """T13."""
    hello = client_hello()
    dice = random.Random(13)
    found = set()
    for _ in range(1000):
        edges = [0, *sorted(dice.sample(range(1, len(hello)), dice.randint(0, 12))), len(hello)]
        stream = b"".join(record(22, hello[a:b], 0x0301) for a, b in pairwise(edges))
        (message,) = LegDecoder().receive(C, stream, 0.0)
        assert isinstance(message, Message)
        found.add(message)
    assert found == {Message(0.0, C, Content.HANDSHAKE, 1, encrypted=False, length=len(hello), raw=hello)}
    assert not decode_message(found.pop().raw, DecodeContext()).problems


def test_a_hello_one_byte_a_record_is_one_message() -> None:
    hello = client_hello()
    events = LegDecoder().receive(C, b"".join(record(22, bytes((byte,))) for byte in hello), 0.0)
    assert messages(events) == [("client", "handshake", 1, False, hello)]


@pytest.mark.parametrize("name", ["1.2", "1.3"])
def test_every_strict_prefix_gives_its_whole_messages_and_marks_the_cut_one(name: str) -> None:
    made = conversation(name)
    full = decode(made.log, keylog=made.keylog)
    stream = [(sender, data) for sender, data in made.log[:4]]
    total = sum(len(data) for _, data in stream)
    for cut in [*range(1, 40), *range(40, total, 37)]:
        left, log = cut, []
        for sender, data in stream:
            log.append((sender, data[:left]))
            left -= len(log[-1][1])
            if not left:
                break
        decoder = LegDecoder(keylog=made.keylog)
        events = [event for sender, data in log for event in decoder.receive(sender, data, 0.0)]
        assert not problems(events)
        ends = decoder.end(C, 0.0) + decoder.end(S, 0.0)
        for side in (C, S):
            whole = messages([e for e in events if isinstance(e, Message) and e.complete], side)
            assert whole == messages(full, side)[: len(whole)]
        cut_short = [event for event in ends if isinstance(event, Message)]
        assert all(not message.complete for message in cut_short)
        assert len(cut_short) <= 1
        if cut_short:
            assert "handshake.length" in fields(ends)


# Keys


def test_without_keys_the_kind_of_a_tls12_record_shows_and_that_of_a_tls13_record_does_not() -> None:
    old = decode(conversation("1.2").log)
    assert [(m[1], m[2], m[4]) for m in messages(old) if m[3]] == [("alert", -1, b""), ("alert", -1, b"")]
    assert [event.content_type for event in sealed(old)] == [22, 22]
    assert sum(event.records for event in old if isinstance(event, ApplicationData)) == 4
    new = decode(conversation("1.3").log)
    assert not [m for m in messages(new) if m[3]]
    assert {event.content_type for event in sealed(new)} == {23}
    assert not problems(old) + problems(new)


def test_records_that_come_before_their_keys_are_held_and_opened_with_their_own_times() -> None:
    for name in CONVERSATIONS:
        made = conversation(name)
        log = KeyLog()
        decoder = LegDecoder(keylog=log)
        events: list[Event] = []
        for n, (sender, data) in enumerate(made.log):
            events += decoder.receive(sender, data, float(n))
        assert not sealed(events)
        for secret in made.keylog:
            log.add(secret.label, secret.client_random, secret.secret)
        unlocked = decoder.unlock(99.0)
        assert all(event.t < 99 for event in unlocked)
        for side in (C, S):
            assert messages(events + unlocked, side) == messages(decode(made.log, keylog=made.keylog), side)
        assert not decoder.end(C, 99.0) + decoder.end(S, 99.0)


def test_each_key_log_line_opens_what_it_can() -> None:
    made = conversation("1.3")
    log = KeyLog()
    decoder = LegDecoder(keylog=log)
    for sender, data in made.log:
        decoder.receive(sender, data, 0.0)
    events: list[Event] = []
    counts = []
    for label in (
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_TRAFFIC_SECRET_0",
        "CLIENT_TRAFFIC_SECRET_0",
    ):
        client_random = decoder.client_random or b""
        log.add(label, client_random, made.keylog.get(client_random)[label])
        events += decoder.unlock(1.0)
        counts.append(len(messages(events)))
    assert counts == [4, 5, 8, 9]


def test_a_renegotiation_whose_keys_come_late_is_opened_over_both_directions() -> None:
    made = pair(version=TLS12, ciphers="AES128-SHA:@SECLEVEL=0", cert="rsa")
    made.run()
    assert made.client.connection.renegotiate()
    made.client.done = False
    made.run()
    made.say(made.client, b"data")
    log = KeyLog()
    decoder = LegDecoder(keylog=log)
    events = [event for sender, data in made.log for event in decoder.receive(sender, data, 0.0)]
    for secret in made.keylog:
        log.add(secret.label, secret.client_random, secret.secret)
        events += decoder.unlock(0.0)
    for side in (C, S):
        assert messages(events, side) == messages(made.client.events, side)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_what_is_held_is_given_out_at_the_end_as_if_there_were_no_keys(name: str) -> None:
    made = conversation(name)
    locked, keyless = decode(made.log, keylog=KeyLog()), decode(made.log)
    for side in (C, S):
        assert summed(locked, side) == summed(keyless, side)
    assert not problems(locked)


def test_with_application_secrets_alone_the_handshake_stays_closed_and_the_rest_opens() -> None:
    made = pair()
    made.run()
    made.say(made.client, b"a question")
    made.say(made.server, b"an answer")
    made.close()
    log = KeyLog()
    for secret in made.keylog:
        if secret.label in {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"}:
            log.add(secret.label, secret.client_random, secret.secret)
    keyless, opened, locked = decode(made.log), decode(made.log, keylog=made.keylog), decode(made.log, keylog=log)
    assert not problems(locked)
    for side in (C, S):
        handshake = [event for event in locked if isinstance(event, EncryptedRecord) and event.sender is side]
        first = [event for event in keyless if isinstance(event, EncryptedRecord) and event.sender is side]
        assert handshake == [event for event in first if not event.alert_size]
        behind = [m for m in messages(opened, side) if m[3] and m[2] not in {8, 11, 15, 20}]
        assert [m for m in messages(locked, side) if m[3]] == behind
        assert [type(e) for e in summed(locked, side)][-2:] == [ApplicationData, Message]


def test_application_secrets_of_another_conversation_cost_no_more_than_64_tries() -> None:
    made = pair()
    made.run()
    log = KeyLog()
    for secret in made.keylog:
        if secret.label == "SERVER_TRAFFIC_SECRET_0":
            log.add(secret.label, secret.client_random, bytes(len(secret.secret)))
    decoder = LegDecoder(keylog=log)
    for sender, data in made.log:
        decoder.receive(sender, data, 0.0)
    decoder.receive(S, record(23, bytes(100)) * 200, 0.0)
    assert decoder._server.blind


def test_no_more_than_a_mebibyte_is_held_and_then_the_direction_stays_closed() -> None:
    made = pair(suites="TLS_AES_128_GCM_SHA256")
    made.run()
    log = KeyLog()
    decoder = LegDecoder(keylog=log)
    for sender, data in made.log:
        decoder.receive(sender, data, 0.0)
    bulk = record(23, bytes(16384)) * 10
    events: list[Event] = []
    for _ in range(20):
        events += decoder.receive(S, bulk, 0.0)
        assert decoder._server.held_bytes <= HELD_AT_MOST
    assert decoder._server.framer.skip
    assert sum(event.length for event in events if isinstance(event, ApplicationData | EncryptedRecord)) >= 200 * 16384
    assert decoder._client.held
    for secret in made.keylog:
        log.add(secret.label, secret.client_random, secret.secret)
    assert [event.sender for event in decoder.unlock(0.0)] == [C]


def test_with_handshake_secrets_alone_the_handshake_opens_and_nothing_after_it() -> None:
    made = conversation("1.3")
    log = KeyLog()
    for secret in made.keylog:
        if secret.label in HANDSHAKE_LABELS:
            log.add(secret.label, secret.client_random, secret.secret)
    events = decode(made.log, keylog=log)
    assert [m[2] for m in messages(events, S) if m[3]] == [8, 11, 15, 20]
    assert [m[2] for m in messages(events, C) if m[3]] == [20]
    assert not problems(events)
    server = summed(events, S)
    assert isinstance(server[-1], EncryptedRecord)
    assert server[-1].alert_size
    assert isinstance(server[-2], ApplicationData)


def test_a_client_direction_that_is_read_first_waits_for_the_other() -> None:
    offering = connected(server_version=TLS12, client_groups="X25519")
    for made in (conversation("1.2"), conversation("1.2 cbc"), conversation("1.0"), offering):
        ordered = sorted(made.log, key=lambda item: item[0])
        assert ordered[0][0] is C
        for keylog in (made.keylog, None):
            apart = decode(ordered, keylog=keylog)
            assert not problems(apart)
            for side in (C, S):
                assert messages(apart, side) == messages(decode(made.log, keylog=keylog), side)


def test_a_suite_that_cannot_be_opened_is_told_once_a_side() -> None:
    made = connected(version=TLS12, ciphers="ECDHE-ARIA128-GCM-SHA256:@SECLEVEL=0", cert="rsa")
    assert made.server.done
    events = decode(made.log, keylog=made.keylog)
    assert [(p.field, p.sender) for p in problems(events)] == [("record.protection", C), ("record.protection", S)]
    assert "ARIA_128_GCM" in problems(events)[0].got
    assert summed(events, C)[4:] == summed(decode(made.log), C)[3:]


@pytest.mark.parametrize("name", ["1.2", "1.2 cbc", "1.0", "1.3"])
def test_a_record_that_was_touched_is_a_problem_and_the_ones_behind_it_still_open(name: str) -> None:
    made = conversation(name)
    at = next(n for n, (sender, data) in enumerate(made.log) if sender is S and data[0] == 23 and len(data) > 30_000)
    data = bytearray(made.log[at][1])
    data[100] ^= 1
    log = [*made.log[:at], (S, bytes(data)), *made.log[at + 1 :]]
    events, good = decode(log, keylog=made.keylog), decode(made.log, keylog=made.keylog)
    assert fields(events) == ["record.protection"]
    assert len(sealed(events)) == 1
    assert messages(events, S) == messages(good, S)


def test_a_wrong_key_is_a_problem_and_no_more() -> None:
    made = conversation("1.3")
    log = KeyLog()
    for secret in made.keylog:
        log.add(secret.label, secret.client_random, bytes(len(secret.secret)))
    events = decode(made.log, keylog=log)
    assert set(fields(events)) == {"record.protection"}
    assert not [m for m in messages(events) if m[3]]


def test_a_direction_that_never_opens_is_given_up() -> None:
    made = conversation("1.2")
    log = KeyLog()
    for secret in made.keylog:
        log.add(secret.label, secret.client_random, bytes(48))
    decoder = LegDecoder(keylog=log)
    events = [event for sender, data in made.log[:4] for event in decoder.receive(sender, data, 0.0)]
    for _ in range(100):
        events += decoder.receive(S, record(23, bytes(1000)) * 10, 0.0)
    assert len(sealed(events)) == 65
    assert decoder.problem_counts[S] == 64
    assert sum(event.records for event in events if isinstance(event, ApplicationData)) == 1001 - 64


def test_secrets_never_show_in_events_or_reprs() -> None:
    made = conversation("1.3")
    decoder = LegDecoder(keylog=made.keylog)
    shown = repr(decoder) + repr(vars(decoder))
    for sender, data in made.log:
        shown += repr(decoder.receive(sender, data, 0.0)) + repr(vars(decoder))
    for secret in made.keylog:
        assert secret.secret.hex() not in shown
        assert repr(secret.secret)[2:-1] not in shown


# TLS 1.3 without keys


def test_records_of_the_size_of_an_alert_are_marked() -> None:
    """JSSE pads an alert with 16 zeros, so its record has 35 bytes of payload."""
    made = pair(suites="TLS_AES_128_GCM_SHA256")
    made.client.step()
    made._carry(made.client, made.server)
    made.server.step()
    made._carry(made.server, made.client)
    for padding, size in ((0, 19), (16, 35)):
        alert = Sealer(bytes(32)).seal(21, b"\x02\x2e", padding=padding)
        events = decode([*made.log, (C, alert)])
        assert sealed(events)[-1] == EncryptedRecord(0.0, C, 23, size, alert_size=True)
    assert not any(event.alert_size for event in sealed(decode(made.log)))


def test_the_handshake_is_over_when_the_other_side_has_answered() -> None:
    made = pair(suites="TLS_AES_128_GCM_SHA256")
    made.run()
    decoder = LegDecoder()
    for sender, data in made.log[:3]:
        assert not [e for e in decoder.receive(sender, data, 0.0) if isinstance(e, ApplicationData)]
    data = record(23, bytes(200))
    assert isinstance(decoder.receive(C, data, 0.0)[0], EncryptedRecord)
    assert isinstance(decoder.receive(S, data, 0.0)[0], ApplicationData)
    assert isinstance(decoder.receive(C, data, 0.0)[0], ApplicationData)
    assert decoder._server.framer.skip
    assert decoder._client.framer.skip
    assert decoder.receive(S, data * 7, 0.0) == [ApplicationData(0.0, S, 7, 1400)]
    (marked,) = decoder.receive(S, record(23, bytes(19)), 0.0)
    assert isinstance(marked, EncryptedRecord)
    many = decoder.receive(S, record(23, bytes(19)) * 1000, 0.0)
    assert len(sealed(many)) == 15
    assert sum(event.records for event in many if isinstance(event, ApplicationData)) == 985


def test_a_side_that_never_gets_an_answer_is_over_in_the_end() -> None:
    made = conversation("1.3")
    decoder = LegDecoder()
    for sender, data in made.log[:2]:
        decoder.receive(sender, data, 0.0)
    events = decoder.receive(S, record(23, bytes(3)) * 5000, 0.0)
    assert len(sealed(events)) < 600
    assert sum(event.records for event in events if isinstance(event, ApplicationData)) > 4000


# Wrong bytes


def test_what_is_not_tls_is_said_so_and_left_alone() -> None:
    decoder = LegDecoder()
    (problem,) = decoder.receive(C, b"GET / HTTP/1.1\r\n", 0.0)
    assert decoder.is_tls is False
    assert isinstance(problem, Problem)
    assert "'GET /'" in problem.got
    assert decoder.receive(C, client_hello(), 0.0) == []
    assert decoder.receive(S, b"HTTP/1.1 200 OK", 0.0) == []
    assert decoder.end(C, 0.0) == []


def test_a_client_that_says_next_to_nothing_is_undecided() -> None:
    decoder = LegDecoder()
    assert decoder.receive(C, b"\x16\x03", 0.0) == []
    assert decoder.is_tls is None
    assert fields(decoder.end(C, 0.0)) == ["record"]
    assert decoder.is_tls is None


def test_a_server_that_answers_in_plain_text_is_a_problem() -> None:
    decoder = LegDecoder()
    decoder.receive(C, record(22, client_hello()), 0.0)
    events = decoder.receive(S, b"HTTP/1.1 400 Bad Request\r\n\r\n", 0.0)
    assert "'HTTP/'" in problems(events)[0].got


def test_application_data_before_the_handshake_is_flagged_and_never_counted_as_such() -> None:
    """T33."""
    decoder = LegDecoder()
    stream = record(23, b"GET /admin") + record(22, client_hello())
    events = decoder.receive(C, stream, 0.0) + decoder.receive(S, record(23, b"early"), 0.0)
    assert fields(events) == ["record.type", "record.type"]
    assert not [event for event in events if isinstance(event, ApplicationData)]
    assert [m[2] for m in messages(events)] == [1]


def test_a_hello_in_sslv2_form_is_a_message_that_does_not_count() -> None:
    body = b"\x01\x03\x01" + b"\x00\x03\x00\x00\x00\x20" + b"\x00\x00\x2f" + bytes(range(32))
    hello = bytes((0x80, len(body))) + body
    decoder = LegDecoder()
    events = decoder.receive(C, hello, 0.0)
    assert messages(events) == [("client", "handshake", 1, False, hello)]
    assert decoder.client_random == bytes(range(32))
    assert decoder.handshake_counts[C] == 0
    cut = LegDecoder()
    assert cut.receive(C, hello[:20], 0.0) == []
    message = next(event for event in cut.end(C, 0.0) if isinstance(event, Message))
    assert (message.raw, message.length) == (hello[:20], len(hello))


def test_an_empty_handshake_record_and_an_interleaved_one_are_problems() -> None:
    hello = client_hello()
    stream = record(22, b"") + record(22, hello[:50]) + record(21, b"\x01\x5a") + record(22, hello[50:])
    events = LegDecoder().receive(C, stream, 0.0)
    assert fields(events) == ["record.content", "record.type"]
    assert [(m[1], m[2]) for m in messages(events)] == [("alert", 90), ("handshake", 1)]
    assert messages(events)[1][4] == hello


def test_an_unknown_content_type_is_opaque_and_reading_goes_on() -> None:
    hello = client_hello()
    events = LegDecoder().receive(C, record(22, hello[:50]) + record(77, b"what") + record(22, hello[50:]), 0.0)
    assert fields(events) == ["record.type"]
    assert messages(events)[0][4] == hello


def test_records_over_the_limits_are_problems_and_the_next_one_is_read() -> None:
    hello = client_hello()
    over = hello + b"\x0b\x00\x40\x00" + bytes(16384)
    events = LegDecoder().receive(C, record(22, over) + b"\x16\x03\x03\xff\xff" + bytes(65535) + record(22, hello), 0.0)
    assert fields(events) == ["record.length", "record.length"]
    assert [m[2] for m in messages(events)] == [1, 11, 1]
    made = conversation("1.3")
    decoder = LegDecoder()
    for sender, data in made.log[:2]:
        decoder.receive(sender, data, 0.0)
    events = decoder.receive(S, record(23, bytes((1 << 14) + 257)), 0.0)
    assert fields(events) == ["record.length"]
    assert len(sealed(events)) == 1


def test_a_message_that_spans_a_key_change_is_cut_there() -> None:
    made = connected()
    flight = made.log[1][1]
    length = int.from_bytes(flight[3:5], "big")
    touched = record(22, flight[5 : 5 + length] + b"\x08\x00\x00\x09half") + flight[5 + length :]
    closed = decode([made.log[0], (S, touched)])
    assert fields(closed) == ["record.fragment", "record.type", "record.fragment", "handshake.length"]
    assert isinstance(closed[3], Message | Problem)
    events = decode([made.log[0], (S, touched), *made.log[2:]], keylog=made.keylog)
    assert fields(events) == ["record.fragment", "record.type", "record.fragment", "handshake.length"]
    cut = [event for event in events if isinstance(event, Message) and not event.complete]
    assert [(event.code, event.raw, event.length, event.encrypted) for event in cut] == [
        (8, b"\x08\x00\x00\x09half", 13, False)
    ]
    assert messages(events, C) == messages(decode(made.log, keylog=made.keylog), C)


def keyed(made: Pair, sender: Side, *parts: Callable[[Sealer], bytes]) -> list[Event]:
    """What one side might have sent under its application keys after the handshake."""
    label = "CLIENT_TRAFFIC_SECRET_0" if sender is C else "SERVER_TRAFFIC_SECRET_0"
    assert made.client.tap._decoder.client_random is not None
    # The server has sent two tickets.
    sealer = Sealer(made.keylog.get(made.client.tap._decoder.client_random)[label], sequence=0 if sender is C else 2)
    decoder = LegDecoder(keylog=made.keylog)
    for who, data in made.log:
        decoder.receive(who, data, 0.0)
    return [event for part in parts for event in decoder.receive(sender, part(sealer), 0.0)]


def test_wrong_things_inside_tls13_records_are_problems() -> None:
    made = pair(suites="TLS_AES_128_GCM_SHA256")
    made.run()
    events = keyed(
        made,
        S,
        lambda s: s.seal(0, b"", padding=3),
        lambda s: s.seal(99, b"what"),
        lambda s: s.seal(22, b""),
        lambda s: s.seal(22, b"\x04\x00\x00\x08half"),
        lambda s: s.seal(23, b"data"),
        lambda s: s.seal(22, b"rest") + s.seal(21, b"\x01"),
        lambda s: s.seal(21, b"\x00\x01\x00") + s.seal(20, b"\x02"),
        lambda _: record(21, b"\x02\x28"),
        lambda _: record(22, b"\x00\x00\x00\x00"),
        lambda s: s.seal(24, b"\x01\x00\x02ab"),
    )
    assert fields(events) == [
        "record.type",
        "record.type",
        "record.content",
        "record.type",
        "record.content",
        "record.content",
        "change_cipher_spec",
        "record.type",
        "record.type",
    ]
    assert [(m[1], m[2], m[3]) for m in messages(events)] == [
        ("handshake", 4, True),
        ("alert", 0, True),
        ("alert", 0, True),
        ("change_cipher_spec", 2, True),
        ("alert", 40, False),
        ("handshake", 0, False),
        ("heartbeat", 1, True),
    ]
    assert messages(events)[0][4] == b"\x04\x00\x00\x08halfrest"


def test_a_key_update_with_something_behind_it_in_its_record_is_a_problem() -> None:
    made = pair(suites="TLS_AES_128_GCM_SHA256")
    made.run()

    def updated(sealer: Sealer) -> bytes:
        sealer.update()
        return sealer.seal(23, b"data")

    update = b"\x18\x00\x00\x01\x00"
    events = keyed(made, C, lambda s: s.seal(22, update + b"\x04\x00"), updated, lambda s: s.seal(22, b"\x00\x00"))
    assert fields(events) == ["record.fragment", "record.type", "record.fragment", "handshake.length"]
    assert [(m[2], m[4]) for m in messages(events)] == [(24, update), (4, b"\x04\x00")]
    assert [event.length for event in events if isinstance(event, ApplicationData)] == [4]


def test_a_change_cipher_spec_out_of_place_is_a_problem_and_changes_nothing() -> None:
    made = conversation("1.2")
    early = [made.log[0], (S, record(20, b"\x01")), *made.log[1:]]
    events = decode(early, keylog=made.keylog)
    assert fields(events) == ["change_cipher_spec"]
    assert [m for m in messages(events) if m[1] != "change_cipher_spec"] == [
        m for m in messages(decode(made.log, keylog=made.keylog)) if m[1] != "change_cipher_spec"
    ]
    events = decode([made.log[0], (C, record(20, b"\x02") + record(20, b""))])
    assert fields(events) == ["change_cipher_spec", "change_cipher_spec"]
    assert [m[2] for m in messages(events)] == [1, 2, -1]


def test_an_encrypted_change_cipher_spec_without_a_renegotiation_is_a_problem() -> None:
    made = pair(version=TLS12, ciphers="ECDHE-RSA-AES128-GCM-SHA256", cert="rsa")
    made.run()
    decoder = LegDecoder(keylog=made.keylog)
    for who, data in made.log:
        decoder.receive(who, data, 0.0)
    agreed = decoder._client.agreement
    assert agreed is not None
    keys, _ = key_block(
        TLS12,
        made.keylog.get(agreed.client_random)["CLIENT_RANDOM"],
        agreed.client_random,
        agreed.hello.random,
        hash_name="sha256",
        mac_length=0,
        key_length=16,
        iv_length=4,
    )

    def seal(sequence: int, content_type: int, plain: bytes) -> bytes:
        number = sequence.to_bytes(8, "big")
        header = number + bytes((content_type, 3, 3)) + len(plain).to_bytes(2, "big")
        return record(content_type, number + AESGCM(keys.key).encrypt(keys.iv + number, plain, header))

    events = decoder.receive(C, seal(1, 20, b"\x01") + seal(2, 23, b"data"), 0.0)
    assert fields(events) == ["change_cipher_spec"]
    assert messages(events) == [("client", "change_cipher_spec", 1, True, b"\x01")]
    assert events[-1] == ApplicationData(0.0, C, 1, 4)


def test_early_data_is_closed_without_keys_and_its_handshake_takes_longer_to_be_over() -> None:
    made = pair(previous=connected(early_data=16384), early_data=16384)
    assert early(made, b"GET /early", b"again", accept=True) == b"GET /earlyagain"
    made.say(made.client, b"more of it")
    events = decode(made.log)
    assert not problems(events)
    assert not [event for event in events if isinstance(event, ApplicationData)]
    assert [event.length for event in sealed(events) if event.sender is C][:2] == [27, 22]
    opened = decode(made.log, keylog=made.keylog)
    data = [event for event in opened if isinstance(event, ApplicationData)]
    assert [(event.records, event.length) for event in data] == [(2, 15), (1, 10)]


def test_early_data_whose_key_is_unknown_is_no_problem() -> None:
    for accept in (True, False):
        made = pair(previous=connected(early_data=16384), early_data=16384 if accept else 0)
        early(made, b"GET /early", b"again", accept=accept)
        log = KeyLog()
        for secret in made.keylog:
            if "EARLY" not in secret.label:
                log.add(secret.label, secret.client_random, secret.secret)
        events = decode(made.log, keylog=log)
        assert not problems(events)
        lost = [m for m in messages(made.client.events, C) if m[2] == 5]
        assert [m for m in messages(made.client.events, C) if m not in lost] == messages(events, C)


def test_early_data_that_was_touched_does_not_close_what_follows() -> None:
    made = pair(previous=connected(early_data=16384), early_data=16384)
    early(made, b"one", b"two", b"three", accept=True)
    sender, data = made.log[0]
    at = data.rindex(b"\x17\x03\x03\x00\x14") + 6  # in the second of three records, each of 17 bytes and its data
    touched = bytearray(data)
    touched[at] ^= 1
    events = decode([(sender, bytes(touched)), *made.log[1:]], keylog=made.keylog)
    assert [event.length for event in sealed(events)] == [20]
    assert messages(events) == messages(decode(made.log, keylog=made.keylog))


def test_bulk_data_of_a_capture_that_begins_in_the_middle_is_summed_up_at_last() -> None:
    decoder = LegDecoder()
    events: list[Event] = []
    for _ in range(10):
        events += decoder.receive(S, record(23, bytes(100)) * 1000, 0.0)
    assert len(sealed(events)) == 512
    assert len(problems(events)) == PROBLEMS_AT_MOST + 1
    assert sum(event.records for event in events if isinstance(event, ApplicationData)) == 10_000 - 512
    hello = record(22, client_hello())
    assert [m[2] for m in messages(decoder.receive(C, hello, 0.0))] == [1]
    assert not [e for e in decoder.receive(S, record(23, b"x") * 1000, 0.0) if isinstance(e, ApplicationData)]


def test_a_capture_that_begins_in_the_middle_raises_nothing() -> None:
    for name in CONVERSATIONS:
        made = conversation(name)
        for start in range(1, len(made.log)):
            decode(made.log[start:], keylog=made.keylog)
            decode(made.log[start:])


# Bounds


def test_a_message_that_never_ends_is_kept_up_to_the_cap() -> None:
    """T12: 0xFFFFFF declared, then one byte a record for ever."""
    decoder = LegDecoder(keep=4096)
    decoder.receive(C, record(22, b"\x01\xff\xff\xff"), 0.0)
    drip = record(22, b"x") * 1000
    decoder.receive(C, drip, 0.0)
    tracemalloc.start()
    for _ in range(20):
        assert decoder.receive(C, drip, 0.0) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024
    message, problem = decoder.end(C, 0.0)
    assert isinstance(message, Message)
    assert (len(message.raw), message.length, message.complete) == (4096, (1 << 24) + 3, False)
    assert isinstance(problem, Problem)
    assert (problem.field, problem.got) == ("handshake.length", "21004")


@pytest.mark.parametrize(
    "flood",
    [record(22, b""), record(21, b""), record(23, b""), record(99, b""), record(20, b"\x02"), record(22, b"x", 0x0909)],
)
def test_a_flood_of_empty_or_wrong_records_is_told_a_hundred_times_and_then_counted(flood: bytes) -> None:
    """T15."""
    decoder = LegDecoder()
    decoder.receive(C, record(22, client_hello()), 0.0)
    told = 0
    for _ in range(100):
        told += len(fields(decoder.receive(C, flood * 100, 0.0)))
    assert told == PROBLEMS_AT_MOST + 1
    assert decoder.problem_counts[C] >= 10_000


@pytest.mark.parametrize(
    "flood", [record(22, b""), record(20, b"\x01"), record(23, b""), record(22, b"\x00\x00\x00\x00")]
)
def test_the_cost_of_a_flood_grows_with_its_length_and_no_faster(flood: bytes) -> None:
    """T15: 100,000 records."""
    made = conversation("1.3")

    def cost(count: int) -> float:
        decoder = LegDecoder(keylog=KeyLog())
        for sender, data in made.log[:2]:
            decoder.receive(sender, data, 0.0)
        stream = flood * 1000
        start = time.process_time()
        for _ in range(count // 1000):
            decoder.receive(S, stream, 0.0)
        return time.process_time() - start

    few = max(min(cost(5_000) for _ in range(2)), 0.002)
    assert cost(100_000) < 20 * few * 5


def test_a_flood_of_key_updates_keeps_memory_flat() -> None:
    made = pair(suites="TLS_AES_128_GCM_SHA256")
    made.run()
    assert made.client.tap._decoder.client_random is not None
    sealer = Sealer(made.keylog.get(made.client.tap._decoder.client_random)["CLIENT_TRAFFIC_SECRET_0"])
    decoder = LegDecoder(keylog=made.keylog)
    for who, data in made.log:
        decoder.receive(who, data, 0.0)
    for n in range(2000):
        (message,) = decoder.receive(C, sealer.seal(22, b"\x18\x00\x00\x01\x00"), 0.0)
        assert isinstance(message, Message)
        assert message.code == 24
        sealer.update()
        if n == 100:
            tracemalloc.start()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024


# Anything


@settings(max_examples=150)
@given(parts=st.lists(st.tuples(st.sampled_from([C, S]), st.binary(max_size=200)), max_size=12), keys=st.booleans())
def test_no_bytes_whatever_raise(parts: list[tuple[Side, bytes]], *, keys: bool) -> None:
    decode([(C, b"\x16\x03\x01\x00\x00"), *parts], keylog=KeyLog() if keys else None)
    decode(parts, cut=bytewise)


@settings(max_examples=150)
@given(
    name=st.sampled_from(sorted(CONVERSATIONS)),
    flips=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4000), st.integers(1, 255)), min_size=1, max_size=5),
    keys=st.booleans(),
)
def test_no_touched_handshake_raises(name: str, flips: list[tuple[int, int, int]], *, keys: bool) -> None:
    made = conversation(name)
    log = [(sender, bytearray(data)) for sender, data in made.log]
    for part, at, change in flips:
        data = log[part % len(log)][1]
        data[at % len(data)] ^= change
    touched = [(sender, bytes(data)) for sender, data in log]
    whole = decode(touched, keylog=made.keylog if keys else None)
    sliced = decode(touched, keylog=made.keylog if keys else None, cut=lambda d: (d[:7], d[7:100], d[100:]))
    for side in (C, S):
        assert summed(whole, side) == summed(sliced, side)


@settings(max_examples=60)
@given(
    name=st.sampled_from(sorted(CONVERSATIONS)),
    order=st.lists(st.integers(0, 20), max_size=8),
    keys=st.booleans(),
)
def test_no_order_of_flights_raises(name: str, order: list[int], *, keys: bool) -> None:
    made = conversation(name)
    log = [made.log[n % len(made.log)] for n in order]
    decode(log, keylog=made.keylog if keys else None)
    decode([made.log[0], *log], keylog=made.keylog if keys else None)

"""The two taps hold each other: what OpenSSL's callback said, and what the wire decrypts to."""

from __future__ import annotations

from typing import Any

import pytest
from OpenSSL import SSL
from OpenSSL._util import lib

from countersign.recorder.wire.events import Content, Message, Problem
from countersign.recorder.wire.tap import LegTap
from tests.recorder.tls_pairs import C, Pair, S, Sealer, connected, decode, early, messages, pair, problems

TLS10, TLS11, TLS12 = SSL.TLS1_VERSION, SSL.TLS1_1_VERSION, SSL.TLS1_2_VERSION


def assert_taps_agree(made: Pair) -> None:
    """The wire with its key log, and the taps of both endpoints, say the same messages of each direction."""
    events = decode(made.log, keylog=made.keylog)
    assert not problems(events)
    for endpoint in (made.client, made.server):
        assert not problems(endpoint.events)
        for side in (C, S):
            assert messages(endpoint.events, side) == messages(events, side)


def kinds(events: Any, side: Any = None) -> list[tuple[str, int, bool]]:
    """Content, code and whether it was encrypted, of each message."""
    return [(content, code, encrypted) for _, content, code, encrypted, _ in messages(events, side)]


SUITES_12 = [
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "DHE-RSA-AES128-CCM",
    "AES256-CCM8",
    "AES128-SHA",
    "AES256-SHA256",
    "ECDHE-RSA-AES256-SHA384",
    "CAMELLIA256-SHA256",
    "CAMELLIA128-SHA",
    "SEED-SHA",
    "NULL-SHA256",
]


@pytest.mark.parametrize("etm", [True, False], ids=["etm", "mte"])
@pytest.mark.parametrize("suite", SUITES_12)
def test_both_taps_agree_on_tls12_with_every_kind_of_suite(suite: str, *, etm: bool) -> None:
    made = connected(version=TLS12, ciphers=f"{suite}:@SECLEVEL=0", cert="rsa", etm=etm)
    assert made.server.done
    assert_taps_agree(made)
    assert (Content.HANDSHAKE, 20, True) in kinds(made.client.events, C)
    assert (Content.ALERT, 0, True) in kinds(made.client.events, S)


@pytest.mark.parametrize("etm", [True, False], ids=["etm", "mte"])
@pytest.mark.parametrize("suite", ["AES128-SHA", "ECDHE-RSA-AES256-SHA", "CAMELLIA128-SHA", "IDEA-CBC-SHA", "NULL-SHA"])
@pytest.mark.parametrize("version", [TLS10, TLS11], ids=["tls10", "tls11"])
def test_both_taps_agree_on_old_versions(version: int, suite: str, *, etm: bool) -> None:
    made = connected(version=version, ciphers=f"{suite}:@SECLEVEL=0", cert="rsa", etm=etm)
    assert made.server.done
    assert_taps_agree(made)


@pytest.mark.parametrize(
    "suite",
    [
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_CCM_SHA256",
        "TLS_AES_128_CCM_8_SHA256",
    ],
)
def test_both_taps_agree_on_the_five_suites_of_tls13(suite: str) -> None:
    made = connected(suites=suite, ciphers="ALL:@SECLEVEL=0")
    assert made.server.done
    assert_taps_agree(made)


VARIANTS: dict[str, dict[str, Any]] = {
    "client certificate": {"ask": True, "present": True},
    "no client certificate": {"ask": True},
    "client certificate 1.2": {"ask": True, "present": True, "version": TLS12},
    "client certificate 1.0": {
        "ask": True,
        "present": True,
        "version": TLS10,
        "cert": "rsa",
        "ciphers": "AES128-SHA:@SECLEVEL=0",
    },
    "messages over several records": {"cert": "big"},
    "messages over several records 1.2": {"cert": "big", "version": TLS12},
    "no middlebox compatibility": {"compat": False},
    "no tickets": {"tickets": False},
    "no tickets 1.2": {"tickets": False, "version": TLS12},
    "hello retry request": {"client_groups": "X25519:P-384", "server_groups": "P-384"},
    "hello retry request without compatibility": {
        "client_groups": "X25519:P-384",
        "server_groups": "P-384",
        "compat": False,
    },
    "small hello": {"client_groups": "X25519"},
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_both_taps_agree_on_every_shape_of_handshake(settings: dict[str, Any]) -> None:
    made = connected(**settings)
    assert made.server.done
    assert_taps_agree(made)


REFUSALS: dict[str, tuple[dict[str, Any], Any, bool]] = {
    # OpenSSL's client has no handshake keys on yet when it judges the server's certificate.
    "by the client": ({"client_trusts": False}, C, False),
    "by the client 1.2": ({"client_trusts": False, "version": TLS12}, C, False),
    "by the server": ({"ask": True, "present": True, "server_trusts": False}, S, True),
    "by the server 1.2": ({"ask": True, "present": True, "server_trusts": False, "version": TLS12}, S, False),
    "no common group": ({"client_groups": "X25519", "server_groups": "P-384"}, S, False),
}


@pytest.mark.parametrize(("settings", "refuser", "encrypted"), REFUSALS.values(), ids=REFUSALS)
def test_both_taps_agree_on_refusals(settings: dict[str, Any], refuser: Any, *, encrypted: bool) -> None:
    made = connected(**settings)
    events = decode(made.log, keylog=made.keylog)
    assert not problems(events)
    alerts = [m for m in messages(events, refuser) if m[1] == Content.ALERT]
    assert [(m[2] in {40, 48}, m[3]) for m in alerts] == [(True, encrypted)]
    for endpoint in (made.client, made.server):
        # What was sent is whole. What came is read up to the message that was refused, and in clear to its end.
        assert messages(endpoint.events, endpoint.side) == messages(events, endpoint.side)
        seen, sent = messages(endpoint.events, endpoint.side.peer), messages(events, endpoint.side.peer)
        assert seen == sent[: len(seen)]
        assert all(message[3] for message in sent[len(seen) :])


@pytest.mark.parametrize("version", [TLS12, SSL.TLS1_3_VERSION], ids=["tls12", "tls13"])
@pytest.mark.parametrize("tickets", [True, False], ids=["tickets", "session ids"])
def test_both_taps_agree_on_resumption(version: int, *, tickets: bool) -> None:
    first = connected(version=version, tickets=tickets)
    again = pair(version=version, previous=first)
    again.run()
    assert lib.SSL_session_reused(again.client.connection._ssl) == 1
    again.say(again.client, b"hello again")
    again.close()
    assert_taps_agree(again)
    assert all(code != 11 for _, code, _ in kinds(again.client.events))


def test_both_taps_agree_on_a_renegotiation_with_its_encrypted_change_cipher_spec() -> None:
    for suite in ("ECDHE-RSA-AES128-GCM-SHA256", "AES128-SHA"):
        made = pair(version=TLS12, ciphers=f"{suite}:@SECLEVEL=0", cert="rsa")
        made.run()
        for _ in range(2):
            made.say(made.client, b"before")
            assert made.client.connection.renegotiate()
            made.client.done = False
            made.run()
        made.say(made.server, b"after")
        made.close()
        assert_taps_agree(made)
        assert kinds(made.client.events, C).count((Content.HANDSHAKE, 1, True)) == 2
        assert kinds(made.client.events, S).count((Content.CHANGE_CIPHER_SPEC, 1, True)) == 2


def test_both_taps_agree_on_key_updates_of_both_sides() -> None:
    made = pair(suites="TLS_AES_128_GCM_SHA256")
    made.run()
    assert made.client.tap._decoder.client_random is not None
    secret = made.keylog.get(made.client.tap._decoder.client_random)["CLIENT_TRAFFIC_SECRET_0"]
    sealer = Sealer(secret)
    for request in (1, 0, 1):
        made.inject(C, sealer.seal(22, bytes((24, 0, 0, 1, request)), padding=7))
        sealer.update()
        made.inject(C, sealer.seal(23, b"under the new key"))
    made.say(made.server, b"under the server's new key")
    made.inject(C, sealer.seal(21, b"\x01\x00"))
    assert made.server.received == b"under the new key" * 3
    events = decode(made.log, keylog=made.keylog)
    assert not problems(events)
    assert kinds(events, C).count((Content.HANDSHAKE, 24, True)) == 3
    assert kinds(events, S).count((Content.HANDSHAKE, 24, True)) == 2
    for side in (C, S):
        assert messages(made.server.events, side) == messages(events, side)


@pytest.mark.parametrize("accept", [True, False], ids=["accepted", "declined"])
def test_both_taps_agree_on_early_data(*, accept: bool) -> None:
    first = connected(early_data=16384)
    made = pair(previous=first, early_data=16384 if accept else 0)
    got = early(made, b"GET /early", accept=accept)
    assert got == (b"GET /early" if accept else b"")
    made.say(made.client, b"later")
    made.close()
    assert_taps_agree(made)
    codes = kinds(made.client.events, C)
    assert ((Content.HANDSHAKE, 5, True) in codes) is accept


def test_both_taps_agree_on_early_data_that_a_hello_retry_request_throws_away() -> None:
    first = connected(early_data=16384, client_groups="X25519:P-384", server_groups="X25519:P-384")
    lib.SSL_CTX_set1_curves_list(first.server.connection.get_context()._context, b"P-384")
    made = pair(previous=first, client_groups="X25519:P-384")
    early(made, b"GET /early", accept=False)
    made.close()
    assert (Content.HANDSHAKE, 1, False) in kinds(made.client.events, C)[1:]
    assert_taps_agree(made)


def test_an_answer_comes_after_what_it_answers_without_the_wire_too() -> None:
    made = pair(suites="TLS_AES_128_GCM_SHA256")
    made.run()
    assert made.client.tap._decoder.client_random is not None
    made.client.tap.wire = lambda *_: []  # type: ignore[method-assign]
    secret = made.keylog.get(made.client.tap._decoder.client_random)["SERVER_TRAFFIC_SECRET_0"]
    # The server has sent two tickets.
    made.client.take(Sealer(secret, sequence=2).seal(22, b"\x18\x00\x00\x01\x01"))
    made.client.step()
    made.client.connection.send(b"OpenSSL answers with the next thing that it writes")
    made.client.flush()
    assert [(m[0], m[2]) for m in messages(made.client.events)][-2:] == [("server", 24), ("client", 24)]


def test_the_wire_is_done_when_both_sides_have_finished() -> None:
    for version in (TLS12, SSL.TLS1_3_VERSION):
        made = pair(version=version)
        made.client.step()
        assert not made.client.tap.wire_done
        made.run()
        assert made.client.tap.wire_done
        assert made.server.tap.wire_done


def test_messages_after_the_wire_is_done_need_no_wire() -> None:
    made = pair(version=TLS12, ciphers="ECDHE-RSA-AES128-GCM-SHA256", cert="rsa")
    made.run()
    for endpoint in (made.client, made.server):
        assert endpoint.tap.wire_done
        endpoint.tap.wire = lambda *_: []  # type: ignore[method-assign]
        endpoint.tap.let_go()
    assert made.client.connection.renegotiate()
    made.client.done = False
    made.run()
    made.close()
    events = decode(made.log, keylog=made.keylog)
    for endpoint in (made.client, made.server):
        for side in (C, S):
            assert messages(endpoint.events, side) == messages(events, side)


def test_a_step_gives_incoming_before_outgoing() -> None:
    made = connected(version=TLS12)
    order = [(m[0], m[1], m[2]) for m in messages(made.server.events)]
    last = order.index(("client", "handshake", 20))
    assert order[last - 1] == ("client", "change_cipher_spec", 1)
    assert order[last + 1][0] == "server"


def test_what_the_library_wrote_waits_until_the_wire_shows_it() -> None:
    made = connected()
    hello = made.log[0][1]
    tap = LegTap()
    tap.inside(C, 22, 0x0303, hello[5:])
    assert tap.settle(0.0) == []
    first = tap.wire(C, hello, 1.0)
    assert kinds(first) == [(Content.HANDSHAKE, 1, False)]
    assert tap.settle(2.0) == []


def test_a_hello_in_sslv2_form_does_not_shift_the_count() -> None:
    hello = sslv2_hello()
    made = connected(version=TLS12, ciphers="AES128-SHA:@SECLEVEL=0", cert="rsa")
    tap = LegTap()
    events = tap.wire(C, hello, 0.0)
    assert [(m[2], m[3]) for m in messages(events)] == [(1, False)]
    assert tap._decoder.client_random == b"\x00" * 16 + b"0123456789abcdef"
    for sender, data in made.log[1:4]:
        events += tap.wire(sender, data, 1.0)
    for message in messages(decode(made.log[1:4], keylog=made.keylog), C):
        if message[1] == Content.HANDSHAKE and not message[3]:
            tap.inside(C, 22, 0x0303, message[4])
    tap.inside(C, 22, 0x0303, b"\x14\x00\x00\x0c" + bytes(12))
    events += tap.settle(2.0)
    assert kinds(events, C) == [
        (Content.HANDSHAKE, 1, False),
        (Content.HANDSHAKE, 16, False),
        (Content.CHANGE_CIPHER_SPEC, 1, False),
        (Content.HANDSHAKE, 20, True),
    ]


def sslv2_hello() -> bytes:
    body = b"\x01\x03\x03" + b"\x00\x06\x00\x00\x00\x10" + b"\x00\x00\x2f\x07\x00\xc0" + b"0123456789abcdef"
    return bytes((0x80 | len(body) >> 8, len(body) & 0xFF)) + body


def test_pseudo_headers_of_the_callback_and_empty_messages_are_left_out() -> None:
    tap = LegTap()
    for content_type in (0, 23, 256, 257):
        tap.inside(C, content_type, 0x0304, b"\x16")
    tap.inside(S, 22, 0x0304, b"")
    assert tap.settle(0.0) == []
    assert not any(tap._inside(side).queue for side in (C, S))


def test_a_long_message_from_inside_is_cut_and_hashed() -> None:
    made = connected(cert="big")
    tap = LegTap(keep=1000)
    for sender, data in made.log[:3]:
        tap.wire(sender, data, 0.0)
    certificate = next(m for m in messages(made.client.events, S) if m[2] == 11)[4]
    tap.inside(S, 22, 0x0304, made.log[1][1][5:])
    tap.inside(S, 22, 0x0304, certificate)
    cut = [e for e in tap.settle(0.0) if isinstance(e, Message) and e.code == 11]
    assert len(cut[0].raw) == 1000
    assert cut[0].length == len(certificate)
    whole = Message(0.0, S, Content.HANDSHAKE, 11, encrypted=True, length=len(certificate), raw=certificate)
    assert cut[0].sha256 == whole.sha256


def test_a_wrong_record_on_the_wire_is_a_problem_of_the_tap() -> None:
    tap = LegTap()
    events = tap.wire(C, b"\x16\x03\x01\x00\x00", 0.0) + tap.wire(C, b"\x63\x03\x01\x00\x01x", 0.0)
    assert [e.field for e in events if isinstance(e, Problem)] == ["record.content", "record.type"]
    events = tap.wire(C, b"\x16\x03\x01\x00\x05\x01\x00\x00\x09x", 0.0) + tap.end(C, 1.0)
    assert isinstance(events[0], Message)
    assert not events[0].complete


def test_a_protected_record_that_is_too_long_is_a_problem_behind_others_too() -> None:
    made = connected(version=SSL.TLS1_3_VERSION)
    tap = LegTap()
    for sender, data in made.log[:2]:
        tap.wire(sender, data, 0.0)
    assert tap.wire(S, b"\x17\x03\x03\x00\x20" + bytes(32), 0.0) == []
    (problem,) = problems(tap.wire(S, b"\x17\x03\x03\x41\x01" + bytes(0x4101), 0.0))
    assert (problem.field, problem.expected) == ("record.length", "at most 16640")

"""What a client may do wrong, or oddly, until its handshake is over: it is recorded, and the next one is served."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING

import pytest

from countersign.proxy import Action, Limits
from countersign.recorder.recording import Ending, LegRole, Party, Recording, Status, to_json
from countersign.recorder.wire.events import Content, Side
from tests.proxy.running import RunningProxy
from tests.proxy.wire import (
    SSL3,
    TLS12,
    Target,
    alert,
    client_context,
    client_hello,
    connect,
    in_records,
    reset,
    rest,
    send,
    silent,
    sslv2_hello,
    tls,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def proxy() -> Iterator[RunningProxy]:
    """One in front of the embedded target; at the end it still serves, and nothing in it broke."""
    with RunningProxy() as running:
        yield running
        before = len(running.kept.finished)
        with tls(running) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert b"200" in connection.recv(1000)
        last = running.recordings(before + 1)[-1]
        assert last.outcome.status is Status.ESTABLISHED
        for recording in running.kept.finished:
            assert_sane(recording)
        assert running.engine.open_sessions == 0


def assert_sane(recording: Recording) -> None:
    assert not [failure for failure in recording.failures if failure.code == "internal"]
    assert recording.outcome.text
    to_json(recording)


def assert_broken_by(recording: Recording, party: Party, *words: str) -> None:
    outcome = recording.outcome
    assert (outcome.status, outcome.broken_by) == (Status.FAILED, party), outcome
    for word in words:
        assert word in outcome.text


def client_bytes(recording: Recording) -> bytes:
    """The handshake bytes in clear of the client, as they were kept."""
    leg = recording.leg(LegRole.CLIENT)
    return b"" if leg is None else b"".join(message.raw for message in leg.messages if message.sender is Side.CLIENT)


# -- hellos that are none ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [b"\0" * 100, b"\xff" * 100, b"SSH-2.0-OpenSSH_9.6\r\n", b"\x16\x04\x00\x00\x01\x01", b"\x80\x2e\x05\x03\x01"],
    ids=["zeros", "ones", "ssh", "another version", "nearly SSLv2"],
)
def test_garbage_is_not_tls_and_goes_to_the_target_as_it_is(garbage: bytes) -> None:
    heard = bytearray()

    def hear(connection: socket.socket) -> None:
        while data := connection.recv(1000):
            heard.extend(data)
        connection.sendall(b"what?")

    with Target(hear) as target, RunningProxy(target=target.address) as proxy:
        answer = send(proxy, garbage, finish=True)
        recording = proxy.recording()
    assert recording.outcome.status is Status.NOT_TLS
    assert recording.outcome.broken_by is None
    assert (bytes(heard), answer) == (garbage, b"what?")
    assert recording.from_client == len(garbage)
    assert recording.from_target == 5
    assert recording.problems
    assert_sane(recording)


def test_a_garbled_hello_is_the_clients_fault(proxy: RunningProxy) -> None:
    hello = bytearray(client_hello())
    hello[40:200] = b"\xee" * 160
    assert send(proxy, in_records(bytes(hello)))[:3] == b"\x15\x03\x03"
    assert_broken_by(proxy.recording(), Party.CLIENT, "ClientHello")


def test_a_client_hello_that_lies_about_its_length_is_waited_for(proxy: RunningProxy) -> None:
    lying = b"\x01\xff\xff\xff" + client_hello()[4:]
    assert send(proxy, in_records(lying), finish=True) == b""
    recording = proxy.recording()
    assert_broken_by(recording, Party.CLIENT, "in the middle of its ClientHello")
    assert client_bytes(recording) == lying


def test_another_handshake_message_in_its_place(proxy: RunningProxy) -> None:
    assert send(proxy, in_records(b"\x14\0\0\x0c" + bytes(12))) == alert("unexpected_message")
    assert_broken_by(proxy.recording(), Party.CLIENT, "finished where a ClientHello belongs")


def test_an_alert_in_its_place(proxy: RunningProxy) -> None:
    assert send(proxy, b"\x15\3\1\0\2\2\x28") == alert("unexpected_message")
    assert_broken_by(proxy.recording(), Party.CLIENT, "began with", "alert")


def test_application_data_in_its_place_is_flagged_and_never_passed_on() -> None:
    """T33, CVE-2023-40217: bytes before the handshake must not pass for bytes of the session."""
    heard = bytearray()

    def hear(connection: socket.socket) -> None:
        while data := connection.recv(1000):
            heard.extend(data)

    with Target(hear) as target, RunningProxy(target=target.address) as proxy:
        answer = send(proxy, b"\x17\3\3\0\x10DELETE / HTTP/1." + in_records(client_hello()), finish=True)
        recording = proxy.recording()
    assert answer == alert("unexpected_message")
    assert_broken_by(recording, Party.CLIENT, "application data")
    assert b"DELETE" not in heard
    assert any("record" in problem.field for _, problem in recording.problems), recording.problems
    assert_sane(recording)


@pytest.mark.parametrize(
    ("hello", "named", "told"),
    [
        (client_hello(versions=None, groups=None, suites=(0x0005, 0x0004)), "RC4_128", "handshake_failure"),
        (client_hello(versions=None, groups=None, suites=(0x000A, 0xC012)), "3DES_EDE_CBC", "handshake_failure"),
        (client_hello(versions=None, groups=None, legacy=SSL3), "SSLv3", "protocol_version"),
        (
            client_hello(groups=(0x0015,), shares=(), suites=(0xC02B, 0xC02F), versions=(TLS12,)),
            "secp224r1",
            "handshake_failure",
        ),
    ],
    ids=["RC4", "3DES", "SSLv3", "secp224r1"],
)
def test_what_openssl_has_no_more_is_named_and_laid_to_the_proxy(
    proxy: RunningProxy, hello: bytes, named: str, told: str
) -> None:
    assert send(proxy, in_records(hello)) == alert(told)
    recording = proxy.recording()
    assert_broken_by(recording, Party.PROXY, named, "passthrough")
    assert client_bytes(recording) == hello


def test_a_hello_in_the_form_of_sslv2(proxy: RunningProxy) -> None:
    assert send(proxy, sslv2_hello()) == alert("protocol_version")
    assert_broken_by(proxy.recording(), Party.PROXY, "SSLv2", "passthrough")


@pytest.mark.parametrize(
    "suite", [0x0034, 0x008C, 0x0002, 0xC018, 0xC01D], ids=["anonymous", "PSK", "NULL", "anonymous ECDH", "SRP"]
)
def test_suites_without_a_certificate_or_without_encryption_cannot_be_spoken(proxy: RunningProxy, suite: int) -> None:
    assert send(proxy, in_records(client_hello(versions=None, suites=(suite,)))) == alert("handshake_failure")
    assert_broken_by(proxy.recording(), Party.PROXY, "passthrough")


@pytest.mark.parametrize(
    "name", [b"a\0b", b"\0", b"", b"x" * 300, b"\xff\xfe", b"." * 200, b"xn--" * 63, b"127.0.0.1", b"\x1b[31m\nroot"]
)
def test_odd_server_names(proxy: RunningProxy, name: bytes) -> None:
    with connect(proxy) as connection:
        connection.sendall(in_records(client_hello(sni=name)))
        answer = connection.recv(5, socket.MSG_WAITALL)
    recording = proxy.recording()
    assert answer[:1] == (b"\x16" if name == b"127.0.0.1" else b"\x15")
    assert recording.outcome.status is Status.FAILED
    assert recording.outcome.broken_by in {Party.CLIENT, Party.PROXY}
    assert_sane(recording)


@pytest.mark.parametrize("names", [(b"",), (b"h2", b""), (b"\0",), (b"\xff" * 255,) * 200, (b"x",) * 30_000], ids=len)
def test_odd_alpn_names(proxy: RunningProxy, names: tuple[bytes, ...]) -> None:
    with connect(proxy) as connection:
        connection.sendall(in_records(client_hello(alpn=names)))
        connection.recv(5)
    assert_sane(proxy.recording())


# -- hellos in odd pieces ----------------------------------------------------------------------------------------


def test_a_client_hello_cut_at_each_byte(proxy: RunningProxy) -> None:
    whole = in_records(client_hello(padding=60))
    cuts = range(1, len(whole))
    for cut in cuts:
        assert send(proxy, whole[:cut], finish=True) == b""
        recording = proxy.recordings(cut)[-1]
        assert_broken_by(recording, Party.CLIENT, f"sent {cut} bytes", "in the middle of its ClientHello")
        assert recording.from_client == cut
        if cut > 5:
            assert client_bytes(recording) == whole[5:cut]
    assert len(proxy.kept.finished) == len(cuts)


def test_a_client_hello_that_comes_a_byte_at_a_time(proxy: RunningProxy) -> None:
    hello = client_hello()
    with connect(proxy) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in in_records(hello):
            connection.sendall(bytes([byte]))
        assert connection.recv(5, socket.MSG_WAITALL)[:3] == b"\x16\x03\x03"
    assert client_bytes(proxy.recording()).startswith(hello)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 17, 100])
def test_a_client_hello_in_many_records(proxy: RunningProxy, size: int) -> None:
    hello = client_hello()
    with connect(proxy) as connection:
        connection.sendall(in_records(hello, size=size))
        assert connection.recv(5, socket.MSG_WAITALL)[:3] == b"\x16\x03\x03"
    assert client_bytes(proxy.recording()).startswith(hello)


@pytest.mark.parametrize(
    "hello",
    [client_hello(padding=65_000), client_hello(alpn=[b"protocol-%05d" % n for n in range(4300)] + [b"http/1.1"])],
    ids=["padding", "ALPN"],
)
def test_a_client_hello_of_64_kib(proxy: RunningProxy, hello: bytes) -> None:
    with connect(proxy) as connection:
        connection.sendall(in_records(hello))
        assert connection.recv(5, socket.MSG_WAITALL)[:3] == b"\x16\x03\x03"
    assert client_bytes(proxy.recording()).startswith(hello)


def test_a_client_hello_without_end_is_given_up(proxy: RunningProxy) -> None:
    lying = b"\x01\xff\xff\xff" + bytes(400_000)
    with connect(proxy) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(in_records(lying))
        rest(connection)
    assert_broken_by(proxy.recording(), Party.CLIENT, "ClientHello")


# -- clients that say too little ---------------------------------------------------------------------------------


def test_a_client_that_says_nothing_is_let_go_after_the_time_limit() -> None:
    with RunningProxy(limits=Limits(hello=0.2)) as proxy:
        began = time.monotonic()
        with connect(proxy) as connection:
            assert rest(connection) == b""
        recording = proxy.recording()
        assert 0.15 < time.monotonic() - began < 8
        with connect(proxy) as connection:
            connection.sendall(in_records(client_hello())[:50])
            rest(connection)
        half = proxy.recordings(2)[-1]
    assert_broken_by(recording, Party.CLIENT, "sent no ClientHello within 0.2 s")
    assert_broken_by(half, Party.CLIENT, "sent only 50 bytes")
    assert client_bytes(half)
    assert [end.how for end in half.legs[0].ends] == [Ending.SILENT]


def test_an_http_request_to_the_tls_port() -> None:
    with (
        Target(lambda connection: connection.sendall(connection.recv(1000).upper())) as target,
        RunningProxy(target=target.address) as proxy,
    ):
        answer = send(proxy, b"GET /secret HTTP/1.1\r\nHost: x\r\n\r\n")
        recording = proxy.recording()
    assert answer.startswith(b"GET /SECRET HTTP/1.1")
    assert recording.outcome.status is Status.NOT_TLS
    assert recording.action == "relay"
    assert recording.prelude["not_tls"]["from_client"].startswith("GET /secret")


# -- resets at each step -----------------------------------------------------------------------------------------


def test_a_reset_right_after_the_connect(proxy: RunningProxy) -> None:
    reset(connect(proxy))
    assert_broken_by(proxy.recording(), Party.CLIENT, "reset", "without sending a ClientHello")


def test_a_close_right_after_the_connect(proxy: RunningProxy) -> None:
    connect(proxy).close()
    assert_broken_by(proxy.recording(), Party.CLIENT, "closed", "without sending a ClientHello")


def test_a_reset_in_the_client_hello(proxy: RunningProxy) -> None:
    connection = connect(proxy)
    connection.sendall(in_records(client_hello())[:77])
    time.sleep(0.05)
    reset(connection)
    recording = proxy.recording()
    assert_broken_by(recording, Party.CLIENT, "sent 77 bytes", "reset", "in the middle of its ClientHello")
    assert recording.legs[0].ends[0].how is Ending.RESET


@pytest.mark.parametrize("ending", ["reset", "fin"])
def test_leaving_while_the_target_is_spoken_to(ending: str) -> None:
    with Target(silent) as target, RunningProxy(target=target.address) as proxy:
        connection = connect(proxy)
        connection.sendall(in_records(client_hello()))
        time.sleep(0.1)
        reset(connection) if ending == "reset" else connection.close()
        recording = proxy.recording()
    assert_broken_by(recording, Party.CLIENT, "before the proxy had answered its ClientHello")
    assert recording.leg(LegRole.SERVER) is not None
    assert_sane(recording)


@pytest.mark.parametrize("version", [None, (TLS12,)], ids=["TLS 1.3", "TLS 1.2"])
def test_a_reset_after_the_servers_flight(proxy: RunningProxy, version: tuple[int, ...] | None) -> None:
    connection = connect(proxy)
    hello = client_hello() if version is None else client_hello(versions=None)
    connection.sendall(in_records(hello))
    connection.recv(5, socket.MSG_WAITALL)
    time.sleep(0.05)
    reset(connection)
    recording = proxy.recording()
    assert_broken_by(recording, Party.CLIENT, "reset the connection in the middle of the handshake")
    assert recording.outcome.leg is LegRole.CLIENT


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_reset_after_finished_is_abandoned(proxy: RunningProxy, version: str) -> None:
    connection = tls(proxy, client_context(version=version))
    time.sleep(0.1)
    reset(connection)
    recording = proxy.recording()
    assert recording.outcome.status is Status.ABANDONED
    leg = recording.leg(LegRole.CLIENT)
    assert leg is not None
    assert [end.how for end in leg.ends if end.sender is Side.CLIENT] == [Ending.RESET]


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_reset_in_the_data(proxy: RunningProxy, version: str) -> None:
    connection = tls(proxy, client_context(version=version))
    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert connection.recv(1000)
    reset(connection)
    assert proxy.recording().outcome.status is Status.ESTABLISHED


def test_a_client_that_does_not_trust_the_proxy(proxy: RunningProxy) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        tls(proxy, ssl.create_default_context())
    recording = proxy.recording()
    assert_broken_by(recording, Party.CLIENT, "does not trust the CA", "the chain sent ends with", "which was not sent")
    assert recording.outcome.alert == "unknown_ca"
    assert recording.outcome.leg is LegRole.CLIENT


# -- passed through, the same oddities ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [sslv2_hello(), b"\x15\3\1\0\2\2\x28", b"\x17\3\3\0\x05hello", in_records(client_hello(suites=(5,)))],
    ids=["SSLv2", "alert", "application data", "RC4"],
)
def test_passed_through_they_reach_the_target_as_they_are(first: bytes) -> None:
    heard = bytearray()

    def hear(connection: socket.socket) -> None:
        while data := connection.recv(1000):
            heard.extend(data)

    with Target(hear) as target, RunningProxy(target=target.address, action=Action.PASSTHROUGH) as proxy:
        send(proxy, first, finish=True)
        recording = proxy.recording()
    assert bytes(heard) == first
    assert recording.outcome.status is Status.FAILED
    assert_sane(recording)


def test_the_first_message_of_each_kind_is_kept_with_its_kind(proxy: RunningProxy) -> None:
    send(proxy, b"\x14\3\3\0\1\1" + in_records(client_hello()), finish=True)
    recording = proxy.recording()
    leg = recording.leg(LegRole.CLIENT)
    assert leg is not None
    assert leg.messages[0].content is Content.CHANGE_CIPHER_SPEC
    assert_broken_by(recording, Party.CLIENT)

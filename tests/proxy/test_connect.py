"""An explicit proxy: CONNECT as it should be, as it should not be, and whom it must never reach."""

from __future__ import annotations

import contextlib
import socket
import time
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest

from countersign.errors import UserError
from countersign.proxy import Action, Address, Limits, Mode, Settings
from countersign.recorder.recording import Party, Recording, Status, to_json
from tests.proxy.running import RunningProxy
from tests.proxy.wire import (
    Client,
    Target,
    alert,
    client_context,
    client_hello,
    connect,
    connect_request,
    echo,
    in_records,
    rest,
    send,
    server_context,
    tls,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.peers.certs import Lab


def proxied(**settings: Any) -> RunningProxy:
    return RunningProxy(**{"mode": Mode.CONNECT, "verify": False, **settings})


@pytest.fixture
def proxy() -> Iterator[RunningProxy]:
    with proxied() as running:
        yield running
        for recording in running.kept.finished:
            assert not [failure for failure in recording.failures if failure.code == "internal"]
            to_json(recording)


@pytest.fixture
def target(lab: Lab) -> Iterator[Target]:
    with Target(echo(server_context(lab.server))) as running:
        yield running


def assert_refused(recording: Recording, party: Party, answer: int, *words: str) -> None:
    outcome = recording.outcome
    assert (outcome.status, outcome.broken_by) == (Status.FAILED, party), outcome
    assert recording.prelude["answer"] == answer
    for word in words:
        assert word in outcome.text


def tunnel(proxy: RunningProxy, target: Target, *headers: str, version: str = "1.1") -> socket.socket:
    """A connection whose CONNECT request has been answered with 200."""
    connection = connect(proxy)
    connection.sendall(connect_request(target.address.host, target.address.port, *headers, version=version))
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += connection.recv(1)
    assert answer.startswith(b"HTTP/1.1 200 ")
    return connection


# -- as it should be ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_tunnel(target: Target, action: Action, version: str) -> None:
    with proxied(action=action) as proxy:
        with tls(proxy, client_context(), connection=tunnel(proxy, target, version=version)) as connection:
            connection.sendall(b"through")
            assert connection.recv(100) == b"through"
        recording = proxy.recording()
    assert recording.outcome.status is Status.ESTABLISHED
    assert recording.target == str(target.address)
    assert recording.prelude["request"]["method"] == "CONNECT"
    assert recording.prelude["answer"] == 200
    assert recording.mode == "connect"


@pytest.mark.parametrize("action", list(Action))
def test_a_client_hello_in_the_same_segment_as_the_request(target: Target, action: Action) -> None:
    with proxied(action=action) as proxy:
        with connect(proxy) as connection:
            connection.sendall(connect_request("127.0.0.1", target.address.port) + in_records(client_hello()))
            answer = connection.recv(39, socket.MSG_WAITALL)
            assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n"
            assert connection.recv(3, socket.MSG_WAITALL) == b"\x16\3\3"
        assert proxy.recording().sni == "localhost"


def test_a_request_that_comes_a_byte_at_a_time(proxy: RunningProxy, target: Target) -> None:
    with connect(proxy) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in connect_request("127.0.0.1", target.address.port):
            connection.sendall(bytes([byte]))
        assert connection.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"


def test_credentials_of_the_request_are_not_kept(proxy: RunningProxy, target: Target) -> None:
    secrets = ("Basic c2VjcmV0LTE=", "Bearer c2VjcmV0LTI", "sid=c2VjcmV0LTM")
    headers = ("Proxy-Authorization", "authorization", "COOKIE")
    tunnel(proxy, target, *(f"{name}: {secret}" for name, secret in zip(headers, secrets, strict=True))).close()
    written = str(to_json(proxy.recording()))
    assert "c2VjcmV0" not in written
    assert written.count("(redacted)") == 3


# -- as it should not be -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_bytes", "status", "words"),
    [
        (b"\0\1\2\3\r\n\r\n", 400, "no proxy request"),
        (b"GET https://example.test/ HTTP/1.1\r\nHost: example.test\r\n\r\n", 400, "GET request"),
        (b"CONNECT example.test HTTP/1.1\r\nHost: example.test\r\n\r\n", 400, "not HOST:PORT"),
        (b"CONNECT example.test:0 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "not HOST:PORT"),
        (b"CONNECT example.test:99999 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "not HOST:PORT"),
        (b"CONNECT :443 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "not HOST:PORT"),
        (b"CONNECT user@host:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "not HOST:PORT"),
        (b"CONNECT http://example.test:443/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "not HOST:PORT"),
        (b"CONNECT example.test:443 HTTP/1.1\r\n\r\n", 400, "understood"),
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", 431, "no proxy request"),
        (b"CONNECT " + b"a" * 100_000, 431, "no proxy request"),
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n" + b"a" * 100_000, 431, "no proxy request"),
        (
            b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            400,
            "no proxy request",
        ),
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\n\r\n", 501, "no proxy request"),
        (in_records(client_hello()), 400, "TLS"),
    ],
    ids=range(15),
)
def test_bad_requests_are_answered_and_recorded(
    proxy: RunningProxy, request_bytes: bytes, status: int, words: str
) -> None:
    began = time.process_time()
    with connect(proxy) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request_bytes)
        answer = rest(connection)
    assert time.process_time() - began < 1
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert answer.isascii()
    assert_refused(proxy.recording(), Party.CLIENT, status, words)


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_request_that_is_cut(proxy: RunningProxy, cut: int) -> None:
    send(proxy, connect_request("127.0.0.1", 443)[:cut], finish=True)
    recording = proxy.recording()
    assert recording.outcome.broken_by is Party.CLIENT
    assert "in the middle of its proxy request" in recording.outcome.text


def test_a_client_that_closes_without_a_word(proxy: RunningProxy) -> None:
    connect(proxy).close()
    assert "without sending a CONNECT request" in proxy.recording().outcome.text


def test_a_client_that_does_not_finish_its_request() -> None:
    with proxied(limits=Limits(hello=0.2)) as proxy:
        with connect(proxy) as connection:
            connection.sendall(b"CONNECT x:443 HTTP/1.1\r\n")
            assert rest(connection)[:12] in {b"HTTP/1.1 408", b""}
        recording = proxy.recording()
    assert recording.outcome.broken_by is Party.CLIENT
    assert "no CONNECT request in time" in recording.outcome.text


def test_a_client_that_says_nothing_in_its_tunnel(target: Target) -> None:
    with proxied(limits=Limits(hello=0.2)) as proxy:
        with tunnel(proxy, target) as connection:
            assert rest(connection) == b""
        recording = proxy.recording()
    assert recording.outcome.broken_by is Party.CLIENT
    assert "sent no ClientHello within 0.2 s" in recording.outcome.text


@pytest.mark.parametrize(
    "header", ["Content-Length: 5", "Transfer-Encoding: chunked", "Expect: 100-continue", "Upgrade: h2c", "X: a\r\n b"]
)
def test_a_request_with_a_body_makes_no_second_request(proxy: RunningProxy, target: Target, header: str) -> None:
    """T4: what follows the request is the tunnel's, whatever its header fields promise."""
    with connect(proxy) as connection:
        connection.sendall(connect_request("127.0.0.1", target.address.port, header) + connect_request("127.0.0.1", 1))
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        assert rest(connection).count(b"HTTP/1.1 ") <= 1
    assert len(proxy.recordings(1)) == 1
    assert proxy.kept.finished[0].target in {str(target.address), None}


# -- whom it must not reach --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "127.1", "2130706433", "0x7f.1"],
)
def test_the_proxy_does_not_dial_itself(proxy: RunningProxy, host: str) -> None:
    """T28."""
    answer = send(proxy, connect_request(host, proxy.port))
    assert answer.startswith(b"HTTP/1.1 403 "), answer
    assert b"this proxy itself" in answer
    (recording,) = proxy.recordings(1)
    assert_refused(recording, Party.PROXY, 403, "this proxy itself")


def test_the_proxy_does_not_dial_itself_by_the_name_of_its_machine(proxy: RunningProxy) -> None:
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, 1)
    except socket.gaierror:
        pytest.skip("this machine's own name has no address")
    assert send(proxy, connect_request(name, proxy.port)).startswith(b"HTTP/1.1 403 ")
    assert len(proxy.recordings(1)) == 1


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "169.254.1.1", "[fe80::1]", "[::ffff:169.254.169.254]", "2852039166", "0xa9fea9fe",
        "[fd00:ec2::254]", "100.100.100.200",
    ],
)  # fmt: skip
def test_metadata_services_are_not_dialled(proxy: RunningProxy, host: str) -> None:
    """T29."""
    answer = send(proxy, f"CONNECT {host}:80 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 "), answer
    assert_refused(proxy.recording(), Party.PROXY, 403, "metadata")


@pytest.mark.parametrize("listen", ["0.0.0.0", "::", "192.0.2.1", "proxy.example.test"])
def test_an_open_proxy_is_refused(listen: str) -> None:
    """T29."""
    with pytest.raises(UserError, match="open proxy"):
        Settings(listen=Address(listen, 3128), mode=Mode.CONNECT)
    Settings(listen=Address(listen, 3128), mode=Mode.CONNECT, allow=(ip_network("10.0.0.0/8"),))
    Settings(listen=Address(listen, 3128), target=Address("example.test", 443))


def test_clients_that_are_not_on_the_list_are_turned_away(target: Target) -> None:
    with proxied(allow=(ip_network("10.0.0.0/8"), ip_network("::/0"))) as proxy:
        assert send(proxy, connect_request("127.0.0.1", target.address.port)) == b""
        recording = proxy.recording()
    assert (recording.outcome.broken_by, recording.action) == (Party.PROXY, "refuse")
    assert "--allow" in recording.outcome.text
    with proxied(allow=(ip_network("127.0.0.0/8"),)) as proxy:
        tunnel(proxy, target).close()


def test_clients_of_a_reverse_proxy_that_are_not_on_the_list(target: Target) -> None:
    with RunningProxy(target=target.address, verify=False, allow=(ip_network("10.0.0.0/8"),)) as proxy:
        assert send(proxy, in_records(client_hello())) in {b"", alert("internal_error")}
        assert proxy.recording().outcome.broken_by is Party.PROXY


# -- what strangers' names may not do ----------------------------------------------------------------------------


def test_names_of_strangers_are_text_in_the_log(target: Target, capsys: pytest.CaptureFixture[str]) -> None:
    """T9, T10, T30: a server name and a header field cannot forge a log line or cost more than their length."""
    forged = b'x"}\n{"event": "session"}\x1b[31m'
    with proxied() as proxy:
        with tunnel(proxy, target) as connection:
            connection.sendall(in_records(client_hello(sni=forged)))
            connection.recv(100)
        recording = proxy.recording()
        assert len(proxy.kept.finished) == 1
    out = capsys.readouterr()
    for text in (recording.outcome.text, recording.sni or ""):
        assert text.isprintable()
    assert "\x1b[31m" not in out.out.replace("\x1b[31m\x1b[1m", "")
    assert '\n{"event": "session"}' not in out.out


def test_a_tunnel_that_is_reset_before_the_hello(proxy: RunningProxy, target: Target) -> None:
    from tests.proxy.wire import reset

    reset(tunnel(proxy, target))
    assert "reset the connection without sending a ClientHello" in proxy.recording().outcome.text


def test_a_handshake_in_a_tunnel_can_be_watched_to_its_end(proxy: RunningProxy, target: Target) -> None:
    raw = tunnel(proxy, target)
    client = Client(proxy, client_context(), connection=raw)
    client.handshake()
    client.close()
    assert proxy.recording().outcome.status is Status.ABANDONED

"""Out through an upstream proxy: ours, in a chain of two; with passwords; inside of TLS; and proxies that will not."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest

from countersign.errors import EnvironmentFault
from countersign.proxy import Address, Limits, Mode
from countersign.proxy.ways.credentials import Credentials
from countersign.proxy.ways.upstream import parse_upstream
from countersign.recorder.recording import FailureCode, Party, Status, to_json
from tests.peers.curl import curl
from tests.proxy.running import RunningProxy
from tests.proxy.test_ways_in import https
from tests.proxy.wire import Target, alert, ask, client_hello, connect_request, echo, in_records, send, server_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.peers.certs import Lab

USERS = Credentials.parse(b"alice:open sesame\n", name="test")


@pytest.fixture
def target(lab: Lab) -> Iterator[Target]:
    with Target(echo(server_context(lab.server))) as running:
        yield running


def through(url: str, **settings: Any) -> RunningProxy:
    return RunningProxy(**{"verify": False, "upstream": parse_upstream(url), **settings})


@pytest.mark.parametrize(
    ("mode", "scheme"), [(Mode.CONNECT, "http"), (Mode.SOCKS5, "socks5"), (Mode.SOCKS5, "socks5h")]
)
@pytest.mark.parametrize("password", ["", "alice:open%20sesame@"])
def test_our_own_proxy_is_the_upstream_proxy_of_another(target: Target, mode: Mode, scheme: str, password: str) -> None:
    credentials = USERS if password else None
    with RunningProxy(mode=mode, verify=False, credentials=credentials) as outer:
        with through(f"{scheme}://{password}127.0.0.1:{outer.port}", target=target.address) as inner:
            for _ in range(2):
                assert ask(inner) == b"good morning\n"
            inside = inner.recordings(2)
        outside = outer.recordings(2)
    for recording in inside:
        assert recording.outcome.status is Status.ESTABLISHED, recording.outcome
        upstream = recording.prelude["upstream"]
        assert upstream["proxy"].endswith(f"127.0.0.1:{outside[0] and outer_port(upstream)}")
        assert upstream["target"] == str(target.address)
        assert upstream["answer"] == (200 if mode is Mode.CONNECT else 0)
        assert "sesame" not in json.dumps(to_json(recording))
    if password and mode is Mode.CONNECT:
        assert inside[0].prelude["upstream"]["authentication"] == "basic"
    for recording in outside:
        assert recording.target == str(target.address)
        assert recording.outcome.status is Status.ESTABLISHED


def outer_port(upstream: dict[str, str]) -> str:
    return upstream["proxy"].rpartition(":")[2]


@pytest.mark.peer("curl")
def test_names_are_for_the_upstream_proxy_to_resolve(lab: Lab, tmp_path: Path) -> None:
    from countersign.proxy.ways.addressing import Overrides

    with Target(https(lab)) as server:
        port = server.address.port
        known = Overrides.parse([f"only-there.invalid:{port}:127.0.0.1"])
        with (
            RunningProxy(mode=Mode.CONNECT, verify=False, resolve=known) as outer,
            through(f"http://127.0.0.1:{outer.port}", mode=Mode.SOCKS5) as inner,
        ):
            url = f"https://only-there.invalid:{port}/"
            answer = curl(url, "-k", proxy=f"socks5h://127.0.0.1:{inner.port}")
    assert answer.body == b"ok", answer.error


def digest(connection: socket.socket) -> None:
    """A proxy that asks for Digest and closes behind its challenge; the second time it takes any answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    if b'Digest username="alice"' not in data:
        challenge = b'Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256'
        connection.sendall(
            b"HTTP/1.1 407 No\r\nConnection: close\r\nContent-Length: 0\r\nProxy-Authenticate: "
            + challenge
            + b"\r\n\r\n"
        )
        return
    place = data.split()[1].decode()
    host, _, port = place.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as onward:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        splice(connection, onward)


def splice(one: socket.socket, other: socket.socket) -> None:
    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    back = threading.Thread(target=pump, args=(other, one))
    back.start()
    pump(one, other)
    back.join(10)


def test_digest_on_a_new_connection(target: Target) -> None:
    with Target(digest) as upstream, through(f"http://alice:x@{upstream.address}", target=target.address) as proxy:
        assert ask(proxy) == b"good morning\n"
        assert ask(proxy) == b"good morning\n"
        recordings = proxy.recordings(2)
        assert len(upstream.connections) == 3  # the second session shows its answer at once
    assert recordings[0].prelude["upstream"]["authentication"] == "digest SHA-256"


def test_a_proxy_inside_of_tls(lab: Lab, target: Target) -> None:
    with RunningProxy(mode=Mode.CONNECT, verify=False) as outer:

        def unwrap(connection: socket.socket) -> None:
            with (
                server_context(lab.server).wrap_socket(connection, server_side=True) as secured,
                socket.create_connection(outer.address, 10) as onward,
            ):
                splice(secured, onward)

        root = ssl.PEM_cert_to_DER_cert(lab.root_pem.read_text())
        with Target(unwrap) as upstream:
            url = f"https://localhost:{upstream.address.port}"
            with through(url, target=target.address, roots=(root,)) as proxy:
                assert ask(proxy) == b"good morning\n"
                assert proxy.recording().prelude["upstream"]["proxy"] == url
            with through(url, target=target.address, roots=()) as proxy:
                assert send(proxy, in_records(client_hello())) == alert("internal_error")
                recording = proxy.recording()
    assert recording.outcome.broken_by is Party.UPSTREAM_PROXY
    assert "self-signed certificate" in recording.outcome.text or "unable to get" in recording.outcome.text


def saying(answer: bytes) -> Target:
    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    return Target(handle)


@pytest.mark.parametrize(
    ("scheme", "answer", "code", "words"),
    [
        ("http", b"HTTP/1.1 403 Not you\r\n\r\n", FailureCode.UPSTREAM_REFUSED, "403 Not you"),
        ("http", b"", FailureCode.UPSTREAM_BROKEN, "closed"),
        ("http", b"\x15\3\3\0\2\2\x28", FailureCode.UPSTREAM_BROKEN, "https://"),
        (
            "http",
            b'HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n',
            FailureCode.UPSTREAM_NOT_AUTHENTICATED,
            "was given none",
        ),
        ("socks5", b"\5\0\5\2\0\1", FailureCode.UPSTREAM_REFUSED, "not allowed by ruleset"),
        ("socks5", b"\5", FailureCode.UPSTREAM_BROKEN, "in the middle of the SOCKS dialogue"),
        ("socks5", b"\5\xff", FailureCode.UPSTREAM_NOT_AUTHENTICATED, ""),
        ("https", b"no TLS at all", FailureCode.UPSTREAM_BROKEN, "no TLS connection"),
    ],
)
def test_a_proxy_that_gives_no_connection_is_at_fault(
    scheme: str, answer: bytes, code: FailureCode, words: str
) -> None:
    with saying(answer) as upstream, through(f"{scheme}://{upstream.address}", mode=Mode.CONNECT) as proxy:
        told = send(proxy, connect_request("example.test", 443))
        recording = proxy.recording()
    assert [(failure.by, failure.code) for failure in recording.failures] == [(Party.UPSTREAM_PROXY, code)]
    assert words in recording.outcome.text
    assert told.startswith(b"HTTP/1.1 502 ")


def test_a_proxy_that_refuses_connections_or_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        limits = Limits(connect=0.3)
        with through(f"http://127.0.0.1:{port}", mode=Mode.CONNECT, limits=limits) as proxy:
            assert send(proxy, connect_request("example.test", 443)).startswith(b"HTTP/1.1 504 ")
    with through(f"http://127.0.0.1:{port}", mode=Mode.CONNECT) as other:
        assert send(other, connect_request("example.test", 443)).startswith(b"HTTP/1.1 502 ")
        refused = other.recording()
    assert [(failure.by, failure.code) for failure in proxy.recording().failures] == [
        (Party.UPSTREAM_PROXY, FailureCode.DIAL_TIMEOUT)
    ]
    assert [(failure.by, failure.code) for failure in refused.failures] == [
        (Party.UPSTREAM_PROXY, FailureCode.DIAL_REFUSED)
    ]


def test_what_a_client_may_not_reach_it_may_not_reach_through_another_proxy(target: Target) -> None:
    with Target(digest) as upstream, through(f"http://{upstream.address}", mode=Mode.CONNECT) as proxy:
        assert send(proxy, connect_request("169.254.169.254", 80)).startswith(b"HTTP/1.1 403 ")
        assert send(proxy, connect_request("127.0.0.1", proxy.port)).startswith(b"HTTP/1.1 403 ")
        assert upstream.connections == []


def test_a_proxy_that_would_be_its_own_upstream_proxy_does_not_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        pytest.raises(EnvironmentFault, match="this proxy itself"),
        through(f"http://alice:secret@localhost:{port}", mode=Mode.CONNECT, listen=Address("127.0.0.1", port)),
    ):
        pass


def test_basic_is_shown_as_the_rfc_has_it(target: Target) -> None:
    seen: list[bytes] = []

    def basic(connection: socket.socket) -> None:
        for _ in range(2):
            seen.append(connection.recv(65536))
            connection.sendall(b'HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n')

    with Target(basic) as upstream, through(f"http://a:b%3Ac@{upstream.address}", mode=Mode.CONNECT) as proxy:
        send(proxy, connect_request("example.test", 443))
        recording = proxy.recording()
    assert base64.b64encode(b"a:b:c") in seen[1]
    assert [failure.code for failure in recording.failures] == [FailureCode.UPSTREAM_NOT_AUTHENTICATED]


def no_tunnels(connection: socket.socket, heard: list[bytes], *, password: bool) -> None:
    """A proxy that gives tunnels to nobody, forwards what it is asked for, and may want alice's password first."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    heard.append(data)
    if password and b"Proxy-Authorization: Basic YWxpY2U6eA==" not in data:
        answer = b'407 No\r\nProxy-Authenticate: Basic realm="r"'
    else:
        answer = b"403 Forbidden" if data.startswith(b"CONNECT ") else b"200 OK"
    connection.sendall(b"HTTP/1.1 " + answer + b"\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")


@pytest.mark.parametrize("login", ["", "alice:x@"])
def test_plain_requests_go_as_they_are_through_a_proxy_that_gives_no_tunnel(login: str) -> None:
    """As OCSP and CRLs do where only port 443 may be asked for by CONNECT (RFC 9112 3.2.2)."""
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        no_tunnels(connection, heard, password=bool(login))

    with Target(serve) as upstream, through(f"http://{login}{upstream.address}", mode=Mode.CONNECT) as proxy:
        for line in (b"GET http://ocsp.invalid/a?b", b"OPTIONS http://ocsp.invalid:81"):
            answer = send(proxy, line + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 "), answer
        recording = proxy.recordings(2)[0]
    forwarded = [one for one in heard if not one.startswith(b"CONNECT ")]
    assert [one.split(b" HTTP")[0] for one in forwarded] == [
        b"GET http://ocsp.invalid/a?b",
        b"OPTIONS http://ocsp.invalid:81",
    ]
    assert all((b"Proxy-Authorization: Basic" in one) is bool(login) for one in forwarded)
    assert (recording.prelude["upstream"]["answer"], recording.prelude["upstream"]["forwards"]) == (403, True)


def test_a_proxy_that_wants_a_password_for_a_plain_request_alone_is_told_as_that() -> None:
    def serve(connection: socket.socket) -> None:
        tunnel = connection.recv(65536).startswith(b"CONNECT ")
        answer = b"403 Forbidden" if tunnel else b'407 No\r\nProxy-Authenticate: Basic realm="r"'
        connection.sendall(b"HTTP/1.1 " + answer + b"\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")

    with Target(serve) as upstream, through(f"http://{upstream.address}", mode=Mode.CONNECT) as proxy:
        answer = send(proxy, b"GET http://ocsp.invalid/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"the upstream proxy wants a user name and password" in answer

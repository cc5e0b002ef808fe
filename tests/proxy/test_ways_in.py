"""Ways in over a running proxy: SOCKS, plain requests, passwords, targets by name, the PROXY protocol."""

from __future__ import annotations

import asyncio
import http.server
import json
import socket
import ssl
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from countersign.ca import Authority, issue
from countersign.ca.revocation import Responder
from countersign.ca.revocation.points import CrlForm
from countersign.errors import EnvironmentFault, UserError
from countersign.proxy import Action, Address, Mode, Settings
from countersign.proxy.ways.addressing import Overrides, Targets
from countersign.proxy.ways.credentials import Credentials
from countersign.proxy.ways.policy import Policy, Rule, Verdict
from countersign.recorder.recording import FailureCode, Party, Status, to_json
from tests.peers.curl import curl
from tests.peers.process import run
from tests.proxy.running import RunningProxy
from tests.proxy.ways.test_http_in import HIDDEN, SMUGGLING
from tests.proxy.wire import (
    Target,
    alert,
    ask,
    client_context,
    client_hello,
    connect,
    connect_request,
    echo,
    in_records,
    send,
    server_context,
    tls,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.peers.certs import Lab

USERS = Credentials.parse(b"alice:open sesame\n", name="test")


def running(mode: Mode, **settings: Any) -> RunningProxy:
    return RunningProxy(**{"mode": mode, "verify": False, **settings})


@pytest.fixture
def target(lab: Lab) -> Iterator[Target]:
    with Target(echo(server_context(lab.server))) as running_:
        yield running_


def page(connection: socket.socket) -> None:
    """Answers one request of HTTP, in clear or inside of what was put around it."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


def https(lab: Lab) -> Callable[[socket.socket], None]:
    def handle(connection: socket.socket) -> None:
        with server_context(lab.server).wrap_socket(connection, server_side=True) as secured:
            page(secured)

    return handle


# -- SOCKS ---------------------------------------------------------------------------------------------------------


@pytest.mark.peer("curl")
@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4a"])
def test_curl_goes_through_socks(lab: Lab, tmp_path: Path, scheme: str, action: Action) -> None:
    with Target(https(lab)) as server, running(Mode.SOCKS5, action=action) as proxy:
        ca = proxy.root_file(tmp_path) if action is Action.INTERCEPT else lab.root_pem
        url = f"https://localhost:{server.address.port}/"
        answer = curl(url, "-4", ca=ca, proxy=f"{scheme}://127.0.0.1:{proxy.port}")
        recording = proxy.recording()
    assert answer.body == b"ok", answer.error
    assert recording.outcome.status is Status.ESTABLISHED
    assert recording.mode == "socks5"
    socks = recording.prelude["socks"]
    host = "localhost" if scheme != "socks5" else "127.0.0.1"
    assert (socks["target"], socks["version"]) == (f"{host}:{server.address.port}", 4 if scheme == "socks4a" else 5)
    assert socks["answer"] == (0x5A if scheme == "socks4a" else 0)


@pytest.mark.peer("curl")
def test_a_password_is_asked_for_and_kept_nowhere(lab: Lab, tmp_path: Path) -> None:
    with Target(https(lab)) as server, running(Mode.SOCKS5, credentials=USERS) as proxy:
        url = f"https://localhost:{server.address.port}/"
        ca = proxy.root_file(tmp_path)
        right = curl(url, ca=ca, proxy=f"socks5h://alice:open%20sesame@127.0.0.1:{proxy.port}")
        proxy.recordings(1)
        wrong = curl(url, ca=ca, proxy=f"socks5h://alice:closed-sesame@127.0.0.1:{proxy.port}")
        proxy.recordings(2)
        none = curl(url, ca=ca, proxy=f"socks5h://127.0.0.1:{proxy.port}")
        recordings = proxy.recordings(3)
    assert [one.exit_code for one in (right, wrong, none)] == [0, 97, 97]  # CURLE_PROXY
    assert [[failure.code for failure in one.failures] for one in recordings] == [
        [], [FailureCode.NOT_AUTHENTICATED], [FailureCode.NOT_AUTHENTICATED]
    ]  # fmt: skip
    told = json.dumps([to_json(one) for one in recordings])
    assert "sesame" not in told
    assert recordings[1].prelude["socks"] == {"version": 5, "authenticated": False}


def test_a_target_that_refuses_is_told_in_the_words_of_socks() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running(Mode.SOCKS5) as proxy:
        answer = send(proxy, b"\5\1\0" + b"\5\1\0\1\x7f\0\0\1" + struct.pack("!H", port))
        recording = proxy.recording()
    assert answer == b"\5\0" + b"\5\5\0\1" + bytes(6)  # connection refused
    assert recording.outcome.broken_by is Party.TARGET
    assert recording.prelude["socks"]["answer"] == 5


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", FailureCode.NO_REQUEST, "without sending a SOCKS request"),
        (b"\5", FailureCode.BAD_REQUEST, "in the middle of its SOCKS request"),
        (b"GET / HTTP/1.1\r\n\r\n", FailureCode.BAD_REQUEST, "--mode connect"),
        (in_records(client_hello()), FailureCode.BAD_REQUEST, "began with TLS"),
        (b"\5\1\0\5\1\0\1\xa9\xfe\xa9\xfe\0\x50", FailureCode.TARGET_NOT_ALLOWED, "metadata"),
    ],
)
def test_what_is_no_socks_request_is_told(data: bytes, code: FailureCode, words: str) -> None:
    with running(Mode.SOCKS5) as proxy:
        send(proxy, data, finish=True)
        recording = proxy.recording()
    assert [failure.code for failure in recording.failures] == [code]
    assert words in recording.outcome.text


def test_a_hello_right_behind_the_socks_request(target: Target) -> None:
    request = b"\5\1\0\5\1\0\1\x7f\0\0\1" + struct.pack("!H", target.address.port)
    with running(Mode.SOCKS5) as proxy:
        with connect(proxy) as connection:
            connection.sendall(request + in_records(client_hello()))
            said = b""
            while len(said) < 15:
                said += connection.recv(15 - len(said))
            assert said == b"\5\0\5\0\0\1" + bytes(6) + b"\x16\3\3"
        assert proxy.recording().sni == "localhost"


# -- plain requests ------------------------------------------------------------------------------------------------


class Counting(http.server.BaseHTTPRequestHandler):
    """Remembers each request that it understands."""

    protocol_version = "HTTP/1.1"

    def _any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            while (size := int(self.rfile.readline(), 16)) > 0:
                self.rfile.read(size + 2)
            while self.rfile.readline().strip():
                pass
        self.server.seen.append((self.command, self.path))  # type: ignore[attr-defined]
        body = b"x" * int(self.path.partition("?")[0].rpartition("=")[2]) if "size=" in self.path else b"ok"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_HEAD = do_SMUGGLED = _any  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        pass


class Plain(http.server.ThreadingHTTPServer):
    seen: list[tuple[str, str]]

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture
def plain() -> Iterator[Plain]:
    with Plain(("127.0.0.1", 0), Counting) as server:
        server.seen = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="plain target")
        thread.start()
        yield server
        server.shutdown()
        thread.join(20)


@pytest.mark.peer("curl")
def test_curl_fetches_in_clear_and_then_gets_a_tunnel(plain: Plain, lab: Lab, tmp_path: Path) -> None:
    place = f"127.0.0.1:{plain.server_port}"
    with Target(https(lab)) as server, running(Mode.CONNECT, credentials=USERS) as proxy:
        through = f"http://alice:open%20sesame@127.0.0.1:{proxy.port}"
        answer = curl(f"http://{place}/size=300000?b=c", proxy=through)
        proxy.recordings(1)
        tunnel = curl(f"https://localhost:{server.address.port}/", ca=proxy.root_file(tmp_path), proxy=through)
        proxy.recordings(2)
        wrong = curl(f"http://{place}/", proxy=f"http://alice:wrong@127.0.0.1:{proxy.port}")
        fetched, tunnelled, refused = proxy.recordings(3)
    assert answer.body == b"x" * 300_000, answer.error
    assert tunnel.body == b"ok"
    assert wrong.status == 407
    assert plain.seen == [("GET", "/size=300000?b=c")]
    (only,) = fetched.http
    assert (only["method"], only["target"], only["status"]) == ("GET", f"http://{place}/size=300000", 200)
    assert 0 <= only["t"] < 60
    assert fetched.outcome.status is Status.NOT_TLS
    assert fetched.from_target > 300_000
    assert tunnelled.outcome.status is Status.ESTABLISHED
    assert tunnelled.prelude["answer"] == 200
    assert [failure.code for failure in refused.failures] == [FailureCode.NOT_AUTHENTICATED]
    assert "sesame" not in json.dumps([to_json(one) for one in (fetched, tunnelled, refused)])


def test_requests_to_two_targets_and_a_tunnel_on_one_connection(plain: Plain, target: Target) -> None:
    place = f"127.0.0.1:{plain.server_port}".encode()
    request = b"GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n"
    with running(Mode.CONNECT) as proxy:
        with connect(proxy) as connection:
            connection.sendall(request % place + request % b"127.0.0.1:9" + connect_request(*_place(target)))
            answer = b""
            while b"Connection established\r\n\r\n" not in answer:
                answer += connection.recv(1)
            with tls(proxy, client_context(), connection=connection) as secured:
                secured.sendall(b"hello")
                assert secured.recv(10) == b"hello"
        recording = proxy.recording()
    assert [one["status"] for one in recording.http] == [200, 502]
    assert recording.outcome.status is Status.ESTABLISHED
    assert recording.target == str(target.address)


def _place(target: Target) -> tuple[str, int]:
    return target.address.host, target.address.port


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_no_request_is_smuggled(plain: Plain, version: bytes) -> None:
    """T4: whatever is sent, the target sees as many requests as are on the recording."""
    place = f"127.0.0.1:{plain.server_port}".encode()
    with running(Mode.CONNECT) as proxy:
        for count, (name, variant) in enumerate(SMUGGLING.items(), 1):
            plain.seen.clear()
            rest = variant.replace(b"SMUGGLED /x", b"SMUGGLED http://" + place + b"/x")
            longer = len(HIDDEN) + len(rest) - len(variant)
            rest = rest.replace(b"Content-Length: %d\r\n" % len(HIDDEN), b"Content-Length: %d\r\n" % longer)
            rest = rest.replace(b"%x\r\nSMUGGLED" % len(HIDDEN), b"%x\r\nSMUGGLED" % longer)
            head = b"POST http://" + place + b"/first HTTP/" + version + b"\r\nHost: " + place + b"\r\n"
            send(proxy, head + rest, finish=True)
            recording = proxy.recordings(count)[-1]
            recorded = [one["method"] for one in recording.http if one["status"] == 200]
            assert [method for method, _ in plain.seen] == recorded, name
            assert not [failure for failure in recording.failures if failure.code is FailureCode.INTERNAL]
    assert count >= 40


def test_a_target_that_breaks_off_its_answer_looks_like_that_to_the_client() -> None:
    def cut(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    with Target(cut) as server, running(Mode.CONNECT) as proxy:
        with connect(proxy) as connection:
            connection.sendall(b"GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n" % str(server.address).encode())
            with pytest.raises(ConnectionResetError):  # noqa: PT012 - it may come behind a part of the answer
                while connection.recv(65536):
                    pass
        recording = proxy.recording()
    assert [(failure.by, failure.code) for failure in recording.failures] == [(Party.TARGET, FailureCode.BROKEN_ANSWER)]


def test_an_answer_that_the_client_does_not_take_piles_up_nowhere() -> None:
    sent = 0

    def flood(connection: socket.socket) -> None:
        nonlocal sent
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n")
        connection.settimeout(1)
        while True:
            sent += connection.send(b"x" * 65536)

    with Target(flood) as server, running(Mode.CONNECT) as proxy:
        with connect(proxy) as connection:
            connection.sendall(b"GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n" % str(server.address).encode())
            while not server.broken:
                threading.Event().wait(0.05)
        proxy.recording()
    assert sent < 40_000_000


@pytest.mark.peer("openssl")
def test_ocsp_and_crl_are_fetched_through_the_proxy(tmp_path: Path) -> None:
    authority = Authority.make()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="responder")
    thread.start()

    def do(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    responder = Responder(authority)
    do(responder.__aenter__())
    try:
        leaf, issuer = issue(authority, "ocsp.lab.test").chain[:2]
        for name, der in (("leaf.pem", leaf), ("issuer.pem", issuer)):
            (tmp_path / name).write_text(ssl.DER_cert_to_PEM_cert(der))
        url = responder.urls().ocsp
        assert url is not None
        with running(Mode.CONNECT) as proxy:
            done = run(
                "openssl", "ocsp", "-issuer", tmp_path / "issuer.pem", "-cert", tmp_path / "leaf.pem",
                "-url", url, "-proxy", f"127.0.0.1:{proxy.port}", "-noverify",
            )  # fmt: skip
            crl = curl(responder.urls().crl(CrlForm.FULL), proxy=f"http://127.0.0.1:{proxy.port}")
            recordings = proxy.recordings(2)
        assert "leaf.pem: good" in done.stdout, done
        assert x509.load_der_x509_crl(crl.body).issuer
        told = [(one["method"], one["status"]) for recording in recordings for one in recording.http]
        assert told == [("POST", 200), ("GET", 200)]
    finally:
        do(responder.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


# -- targets by name -----------------------------------------------------------------------------------------------


def test_each_server_name_has_its_target(lab: Lab) -> None:
    """R11."""
    one, other = lab.issue("*.one.test", "one.test"), lab.issue("other.test")
    with Target(echo(server_context(one))) as first, Target(echo(server_context(other))) as second:
        targets = Targets.parse([f"*.one.test={first.address}", f"other.test={second.address}"])
        with RunningProxy(target=targets, verify=False) as proxy:
            for count, name in enumerate(("a.one.test", "other.test"), 1):
                assert ask(proxy, name=name) == b"good morning\n"
                proxy.recordings(count)
            answer = send(proxy, in_records(client_hello(sni=b"third.test")))
            recordings = proxy.recordings(3)
    assert [recording.target for recording in recordings] == [str(first.address), str(second.address), None]
    assert answer == alert("unrecognized_name")
    assert [failure.code for failure in recordings[2].failures] == [FailureCode.NO_TARGET]
    assert "third.test" in recordings[2].outcome.text


def test_the_default_is_for_all_other_names(target: Target, lab: Lab) -> None:
    with Target(echo(server_context(lab.server))) as other:
        targets = Targets.parse([str(other.address), f"localhost={target.address}"])
        with RunningProxy(target=targets, verify=False) as proxy:
            ask(proxy)
            proxy.recordings(1)
            ask(proxy, client_context(), name="server.lab.test")
            recordings = proxy.recordings(2)
    assert [recording.target for recording in recordings] == [str(target.address), str(other.address)]


def test_a_target_without_an_address_is_told_at_the_start() -> None:
    targets = Targets.parse(["a.test=127.0.0.1:9", "b.test=nowhere.invalid:443"])
    with pytest.raises(EnvironmentFault, match="nowhere"), RunningProxy(target=targets):
        pass


@pytest.mark.peer("curl")
def test_resolve_stands_before_the_resolver(lab: Lab, tmp_path: Path) -> None:
    with Target(https(lab)) as server:
        port = server.address.port
        with running(Mode.CONNECT, resolve=Overrides.parse([f"nowhere.invalid:{port}:127.0.0.1"])) as proxy:
            answer = curl(f"https://nowhere.invalid:{port}/", "-k", proxy=f"http://127.0.0.1:{proxy.port}")
            recording = proxy.recording()
    assert answer.body == b"ok", answer.error
    assert recording.target == f"nowhere.invalid:{port}"


def test_resolve_does_not_lead_where_nobody_may_go() -> None:
    with running(Mode.CONNECT, resolve=Overrides.parse(["innocent.test:80:169.254.169.254"])) as proxy:
        assert send(proxy, connect_request("innocent.test", 80)).startswith(b"HTTP/1.1 403 ")


def test_connections_to_the_target_come_from_the_address_that_is_asked_for(lab: Lab) -> None:
    seen: list[str] = []

    def who(connection: socket.socket) -> None:
        seen.append(connection.getpeername()[0])
        echo(server_context(lab.server))(connection)

    from ipaddress import ip_address

    with Target(who) as server:
        for source in ("127.0.0.5", "::1"):
            with RunningProxy(target=server.address, verify=False, bind_out=ip_address(source)) as proxy:
                if source == "127.0.0.5":
                    assert ask(proxy) == b"good morning\n"
                else:
                    assert send(proxy, in_records(client_hello())) == alert("internal_error")
                    assert "none of IPv6" in proxy.recording().outcome.text
    assert seen == ["127.0.0.5"]


# -- the PROXY protocol --------------------------------------------------------------------------------------------


@pytest.mark.peer("curl")
def test_curl_says_who_the_client_was(lab: Lab, tmp_path: Path) -> None:
    with Target(https(lab)) as server, RunningProxy(target=server.address, verify=False, proxy_protocol=True) as proxy:
        answer = curl(f"https://localhost:{proxy.port}/", "-4", "--haproxy-protocol", ca=proxy.root_file(tmp_path))
        recording = proxy.recording()
        place = f"127.0.0.1:{proxy.port}"
    assert answer.body == b"ok", answer.error
    header = recording.prelude["proxy_protocol"]
    assert (header["version"], header["source"]) == (1, recording.client)
    assert header["destination"] == place


V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\7\xc0\0\2\1\x30\x39\x01\xbb"


def test_version_2_stands_before_any_mode(target: Target) -> None:
    with running(Mode.CONNECT, proxy_protocol=True) as proxy:
        with connect(proxy) as connection:
            connection.sendall(V2 + connect_request("127.0.0.1", target.address.port))
            assert connection.recv(39, socket.MSG_WAITALL).startswith(b"HTTP/1.1 200 ")
            with tls(proxy, client_context(), connection=connection) as secured:
                secured.sendall(b"hello")
                assert secured.recv(10) == b"hello"
        recording = proxy.recording()
    assert recording.client == "192.0.2.7:12345"
    assert recording.prelude["proxy_protocol"]["source"] == "192.0.2.7:12345"
    assert recording.prelude["answer"] == 200


def test_rules_go_by_the_client_of_the_header_and_allow_by_who_connects(target: Target) -> None:
    from ipaddress import ip_network

    policy = Policy((Rule(1, client=(ip_network("192.0.2.0/24"),), verdict=Verdict.REFUSE),))
    request = connect_request("127.0.0.1", target.address.port)
    with running(Mode.CONNECT, proxy_protocol=True, policy=policy) as proxy:
        assert send(proxy, V2 + request).startswith(b"HTTP/1.1 403 ")
        assert proxy.recording().client == "192.0.2.7:12345"
    with running(Mode.CONNECT, proxy_protocol=True, allow=(ip_network("192.0.2.0/24"),)) as proxy:
        assert send(proxy, V2 + request) == b""
        assert "--allow" in proxy.recording().outcome.text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "before the header"),
        (b"PROXY TCP4", "in the middle of the header"),
        (in_records(client_hello()), ""),
        (b"PROXY TCP4 999.0.0.1 192.0.2.1 1 2\r\n", ""),
    ],
)
def test_a_connection_without_a_header_is_turned_away(data: bytes, words: str) -> None:
    with RunningProxy(verify=False, proxy_protocol=True) as proxy:
        assert send(proxy, data, finish=True) == b""
        recording = proxy.recording()
    assert [failure.code for failure in recording.failures] == [FailureCode.NO_PROXY_HEADER]
    assert words in recording.outcome.text


# -- what cannot work ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": Mode.TRANSPARENT, "target": Address("a.test", 1)}, "--target is for --mode reverse"),
        ({"mode": Mode.SOCKS5, "target": Address("a.test", 1)}, "--target is for --mode reverse"),
        ({"target": Address("a.test", 1), "credentials": USERS}, "--proxy-auth"),
        ({"target": Address("a.test", 1), "tproxy": True}, "--tproxy"),
        ({"target": Targets.parse(["a.test=b.test:1"]), "starttls": "smtp"}, "--starttls needs one --target"),
        ({}, "--target HOST:PORT"),
    ],
)
def test_combinations_that_cannot_work(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Settings(listen=Address("127.0.0.1", 0), **settings)

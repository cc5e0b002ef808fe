"""``--http-summary``: what was asked and answered over an intercepted connection, and never a byte of it changed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from countersign.errors import UserError
from countersign.proxy import Action, Address, Settings
from countersign.recorder.files.ladder import render_ladder
from tests.cli.commands import ProxyProcess, countersign
from tests.peers.curl import curl
from tests.peers.process import run
from tests.proxy.running import RunningProxy
from tests.proxy.test_relay import der, proxied
from tests.proxy.wire import Target, client_context, connect, reset, rest, server_context, tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from countersign.recorder.recording import Recording
    from tests.peers.certs import Lab

GET = b"GET /%s?token=secret HTTP/1.1\r\nHost: localhost\r\nCookie: secret\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nSet-Cookie: secret\r\n\r\nsecret"


def exchanges(recording: Recording) -> list[tuple[object, ...]]:
    return [
        tuple(entry[key] for key in ("method", "target", "status", "request_bytes", "answer_bytes"))
        for entry in recording.http
        if "method" in entry
    ]


def stopped(recording: Recording) -> list[tuple[object, object]]:
    return [(entry["protocol"], entry["stopped"]) for entry in recording.http if "stopped" in entry]


def answering(lab: Lab, *answers: bytes) -> Callable[[socket.socket], None]:
    """A server that sends one answer for each head that has come, and then closes."""

    def serve(raw: socket.socket) -> None:
        with context.wrap_socket(raw, server_side=True) as connection:
            heard = b""
            for number, answer in enumerate(answers, 1):
                while heard.count(b"\r\n\r\n") < number:
                    data = connection.recv(65536)
                    if not data:
                        return
                    heard += data
                connection.sendall(answer)
            connection.unwrap()

    context = server_context(lab.server)
    return serve


# -- real peers ----------------------------------------------------------------------------------------------------


@pytest.fixture
def nginx(lab: Lab, tmp_path: Path, free_port: int) -> Iterator[Address]:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    assert program is not None
    files = tmp_path / "files"
    files.mkdir()
    (files / "small").write_bytes(b"x" * 100)
    (files / "big").write_bytes(os.urandom(300_000))
    tmp_path.chmod(0o755)
    settings = tmp_path / "nginx.conf"
    temporary = " ".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    settings.write_text(
        f"""daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}
        http {{ access_log off; {temporary}
          server {{ listen 127.0.0.1:{free_port} ssl http2; root {files};
            ssl_certificate {lab.server.fullchain_pem}; ssl_certificate_key {lab.server.key_pem}; }} }}"""
    )
    process = subprocess.Popen([program, "-c", str(settings), "-e", str(tmp_path / "error.log")])
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", free_port), 1).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield Address("127.0.0.1", free_port)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def summing(nginx: Address, lab: Lab) -> Iterator[RunningProxy]:
    with RunningProxy(target=nginx, roots=(der(lab.root),), http_summary=True) as proxy:
        yield proxy


@pytest.mark.peer("nginx", "curl")
def test_what_curl_asks_of_nginx_on_one_connection_is_told_in_order(summing: RunningProxy, tmp_path: Path) -> None:
    base, trusted = f"https://localhost:{summing.port}", str(summing.root_file(tmp_path))
    words = ["curl"]
    for number, asked in enumerate(
        ([f"{base}/small?password=secret"], [f"{base}/big"], ["-d", "said", f"{base}/small"], ["-I", f"{base}/none"])
    ):
        words += ["--next"] if number else []
        words += ["-q", "-sS", "--http1.1", "--noproxy", "*", "--cacert", trusted, "-o", str(tmp_path / f"{number}")]
        words += asked
    assert run(*words).returncode == 0
    told = [one for recording in summing.recordings(1) for one in recording.http]
    assert [(one["method"], one["target"], one["status"]) for one in told] == [
        ("GET", "/small", 200), ("GET", "/big", 200), ("POST", "/small", 405), ("HEAD", "/none", 404),
    ]  # fmt: skip
    assert [one["answer_bytes"] for one in told][:2] == [100, 300_000]
    assert [one["request_bytes"] for one in told] == [0, 0, 4, 0]
    for one in told:
        assert 0 < one["t"] <= one["answered"] <= one["ended"]
    assert "secret" not in json.dumps(told)


@pytest.mark.peer("nginx", "curl")
def test_of_http_2_it_is_said_that_it_is_not_summarised(summing: RunningProxy, tmp_path: Path) -> None:
    answer = curl(f"https://localhost:{summing.port}/big", "--http2", ca=summing.root_file(tmp_path))
    assert (answer.status, answer.http, len(answer.body)) == (200, "2", 300_000)
    recording = summing.recording()
    assert stopped(recording) == [("h2", "h2 was agreed on, and only HTTP/1.1 is summarised")]
    assert exchanges(recording) == []


@pytest.mark.peer("nginx", "curl")
def test_the_command_line_notes_and_shows_it(nginx: Address, lab: Lab, home: Path) -> None:
    trust = ("--upstream-ca", lab.root_pem)
    with ProxyProcess(home, "--target", f"localhost:{nginx.port}", "--http-summary", *trust) as proxy:
        root = home / "ca" / "root.pem"
        assert curl(f"https://localhost:{proxy.port}/small?q=secret", "--http1.1", ca=root).status == 200
        assert proxy.terminate() == 0
    shown = " ".join(countersign("show", "last").out.split())
    assert "GET /small" in shown
    assert "200, 100 bytes" in shown
    assert "secret" not in shown


# -- what a watcher has to stand -----------------------------------------------------------------------------------


def talk(lab: Lab, sent: bytes, *answers: bytes, **settings: bool) -> tuple[bytes, Recording]:
    with Target(answering(lab, *answers)) as target, proxied(target, lab, **settings) as proxy:
        with tls(proxy, client_context()) as connection:
            connection.sendall(sent)
            got = rest(connection)
        return got, proxy.recording()


def test_pipelined_requests_are_told_and_no_byte_is_changed(lab: Lab) -> None:
    sent = b"".join(GET % b"%d" % number for number in range(3))
    got, recording = talk(lab, sent, OK, OK, OK, http_summary=True)
    assert got == OK * 3
    assert exchanges(recording) == [("GET", f"/{number}", 200, 0, 6) for number in range(3)]
    assert stopped(recording) == []
    text = render_ladder(recording)
    assert "GET /1" in text
    assert "200, 6 bytes" in text
    assert "secret" not in text


def test_unless_asked_for_nothing_is_told(lab: Lab) -> None:
    got, recording = talk(lab, GET % b"a", OK)
    assert got == OK
    assert recording.http == ()


def test_where_nothing_is_intercepted_it_is_a_mistake() -> None:
    with pytest.raises(UserError, match="--http-summary is for what is intercepted"):
        Settings(
            listen=Address("127.0.0.1", 0),
            target=Address("127.0.0.1", 9),
            action=Action.PASSTHROUGH,
            http_summary=True,
        )


def test_behind_an_upgrade_nothing_is_looked_at(lab: Lab) -> None:
    asked = (GET % b"ws")[:-2] + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    switched = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x05hello"
    got, recording = talk(lab, asked + GET % b"inside", switched, b"\x81\x05again", http_summary=True)
    assert got == switched + b"\x81\x05again"
    assert [one[:3] for one in exchanges(recording)][:1] == [("GET", "/ws", 101)]
    assert stopped(recording) == [(None, "another protocol was switched to")]


def test_what_is_no_http_passes_and_is_named(lab: Lab) -> None:
    said, answer = b"\x00\x01not HTTP\r\n\r\n", b"nor this" * 1000
    got, recording = talk(lab, said, answer, http_summary=True)
    assert got == answer
    assert stopped(recording) == [(None, "the client sent what is not HTTP/1.1")]


def test_a_connection_without_a_request_says_so(lab: Lab) -> None:
    with Target(answering(lab, OK)) as target, proxied(target, lab, http_summary=True) as proxy:
        with tls(proxy, client_context()) as connection, contextlib.suppress(OSError):
            connection.unwrap()
        recording = proxy.recording()
    assert stopped(recording) == [(None, "the connection ended, and no whole request was sent")]


def test_a_request_that_was_never_answered_is_told_when_the_client_resets(lab: Lab) -> None:
    heard = threading.Event()

    def silent(raw: socket.socket) -> None:
        with server_context(lab.server).wrap_socket(raw, server_side=True) as connection:
            while b"\r\n\r\n" not in connection.recv(65536):
                pass
            heard.set()
            rest(connection)

    with Target(silent) as target, proxied(target, lab, http_summary=True) as proxy:
        raw = connect(proxy)
        connection = client_context().wrap_socket(raw, server_hostname="localhost")
        connection.sendall(GET % b"lost")
        assert heard.wait(10)
        reset(connection)
        recording = proxy.recording()
    assert exchanges(recording) == [("GET", "/lost", None, 0, 0)]
    assert "no answer" in render_ladder(recording)

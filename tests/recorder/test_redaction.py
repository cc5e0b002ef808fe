"""No credential that a client or a target says in clear is in anything that we write: T24."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from countersign.proxy import Mode
from countersign.recorder.files.ladder import render_ladder
from countersign.recorder.files.pcapng import export_pcapng
from countersign.recorder.recording import Status, to_json
from countersign.recorder.store import blob
from countersign.recorder.wire.redaction import KEPT_FIELDS, first_bytes, redacted_target, request_record
from tests.proxy.running import RunningProxy
from tests.proxy.wire import Target, client_hello, connect_request, in_records, rest, send

if TYPE_CHECKING:
    import socket

SECRET = "czNjcjN0LXBhc3M9"


def everything(proxy: RunningProxy, written: str) -> bytes:
    """All that is made of a recording, in one heap."""
    heap = [written.encode()]
    for recording in (*proxy.kept.finished, *proxy.kept.snapshots):
        heap += [
            json.dumps(to_json(recording)).encode(),
            blob.pack(recording).data,
            export_pcapng(recording),
            render_ladder(recording).encode(),
            repr(recording).encode(),
        ]
    return b"\n".join(heap)


def assert_holds_no_secret(proxy: RunningProxy, written: str) -> None:
    heap = everything(proxy, written)
    raw = SECRET.encode()
    for form in (raw, raw.hex().encode(), raw.hex(" ").encode(), raw[:8], raw[-8:]):
        assert form not in heap, form
    for start in range(3):  # base64 of something longer that has it inside begins at any of three places
        assert base64.b64encode(raw[start:])[:16] not in heap


# -- requests to an explicit proxy -------------------------------------------------------------------------------------

REQUESTS = {
    "user and password": f"CONNECT user:{SECRET}@localhost:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "user alone": f"CONNECT {SECRET}@localhost:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "in a URL": f"GET http://user:{SECRET}@localhost/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "with a slash in it": f"GET http://user:a/{SECRET}@localhost/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "with a question mark in it": f"GET http://user:a?{SECRET}@localhost/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "without slashes": f"GET http:user:{SECRET}@localhost/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "in the query": f"GET /?password={SECRET} HTTP/1.1\r\nHost: x\r\n\r\n",
    "in the query of a URL": f"GET http://localhost/path?{SECRET} HTTP/1.1\r\nHost: x\r\n\r\n",
    "in the fragment": f"GET http://localhost/#{SECRET} HTTP/1.1\r\nHost: x\r\n\r\n",
    "in the query of CONNECT": f"CONNECT localhost:443?{SECRET} HTTP/1.1\r\nHost: x\r\n\r\n",
    "in Host": f"CONNECT localhost:1 HTTP/1.1\r\nHost: user:{SECRET}@x\r\n\r\n",
    "as the method": f"{SECRET} / HTTP/1.1\r\nHost: x\r\n\r\n",
    "behind the target": f"CONNECT localhost:443 {SECRET} HTTP/1.1\r\nHost: x\r\n\r\n",
    "in a folded field": f"CONNECT localhost:1 HTTP/1.1\r\nHost: x\r\nProxy-Authorization:\r\n Basic {SECRET}\r\n\r\n",
    "before a NUL": f"CONNECT localhost:1 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic {SECRET}\0\r\n\r\n",
    "in a body": f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\npassword={SECRET}",
    "in a request that is cut": f"CONNECT localhost:1 HTTP/1.1\r\nHost: x\r\nX-Token: {SECRET}",
    **{
        f"in {name}": f"CONNECT localhost:1 HTTP/1.1\r\nHost: x\r\n{name}: {SECRET}\r\n\r\n"
        for name in (
            "Proxy-Authorization", "Authorization", "Cookie", "Proxy_Authorization", "X-Api-Key", "X-Auth-Token",
            "X-Amz-Security-Token", "Private-Token", "X-Whatever", "Forwarded", "Referer", "X-Forwarded-User",
            "Sec-WebSocket-Key", "SOAPAction",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("request_text", REQUESTS.values(), ids=REQUESTS)
def test_nothing_of_a_request_that_may_be_secret_is_written(
    request_text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with RunningProxy(mode=Mode.CONNECT, verify=False) as proxy:
        answer = send(proxy, request_text.encode("latin-1"), finish=True)
        assert SECRET.encode() not in answer
        proxy.recordings(1)
        out = capfd.readouterr()
        assert_holds_no_secret(proxy, out.out + out.err)


def test_what_says_who_asked_for_what_is_kept() -> None:
    agent = "User-Agent: curl/8.5.0"
    with RunningProxy(mode=Mode.CONNECT, verify=False) as proxy:
        send(proxy, connect_request("127.0.0.1", 1, agent, "Proxy-Connection: Keep-Alive", "X-Api-Key: 1"))
        request = proxy.recording().prelude["request"]
    assert request == {
        "method": "CONNECT",
        "target": "127.0.0.1:1",
        "version": "1.1",
        "headers": [
            ["host", "127.0.0.1:1"],
            ["user-agent", "curl/8.5.0"],
            ["proxy-connection", "Keep-Alive"],
            ["x-api-key", "(redacted)"],
        ],
    }


def test_a_head_full_of_fields_is_kept_in_part_and_the_rest_counted() -> None:
    fields = [(b"x-%d" % n, b"v") for n in range(5_000)]
    record = request_record(b"CONNECT", b"localhost:1", b"1.1", fields)
    assert len(record["headers"]) == 100
    assert record["headers_left_out"] == 4_900


def test_long_names_and_values_are_kept_in_part() -> None:
    record = request_record(b"CONNECT", b"a" * 60_000 + b":1", b"1.1", [(b"n" * 9_000, b""), (b"via", b"v" * 9_000)])
    assert len(json.dumps(record)) < 4_000


def test_no_kept_field_is_one_that_carries_credentials() -> None:
    assert not [name for name in KEPT_FIELDS if any(part in name for part in ("auth", "cookie", "token", "key"))]


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("localhost:443", "localhost:443"),
        ("[::1]:443", "[::1]:443"),
        ("*", "*"),
        ("/a/b;c=d", "/a/b;(redacted)"),
        ("http://host:8080/path", "http://host:8080/path"),
        ("http://host/a?b", "http://host/a?(redacted)"),
        ("http://u:p@host/a", "http://(redacted)@host/a"),
        ("http://u:p@host/a?b#c", "http://(redacted)@host/a?(redacted)"),
        ("u@host:443", "(redacted)@host:443"),
        ("http://a@b@host/", "http://(redacted)@host/"),
        ("", ""),
    ],
)
def test_a_target_keeps_where_it_leads(target: str, shown: str) -> None:
    assert redacted_target(target) == shown


# -- what is no TLS ----------------------------------------------------------------------------------------------------


def hanging_up(connection: socket.socket) -> None:
    connection.recv(65536)


IN_CLEAR = {
    "field": f"GET / HTTP/1.1\r\nX-Api-Key: {SECRET}\r\n\r\n",
    "underscore": f"GET / HTTP/1.1\r\nProxy_Authorization: {SECRET}\r\n\r\n",
    "bare line feeds": f"GET / HTTP/1.1\nX-Secret: {SECRET}\n\n",
    "carriage returns alone": f"GET / HTTP/1.1\rX-Secret: {SECRET}\r\r",
    "query": f"GET /login?{SECRET} HTTP/1.1\r\n\r\n",
    "URL": f"GET http://user:{SECRET}@host/ HTTP/1.1\r\n\r\n",
    "URL that is cut before the @": f"GET http://user:{SECRET}{'x' * 60}@host/ HTTP/1.1\r\n\r\n",
    "CONNECT": f"CONNECT user:{SECRET}@host:443 HTTP/1.1\r\n\r\n",
    "CONNECT that is cut before the @": f"CONNECT user:{SECRET}{'x' * 60}@host:443 HTTP/1.1\r\n\r\n",
    "body": f"POST / HTTP/1.1\r\n\r\n{SECRET}",
    "folded": f"GET / HTTP/1.1\r\nX-Key:\r\n {SECRET}\r\n\r\n",
    "another scheme": f"DESCRIBE rtsp://user:{SECRET}@host/ RTSP/1.0\r\n\r\n",
    "another scheme, cut": f"DESCRIBE rtsp://user:{SECRET}{'x' * 60}@host/ RTSP/1.0\r\n\r\n",
    "api key in a line": f"apikey {SECRET}\r\n",
    "session": f"hello session={SECRET}",
    "joined by an underscore": f"client_secret={SECRET}",
    "bearer": f"Bearer {SECRET}",
    "another word for it": f"requirepass {SECRET}",
}


@pytest.mark.parametrize("said", IN_CLEAR.values(), ids=IN_CLEAR)
def test_nothing_secret_of_what_is_not_tls_is_written(said: str, capfd: pytest.CaptureFixture[str]) -> None:
    with Target(hanging_up) as target, RunningProxy(target=target.address) as proxy:
        send(proxy, said.encode(), finish=True)
        assert proxy.recording().outcome.status is Status.NOT_TLS
        out = capfd.readouterr()
        assert_holds_no_secret(proxy, out.out + out.err)


ANSWERS = {
    "cookie": f"HTTP/1.1 400 Bad\r\nSet-Cookie: {SECRET}\r\n\r\n",
    "location": f"HTTP/1.1 302 Found\r\nLocation: /?{SECRET}\r\n\r\n",
    "body": f"HTTP/1.1 400 Bad\r\n\r\n{SECRET}",
    "greeting": f"+OK token {SECRET}\r\n",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_nothing_secret_of_a_target_that_speaks_no_tls_is_written(
    answer: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer.encode())
        rest(connection)

    with Target(talk) as target, RunningProxy(target=target.address, roots=()) as proxy:
        send(proxy, in_records(client_hello()), finish=True)
        proxy.recordings(1)
        send(proxy, b"hello\r\n", finish=True)
        proxy.recordings(2)
        out = capfd.readouterr()
        assert_holds_no_secret(proxy, out.out + out.err)


def test_a_request_in_clear_keeps_its_line_and_its_fields_names() -> None:
    said = b"GET /status?a=b HTTP/1.1\r\nHost: u:p@h\r\nUser-Agent: x\r\nX-A: b\r\n\r\nbody"
    shown = r"GET /status?(redacted) HTTP/1.1\r\nHost: (redacted)\r\nUser-Agent: x\r\nX-A: (redacted)\r\n(redacted)"
    assert first_bytes(said) == shown

"""What has been done to control APIs of tools like this one: THREATS T1, T2, T3 and T5."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.proxy import Mode
from countersign.web import server
from tests.proxy.lag import watched
from tests.proxy.ordered import trusting
from tests.proxy.wire import Target, echo, server_context
from tests.web.controlled import Api, answer_of, controlled_proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.peers.certs import Lab

ROUTES = ("/v1/status", "/v1/recordings", "/v1/recordings/last", "/v1/nowhere", "/", "/v1/step", "/ws")
COMMANDS = ("/v1/step", "/v1/scenario", "/v1/fault", "/v1/rotate", "/v1/pass")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    home = tmp_path_factory.mktemp("home", numbered=True)
    home.chmod(0o700)
    with controlled_proxy(home, mode=Mode.CONNECT) as controlled:
        yield controlled


# -- T1: through the proxy -------------------------------------------------------------------------------------------

OURSELVES = (
    "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "localhost", "localhost.", "LOCALHOST",
    "a.localhost", "127.1", "0x7f.1", "2130706433", "127.0.0.2", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]",
    socket.gethostname(),
)  # fmt: skip


@pytest.mark.parametrize("name", OURSELVES)
def test_the_api_cannot_be_reached_through_the_proxy(api: Api, name: str) -> None:
    before = api.connections
    where = f"{name}:{api.port}"
    for first in (f"CONNECT {where}", f"GET http://{where}/v1/status"):
        headers = f"Host: {where}\r\nAuthorization: Bearer {api.place.token}\r\nConnection: close"
        with socket.create_connection(api.proxy.address, timeout=20) as connection:
            connection.sendall(f"{first} HTTP/1.1\r\n{headers}\r\n\r\n".encode())
            answer = answer_of(connection)
        assert answer.status in {403, 502}, answer
        assert b"scenario" not in answer.body
    assert api.connections == before


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "a.localhost", socket.gethostname()])
def test_a_name_in_the_hello_leads_nobody_to_the_api(api: Api, name: str, lab: Lab) -> None:
    """The target is the one that CONNECT named, whatever the SNI says."""
    before = api.connections
    with Target(echo(server_context(lab.server))) as target, socket.create_connection(api.proxy.address, 20) as raw:
        where = f"127.0.0.1:{target.address.port}"
        raw.sendall(f"CONNECT {where} HTTP/1.1\r\nHost: {name}:{api.port}\r\n\r\n".encode())
        assert raw.recv(4096).startswith(b"HTTP/1.1 200")
        with (
            contextlib.suppress(ssl.SSLError, ConnectionError),  # the target may have another name than the one asked
            trusting().wrap_socket(raw, server_hostname=name) as tls,
        ):
            tls.sendall(b"hello")
            assert tls.recv(10) == b"hello"
    assert api.connections == before


def test_a_request_in_the_form_that_proxies_get_is_refused(api: Api) -> None:
    assert api.get(f"http://{api.place.control}/v1/status").status == 403
    assert api.request("OPTIONS", "*").status == 403
    assert api.request("CONNECT", api.place.control).status in {400, 403}


# -- T2: DNS rebinding -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ROUTES)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD", "PATCH"])
def test_another_host_is_refused_before_routing(api: Api, target: str, method: str) -> None:
    for host in ("attacker.example", f"attacker.example:{api.port}"):
        answer = api.request(method, target, Host=host, Upgrade="websocket", Connection="upgrade")
        assert answer.status == 403
        assert method == "HEAD" or "Host" in answer.json["error"]


@pytest.mark.parametrize(
    "host",
    [
        "", "127.0.0.1", "127.0.0.1:1", "localhost", "127.0.0.2:{port}", "[::1]:{port}", "localhost.:{port}",
        "0:{port}", "127.1:{port}", "127.0.0.1:{port}@attacker.example", "attacker.example#127.0.0.1:{port}",
        "127.0.0.1:{port}, x", "localhost.attacker.example:{port}", "127.0.0.1.nip.io:{port}",
        "١٢٧.0.0.1:{port}", "127.0.0.1:0{port}00",
    ],
)  # fmt: skip
def test_what_only_looks_like_our_address_is_another_host(api: Api, host: str) -> None:
    assert api.get("/v1/status", Host=host.format(port=api.port)).status in {400, 403}


def test_two_hosts_or_none_are_refused(api: Api) -> None:
    token = f"Authorization: Bearer {api.place.token}\r\n"
    ours = f"Host: {api.place.control}\r\n"
    assert api.send(f"GET /v1/status HTTP/1.1\r\n{token}\r\n".encode()).status in {400, 403}
    two = f"GET /v1/status HTTP/1.1\r\n{token}{ours}Host: attacker.example\r\n\r\n"
    assert api.send(two.encode()).status in {400, 403}


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LocalHost:{port}"])
def test_our_own_names_are_answered(api: Api, host: str) -> None:
    assert api.get("/v1/status", Host=host.format(port=api.port)).status == 200


# -- T3: pages in a browser ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "page",
    [
        {"Origin": "https://attacker.example", "Content_Type": "text/plain"},
        {"Origin": "null"},
        {"Origin": "http://localhost"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_a_page_from_elsewhere_changes_nothing(api: Api, command: str, page: dict[str, str]) -> None:
    before = api.get("/v1/status").json
    for changed in (page, {**page, "Authorization": None}):
        answer = api.post(command, **changed)
        assert answer.status == 403
        assert answer.header("Access-Control-Allow-Origin") is None
    assert api.get("/v1/status", **page).status == 403
    assert api.get("/v1/status").json == before


@pytest.mark.parametrize(
    "form", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None]
)
def test_only_json_is_told_which_no_page_can_send_without_asking(api: Api, form: str | None) -> None:
    assert api.post("/v1/pass", Content_Type=form).status == 415


@pytest.mark.parametrize("command", COMMANDS)
def test_asking_changes_nothing_and_nobody_is_told_that_pages_may_ask(api: Api, command: str) -> None:
    assert api.get(command).status == 405
    assert api.get(f"{command}?what=leaf&to=2").status == 405
    preflight = api.request(
        "OPTIONS", command, Origin="https://attacker.example", Access_Control_Request_Method="POST", Authorization=None
    )
    assert preflight.status == 403
    assert not [line for line in preflight.head.lower().split(b"\r\n") if line.startswith(b"access-control")]


@pytest.mark.parametrize(
    "shown",
    [
        None, "", "Bearer", "Bearer ", "Bearer x", "Basic {token}", "{token}", "Bearer {token}x", "Bearer {half}",
        "Bearer {token} {token}", "Bearer é",
    ],
)  # fmt: skip
def test_a_token_is_needed_even_on_loopback_and_on_every_route(api: Api, shown: str | None) -> None:
    token = api.place.token
    said = None if shown is None else shown.format(token=token, half=token[: len(token) // 2])
    for target in ROUTES:
        answer = api.get(target, Authorization=said)
        assert answer.status == 401
        assert answer.header("WWW-Authenticate") == "Bearer"
    assert api.post("/v1/pass", Authorization=said).status == 401


def test_the_token_is_taken_from_nowhere_else_and_said_to_nobody(api: Api) -> None:
    token = api.place.token
    assert api.get(f"/v1/status?token={token}&access_token={token}", Authorization=None).status == 401
    assert api.get("/v1/status", Authorization=None, Cookie=f"token={token}").status == 401
    answer = api.get("/v1/status")
    assert token.encode() not in answer.head + answer.body
    assert answer.header("Set-Cookie") is None
    assert answer.header("Cache-Control") == "no-store"
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert "default-src 'none'" in str(answer.header("Content-Security-Policy"))


# -- T5: much of everything ------------------------------------------------------------------------------------------

MEMORY = 48 << 20  # bytes: what all that follows may cost this process, which also makes it


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def flood(api: Api, head: str, piece: bytes, most: int) -> int:
    """Send the head and then the piece for as long as it is taken; the status of what was answered."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as connection:
        sent, answers = 0, []
        reader = threading.Thread(target=lambda: answers.append(answer_of(connection)))
        reader.start()
        try:
            connection.sendall(head.encode())
            while sent < most:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        reader.join(30)
        return answers[0].status


@pytest.mark.parametrize("known", ["token", "no-token"])
@pytest.mark.parametrize("framing", ["Content-Length: 1073741824", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("form", ["application/json", "multipart/form-data; boundary=x"])
def test_a_body_of_a_gigabyte_is_not_read(api: Api, known: str, framing: str, form: str) -> None:
    headers = api.headers(Content_Type=form, **({} if known == "token" else {"Authorization": None}))
    head = "POST /v1/pass HTTP/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    piece = b"x" * 65536
    if "chunked" in framing:
        piece = b"10000\r\n" + piece + b"\r\n"
    before = resident()
    status = flood(api, f"{head}{framing}\r\n\r\n", piece, 1 << 26)
    assert status in {0, 401, 413, 415}  # 0: it was cut off while we were talking
    assert resident() - before < MEMORY
    assert api.get("/v1/status").status == 200


def test_a_body_that_is_said_to_be_too_large_is_declined_before_any_of_it_has_come(api: Api) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as connection:
        headers = "".join(f"{key}: {value}\r\n" for key, value in api.headers().items())
        connection.sendall(
            f"POST /v1/pass HTTP/1.1\r\n{headers}Content-Length: {server.MOST_BODY + 1}\r\n\r\n".encode()
        )
        assert answer_of(connection).status == 413


def test_a_million_chunks_of_a_byte_stop_at_the_bound(api: Api, scaled: Callable[[int], int]) -> None:
    head = "POST /v1/pass HTTP/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in api.headers().items())
    many = scaled(1_000_000) + server.MOST_BODY
    before = resident()
    with watched(api.proxy) as lag:
        status = flood(api, f"{head}Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000, many * 6)
    assert status in {0, 413}
    assert resident() - before < MEMORY
    assert lag.longest < 0.25 or many < 1_000_000  # a full run is not beside others
    assert api.get("/v1/status").status == 200


@pytest.mark.parametrize("how", ["lines", "one line", "header name", "target"])
def test_ten_thousand_bad_cookies_and_heads_without_end_are_refused(api: Api, how: str) -> None:
    cookies = [f'c{number}="\\{number % 8}; =;;,{number}' for number in range(10_000)]
    ours = "".join(f"{key}: {value}\r\n" for key, value in api.headers().items())
    data = {
        "lines": "GET /v1/status HTTP/1.1\r\n" + ours + "".join(f"Cookie: {each}\r\n" for each in cookies) + "\r\n",
        "one line": f"GET /v1/status HTTP/1.1\r\n{ours}Cookie: {'; '.join(cookies)}\r\n\r\n",
        "header name": f"GET /v1/status HTTP/1.1\r\n{ours}{'x' * 100_000}: 1\r\n\r\n",
        "target": f"GET /{'x' * 100_000} HTTP/1.1\r\n{ours}\r\n",
    }[how]
    before = resident()
    assert api.send(data.encode()).status in {0, 400}
    assert resident() - before < MEMORY
    assert api.get("/v1/status").status == 200


def test_more_connections_than_are_taken_shut_nobody_out_for_good(api: Api) -> None:
    held = [socket.create_connection(("127.0.0.1", api.port), timeout=20) for _ in range(server._CONNECTIONS + 8)]
    try:
        assert held[-1].recv(1) == b""  # at once
    except ConnectionResetError:
        pass
    finally:
        for each in held:
            each.close()
    for _ in range(100):
        if (answer := api.get("/v1/status")).status == 200:
            break
        time.sleep(0.05)
    else:
        pytest.fail(f"nobody is answered any more: {answer}")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b"1", b'"x"', b"{", b"\xff", b"[" * 30_000, b'{"a":' * 10_000,
        b'{"what": 1' + b"0" * 9000 + b"}", b'{"x": 1}', b"\xef\xbb\xbf{}", b"\0", '{"what": "leaf"}'.encode("utf-16"),
    ],
    ids=range(14),
)  # fmt: skip
@pytest.mark.parametrize("command", ["/v1/rotate", "/v1/fault", "/v1/scenario"])
def test_a_body_that_is_no_command_is_a_mistake_with_a_sentence(api: Api, command: str, body: bytes) -> None:
    answer = api.request("POST", command, body)
    assert answer.status == 400
    assert answer.json["error"]
    assert answer.header("Content-Type") == "application/json"

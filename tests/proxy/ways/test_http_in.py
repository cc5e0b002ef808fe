"""An explicit HTTP proxy: tunnels, plain requests, what it strips and adds, and that no request is smuggled (T4)."""

from __future__ import annotations

import base64
import http.server
import re
import socket
import threading
from typing import TYPE_CHECKING, ClassVar

import h11
import pytest
from hypothesis import given, strategies as st

from countersign.proxy.settings import Address
from countersign.proxy.ways.credentials import Credentials
from countersign.proxy.ways.events import Exchanged, Ready, Refused, Send, Wanted
from countersign.proxy.ways.http_in import HEAD_AT_MOST, Dropped, Event, Fetch, Finished, HttpIn, ToTarget
from countersign.recorder.recording import FailureCode, Party
from tests.peers.curl import curl
from tests.proxy.ways.driver import ThreadedProxy
from tests.proxy.ways.slicing import slicings

if TYPE_CHECKING:
    from collections.abc import Iterator

USERS = Credentials.parse(b"alice:open sesame\n", name="users")
SHOWN = b"Proxy-Authorization: Basic " + base64.b64encode(b"alice:open sesame") + b"\r\n"
TARGET = Address("target.test", 443)
PAGE = Address("page.test", 80)

CONNECT = b"CONNECT target.test:443 HTTP/1.1\r\nHost: target.test:443\r\n\r\n"
GET = b"GET http://page.test/crl.der HTTP/1.1\r\nHost: page.test\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def to_client(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Send))


def to_target(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, ToTarget))


def refusal(events: list[Event]) -> Refused:
    (only,) = [event for event in events if isinstance(event, Refused)]
    return only


def exchanges(events: list[Event]) -> list[tuple[object, object, object]]:
    told = [event.record for event in events if isinstance(event, Exchanged)]
    return [(record["method"], record["target"], record["status"]) for record in told]


def body_of(data: bytes) -> bytes:
    return data.partition(b"\r\n\r\n")[2]


def fields_of(data: bytes) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for line in data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        name, _, value = line.partition(b": ")
        found.setdefault(name.lower(), []).append(value)
    return found


def fetched(request: bytes, answer: bytes = ANSWER, *, ends: bool = False) -> tuple[HttpIn, list[Event]]:
    """One plain request and its answer, from a machine that has said nothing before."""
    machine = HttpIn()
    events = machine.from_client(request)
    assert isinstance(events[-1], Fetch), events
    events += machine.connected()
    events += machine.from_target(answer)
    if ends:
        events += machine.from_target(b"")
    return machine, events


# -- tunnels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_tunnel_opens_when_its_target_is_dialled(version: bytes) -> None:
    request = CONNECT.replace(b"HTTP/1.1", b"HTTP/" + version)
    for pieces in slicings(request):
        machine = HttpIn()
        assert [event for piece in pieces for event in machine.from_client(piece)] == [Wanted(TARGET)]
        assert not machine.wants_client
        answer, ready = machine.connected()
        assert answer == Send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        assert ready == Ready(b"")
        assert machine.record["answer"] == 200
        assert machine.record["request"]["target"] == "target.test:443"


def test_what_follows_the_request_belongs_to_the_tunnel() -> None:
    machine = HttpIn()
    machine.from_client(CONNECT + b"\x16\x03" + bytes(50_000))
    machine.from_client(b"\x01")
    assert machine.connected()[-1] == Ready(b"\x16\x03" + bytes(50_000) + b"\x01")


def test_a_prefix_of_a_request_does_nothing() -> None:
    for request in (CONNECT, GET):
        for length in range(len(request)):
            machine = HttpIn()
            assert machine.from_client(request[:length] or request[:1]) == []
            assert machine.midway


def test_a_failed_dial_is_answered_and_ends_a_tunnel() -> None:
    machine = HttpIn()
    machine.from_client(CONNECT)
    said = to_client(machine.failed(502, "nobody is there"))
    assert said.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert b"Connection: close" in said
    assert body_of(said) == b"countersign: nobody is there\n"
    assert machine.record["answer"] == 502


@pytest.mark.parametrize(
    ("request_", "status", "code", "words"),
    [
        (b"\0\1\2\3\r\n\r\n", 400, FailureCode.BAD_REQUEST, "no proxy request"),
        (b"nonsense\r\n\r\n", 400, FailureCode.BAD_REQUEST, "no proxy request"),
        (b"CONNECT a.test HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, FailureCode.BAD_REQUEST, "not HOST:PORT"),
        (b"CONNECT a.test:0 HTTP/1.1\r\nHost: a\r\n\r\n", 400, FailureCode.BAD_REQUEST, "not HOST:PORT"),
        (b"CONNECT u@a.test:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400, FailureCode.BAD_REQUEST, "not HOST:PORT"),
        (b"CONNECT http://a.test:443/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, FailureCode.BAD_REQUEST, "not HOST:PORT"),
        (b"CONNECT a:443 HTTP/1.1\r\n\r\n", 400, FailureCode.BAD_REQUEST, "no proxy request"),
        (CONNECT[:-2] + b"Content-Length: 4\r\n\r\nabcd", 400, FailureCode.BAD_REQUEST, "has a body"),
        (CONNECT[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, FailureCode.BAD_REQUEST, "has a body"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, FailureCode.UNSUPPORTED_REQUEST, "this is a proxy"),
        (b"GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, FailureCode.UNSUPPORTED_REQUEST, "https:// URLs"),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, FailureCode.UNSUPPORTED_REQUEST, "only http://"),
        (b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, FailureCode.UNSUPPORTED_REQUEST, "user name"),
        (b"GET http://a/#x HTTP/1.1\r\nHost: a\r\n\r\n", 400, FailureCode.UNSUPPORTED_REQUEST, "fragment"),
        (b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400, FailureCode.UNSUPPORTED_REQUEST, "no host"),
        (b"GET http://a:0/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, FailureCode.UNSUPPORTED_REQUEST, "no host and port"),
        (b"GET http://a:x/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, FailureCode.UNSUPPORTED_REQUEST, "no host and port"),
        (b"GET http://a/ HTTP/2.0\r\nHost: a\r\n\r\n", 505, FailureCode.BAD_REQUEST, "HTTP/2.0"),
        (b"GET http://a/ HTTP/0.9\r\nHost: a\r\n\r\n", 505, FailureCode.BAD_REQUEST, "HTTP/0.9"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, FailureCode.BAD_REQUEST, "HTTP/2.0"),
        (b"GET http://a/" + b"a" * 100_000, 431, FailureCode.BAD_REQUEST, "longer than 65536"),
        (GET[:-2] + b"X: " + b"a" * 100_000 + b"\r\n\r\n", 431, FailureCode.BAD_REQUEST, "longer than 65536"),
        (GET[:-2] + b"X: " + b"a" * 70_000 + b"\r\n\r\n", 431, FailureCode.BAD_REQUEST, "longer than 65536"),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400, FailureCode.BAD_REQUEST, "takes this proxy for the target"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_answered_and_told(request_: bytes, status: int, code: FailureCode, words: str) -> None:
    machine = HttpIn()
    events = machine.from_client(request_)
    said = to_client(events)
    assert said.startswith(b"HTTP/1.1 %d " % status), said[:200]
    assert b"Connection: close\r\n" in said
    refused = refusal(events)
    assert (refused.by, refused.code) == (Party.CLIENT, code)
    assert words in refused.text
    assert machine.from_client(GET) == []
    assert not machine.wants_client
    sliced = HttpIn()
    again = [event for at in range(0, len(request_), 7) for event in sliced.from_client(request_[at : at + 7])]
    assert refusal(again) == refused


@pytest.mark.parametrize("request_", [CONNECT[:20], GET[:-2], GET[:-4] + b"\r\nContent-Length: 9\r\n\r\nabc"])
def test_a_client_that_closes_in_mid_request_is_told(request_: bytes) -> None:
    machine = HttpIn()
    events = machine.from_client(request_)
    if Fetch(PAGE) in events:
        events += machine.connected()
    events += machine.from_client(b"")
    assert "closed in the middle" in refusal(events).text


def test_a_client_that_closes_without_a_word_is_done() -> None:
    assert HttpIn().from_client(b"") == [Finished(0)]


# -- authentication ------------------------------------------------------------------------------------------------


def test_a_client_is_asked_for_its_password_and_may_ask_again() -> None:
    machine = HttpIn(USERS)
    for wrong in (b"", SHOWN.replace(b"Y", b"Z"), SHOWN * 2, b"Proxy-Authorization: Bearer x\r\n"):
        events = machine.from_client(CONNECT[:-2] + wrong + b"\r\n")
        said = to_client(events)
        assert said.startswith(b"HTTP/1.1 407 Proxy Authentication Required\r\n")
        assert fields_of(said)[b"proxy-authenticate"] == [b'Basic realm="countersign", charset="UTF-8"']
        assert b"Connection" not in said
        assert events == [event for event in events if isinstance(event, Send)]
    assert machine.from_client(CONNECT[:-2] + SHOWN + b"\r\n") == [Wanted(TARGET)]


def test_a_client_that_leaves_instead_is_told() -> None:
    machine = HttpIn(USERS)
    machine.from_client(CONNECT)
    refused = refusal(machine.from_client(b""))
    assert (refused.code, refused.by) == (FailureCode.NOT_AUTHENTICATED, Party.CLIENT)


def test_a_client_that_tries_passwords_is_put_out() -> None:
    machine = HttpIn(USERS)
    events: list[Event] = []
    count = 0
    while not any(isinstance(event, Refused) for event in events):
        events = machine.from_client(CONNECT[:-2] + SHOWN.replace(b"Y", b"Z") + b"\r\n")
        count += 1
    assert count == 10
    assert refusal(events).code is FailureCode.NOT_AUTHENTICATED
    pipelined = HttpIn(USERS).from_client(CONNECT * 1000)
    assert refusal(pipelined).code is FailureCode.NOT_AUTHENTICATED


def test_a_body_of_somebody_unknown_is_not_read() -> None:
    events = HttpIn(USERS).from_client(GET[:-2] + b"Content-Length: 5\r\n\r\nab")
    assert b"HTTP/1.1 407 " in to_client(events)
    assert b"Connection: close" in to_client(events)
    assert refusal(events).code is FailureCode.NOT_AUTHENTICATED


def test_plain_requests_need_the_password_as_well_and_it_goes_no_further() -> None:
    machine = HttpIn(USERS)
    assert b" 407 " in to_client(machine.from_client(GET))
    assert machine.from_client(GET[:-2] + SHOWN + b"\r\n") == [Fetch(PAGE)]
    assert b"uthorization" not in to_target(machine.connected())
    assert "sesame" not in repr(machine.record)
    assert base64.b64encode(b"alice:open sesame").decode() not in repr(machine.record)


# -- plain requests ------------------------------------------------------------------------------------------------


def test_a_request_goes_on_in_origin_form_with_via_and_without_what_is_hop_by_hop() -> None:
    request = (
        b"POST http://page.test:8080/ocsp?a=b HTTP/1.1\r\nHost: elsewhere.test\r\nConnection: close, X-Hop, Host\r\n"
        b"X-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: h2c\r\n"
        b"Proxy-Authorization: Basic eA==\r\nX-Kept: a\r\nx-kept: b\r\nVia: 1.0 other\r\nContent-Length: 3\r\n\r\nabc"
    )
    machine = HttpIn()
    assert machine.from_client(request) == [Fetch(Address("page.test", 8080))]
    sent = to_target(machine.connected())
    assert sent == (
        b"POST /ocsp?a=b HTTP/1.1\r\nHost: page.test:8080\r\nX-Kept: a\r\nx-kept: b\r\nVia: 1.0 other\r\n"
        b"Content-Length: 3\r\nVia: 1.1 countersign\r\nConnection: close\r\n\r\nabc"
    )
    assert exchanges(machine.from_target(ANSWER)) == [("POST", "http://page.test:8080/ocsp", 200)]


@pytest.mark.parametrize(
    ("url", "method", "target", "line", "host"),
    [
        (b"http://page.test", b"GET", PAGE, b"GET / HTTP/1.1", b"page.test"),
        (b"HTTP://page.test:/x", b"GET", PAGE, b"GET /x HTTP/1.1", b"page.test"),
        (b"http://page.test?q", b"GET", PAGE, b"GET /?q HTTP/1.1", b"page.test"),
        (b"http://page.test", b"OPTIONS", PAGE, b"OPTIONS * HTTP/1.1", b"page.test"),
        (b"http://page.test/", b"OPTIONS", PAGE, b"OPTIONS / HTTP/1.1", b"page.test"),
        (b"http://[::1]:81/a//b", b"GET", Address("::1", 81), b"GET /a//b HTTP/1.1", b"[::1]:81"),
        (b"http://[::1]/", b"GET", Address("::1", 80), b"GET / HTTP/1.1", b"[::1]"),
    ],
)
def test_the_target_of_a_url_is_read_as_the_rfc_has_it(
    url: bytes, method: bytes, target: Address, line: bytes, host: bytes
) -> None:
    machine = HttpIn()
    assert machine.from_client(method + b" " + url + b" HTTP/1.1\r\nHost: x\r\n\r\n") == [Fetch(target)]
    sent = to_target(machine.connected())
    assert sent.split(b"\r\n")[0] == line
    assert fields_of(sent)[b"host"] == [host]


def test_an_answer_comes_back_with_via_and_without_what_is_hop_by_hop() -> None:
    answer = (
        b"HTTP/1.1 200 Fine\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nUpgrade: h2c\r\n"
        b"Proxy-Authenticate: Basic\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 5\r\n\r\nhello"
    )
    machine, events = fetched(GET, answer)
    assert to_client(events) == (
        b"HTTP/1.1 200 Fine\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 5\r\nVia: 1.1 countersign\r\n\r\nhello"
    )
    assert exchanges(events) == [("GET", "http://page.test/crl.der", 200)]
    assert events[-1] == Dropped()
    assert machine.wants_client


def test_requests_follow_each_other_on_one_connection() -> None:
    machine = HttpIn()
    events = machine.from_client(GET * 3)
    for _ in range(3):
        assert events[-1] == Fetch(PAGE)
        events = machine.connected()
        assert to_target(events).count(b"GET ") == 1
        events = machine.from_target(ANSWER)
        assert to_client(events).endswith(b"hello")
    assert machine.from_client(CONNECT) == [Wanted(TARGET)]


def test_an_answer_is_the_same_in_any_slicing() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=1\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
    for answer in (ANSWER, chunked):
        for pieces in slicings(answer):
            machine = HttpIn()
            machine.from_client(GET)
            machine.connected()
            events = [event for piece in pieces for event in machine.from_target(piece)]
            client = h11.Connection(h11.CLIENT)
            client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
            client.send(h11.EndOfMessage())
            client.receive_data(to_client(events))
            read = list(iter(client.next_event, h11.NEED_DATA))
            body = b"".join(bytes(one.data) for one in read if isinstance(one, h11.Data))
            assert body == b"hello"
            assert isinstance(read[-1], h11.EndOfMessage)
            assert read[-1].headers == ([(b"x-sum", b"1")] if answer is chunked else [])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 204 No\r\n\r\n", b"HTTP/1.1 204 No\r\nVia: 1.1 countersign\r\n\r\n"),
        (
            b"HTTP/1.1 304 Same\r\nContent-Length: 99\r\n\r\n",
            b"HTTP/1.1 304 Same\r\nContent-Length: 99\r\nVia: 1.1 countersign\r\n\r\n",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nVia: 1.1 countersign\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        ),
        (
            b"HTTP/1.0 200 OK\r\n\r\nall of it",
            b"HTTP/1.1 200 OK\r\nVia: 1.0 countersign\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nall of it\r\n0\r\n\r\n",
        ),
        (
            b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + ANSWER,
            (
                b"HTTP/1.1 103 Early\r\nLink: x\r\nVia: 1.1 countersign\r\n\r\n"
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nVia: 1.1 countersign\r\n\r\nhello"
            ),
        ),
    ],
)
def test_each_framing_of_an_answer_comes_over(answer: bytes, expected: bytes) -> None:
    machine, events = fetched(GET, answer, ends=True)
    assert to_client(events) == expected
    assert machine.wants_client


def test_an_answer_to_head_has_no_body() -> None:
    machine, events = fetched(GET.replace(b"GET", b"HEAD"), b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert to_client(events) == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nVia: 1.1 countersign\r\n\r\n"
    assert machine.from_client(GET) == [Fetch(PAGE)]
    said = to_client(machine.failed(502, "no"))
    assert body_of(said)
    machine.from_client(GET.replace(b"GET", b"HEAD"))
    assert body_of(to_client(machine.failed(502, "no"))) == b""
    assert b"HTTP/1.1 400 " in to_client(machine.from_client(b"\0\r\n\r\n"))


def test_http_1_0_gets_no_interim_answer_no_chunks_and_a_close() -> None:
    request = b"GET http://page.test/ HTTP/1.0\r\nExpect: 100-continue\r\n\r\n"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\n\r\n"
    machine, events = fetched(request, b"HTTP/1.1 100 Continue\r\n\r\n" + chunked)
    assert b"Expect" not in to_target(events)
    assert to_client(events) == b"HTTP/1.1 200 OK\r\nVia: 1.1 countersign\r\nConnection: close\r\n\r\nhello"
    assert events[-1] == Finished(1)
    assert not machine.wants_client


def test_a_client_that_says_close_is_closed_behind_its_answer() -> None:
    _, events = fetched(GET[:-2] + b"Connection: close\r\n\r\n")
    assert b"\r\nConnection: close\r\n" in to_client(events)
    assert events[-2:] == [Dropped(), Finished(1)]


def test_a_client_that_half_closes_still_gets_its_answer() -> None:
    machine = HttpIn()
    machine.from_client(GET)
    machine.connected()
    assert machine.from_client(b"") == []
    events = machine.from_target(ANSWER)
    assert to_client(events).endswith(b"hello")
    assert events[-1] == Finished(1)


POST = b"POST http://page.test/ HTTP/1.1\r\nHost: page.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"


def test_100_continue_goes_from_the_target_to_the_client() -> None:
    machine = HttpIn()
    machine.from_client(POST)
    assert not machine.wants_client
    assert b"Expect: 100-continue" in to_target(machine.connected())
    assert machine.wants_client
    assert to_client(machine.from_target(b"HTTP/1.1 100 Continue\r\n\r\n")).startswith(b"HTTP/1.1 100 Continue\r\n")
    assert to_target(machine.from_client(b"hello")) == b"hello"
    assert not machine.wants_client
    assert exchanges(machine.from_target(ANSWER)) == [("POST", "http://page.test/", 200)]
    assert machine.wants_client


def test_a_request_that_was_answered_early_ends_its_connection() -> None:
    machine, events = fetched(POST, b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
    assert b"\r\nConnection: close\r\n" in to_client(events)
    assert events[-1] == Finished(1)
    assert machine.from_client(b"hello") == []
    failed = HttpIn()
    failed.from_client(POST)
    events = failed.failed(504, "late")
    assert b"\r\nConnection: close\r\n" in to_client(events)
    assert exchanges(events) == [("POST", "http://page.test/", 504)]
    assert events[-1] == Finished(1)


def test_a_body_in_chunks_and_its_trailers_go_on() -> None:
    request = (
        b"POST http://page.test/ HTTP/1.1\r\nHost: x\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2;ext=1\r\nab\r\n3\r\ncde\r\n0\r\n"
        b"X-Sum: 1\r\nContent-Length: 9\r\nHost: y\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    for pieces in slicings(request):
        machine = HttpIn()
        events = []
        for piece in pieces:
            events += machine.from_client(piece)
            if Fetch(PAGE) in events and not any(isinstance(event, ToTarget) for event in events):
                events += machine.connected()
        sent = to_target(events)
        target = h11.Connection(h11.SERVER)
        target.receive_data(sent)
        read = [target.next_event()]
        while not isinstance(read[-1], h11.EndOfMessage):
            read.append(target.next_event())
        assert b"".join(bytes(one.data) for one in read if isinstance(one, h11.Data)) == b"abcde"
        assert read[-1].headers == [(b"x-sum", b"1")]
        assert target.trailing_data[0] == b""
        assert fields_of(sent)[b"transfer-encoding"] == [b"chunked"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed without an answer"),
        (b"HTTP/1.1 200 OK\r\n", "closed without an answer"),
        (b"SSH-2.0\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (HEAD_AT_MOST + 20_000), "head of more than"),
    ],
)
def test_a_target_that_does_not_answer_is_a_502_and_the_client_goes_on(answer: bytes, words: str) -> None:
    machine = HttpIn()
    machine.from_client(GET)
    machine.connected()
    events = machine.from_target(answer) if answer else []
    if not exchanges(events):
        events += machine.from_target(b"")
    said = to_client(events)
    assert said.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert words.encode() in said
    assert exchanges(events) == [("GET", "http://page.test/crl.der", 502)]
    assert events[-1] == Dropped()
    assert machine.from_client(GET) == [Fetch(PAGE)]


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER[:-1],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX",
    ],
)
def test_an_answer_that_breaks_off_is_the_targets_fault(answer: bytes) -> None:
    _, events = fetched(GET, answer, ends=True)
    refused = refusal(events)
    assert (refused.by, refused.code) == (Party.TARGET, FailureCode.BROKEN_ANSWER)
    assert exchanges(events) == [("GET", "http://page.test/crl.der", 200)]
    assert not to_client(events).endswith(b"0\r\n\r\n")


def test_the_record_keeps_no_query_no_cookie_and_no_unknown_field() -> None:
    machine, events = fetched(GET.replace(b"crl.der", b"a?token=secret")[:-2] + b"Cookie: secret\r\nX: secret\r\n\r\n")
    assert "secret" not in repr(machine.record) + repr([e for e in events if isinstance(e, Exchanged)])


def test_what_is_held_is_bounded() -> None:
    machine = HttpIn()
    machine.from_client(POST.replace(b"Content-Length: 5", b"Content-Length: 100000000"))
    machine.connected()
    for _ in range(50):
        assert len(to_target(machine.from_client(bytes(65_536)))) == 65_536
    assert len(machine._client.trailing_data[0]) == 0
    machine.from_target(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert len(to_client(machine.from_target(b"1\r\nx\r\n" * 10_000))) == 60_000
    assert len(machine._target.trailing_data[0]) == 0


@given(
    st.lists(
        st.binary(max_size=30)
        | st.sampled_from([CONNECT, GET, POST, GET[:-2], b"hello", b"\r\n\r\n", b"0\r\n\r\n", b"Host: x\r\n"]),
        max_size=6,
    ),
    st.lists(st.binary(max_size=30) | st.sampled_from([ANSWER, b"HTTP/1.1 200 OK\r\n\r\n", b""]), max_size=4),
)  # fmt: skip
def test_any_bytes_of_both_sides_are_taken(client: list[bytes], target: list[bytes]) -> None:
    machine = HttpIn()
    over = 0
    answers = iter(target)
    for piece in client:
        waiting = machine.from_client(piece) if machine.wants_client else []
        while waiting:
            event = waiting.pop(0)
            over += isinstance(event, Finished | Refused | Ready)
            if isinstance(event, Fetch | Wanted):
                waiting += machine.connected() if len(client) % 2 else machine.failed(502, "no")
            elif isinstance(event, ToTarget):
                waiting += machine.from_target(next(answers, b""))
    assert over <= 1


# -- no request is smuggled (T4) -----------------------------------------------------------------------------------


class Counting(http.server.BaseHTTPRequestHandler):
    """Python's own server, which is lenient in many ways, as a target that tells what it took for a request."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[str]] = []

    def handle_one_request(self) -> None:
        super().handle_one_request()

    def _answer(self) -> None:
        body = self._body()
        self.seen.append(f"{self.command} {self.path} {body.decode('latin-1')}")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_GET = do_POST = do_SMUGGLED = _answer  # noqa: N815

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def log_message(self, *_: object) -> None:
        pass


class Quiet(http.server.ThreadingHTTPServer):
    """Bodies that break off are what some of these tests are about."""

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture
def target() -> Iterator[Address]:
    Counting.seen.clear()
    with Quiet(("127.0.0.1", 0), Counting) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="counting target")
        thread.start()
        yield Address("127.0.0.1", server.server_address[1])
        server.shutdown()
        thread.join(20)


HIDDEN = b"SMUGGLED /x HTTP/1.1\r\nHost: x\r\n\r\n"
CL0 = b"Content-Length: 0\r\n"
TE = b"Transfer-Encoding: chunked\r\n"
END = b"0\r\n\r\n"

SMUGGLING = {
    "cl.te": b"Content-Length: %d\r\n" % (len(END) + len(HIDDEN)) + TE + b"\r\n" + END + HIDDEN,
    "te.cl": TE + b"Content-Length: 4\r\n\r\n%x\r\n" % len(HIDDEN) + HIDDEN + b"\r\n" + END,
    "te.te": TE + b"Transfer-Encoding: identity\r\nContent-Length: 4\r\n\r\n" + END + HIDDEN,
    "two lengths": CL0 + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "two equal lengths": CL0 + CL0 + b"\r\n" + HIDDEN,
    "a list of lengths": b"Content-Length: 0, %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a list of equal lengths": b"Content-Length: 0, 0\r\n\r\n" + HIDDEN,
    "length with a plus": b"Content-Length: +0\r\n\r\n" + HIDDEN,
    "length with a minus": b"Content-Length: -1\r\n\r\n" + HIDDEN,
    "length in hex": b"Content-Length: 0x0\r\n\r\n" + HIDDEN,
    "length with a blank inside": b"Content-Length: 0 0\r\n\r\n" + HIDDEN,
    "length with an underscore": b"Content-Length: 1_0\r\n\r\n" + HIDDEN,
    "length in other digits": "Content-Length: \u0660\r\n\r\n".encode() + HIDDEN,
    "length with a comment": b"Content-Length: 0;x\r\n\r\n" + HIDDEN,
    "empty length": b"Content-Length:\r\n\r\n" + HIDDEN,
    "length of many digits": b"Content-Length: " + b"0" * 30 + b"\r\n\r\n" + HIDDEN,
    "blank before the colon": b"Content-Length : %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "blank before the name": b" Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "te with a blank before the colon": b"Transfer-Encoding : chunked\r\n\r\n" + END + HIDDEN,
    "te with a tab": b"Transfer-Encoding:\tchunked\r\n\r\n" + END + HIDDEN,
    "te with a vertical tab": b"Transfer-Encoding: \x0bchunked\r\n\r\n" + END + HIDDEN,
    "te with a nul": b"Transfer-Encoding: chunked\0\r\n\r\n" + END + HIDDEN,
    "te quoted": b'Transfer-Encoding: "chunked"\r\n\r\n' + END + HIDDEN,
    "te in capitals": b"Transfer-Encoding: CHUNKED\r\n\r\n" + END + HIDDEN,
    "te unknown": b"Transfer-Encoding: xchunked\r\n" + CL0 + b"\r\n" + END + HIDDEN,
    "te of two codings": b"Transfer-Encoding: gzip, chunked\r\n\r\n" + END + HIDDEN,
    "te chunked twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n" + END + HIDDEN,
    "te with an empty part": b"Transfer-Encoding: , chunked\r\n\r\n" + END + HIDDEN,
    "te in a folded line": b"Transfer-Encoding:\r\n chunked\r\n\r\n" + END + HIDDEN,
    "te under another name": b"Transfer_Encoding: chunked\r\n" + CL0 + b"\r\n" + HIDDEN,
    "length in a folded line": b"X: y\r\n Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "length behind a bare lf": b"X: y\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "te behind a bare cr": b"X: y\rTransfer-Encoding: chunked\r\n\r\n" + END + HIDDEN,
    "length behind a nul": b"X: y\0Content-Length: 9\r\n\r\n" + HIDDEN,
    "head that ends with bare lf": CL0 + b"\n" + HIDDEN,
    "chunk with an extension": TE + b"\r\n2;a=b\r\nab\r\n" + END + HIDDEN,
    "chunk with an extension of lf": TE + b"\r\n2;a\nb\r\nab\r\n" + END + HIDDEN,
    "chunk with bare lf": TE + b"\r\n2\nab\r\n" + END + HIDDEN,
    "chunk that ends in something else": TE + b"\r\n2\r\nabXX" + END + HIDDEN,
    "chunk of too many digits": TE + b"\r\n" + b"0" * 30 + b"2\r\nab\r\n" + END + HIDDEN,
    "chunk with a plus": TE + b"\r\n+2\r\nab\r\n" + END + HIDDEN,
    "chunk in 0x": TE + b"\r\n0x2\r\nab\r\n" + END + HIDDEN,
    "chunk of negative size": TE + b"\r\n-2\r\nab\r\n" + END + HIDDEN,
    "last chunk of zeros": TE + b"\r\n000\r\n\r\n" + HIDDEN,
    "trailer that frames": TE + b"\r\n0\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "connection names the length": b"Connection: Content-Length\r\nContent-Length: 2\r\n\r\nab" + HIDDEN,
    "connection names the host": b"Connection: Host\r\n" + CL0 + b"\r\n" + HIDDEN,
    "body on get": b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "upgrade": b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + CL0 + b"\r\n" + HIDDEN,
    "expect": b"Expect: 100-continue\r\n" + CL0 + b"\r\n" + HIDDEN,
}


def send_and_read(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := client.recv(65_536):
            answer += piece
        return answer


@pytest.mark.parametrize("name", SMUGGLING)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_the_target_sees_no_request_that_was_not_recorded(name: str, version: bytes, target: Address) -> None:
    place = str(target).encode()
    rest = SMUGGLING[name].replace(b"SMUGGLED /x", b"SMUGGLED http://" + place + b"/x")
    longer = len(rest) - len(SMUGGLING[name])
    rest = rest.replace(b"Content-Length: %d\r\n" % len(HIDDEN), b"Content-Length: %d\r\n" % (len(HIDDEN) + longer))
    rest = rest.replace(b"%x\r\nSMUGGLED" % len(HIDDEN), b"%x\r\nSMUGGLED" % (len(HIDDEN) + longer))
    request = b"POST http://" + place + b"/first HTTP/" + version + b"\r\nHost: " + place + b"\r\n" + rest
    with ThreadedProxy(lambda address: socket.create_connection((address.host, address.port), 10)) as proxy:
        answer = send_and_read(proxy.port, request)
    seen = [line.split()[:2] for line in Counting.seen]
    recorded = [
        [record["method"], str(record["target"]).removeprefix(f"http://{target}")]
        for record in proxy.exchanges
        if record["status"] == 200
    ]
    assert seen == recorded
    assert answer.count(b"HTTP/1.1 200 ") == len(recorded)
    assert re.search(rb"HTTP/1\.1 [245]", answer)


def test_forty_and_more_variants_were_tried() -> None:
    assert len(SMUGGLING) >= 40


# -- curl ----------------------------------------------------------------------------------------------------------


def dial(address: Address) -> socket.socket:
    if address.host == "gone.test":
        raise OSError("nobody is there")
    return socket.create_connection(("127.0.0.1", address.port), 10)


@pytest.mark.peer("curl")
def test_curl_fetches_and_posts_through_us(target: Address) -> None:
    with ThreadedProxy(dial, USERS) as proxy:
        through = f"http://alice:open%20sesame@127.0.0.1:{proxy.port}"
        url = f"http://page.test:{target.port}/a?b=c"
        assert curl(url, proxy=through).body == b"ok"
        assert curl(url, "--data", "x" * 3000, "--expect100-timeout", "5", proxy=through).body == b"ok"
        assert curl(url, "-H", "Transfer-Encoding: chunked", "--data", "abc", proxy=through).body == b"ok"
        assert curl(url, "--http1.0", proxy=through).body == b"ok"
        assert curl(f"http://gone.test:{target.port}/", proxy=through).status == 502
        assert curl(url, proxy=f"http://alice:wrong@127.0.0.1:{proxy.port}").status == 407
    assert [record["status"] for record in proxy.exchanges] == [200, 200, 200, 200, 502]
    assert [line.split()[:2] for line in Counting.seen][:3] == [
        ["GET", "/a?b=c"],
        ["POST", "/a?b=c"],
        ["POST", "/a?b=c"],
    ]
    assert Counting.seen[1] == "POST /a?b=c " + "x" * 3000


@pytest.mark.peer("curl")
def test_curl_gets_a_tunnel_from_us(target: Address) -> None:
    with ThreadedProxy(dial, USERS) as proxy:
        url = f"http://page.test:{target.port}/"
        for user, expected in (("alice:open%20sesame@", b"ok"), ("alice:wrong@", b"")):
            answer = curl(url, "--proxytunnel", proxy=f"http://{user}127.0.0.1:{proxy.port}")
            assert answer.body == expected, answer.error
    assert Counting.seen == ["GET / "]
    assert proxy.exchanges == []

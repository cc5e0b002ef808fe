"""What went over an intercepted connection: each exchange in a line, and nothing that is secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from countersign.proxy.ways.http_summary import HttpSummary
from countersign.recorder.wire.events import Side
from tests.proxy.ways.slicing import slicings

if TYPE_CHECKING:
    from countersign.proxy.ways.events import Exchanged

C, S = Side.CLIENT, Side.SERVER
GET = b"GET /a?token=secret HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nSet-Cookie: secret\r\n\r\nsecret"


def told(events: list[Exchanged]) -> list[tuple[object, object, object]]:
    return [(event.record["method"], event.record["target"], event.record["status"]) for event in events]


def watch(
    *said: tuple[Side, bytes], alpn: str | None = None
) -> tuple[HttpSummary, list[tuple[object, object, object]]]:
    summary = HttpSummary(alpn)
    events = [event for side, data in said for event in summary.receive(side, data, 0.0)]
    return summary, told(events)


def test_an_exchange_is_told_when_its_answer_is_whole() -> None:
    summary, events = watch((C, GET), (S, OK[:-1]))
    assert events == []
    assert told(summary.receive(S, OK[-1:], 0.0)) == [("GET", "/a", 200)]
    assert "secret" not in repr(summary.receive(C, GET, 0.0) + summary.receive(S, OK, 0.0))
    assert summary.stopped is None


def test_when_each_step_was_and_how_long_the_bodies_were() -> None:
    summary = HttpSummary(None)
    for t, side, data in (
        (1.0, C, b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc"),
        (2.0, C, b"def"),
        (3.0, S, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwhat"),
    ):
        assert summary.receive(side, data, t) == []
    (one,) = summary.receive(S, b"\r\n0\r\n\r\n", 4.0)
    assert one.record == {
        "t": 1.0, "method": "POST", "target": "/p", "status": 200,
        "request_bytes": 6, "answer_bytes": 4, "answered": 3.0, "ended": 4.0,
    }  # fmt: skip
    summary.receive(C, GET, 5.0)
    (unanswered,) = summary.rest(6.0)
    assert [unanswered.record[key] for key in ("t", "status", "answered", "ended")] == [5.0, None, None, 6.0]
    assert summary.exchanges == 2


def test_the_slicing_of_either_side_does_not_matter() -> None:
    answers = (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        + OK
        + b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    requests = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + GET
    expected = [("POST", "/p", 200), ("GET", "/a", 404)]
    for pieces in slicings(answers):
        assert watch((C, requests), *((S, piece) for piece in pieces))[1] == expected
    for pieces in slicings(requests):
        assert watch(*((C, piece) for piece in pieces), (S, answers))[1] == expected


@pytest.mark.parametrize(
    ("request_", "answer", "ends", "expected"),
    [
        (b"HEAD /h HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", False, ("HEAD", "/h", 200)),
        (GET, b"HTTP/1.1 304 Same\r\nContent-Length: 6\r\n\r\n", False, ("GET", "/a", 304)),
        (GET, b"HTTP/1.1 204 None\r\n\r\n", False, ("GET", "/a", 204)),
        (GET, b"HTTP/1.0 200 OK\r\n\r\nto the end", True, ("GET", "/a", 200)),
        (b"GET http://u:p@h/x?y HTTP/1.1\r\nHost: x\r\n\r\n", OK, False, ("GET", "http://(redacted)@h/x", 200)),
        (b"GET /a/@b?c HTTP/1.1\r\nHost: x\r\n\r\n", OK, False, ("GET", "/a/@b", 200)),
        (b"OPTIONS * HTTP/1.0\r\n\r\n", OK, False, ("OPTIONS", "*", 200)),
        (b"GET /" + b"a" * 2000 + b" HTTP/1.0\r\n\r\n", OK, False, ("GET", "/" + "a" * 999 + "... (1001 more)", 200)),
        (b"GET /\x80\x1b HTTP/1.1\r\nHost: x\r\n\r\n", OK, False, None),
    ],
)  # fmt: skip
def test_each_kind_of_message_is_understood(
    request_: bytes, answer: bytes, *, ends: bool, expected: tuple[str, str, int] | None
) -> None:
    _, events = watch((C, request_), (S, answer), *([(S, b"")] if ends else []))
    assert events == ([expected] if expected else [])


def test_pipelined_requests_get_their_answers_in_order() -> None:
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(3))
    answers = b"".join(b"HTTP/1.1 20%d OK\r\nContent-Length: 0\r\n\r\n" % number for number in range(3))
    assert watch((C, requests), (S, answers))[1] == [("GET", "/0", 200), ("GET", "/1", 201), ("GET", "/2", 202)]


def test_a_request_that_was_never_answered_is_told_at_the_end() -> None:
    summary, events = watch((C, GET), (C, b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"), (S, OK[:-1]))
    assert events == []
    assert told(summary.rest(0.0)) == [("GET", "/a", 200), ("GET", "/b", None)]
    assert summary.rest(0.0) == []
    assert summary.receive(S, OK, 0.0) == []


@pytest.mark.parametrize(
    ("said", "expected", "stopped"),
    [
        ([(C, b"\x00\x01\x02\r\n\r\n")], [], "the client sent what is not HTTP/1.1"),
        ([(C, GET), (S, b"SSH-2.0\r\n\r\n")], [("GET", "/a", None)], "the target sent what is not HTTP/1.1"),
        ([(S, b"220 smtp\r\n")], [], "the target answered what nobody had asked"),
        ([(C, GET), (S, OK + OK)], [("GET", "/a", 200)], "the target answered what nobody had asked"),
        ([(C, GET[:-2]), (C, b"")], [], "the client closed in mid-message"),
        ([(C, GET), (S, OK[:-1]), (S, b"")], [("GET", "/a", 200)], "the target closed in mid-message"),
        (
            [
                (C, GET[:-2] + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
                (S, b"HTTP/1.1 101 Go\r\n\r\n\x81\x00"),
            ],
            [("GET", "/a", 101)],
            "another protocol was switched to",
        ),
        (
            [(C, b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"), (S, b"HTTP/1.1 200 OK\r\n\r\n\x16\x03")],
            [("CONNECT", "a:1", 200)],
            "another protocol was switched to",
        ),
        ([(C, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 101)], [("GET", "/", None)] * 101, "more than 100 requests wait"),
        ([(C, b"GET /" + b"a" * 90_000)], [], "the client sent what is not HTTP/1.1"),
    ],
)
def test_it_stops_for_good_where_there_is_nothing_to_tell(
    said: list[tuple[Side, bytes]], expected: list[tuple[object, object, object]], stopped: str
) -> None:
    summary, events = watch(*said)
    assert events == expected
    assert summary.stopped is not None
    assert summary.stopped.startswith(stopped)
    assert summary.receive(C, GET, 0.0) == summary.receive(S, OK, 0.0) == summary.rest(0.0) == []


def test_an_upgrade_that_was_refused_changes_nothing() -> None:
    asked = GET[:-2] + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    assert watch((C, asked), (S, OK), (C, GET), (S, OK))[1] == [("GET", "/a", 200)] * 2


def test_a_thousand_exchanges_are_enough() -> None:
    summary = HttpSummary(None)
    events = [event for _ in range(1200) for event in summary.receive(C, GET, 0.0) + summary.receive(S, OK, 0.0)]
    assert len(events) == 1000
    assert summary.stopped == "1000 exchanges were told"


@pytest.mark.parametrize(("alpn", "stopped"), [("h2", "h2"), ("http/1.1", None), (None, None), ("imap", "imap")])
def test_only_http_1_is_looked_at(alpn: str | None, stopped: str | None) -> None:
    summary = HttpSummary(alpn)
    assert summary.stopped == stopped
    assert bool(told(summary.receive(C, GET, 0.0) + summary.receive(S, OK, 0.0))) is (stopped is None)


def test_bulk_data_is_not_kept() -> None:
    summary = HttpSummary(None)
    summary.receive(C, GET, 0.0)
    summary.receive(S, b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n", 0.0)
    for _ in range(30):
        assert summary.receive(S, bytes(99_999), 0.0) == []
    assert summary._server is not None
    assert summary._server.trailing_data[0] == b""
    assert told(summary.receive(S, bytes(30), 0.0)) == [("GET", "/a", 200)]


@given(
    st.lists(st.tuples(st.sampled_from([C, S]), st.binary(max_size=40) | st.sampled_from([GET, OK, b""])), max_size=8)
)
def test_any_bytes_can_be_watched(said: list[tuple[Side, bytes]]) -> None:
    summary = HttpSummary(None)
    ended: set[Side] = set()
    for side, data in said:
        if side not in ended:
            summary.receive(side, data, 0.0)
        if not data:
            ended.add(side)
    summary.rest(0.0)

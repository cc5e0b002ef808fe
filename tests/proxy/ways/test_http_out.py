"""CONNECT through an upstream proxy: what it says, in any slicing, and what ends it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from countersign.proxy.settings import Address
from countersign.proxy.ways.credentials import Credentials, Login
from countersign.proxy.ways.digest import Authenticator
from countersign.proxy.ways.events import Ready, Redial, Refused, Send, Wanted
from countersign.proxy.ways.http_in import HttpIn
from countersign.proxy.ways.http_out import ConnectThrough, Event
from countersign.recorder.recording import FailureCode, Party
from tests.proxy.ways.slicing import slicings

TARGET = Address("target.test", 443)
ASKED = b"CONNECT target.test:443 HTTP/1.1\r\nHost: target.test:443\r\n\r\n"
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"
NO = b'HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm="r", nonce="%b", qop="auth"\r\nContent-Length: 3\r\n\r\nno!'
LAST_NO = b'HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="r"\r\nConnection: close\r\n\r\n<html>no</html>'


def authenticator() -> Authenticator:
    return Authenticator(Login("alice", "open sesame"), rng=lambda _: "c")


def refusal(events: list[Event]) -> Refused:
    (only,) = events
    assert isinstance(only, Refused)
    assert only.by is Party.UPSTREAM_PROXY
    return only


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.0 200 OK\r\nProxy-Agent: x\r\n\r\n",
        b"HTTP/1.1 299\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n" + OK,
    ],
)
def test_a_2xx_opens_the_tunnel(answer: bytes) -> None:
    for pieces in slicings(answer):
        through = ConnectThrough(TARGET)
        assert through.begin() == ASKED
        assert [event for piece in pieces for event in through.receive(piece)] == [Ready(b"")]
    through = ConnectThrough(TARGET)
    through.begin()
    assert through.receive(answer + b"220 hello" + bytes(100_000)) == [Ready(b"220 hello" + bytes(100_000))]
    assert through.receive(b"more") == []


def test_a_prefix_of_the_answer_opens_nothing() -> None:
    for length in range(len(OK)):
        through = ConnectThrough(TARGET)
        through.begin()
        assert through.receive(OK[:length] if length else OK[:1]) == []


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (Address("::1", 443), b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n"),
        (Address("b\u00fccher.test", 1), b"CONNECT xn--bcher-kva.test:1 HTTP/1.1\r\n"),
    ],
)
def test_the_target_is_named_as_the_rfc_has_it(target: Address, line: bytes) -> None:
    assert ConnectThrough(target).begin().startswith(line)


def test_a_challenge_is_answered_on_the_same_connection() -> None:
    for pieces in slicings(NO % b"n1"):
        through = ConnectThrough(TARGET, authenticator())
        assert through.begin() == ASKED
        (again,) = [event for piece in pieces for event in through.receive(piece)]
        assert isinstance(again, Send)
        assert again.data.startswith(ASKED[:-2])
        assert b'nonce="n1"' in again.data
        assert b"open sesame" not in again.data
        assert through.receive(OK) == [Ready(b"")]
        assert through.record == {"target": "target.test:443", "answer": 200, "authentication": "digest MD5"}


@pytest.mark.parametrize("ending", [b"", b"x" * 70_000])
def test_a_proxy_that_closes_behind_its_challenge_is_dialled_again(ending: bytes) -> None:
    through = ConnectThrough(TARGET, authenticator())
    through.begin()
    events = through.receive(LAST_NO)
    assert (events or through.receive(ending)) == [Redial()]
    assert through.receive(b"late") == []
    assert b"Proxy-Authorization: Basic YWxpY2U6b3BlbiBzZXNhbWU=" in through.begin()
    assert through.receive(OK) == [Ready(b"")]


def test_a_body_that_ends_with_the_connection_leaves_nothing_to_ask_on() -> None:
    through = ConnectThrough(TARGET, authenticator())
    through.begin()
    assert through.receive(LAST_NO.replace(b"Connection: close\r\n", b"")) == []
    assert through.receive(b"") == [Redial()]


def test_a_proxy_that_closes_without_having_said_so_is_dialled_again() -> None:
    through = ConnectThrough(TARGET, authenticator())
    through.begin()
    assert isinstance(through.receive(NO % b"n1")[0], Send)
    assert through.receive(b"") == [Redial()]
    assert b'nonce="n1"' in through.begin()
    assert through.receive(OK) == [Ready(b"")]


def test_a_body_that_breaks_off_is_no_obstacle() -> None:
    through = ConnectThrough(TARGET, authenticator())
    through.begin()
    through.receive((NO % b"n1")[:-1])
    assert through.receive(b"") == [Redial()]


def test_a_wrong_password_is_shown_once() -> None:
    through = ConnectThrough(TARGET, authenticator())
    through.begin()
    through.receive(NO % b"n1")
    refused = refusal(through.receive(NO % b"n2"))
    assert refused.code is FailureCode.UPSTREAM_NOT_AUTHENTICATED
    assert "does not take" in refused.text


def test_a_stale_nonce_is_replaced_but_not_for_ever() -> None:
    through = ConnectThrough(TARGET, authenticator())
    through.begin()
    events: list[Event] = []
    count = 0
    while not events or isinstance(events[-1], Send):
        events = through.receive((NO % b"n%d" % count).replace(b'qop="auth"', b'qop="auth", stale=true'))
        count += 1
    assert refusal(events).code is FailureCode.UPSTREAM_NOT_AUTHENTICATED
    assert count == 4


def test_what_was_learnt_serves_the_next_connection() -> None:
    shared = authenticator()
    first = ConnectThrough(TARGET, shared)
    first.begin()
    first.receive(NO % b"n1")
    ok = OK.replace(b"\r\n\r\n", b'\r\nProxy-Authentication-Info: nextnonce="n2"\r\n\r\n')
    assert first.receive(ok) == [Ready(b"")]
    second = ConnectThrough(TARGET, shared)
    assert b'nonce="n2"' in second.begin()
    again = second.receive(NO % b"n3")  # too old, and the proxy does not call it stale
    assert isinstance(again[0], Send)
    assert b'nonce="n3"' in again[0].data


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", FailureCode.UPSTREAM_REFUSED, "403 Forbidden"),
        (b"HTTP/1.1 502 \x1b[31m\r\n\r\n", FailureCode.UPSTREAM_REFUSED, "502 \\x1b[31m"),
        (b"HTTP/1.1 502 caf\xe9\r\n\r\n", FailureCode.UPSTREAM_REFUSED, "502 caf"),
        (b"HTTP/1.1 503\r\n\r\n", FailureCode.UPSTREAM_REFUSED, "with 503"),
        (b"HTTP/1.1 101 Switch\r\n\r\n", FailureCode.UPSTREAM_BROKEN, "not HTTP"),
        (b"HTTP/1.1 100 x\r\n\r\n" * 11, FailureCode.UPSTREAM_BROKEN, "no final status"),
        (NO % b"n", FailureCode.UPSTREAM_NOT_AUTHENTICATED, "was given none"),
        (b"\x15\x03\x01\x00\x02\x02\x46", FailureCode.UPSTREAM_BROKEN, "https:// proxy"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", FailureCode.UPSTREAM_BROKEN, "not HTTP"),
        (b"\x05\x00", FailureCode.UPSTREAM_BROKEN, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, FailureCode.UPSTREAM_BROKEN, "head of more than"),
    ],
)
def test_any_other_answer_is_the_proxys_refusal(answer: bytes, code: FailureCode, words: str) -> None:
    through = ConnectThrough(TARGET)
    through.begin()
    refused = refusal(through.receive(answer))
    assert refused.code is code
    assert words in refused.text
    assert "\x1b" not in refused.text
    assert through.receive(OK) == []


@pytest.mark.parametrize("before", [b"", OK[:-1], b"HTTP/1.1 100 x\r\n\r\n"])
def test_an_end_before_the_answer_is_told(before: bytes) -> None:
    through = ConnectThrough(TARGET)
    through.begin()
    if before:
        assert through.receive(before) == []
    assert "closed the connection before" in refusal(through.receive(b"")).text


@given(
    st.lists(st.binary(min_size=1, max_size=40) | st.sampled_from([OK, NO % b"n", LAST_NO, b"HTTP/1.1 "]), max_size=6)
)
def test_any_bytes_end_somewhere(pieces: list[bytes]) -> None:
    through = ConnectThrough(TARGET, authenticator())
    through.begin()
    ends = 0
    for piece in pieces:
        for event in through.receive(piece):
            ends += isinstance(event, Ready | Refused)
            if isinstance(event, Redial):
                through.begin()
    assert ends <= 1


def test_our_own_proxy_lets_it_through() -> None:
    """The two ends of this package, with Basic between them."""
    server = HttpIn(Credentials.parse(b"alice:open sesame", name="f"))
    through = ConnectThrough(TARGET, authenticator())
    way = through.begin()
    for _ in range(2):
        events = server.from_client(way)
        if Wanted(TARGET) in events:
            break
        (again,) = through.receive(b"".join(event.data for event in events if isinstance(event, Send)))
        assert isinstance(again, Send)
        way = again.data
    answer, ready = server.connected()
    assert isinstance(answer, Send)
    assert ready == Ready(b"")
    assert through.receive(answer.data) == [Ready(b"")]
    assert not re.search("sesame|YWxp", repr(server.record))

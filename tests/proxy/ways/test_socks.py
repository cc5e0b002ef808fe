"""SOCKS, both sides, by the bytes of RFC 1928 and RFC 1929, and against curl."""

from __future__ import annotations

import socket
import threading
from contextlib import closing

import pytest
from hypothesis import example, given, strategies as st

from countersign.proxy.settings import Address
from countersign.proxy.ways.credentials import Credentials, Login
from countersign.proxy.ways.events import Ready, Refused, Send, Wanted
from countersign.proxy.ways.socks import REPLIES, Event, SocksClient, SocksServer
from countersign.recorder.recording import FailureCode, Party
from tests.peers.curl import curl
from tests.proxy.ways.slicing import slicings

USERS = Credentials.parse(b"alice:correct horse\n", name="users")

NAME = b"\x05\x01\x00" + b"\x05\x01\x00\x03\x0btarget.test\x01\xbb"
V4 = b"\x05\x01\x00" + b"\x05\x01\x00\x01\x7f\x00\x00\x01\x20\xfb"
V6 = b"\x05\x01\x00" + b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x01\xbb"
LOGIN = b"\x05\x02\x00\x02" + b"\x01\x05alice\x0dcorrect horse" + b"\x05\x01\x00\x03\x0btarget.test\x01\xbb"
SOCKS4 = b"\x04\x01\x01\xbb\x7f\x00\x00\x01me\x00"
SOCKS4A = b"\x04\x01\x01\xbb\x00\x00\x00\x01me\x00target.test\x00"

GOOD = [
    (NAME, None, Address("target.test", 443), {"version": 5, "authenticated": False}),
    (V4, None, Address("127.0.0.1", 8443), {"version": 5, "authenticated": False}),
    (V6, None, Address("::1", 443), {"version": 5, "authenticated": False}),
    (LOGIN, USERS, Address("target.test", 443), {"version": 5, "authenticated": True}),
    (SOCKS4, None, Address("127.0.0.1", 443), {"version": 4, "authenticated": False}),
    (SOCKS4A, None, Address("target.test", 443), {"version": 4, "authenticated": False}),
]
GOOD_IDS = ["name", "ipv4", "ipv6", "password", "socks4", "socks4a"]


def sent(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Send))


def refusal(events: list[Event]) -> Refused:
    (only,) = [event for event in events if isinstance(event, Refused)]
    return only


# -- the server ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("request_", "users", "target", "record"), GOOD, ids=GOOD_IDS)
def test_the_target_is_known_however_the_request_is_sliced(
    request_: bytes, users: Credentials | None, target: Address, record: dict[str, object]
) -> None:
    answers = set()
    for pieces in slicings(request_):
        server = SocksServer(users)
        events = [event for piece in pieces for event in server.receive(piece)]
        assert [event for event in events if not isinstance(event, Send)] == [Wanted(target)]
        assert server.record == {**record, "target": str(target)}
        answers.add(sent(events))
    assert len(answers) == 1


@pytest.mark.parametrize(("request_", "users"), [(one, users) for one, users, _, _ in GOOD], ids=GOOD_IDS)
def test_a_prefix_of_a_request_is_neither_wanted_nor_refused(request_: bytes, users: Credentials | None) -> None:
    for length in range(len(request_)):
        server = SocksServer(users)
        assert not [event for event in server.receive(request_[:length]) if not isinstance(event, Send)]
        assert server.midway == (length > 0)


@pytest.mark.parametrize(("request_", "users"), [(one, users) for one, users, _, _ in GOOD], ids=GOOD_IDS)
def test_what_follows_the_request_belongs_to_the_tunnel(request_: bytes, users: Credentials | None) -> None:
    server = SocksServer(users)
    server.receive(request_ + b"\x16\x03")
    assert server.receive(b"\x01\x02") == []
    answer, ready = server.granted(Address("192.0.2.1", 50000))
    assert ready == Ready(b"\x16\x03\x01\x02")
    assert isinstance(answer, Send)
    if request_[0] == 4:
        assert answer.data == b"\x00\x5a" + bytes(6)
    else:
        assert answer.data == b"\x05\x00\x00\x01\xc0\x00\x02\x01\xc3\x50"


def test_the_bound_address_of_a_reply_may_be_ipv6_or_unknown() -> None:
    for bound, expected in [
        (Address("::1", 80), b"\x05\x00\x00\x04" + bytes(15) + b"\x01\x00\x50"),
        (None, b"\x05\x00\x00\x01" + bytes(6)),
    ]:
        server = SocksServer()
        server.receive(NAME)
        assert sent(server.granted(bound)) == expected


@pytest.mark.parametrize(
    ("code", "reply"),
    [
        (FailureCode.DIAL_REFUSED, 5),
        (FailureCode.DIAL_TIMEOUT, 6),
        (FailureCode.UNKNOWN_HOST, 4),
        (FailureCode.RESOLVER_TIMEOUT, 4),
        (FailureCode.UNREACHABLE, 4),
        (FailureCode.TARGET_NOT_ALLOWED, 2),
        (FailureCode.REFUSED_BY_RULE, 2),
        (FailureCode.DIAL_RESET, 1),
        (FailureCode.NO_DESCRIPTORS, 1),
    ],
)
def test_each_failed_dial_has_its_reply(code: FailureCode, reply: int) -> None:
    server = SocksServer()
    server.receive(NAME)
    assert server.failed(code) == [Send(bytes((5, reply, 0, 1)) + bytes(6))]
    assert server.record["answer"] == reply
    four = SocksServer()
    four.receive(SOCKS4)
    assert four.failed(code) == [Send(b"\x00\x5b" + bytes(6))]


GREETING = b"\x05\x01\x00"


@pytest.mark.parametrize(
    ("data", "answer", "code", "words"),
    [
        (GREETING + b"\x05\x02\x00\x01\x7f\0\0\1\0\x50", 7, FailureCode.UNSUPPORTED_REQUEST, "BIND"),
        (GREETING + b"\x05\x03\x00\x01\x7f\0\0\1\0\x50", 7, FailureCode.UNSUPPORTED_REQUEST, "UDP ASSOCIATE"),
        (GREETING + b"\x05\x09\x00\x01\x7f\0\0\1\0\x50", 7, FailureCode.UNSUPPORTED_REQUEST, "command 0x09"),
        (GREETING + b"\x05\x01\x00\x02\x7f\0\0\1\0\x50", 8, FailureCode.BAD_REQUEST, "type 0x02"),
        (GREETING + b"\x05\x01\x00\x03\x00\0\x50", 1, FailureCode.BAD_REQUEST, "no host name"),
        (GREETING + b"\x05\x01\x00\x03\x03a\0b\0\x50", 1, FailureCode.BAD_REQUEST, "no host name"),
        (GREETING + b"\x05\x01\x00\x03\x05a/../\0\x50", 1, FailureCode.BAD_REQUEST, "no host name"),
        (GREETING + b"\x05\x01\x00\x03\x02\xc3\xa4\0\x50", 1, FailureCode.BAD_REQUEST, "no host name"),
        (GREETING + b"\x05\x01\x00\x01\x7f\0\0\1\0\0", 1, FailureCode.BAD_REQUEST, "without a port"),
        (GREETING + b"\x04\x01", 1, FailureCode.BAD_REQUEST, "version 0x04"),
    ],
)
def test_a_wrong_request_gets_the_reply_of_the_rfc(data: bytes, answer: int, code: FailureCode, words: str) -> None:
    server = SocksServer()
    events = server.receive(data)
    assert sent(events) == b"\x05\x00" + bytes((5, answer, 0, 1)) + bytes(6)
    refused = refusal(events)
    assert (refused.by, refused.code) == (Party.CLIENT, code)
    assert words in refused.text
    assert server.receive(b"more") == []


@pytest.mark.parametrize(
    ("users", "data", "answer", "words"),
    [
        (None, b"\x05\x01\x02", b"\x05\xff", "go without authentication"),
        (None, b"\x05\x00", b"\x05\xff", "offers none"),
        (USERS, b"\x05\x01\x00", b"\x05\xff", "authenticate with a user name"),
        (USERS, b"\x05\x01\x02\x02", b"\x05\x02\x01\x01", "version 0x02"),
        (USERS, b"\x05\x01\x02\x01\x05alice\x05wrong", b"\x05\x02\x01\x01", "does not know"),
        (USERS, b"\x05\x01\x02\x01\x03bob\x0dcorrect horse", b"\x05\x02\x01\x01", "does not know"),
        (USERS, b"\x05\x01\x02\x01\x00\x00", b"\x05\x02\x01\x01", "does not know"),
        (USERS, SOCKS4, b"\x00\x5b" + bytes(6), "no passwords"),
        (None, b"\x04\x02\x01\xbb\x7f\0\0\1me\0", b"\x00\x5b" + bytes(6), "BIND"),
        (None, b"\x04\x01\x01\xbb\x7f\0\0\1" + b"a" * 300, b"\x00\x5b" + bytes(6), "without an end"),
        (None, b"\x04\x01\x01\xbb\0\0\0\1me\0" + b"a" * 300, b"\x00\x5b" + bytes(6), "without an end"),
        (None, b"\x16\x03\x01\x02\x00\x01", b"", "takes this proxy for the target"),
        (None, b"CONNECT a:443 HTTP/1.1\r\n", b"", "--mode connect"),
        (None, b"\x00\x01\x02", b"", "began with 0x00"),
    ],
)
def test_what_is_no_socks_or_not_authenticated_is_turned_away(
    users: Credentials | None, data: bytes, answer: bytes, words: str
) -> None:
    events = SocksServer(users).receive(data)
    assert sent(events) == answer
    refused = refusal(events)
    assert refused.by is Party.CLIENT
    assert words in refused.text


def test_the_password_is_nowhere_on_the_record() -> None:
    for data in (LOGIN, LOGIN.replace(b"correct horse", b"correct hors\x65"), LOGIN.replace(b"horse", b"mouse")):
        server = SocksServer(USERS)
        events = server.receive(data)
        told = repr(server.record) + repr([event for event in events if not isinstance(event, Send)])
        assert "correct" not in told
        assert "alice" not in told


@given(st.binary(max_size=600), st.booleans())
@example(b"\x04\x00", True)
def test_any_bytes_end_in_a_request_or_a_refusal_or_wait(data: bytes, asking: bool) -> None:  # noqa: FBT001
    server = SocksServer(USERS if asking else None)
    events = [event for at in range(len(data)) for event in server.receive(data[at : at + 1])]
    last = [event for event in events if isinstance(event, Wanted | Refused)]
    assert len(last) <= 1
    whole = SocksServer(USERS if asking else None)
    assert [event for event in whole.receive(data) if isinstance(event, Wanted | Refused)] == last
    assert whole.record == server.record


# -- the client ----------------------------------------------------------------------------------------------------

TARGET = Address("target.test", 443)
ASKED = b"\x05\x01\x00\x03\x0btarget.test\x01\xbb"
SAID_YES = b"\x05\x00\x00\x01\xc0\x00\x02\x01\xc3\x50"


def test_the_client_asks_for_a_name_and_gives_the_rest_to_the_tunnel() -> None:
    answers = b"\x05\x00" + SAID_YES
    for pieces in slicings(answers):
        client = SocksClient(TARGET)
        assert client.begin() == b"\x05\x01\x00"
        events = [event for piece in pieces for event in client.receive(piece)]
        assert events == [Send(ASKED), Ready(b"")]
        assert client.record == {"version": 5, "target": "target.test:443", "answer": 0}
    assert SocksClient(TARGET).receive(answers + b"220 ready")[-1] == Ready(b"220 ready")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", b"\x01\xc0\x00\x02\x01"),
        ("2001:db8::1", b"\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01"),
        ("b\u00fccher.test", b"\x03\x12xn--bcher-kva.test"),
    ],
)
def test_the_client_names_the_target_by_what_it_is(host: str, address: bytes) -> None:
    events = SocksClient(Address(host, 443)).receive(b"\x05\x00")
    assert events == [Send(b"\x05\x01\x00" + address + b"\x01\xbb")]


def test_the_client_shows_its_password_when_asked() -> None:
    client = SocksClient(TARGET, Login("alice", "correct horse"))
    assert client.begin() == b"\x05\x02\x00\x02"
    assert client.receive(b"\x05\x02") == [Send(b"\x01\x05alice\x0dcorrect horse")]
    assert client.receive(b"\x01\x00") == [Send(ASKED)]
    assert client.receive(SAID_YES) == [Ready(b"")]
    assert "correct" not in repr(client.record)
    assert client.record["authenticated"] is True


@pytest.mark.parametrize("reply", [*sorted(REPLIES)[1:], 0x5B])
def test_each_refusal_of_the_upstream_proxy_is_told(reply: int) -> None:
    client = SocksClient(TARGET)
    client.receive(b"\x05\x00")
    refused = refusal(client.receive(bytes((5, reply))))
    assert (refused.by, refused.code) == (Party.UPSTREAM_PROXY, FailureCode.UPSTREAM_REFUSED)
    assert REPLIES.get(reply, "a reply that RFC 1928 does not have") in refused.text
    assert client.record["answer"] == reply


@pytest.mark.parametrize(
    ("login", "answers", "code", "words"),
    [
        (None, b"HTTP/1.1 400", FailureCode.UPSTREAM_BROKEN, "does not speak SOCKS5"),
        (None, b"\x05\xff", FailureCode.UPSTREAM_NOT_AUTHENTICATED, "no user name"),
        (Login("a", "b"), b"\x05\xff", FailureCode.UPSTREAM_NOT_AUTHENTICATED, "a user name and password"),
        (Login("a", "b"), b"\x05\x01", FailureCode.UPSTREAM_BROKEN, "0x01"),
        (None, b"\x05\x02", FailureCode.UPSTREAM_BROKEN, "0x02"),
        (Login("a", "b"), b"\x05\x02\x01\x01", FailureCode.UPSTREAM_NOT_AUTHENTICATED, "status 1"),
        (Login("a", "b"), b"\x05\x02\x05\x00", FailureCode.UPSTREAM_BROKEN, "version 0x05"),
        (None, b"\x05\x00\x04\x00", FailureCode.UPSTREAM_BROKEN, "no reply"),
        (None, b"\x05\x00\x05\x00\x00\x07", FailureCode.UPSTREAM_BROKEN, "type 0x07"),
    ],
)
def test_an_upstream_proxy_that_does_not_speak_socks5_is_told(
    login: Login | None, answers: bytes, code: FailureCode, words: str
) -> None:
    for pieces in slicings(answers):
        client = SocksClient(TARGET, login)
        refused = refusal([event for piece in pieces for event in client.receive(piece)])
        assert (refused.by, refused.code) == (Party.UPSTREAM_PROXY, code)
        assert words.split(maxsplit=1)[0] in refused.text
        assert not client.record.get("authenticated")


def test_a_name_that_socks_cannot_carry_is_the_clients_fault() -> None:
    for host in ("a" * 256, "\u00fc" * 100):
        refused = refusal(SocksClient(Address(host, 443)).receive(b"\x05\x00"))
        assert (refused.by, refused.code) == (Party.CLIENT, FailureCode.BAD_REQUEST)


@given(
    host=st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,40}[a-z0-9])?", fullmatch=True) | st.ip_addresses().map(str),
    port=st.integers(1, 65535),
    secret=st.none() | st.binary(min_size=1, max_size=40).map(lambda data: data.hex()),
)
def test_client_and_server_understand_each_other(host: str, port: int, secret: str | None) -> None:
    login = None if secret is None else Login("user", secret)
    server = SocksServer(None if secret is None else Credentials.parse(f"user:{secret}".encode(), name="f"))
    client = SocksClient(Address(host, port), login)
    way = client.begin()
    while True:
        events = server.receive(way)
        wanted = [event for event in events if isinstance(event, Wanted)]
        if wanted:
            break
        way = sent(client.receive(sent(events)))
    assert wanted[0].target.port == port
    assert wanted[0].target.host == str(Address(host, port).host)
    answer = server.granted()
    assert client.receive(sent(answer)) == [Ready(b"")]


# -- curl ----------------------------------------------------------------------------------------------------------

PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


def serve_one(
    users: Credentials | None, seen: list[Event], reply: FailureCode | None = None
) -> tuple[int, threading.Thread]:
    """A SOCKS server that is the target itself: it answers each request with a page."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(20)

    def run() -> None:
        with closing(listening), listening.accept()[0] as client:
            client.settimeout(20)
            server = SocksServer(users)
            while not any(isinstance(event, Wanted | Refused) for event in seen):
                events = server.receive(client.recv(1000))
                seen.extend(events)
                client.sendall(sent(events))
            if isinstance(seen[-1], Wanted):
                events = server.granted() if reply is None else server.failed(reply)
                client.sendall(sent(events))
                if reply is None:
                    assert client.recv(10_000).startswith(b"GET / HTTP/1.1\r\n")
                    client.sendall(PAGE)

    thread = threading.Thread(target=run, name="socks under test")
    thread.start()
    return listening.getsockname()[1], thread


@pytest.mark.peer("curl")
@pytest.mark.parametrize(
    ("scheme", "users", "url", "target"),
    [
        ("socks5h", None, "http://target.test:8080/", Address("target.test", 8080)),
        ("socks5", None, "http://127.0.0.1:8080/", Address("127.0.0.1", 8080)),
        ("socks5h", None, "http://[::1]:8080/", Address("::1", 8080)),
        ("socks5h", USERS, "http://target.test/", Address("target.test", 80)),
        ("socks4", None, "http://127.0.0.1:8080/", Address("127.0.0.1", 8080)),
        ("socks4a", None, "http://target.test:8080/", Address("target.test", 8080)),
    ],
)
def test_curl_gets_through(scheme: str, users: Credentials | None, url: str, target: Address) -> None:
    seen: list[Event] = []
    port, thread = serve_one(users, seen)
    login = "alice:correct%20horse@" if users else ""
    answer = curl(url, proxy=f"{scheme}://{login}127.0.0.1:{port}")
    thread.join(20)
    assert (answer.status, answer.body) == (200, b"hello"), answer.error
    assert seen[-1] == Wanted(target)


@pytest.mark.peer("curl")
@pytest.mark.parametrize(
    ("users", "reply", "words"),
    [
        (None, FailureCode.DIAL_REFUSED, "(5)"),
        (None, FailureCode.UNKNOWN_HOST, "(4)"),
        (USERS, None, "was rejected by the SOCKS5 server"),
    ],
)
def test_curl_understands_a_refusal(users: Credentials | None, reply: FailureCode | None, words: str) -> None:
    seen: list[Event] = []
    port, thread = serve_one(users, seen, reply)
    login = "alice:wrong@" if users else ""
    answer = curl("http://target.test/", proxy=f"socks5h://{login}127.0.0.1:{port}")
    thread.join(20)
    assert answer.status == 0
    assert words in answer.error

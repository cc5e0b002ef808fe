"""What is told of a dialogue before TLS, and that the credentials are not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from countersign.recorder.wire.dialogue import (
    Form,
    LineRedactor,
    XmlRedactor,
    XmlScanner,
    XmlToken,
    answer_form,
    is_mysql_ssl_request,
    ldap_message,
    ldap_messages,
    mysql_greeting,
)

SECRET = "c2VjcmV0"

LINES = [
    ["C: AUTH PLAIN SECRET"],
    ["C: auth plain SECRET"],
    ["C: AUTH LOGIN", "S: 334 VXNlcm5hbWU6", "C: SECRET", "S: 334 UGFzc3dvcmQ6", "C: SECRET", "S: 535 no"],
    ["C: a1 LOGIN bob SECRET", "S: a1 NO"],
    ["C: a1 LOGIN bob {8}", "S: + go on", "C: SECRET", "S: a1 NO"],
    ["C: a1 LOGIN {3}", "S: + go on", "C: bob {8}", "S: * 3 EXISTS", "S: + go on", "C: SECRET", "S: a1 NO"],
    ["C: a1 AUTHENTICATE SCRAM-SHA-256", "S: +", "C: SECRET", "S: + SECRE", "C: SECRET", "S: a1 OK"],
    ["C: USER bob", "S: +OK", "C: PASS SECRET", "S: -ERR no"],
    ["C: APOP bob SECRET"],
    ["C: USER bob", "S: 331 password", "C: PASS SECRET", "S: 530 no"],
    ["C: AUTHINFO USER bob", "S: 381 more", "C: AUTHINFO PASS SECRET"],
    ["C: Authorization: Basic SECRET"],
    ["C: Proxy-Authorization: Basic SECRET"],
    ["C: Cookie: sid=SECRET"],
]


@pytest.mark.parametrize("lines", LINES, ids=lambda lines: lines[0][3:])
def test_no_line_of_the_client_tells_what_authenticates(lines: list[str]) -> None:
    redactor = LineRedactor()
    told = [
        redactor.line(line[3:].replace("SECRET", SECRET) + "\r\n", from_client=line.startswith("C"))
        for line in lines
        if "SECRE" not in line or line.startswith("C")
    ]
    assert SECRET not in "".join(told)
    assert "(redacted)" in "".join(told)
    assert all(line.endswith("\r\n") for line in told)


@pytest.mark.parametrize(
    "line", ["EHLO me", "STARTTLS", "AUTH TLS", "AUTH SSL", "a1 STARTTLS", "a1 CAPABILITY", "CAP LS", "QUIT", ""]
)
def test_other_lines_are_told_as_they_are(line: str) -> None:
    redactor = LineRedactor()
    assert redactor.line(f"{line}\r\n", from_client=True) == f"{line}\r\n"
    assert redactor.line("EHLO again\r\n", from_client=True) == "EHLO again\r\n"


def test_after_the_answer_lines_are_told_again() -> None:
    redactor = LineRedactor()
    redactor.line("AUTH PLAIN x\r\n", from_client=True)
    assert redactor.line("EHLO hidden\r\n", from_client=True) == "(redacted)\r\n"
    redactor.line("535 no\r\n", from_client=False)
    assert redactor.line("EHLO seen\r\n", from_client=True) == "EHLO seen\r\n"


# -- XML -----------------------------------------------------------------------------------------------------------

STREAM = (
    b"<?xml version='1.0'?><stream:stream to='a&gt;b' note=\"it's > that\" xmlns='jabber:client'>\n"
    b"<auth mechanism='PLAIN'>c2VjcmV0</auth><a><![CDATA[<starttls/>]]>text</a><empty x='/>'/> "
    b"<tls:starttls xmlns:tls='urn:x'/></stream:stream>"
)


def tokens(pieces: list[bytes]) -> list[tuple[str, bytes]]:
    """With neighbouring text as one."""
    scanner = XmlScanner()
    found: list[tuple[str, bytes]] = []
    for piece in pieces:
        for token in scanner.feed(piece):
            assert token.end <= len(piece)
            if token.kind == "text" and found and found[-1][0] == "text":
                found[-1] = ("text", found[-1][1] + token.raw)
            else:
                found.append((token.kind, token.raw))
    return found


def test_a_stream_is_cut_into_its_tags_and_text() -> None:
    assert [kind for kind, _ in tokens([STREAM])] == [
        "other", "open", "text", "open", "text", "close", "open", "text", "close", "empty", "text", "empty", "close",
    ]  # fmt: skip
    assert tokens([STREAM])[8:10] == [("close", b"</a>"), ("empty", b"<empty x='/>'/>")]


def test_the_cuts_do_not_depend_on_how_the_stream_comes() -> None:
    whole = tokens([STREAM])
    assert tokens([STREAM[at : at + 1] for at in range(len(STREAM))]) == whole
    for at in range(1, len(STREAM)):
        assert tokens([STREAM[:at], STREAM[at:]]) == whole


def test_what_authenticates_in_xmpp_is_not_told() -> None:
    for pieces in ([STREAM], [STREAM[at : at + 1] for at in range(len(STREAM))]):
        scanner, redactor = XmlScanner(), XmlRedactor()
        told = "".join(redactor.token(token) for piece in pieces for token in scanner.feed(piece))
        assert SECRET not in told
        assert "<auth mechanism='PLAIN'>(redacted)</auth>" in told
        assert "<tls:starttls xmlns:tls='urn:x'/>" in told


@pytest.mark.parametrize(
    ("raw", "name"), [(b"<a>", "a"), (b"</s:a >", "a"), (b"<s:b/>", "b"), (b"<s:c\n x='1'>", "c"), (b"<>", "")]
)
def test_a_tag_has_a_local_name(raw: bytes, name: str) -> None:
    assert XmlToken("open", raw, 0).name == name


def test_a_tag_without_an_end_is_given_up() -> None:
    scanner = XmlScanner()
    assert list(scanner.feed(b"<a" + b"x" * XmlScanner.TAG_AT_MOST)) == []
    assert scanner.lost
    assert list(scanner.feed(b"><b/>")) == []


def test_whether_something_is_open_is_known() -> None:
    scanner = XmlScanner()
    for data, between in [(b"<a>", True), (b"text", True), (b"<b x='", False), (b"'/>", True), (b"<![CDATA[x", False)]:
        list(scanner.feed(data))
        assert scanner.between is between, data
    list(scanner.feed(b"]]>"))
    assert scanner.between


@given(st.text("<>/!?[]CDAT \"'ax-", max_size=80), st.randoms())
def test_any_markup_is_cut_the_same_in_any_slicing(text: str, dice: object) -> None:
    data = text.encode()
    assert tokens([data]) == tokens([data[at : at + 1] for at in range(len(data))])
    assert len(b"".join(raw for _, raw in tokens([data]))) <= len(data)


# -- LDAP, MySQL ---------------------------------------------------------------------------------------------------

BIND = bytes.fromhex("301a020101") + b"\x60\x15\x02\x01\x03\x04\x06cn=bob\x80\x08" + SECRET.encode()
START_TLS = b"\x30\x1d\x02\x01\x02\x77\x18\x80\x161.3.6.1.4.1.1466.20037"


def test_ldap_messages_are_told_by_operation() -> None:
    result = b"\x30\x0c\x02\x01\x02\x78\x07\x0a\x01\x00\x04\x00\x04\x00"
    told = [str(message) for message in ldap_messages(BIND + START_TLS + result + b"\x42")]
    assert told == [
        "bindRequest (redacted)",
        "extendedRequest 1.3.6.1.4.1.1466.20037 (StartTLS)",
        "extendedResponse 0 (success)",
    ]
    assert SECRET not in json.dumps(told)


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x30\x00", b"\x31\x03\x02\x01\x01", b"\x30\x03\x04\x01\x01", b"HELO"])
def test_what_is_no_ldap_message_is_none(data: bytes) -> None:
    assert ldap_message(data) is None


@given(st.binary(max_size=80))
def test_any_bytes_can_be_asked_for_messages(data: bytes) -> None:
    for message in ldap_messages(b"\x30" + data):
        str(message)
    mysql_greeting(data)
    is_mysql_ssl_request(data)


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"", Form.NOTHING),
        (b"SSH-2.0-x\r\n", Form.NO_HTTP),
        (b"HTT", Form.NO_HTTP),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 44\r\n", Form.CUT),
        (b"HTTP/1.1 200 OK\r\n\r\n", Form.WHOLE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: Content-Length: 7\r\n\r\n", Form.WHOLE),
        (b"HTTP/1.1 200 OK\r\n\r\nContent-Length: 7\r\n\r\n", Form.WHOLE),
        (b"HTTP/1.1 200 OK\r\ncontent-length:\t007\r\n\r\n", Form.WITH_BODY),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Form.WITH_BODY),
    ],
)
def test_the_form_of_an_answer_to_connect_is_read_off_its_bytes(data: bytes, form: Form) -> None:
    assert answer_form(data) is form

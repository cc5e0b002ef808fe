"""What is told of a dialogue before TLS: its words, without the credentials.

STARTTLS and its kin begin with an ordinary conversation in SMTP, IMAP, LDAP and so on. It belongs on the recording, for
much of what goes wrong goes wrong there; what a client says to authenticate does not. Two readers need the words: the
engine, which follows a dialogue as it is spoken, and the import, which finds one in a capture. Both get them from here.

In *line protocols* one rule goes for all of them, because a wrong guess of the dialect must not show a password: a line
that begins with one of their words for it, an IMAP tag before it or not, loses everything behind the word, and so does
each further line of the client up to the server's answer. An answer that asks for more (334, ``+``, 3xx) and lines that
belong to no command (``*``) are not that answer.

In *XMPP* the text inside of the elements that authenticate is left out. In protocols that are not text only what is
named here is told, never the bytes.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from countersign.recorder.wire.redaction import REDACTED

if TYPE_CHECKING:
    from collections.abc import Iterator

_ANSWER_WITH_BODY = re.compile(rb"(?i)\r\n(?:content-length:[ \t]*0*[1-9]|transfer-encoding:)")
TURNS_AT_MOST: Final = 100
TURN_AT_MOST: Final = 4_000
"""Turns of a dialogue that a recording keeps, and characters of each."""


class Form(StrEnum):
    """What came in answer to a CONNECT, whatever it says (RFC 9110 9.3.6): a ``prelude`` has it as ``form``."""

    NOTHING = "nothing"
    NO_HTTP = "no-http"
    CUT = "cut"
    """It ended within its head."""
    WITH_BODY = "with-body"
    WHOLE = "whole"


def answer_form(data: bytes) -> Form:
    """The form of an answer that begins so."""
    if not data:
        return Form.NOTHING
    if not data.startswith(b"HTTP/"):
        return Form.NO_HTTP
    head, end, _ = data.partition(b"\r\n\r\n")
    if not end:
        return Form.CUT
    return Form.WITH_BODY if _ANSWER_WITH_BODY.search(head) else Form.WHOLE


# -- lines ---------------------------------------------------------------------------------------------------------

_MECHANISMS = r"PLAIN|LOGIN|EXTERNAL|ANONYMOUS|NTLM|GSSAPI|GSS-SPNEGO|[A-Z]+-MD5|SCRAM-[A-Z0-9-]+|X?OAUTH[A-Z0-9]*"
_SECRET_LINE = re.compile(
    rf"(?i)((?:[^\s{{}}()]+ )??AUTH(?:ENTICATE)? +(?:{_MECHANISMS})\b"
    r"|(?:[^\s{}()]+ )??(?:AUTHINFO \w+|AUTH(?:ENTICATE)?|LOGIN|PASS(?:WD|WORD)?|APOP|ACCT|ADAT|OPER)\b"
    r"|(?:proxy-)?authorization:|(?:set-)?cookie:)(.*)",
    re.DOTALL,
)
_NO_SECRET = re.compile(r"(?i)AUTH +(?:TLS|SSL|TLS-C|TLS-P)\s*|CAP .*", re.DOTALL)
_GOES_ON = re.compile(r"334|\+(?!OK)|3\d\d|AUTHENTICATE \+|\* ")


class LineRedactor:
    """The lines of one dialogue in their order, each as it may be told."""

    __slots__ = ("_authenticating",)

    def __init__(self) -> None:
        self._authenticating = False

    def line(self, line: str, *, from_client: bool) -> str:
        """The line, whole with its end, less what authenticates."""
        if not from_client:
            if self._authenticating and line.strip() and not _GOES_ON.match(line):
                self._authenticating = False
            return line
        end = line[len(line.rstrip("\r\n")) :]
        if self._authenticating:
            return REDACTED + end
        found = _SECRET_LINE.match(line)
        if found and not _NO_SECRET.fullmatch(line):
            self._authenticating = True
            return f"{found[1]} {REDACTED}{end}" if found[2].strip() else line
        return line


# -- XMPP (RFC 6120) -----------------------------------------------------------------------------------------------


class XmlToken(NamedTuple):
    """A whole tag as it stands, or text (of which a piece at a time may come). ``end`` counts bytes of the input."""

    kind: Literal["open", "close", "empty", "text", "other"]
    raw: bytes
    end: int

    @property
    def name(self) -> str:
        """The local name of an element's tag."""
        found = _TAG_NAME.match(self.raw)
        return found[1].decode("utf-8", "backslashreplace") if found else ""


_TAG_NAME = re.compile(rb"</?(?:[^\s/>:]*:)?([^\s/>:]+)")
_TAG_STOPS = re.compile(rb"[\"'>]")
_CDATA = b"<![CDATA["


class XmlScanner:
    """Cuts one side of an XML stream into tags and text, in any slicing.

    This is no XML parser: entities stay as they are, a DTD is one odd tag (RFC 6120 11.1 forbids both that and
    comments), so nothing can expand. ``lost`` is set by a tag of more than :data:`TAG_AT_MOST` bytes; there is nothing
    to be had after it.
    """

    TAG_AT_MOST = 16 * 1024

    __slots__ = ("_cdata", "_quote", "_tag", "lost")

    def __init__(self) -> None:
        self._tag = bytearray()  # of a tag that is not whole yet
        self._quote = 0
        self._cdata = bytearray()  # the last bytes inside of a CDATA section
        self.lost = False

    @property
    def between(self) -> bool:
        """Whether nothing is open that further bytes belong to: neither a tag nor a CDATA section."""
        return not self._tag and not self._cdata

    def feed(self, data: bytes) -> Iterator[XmlToken]:
        """The tokens that end in these bytes; text is given as it comes. To be read to its end before the next call."""
        at = 0
        while at < len(data) and not self.lost:
            if self._cdata:
                at = self._skip_cdata(data, at)
            elif self._tag:
                at = self._tag_on(data, at)
                if not self._tag_is_whole():
                    continue
                raw = bytes(self._tag)
                self._tag.clear()
                yield XmlToken(_kind(raw), raw, at)
            else:
                start = data.find(b"<", at)
                end = len(data) if start < 0 else start
                if end > at:
                    yield XmlToken("text", data[at:end], end)
                if start >= 0:
                    self._tag += b"<"
                    end += 1
                at = end

    def _tag_on(self, data: bytes, at: int) -> int:
        """Take bytes up to the next quote or the tag's end, wherever that is."""
        if len(self._tag) < len(_CDATA) and _CDATA.startswith(bytes(self._tag)):  # told apart a byte at a time
            self._tag.append(data[at])
            if self._tag == _CDATA:
                self._tag.clear()
                self._cdata += b"["
            elif self._tag[-1] in b"\"'":
                self._quote = self._tag[-1]
            return at + 1
        if self._quote:
            found = data.find(self._quote, at)
            end = len(data) if found < 0 else found + 1
            self._quote = self._quote if found < 0 else 0
        else:
            stop = _TAG_STOPS.search(data, at)
            end = len(data) if stop is None else stop.end()
            if stop is not None and stop[0] != b">":
                self._quote = stop[0][0]
        self._tag += data[at:end]
        self.lost = len(self._tag) > self.TAG_AT_MOST
        return end

    def _tag_is_whole(self) -> bool:
        return not self._quote and self._tag.endswith(b">")

    def _skip_cdata(self, data: bytes, at: int) -> int:
        tail = bytes(self._cdata[-2:])
        found = (tail + data[at:]).find(b"]]>")
        if found < 0:
            self._cdata[:] = (tail + data[at:])[-2:]
            return len(data)
        self._cdata.clear()
        return at + found + 3 - len(tail)


def _kind(raw: bytes) -> Literal["open", "close", "empty", "other"]:
    if raw[1:2] in {b"?", b"!"}:
        return "other"
    if raw[1:2] == b"/":
        return "close"
    return "empty" if raw.endswith(b"/>") else "open"


_SECRET_ELEMENTS = frozenset(
    {"auth", "authenticate", "initial-response", "challenge", "response", "success", "password", "digest"}
)


class XmlRedactor:
    """The tokens of one side in their order, each as it may be told: no text inside of what authenticates."""

    __slots__ = ("_inside", "_told")

    def __init__(self) -> None:
        self._inside: str | None = None
        self._told = False  # that something was left out of this element

    def token(self, token: XmlToken) -> str:
        if self._inside is None:
            if token.kind == "open" and token.name in _SECRET_ELEMENTS:
                self._inside, self._told = token.name, False
            return token.raw.decode("utf-8", "backslashreplace")
        if token.kind == "close" and token.name == self._inside:
            self._inside = None
            return token.raw.decode("utf-8", "backslashreplace")
        if self._told:
            return ""
        self._told = True
        return REDACTED


# -- LDAP (RFC 4511) -----------------------------------------------------------------------------------------------

START_TLS: Final = "1.3.6.1.4.1.1466.20037"
"""RFC 4511 4.14.1."""

_LDAP_OPERATIONS: Final = {
    0x60: "bindRequest",
    0x61: "bindResponse",
    0x42: "unbindRequest",
    0x63: "searchRequest",
    0x64: "searchResultEntry",
    0x65: "searchResultDone",
    0x66: "modifyRequest",
    0x67: "modifyResponse",
    0x68: "addRequest",
    0x69: "addResponse",
    0x4A: "delRequest",
    0x6B: "delResponse",
    0x6C: "modDNRequest",
    0x6D: "modDNResponse",
    0x6E: "compareRequest",
    0x6F: "compareResponse",
    0x50: "abandonRequest",
    0x73: "searchResultReference",
    0x77: "extendedRequest",
    0x78: "extendedResponse",
    0x79: "intermediateResponse",
}
EXTENDED_REQUEST, EXTENDED_RESPONSE = 0x77, 0x78


class LdapMessage(NamedTuple):
    """LDAPMessage ::= SEQUENCE { messageID INTEGER, protocolOp CHOICE {...} } (RFC 4511 4.1.1), as far as it is told.

    ``name`` is the OID of an extended request, ``result`` the resultCode of a response that has one.
    """

    number: int
    operation: int
    name: str | None
    result: int | None

    def __str__(self) -> str:
        text = _LDAP_OPERATIONS.get(self.operation, f"operation 0x{self.operation:02x}")
        if self.operation == 0x60:
            text += f" {REDACTED}"
        if self.name is not None:
            text += f" {self.name}" + (" (StartTLS)" if self.name == START_TLS else "")
        if self.result is not None:
            text += f" {self.result}" + (" (success)" if self.result == 0 else "")
        return text


def ldap_message(data: bytes) -> LdapMessage | None:
    """The message that these bytes begin with; one that is cut is read as far as it goes. None: it is no message."""
    message, _ = ber(data)
    if data[:1] != b"\x30" or message[:1] != b"\x02":
        return None
    number, rest = ber(message)
    if not 0 < len(number) <= 8 or not rest:
        return None
    operation = rest[0]
    content, _ = ber(rest)
    name = result = None
    if operation == EXTENDED_REQUEST and content[:1] == b"\x80":
        name = ber(content)[0][:100].decode("ascii", "backslashreplace")
    elif operation in {0x61, 0x65, 0x67, 0x69, 0x6B, 0x6D, 0x6F, EXTENDED_RESPONSE} and content[:2] == b"\x0a\x01":
        result = content[2] if len(content) > 2 else None
    return LdapMessage(int.from_bytes(number, "big"), operation, name, result)


def ldap_messages(data: bytes) -> Iterator[LdapMessage]:
    """All messages that lie one after the other in these bytes, up to the first thing that is none."""
    while data and (message := ldap_message(data)) is not None:
        yield message
        data = ber(data)[1]


def ber(data: bytes) -> tuple[bytes, bytes]:
    """The content of the first element, and what is behind it; what is cut gives what there is."""
    if len(data) < 2:
        return b"", b""
    size, at = data[1], 2
    if size & 0x80:
        at = 2 + (size & 0x7F)
        size = int.from_bytes(data[2:at], "big")
    return data[at : at + size], data[at + size :]


# -- PostgreSQL and MySQL ------------------------------------------------------------------------------------------

POSTGRES_REQUESTS: Final = {
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f": "SSLRequest",
    b"\x00\x00\x00\x08\x04\xd2\x16\x30": "GSSENCRequest",
}
"""https://www.postgresql.org/docs/current/protocol-message-formats.html: codes 80877103 and 80877104."""

POSTGRES_ANSWERS: Final = {b"S": "S (yes, TLS)", b"N": "N (no)", b"G": "G (yes, GSSAPI)"}

MYSQL_CLIENT_SSL: Final = 0x0800
"""https://dev.mysql.com/doc/dev/mysql-server/latest/group__group__cs__capabilities__flags.html."""


def mysql_greeting(packet: bytes) -> str | None:
    """The server's version, of Protocol::HandshakeV10 or V9 with its header; None for what is no greeting."""
    if len(packet) < 6 or packet[4] not in {9, 10}:
        return None
    return packet[5:].split(b"\0", 1)[0][:100].decode("utf-8", "backslashreplace")


def is_mysql_ssl_request(packet: bytes) -> bool:
    """Protocol::SSLRequest: the beginning of the handshake response, before user and password, with CLIENT_SSL set."""
    size = int.from_bytes(packet[:3], "little")
    flags = int.from_bytes(packet[4:6], "little")
    return size in {5, 32} and len(packet) == 4 + size and bool(flags & MYSQL_CLIENT_SSL)

"""A TCP connection on which the server waits for TLS: direct or through an HTTP proxy, behind STARTTLS if need be.

The dialogues are those of a client that wants TLS and nothing else; what the server says in them is checked as far as
it decides about that, by the RFC at each.
"""

from __future__ import annotations

import base64
import socket
import struct
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from countersign.errors import EnvironmentFault, words_of
from countersign.findings.probing.model import PROXY_PORT
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.findings.probing.model import Plan

_LONGEST = 64 * 1024
_LDAP_STARTTLS = bytes.fromhex("301d02010177188016") + b"1.3.6.1.4.1.1466.20037"
_POSTGRES_SSL = struct.pack(">II", 8, 80877103)


def reach(plan: Plan) -> socket.socket:
    """The connection, ready for a ClientHello. Raises :class:`EnvironmentFault` with what was in the way."""
    connection = _dial(plan)
    dialogue = _Dialogue(connection, plan.seconds)
    cannot = f"the proxy gives no connection to {printable(plan.place)}"
    try:
        if plan.via is not None:
            _connect(dialogue, plan)
        cannot = f"{printable(plan.place)} does not begin TLS by {plan.starttls}"
        if plan.starttls is not None:
            _DIALOGUES[plan.starttls](dialogue, plan)
        connection.settimeout(plan.seconds)
    except OSError as wrong:
        connection.close()
        raise EnvironmentFault(f"{cannot}: {_reason(wrong)}") from None
    except BaseException:
        connection.close()
        raise
    return connection


class _Dialogue:
    """What is said before TLS; it has its seconds in all, however busily the server talks."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._ends = monotonic() + seconds

    def recv(self, size: int) -> bytes:
        return self._in_time().recv(size)

    def sendall(self, data: bytes) -> None:
        self._in_time().sendall(data)

    def _in_time(self) -> socket.socket:
        left = self._ends - monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection


def _dial(plan: Plan) -> socket.socket:
    where = (plan.resolve or plan.host, plan.port)
    if plan.via is not None:
        parts = urlsplit(plan.via)
        where = (str(parts.hostname), parts.port or PROXY_PORT)
    try:
        return socket.create_connection(where, timeout=plan.seconds)
    except OSError as wrong:
        shown = printable(f"{where[0]}:{where[1]}")
        raise EnvironmentFault(f"cannot reach {shown}: {_reason(wrong)}") from None


def _reason(wrong: OSError) -> str:
    if isinstance(wrong, socket.gaierror):
        return "the name has no address"
    if isinstance(wrong, TimeoutError):
        return "no answer in time"
    return words_of(wrong)


def _connect(connection: _Dialogue, plan: Plan) -> None:
    """RFC 9110 9.3.6."""
    parts = urlsplit(plan.via or "")
    lines = [f"CONNECT {plan.place} HTTP/1.1", f"Host: {plan.place}"]
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(login).decode()}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode("idna" if not plan.place.isascii() else "ascii"))
    head = _until(connection, b"\r\n\r\n", who="proxy")
    status = head.split(b"\r\n", 1)[0].decode("latin-1")
    if status.split(" ")[1:2] != ["200"]:
        raise EnvironmentFault(
            f"the proxy gives no connection to {plan.place}: it answered {printable(status, limit=200)}"
        )


def _until(connection: _Dialogue, end: bytes, *, who: str = "server") -> bytes:
    data = bytearray()
    while not data.endswith(end):
        piece = connection.recv(1)  # not a byte of what comes behind it
        if not piece:
            said = printable(data.decode("latin-1"), limit=200)
            said = f"after {said!r}" if said else "without a word"
            raise EnvironmentFault(f"the {who} closed the connection {said}, before TLS")
        data += piece
        if len(data) > _LONGEST:
            raise EnvironmentFault(f"the {who} talks without end before TLS")
    return bytes(data)


def _exactly(connection: _Dialogue, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EnvironmentFault("the server closed the connection before TLS")
        data += piece
    return data


def _reply(connection: _Dialogue) -> str:
    """The last line of an SMTP or FTP reply (RFC 5321 4.2.1, RFC 959 4.2)."""
    while True:
        line = _until(connection, b"\n").decode("latin-1").rstrip("\r\n")
        if line[3:4] != "-" and line[:3].isdigit():
            return line


def _declined(plan: Plan, said: str) -> EnvironmentFault:
    text = f"{printable(plan.place)} does not begin TLS by {plan.starttls}: it said {printable(said, limit=200)!r}"
    return EnvironmentFault(text)


def _smtp(connection: _Dialogue, plan: Plan) -> None:
    """RFC 3207; LMTP (RFC 2033) says LHLO."""
    _reply(connection)
    connection.sendall(b"LHLO probe\r\n" if plan.starttls == "lmtp" else b"EHLO probe\r\n")
    _reply(connection)
    connection.sendall(b"STARTTLS\r\n")
    if not (said := _reply(connection)).startswith("220"):
        raise _declined(plan, said)


def _ftp(connection: _Dialogue, plan: Plan) -> None:
    """RFC 4217 4."""
    _reply(connection)
    connection.sendall(b"AUTH TLS\r\n")
    if not (said := _reply(connection)).startswith("234"):
        raise _declined(plan, said)


def _imap(connection: _Dialogue, plan: Plan) -> None:
    """RFC 9051 6.2.1."""
    _until(connection, b"\n")
    connection.sendall(b"a STARTTLS\r\n")
    while not (said := _until(connection, b"\n").decode("latin-1")).startswith("a "):
        pass
    if not said.upper().startswith("A OK"):
        raise _declined(plan, said.strip())


def _pop3(connection: _Dialogue, plan: Plan) -> None:
    """RFC 2595 4."""
    _until(connection, b"\n")
    connection.sendall(b"STLS\r\n")
    if not (said := _until(connection, b"\n").decode("latin-1")).startswith("+OK"):
        raise _declined(plan, said.strip())


def _ldap(connection: _Dialogue, plan: Plan) -> None:
    """RFC 4511 4.14: an ExtendedResponse whose resultCode is success."""
    connection.sendall(_LDAP_STARTTLS)
    head = _exactly(connection, 2)
    size = head[1]
    if size & 0x80:
        size = int.from_bytes(_exactly(connection, size & 0x7F), "big")
    body = _exactly(connection, min(size, _LONGEST))
    if b"\x0a\x01\x00" not in body[:16]:
        raise _declined(plan, "an LDAP result other than success")


def _postgres(connection: _Dialogue, plan: Plan) -> None:
    """PostgreSQL, 55.2.10 SSL Session Encryption."""
    connection.sendall(_POSTGRES_SSL)
    if (said := _exactly(connection, 1)) != b"S":
        raise _declined(plan, said.decode("latin-1"))


def _mysql(connection: _Dialogue, plan: Plan) -> None:
    """MySQL, Protocol::SSLRequest behind the server's greeting (protocol 10)."""
    head = _exactly(connection, 4)
    greeting = _exactly(connection, int.from_bytes(head[:3], "little"))
    end = greeting.find(b"\0", 1)
    if greeting[:1] != b"\x0a" or end < 0:
        raise _declined(plan, greeting[:80].decode("latin-1"))
    lower = int.from_bytes(greeting[end + 14 : end + 16], "little")
    if not lower & 0x0800:
        raise _declined(plan, "a greeting without the SSL capability")
    request = struct.pack("<IIB23x", 0x0800 | 0x0200 | 0x8000, 1 << 24, 45)
    connection.sendall(len(request).to_bytes(3, "little") + bytes([(head[3] + 1) % 256]) + request)


def _xmpp(connection: _Dialogue, plan: Plan) -> None:
    """RFC 6120 5.4."""
    name = (plan.name or plan.host).replace("'", "").replace("<", "").replace("&", "")
    connection.sendall(
        f"<?xml version='1.0'?><stream:stream to='{name}' version='1.0' xmlns='jabber:client' "
        "xmlns:stream='http://etherx.jabber.org/streams'>".encode()
    )
    _until(connection, b"</stream:features>")
    connection.sendall(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    if b"<proceed" not in (said := _until(connection, b">")):
        raise _declined(plan, said.decode("utf-8", "replace"))


_DIALOGUES: dict[str, Callable[[_Dialogue, Plan], None]] = {
    "smtp": _smtp,
    "lmtp": _smtp,
    "ftp": _ftp,
    "imap": _imap,
    "pop3": _pop3,
    "ldap": _ldap,
    "postgres": _postgres,
    "mysql": _mysql,
    "xmpp": _xmpp,
}

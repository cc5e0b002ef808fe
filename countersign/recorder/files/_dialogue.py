"""What was said in clear before TLS: who is meant, which protocol it was, and the words without the credentials.

Here a dialogue is over when this module sees it: the ClientHello was found behind it. So nothing has to be followed
as it comes, and a reading that understands only half of it is still one. Three things may come one after the other:

- the header of the PROXY protocol, text or binary, in which a load balancer says who the client was
  (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt);
- how the client told a proxy where to: HTTP CONNECT (RFC 9110 9.3.6) or SOCKS (RFC 1928);
- a protocol's own upgrade: STARTTLS and its kin.

*Credentials.* What a client says to authenticate is left out by dialect. In line protocols one rule goes for all of
them, because a wrong guess of the dialect must not show a password: a line that begins with one of their words for it,
an IMAP tag before it or not, loses everything behind the word, and so does each further line of the client up to the
server's answer. In protocols that are not text only what is named here is told, never the bytes.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_LONGEST_TEXT = 4_000  # characters of one turn
_MOST_TURNS = 100
_REDACTED = "(redacted)"


class Chunk(NamedTuple):
    """What one side sent at once. ``data`` is None where bytes are missing."""

    t: float
    from_client: bool
    data: bytes | None


@dataclass(slots=True)
class Prelude:
    """``client`` and ``target`` are set where the dialogue names them; ``record`` is a recording's ``prelude``."""

    client: str | None = None
    target: str | None = None
    record: dict[str, Any] = field(default_factory=dict)


def read_prelude(chunks: Iterable[Chunk], *, proxy: str) -> Prelude:
    """Read a whole dialogue; ``proxy`` is the address at which a CONNECT or SOCKS request was sent."""
    turns = _turns(chunks)
    prelude = Prelude()
    turns = _proxy_protocol(turns, prelude)
    for ask in (_http_connect, _socks):
        left = ask(turns, prelude)
        if left is not None:
            prelude.record["proxy"] = proxy
            turns = left
            break
    if turns:
        _dialogue(turns, prelude)
    return prelude


def _turns(chunks: Iterable[Chunk]) -> list[Chunk]:
    """Neighbours of one side as one."""
    turns: list[Chunk] = []
    for (from_client, there), some in groupby(chunks, key=lambda chunk: (chunk.from_client, chunk.data is not None)):
        together = list(some)
        data = b"".join(chunk.data or b"" for chunk in together) if there else None
        if data != b"":
            turns.append(Chunk(together[0].t, from_client, data))
    return turns


# -- the PROXY protocol --------------------------------------------------------------------------------------------

_V1 = re.compile(rb"PROXY (TCP4|TCP6|UNKNOWN)(?: (\S+) (\S+) (\d{1,5}) (\d{1,5}))?[^\r\n]{0,60}\r\n")
_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def proxy_protocol_length(data: bytes) -> int:
    """How long the header of the PROXY protocol at the beginning of these bytes is; 0 where there is none, or half."""
    found = _V1.match(data)
    if found:
        return found.end()
    if data.startswith(_V2_SIGNATURE) and len(data) >= 16:
        length = 16 + int.from_bytes(data[14:16], "big")
        return length if len(data) >= length else 0
    return 0


def _proxy_protocol(turns: list[Chunk], prelude: Prelude) -> list[Chunk]:
    at = next((number for number, turn in enumerate(turns) if turn.from_client), None)
    if at is None:
        return turns
    data = turns[at].data or b""
    length = proxy_protocol_length(data)
    if not length:
        return turns
    header, rest = data[:length], data[length:]
    record: dict[str, Any] = {"version": 1 if header.startswith(b"PROXY") else 2}
    found = _V1.match(header)
    if found:
        ends = [part.decode("ascii", "replace") for part in found.groups() if part] if found[2] else []
        if len(ends) == 5:
            record |= {"source": _place(ends[1], int(ends[3])), "destination": _place(ends[2], int(ends[4]))}
    else:
        record["command"] = {0: "LOCAL", 1: "PROXY"}.get(header[12] & 15, f"0x{header[12] & 15:x}")
        size = {1: 4, 2: 16}.get(header[13] >> 4, 0)
        if size and header[12] & 15 == 1 and len(header) >= 16 + 2 * size + 4:
            source, destination = header[16 : 16 + size], header[16 + size : 16 + 2 * size]
            ports = struct.unpack_from("!HH", header, 16 + 2 * size)
            record |= {
                "source": _place(str(ip_address(source)), ports[0]),
                "destination": _place(str(ip_address(destination)), ports[1]),
            }
    prelude.client = record.get("source")
    prelude.record["proxy_protocol"] = record
    left = [turns[at]._replace(data=rest)] if rest else []
    return [*turns[:at], *left, *turns[at + 1 :]]


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# -- where to: CONNECT and SOCKS -----------------------------------------------------------------------------------

_REQUEST = re.compile(rb"([!-~]+) ([^\s]+) HTTP/(\d\.\d)\r?\n")
_STATUS = re.compile(rb"HTTP/\d\.\d (\d{3})")
_SECRET_HEADERS = frozenset({"proxy-authorization", "authorization", "cookie", "set-cookie", "proxy-authenticate-info"})
_LONGEST_HEADER = 1_000
_MOST_HEADERS = 100


def _http_connect(turns: Sequence[Chunk], prelude: Prelude) -> list[Chunk] | None:
    """The last CONNECT request and its answer; those before it (answered 407) as ``earlier``."""
    if not turns or not turns[0].from_client or not (turns[0].data or b"").startswith(b"CONNECT "):
        return None
    asked: list[dict[str, Any]] = []
    left: list[Chunk] = []
    for number, turn in enumerate(turns):
        data = turn.data or b""
        if turn.from_client and (request := _REQUEST.match(data)):
            if asked and asked[-1].get("answer") == 200:
                left = list(turns[number:])
                break
            asked.append({"request": _request(request, data)})
        elif not turn.from_client and (status := _STATUS.match(data)) and asked and "answer" not in asked[-1]:
            asked[-1]["answer"] = int(status[1])
            end = re.search(rb"\r?\n\r?\n", data)
            behind = data[end.end() :] if end else b""
            if asked[-1]["answer"] // 100 == 2:
                left = [*([turn._replace(data=behind)] if behind else []), *turns[number + 1 :]]
                break
    if not asked:
        return None
    prelude.record |= asked[-1]
    if asked[:-1]:
        prelude.record["earlier"] = asked[:-1]
    prelude.target = asked[-1]["request"]["target"]
    return left


def _request(found: re.Match[bytes], data: bytes) -> dict[str, Any]:
    method, target, version = (part.decode("latin-1") for part in found.groups())
    head = re.split(rb"\r?\n\r?\n", data[found.end() - 1 :], maxsplit=1)[0]
    headers = []
    for line in head.split(b"\n")[1 : _MOST_HEADERS + 1]:
        name, colon, value = line.decode("latin-1").strip("\r").partition(":")
        if colon:
            secret = name.strip().lower() in _SECRET_HEADERS
            headers.append([name, _REDACTED if secret else value.strip()[:_LONGEST_HEADER]])
    return {"method": method, "target": target[:_LONGEST_HEADER], "version": version, "headers": headers}


def _socks(turns: Sequence[Chunk], prelude: Prelude) -> list[Chunk] | None:
    """SOCKS5 (RFC 1928) and SOCKS4(a): the target. What authenticates (RFC 1929) is not told at all."""
    said = b"".join(turn.data or b"" for turn in turns if turn.from_client)
    record: dict[str, Any]
    if said[:2] == b"\x04\x01" and len(said) >= 9 and len(turns) <= 2:
        port, address = int.from_bytes(said[2:4], "big"), said[4:8]
        rest = said[8:].split(b"\0")
        named = address[:3] == b"\0\0\0" and address[3] and len(rest) > 1
        host = rest[1].decode("latin-1") if named else str(ip_address(address))
        record = {"version": 4, "target": _place(host, port)}
    elif said[:1] == b"\x05" and len(turns) >= 4 and len(said) > 2 and len(said) >= 2 + said[1]:
        request = said[2 + said[1] :]
        authenticated = request[:1] == b"\x01" and len(request) > 2
        if authenticated:
            name = 2 + request[1]
            request = request[name + 1 + request[name] :] if len(request) > name else b""
        target = _socks5_target(request)
        if target is None:
            return None
        record = {"version": 5, "target": target, "authenticated": authenticated}
    else:
        return None
    prelude.target = record["target"]
    prelude.record["socks"] = record
    return []


def _socks5_target(request: bytes) -> str | None:
    if len(request) < 7 or request[0] != 5 or request[1] != 1:
        return None
    kind, body = request[3], request[4:]
    size = {1: 4, 4: 16}.get(kind, 1 + body[0] if kind == 3 else 0)
    if not size or len(body) < size + 2:
        return None
    host = body[1:size].decode("latin-1") if kind == 3 else str(ip_address(body[:size]))
    return _place(host, int.from_bytes(body[size : size + 2], "big"))


# -- the upgrade of another protocol -------------------------------------------------------------------------------

_POSTGRES = {b"\x00\x00\x00\x08\x04\xd2\x16\x2f": "SSLRequest", b"\x00\x00\x00\x08\x04\xd2\x16\x30": "GSSENCRequest"}


def _dialogue(turns: list[Chunk], prelude: Prelude) -> None:
    protocol, tell = _dialect(turns)
    told = list(tell(turns))
    prelude.record["protocol"] = protocol
    prelude.record["dialogue"] = [
        {
            "t": round(turn.t, 6),
            "from": "client" if turn.from_client else "server",
            "text": text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} ({len(text)} characters)",
        }
        for turn, text in told[:_MOST_TURNS]
    ]
    if len(told) > _MOST_TURNS:
        prelude.record["turns_left_out"] = len(told) - _MOST_TURNS


def _dialect(turns: list[Chunk]) -> tuple[str, Callable[[list[Chunk]], Iterator[tuple[Chunk, str]]]]:
    client = b"".join(turn.data or b"" for turn in turns if turn.from_client)
    server = b"".join(turn.data or b"" for turn in turns if not turn.from_client)
    if client[:8] in _POSTGRES:
        return "postgres", _tell_postgres
    if server[3:5] == b"\x00\x0a" and client[2:4] == b"\x00\x01":
        return "mysql", _tell_mysql
    if client[:1] == b"\x30" and next(_ldap_messages(client), None):
        return "ldap", _tell_ldap
    if re.match(rb"\s*<(?:\?xml|stream:stream)", client):
        return "xmpp", _tell_xml
    if not _is_text(client + server):
        return "unknown", _tell_sizes
    upgrade = client.upper()
    if server.startswith(b"* ") and b" STARTTLS" in upgrade:
        return "imap", _tell_lines
    if server.startswith(b"+OK") and b"STLS" in upgrade:
        return "pop3", _tell_lines
    if server.startswith(b"220") and re.search(rb"(?m)^AUTH (?:TLS|SSL)", upgrade):
        return "ftp", _tell_lines
    if server.startswith(b"220") and re.search(rb"(?m)^STARTTLS", upgrade):
        return "smtp", _tell_lines
    if re.match(rb"20[01]", server) and re.search(rb"(?m)^STARTTLS", upgrade):
        return "nntp", _tell_lines
    if server.startswith(b'"IMPLEMENTATION"'):
        return "sieve", _tell_lines
    return "unknown", _tell_lines


def _is_text(data: bytes) -> bool:
    return not re.search(rb"[^\t\r\n\x20-\x7e\x80-\xff]", data)


_MISSING = "(bytes are missing here)"

_MECHANISMS = r"PLAIN|LOGIN|EXTERNAL|ANONYMOUS|NTLM|GSSAPI|GSS-SPNEGO|[A-Z]+-MD5|SCRAM-[A-Z0-9-]+|X?OAUTH[A-Z0-9]*"
_SECRET_LINE = re.compile(
    rf"(?i)((?:[^\s{{}}()]+ )??AUTH(?:ENTICATE)? +(?:{_MECHANISMS})\b"
    r"|(?:[^\s{}()]+ )??(?:AUTHINFO \w+|AUTH(?:ENTICATE)?|LOGIN|PASS(?:WD|WORD)?|APOP|ACCT|ADAT|OPER)\b"
    r"|(?:proxy-)?authorization:|(?:set-)?cookie:)(.*)",
    re.DOTALL,
)
_NO_SECRET = re.compile(r"(?i)AUTH +(?:TLS|SSL|TLS-C|TLS-P)\s*|CAP .*", re.DOTALL)
_GOES_ON = re.compile(r"334|\+(?!OK)|3\d\d|AUTHENTICATE \+")


def _tell_lines(turns: list[Chunk]) -> Iterator[tuple[Chunk, str]]:
    """Line by line, each where it ends; see the module's text for what is left out."""
    partial = {True: "", False: ""}
    last: dict[bool, Chunk] = {}
    authenticating = False

    def redacted(line: str, *, from_client: bool) -> str:
        nonlocal authenticating
        if not from_client:
            if authenticating and line.strip() and not _GOES_ON.match(line):
                authenticating = False
            return line
        end = line[len(line.rstrip("\r\n")) :]
        if authenticating:
            return _REDACTED + end
        found = _SECRET_LINE.match(line)
        if found and not _NO_SECRET.fullmatch(line):
            authenticating = True
            return f"{found[1]} {_REDACTED}{end}" if found[2].strip() else line
        return line

    for turn in turns:
        if turn.data is None:
            yield turn, _MISSING
            continue
        text = partial[turn.from_client] + turn.data.decode("utf-8", "backslashreplace")
        lines = text.splitlines(keepends=True)
        partial[turn.from_client] = lines.pop() if lines and not lines[-1].endswith(("\n", "\r")) else ""
        last[turn.from_client] = turn
        if lines:
            yield turn, "".join(redacted(line, from_client=turn.from_client) for line in lines)
    for from_client, line in partial.items():
        if line:
            yield last[from_client], redacted(line, from_client=from_client)


_SECRET_ELEMENT = re.compile(r"(?is)(<(auth|response|password|digest|challenge)\b[^>]*[^/>]>).*?(</\2>|\Z)")


def _tell_xml(turns: list[Chunk]) -> Iterator[tuple[Chunk, str]]:
    """XMPP (RFC 6120); an element may be spread over several turns, so what is open at the end hides the next one."""
    hidden = {True: "", False: ""}
    for turn in turns:
        if turn.data is None:
            yield turn, _MISSING
            continue
        text = hidden[turn.from_client] + turn.data.decode("utf-8", "backslashreplace")
        opened = [found[1] for found in _SECRET_ELEMENT.finditer(text) if not found[3]]
        hidden[turn.from_client] = opened[-1] if opened else ""
        yield turn, _SECRET_ELEMENT.sub(rf"\1{_REDACTED}\3", text)


def _tell_sizes(turns: list[Chunk]) -> Iterator[tuple[Chunk, str]]:
    for turn in turns:
        yield turn, _MISSING if turn.data is None else f"({len(turn.data)} bytes)"


def _tell_postgres(turns: list[Chunk]) -> Iterator[tuple[Chunk, str]]:
    """https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL."""
    answers = {b"S": "S (yes, TLS)", b"N": "N (no)", b"G": "G (yes, GSSAPI)"}
    for turn in turns:
        data = turn.data or b""
        text = _POSTGRES.get(data) if turn.from_client else answers.get(data)
        yield turn, _MISSING if turn.data is None else text or f"({len(data)} bytes)"


def _tell_mysql(turns: list[Chunk]) -> Iterator[tuple[Chunk, str]]:
    """Protocol::HandshakeV10 and Protocol::SSLRequest: 32 bytes of the response without user and password."""
    for turn in turns:
        data = turn.data or b""
        text = f"({len(data)} bytes)"
        if not turn.from_client and data[4:5] == b"\x0a":
            version = data[5:].split(b"\0", 1)[0]
            text = f"greeting of {version.decode('latin-1')}"
        elif turn.from_client and data[:4] == b"\x20\x00\x00\x01" and len(data) == 36:
            text = "SSLRequest"
        yield turn, _MISSING if turn.data is None else text


_LDAP_OPERATIONS = {
    0x60: "bindRequest",
    0x61: "bindResponse",
    0x42: "unbindRequest",
    0x63: "searchRequest",
    0x64: "searchResultEntry",
    0x65: "searchResultDone",
    0x77: "extendedRequest",
    0x78: "extendedResponse",
}
_START_TLS = "1.3.6.1.4.1.1466.20037"


def _tell_ldap(turns: list[Chunk]) -> Iterator[tuple[Chunk, str]]:
    """RFC 4511: which operations, and the names of the extended ones. A bind is not looked into."""
    for turn in turns:
        if turn.data is None:
            yield turn, _MISSING
        else:
            yield turn, ", ".join(_ldap_messages(turn.data)) or f"({len(turn.data)} bytes)"


def _ldap_messages(data: bytes) -> Iterator[str]:
    """LDAPMessage ::= SEQUENCE { messageID INTEGER, protocolOp CHOICE {...} } (RFC 4511 4.1.1)."""
    while data[:1] == b"\x30":
        message, data = _ber(data)
        number, rest = _ber(message)
        operation = rest[:1]
        if not number or not operation:
            return
        content, _ = _ber(rest)
        name = _LDAP_OPERATIONS.get(operation[0], f"operation 0x{operation[0]:02x}")
        if operation == b"\x60":
            name += f" {_REDACTED}"
        elif operation == b"\x77" and content[:1] == b"\x80":
            oid = _ber(content)[0].decode("ascii", "replace")
            name += f" {oid}" + (" (StartTLS)" if oid == _START_TLS else "")
        elif operation in {b"\x61", b"\x78"} and content[:2] == b"\x0a\x01" and len(content) > 2:
            name += f" {content[2]}" + (" (success)" if content[2] == 0 else "")
        yield name


def _ber(data: bytes) -> tuple[bytes, bytes]:
    """The content of the first element, and what is behind it; what is cut gives what there is."""
    if len(data) < 2:
        return b"", b""
    size, at = data[1], 2
    if size & 0x80:
        at = 2 + (size & 0x7F)
        size = int.from_bytes(data[2:at], "big")
    return data[at : at + size], data[at + size :]

"""What was said in clear before TLS: who is meant, which protocol it was, and the words without the credentials.

Here a dialogue is over when this module sees it: the ClientHello was found behind it. So nothing has to be followed
as it comes, and a reading that understands only half of it is still one. Three things may come one after the other:

- the header of the PROXY protocol, text or binary, in which a load balancer says who the client was
  (:mod:`countersign.recorder.wire.proxy_protocol`);
- how the client told a proxy where to: HTTP CONNECT (RFC 9110 9.3.6) or SOCKS (RFC 1928);
- a protocol's own upgrade: STARTTLS and its kin.

What is told of an upgrade, and what of it is left out because it authenticates, is said in
:mod:`countersign.recorder.wire.dialogue`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from countersign.recorder.wire import dialogue, records, tds
from countersign.recorder.wire.dialogue import TURN_AT_MOST, TURNS_AT_MOST
from countersign.recorder.wire.proxy_protocol import ProxyHeader, read_proxy_header
from countersign.recorder.wire.redaction import request_record
from countersign.recorder.wire.text import host_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


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


def _proxy_protocol(turns: list[Chunk], prelude: Prelude) -> list[Chunk]:
    at = next((number for number, turn in enumerate(turns) if turn.from_client), None)
    if at is None:
        return turns
    data = turns[at].data or b""
    header = read_proxy_header(data)
    if not isinstance(header, ProxyHeader):
        return turns
    prelude.client = str(header.source) if header.source is not None else None
    prelude.record["proxy_protocol"] = header.record()
    rest = data[header.length :]
    left = [turns[at]._replace(data=rest)] if rest else []
    return [*turns[:at], *left, *turns[at + 1 :]]


# -- where to: CONNECT and SOCKS -----------------------------------------------------------------------------------

_REQUEST = re.compile(rb"([!-~]+) ([^\s]+) HTTP/(\d\.\d)\r?\n")
_STATUS = re.compile(rb"HTTP/\d\.\d (\d{3})")


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
    head = re.split(rb"\r?\n\r?\n", data[found.end() - 1 :], maxsplit=1)[0]
    fields = (line.strip(b"\r").partition(b":") for line in head.split(b"\n")[1:])
    kept = ((name, value.strip()) for name, colon, value in fields if colon)
    return request_record(found[1], found[2], found[3], kept)


def _socks(turns: Sequence[Chunk], prelude: Prelude) -> list[Chunk] | None:
    """SOCKS5 (RFC 1928) and SOCKS4(a): the target. What authenticates (RFC 1929) is not told at all."""
    said = b"".join(turn.data or b"" for turn in turns if turn.from_client)
    record: dict[str, Any]
    if said[:2] == b"\x04\x01" and len(said) >= 9 and len(turns) <= 2:
        port, address = int.from_bytes(said[2:4], "big"), said[4:8]
        rest = said[8:].split(b"\0")
        named = address[:3] == b"\0\0\0" and address[3] and len(rest) > 1
        host = rest[1].decode("latin-1") if named else str(ip_address(address))
        record = {"version": 4, "target": host_port(host, port)}
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
    return host_port(host, int.from_bytes(body[size : size + 2], "big"))


# -- the upgrade of another protocol -------------------------------------------------------------------------------


def _dialogue(turns: list[Chunk], prelude: Prelude) -> None:
    protocol, tell = _dialect(turns)
    told = list(tell(turns))
    prelude.record["protocol"] = protocol
    prelude.record["dialogue"] = [
        {
            "t": round(turn.t, 6),
            "from": "client" if turn.from_client else "server",
            "text": text if len(text) <= TURN_AT_MOST else f"{text[:TURN_AT_MOST]} ({len(text)} characters)",
        }
        for turn, text in told[:TURNS_AT_MOST]
    ]
    if len(told) > TURNS_AT_MOST:
        prelude.record["turns_left_out"] = len(told) - TURNS_AT_MOST


def _dialect(turns: list[Chunk]) -> tuple[str, Callable[[list[Chunk]], Iterator[tuple[Chunk, str]]]]:
    client = b"".join(turn.data or b"" for turn in turns if turn.from_client)
    server = b"".join(turn.data or b"" for turn in turns if not turn.from_client)
    if client[:8] in dialogue.POSTGRES_REQUESTS:
        return "postgres", _tell_postgres
    if server[3:4] == b"\0" and dialogue.mysql_greeting(server) is not None and client[2:4] == b"\x00\x01":
        return "mysql", _tell_mysql
    if dialogue.ldap_message(client) is not None:
        return "ldap", _tell_ldap
    if tds.tell_prelogin(client) is not None:
        return "tds", _tell_tds
    if re.match(rb"\s*<(?:\?xml|stream:stream)", client):
        return "xmpp", _tell_xml
    if not client and records.looks_like_http_answer(server):
        return "http", _tell_lines
    if not _is_text(client + server):
        return next((name for start, name in _BINARY.items() if client.startswith(start)), "unknown"), _tell_sizes
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
    if server.startswith(b"INFO {"):
        return "nats", _tell_lines
    if re.search(rb"(?m)^:?\S+ 670 ", server):  # RPL_STARTTLS
        return "irc", _tell_lines
    return "unknown", _tell_lines


_BINARY = {
    b"\x03\x00\x00": "rdp",  # a TPKT (RFC 1006 6) with an X.224 connection request (MS-RDPBCGR 2.2.1.1)
    b"AMQP\x03": "amqp",  # the security layer TLS (AMQP 1.0, part 5.2)
    b"AMQP\x02": "amqp",
    b"RFB 003": "rfb",  # RFC 6143 7.1.1; VeNCrypt
}
"""How a client begins that speaks no text."""


def _is_text(data: bytes) -> bool:
    return not re.search(rb"[^\t\r\n\x20-\x7e\x80-\xff]", data)


_MISSING = "(bytes are missing here)"


def _tell_lines(turns: list[Chunk]) -> Iterator[tuple[Chunk, str]]:
    """Line by line, each where it ends."""
    partial = {True: "", False: ""}
    last: dict[bool, Chunk] = {}
    redactor = dialogue.LineRedactor()
    for turn in turns:
        if turn.data is None:
            yield turn, _MISSING
            continue
        text = partial[turn.from_client] + turn.data.decode("utf-8", "backslashreplace")
        lines = text.splitlines(keepends=True)
        partial[turn.from_client] = lines.pop() if lines and not lines[-1].endswith(("\n", "\r")) else ""
        last[turn.from_client] = turn
        if lines:
            yield turn, "".join(redactor.line(line, from_client=turn.from_client) for line in lines)
    for from_client, line in partial.items():
        if line:
            yield last[from_client], redactor.line(line, from_client=from_client)


def _tell_xml(turns: list[Chunk]) -> Iterator[tuple[Chunk, str]]:
    """XMPP (RFC 6120); an element may be spread over several turns."""
    sides = {side: (dialogue.XmlScanner(), dialogue.XmlRedactor()) for side in (True, False)}
    for turn in turns:
        if turn.data is None:
            yield turn, _MISSING
            continue
        scanner, redactor = sides[turn.from_client]
        text = "".join(redactor.token(token) for token in scanner.feed(turn.data))
        if text:
            yield turn, text


def _tell_sizes(turns: list[Chunk]) -> Iterator[tuple[Chunk, str]]:
    for turn in turns:
        yield turn, _size(turn)


def _size(turn: Chunk) -> str:
    return _MISSING if turn.data is None else f"({len(turn.data)} bytes)"


def _tell_postgres(turns: list[Chunk]) -> Iterator[tuple[Chunk, str]]:
    for turn in turns:
        words = dialogue.POSTGRES_REQUESTS if turn.from_client else dialogue.POSTGRES_ANSWERS
        yield turn, words.get(turn.data or b"") or _size(turn)


def _tell_mysql(turns: list[Chunk]) -> Iterator[tuple[Chunk, str]]:
    for turn in turns:
        text = None
        if turn.data and turn.from_client and dialogue.is_mysql_ssl_request(turn.data):
            text = "SSLRequest"
        elif turn.data and not turn.from_client and (version := dialogue.mysql_greeting(turn.data)) is not None:
            text = f"greeting of {version}"
        yield turn, text or _size(turn)


def _tell_ldap(turns: list[Chunk]) -> Iterator[tuple[Chunk, str]]:
    for turn in turns:
        yield turn, ", ".join(map(str, dialogue.ldap_messages(turn.data or b""))) or _size(turn)


def _tell_tds(turns: list[Chunk]) -> Iterator[tuple[Chunk, str]]:
    """PRELOGIN and its answer; the header before the ClientHello is none of them."""
    for turn in turns:
        if turn.data is None or len(turn.data) > tds.HEADER_SIZE:
            yield turn, tds.tell_prelogin(turn.data or b"") or _size(turn)

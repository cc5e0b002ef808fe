"""TLS in MySQL and MariaDB: Protocol::SSLRequest behind the server's greeting.

https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html. Packets are three bytes of
length (little-endian), one of sequence number, and the payload. The server's greeting is number 0; the client's answer
is 1. An answer that stops before the user name and has CLIENT_SSL among its flags is the SSLRequest. TLS begins right
behind it: the server is not asked, so its greeting is all that it says about it.
"""

from __future__ import annotations

from typing import ClassVar, Final

from countersign.proxy.ways.starttls.dialect import TEXT_AT_MOST, Dialect
from countersign.proxy.ways.starttls.events import Event, Said
from countersign.recorder.wire.dialogue import MYSQL_CLIENT_SSL, is_mysql_ssl_request, mysql_greeting
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.redaction import REDACTED

_HEADER: Final = 4
_BEFORE_USER: Final = 32  # flags (4), largest packet (4), character set (1), filler (23)
_SHORTEST: Final = 5  # of the protocol before 4.1: flags (2), largest packet (3)
_ERROR: Final = 0xFF


class Mysql(Dialect):
    """MySQL's connection phase, up to where TLS begins or the client goes on without."""

    name: ClassVar[str] = "mysql"

    def __init__(self) -> None:
        super().__init__()
        self._packet = {Side.CLIENT: bytearray(), Side.SERVER: bytearray()}
        self._offers_tls: bool | None = None  # None before the greeting

    def _between_units(self) -> bool:
        return not self._packet[Side.CLIENT]

    def _client(self, data: bytes, events: list[Event]) -> int:
        if self._offers_tls is None:
            self._lose(Side.CLIENT, "packet", "silence before the server's greeting", f"{len(data)} bytes", events)
            return len(data)
        packet = self._packet[Side.CLIENT]
        size = int.from_bytes(packet[:3], "little")
        need = _HEADER if len(packet) < _HEADER else _HEADER + min(size, _BEFORE_USER)
        taken = min(need - len(packet), len(data))
        packet += data[:taken]
        if len(packet) < _HEADER:
            return taken
        size = int.from_bytes(packet[:3], "little")
        if packet[3] != 1 or size < _SHORTEST:
            expected = f"packet 1 of {_SHORTEST} bytes or more"
            self._lose(Side.CLIENT, "packet", expected, f"packet {packet[3]} of {size}", events)
        elif len(packet) == _HEADER + min(size, _BEFORE_USER):
            self._answer(bytes(packet), size, events)
        return taken

    def _answer(self, packet: bytes, size: int, events: list[Event]) -> None:
        if is_mysql_ssl_request(packet) and size == len(packet) - _HEADER:
            events.append(Said(Side.CLIENT, "SSLRequest"))
            if not self._offers_tls:
                got = "SSLRequest"
                self._violation(Side.CLIENT, "request", "no SSLRequest, which the server has not offered", got, events)
            self._ask(events)
            self._agree(events)
        else:
            events.append(Said(Side.CLIENT, f"HandshakeResponse {REDACTED}"))
            self._settle("the client goes on in clear", events)

    def _server(self, data: bytes, events: list[Event]) -> int:
        packet = self._packet[Side.SERVER]
        if self._offers_tls is not None:
            return len(data)
        packet += data[: TEXT_AT_MOST - len(packet)]
        size = int.from_bytes(packet[:3], "little")
        kind = packet[4] if len(packet) > _HEADER else None
        if (len(packet) >= _HEADER and (packet[3] != 0 or not size)) or kind not in {None, 9, 10, _ERROR}:
            got = packet[:5].hex(" ")
            self._lose(Side.SERVER, "greeting", "packet 0 with protocol 10, 9 or an error", got, events)
        elif len(packet) >= _HEADER + min(size, TEXT_AT_MOST - _HEADER):
            self._greeting(bytes(packet[: _HEADER + size]), events)
        return len(data)

    def _greeting(self, packet: bytes, events: list[Event]) -> None:
        self.sure = True
        if packet[4] == _ERROR:
            number = int.from_bytes(packet[5:7], "little")
            events.append(Said(Side.SERVER, f"error {number}"))
            self._settle(f"the server ends the conversation with error {number}", events)
            return
        events.append(Said(Side.SERVER, f"greeting of {mysql_greeting(packet)}"))
        # HandshakeV10: version NUL, thread id (4), data (8), filler (1), flags (2); V9 ends before the flags.
        at = packet.find(b"\0", 5) + 1 + 13
        flags = int.from_bytes(packet[at : at + 2], "little") if packet[4] == 10 else 0
        self._offers_tls = bool(flags & MYSQL_CLIENT_SSL)

"""TCP/IP packets for a conversation of which only the payload is known: what :mod:`.pcapng` wraps the records in.

Sequence and acknowledgement numbers, checksums (RFC 1071, RFC 9293 3.1, RFC 8200 8.1) and the opening are those of a
loss-free connection, so a dissector finds nothing to remark on. The packets are raw IP, without a link layer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from countersign.recorder.wire.events import Side

if TYPE_CHECKING:
    from collections.abc import Iterator

Address = IPv4Address | IPv6Address

_FIN, _SYN, _RST, _PSH, _ACK = 0x01, 0x02, 0x04, 0x08, 0x10
_TCP = 6
_WINDOW = 0xFFFF
_SCALE = 7  # 8 MiB may be under way before anyone acknowledges: nobody does until they speak themselves


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of the conversation."""

    address: Address
    port: int


@dataclass(slots=True)
class Conversation:
    """One TCP connection from ``client`` to ``server``, both of the same IP version; each method gives packets."""

    client: Endpoint
    server: Endpoint
    _next: dict[Side, int] = field(default_factory=lambda: {Side.CLIENT: 0x10000000, Side.SERVER: 0x20000000})

    @property
    def segment_size(self) -> int:
        """What fits an Ethernet frame behind the headers."""
        return 1460 if self.client.address.version == 4 else 1440

    def open(self) -> Iterator[bytes]:
        """SYN, SYN-ACK, ACK."""
        options = struct.pack("!BBHBBBB", 2, 4, self.segment_size, 1, 3, 3, _SCALE)  # RFC 9293 3.2, RFC 7323 2.2
        yield self._packet(Side.CLIENT, _SYN, options=options)
        self._advance(Side.CLIENT, 1)
        yield self._packet(Side.SERVER, _SYN | _ACK, options=options)
        self._advance(Side.SERVER, 1)
        yield self._packet(Side.CLIENT, _ACK)

    def send(self, sender: Side, payload: bytes) -> Iterator[bytes]:
        """The payload in as many segments as it needs."""
        for start in range(0, len(payload), self.segment_size):
            segment = payload[start : start + self.segment_size]
            yield self._packet(sender, _PSH | _ACK, segment)
            self._advance(sender, len(segment))

    def finish(self, sender: Side) -> Iterator[bytes]:
        """FIN from one side and the other's acknowledgement; the other may go on sending."""
        yield self._packet(sender, _FIN | _ACK)
        self._advance(sender, 1)
        yield self._packet(sender.peer, _ACK)

    def reset(self, sender: Side) -> Iterator[bytes]:
        yield self._packet(sender, _RST | _ACK)

    def _advance(self, side: Side, count: int) -> None:
        self._next[side] = (self._next[side] + count) & 0xFFFFFFFF

    def _packet(self, sender: Side, flags: int, payload: bytes = b"", *, options: bytes = b"") -> bytes:
        source, target = (self.client, self.server) if sender is Side.CLIENT else (self.server, self.client)
        acknowledged = self._next[sender.peer] if flags & _ACK else 0
        offset = (20 + len(options)) // 4 << 4
        ports = (source.port, target.port)
        header = struct.pack("!HHIIBBHHH", *ports, self._next[sender], acknowledged, offset, flags, _WINDOW, 0, 0)
        segment = header + options + payload
        pseudo_header = source.address.packed + target.address.packed + struct.pack("!II", len(segment), _TCP)
        checksum = _checksum(pseudo_header + segment)
        return _ip_header(source.address, target.address, len(segment)) + (
            segment[:16] + struct.pack("!H", checksum) + segment[18:]
        )


def _ip_header(source: Address, target: Address, length: int) -> bytes:
    if source.version == 6:  # RFC 8200 3
        return struct.pack("!IHBB", 6 << 28, length, _TCP, 64) + source.packed + target.packed
    # RFC 791 3.1; an atomic datagram (do not fragment) has no need of an identification (RFC 6864 4.1)
    before = struct.pack("!BBHHHBB", 0x45, 0, 20 + length, 0, 0x4000, 64, _TCP)
    after = source.packed + target.packed
    return before + struct.pack("!H", _checksum(before + after)) + after


def _checksum(data: bytes) -> int:
    """RFC 1071: the sum of the 16-bit words modulo 2^16-1 is that of the whole as one number."""
    padded = data + b"\0" * (len(data) % 2)
    return -int.from_bytes(padded, "big") % 0xFFFF

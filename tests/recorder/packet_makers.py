"""Packets and capture files, made by hand: from TCP segments outwards."""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
ETHERNET, RAW = 1, 101
T0 = 1_700_000_000 * 10**9

Ends = tuple[str, int, str, int]
"""Source address and port, destination address and port."""
C2S: Ends = ("10.0.0.1", 50000, "10.0.0.2", 443)
V6: Ends = ("2001:db8::1", 50000, "2001:db8::2", 443)


def back(ends: Ends) -> Ends:
    return ends[2], ends[3], ends[0], ends[1]


def tcp(ends: Ends, seq: int, ack: int, flags: int, payload: bytes = b"", *, options: bytes = b"") -> bytes:
    options += bytes(-len(options) % 4)
    size = (20 + len(options)) // 4 << 4
    head = struct.pack("!HHII", ends[1], ends[3], seq & 0xFFFFFFFF, ack & 0xFFFFFFFF)
    return head + struct.pack("!BBHHH", size, flags, 0xFFFF, 0, 0) + options + payload


def ipv4(
    ends: Ends,
    payload: bytes,
    *,
    proto: int = 6,
    total: int | None = None,
    options: bytes = b"",
    ident: int = 0,
    frag: int = 0,
) -> bytes:
    size = 20 + len(options)
    total = size + len(payload) if total is None else total
    addresses = ipaddress.IPv4Address(ends[0]).packed + ipaddress.IPv4Address(ends[2]).packed
    head = struct.pack("!BBHHHBBH", 0x40 | size // 4, 0, total, ident, frag, 64, proto, 0)
    return head + addresses + options + payload


def ipv6(ends: Ends, payload: bytes, *, proto: int = 6, total: int | None = None) -> bytes:
    total = len(payload) if total is None else total
    addresses = ipaddress.IPv6Address(ends[0]).packed + ipaddress.IPv6Address(ends[2]).packed
    return struct.pack("!IHBB", 6 << 28, total, proto, 64) + addresses + payload


def ethernet(payload: bytes, kind: int = 0x0800) -> bytes:
    return b"\x02\0\0\0\0\1\x02\0\0\0\0\2" + struct.pack("!H", kind) + payload


def pcap(packets: Iterable[bytes], *, link: int = ETHERNET, order: str = "<", magic: int = 0xA1B2C3D4) -> bytes:
    """The first packet at T0, each next one a thousand units later."""
    out = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 0x40000, link)]
    for n, data in enumerate(packets):
        out.append(struct.pack(f"{order}IIII", T0 // 10**9, n * 1000, len(data), len(data)))
        if magic == 0xA1B2CD34:
            out.append(struct.pack(f"{order}IHBB", 1, 0x0800, 0, 0))
        out.append(data)
    return b"".join(out)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + padded(value)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    total = struct.pack(f"{order}I", 12 + len(body))
    return struct.pack(f"{order}I", kind) + total + body + total


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link: int = ETHERNET, *, snap: int = 0, options: bytes = b"", order: str = "<") -> bytes:
    return block(1, struct.pack(f"{order}HHI", link, 0, snap) + options, order)


def enhanced(
    data: bytes,
    *,
    number: int = 0,
    ticks: int = T0 // 1000,
    original: int | None = None,
    options: bytes = b"",
    order: str = "<",
) -> bytes:
    original = len(data) if original is None else original
    head = struct.pack(f"{order}IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), original)
    return block(6, head + padded(data) + options, order)

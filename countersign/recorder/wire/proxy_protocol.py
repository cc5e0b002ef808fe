"""The PROXY protocol, versions 1 and 2: the header in which a load balancer says who the client was.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt is the document; sections are cited from it. The header
stands once, at the very beginning of a connection, and is not negotiated. So reading it is a pure function of the first
bytes: :func:`read_proxy_header` gives the header, what is wrong, or None as long as the bytes may still become one.

Reading is strict, for what the header says is believed: who can put one there decides who the client is. What the
document leaves open is decided so:

- *Length.* The line of version 1 ends within 107 bytes (2.1). The document wants version 2 to fit into the smallest TCP
  segment, 536 bytes, but senders have since learned to append certificates: 4096 bytes are taken.
- *A protocol that names no TCP connection* (UNKNOWN, UNSPEC, datagrams) is taken, and the connection's own address
  stands, which is what section 2.2 advises.
- *LOCAL* is the load balancer's own health check. Section 2.2 says to discard whatever the block holds, so it is not
  even read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any, Final, NamedTuple

from countersign.recorder.wire.text import host_port

V1_AT_MOST: Final = 107
V2_AT_MOST: Final = 4096

_V1: Final = b"PROXY "
_V2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED: Final = 16
_SHOWN: Final = 64  # bytes of a value that the record shows

_TLV_NAMES: Final = {
    0x01: "alpn",
    0x02: "authority",
    0x03: "crc32c",
    0x04: "noop",
    0x05: "unique_id",
    0x20: "ssl",
    0x21: "ssl_version",
    0x22: "ssl_cn",
    0x23: "ssl_cipher",
    0x24: "ssl_sig_alg",
    0x25: "ssl_key_alg",
    0x26: "ssl_group",
    0x27: "ssl_sig_scheme",
    0x28: "ssl_client_cert",
    0x30: "netns",
}
_TEXT: Final = frozenset({0x01, 0x02, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x30})
_CRC32C, _NOOP, _UNIQUE_ID, _SSL = 0x03, 0x04, 0x05, 0x20


class Endpoint(NamedTuple):
    """One end of the connection as the sender saw it; a socket in the file system has no port."""

    host: str
    port: int | None

    def __str__(self) -> str:
        if self.port is None:
            return self.host
        return host_port(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Tlv:
    """One type-length-value of version 2 (2.2); ``inner`` are those inside of ``ssl`` (2.2.6)."""

    type: int
    value: bytes
    inner: tuple[Tlv, ...] = ()

    def record(self) -> dict[str, Any]:
        """The JSON form: text where it is text, the first bytes in hex where it is not."""
        name = _TLV_NAMES.get(self.type, f"0x{self.type:02x}")
        if self.type == _SSL and len(self.value) >= 5:
            verified = int.from_bytes(self.value[1:5], "big") == 0
            inner = [tlv.record() for tlv in self.inner]
            return {"type": name, "client": self.value[0], "verified": verified, "tlvs": inner}
        if self.type in _TEXT:
            return {"type": name, "value": self.value[:255].decode("utf-8", "backslashreplace")}
        more = {"length": len(self.value)} if len(self.value) > _SHOWN else {}
        return {"type": name, "value": self.value[:_SHOWN].hex(), **more}


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A whole header of ``length`` bytes.

    ``command`` is PROXY or LOCAL; ``protocol`` is TCP4, TCP6, UDP4, UDP6, UNIX, UNIX-DGRAM or UNKNOWN. ``source`` and
    ``destination`` are there only for protocols that can be this connection's (TCP4, TCP6, UNIX).
    """

    version: int
    command: str
    protocol: str
    length: int
    source: Endpoint | None = None
    destination: Endpoint | None = None
    tlvs: tuple[Tlv, ...] = ()

    def record(self) -> dict[str, Any]:
        """What a recording's ``prelude`` keeps as ``proxy_protocol``."""
        record: dict[str, Any] = {"version": self.version, "command": self.command, "protocol": self.protocol}
        if self.source is not None and self.destination is not None:
            record |= {"source": str(self.source), "destination": str(self.destination)}
        if self.tlvs:
            record["tlvs"] = [tlv.record() for tlv in self.tlvs]
        return record


@dataclass(frozen=True, slots=True)
class NoHeader:
    """These bytes are not and cannot become a header; ``text`` says why, as the end of "the client ..."."""

    text: str


def read_proxy_header(data: bytes) -> ProxyHeader | NoHeader | None:
    """The header that a connection begins with; None while it is not whole. Bytes behind it are not looked at."""
    if _begins(data, _V2):
        return _version_2(data) if len(data) >= _V2_FIXED else None
    if _begins(data, _V1):
        return _version_1(data)
    return NoHeader(f"sent no PROXY protocol header: it began with 0x{data[0]:02x}")


def _begins(data: bytes, signature: bytes) -> bool:
    """As far as there are bytes; none at all begin everything."""
    return data[: len(signature)] == signature[: len(data)]


# -- version 1 (2.1) -----------------------------------------------------------------------------------------------

_LINE = re.compile(rb"PROXY (?P<protocol>TCP4|TCP6) (?P<ends>\S+ \S+) (?P<source>\d+) (?P<destination>\d+)\r\n")
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")
_PORT = re.compile(rb"0|[1-9]\d{0,4}")


def _version_1(data: bytes) -> ProxyHeader | NoHeader | None:
    stop = re.search(rb"[\r\n]", data[:V1_AT_MOST])
    if stop is None:
        return _wrong_line(data, f"has no end within {V1_AT_MOST} bytes") if len(data) >= V1_AT_MOST else None
    end = stop.start() + 2
    if end > V1_AT_MOST:
        return _wrong_line(data, f"has no end within {V1_AT_MOST} bytes")
    if data[stop.start() : end] != b"\r\n":
        return None if data[stop.start() :] == b"\r" else _wrong_line(data, "ends without CR LF")
    line = data[:end]
    if _UNKNOWN.fullmatch(line):
        return ProxyHeader(1, "PROXY", "UNKNOWN", end)
    found = _LINE.fullmatch(line)
    if found is None:
        return _wrong_line(line, "is not of the form PROXY TCP4|TCP6 SOURCE DESTINATION PORT PORT")
    family = IPv4Address if found["protocol"] == b"TCP4" else IPv6Address
    ports = found["source"], found["destination"]
    if not all(_PORT.fullmatch(port) and int(port) <= 65535 for port in ports):
        return _wrong_line(line, "has a port that is none")
    try:
        hosts = [str(family(host.decode("ascii"))) for host in found["ends"].split(b" ") if b"%" not in host]
    except (AddressValueError, UnicodeDecodeError):
        hosts = []
    if len(hosts) != 2:
        return _wrong_line(line, f"has an address that is none of {found['protocol'].decode()}")
    source, destination = (Endpoint(host, int(port)) for host, port in zip(hosts, ports, strict=True))
    return ProxyHeader(1, "PROXY", found["protocol"].decode(), end, source, destination)


def _wrong_line(data: bytes, why: str) -> NoHeader:
    return NoHeader(f"sent a PROXY protocol line that {why}: {data[:V1_AT_MOST]!r}")


# -- version 2 (2.2) -----------------------------------------------------------------------------------------------

_FAMILIES: Final = {0: 0, 1: 12, 2: 36, 3: 216}
_PROTOCOLS: Final = {0x11: "TCP4", 0x12: "UDP4", 0x21: "TCP6", 0x22: "UDP6", 0x31: "UNIX", 0x32: "UNIX-DGRAM"}
_CONNECTED: Final = frozenset({"TCP4", "TCP6", "UNIX"})


def _version_2(data: bytes) -> ProxyHeader | NoHeader | None:
    version, command = data[12] >> 4, data[12] & 15
    if version != 2 or command > 1:
        return _wrong(f"expected version 2 and command 0 or 1, got 0x{data[12]:02x} at byte 12")
    length = _V2_FIXED + int.from_bytes(data[14:16], "big")
    if length > V2_AT_MOST:
        return _wrong(f"expected at most {V2_AT_MOST} bytes, got one of {length}")
    if len(data) < length:
        return None
    header = data[:length]
    if command == 0:
        return ProxyHeader(2, "LOCAL", "UNKNOWN", length)
    family, transport = header[13] >> 4, header[13] & 15
    if family not in _FAMILIES or transport > 2:
        return _wrong(f"expected a known address family and protocol, got 0x{header[13]:02x} at byte 13")
    protocol = _PROTOCOLS.get(header[13])
    if protocol is None:  # UNSPEC, whole or half: where its addresses end is not said, so nothing of it is read
        return ProxyHeader(2, "PROXY", "UNKNOWN", length)
    size = _FAMILIES[family]
    block = header[_V2_FIXED : _V2_FIXED + size]
    if len(block) < size:
        return _wrong(f"expected {size} bytes of {protocol} addresses, got {len(block)}")
    tlvs = _tlvs(header[_V2_FIXED + size :], _V2_FIXED + size)
    if isinstance(tlvs, NoHeader):
        return tlvs
    wrong = _checksum(header, tlvs, _V2_FIXED + size)
    if wrong is not None:
        return wrong
    source, destination = _endpoints(family, block) if protocol in _CONNECTED else (None, None)
    return ProxyHeader(2, "PROXY", protocol, length, source, destination, tlvs)


def _wrong(why: str) -> NoHeader:
    return NoHeader(f"sent a broken PROXY protocol header: {why}")


def _endpoints(family: int, block: bytes) -> tuple[Endpoint, Endpoint]:
    if family == 3:
        paths = [path.split(b"\0", 1)[0].decode("utf-8", "backslashreplace") for path in (block[:108], block[108:])]
        return Endpoint(paths[0], None), Endpoint(paths[1], None)
    size = 4 if family == 1 else 16
    kind = IPv4Address if family == 1 else IPv6Address
    hosts = str(kind(block[:size])), str(kind(block[size : 2 * size]))
    ports = int.from_bytes(block[-4:-2], "big"), int.from_bytes(block[-2:], "big")
    return Endpoint(hosts[0], ports[0]), Endpoint(hosts[1], ports[1])


def _tlvs(data: bytes, offset: int, *, inside: bool = False) -> tuple[Tlv, ...] | NoHeader:
    found: list[Tlv] = []
    at = 0
    while at < len(data):
        kind, size = data[at], int.from_bytes(data[at + 1 : at + 3], "big")
        value = data[at + 3 : at + 3 + size]
        name = _TLV_NAMES.get(kind, f"0x{kind:02x}")
        if at + 3 + size > len(data):
            return _wrong(f"expected a whole TLV at byte {offset + at}, got {len(data) - at} bytes of {name}")
        if kind == _UNIQUE_ID and size > 128:  # 2.2.5
            return _wrong(f"expected a unique_id of at most 128 bytes, got {size}")
        inner: tuple[Tlv, ...] = ()
        if kind == _SSL and not inside:  # 2.2.6: a byte of flags, four of verify, and more TLVs
            if size < 5:
                return _wrong(f"expected at least 5 bytes of ssl, got {size}")
            nested = _tlvs(value[5:], offset + at + 8, inside=True)
            if isinstance(nested, NoHeader):
                return nested
            inner = nested
        if kind != _NOOP:
            found.append(Tlv(kind, value, inner))
        at += 3 + size
    return tuple(found)


# -- the checksum (2.2.3; RFC 4960 appendix B: the reflected polynomial 0x1EDC6F41) ----------------------------------


def _checksum(header: bytes, tlvs: tuple[Tlv, ...], start: int) -> NoHeader | None:
    given = [tlv.value for tlv in tlvs if tlv.type == _CRC32C]
    if not given:
        return None
    if len(given) > 1 or len(given[0]) != 4:
        return _wrong("expected one crc32c of 4 bytes")
    at = start
    while header[at] != _CRC32C:
        at += 3 + int.from_bytes(header[at + 1 : at + 3], "big")
    expected = crc32c(header[: at + 3] + bytes(4) + header[at + 7 :])
    got = int.from_bytes(given[0], "big")
    return None if got == expected else _wrong(f"expected the checksum 0x{expected:08x}, got 0x{got:08x}")


def _table() -> tuple[int, ...]:
    rows = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901 - the register of a shift
        rows.append(value)
    return tuple(rows)


_TABLE: Final = _table()


def crc32c(data: bytes) -> int:
    """Castagnoli's CRC-32."""
    register = 0xFFFFFFFF
    for byte in data:
        register = register >> 8 ^ _TABLE[(register ^ byte) & 0xFF]
    return register ^ 0xFFFFFFFF

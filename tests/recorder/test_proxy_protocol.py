"""The header of the PROXY protocol, by its document: what is one, what is none, and what is not one yet."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given, strategies as st

from countersign.recorder.wire.proxy_protocol import (
    V1_AT_MOST,
    V2_AT_MOST,
    Endpoint,
    NoHeader,
    ProxyHeader,
    crc32c,
    read_proxy_header,
)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(
    command: int = 0x21,
    family: int = 0x11,
    block: bytes = b"\xc0\0\2\1\xc6\x33\x64\x02\xc3\x50\x01\xbb",
    tlvs: bytes = b"",
) -> bytes:
    return SIGNATURE + bytes((command, family)) + struct.pack("!H", len(block + tlvs)) + block + tlvs


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + struct.pack("!H", len(value)) + value


def checked(header: bytes) -> bytes:
    """The header with its checksum filled in, which must be its last TLV."""
    return header[:-4] + struct.pack("!I", crc32c(header))


V6_BLOCK = ip_address("2001:db8::1").packed + ip_address("2001:db8::2").packed + b"\xc3\x50\x01\xbb"
UNIX_BLOCK = b"/run/a.sock".ljust(108, b"\0") + b"/run/b.sock".ljust(108, b"\0")
SSL = bytes((7,)) + bytes(4) + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"mid-server") + tlv(0x23, b"TLS_AES_128_GCM_SHA256")
CLIENT, TARGET = Endpoint("192.0.2.1", 50000), Endpoint("198.51.100.2", 443)

ENDS = {"source": "192.0.2.1:50000", "destination": "198.51.100.2:443"}


def record(version: int, protocol: str, command: str = "PROXY", **more: object) -> dict[str, object]:
    return {"version": version, "command": command, "protocol": protocol, **more}


GOOD: dict[str, tuple[bytes, dict[str, object]]] = {
    "tcp4": (
        b"PROXY TCP4 192.0.2.1 198.51.100.2 50000 443\r\n",
        record(1, "TCP4", **ENDS),
    ),
    "tcp6": (
        b"PROXY TCP6 2001:DB8:0:0:0:0:0:1 ::1 0 65535\r\n",
        record(1, "TCP6", source="[2001:db8::1]:0", destination="[::1]:65535"),
    ),
    "the longest tcp6": (
        b"PROXY TCP6 " + b" ".join([b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] * 2) + b" 65535 65535\r\n",
        record(1, "TCP6") | dict.fromkeys(
            ("source", "destination"), "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
    ),
    "unknown": (b"PROXY UNKNOWN\r\n", record(1, "UNKNOWN")),
    "unknown with more": (
        b"PROXY UNKNOWN " + b" ".join([b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] * 2) + b" 65535 65535\r\n",
        record(1, "UNKNOWN"),
    ),
    "v2 tcp4": (
        v2(),
        record(2, "TCP4", **ENDS),
    ),
    "v2 tcp6": (
        v2(family=0x21, block=V6_BLOCK),
        record(2, "TCP6", source="[2001:db8::1]:50000", destination="[2001:db8::2]:443"),
    ),
    "v2 unix": (
        v2(family=0x31, block=UNIX_BLOCK),
        record(2, "UNIX", source="/run/a.sock", destination="/run/b.sock"),
    ),
    "v2 udp": (v2(family=0x12), record(2, "UDP4")),
    "v2 udp6": (v2(family=0x22, block=V6_BLOCK), record(2, "UDP6")),
    "v2 unix datagram": (v2(family=0x32, block=UNIX_BLOCK), record(2, "UNIX-DGRAM")),
    "v2 unspecified": (v2(family=0, block=b"anything"), record(2, "UNKNOWN")),
    "v2 half unspecified": (v2(family=0x10), record(2, "UNKNOWN")),
    "v2 local": (v2(0x20, 0, b""), record(2, "UNKNOWN", "LOCAL")),
    "v2 local with a block": (v2(0x20, 0xFF, b"\xff" * 9), record(2, "UNKNOWN", "LOCAL")),
    "v2 tlvs": (
        v2(tlvs=tlv(1, b"h2") + tlv(4, bytes(5)) + tlv(2, b"inst.example") + tlv(5, b"\1\2") + tlv(0x20, SSL)
           + tlv(0x30, b"blue") + tlv(0xEA, b"\1vpce-1") + tlv(0xEE, bytes(70))),
        {"version": 2, "command": "PROXY", "protocol": "TCP4", **ENDS,
         "tlvs": [
             {"type": "alpn", "value": "h2"},
             {"type": "authority", "value": "inst.example"},
             {"type": "unique_id", "value": "0102"},
             {"type": "ssl", "client": 7, "verified": True, "tlvs": [
                 {"type": "ssl_version", "value": "TLSv1.3"},
                 {"type": "ssl_cn", "value": "mid-server"},
                 {"type": "ssl_cipher", "value": "TLS_AES_128_GCM_SHA256"},
             ]},
             {"type": "netns", "value": "blue"},
             {"type": "0xea", "value": "01767063652d31"},
             {"type": "0xee", "value": "00" * 64, "length": 70},
         ]},
    ),
    "v2 crc32c": (
        checked(v2(tlvs=tlv(2, b"inst.example") + tlv(3, bytes(4)))),
        record(2, "TCP4", **ENDS),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_header_is_read_whatever_follows_it(name: str) -> None:
    data, expected = GOOD[name]
    for tail in (b"", b"\x16\x03\x01", b"PROXY ", data):
        header = read_proxy_header(data + tail)
        assert isinstance(header, ProxyHeader), header
        assert header.length == len(data)
        got = header.record()
        if name == "v2 crc32c":
            del got["tlvs"]
        assert got == expected


@pytest.mark.parametrize("name", GOOD)
def test_each_prefix_of_a_header_is_not_whole(name: str) -> None:
    data, _ = GOOD[name]
    for length in range(len(data)):
        assert read_proxy_header(data[:length]) is None, length


def test_the_ends_of_the_connection_are_given_as_data() -> None:
    for name in ("tcp4", "v2 tcp4"):
        header = read_proxy_header(GOOD[name][0])
        assert isinstance(header, ProxyHeader)
        assert (header.source, header.destination) == (CLIENT, TARGET)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"G", "began with 0x47"),
        (b"PROXX", "no PROXY protocol header"),
        (b"proxy TCP4", "no PROXY protocol header"),
        (b"\x16\x03\x01\x00\xa5", "no PROXY protocol header"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 50000 443\n", "ends without CR LF"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 50000 443\rx", "ends without CR LF"),
        (b"PROXY " + b"x" * (V1_AT_MOST - 6), "no end within 107"),
        (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "no end within 107"),
        (b"PROXY\tTCP4 192.0.2.1 198.51.100.2 50000 443\r\n", "no PROXY protocol header"),
        (b"PROXY TCP5 192.0.2.1 198.51.100.2 50000 443\r\n", "not of the form"),
        (b"PROXY TCP4  192.0.2.1 198.51.100.2 50000 443\r\n", "not of the form"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 50000 443 \r\n", "not of the form"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 50000\r\n", "not of the form"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 443\r\n", "not of the form"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n", "port"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 0443 443\r\n", "port"),
        (b"PROXY TCP4 192.0.2.01 198.51.100.2 50000 443\r\n", "address"),
        (b"PROXY TCP4 192.0.2.256 198.51.100.2 50000 443\r\n", "address"),
        (b"PROXY TCP4 ::1 ::1 50000 443\r\n", "address"),
        (b"PROXY TCP6 192.0.2.1 198.51.100.2 50000 443\r\n", "address"),
        (b"PROXY TCP6 fe80::1%eth0 ::1 50000 443\r\n", "address"),
        (b"PROXY TCP4 \xd9\xa1.0.2.1 198.51.100.2 50000 443\r\n", "address"),
        (b"PROXY UNKNOWNS\r\n", "not of the form"),
        (b"PROXY \r\n", "not of the form"),
        (v2(0x11), "0x11 at byte 12"),
        (v2(0x22), "0x22 at byte 12"),
        (v2(family=0x41), "0x41 at byte 13"),
        (v2(family=0x13), "0x13 at byte 13"),
        (v2(block=bytes(11)), "12 bytes of TCP4 addresses, got 11"),
        (v2(family=0x21, block=bytes(35)), "36 bytes of TCP6 addresses, got 35"),
        (v2(family=0x31, block=bytes(215)), "216 bytes of UNIX addresses, got 215"),
        (v2(tlvs=b"\x01"), "a whole TLV at byte 28, got 1"),
        (v2(tlvs=b"\x01\x00"), "a whole TLV at byte 28, got 2"),
        (v2(tlvs=b"\x01\x00\x05h2"), "a whole TLV at byte 28"),
        (v2(tlvs=tlv(5, bytes(129))), "at most 128 bytes"),
        (v2(tlvs=tlv(0x20, b"\1\0")), "at least 5 bytes of ssl"),
        (v2(tlvs=tlv(0x20, b"\1\0\0\0\0" + b"\x21\x00\x09TLS")), "a whole TLV at byte 36"),
        (v2(tlvs=tlv(3, bytes(4))), "expected the checksum"),
        (v2(tlvs=tlv(3, bytes(3))), "one crc32c of 4 bytes"),
        (v2(tlvs=tlv(3, bytes(4)) * 2), "one crc32c of 4 bytes"),
        (SIGNATURE + b"\x21\x11" + struct.pack("!H", V2_AT_MOST - 15), f"at most {V2_AT_MOST}"),
        (SIGNATURE + b"\x21\x11\xff\xff", "got one of 65551"),
    ],
)
def test_what_is_no_header_says_why(data: bytes, words: str) -> None:
    got = read_proxy_header(data)
    assert isinstance(got, NoHeader), got
    assert words in got.text


def test_the_checksum_covers_every_byte() -> None:
    header = checked(v2(tlvs=tlv(2, b"inst.example") + tlv(3, bytes(4))))
    assert isinstance(read_proxy_header(header), ProxyHeader)
    for at in {*range(16, len(header))} - {len(header) - 7}:  # that one is what makes it a checksum
        broken = header[:at] + bytes((header[at] ^ 1,)) + header[at + 1 :]
        assert not isinstance(read_proxy_header(broken), ProxyHeader), at


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # https://reveng.sourceforge.io/crc-catalogue, CRC-32/ISCSI
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720 B.4


def test_a_tlv_inside_of_itself_is_only_shown() -> None:
    nested = tlv(0x20, b"\1\0\0\0\1" + tlv(0x20, b""))
    header = read_proxy_header(v2(tlvs=nested))
    assert isinstance(header, ProxyHeader)
    assert header.record()["tlvs"] == [
        {"type": "ssl", "client": 1, "verified": False, "tlvs": [{"type": "ssl", "value": ""}]}
    ]


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: SIGNATURE + data))
def test_any_bytes_are_read_and_more_of_them_change_no_verdict(data: bytes) -> None:
    verdicts = [read_proxy_header(data[:length]) for length in range(len(data) + 1)]
    settled = [verdict for verdict in verdicts if verdict is not None]
    assert len({type(verdict) for verdict in settled}) <= 1
    for verdict in settled:
        if isinstance(verdict, ProxyHeader):
            assert verdict == settled[-1]
            verdict.record()

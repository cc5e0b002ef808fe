from __future__ import annotations

import gzip
import io
import os
import random
import socket
import struct
import time
import tracemalloc
from typing import TYPE_CHECKING, BinaryIO, cast

import pytest
import zstandard
from hypothesis import given, strategies as st

from countersign.recorder.files.capture import (
    MOST_TROUBLES,
    CaptureError,
    CustomBlock,
    Item,
    Packet,
    SecretsFound,
    Trouble,
    read_capture,
)
from countersign.recorder.files.documents import CustomBlocks
from countersign.recorder.files.pcapng import export_pcapng
from countersign.recorder.files.streams import Reassembler
from tests.peers.process import run
from tests.peers.relay import PcapWriter, TcpPackets
from tests.recorder.made_recordings import leg, recording
from tests.recorder.packet_makers import (
    ACK,
    C2S,
    ETHERNET,
    PSH,
    RAW,
    SYN,
    T0,
    back,
    block,
    enhanced,
    ethernet,
    interface,
    ipv4,
    option,
    padded,
    pcap,
    section,
    tcp,
)
from tests.recorder.tls_pairs import connected

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PACKETS = [
    ethernet(ipv4(C2S, tcp(C2S, 100, 0, SYN))),
    ethernet(ipv4(back(C2S), tcp(back(C2S), 900, 101, SYN | ACK))),
    ethernet(ipv4(C2S, tcp(C2S, 101, 901, PSH | ACK, b"hello"))),
    ethernet(ipv4(back(C2S), tcp(back(C2S), 901, 106, PSH | ACK, b"answer" * 30))),
]
KEYS = b"CLIENT_RANDOM 00 11\n"
PCAPNG = section() + interface() + b"".join(map(enhanced, PACKETS))


def read(data: bytes) -> tuple[list[Item], CaptureError | None]:
    """What came, and what ended it."""
    items: list[Item] = []
    try:
        for item in read_capture(io.BytesIO(data), name="a file"):
            items.append(item)  # noqa: PERF402 - what came before an error counts
    except CaptureError as wrong:
        return items, wrong
    return items, None


def packets(data: bytes) -> list[Packet]:
    items, wrong = read(data)
    assert wrong is None
    assert not [item for item in items if isinstance(item, Trouble)]
    return [item for item in items if isinstance(item, Packet)]


def troubles(data: bytes) -> list[str]:
    items, wrong = read(data)
    assert wrong is None
    return [f"{item.offset}: {item.text}" for item in items if isinstance(item, Trouble)]


def error(data: bytes) -> str:
    _, wrong = read(data)
    assert wrong is not None
    assert f"byte {wrong.offset}: " in str(wrong)
    return str(wrong)


# -- what is read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1), (0xA1B2CD34, 1000)])
def test_pcap_is_read_in_both_byte_orders_and_precisions(order: str, magic: int, unit: int) -> None:
    assert packets(pcap(PACKETS, order=order, magic=magic)) == [
        Packet(T0 + n * 1000 * unit, ETHERNET, data, len(data), None) for n, data in enumerate(PACKETS)
    ]


def test_the_length_of_checksums_beside_the_link_type_is_no_link_type() -> None:
    assert packets(pcap(PACKETS[:1], link=0x2400_0001))[0].link_type == ETHERNET


def test_a_packet_that_was_cut_when_captured_knows_its_length() -> None:
    file = pcap([]) + struct.pack("<IIII", 1, 0, 3, 1500) + b"abc"
    assert packets(file) == [Packet(10**9, ETHERNET, b"abc", 1500, None)]


def test_sections_of_a_pcapng_file_have_their_own_byte_order_and_interfaces() -> None:
    file = section(">") + interface(RAW, order=">") + enhanced(b"one", order=">")
    file += section("<") + interface(ETHERNET) + interface(RAW) + enhanced(b"two", number=1) + enhanced(b"three")
    assert [(p.data, p.link_type) for p in packets(file)] == [(b"one", RAW), (b"two", RAW), (b"three", ETHERNET)]


@pytest.mark.parametrize(
    ("options", "ticks", "ns"),
    [
        (b"", 1_000_001, 1_000_001_000),
        (option(9, b"\x06"), 1_000_001, 1_000_001_000),
        (option(9, b"\x09"), 1_000_001, 1_000_001),
        (option(9, b"\x00"), 7, 7_000_000_000),
        (option(9, b"\x0c"), 5_000_000, 5_000),
        (option(9, b"\x81"), 3, 1_500_000_000),
        (option(9, b"\xa0"), 1 << 32, 1_000_000_000),
        (option(14, struct.pack("<q", 100)), 1, 100_000_001_000),
        (option(14, struct.pack("<q", -1)) + option(9, b"\x03"), 1500, 500_000_000),
        (option(0, b"") + option(9, b"\x09"), 1, 1000),
    ],
)
def test_times_have_the_resolution_and_offset_of_their_interface(options: bytes, ticks: int, ns: int) -> None:
    file = section() + interface(options=options) + enhanced(b"x", ticks=ticks)
    assert [p.time_ns for p in packets(file)] == [ns]


def test_a_time_beyond_all_years_is_that_of_the_packet_before() -> None:
    file = section() + interface(options=option(9, b"\x00")) + enhanced(b"a", ticks=5) + enhanced(b"b", ticks=1 << 60)
    items, _ = read(file)
    assert [item.time_ns for item in items if isinstance(item, Packet)] == [5 * 10**9] * 2
    assert len(troubles(file)) == 1


def test_simple_and_obsolete_packets_are_read() -> None:
    old = struct.pack("<HHIIII", 0, 0, 0, 77, 3, 60) + b"old\0"
    file = section() + interface(snap=4) + block(2, old) + block(3, struct.pack("<I", 9) + b"snap")
    file += block(3, struct.pack("<I", 2) + b"xy\0\0") + block(2, old[:16] + struct.pack("<I", 0) + b"old\0")
    assert packets(file) == [
        Packet(77_000, ETHERNET, b"old", 60, None),
        Packet(77_000, ETHERNET, b"snap", 9, None),
        Packet(77_000, ETHERNET, b"xy", 2, None),
        Packet(77_000, ETHERNET, b"old", 3, None),
    ]


def test_comments_of_a_packet_are_kept() -> None:
    options = option(1, "grün".encode()) + option(2, b"\0\0\0\0") + option(1, b"\xff") + option(0, b"")
    file = section() + interface() + enhanced(b"x", options=options) + enhanced(b"y", options=option(0, b""))
    assert [p.comment for p in packets(file)] == ["grün\n\ufffd", None]


@pytest.mark.parametrize("order", "<>")
def test_key_logs_are_found_and_other_secrets_and_blocks_are_passed_over(order: str) -> None:
    keys = struct.pack(f"{order}II", 0x544C534B, len(KEYS)) + padded(KEYS)
    wireguard = struct.pack(f"{order}II", 0x57474B4C, 4) + b"WG-1"
    file = section(order) + block(10, wireguard, order) + block(10, keys, order) + block(4, bytes(4), order)
    file += block(0x0BAD, struct.pack(f"{order}I", 9) + b"theirs..", order) + block(0x80000001, bytes(64), order)
    assert read(file) == ([SecretsFound(KEYS)], None)


def test_our_own_export_gives_the_recording_again() -> None:
    original = recording(leg(connected()))
    items, wrong = read(export_pcapng(original))
    custom = [item for item in items if isinstance(item, CustomBlock)]
    blocks = CustomBlocks()
    assert wrong is None
    assert [blocks.add(item.data) for item in custom] == [original]


# -- compressed --------------------------------------------------------------------------------------------------


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data[:50]) + gzip.compress(data[50:]) + bytes(7)


def zstandard_of(data: bytes) -> bytes:
    skippable = struct.pack("<II", 0x184D2A50, 3) + b"abc"
    compress = zstandard.ZstdCompressor(write_checksum=True).compress
    return compress(data[:50]) + skippable + compress(data[50:])


COMPRESSIONS = [gzipped, zstandard_of]


@pytest.mark.parametrize("compress", COMPRESSIONS)
@pytest.mark.parametrize("file", [pcap(PACKETS), PCAPNG])
def test_compressed_captures_are_read(compress: Callable[[bytes], bytes], file: bytes) -> None:
    assert packets(compress(file)) == packets(file)


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_a_compressed_capture_that_ends_in_the_middle_gives_what_was_whole(compress: Callable[[bytes], bytes]) -> None:
    data = [random.Random(n).randbytes(1000) for n in range(1000)]
    whole = compress(pcap(data))
    for cut in (len(whole) - 9, len(whole) // 2):
        items, wrong = read(whole[:cut])
        assert [item.data for item in items if isinstance(item, Packet)] == data[: len(items)]
        assert len(items) >= (900 if cut > len(whole) // 2 else 350)
        assert "ends in the middle" in str(wrong)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.ZstdCompressor(write_checksum=True).compress])
def test_a_missing_checksum_alone_is_told_too(compress: Callable[[bytes], bytes]) -> None:
    items, wrong = read(compress(pcap(PACKETS))[:-2])
    assert len(items) == len(PACKETS)
    assert "ends in the middle" in str(wrong)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.ZstdCompressor(write_checksum=True).compress])
@pytest.mark.parametrize("at", [-6, -3])
def test_damaged_compression_is_told_after_what_came_out(compress: Callable[[bytes], bytes], at: int) -> None:
    whole = bytearray(compress(pcap(PACKETS)))
    whole[at] ^= 0x55
    items, wrong = read(bytes(whole))
    assert [item.data for item in items if isinstance(item, Packet)] == PACKETS[: len(items)]
    assert "compression is damaged" in str(wrong)


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_what_is_compressed_and_no_capture_is_refused(compress: Callable[[bytes], bytes]) -> None:
    assert "what it decompresses to is not a capture" in error(compress(b"some text" * 50))


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_bomb_does_not_fill_the_memory(compress: Callable[[bytes], bytes]) -> None:
    # Packets of zeros, so that nothing ends it early.
    packet = struct.pack("<IIII", 1, 0, 60_000, 60_000) + bytes(60_000)
    file = io.BytesIO(compress(pcap([]) + packet * 4000))
    assert file.getbuffer().nbytes < 2 << 20
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_capture(file))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 4000
    assert peak < 40 << 20


# -- large files -------------------------------------------------------------------------------------------------


class Endless(io.RawIOBase):
    """A capture of a gigabyte or so, in reads of odd sizes; nothing of it is kept."""

    def __init__(self, head: bytes, packet: bytes, count: int) -> None:
        self._rest = [head]
        self._packet = packet
        self.left = count

    def read(self, size: int = -1) -> bytes:
        assert size > 0
        if not self._rest and self.left:
            self.left -= 1
            self._rest = [self._packet[:7], self._packet[7:]]
        return self._rest.pop(0) if self._rest else b""


def test_memory_does_not_grow_with_the_file() -> None:
    packet = enhanced(bytes(range(256)) * 200, options=option(1, b"note"))
    endless = Endless(section() + interface(), packet, 2000)
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_capture(cast("BinaryIO", endless)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (count, endless.left) == (2000, 0)
    assert peak < 4 << 20


@pytest.mark.parametrize(
    "head", [b"", pcap([]), pcap(PACKETS), section(), PCAPNG, section() + interface() + enhanced(b"x")[:-8]]
)
def test_two_gigabytes_of_holes_end_at_once(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "sparse"
    path.write_bytes(head)
    os.truncate(path, 2 << 30)
    began = time.process_time()
    with pytest.raises(CaptureError, match=r"sparse, byte \d+: .*(expected|got)"):
        list(read_capture(path))
    assert time.process_time() - began < 0.5


# -- what is wrong with a file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [pcap(PACKETS), PCAPNG, pcap(PACKETS, order=">", magic=0xA1B2CD34)])
def test_every_prefix_gives_what_was_whole_and_then_an_error_with_the_offset(file: bytes) -> None:
    whole = packets(file)
    clean = 0
    for cut in range(len(file)):
        items, wrong = read(file[:cut])
        assert items == whole[: len(items)]
        if wrong is None:
            clean += 1
        else:
            assert wrong.offset <= cut
            assert "ends in the middle" in str(wrong) or cut < 5
    # Only between two packets (or blocks) nobody can know that there were more.
    assert clean == len(PACKETS) + (file is PCAPNG)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "it is empty"),
        (b"\xd4", "it is not a capture: expected the magic number of pcap or pcapng, got d4"),
        (b"\x7fELF" + bytes(100), "it is not a capture: expected the magic number of pcap or pcapng, got 7f454c46"),
        (b"PK\x03\x04" + bytes(100), "it is a zip archive: unpack it first"),
        (b"\xfd7zXZ\x00" + bytes(100), "it is compressed with xz: decompress it first"),
        (pcap([])[:12], "the file ends in the middle: expected 24 bytes of file header, got 12"),
        (b"\xd4\xc3\xb2\xa1\x07\0\x04\0" + bytes(16), "expected version 2 of pcap, got 7.4"),
        (section()[:8] + b"\1\2\3\4" + section()[12:], "expected the byte-order magic of a section, 1a2b3c4d"),
        (block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 2, 0, -1)), "expected version 1 of pcapng, got 2.0"),
        (pcap([]) + struct.pack("<IIII", 1, 0, 0x7FFFFFFF, 60), "expected the length of a packet, at most 16777216"),
        (section() + struct.pack("<III", 6, 8, 0), "expected the length of a block, 12 to 16777216, got 8"),
        (
            section() + struct.pack("<III", 6, 1 << 31, 0),
            "expected the length of a block, 12 to 16777216, got 2147483648",
        ),
        (section() + interface() * 65537, "expected at most 65536 interfaces"),
    ],
)
def test_what_cannot_be_read_is_one_error_that_says_what_was_expected(data: bytes, text: str) -> None:
    assert text in error(data)


def test_an_absurd_length_ends_it_after_what_was_good() -> None:
    items, wrong = read(PCAPNG + struct.pack("<III", 6, 0xFFFFFFFC, 0) + bytes(1000))
    assert len(items) == len(PACKETS)
    assert wrong is not None
    assert wrong.offset == len(PCAPNG) + 4


def test_a_packet_longer_than_it_was_is_a_trouble() -> None:
    file = pcap([]) + struct.pack("<IIII", 1, 0, 3, 2) + b"abc"
    assert troubles(file) == ["36: expected the original length, at least 3, got 2"]


def test_block_lengths_that_disagree_are_a_trouble() -> None:
    wrong = enhanced(b"abcd")[:-4] + b"\x99\0\0\0"
    assert troubles(section() + interface() + wrong + enhanced(b"x")) == [
        "80: expected the length of the block again, 36, got 153"
    ]


def test_a_block_whose_length_is_no_multiple_of_four_is_read() -> None:
    odd = struct.pack("<II", 0x99, 14) + b"ab\0\0" + struct.pack("<I", 14)
    items, wrong = read(section() + odd + interface() + enhanced(b"x"))
    assert wrong is None
    assert [type(item) for item in items] == [Trouble, Packet]


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (enhanced(b"x", number=1), "one of the 1 interfaces described before it, got one of interface 1"),
        (block(2, struct.pack("<HHIIII", 7, 0, 0, 0, 0, 0)), "got one of interface 7"),
        (block(6, struct.pack("<IIIII", 0, 0, 0, 500, 500) + b"abcd"), "expected a packet of at most 4 bytes, got 500"),
        (block(2, struct.pack("<HHIIII", 0, 0, 0, 0, 5, 5)), "expected a packet of at most 0 bytes, got 5"),
        (block(3, struct.pack("<I", 50)), "expected a packet of at most 0 bytes, got 50"),
        (block(6, b"abcd"), "expected a block of type 6 with 20 bytes or more, got 4"),
        (block(1, b""), "expected a block of type 1 with 8 bytes or more, got 0"),
        (block(10, struct.pack("<II", 1, 99)), "expected at most 0 bytes of secrets, got 99"),
        (enhanced(b"x", options=b"\x01\0\xff\xff"), "expected an option of at most 0 bytes, got 65535 (code 1)"),
        (interface(options=b"\x09\0\x10\0abcd"), "expected an option of at most 4 bytes, got 16 (code 9)"),
        (interface(options=option(9, b"")), "expected the value of option 9, got 0 bytes"),
        (interface(options=option(14, b"1234")), "expected the value of option 14, got 4 bytes"),
    ],
)
def test_a_damaged_block_is_a_trouble_and_the_next_is_read(bad: bytes, text: str) -> None:
    items, wrong = read(section() + interface() + bad + enhanced(b"behind"))
    assert wrong is None
    (trouble,) = (item for item in items if isinstance(item, Trouble))
    assert text in trouble.text
    assert trouble.offset >= 48
    last = items[-1]
    assert isinstance(last, Packet)
    assert last.data == b"behind"


def test_a_simple_packet_before_any_interface_is_a_trouble() -> None:
    assert "got one of interface 0" in troubles(section() + block(3, struct.pack("<I", 0)))[0]


def test_options_of_no_length_end_with_their_block() -> None:
    options = option(1, b"") * 1000
    assert packets(section() + interface() + enhanced(b"x", options=options))[0].comment == "\n" * 999


def test_a_file_that_is_wrong_all_over_does_not_flood() -> None:
    file = section() + interface() + enhanced(b"x", number=9) * 5000 + enhanced(b"last")
    items, _ = read(file)
    assert len(items) == MOST_TROUBLES + 1
    assert isinstance(items[-1], Packet)


def test_a_file_that_cannot_be_opened_or_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="nowhere, byte 0: it cannot be opened: No such file"):
        list(read_capture(tmp_path / "nowhere"))
    with pytest.raises(CaptureError, match="Is a directory"):
        list(read_capture(tmp_path))


def test_the_name_in_an_error_is_safe_to_print() -> None:
    with pytest.raises(CaptureError, match=r"^a\\x1b\[2Jb, byte 0") as caught:
        list(read_capture(io.BytesIO(b"nothing"), name="a\x1b[2Jb"))
    assert "\x1b" not in str(caught.value)


# -- anything ----------------------------------------------------------------------------------------------------

SEEDS = [
    pcap(PACKETS),
    pcap([packet[14:] for packet in PACKETS], link=RAW, order=">", magic=0xA1B23C4D),
    PCAPNG + block(3, struct.pack("<I", 3) + b"abc\0") + block(10, struct.pack("<II", 0x544C534B, 20) + KEYS),
    section(">") + interface(order=">", options=option(9, b"\x09", ">")) + enhanced(PACKETS[2], order=">"),
    gzip.compress(pcap(PACKETS), mtime=0),
    zstandard.ZstdCompressor().compress(PCAPNG),
]


def follow(data: bytes) -> None:
    """All the way; only a CaptureError is caught on it."""
    reassembler = Reassembler()
    for item in read(data)[0]:
        if isinstance(item, Packet):
            list(reassembler.packet(item))
    list(reassembler.finish())


@given(st.sampled_from([b"", *(seed[:4] for seed in SEEDS), section(), section() + interface(RAW)]), st.binary())
def test_random_bytes_raise_nothing_else(head: bytes, rest: bytes) -> None:
    follow(head + rest)


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=6),
    st.floats(0, 1),
)
def test_damaged_captures_raise_nothing_else(seed: bytes, changes: list[tuple[float, bytes]], keep: float) -> None:
    data = bytearray(seed)
    for place, new in changes:
        at = int(place * len(data))
        data[at : at + len(new)] = new
    follow(bytes(data[: int(len(data) * keep) + 1]))


# -- what others write -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def relayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("captures") / "relayed.pcap"
    writer = PcapWriter(path)
    for port in range(40000, 40020):
        talk = TcpPackets(writer, ("127.0.0.1", port), ("127.0.0.1", 443))
        talk.data(0, b"question %d" % port)
        talk.data(1, b"answer" * port)
        talk.end(0, reset=False)
        talk.end(1, reset=port % 2 == 0)
    writer.close()
    return path


@pytest.mark.peer("tshark")
@pytest.mark.parametrize(
    "options",
    [
        ("-F", "pcap"),
        ("-F", "nsecpcap"),
        ("-F", "modpcap"),
        ("-F", "pcapng"),
        ("-F", "pcapng", "-a", "2:a comment"),
        ("-F", "pcapng", "-t", "0.000000001"),
    ],
    ids=" ".join,
)
def test_what_editcap_writes_is_the_same_capture(relayed: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    out = tmp_path / "out"
    run("editcap", *options, relayed, out).check()
    before, after = packets(relayed.read_bytes()), packets(out.read_bytes())
    assert [(p.link_type, p.data, p.original_length) for p in after] == [
        (p.link_type, p.data, p.original_length) for p in before
    ]
    assert [p.time_ns // 1000 for p in after] == [p.time_ns // 1000 for p in before]
    assert after[1].comment == ("a comment" if "-a" in options else None)


@pytest.mark.peer("tshark")
def test_what_editcap_cuts_off_is_known_to_be_missing(relayed: Path, tmp_path: Path) -> None:
    run("editcap", "-F", "pcapng", "-s", "60", relayed, tmp_path / "out").check()
    before, after = packets(relayed.read_bytes()), packets((tmp_path / "out").read_bytes())
    assert [(p.data, p.original_length) for p in after] == [(p.data[:60], p.original_length) for p in before]


@pytest.mark.peer("tshark")
def test_secrets_that_editcap_injects_are_found(relayed: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_bytes(KEYS)
    run("editcap", "--inject-secrets", f"tls,{keys}", relayed, tmp_path / "out").check()
    items, wrong = read((tmp_path / "out").read_bytes())
    assert wrong is None
    assert [item for item in items if isinstance(item, SecretsFound)] == [SecretsFound(KEYS)]


@pytest.mark.peer("tshark")
def test_our_export_survives_editcap(tmp_path: Path) -> None:
    original = recording(leg(connected()))
    (tmp_path / "in").write_bytes(export_pcapng(original))
    run("editcap", "-F", "pcapng", tmp_path / "in", tmp_path / "out").check()
    items, wrong = read((tmp_path / "out").read_bytes())
    blocks = CustomBlocks()
    assert wrong is None
    assert [blocks.add(item.data) for item in items if isinstance(item, CustomBlock)] == [original]


@pytest.mark.peer("tshark")
def test_what_mergecap_writes_has_an_interface_for_each_link_type(relayed: Path, tmp_path: Path) -> None:
    ether = tmp_path / "ether"
    ether.write_bytes(pcap(PACKETS))
    run("mergecap", "-a", "-F", "pcapng", "-w", tmp_path / "out", relayed, ether).check()
    found = packets((tmp_path / "out").read_bytes())
    assert found == packets(relayed.read_bytes()) + packets(ether.read_bytes())
    assert {p.link_type for p in found} == {RAW, ETHERNET}


@pytest.mark.peer("tshark")
def test_what_text2pcap_writes_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("0000 68 65 6c 6c 6f\n")
    run("text2pcap", "-T", "1000,443", tmp_path / "in", tmp_path / "out").check()
    (packet,) = packets((tmp_path / "out").read_bytes())
    assert packet.data[54:].startswith(b"hello")


@pytest.mark.peer("tcpdump")
def test_a_capture_of_tcpdump_is_read_while_it_is_written(tmp_path: Path) -> None:
    from tests.peers.tshark import Capture

    if not Capture.permitted():
        pytest.skip("nobody may capture here")
    path = tmp_path / "live.pcap"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with Capture(port, pcap=path):
            with socket.create_connection(("127.0.0.1", port)) as a, listener.accept()[0] as b:
                a.sendall(b"over the wire")
                assert b.recv(100) == b"over the wire"
            assert [p for p in packets(path.read_bytes()) if b"capture begins" in p.data]
    assert [p for p in packets(path.read_bytes()) if p.data.endswith(b"over the wire")]

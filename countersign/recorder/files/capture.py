"""Capture files as packets: pcap and pcapng, plain or compressed, read in one pass and without looking back.

*Memory.* The file is taken in slices, and what is held is one slice, or one packet or block where it is longer. No
length that a file declares is believed before it was held against a bound (:data:`LONGEST`, that of Wireshark), so a
damaged one neither fills the memory nor has gigabytes of a sparse file read. Compressed files come out in pieces whose
size is bounded too, however well they were compressed.

*What is wrong with a file* is of two kinds. Where the next packet can still be found, a :class:`Trouble` says what is
odd and reading goes on. Where it cannot (the file ends in a packet, a length is absurd, the compression is damaged) all
that came before has been given, and a :class:`CaptureError` ends it.

*Times* are integers, nanoseconds since 1970 in UTC: a float cannot hold them. Packets without a time of their own
(Simple Packet Blocks), or with one beyond the year 9999, get that of the packet before.

pcap: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html
pcapng: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html, its section numbers are cited below.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from countersign.errors import UserError
from countersign.recorder.files.pcapng import MAGIC, PRIVATE_ENTERPRISE_NUMBER
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST: Final = 16 << 20
"""Bytes that one packet or block may have; Wireshark refuses longer blocks too."""
MOST_TROUBLES: Final = 100
"""How many of them are told of one file."""

_SLICE = 256 << 10
_GZIP_INPUT = 16 << 10  # what a member does not use up is copied, and members may be tiny
_ZSTD_INPUT = 256  # one block of four bytes may become 128 KiB (RFC 8878 3.1.1.2.3), so this may become 8 MiB
_ZSTD_WINDOW = 32 << 20
_MOST_INTERFACES = 1 << 16
_END_OF_TIME = 253_402_300_800 * 10**9  # the year 10000

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SECTION_MAGIC = b"\x0a\x0d\x0d\x0a"
_PCAP_MAGICS: dict[int, tuple[int, int]] = {  # nanoseconds in a unit of time, bytes of a packet's header
    0xA1B2C3D4: (1000, 16),
    0xA1B23C4D: (1, 16),
    0xA1B2CD34: (1000, 24),  # Kuznetzov's: interface, protocol and kind stand behind the lengths
}
_OTHERS = (
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"BZh", "compressed with bzip2: decompress it first"),
    (b"\xfd7zXZ\x00", "compressed with xz: decompress it first"),
    (b"\x04\x22\x4d\x18", "compressed with lz4: decompress it first"),
    (b"snoop\x00", "a snoop capture: `editcap -F pcapng FILE OUT` converts it"),
    (b"GMBU", "a Network Monitor capture: `editcap -F pcapng FILE OUT` converts it"),
    (b"RTSS", "a Network Monitor capture: `editcap -F pcapng FILE OUT` converts it"),
)

_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET, _SECRETS = 0x0A0D0D0A, 1, 2, 3, 6, 0x0A
_CUSTOM = frozenset({0x0BAD, 0x40000BAD})
_BYTE_ORDER = 0x1A2B3C4D
_TLS_KEY_LOG = 0x544C534B


class CaptureError(UserError):
    """A file cannot be read, or not on from ``offset``; what was given before stays valid."""

    def __init__(self, text: str, *, name: str, offset: int) -> None:
        super().__init__(f"{name}, byte {offset}: {text}")
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet as captured; ``original_length`` is what it had on the wire, never less than what is there.

    ``time_ns`` is in nanoseconds since 1970, ``link_type`` a LINKTYPE_ number (https://www.tcpdump.org/linktypes.html).
    """

    time_ns: int
    link_type: int
    data: bytes
    original_length: int
    comment: str | None


@dataclass(frozen=True, slots=True)
class SecretsFound:
    """The text of a key log that is in the file (a Decryption Secrets Block)."""

    text: bytes


@dataclass(frozen=True, slots=True)
class CustomBlock:
    """A block that countersign wrote, from its magic on (:mod:`.pcapng`)."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something in the file, at this byte, is not as its format says; reading goes on."""

    offset: int
    text: str


Item = Packet | SecretsFound | CustomBlock | Trouble


def is_capture(head: bytes) -> bool:
    """Whether a file that begins like this, once decompressed, is a capture."""
    numbers = (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))
    return head[:4] == _SECTION_MAGIC or any(number in _PCAP_MAGICS for number in numbers)


def read_capture(source: BinaryIO | Path, *, name: str | None = None) -> Iterator[Item]:
    """What is in a pcap or pcapng file, in its order, as it is read.

    ``name`` is what errors call it. A source that is open already is read from where it stands; offsets count from
    there, and in compressed files they are those of the decompressed bytes. Raises :class:`CaptureError`.
    """
    shown = printable(name or str(getattr(source, "name", source)), limit=500)
    if not isinstance(source, Path):
        yield from _Reader(_slices(source), shown).items()
        return
    try:
        file = source.open("rb")
    except OSError as wrong:
        raise CaptureError(f"it cannot be opened: {wrong.strerror}", name=shown, offset=0) from None
    with file:
        yield from _Reader(_slices(file), shown).items()


# -- bytes -------------------------------------------------------------------------------------------------------


class _CannotGoOnError(Exception):
    """No more bytes come, though it is not the end; the text says why."""


def _slices(source: BinaryIO) -> Iterator[bytes]:
    while True:
        try:
            data = source.read(_SLICE)
        except OSError as wrong:
            raise _CannotGoOnError(f"it cannot be read on: {wrong.strerror or wrong}") from None
        if not data:
            return
        yield data


def _gunzipped(slices: Iterator[bytes]) -> Iterator[bytes]:
    """RFC 1952: members one behind the other, zeros behind the last."""
    inflate = zlib.decompressobj(31)
    try:
        for piece in slices:
            for at in range(0, len(piece), _GZIP_INPUT):
                data = piece[at : at + _GZIP_INPUT]
                while data:
                    if inflate.eof:
                        data = data.lstrip(b"\0")
                        if not data:
                            break
                        inflate = zlib.decompressobj(31)
                    out = inflate.decompress(data, _SLICE)
                    if out:
                        yield out
                    data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
        while out := inflate.decompress(b"", _SLICE):
            yield out
    except zlib.error as wrong:
        raise _CannotGoOnError(f"its gzip compression is damaged ({wrong})") from None
    if not inflate.eof:
        raise _CannotGoOnError("the gzip file ends in the middle")


def _unzstandard(slices: Iterator[bytes]) -> Iterator[bytes]:
    """RFC 8878: frames one behind the other.

    The library's stream reader takes a file that ends in the middle for whole, its decompressobj does not; that has no
    bound for its output, so it is fed crumbs.
    """
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    frame = decompressor.decompressobj()
    parts: list[bytes] = []
    size = 0
    try:
        for data in slices:
            for at in range(0, len(data), _ZSTD_INPUT):
                crumb = data[at : at + _ZSTD_INPUT]
                while crumb:
                    if frame.eof:
                        frame = decompressor.decompressobj()
                    out = frame.decompress(crumb)
                    crumb = frame.unused_data if frame.eof else b""
                    parts.append(out)
                    size += len(out)
                if size >= _SLICE:
                    yield b"".join(parts)
                    parts, size = [], 0
    except zstandard.ZstdError as wrong:
        yield b"".join(parts)
        raise _CannotGoOnError(f"its zstd compression is damaged ({wrong})") from None
    except _CannotGoOnError:
        yield b"".join(parts)
        raise
    yield b"".join(parts)
    if not frame.eof:
        raise _CannotGoOnError("the zstd file ends in the middle")


class _Interface(NamedTuple):
    """Of a pcapng section: what its packets' headers do not say (4.2). A tick is ``numerator/denominator`` ns."""

    link_type: int
    snap_length: int
    numerator: int
    denominator: int
    offset_ns: int


class _Reader:
    """One file. ``_data`` is the slice in hand; ``_start`` is the offset of its first byte in the file."""

    def __init__(self, slices: Iterator[bytes], name: str) -> None:
        self._slices = slices
        self._name = name
        self._data = b""
        self._start = 0
        self._why_no_more: str | None = None
        self._troubles = 0
        self._time = 0
        self._what = "it"

    def items(self) -> Iterator[Item]:
        """Find out what it is, then read it."""
        data = self._more(0, 4)
        if data.startswith(_GZIP):
            data = self._decompressed(_gunzipped)
        elif data.startswith(_ZSTD):
            data = self._decompressed(_unzstandard)
        if data[:4] == _SECTION_MAGIC:
            yield from self._pcapng()
            return
        for order in "<>":
            magic = struct.unpack_from(f"{order}I", data)[0] if len(data) >= 4 else 0
            if magic in _PCAP_MAGICS:
                yield from self._pcap(order, *_PCAP_MAGICS[magic])
                return
        raise self._no_capture(data)

    def _decompressed(self, how: object) -> bytes:
        """Begin again with what the file decompresses to."""
        assert callable(how)
        first, rest = self._data, self._slices

        def again() -> Iterator[bytes]:
            yield first
            yield from rest

        self._slices, self._data, self._what = how(again()), b"", "what it decompresses to"
        return self._more(0, 4)

    def _no_capture(self, data: bytes) -> CaptureError:
        if self._why_no_more is not None:
            return self._error(0, self._why_no_more)
        if not data:
            return self._error(0, f"{self._what} is empty, expected a capture (pcap or pcapng)")
        for magic, text in _OTHERS:
            if data.startswith(magic):
                return self._error(0, f"{self._what} is {text}")
        return self._error(
            0, f"{self._what} is not a capture: expected the magic number of pcap or pcapng, got {data[:4].hex()}"
        )

    # bytes

    def _more(self, at: int, need: int) -> bytes:
        """Drop what is before ``at`` and read until ``need`` bytes are there or no more come: the new slice."""
        parts = [self._data[at:]]
        size = len(parts[0])
        self._start += at
        while size < need and self._why_no_more is None:
            try:
                part = next(self._slices, None)
            except _CannotGoOnError as wrong:
                self._why_no_more = str(wrong)
                break
            if part is None:
                break
            parts.append(part)
            size += len(part)
        self._data = parts[0] if len(parts) == 1 else b"".join(parts)
        return self._data

    def _error(self, at: int, text: str) -> CaptureError:
        return CaptureError(text, name=self._name, offset=self._start + at)

    def _cut(self, at: int, what: str, need: int) -> CaptureError:
        """The bytes end before ``need`` of them are there."""
        got = len(self._data) - at
        if self._why_no_more is not None:
            return self._error(at + got, self._why_no_more)
        return self._error(at, f"the file ends in the middle: expected {need} bytes of {what}, got {got}")

    def _end(self) -> None:
        """The last packet was whole; was it the last one?"""
        if self._why_no_more is not None:
            raise self._error(0, self._why_no_more)

    def _trouble(self, at: int, text: str) -> Iterator[Trouble]:
        self._troubles += 1
        if self._troubles < MOST_TROUBLES:
            yield Trouble(self._start + at, text)
        elif self._troubles == MOST_TROUBLES:
            yield Trouble(self._start + at, "there is more in the file that is not as its format says")

    # pcap

    def _pcap(self, order: str, unit: int, header_size: int) -> Iterator[Item]:
        data = self._more(0, 24)
        if len(data) < 24:
            raise self._cut(0, "file header", 24)
        major, minor = struct.unpack_from(f"{order}HH", data, 4)
        if major != 2:
            raise self._error(4, f"expected version 2 of pcap, got {major}.{minor}")
        link_type = struct.unpack_from(f"{order}I", data, 20)[0] & 0xFFFF  # above it: the length of checksums
        unpack = struct.Struct(f"{order}IIII").unpack_from
        at, end = 24, len(data)
        while True:
            if end - at < header_size:
                data = self._more(at, header_size)
                at, end = 0, len(data)
                if not data:
                    self._end()
                    return
                if end < header_size:
                    raise self._cut(0, "packet header", header_size)
            seconds, fraction, size, original = unpack(data, at)
            if size > LONGEST:
                raise self._error(at + 8, f"expected the length of a packet, at most {LONGEST}, got {size}")
            stop = at + header_size + size
            if stop > end:
                data = self._more(at, header_size + size)
                at, end = 0, len(data)
                stop = header_size + size
                if stop > end:
                    raise self._cut(0, "a packet with its header", stop)
            if original < size:
                yield from self._trouble(at + 12, f"expected the original length, at least {size}, got {original}")
                original = size
            if not (original or seconds or fraction):
                raise self._error(at, "expected a packet, got zeros: the rest of the file was never written")
            yield Packet(
                seconds * 1_000_000_000 + fraction * unit, link_type, data[at + header_size : stop], original, None
            )
            at = stop

    # pcapng

    def _pcapng(self) -> Iterator[Item]:
        """Blocks (3.1): type, length, body, length again. The order of bytes is that of the section."""
        order = "<"
        head = struct.Struct("<II").unpack_from
        packet_head = struct.Struct("<IIIII").unpack_from
        interfaces: list[_Interface] = []
        data, at = self._data, 0
        end = len(data)
        while True:
            if end - at < 12:
                data = self._more(at, 12)
                at, end = 0, len(data)
                if not data:
                    self._end()
                    return
                if end < 12:
                    raise self._cut(0, "block", 12)
            kind, total = head(data, at)
            if kind == _SECTION:
                order = self._byte_order(at)
                head, packet_head = struct.Struct(f"{order}II").unpack_from, struct.Struct(f"{order}IIIII").unpack_from
                total = head(data, at)[1]
                interfaces = []
            if total < 12 or total > LONGEST:
                raise self._error(at + 4, f"expected the length of a block, 12 to {LONGEST}, got {total}")
            if total & 3:
                yield from self._trouble(at + 4, f"expected the length of a block, a multiple of 4, got {total}")
                total += -total & 3
            stop = at + total
            if stop > end:
                data = self._more(at, total)
                at, stop, end = 0, total, len(data)
                if stop > end:
                    raise self._cut(0, "a block", total)
            again = int.from_bytes(data[stop - 4 : stop], "little" if order == "<" else "big")
            if again != total and again + (-again & 3) != total:
                yield from self._trouble(stop - 4, f"expected the length of the block again, {total}, got {again}")

            if kind == _PACKET and total >= 32:  # 4.3
                number, high, low, size, original = packet_head(data, at + 8)
                if number >= len(interfaces):
                    yield from self._trouble(at + 8, _no_interface(number, len(interfaces)))
                elif size > total - 32:
                    yield from self._trouble(at + 20, f"expected a packet of at most {total - 32} bytes, got {size}")
                else:
                    options = at + 28 + size + (-size & 3)
                    comment = None
                    if options < stop - 4:
                        found: list[str] = []
                        for offset, code, value in _options(data, options, stop - 4, order):
                            if code < 0:
                                yield from self._trouble(offset, str(value, "ascii"))
                            elif code == 1:
                                found.append(str(value, "utf-8", "replace"))
                        comment = "\n".join(found) if found else None
                    link_type, _, numerator, denominator, offset_ns = interfaces[number]
                    time = (high << 32 | low) * numerator // denominator + offset_ns
                    if 0 <= time < _END_OF_TIME:
                        self._time = time
                    else:
                        yield from self._trouble(at + 12, "expected the time of a packet, got one beyond all years")
                        time = self._time
                    if original < size:
                        text = f"expected the original length, at least {size}, got {original}"
                        yield from self._trouble(at + 24, text)
                        original = size
                    yield Packet(time, link_type, data[at + 28 : at + 28 + size], original, comment)
            else:
                yield from self._other_block(kind, at, stop, order, interfaces)
            at = stop

    def _byte_order(self, at: int) -> str:
        """Of the section that begins at ``at`` (4.1)."""
        data = self._data[at : at + 12]
        for order in "<>":
            if struct.unpack_from(f"{order}I", data, 8)[0] == _BYTE_ORDER:
                return order
        raise self._error(at + 8, f"expected the byte-order magic of a section, 1a2b3c4d, got {data[8:].hex()}")

    def _other_block(self, kind: int, at: int, stop: int, order: str, interfaces: list[_Interface]) -> Iterator[Item]:
        """All but the usual packet. What is neither here nor there (names, statistics, journals) is passed over."""
        data, body, room = self._data, at + 8, stop - at - 12
        least = _LEAST.get(kind, 0)
        if room < least:
            yield from self._trouble(at + 4, f"expected a block of type {kind} with {least} bytes or more, got {room}")
        elif kind == _SECTION:
            major, minor = struct.unpack_from(f"{order}HH", data, body + 4)
            if major != 1:
                raise self._error(body + 4, f"expected version 1 of pcapng, got {major}.{minor}")
        elif kind == _INTERFACE:
            yield from self._interface(body, stop - 4, order, interfaces)
        elif kind == _SECRETS:  # 4.8
            what, size = struct.unpack_from(f"{order}II", data, body)
            if size > room - 8:
                yield from self._trouble(body + 4, f"expected at most {room - 8} bytes of secrets, got {size}")
                size = room - 8
            if what == _TLS_KEY_LOG:
                yield SecretsFound(data[body + 8 : body + 8 + size])
        elif kind in _CUSTOM:  # 4.9
            enterprise = struct.unpack_from(f"{order}I", data, body)[0]
            if enterprise == PRIVATE_ENTERPRISE_NUMBER and data.startswith(MAGIC, body + 4):
                yield CustomBlock(data[body + 4 : stop - 4])
        elif kind == _SIMPLE_PACKET:  # 4.4
            original = struct.unpack_from(f"{order}I", data, body)[0]
            if not interfaces:
                yield from self._trouble(at, _no_interface(0, 0))
                return
            interface = interfaces[0]
            size = min(original, interface.snap_length or original)
            if size > room - 4:
                yield from self._trouble(body, f"expected a packet of at most {room - 4} bytes, got {size}")
                return
            yield Packet(self._time, interface.link_type, data[body + 4 : body + 4 + size], original, None)
        elif kind == _OLD_PACKET:  # appendix A
            number, _, high, low, size, original = struct.unpack_from(f"{order}HHIIII", data, body)
            if number >= len(interfaces):
                yield from self._trouble(body, _no_interface(number, len(interfaces)))
                return
            if size > room - 20:
                yield from self._trouble(body + 12, f"expected a packet of at most {room - 20} bytes, got {size}")
                return
            interface = interfaces[number]
            time = (high << 32 | low) * interface.numerator // interface.denominator + interface.offset_ns
            self._time = time if 0 <= time < _END_OF_TIME else self._time
            packet = data[body + 20 : body + 20 + size]
            yield Packet(self._time, interface.link_type, packet, max(size, original), None)

    def _interface(self, at: int, stop: int, order: str, interfaces: list[_Interface]) -> Iterator[Trouble]:
        """Section 4.2."""
        if len(interfaces) == _MOST_INTERFACES:
            raise self._error(at - 8, f"expected at most {_MOST_INTERFACES} interfaces in a section, got one more")
        link_type, _, snap_length = struct.unpack_from(f"{order}HHI", self._data, at)
        numerator, denominator, seconds = 1000, 1, 0
        for offset, code, value in _options(self._data, at + 8, stop, order):
            if code < 0:
                yield from self._trouble(offset, str(value, "ascii"))
            elif code == 9 and len(value) == 1:  # if_tsresol: a power of ten, or of two
                power = value[0] & 0x7F
                if value[0] & 0x80:
                    numerator, denominator = 10**9, 1 << power
                else:
                    numerator, denominator = 10 ** max(0, 9 - power), 10 ** max(0, power - 9)
            elif code == 14 and len(value) == 8:  # if_tsoffset
                seconds = struct.unpack(f"{order}q", value)[0]
            elif code in {9, 14}:
                yield from self._trouble(offset, f"expected the value of option {code}, got {len(value)} bytes")
        interfaces.append(_Interface(link_type, snap_length, numerator, denominator, seconds * 10**9))


_LEAST = {_SECTION: 16, _INTERFACE: 8, _OLD_PACKET: 20, _SIMPLE_PACKET: 4, _PACKET: 20, _SECRETS: 8} | dict.fromkeys(
    _CUSTOM, 4
)
"""Bytes of the fixed part of a block's body."""


def _no_interface(number: int, known: int) -> str:
    return f"expected a packet of one of the {known} interfaces described before it, got one of interface {number}"


def _options(data: bytes, at: int, stop: int, order: str) -> Iterator[tuple[int, int, bytes]]:
    """Offset, code and value of each option (3.5); where they are broken, a code of -1 and what is wrong."""
    unpack = struct.Struct(f"{order}HH").unpack_from
    while at + 4 <= stop:
        code, size = unpack(data, at)
        if code == 0:
            return
        if at + 4 + size > stop:
            text = f"expected an option of at most {stop - at - 4} bytes, got {size} (code {code})"
            yield at, -1, text.encode("ascii")
            return
        yield at, code, data[at + 4 : at + 4 + size]
        at += 4 + size + (-size & 3)

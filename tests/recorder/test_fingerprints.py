"""JA3, JA3S and JA4 against pairs that their authors and others have published."""

from __future__ import annotations

import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from countersign.recorder.wire import extensions as e
from countersign.recorder.wire.extensions import Extension, UnknownExtension
from countersign.recorder.wire.fingerprints import ja3, ja3_text, ja3s, ja3s_text, ja4
from countersign.recorder.wire.messages import ClientHello, ServerHello, Sslv2ClientHello
from countersign.recorder.wire.reading import summarize_client_hello
from tests.recorder.transcripts import NAMES, hello, reading, transcript

if TYPE_CHECKING:
    from pathlib import Path


def numbers(text: str, base: int, separator: str) -> tuple[int, ...]:
    return tuple(int(one, base) for one in text.split(separator) if one)


def hello_from(
    version: int,
    suites: tuple[int, ...],
    codes: tuple[int, ...],
    *,
    schemes: tuple[int, ...] = (),
    groups: tuple[int, ...] = (),
    formats: tuple[int, ...] = (),
    alpn: tuple[bytes, ...] = (),
    versions: tuple[int, ...] = (),
) -> ClientHello:
    """A hello with these extensions in this order, those that a fingerprint looks into filled."""
    known: dict[int, Extension] = {
        10: e.SupportedGroups(groups),
        11: e.EcPointFormats(formats),
        13: e.SignatureAlgorithms(schemes),
        16: e.Alpn(alpn),
        43: e.SupportedVersions(versions),
    }
    return hello([known.get(code) or UnknownExtension(code, b"") for code in codes], suites=suites, version=version)


# Published with their hashes in the README of salesforce/ja3.
@pytest.mark.parametrize(
    ("text", "digest"),
    [
        (
            "769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0",
            "ada70206e40642a3e4461f35503241d5",
        ),
        ("769,4-5-10-9-100-98-3-6-19-18-99,,,", "de350869b8c85de67a350c8d186f11e6"),
        (  # Chrome 143 at browserleaks.com
            (
                "771,4865-4866-4867-49195-49199-49196-49200-52393-52392-49171-49172-156-157-47-53,"
                "45-51-16-65037-23-17613-0-11-10-43-65281-35-18-5-13-27,4588-29-23-24,0"
            ),
            "98487aa16281980e7d1120d399efb6a4",
        ),
    ],
)
def test_ja3_is_what_was_published(text: str, digest: str) -> None:
    version, suites, codes, groups, formats = (numbers(part, 10, "-") for part in text.split(","))
    made = hello_from(version[0], suites, codes, groups=groups, formats=formats)
    assert ja3_text(made) == text
    assert ja3(made) == digest


def test_ja3_leaves_grease_out_wherever_it_is() -> None:
    made = hello_from(0x0303, (0x0A0A, 0x1301), (0x1A1A, 10, 11), groups=(0x2A2A, 29), formats=(0,))
    assert ja3_text(made) == "771,4865,10-11,29,0"


def test_ja3s_is_what_was_published() -> None:
    extensions = tuple(UnknownExtension(code, b"") for code in (65281, 0, 11, 35, 5, 16))
    answer = ServerHello(0x0301, bytes(32), b"", 47, 0, extensions)
    assert ja3s_text(answer) == "769,47,65281-0-11-35-5-16"
    assert ja3s(answer) == "836ce314215654b5b1f85f97c73e506f"
    assert ja3s_text(ServerHello(0x0301, bytes(32), b"", 47, 0, None)) == "769,47,"


CHROME_SUITES = "1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"
CHROME_SCHEMES = "0403,0804,0401,0503,0805,0501,0806,0601"


@pytest.mark.parametrize(
    ("suites", "codes", "schemes", "expected"),
    [
        (  # technical_details/JA4.md of FoxIO-LLC/ja4
            CHROME_SUITES,
            "001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015",
            CHROME_SCHEMES,
            "t13d1516h2_8daaf6152771_e5627efa2ab1",
        ),
        (  # Chrome 143 at browserleaks.com
            CHROME_SUITES,
            "002d,0033,0010,fe0d,0017,44cd,0000,000b,000a,002b,ff01,0023,0012,0005,000d,001b",
            CHROME_SCHEMES,
            "t13d1516h2_8daaf6152771_d8a2da3f94cd",
        ),
    ],
)
def test_ja4_is_what_was_published(suites: str, codes: str, schemes: str, expected: str) -> None:
    made = hello_from(
        0x0303,
        (0x3A3A, *numbers(suites, 16, ",")),
        (0x4A4A, *numbers(codes, 16, ","), 0xDADA),
        schemes=numbers(schemes, 16, ","),
        alpn=(b"h2", b"http/1.1"),
        versions=(0x6A6A, 0x0304, 0x0303),
    )
    assert ja4(made) == expected
    assert ja4(made, transport="q") == "q" + expected[1:]
    assert summarize_client_hello(made.build()).ja4 == expected


def test_ja4_does_not_depend_on_the_order_of_suites_and_extensions_but_on_that_of_schemes() -> None:
    one = hello_from(0x0303, (0x1301, 0x1302), (10, 13, 11), schemes=(0x0403, 0x0804))
    other = hello_from(0x0303, (0x1302, 0x1301), (11, 10, 13), schemes=(0x0403, 0x0804))
    third = hello_from(0x0303, (0x1302, 0x1301), (11, 10, 13), schemes=(0x0804, 0x0403))
    assert ja4(one) == ja4(other) != ja4(third)


@pytest.mark.parametrize(
    ("protocol", "ends"),
    [  # technical_details/JA4.md
        (b"h2", "h2"),
        (b"http/1.1", "h1"),
        (b"h", "hh"),
        (b"\xab", "ab"),
        (b"\xab\xcd", "ad"),
        (b"\x30\xab", "3b"),
        (b"\x30\x31\xab\xcd", "3d"),
        (b"\x30\xab\xcd\x31", "01"),
    ],
)
def test_ja4_shows_the_ends_of_the_first_protocol(protocol: bytes, ends: str) -> None:
    assert ja4(hello_from(0x0303, (1,), (16,), alpn=(protocol, b"zz")))[8:10] == ends


def test_ja4_without_a_protocol_a_name_suites_or_extensions_says_so() -> None:
    assert ja4(hello(None, suites=())) == "t12i000000_000000000000_000000000000"
    assert ja4(hello((), suites=(0x0A0A,))) == "t12i000000_000000000000_000000000000"


@pytest.mark.parametrize(
    ("legacy", "versions", "expected"),
    [
        (0x0304, (), "13"),
        (0x0302, (), "11"),
        (0x0301, (), "10"),
        (0x0300, (), "s3"),
        (0x0303, (0x0A0A, 0x0302, 0x0304), "13"),
        (0x0303, (0x0A0A,), "12"),
        (0x0505, (), "00"),
    ],
)
def test_ja4_shows_the_highest_version(legacy: int, versions: tuple[int, ...], expected: str) -> None:
    assert ja4(hello_from(legacy, (1,), (43,) if versions else (), versions=versions))[1:3] == expected


def test_ja4_counts_to_99() -> None:
    made = hello_from(0x0303, tuple(range(1, 120)), tuple(range(1000, 1120)))
    assert ja4(made)[4:8] == "9999"


def test_ja4_of_a_hello_in_the_form_of_sslv2() -> None:
    assert ja4(Sslv2ClientHello(1, 0x0002, (0x2F, 0x010080), b"", bytes(16))).startswith("ts2i010000_")


def pcap(path: Path, flights: list[tuple[bytes, bytes]]) -> None:
    """Two hellos a connection, each in a record, a segment and a raw IPv4 packet of its own."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
        for number, hellos in enumerate(flights):
            sequence = [1, 1]
            for side, raw in enumerate(hellos):
                record = b"\x16\x03\x01" + len(raw).to_bytes(2, "big") + raw
                ports = (20000 + number, 443) if side == 0 else (443, 20000 + number)
                tcp = struct.pack(">HHIIBBHHH", *ports, sequence[side], sequence[1 - side], 0x50, 0x18, 65535, 0, 0)
                sequence[side] += len(record)
                ends = (b"\x0a\0\0\1", b"\x0a\0\0\2")
                ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40 + len(record), 0, 0, 64, 6, 0, ends[side], ends[1 - side])
                packet = ip + tcp + record
                file.write(struct.pack("<IIII", number, side, len(packet), len(packet)) + packet)


@pytest.mark.peer("tshark")
def test_tshark_sees_the_same_fingerprints_suites_and_extensions(tmp_path: Path) -> None:
    told = [name for name in NAMES if reading(name).messages[1].type == "server_hello"]
    pcap(tmp_path / "hellos.pcap", [(transcript(name)[0].raw, transcript(name)[1].raw) for name in told])
    wanted = ("ja3", "ja3s", "ciphersuite", "extension.type")
    fields = [part for field in wanted for part in ("-e", f"tls.handshake.{field}")]
    done = subprocess.run(
        ["tshark", "-r", str(tmp_path / "hellos.pcap"), "-T", "fields", *fields],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(lines) == 2 * len(told)
    for name, client, server in zip(told, lines[::2], lines[1::2], strict=True):
        read = reading(name)
        assert (client[0], server[1]) == (read.ja3, read.ja3s)
        for said, one in ((client, read.messages[0].value), (server, read.messages[1].value)):
            assert isinstance(one, ClientHello | ServerHello)
            suites = one.cipher_suites if isinstance(one, ClientHello) else (one.cipher_suite,)
            assert tuple(int(suite, 0) for suite in said[2].split(",")) == suites
            assert [int(code, 0) for code in said[3].split(",")] == [each.code for each in one.extensions or ()]

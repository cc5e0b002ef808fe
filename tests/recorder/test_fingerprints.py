"""JA3, JA3S and JA4 against pairs that their authors and others have published."""

from __future__ import annotations

import pytest

from countersign.recorder.wire import extensions as e
from countersign.recorder.wire.extensions import Extension, UnknownExtension
from countersign.recorder.wire.fingerprints import ja3, ja3_text, ja3s, ja3s_text, ja4
from countersign.recorder.wire.messages import ClientHello, ServerHello, Sslv2ClientHello
from countersign.recorder.wire.reading import summarize_client_hello
from tests.recorder.transcripts import hello


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
            "771,4865-4866-4867-49195-49199-49196-49200-52393-52392-49171-49172-156-157-47-53,"
            "45-51-16-65037-23-17613-0-11-10-43-65281-35-18-5-13-27,4588-29-23-24,0",
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


def test_ja3s_hashes_version_suite_and_extensions() -> None:
    answer = ServerHello(0x0301, bytes(32), b"", 47, 0, (UnknownExtension(65281, b"\0"), UnknownExtension(0, b"")))
    assert ja3s_text(answer) == "769,47,65281-0"
    bare = ServerHello(0x0301, bytes(32), b"", 47, 0, None)
    assert ja3s_text(bare) == "769,47,"
    assert ja3s(bare) == "4192c0a946c5bd9b544b4656d9f624a4"


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

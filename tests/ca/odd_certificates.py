"""Certificates that are odd on purpose, each in one named way, and as many broken ones as asked for."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, NotRequired, TypedDict, Unpack

from countersign.ca import assemble, keys
from countersign.ca.signer import Signer
from countersign.recorder import der

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Fields(TypedDict):
    """What :func:`certificate` may be told to put in place of the right thing."""

    version: NotRequired[bytes]
    serial: int
    issuer: bytes
    validity: bytes
    subject: bytes
    public_key: bytes
    extensions: NotRequired[list[bytes]]
    before_extensions: NotRequired[list[bytes]]


class SomeFields(TypedDict, total=False):
    """Any of :class:`Fields`."""

    version: bytes
    serial: int
    issuer: bytes
    validity: bytes
    subject: bytes
    public_key: bytes
    extensions: list[bytes]
    before_extensions: list[bytes]


@cache
def signer(kind: str = "EC P-256") -> Signer:
    return Signer.of(keys.generate(kind))


def certificate(kind: str = "EC P-256", **fields: Unpack[SomeFields]) -> bytes:
    """A self-signed certificate of ``odd.test`` that is right but for ``fields``."""
    key = signer(kind)
    name = assemble.name_der(O="Odd", CN="odd.test")
    right = Fields(
        serial=0x1234,
        issuer=name,
        validity=assemble.validity_der(NOW - timedelta(hours=12), NOW + timedelta(days=80)),
        subject=name,
        public_key=key.public_key,
        extensions=[san(dns("odd.test"), dns("*.odd.test"), der.encode(0x87, bytes((10, 0, 0, 1))))],
    )
    right.update(fields)
    return assemble.assemble(key, **right)


def san(*names: bytes) -> bytes:
    return assemble.extension(assemble.SAN, der.encode(der.SEQUENCE, *names))


def dns(name: str | bytes) -> bytes:
    return der.encode(0x82, name.encode() if isinstance(name, str) else name)


def subject(value: bytes, tag: int = 0x0C, oid: str = "2.5.4.3") -> bytes:
    attribute = der.encode(der.SEQUENCE, der.encode_oid(oid), der.encode(tag, value))
    return der.encode(der.SEQUENCE, der.encode(der.SET, attribute))


def dates(not_before: bytes, not_after: bytes = b"270101000000Z", tag: int = der.UTC_TIME) -> bytes:
    return der.encode(der.SEQUENCE, der.encode(tag, not_before), der.encode(der.UTC_TIME, not_after))


def key_of(oid: str, parameters: bytes = b"", bits: bytes = bytes(64)) -> bytes:
    algorithm = der.encode(der.SEQUENCE, der.encode_oid(oid), parameters)
    return der.encode(der.SEQUENCE, algorithm, der.encode(der.BIT_STRING, b"\x00", bits))


def rsa_key(size: int, exponent: int = 65537) -> bytes:
    modulus = der.encode_integer((1 << (size - 1)) | 1)
    inside = der.encode(der.SEQUENCE, modulus, der.encode_integer(exponent))
    return key_of("1.2.840.113549.1.1.1", b"\x05\x00", inside)


def many_names(count: int = 10_000) -> bytes:
    return certificate(extensions=[san(*(dns(f"host-{number}.odd.test") for number in range(count)))])


@cache
def odd() -> dict[str, bytes]:
    """Each with the one thing that is odd about it."""
    key = signer()
    right = san(dns("odd.test"))
    explicit = der.encode(der.SEQUENCE, der.encode_integer(1), der.encode(der.SEQUENCE, der.encode_integer(1 << 256)))
    return {
        "version 1": certificate(version=b"", extensions=[]),
        "version 1 with extensions": certificate(version=b""),
        "version 2": certificate(version=der.encode(0xA0, der.encode_integer(1)), extensions=[]),
        "version 99": certificate(version=der.encode(0xA0, der.encode_integer(98))),
        "version that is text": certificate(version=der.encode(0xA0, der.encode(0x0C, b"3"))),
        "negative serial": certificate(serial=-(1 << 100)),
        "serial zero": certificate(serial=0),
        "serial of 21 bytes": certificate(serial=1 << 161),
        "serial of 5000 bytes": certificate(serial=1 << 40_000),
        "empty subject": certificate(subject=der.encode(der.SEQUENCE)),
        "subject that is no sequence": certificate(subject=b"\x05\x00"),
        "NUL in the name": certificate(subject=subject(b"good.test\x00.evil.test")),
        "escapes in the name": certificate(subject=subject(b"\x1b]52;c;ZXZpbA==\x07\x1b[31mred\r\n")),
        "C1 and bidi in the name": certificate(subject=subject("a\u202egnp.exe\x9b31m\u200b".encode())),
        "markup in the name": certificate(subject=subject(b"<img src=x onerror=alert(1)>")),
        "UTF-8 that is none": certificate(subject=subject(b"caf\xe9\xff")),
        "PrintableString that is none": certificate(subject=subject(b"caf\xe9@*", 0x13)),
        "TeletexString": certificate(subject=subject(b"M\xfcller", 0x14)),
        "BMPString": certificate(subject=subject("Zürich".encode("utf-16-be"), 0x1E)),
        "BMPString of odd length": certificate(subject=subject(b"\x00a\x00", 0x1E)),
        "UniversalString out of range": certificate(subject=subject(b"\xff\xff\xff\xff", 0x1C)),
        "name that is a number": certificate(subject=subject(b"\x01", der.INTEGER)),
        "unknown attribute": certificate(subject=subject(b"what", oid="1.2.3.4.5.6")),
        "country of three letters": certificate(subject=subject(b"USA", 0x13, "2.5.4.6")),
        "name of 100000 letters": certificate(subject=subject(b"a" * 100_000)),
        "month 13": certificate(validity=dates(b"261301000000Z")),
        "no seconds": certificate(validity=dates(b"2601010000Z")),
        "offset from UTC": certificate(validity=dates(b"260101000000+0100")),
        "time that is text": certificate(validity=dates(b"yesterday")),
        "empty time": certificate(validity=dates(b"")),
        "time of another tag": certificate(validity=dates(b"260101000000Z", tag=0x0C)),
        "fraction of a second": certificate(validity=dates(b"20260101000000.5Z", tag=der.GENERALIZED_TIME)),
        "GeneralizedTime before 2050": certificate(validity=dates(b"20260101000000Z", tag=der.GENERALIZED_TIME)),
        "year 0": certificate(validity=dates(b"00000101000000Z", tag=der.GENERALIZED_TIME)),
        "validity of one date": certificate(validity=der.encode(der.SEQUENCE, der.encode(0x17, b"260101000000Z"))),
        "reversed validity": certificate(validity=dates(b"270101000000Z", b"260101000000Z")),
        "year 9999": certificate(
            validity=assemble.validity_der(NOW, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ),
        "two alternative names": certificate(extensions=[right, right]),
        "empty alternative name": certificate(extensions=[san()]),
        "alternative name that is garbage": certificate(extensions=[assemble.extension(assemble.SAN, b"\xff\xff")]),
        "alternative name with a tail": certificate(
            extensions=[assemble.extension(assemble.SAN, der.encode(der.SEQUENCE, dns("odd.test")) + b"\x05\x00")]
        ),
        "NUL in the alternative name": certificate(extensions=[san(dns("good.test\x00.evil.test"))]),
        "alternative name in Latin-1": certificate(extensions=[san(dns(b"caf\xe9.test"))]),
        "IP address of 5 bytes": certificate(extensions=[san(der.encode(0x87, bytes(5)))]),
        "other kinds of names": certificate(
            extensions=[
                san(
                    der.encode(0x81, b"a@odd.test"),
                    der.encode(0x86, b"https://odd.test/\x1b[0m"),
                    der.encode(0x88, der.encode_oid("1.2.3.4")[2:]),
                    der.encode(0xA4, assemble.name_der(CN="dir, name")),
                    der.encode(
                        0xA0, der.encode_oid("1.3.6.1.4.1.311.20.2.3"), der.encode(0xA0, der.encode(0xC, b"upn"))
                    ),
                    der.encode(0xA3, b"\x30\x00"),
                    der.encode(0xA5, b"\x30\x00"),
                    der.encode(0x99, b"?"),
                )
            ]
        ),
        "unknown critical extension": certificate(
            extensions=[right, assemble.extension("1.2.3.4.5", b"\x05\x00", critical=True)]
        ),
        "poison": certificate(
            extensions=[right, assemble.extension("1.3.6.1.4.1.11129.2.4.3", b"\x05\x00", critical=True)]
        ),
        "300 extensions": certificate(extensions=[assemble.extension(f"1.2.3.{n}", b"") for n in range(300)]),
        "extension that is a number": certificate(extensions=[der.encode_integer(1)]),
        "extension of one part": certificate(extensions=[der.encode(der.SEQUENCE, der.encode_oid("2.5.29.17"))]),
        **{
            f"{name} that is garbage": certificate(extensions=[right, assemble.extension(oid, b"\x30\x03\x02\x01")])
            for name, oid in (
                ("basic constraints", "2.5.29.19"),
                ("key usage", "2.5.29.15"),
                ("extended key usage", "2.5.29.37"),
                ("SKI", "2.5.29.14"),
                ("AKI", "2.5.29.35"),
                ("AIA", "1.3.6.1.5.5.7.1.1"),
                ("CRL points", "2.5.29.31"),
                ("TLS feature", "1.3.6.1.5.5.7.1.24"),
                ("SCT list", "1.3.6.1.4.1.11129.2.4.2"),
            )
        },
        "CA as a leaf": certificate(
            extensions=[right, assemble.basic_constraints(path_length=0), assemble.key_usage(["keyCertSign"])]
        ),
        "unique identifiers": certificate(before_extensions=[b"\x81\x02\x00\x01", b"\x82\x02\x00\x02"]),
        "RSA 16384": certificate(public_key=rsa_key(16384)),
        "RSA 16384 self-signed": certificate(public_key=rsa_key(16384), subject=assemble.name_der(CN="x")),
        "RSA 512": certificate(public_key=rsa_key(512)),
        "RSA 2047": certificate(public_key=rsa_key(2047)),
        "RSA of exponent 0": certificate(public_key=rsa_key(2048, 0)),
        "RSA of a long exponent": certificate(public_key=rsa_key(2048, 1 << 2000 | 1)),
        "RSA without a modulus": certificate(public_key=key_of("1.2.840.113549.1.1.1")),
        "RSA-PSS key": certificate(public_key=rsa_key(2048).replace(b"\x01\x01\x01\x05\x00", b"\x01\x01\x0a\x05\x00")),
        "explicit curve": certificate(public_key=key_of("1.2.840.10045.2.1", explicit)),
        "point off the curve": certificate(public_key=key.public_key[:-8] + bytes(8)),
        "curve of another number": certificate(public_key=key_of("1.2.840.10045.2.1", der.encode_oid("1.3.132.0.1"))),
        "DSA": certificate(
            public_key=key_of("1.2.840.10040.4.1", der.encode(der.SEQUENCE, der.encode_integer(1 << 1023)))
        ),
        "GOST": certificate(public_key=key_of("1.2.643.7.1.1.1.1")),
        "ML-DSA-65": certificate(public_key=key_of("2.16.840.1.101.3.4.3.18")),
        "unknown key": certificate(public_key=key_of("1.2.3.4")),
        "key that is garbage": certificate(public_key=b"\x30\x02\x05\x00"),
        "10,000 alternative names": many_names(),
        "no certificate": b"not a certificate",
        "nothing": b"",
        "only a header": b"\x30\x84\xff\xff\xff\xff",
        "indefinite length": b"\x30\x80\x30\x80\x00\x00\x00\x00",
        "deep nesting": b"\x30\x82\x10\x00" * 2000,
        "too large": certificate(subject=subject(b"a" * (1 << 20))),
    }


def broken(count: int, seed: int = 16) -> Iterator[bytes]:
    """``count`` certificates broken at random, but the same ones each time: bits, cuts, lengths, pieces moved."""
    # S311 is not at stake: nothing here is a secret.
    chance = random.Random(seed)
    whole = [
        certificate(kind, extensions=[*_all_extensions(), san(dns("odd.test"), der.encode(0x87, bytes(4)))])
        for kind in ("EC P-256", "RSA 2048", "Ed25519")
    ]
    whole += [each for each in odd().values() if 0 < len(each) < 3000]
    for _ in range(count):
        data = bytearray(chance.choice(whole))
        for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
            at = chance.randrange(len(data))
            match chance.randrange(6):
                case 0:
                    data[at] ^= 1 << chance.randrange(8)
                case 1:
                    data[at] = chance.randrange(256)
                case 2:
                    del data[at : at + chance.randrange(1, 8)]
                case 3:
                    data[at:at] = chance.randbytes(chance.randrange(1, 8))
                case 4:
                    data[at:] = data[at : at + chance.randrange(len(data))]
                case _:
                    data[at] = chance.choice((0x00, 0x80, 0xFF, 0x30, 0x1F, 0x7F))
            if not data:
                break
        yield bytes(data)


_AN_SCT = bytes.fromhex("0031002f00") + bytes(40) + bytes.fromhex("000004030000")  # RFC 6962 3.2, 3.3


def _all_extensions() -> list[bytes]:
    place = der.encode(0x86, b"http://odd.test/")
    described = der.encode(der.SEQUENCE, der.encode_oid("1.3.6.1.5.5.7.48.1"), place)
    point = der.encode(der.SEQUENCE, der.encode(0xA0, der.encode(0xA0, place)))
    return [
        assemble.basic_constraints(path_length=3),
        assemble.key_usage(["digitalSignature", "keyEncipherment"]),
        assemble.subject_key_identifier(bytes(20)),
        assemble.authority_key_identifier(bytes(20)),
        assemble.extension("2.5.29.37", der.encode(der.SEQUENCE, der.encode_oid("1.3.6.1.5.5.7.3.1"))),
        assemble.extension("1.3.6.1.5.5.7.1.1", der.encode(der.SEQUENCE, described)),
        assemble.extension("2.5.29.31", der.encode(der.SEQUENCE, point)),
        assemble.extension("2.5.29.46", der.encode(der.SEQUENCE, point)),
        assemble.extension("1.3.6.1.5.5.7.1.24", der.encode(der.SEQUENCE, der.encode_integer(5))),
        assemble.extension("1.3.6.1.4.1.11129.2.4.2", der.encode(der.OCTET_STRING, _AN_SCT)),
        assemble.name_constraints(["odd.test"]),
    ]


def whole() -> bytes:
    """One with every extension that is read."""
    return certificate(extensions=_all_extensions())

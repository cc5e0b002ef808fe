"""The fields that certificates and what is said about them have in common: names, times, numbers, text.

Each is read for itself, so that one which cannot be read leaves the others alone: :class:`Reading` collects what was
read and, in sentences, what was wrong. Text is made safe to show, and long text is clipped.

RFC 5280 is meant wherever only a section is cited.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from countersign.recorder import der as asn1
from countersign.recorder.der import DerError, Piece
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KEPT = 100
"""How many entries of a list are kept."""

_LONGEST_TEXT = 512
_LONGEST_NUMBER = 64


@dataclass(slots=True)
class Reading:
    """Facts and problems in the making."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def problem(self, name: str, what: object) -> None:
        self.problems.append(f"{name}: {what}")

    def field(self, name: str, read: Callable[[], Any]) -> None:
        """Read one field; what is wrong with it stays with it."""
        try:
            self.facts[name] = read()
        except DerError as wrong:
            self.problem(name, wrong)


def read_serial(serial: bytes, reading: Reading) -> str:
    """A CertificateSerialNumber in hexadecimal, with a minus sign where it is negative."""
    body = asn1.first_piece(serial).expect(asn1.INTEGER, "a serial number").body
    if not body:
        raise DerError("a number of no bytes")
    if len(body) > 20:  # 4.1.2.2
        reading.problem("serial", f"{len(body)} bytes where at most 20 are allowed")
    if len(body) > _LONGEST_NUMBER:
        return f"{body[:_LONGEST_NUMBER].hex()}... ({len(body)} bytes)"
    value = int.from_bytes(body, signed=True)
    if value <= 0:
        reading.problem("serial", "negative" if value else "zero")
    digits = f"{abs(value):x}"
    return ("-" if value < 0 else "") + digits.rjust(len(digits) + len(digits) % 2, "0")


def read_time(piece: Piece) -> tuple[datetime, str]:
    """One date and what is doubtful about its form (4.1.2.5.1, 4.1.2.5.2)."""
    if piece.tag not in {asn1.UTC_TIME, asn1.GENERALIZED_TIME}:
        raise DerError(f"expected a time, got tag 0x{piece.tag:02x}")
    body = piece.body[:40]
    short = piece.tag == asn1.UTC_TIME
    shown = printable(body.decode("latin-1"))
    split = _split_time(body, short=short)
    if split is None:
        raise DerError(f"expected {'YYMMDDHHMMSSZ' if short else 'YYYYMMDDHHMMSSZ'}, got '{shown}'")
    year, digits, strict = split
    try:
        month, day, hour, minute, second = (int(digits[i : i + 2]) for i in range(0, 10, 2))
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as wrong:
        raise DerError(f"expected a date that exists, got '{shown}' ({wrong})") from wrong
    if not strict:
        return moment, f"'{shown}' is not in the form that DER allows"
    return moment, ""


def shown_time(moment: datetime) -> str:
    """A date of this project's JSON: RFC 3339 in UTC, to the second."""
    return f"{moment.replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def _split_time(body: bytes, *, short: bool) -> tuple[int, bytes, bool] | None:
    """The year, ``MMDDHHMMSS`` and whether the form is DER's; an offset from UTC is not taken for a date."""
    width = 2 if short else 4
    zone = body[-1:] == b"Z"
    digits, _, fraction = (body[:-1] if zone else body).replace(b",", b".").partition(b".")
    if not digits.isdigit() or len(digits) not in {width + 8, width + 10} or (fraction and not fraction.isdigit()):
        return None
    strict = zone and len(digits) == width + 10 and not fraction and b"." not in body and b"," not in body
    year = int(digits[:width])
    if short:
        year += 1900 if year >= 50 else 2000
    return year, digits[width:].ljust(10, b"0"), strict


# -- names -------------------------------------------------------------------------------------------------------


def read_name(name: bytes, which: str, reading: Reading) -> str:
    """A Name as RFC 4514 writes it, last part first; an unknown attribute keeps its number."""
    relative: list[str] = []
    for rdn in asn1.children(name, "a Name"):
        body = rdn.expect(asn1.SET, "a RelativeDistinguishedName").body
        values: list[str] = []
        for attribute in asn1.at_most(KEPT, body, "a RelativeDistinguishedName"):
            oid, value = asn1.exactly(2, attribute.expect(asn1.SEQUENCE, "an attribute").body, "an attribute")
            dotted = asn1.decode_oid(oid.expect(asn1.OID, "an attribute's type").body)
            values.append(f"{_ATTRIBUTES.get(dotted, dotted)}={_attribute(value, which, reading)}")
        relative.append("+".join(values))
    return ",".join(reversed(relative))


def name_text(relative: Iterable[Iterable[tuple[str, str]]]) -> str:
    """What :func:`read_name` would say of a Name that was read from a text.

    Each relative name is its attributes, the last part of the Name first; an attribute's type is its number in dots, or
    one of the short names that stand for them here.
    """
    return ",".join(
        "+".join(f"{_ATTRIBUTES.get(kind, kind)}={_rfc4514(clipped(value))}" for kind, value in one) for one in relative
    )


def _attribute(value: Piece, which: str, reading: Reading) -> str:
    encoding = _STRINGS.get(value.tag)
    if encoding is None:
        return f"#{clipped(value.raw[:_LONGEST_TEXT].hex())}"
    try:
        text = value.body.decode(encoding)
    except UnicodeDecodeError:
        reading.problem(which, f"text that is not the {encoding} it claims to be")
        text = value.body.decode("utf-8" if encoding == "utf-8" else "latin-1", "surrogateescape")
        text = "".join(chr(ord(char) - 0xDC00) if "\udc80" <= char <= "\udcff" else char for char in text)
    return _rfc4514(clipped(text))


def _rfc4514(text: str) -> str:
    """RFC 4514 2.4, with the escapes of this module for what is not printable."""
    safe = printable(re.sub(r'(["+,;<>\\])', r"\\\1", text))
    if safe[:1] in {" ", "#"}:
        safe = "\\" + safe
    if safe[-1:] == " " and len(safe) > 1 and safe != "\\ ":
        safe = safe[:-1] + "\\ "
    return safe


def clipped(text: str) -> str:
    """The first 512 characters, and how many more there were."""
    extra = len(text) - _LONGEST_TEXT
    return text if extra <= 0 else f"{text[:_LONGEST_TEXT]}... ({extra} more)"


def read_text(body: bytes) -> str:
    """What should be ASCII, with what is not and real backslashes escaped."""
    return printable(clipped(body.decode("latin-1")).replace("\\", "\\\\"), ascii_only=True)


def general_name(piece: Piece, which: str, reading: Reading) -> str:
    """One GeneralName (4.2.1.6) with the prefix that OpenSSL gives it."""
    match piece.tag:
        case 0x81:
            return f"email:{read_text(piece.body)}"
        case 0x82:
            return f"DNS:{read_text(piece.body)}"
        case 0x86:
            return f"URI:{read_text(piece.body)}"
        case 0x87 if len(piece.body) in {4, 16}:
            return f"IP:{ipaddress.ip_address(piece.body)}"
        case 0x87:
            reading.problem(which, f"an IP address of {len(piece.body)} bytes")
            return f"IP:#{clipped(piece.body[:_LONGEST_TEXT].hex())}"
        case 0x88:
            return f"RID:{asn1.decode_oid(piece.body)}"
        case 0xA4:
            return f"dirName:{read_name(piece.body, which, reading)}"
        case 0xA0:
            return f"otherName:{_other_name(piece.body)}"
        case _:
            reading.problem(which, f"a name of a kind that is not read (tag 0x{piece.tag:02x})")
            return f"#{clipped(piece.raw[:_LONGEST_TEXT].hex())}"


def _other_name(body: bytes) -> str:
    oid, value = asn1.exactly(2, body, "an otherName")
    inner = asn1.first_piece(value.body)
    encoding = _STRINGS.get(inner.tag)
    dotted = asn1.decode_oid(oid.body)
    if encoding is None:
        return f"{dotted}:#{clipped(inner.raw[:_LONGEST_TEXT].hex())}"
    return f"{dotted}:{printable(clipped(inner.body.decode(encoding, 'replace')).replace(chr(92), chr(92) * 2))}"


_STRINGS = {
    0x0C: "utf-8", 0x12: "ascii", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1A: "ascii", 0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}  # fmt: skip

_ATTRIBUTES = {
    "2.5.4.3": "CN", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.6": "C",
    "2.5.4.9": "STREET", "0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
    "1.2.840.113549.1.9.1": "emailAddress", "2.5.4.5": "serialNumber", "2.5.4.4": "SN", "2.5.4.42": "GN",
    "2.5.4.12": "title", "2.5.4.17": "postalCode", "2.5.4.15": "businessCategory", "2.5.4.46": "dnQualifier",
    "2.5.4.65": "pseudonym", "2.5.4.97": "organizationIdentifier", "1.2.840.113549.1.9.2": "unstructuredName",
    "1.3.6.1.4.1.311.60.2.1.1": "jurisdictionL", "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionST",
    "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionC",
}  # fmt: skip

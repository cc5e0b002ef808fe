"""Pieces of certificates from words: names, alternative names, usages, places to ask about revocation.

What users and recipes write is text; what :mod:`countersign.ca.assemble` takes is DER. In between is this module, with
one function a piece. Text is taken at its word: ``dns:127.0.0.1`` is an address in a dNSName, a NUL or an escape
sequence in a name goes into the certificate as it is. What cannot be said in words is said in DER. A word that means
nothing is a :class:`~countersign.errors.UserError`.

RFC 5280 is meant wherever only a section is cited.
"""

from __future__ import annotations

import ipaddress
import os
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from countersign.ca import assemble
from countersign.errors import UserError
from countersign.recorder import der
from countersign.recorder.certificates import KEY_USAGES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from countersign.ca.randomness import Rng

EXTENSIONS = {
    "san": assemble.SAN,
    "basic_constraints": assemble.BASIC_CONSTRAINTS,
    "key_usage": assemble.KEY_USAGE,
    "extended_key_usage": assemble.EXTENDED_KEY_USAGE,
    "ski": assemble.SKI,
    "aki": assemble.AKI,
    "name_constraints": assemble.NAME_CONSTRAINTS,
    "policies": "2.5.29.32",
    "aia": "1.3.6.1.5.5.7.1.1",
    "crl": "2.5.29.31",
    "must_staple": "1.3.6.1.5.5.7.1.24",
    "scts": "1.3.6.1.4.1.11129.2.4.2",
}
"""The extensions that have a word of their own; they stand in a certificate in this order."""

PURPOSES = {
    "serverAuth": "1.3.6.1.5.5.7.3.1",
    "clientAuth": "1.3.6.1.5.5.7.3.2",
    "codeSigning": "1.3.6.1.5.5.7.3.3",
    "emailProtection": "1.3.6.1.5.5.7.3.4",
    "timeStamping": "1.3.6.1.5.5.7.3.8",
    "OCSPSigning": "1.3.6.1.5.5.7.3.9",
    "anyExtendedKeyUsage": "2.5.29.37.0",
}
_ATTRIBUTES = {
    "CN": "2.5.4.3",
    "SN": "2.5.4.4",
    "serialNumber": "2.5.4.5",
    "C": "2.5.4.6",
    "L": "2.5.4.7",
    "ST": "2.5.4.8",
    "STREET": "2.5.4.9",
    "O": "2.5.4.10",
    "OU": "2.5.4.11",
    "DC": "0.9.2342.19200300.100.1.25",
    "UID": "0.9.2342.19200300.100.1.1",
    "emailAddress": "1.2.840.113549.1.9.1",
}
_STRINGS = {
    "utf8": (0x0C, "utf-8"),
    "numeric": (0x12, "latin-1"),
    "printable": (0x13, "latin-1"),
    "teletex": (0x14, "latin-1"),
    "ia5": (0x16, "latin-1"),
    "universal": (0x1C, "utf-32-be"),
    "bmp": (0x1E, "utf-16-be"),
}
_USUAL_STRING = {"C": "printable", "serialNumber": "printable", "DC": "ia5", "emailAddress": "ia5"}  # A.1
_ATTRIBUTE = re.compile(r"(?P<kind>[A-Za-z]+|[0-9]+(?:\.[0-9]+)+)(?::(?P<string>[a-z0-9]+))?=(?P<value>.*)", re.DOTALL)
_DOTTED = re.compile(r"[012](\.(0|[1-9][0-9]{0,38})){1,100}")  # 128 bits, as of a UUID (X.667)


def dotted(text: str, what: str) -> str:
    """``text`` if it is an object identifier in numbers. Raises :class:`UserError`."""
    if not _DOTTED.fullmatch(text):
        raise UserError(f"cannot take {text[:60]!r} for {what}: expected numbers with dots (1.2.3.4)")
    return text


def name(attributes: Iterable[str]) -> bytes:
    """A Name (4.1.2.4) of ``CN=host`` and the like, in the order given; ``CN:bmp=host`` picks the type of string."""
    return der.encode(der.SEQUENCE, *map(_attribute, attributes))


def _attribute(text: str) -> bytes:
    found = _ATTRIBUTE.fullmatch(text)
    kind = found["kind"] if found else ""
    oid = _ATTRIBUTES.get(kind) or (kind if _DOTTED.fullmatch(kind) else None)
    string = (found["string"] if found else None) or _USUAL_STRING.get(kind, "utf8")
    if found is None or oid is None or string not in _STRINGS:
        raise UserError(
            f"cannot take {text!r} for a part of a name: expected {', '.join(_ATTRIBUTES)} or numbers with dots, "
            f"a type of string if need be ({', '.join(_STRINGS)}), and a value: CN=host, O:printable=Example"
        )
    tag, encoding = _STRINGS[string]
    try:
        return assemble.attribute(oid, found["value"].encode(encoding), tag)
    except UnicodeEncodeError:
        raise UserError(f"cannot write {text!r} as {string}: it has characters that such a string has not") from None


def general_name(text: str) -> bytes:
    """A GeneralName (4.2.1.6): a host or an address, or with a word before it what the word says.

    The words are ``dns:``, ``ip:`` (``ip:#0a0000`` gives the bytes), ``email:``, ``uri:``, ``dirname:``, ``rid:`` and
    ``upn:`` (an otherName of Microsoft's).
    """
    kind, found, value = text.partition(":")
    match kind:
        case "dns" if found:
            return der.encode(0x82, value.encode())
        case "ip" if value.startswith("#"):
            return der.encode(0x87, _hex(value[1:], text))
        case "ip" if found:
            try:
                return der.encode(0x87, ipaddress.ip_address(value).packed)
            except ValueError:
                raise UserError(f"cannot take {text!r} for an address: expected ip:10.0.0.1 or ip:#0a000001") from None
        case "email" if found:
            return der.encode(0x81, value.encode())
        case "uri" if found:
            return der.encode(0x86, value.encode())
        case "dirname" if found:
            return der.encode(0xA4, name(value.split(",")))
        case "rid" if found:
            return der.encode(0x88, der.encode_oid(dotted(value, "an identifier"))[2:])
        case "upn" if found:
            principal = der.encode(0xA0, der.encode(0x0C, value.encode()))
            return der.encode(0xA0, der.encode_oid("1.3.6.1.4.1.311.20.2.3"), principal)
    try:
        return der.encode(0x87, ipaddress.ip_address(text).packed)
    except ValueError:
        return der.encode(0x82, text.encode())


def _hex(text: str, whole: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UserError(f"cannot read the bytes in {whole!r}: expected pairs of hexadecimal digits") from None


def alternative_names(names: Iterable[str]) -> bytes:
    """GeneralNames (4.2.1.6)."""
    return der.encode(der.SEQUENCE, *map(general_name, names))


def key_usage(names: Iterable[str]) -> bytes:
    """The value of a KeyUsage (4.2.1.3)."""
    names = tuple(names)
    if unknown := [each for each in names if each not in KEY_USAGES]:
        raise UserError(f"cannot take {unknown[0]!r} for a key usage: expected {', '.join(KEY_USAGES)}")
    return assemble.key_usage_value(names)


def extended_key_usage(purposes: Iterable[str]) -> bytes:
    """The value of an ExtKeyUsageSyntax (4.2.1.12), by name or number."""
    return der.encode(der.SEQUENCE, *(der.encode_oid(_purpose(each)) for each in purposes))


def _purpose(text: str) -> str:
    if text in PURPOSES or _DOTTED.fullmatch(text):
        return PURPOSES.get(text, text)
    raise UserError(f"cannot take {text!r} for a purpose: expected {', '.join(PURPOSES)} or numbers with dots")


def policies(oids: Iterable[str]) -> bytes:
    """CertificatePolicies without qualifiers (4.2.1.4)."""
    return der.encode(
        der.SEQUENCE, *(der.encode(der.SEQUENCE, der.encode_oid(dotted(oid, "a policy"))) for oid in oids)
    )


def authority_info_access(ocsp: Iterable[str], ca_issuers: Iterable[str]) -> bytes:
    """AuthorityInfoAccess (4.2.2.1)."""
    places = [("1.3.6.1.5.5.7.48.1", url) for url in ocsp] + [("1.3.6.1.5.5.7.48.2", url) for url in ca_issuers]
    return der.encode(
        der.SEQUENCE,
        *(der.encode(der.SEQUENCE, der.encode_oid(method), der.encode(0x86, url.encode())) for method, url in places),
    )


def crl_points(urls: Iterable[str]) -> bytes:
    """CRLDistributionPoints, one point for each URL (4.2.1.13)."""
    points = [der.encode(0xA0, der.encode(0xA0, der.encode(0x86, url.encode()))) for url in urls]
    return der.encode(der.SEQUENCE, *(der.encode(der.SEQUENCE, point) for point in points))


MUST_STAPLE = der.encode(der.SEQUENCE, der.encode_integer(5))
"""TLSFeature with status_request (RFC 7633 4.1)."""


def scts(count: int, moment: datetime, rng: Rng = os.urandom) -> bytes:
    """A SignedCertificateTimestampList (RFC 6962 3.3) of logs that do not exist: right in form, proof of nothing."""
    entries = b""
    for _ in range(count):
        signature = b"\x04\x03\x00\x47" + der.encode(
            der.SEQUENCE, b"\x02\x20\x01" + rng(31), b"\x02\x21\x00\xff" + rng(31)
        )
        entry = b"\x00" + rng(32) + int(moment.timestamp() * 1000).to_bytes(8) + b"\x00\x00" + signature
        entries += len(entry).to_bytes(2) + entry
    return der.encode(der.OCTET_STRING, len(entries).to_bytes(2) + entries)


# -- times -------------------------------------------------------------------------------------------------------

_SPAN = re.compile(r"(?P<sign>[+-])(?P<count>\d{1,6})(?P<unit>[smhdwy])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}


def moment(text: str, now: datetime) -> datetime | bytes:
    """A date: ``-1d`` and ``+2h`` from ``now`` (s, m, h, d, w, y), RFC 3339, or the very text of an encoded time.

    ``utc:491231235959Z`` and ``generalized:20261120000000Z`` are taken as they are, whatever they say (4.1.2.5).
    """
    kind, found, value = text.partition(":")
    if found and kind in {"utc", "generalized"}:
        return der.encode(der.UTC_TIME if kind == "utc" else der.GENERALIZED_TIME, value.encode())
    try:
        if span := _SPAN.fullmatch(text):
            seconds = int(span["count"]) * _UNITS[span["unit"]]
            return now + timedelta(seconds=-seconds if span["sign"] == "-" else seconds)
        given = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UserError(
            f"cannot take {text!r} for a date: expected -1d or +2h (s, m, h, d, w, y) from now, 2030-01-01T00:00:00Z, "
            "or the text of an encoded time: utc:300101000000Z, generalized:20300101000000Z"
        ) from None
    return given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC)

"""The names that Java prints for numbers of TLS, read back into the numbers.

They are not quite the registry's: the older suites are called ``SSL_...``, the signature algorithms of TLS 1.2 have the
names of Java's own (``SHA256withRSA``, ``rsa_sha224``), and what a JVM does not know it prints as a number in words of
its own, which are read here too: ``UNDEFINED-NAMED-GROUP(4588)``, ``Unknown 0xc0:0x2b``, ``(D)TLS-122.122``.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from countersign.recorder.wire import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_HASHES: Final = ("none", "md5", "sha1", "sha224", "sha256", "sha384", "sha512")
_SIGNATURES: Final = ("anonymous", "rsa", "dsa", "ecdsa")
_UNDEFINED = re.compile(r"UNDEFINED-[A-Z0-9-]+\((\d{1,5})\)|unknown curve (\d{1,5})")
_OLD_SCHEME = re.compile(r"(\w+?|UNDEFINED-SIGNATURE\(\d+\))_(\w+|UNDEFINED-HASH\(\d+\))")
_JAVA_SCHEME = re.compile(r"(NONE|MD5|SHA1|SHA224|SHA256|SHA384|SHA512)with(RSA|DSA|ECDSA)", re.IGNORECASE)
_PAIR = re.compile(r"Unknown \(hash:0x([0-9a-fA-F]{1,2}), signature:0x([0-9a-fA-F]{1,2})\)")
_SUITE_NUMBER = re.compile(r"\((0x[0-9A-Fa-f]{4})\)+$")
_TWO_BYTES = re.compile(r"Unknown 0x([0-9a-fA-F]{1,2}):0x([0-9a-fA-F]{1,2})")

_VERSIONS: Final = {
    "TLSv1.3": 0x0304,
    "TLSv1.2": 0x0303,
    "TLSv1.1": 0x0302,
    "TLSv1": 0x0301,
    "TLSv1.0": 0x0301,
    "SSLv3": 0x0300,
    "SSLv2Hello": 0x0002,
    "v3.1": 0x0301,
    "v3.0": 0x0300,
    "DTLSv1.2": 0xFEFD,
    "DTLSv1.0": 0xFEFF,
}
_FRAGMENT_LENGTHS: Final = {"2^9": 1, "2^10": 2, "2^11": 3, "2^12": 4}
_OLD_CERTIFICATE_TYPES: Final = {
    "RSA": 1,
    "DSS": 2,
    "Fixed DH (RSA sig)": 3,
    "Fixed DH (DSS sig)": 4,
    "Ephemeral DH (RSA sig)": 5,
    "Ephemeral DH (DSS sig)": 6,
    "ECDSA": 64,
    "Fixed ECDH (RSA sig)": 65,
    "Fixed ECDH (ECDSA sig)": 66,
}


def version(text: str) -> int | None:
    """``TLSv1.2``; unknown ones are printed as ``(D)TLS-3.9`` or ``Unknown-3.9``."""
    found = re.fullmatch(r"(?:\(D\)TLS|Unknown)-(\d{1,3})\.(\d{1,3})", text)
    if found:
        return int(found[1]) << 8 | int(found[2])
    return _VERSIONS.get(text)


@cache
def suite(text: str) -> int | None:
    """``TLS_AES_128_GCM_SHA256(0x1301)``, or the name alone; Java and IBM call some of them ``SSL_...``."""
    text = text.strip()
    if found := _SUITE_NUMBER.search(text):
        return int(found[1], 16)
    if found := _TWO_BYTES.fullmatch(text):
        return int(found[1], 16) << 8 | int(found[2], 16)
    number = names.cipher_suite_number(text)
    if number is None and text.startswith("SSL_"):
        number = names.cipher_suite_number(f"TLS_{text[4:]}")
    return number


def group(text: str) -> int | None:
    return _known(text, _reversed_groups())


def scheme(text: str) -> int | None:
    """A SignatureScheme, in the words of either form of log."""
    known = _reversed_schemes().get(text)
    if known is not None:
        return known
    if found := _PAIR.fullmatch(text):
        return int(found[1], 16) << 8 | int(found[2], 16)
    if found := _JAVA_SCHEME.fullmatch(text):
        return _HASHES.index(found[1].lower()) << 8 | _SIGNATURES.index(found[2].lower())
    if found := _OLD_SCHEME.fullmatch(text):
        signature, digest = _indexed(found[1], _SIGNATURES), _indexed(found[2], _HASHES)
        if signature is not None and digest is not None:
            return digest << 8 | signature
    return None


def alert(text: str) -> int | None:
    """``certificate_unknown`` or ``CERTIFICATE_UNKNOWN``."""
    found = re.fullmatch(
        r"<UNKNOWN ALERT: (\d{1,3})>|UNKNOWN ALERT \((\d{1,3})\)|unknown\((\d{1,3})\)", text, re.IGNORECASE
    )
    if found:
        return int(found[1] or found[2] or found[3]) & 0xFF
    return _reversed_alerts().get(text.lower())


def point_format(text: str) -> int | None:
    return _known(text, {name: number for number, name in names.EC_POINT_FORMATS.items()})


def psk_mode(text: str) -> int | None:
    return {name: number for number, name in names.PSK_KEY_EXCHANGE_MODES.items()}.get(text)


def certificate_type(text: str) -> int | None:
    """A ClientCertificateType, in the words of either form of log."""
    found = re.fullmatch(r"Type-(\d{1,3})|UNDEFINED-CLIENT-CERTIFICATE-TYPE\((\d{1,3})\)", text)
    if found:
        return int(found[1] or found[2]) & 0xFF
    known = {name: number for number, name in names.CLIENT_CERTIFICATE_TYPES.items()}
    return known.get(text, _OLD_CERTIFICATE_TYPES.get(text))


def fragment_length(text: str) -> int | None:
    return _FRAGMENT_LENGTHS.get(text.strip("() "))


def number(text: str) -> int | None:
    """A number as ``MessageFormat`` prints it: ``7,200``."""
    digits = text.replace(",", "").strip()
    return int(digits) if digits.isdecimal() and len(digits) < 20 else None


def listed(text: str) -> list[str]:
    """The items of ``[a, b]`` or ``{a, b}``; a placeholder such as ``<no supported version specified>`` is none."""
    inner = text.strip().removeprefix("[").removeprefix("{").removesuffix("]").removesuffix("}").strip()
    return [] if not inner or inner.startswith("<") else [item.strip() for item in inner.split(", ")]


def numbers(items: Iterable[str], read: Callable[[str], int | None]) -> tuple[int, ...] | None:
    """All of them as numbers; None where one is not known."""
    found = [read(item) for item in items]
    return None if None in found else tuple(one for one in found if one is not None)


def hexadecimal(text: str) -> bytes | None:
    """``8E4BD7`` or ``8E 4B D7`` or ``8e:4b:d7``."""
    try:
        return bytes.fromhex(text.replace(":", "").replace(" ", ""))
    except ValueError:
        return None


def decimals(text: str) -> bytes | None:
    """``{ 4, 105, 225 }``: bytes as the classic form prints them."""
    found = numbers(listed(text), number)
    return bytes(found) if found is not None and all(one < 256 for one in found) else None


def _known(text: str, table: Mapping[str, int]) -> int | None:
    found = _UNDEFINED.fullmatch(text)
    return int(found[1] or found[2]) & 0xFFFF if found else table.get(text)


def _indexed(text: str, table: tuple[str, ...]) -> int | None:
    found = _UNDEFINED.fullmatch(text)
    if found:
        return int(found[1]) & 0xFF
    return table.index(text) if text in table else None


@cache
def _reversed_groups() -> dict[str, int]:
    return {name: number for number, name in names.GROUPS.items()}


@cache
def _reversed_schemes() -> dict[str, int]:
    return {name: number for number, name in names.SIGNATURE_SCHEMES.items()}


@cache
def _reversed_alerts() -> dict[str, int]:
    return {name: number for number, name in names.ALERTS.items()}

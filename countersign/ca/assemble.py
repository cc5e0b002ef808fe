"""The one place that makes certificates.

A builder that knows the rules cannot make what breaks them, and to mimic is to copy rule-breaking faithfully. So a
certificate is put together here from DER pieces, in the order of RFC 5280 4.1, whatever they hold; what is *right* is
the business of those who choose the pieces: :mod:`countersign.ca.authority` for issuers and
:mod:`countersign.ca.leaf` for what mimics a target. It is also the cheap way: nothing is parsed twice and what repeats
(issuer, algorithm, public key) is encoded once.
"""

from __future__ import annotations

import ipaddress
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from countersign.errors import UserError
from countersign.recorder import der
from countersign.recorder.certificates import KEY_USAGES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from countersign.ca.randomness import Rng
    from countersign.ca.signer import Signer

VERSION_3 = der.encode(0xA0, der.encode_integer(2))

SKI, KEY_USAGE, SAN, BASIC_CONSTRAINTS = "2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19"
NAME_CONSTRAINTS, AKI, EXTENDED_KEY_USAGE = "2.5.29.30", "2.5.29.35", "2.5.29.37"


def assemble(
    signer: Signer,
    *,
    serial: int | bytes,
    issuer: bytes,
    validity: bytes,
    subject: bytes,
    public_key: bytes,
    extensions: Iterable[bytes] = (),
    version: bytes = VERSION_3,
    before_extensions: Iterable[bytes] = (),
    inner_algorithm: bytes | None = None,
    outer_algorithm: bytes | None = None,
    broken: bool = False,
) -> bytes:
    """A signed certificate of these pieces, each the DER of one field of RFC 5280 4.1; none of them is looked at.

    The algorithm is named within what is signed (``inner_algorithm``) and beside the signature (``outer_algorithm``),
    both times as the signer's unless told otherwise. ``broken``: the last bit of the signature is the wrong one.
    """
    inside = b"".join(extensions)
    tbs = der.encode(
        der.SEQUENCE,
        version,
        der.encode_integer(serial) if isinstance(serial, int) else serial,
        signer.algorithm if inner_algorithm is None else inner_algorithm,
        issuer,
        validity,
        subject,
        public_key,
        *before_extensions,
        der.encode(0xA3, der.encode(der.SEQUENCE, inside)) if inside else b"",
    )
    signature = signer.sign(tbs)
    if broken:
        signature = signature[:-1] + bytes((signature[-1] ^ 1,))
    return der.encode(
        der.SEQUENCE,
        tbs,
        signer.algorithm if outer_algorithm is None else outer_algorithm,
        der.encode(der.BIT_STRING, b"\x00", signature),
    )


# -- pieces ------------------------------------------------------------------------------------------------------


def new_serial(rng: Rng = os.urandom) -> int:
    """A positive number of exactly 20 bytes, 158 bits of it random: unique without keeping count (4.1.2.2)."""
    return int.from_bytes(rng(20)) >> 2 | 1 << 158


def extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    """One Extension (4.1)."""
    flag = b"\x01\x01\xff" if critical else b""
    return der.encode(der.SEQUENCE, der.encode_oid(oid), flag, der.encode(der.OCTET_STRING, value))


def name_der(**attributes: str) -> bytes:
    """A Name of UTF8Strings, in the order given: ``name_der(O="countersign", CN="...")``."""
    return der.encode(
        der.SEQUENCE, *(attribute(_ATTRIBUTES[kind], value.encode()) for kind, value in attributes.items())
    )


_ATTRIBUTES = {"CN": "2.5.4.3", "O": "2.5.4.10", "OU": "2.5.4.11"}


def attribute(oid: str, value: bytes, tag: int = 0x0C) -> bytes:
    """A RelativeDistinguishedName of one attribute (4.1.2.4)."""
    return der.encode(der.SET, der.encode(der.SEQUENCE, der.encode_oid(oid), der.encode(tag, value)))


def subject_key_identifier(key_id: bytes) -> bytes:
    """4.2.1.2."""
    return extension(SKI, key_id_value(key_id))


def key_id_value(key_id: bytes) -> bytes:
    """A SubjectKeyIdentifier (4.2.1.2)."""
    return der.encode(der.OCTET_STRING, key_id)


def authority_key_identifier(key_id: bytes) -> bytes:
    """4.2.1.1, by key alone."""
    return extension(AKI, issuer_key_id_value(key_id))


def issuer_key_id_value(key_id: bytes) -> bytes:
    """An AuthorityKeyIdentifier (4.2.1.1) by key alone."""
    return der.encode(der.SEQUENCE, der.encode(0x80, key_id))


def basic_constraints(*, path_length: int | None = None) -> bytes:
    """4.2.1.9 for a CA: critical, as Python from 3.13 on demands."""
    return extension(BASIC_CONSTRAINTS, basic_constraints_value(ca=True, path_length=path_length), critical=True)


def basic_constraints_value(*, ca: bool, path_length: int | None = None) -> bytes:
    """A BasicConstraints (4.2.1.9); false is the default and left out (X.690 11.5)."""
    length = b"" if path_length is None else der.encode_integer(path_length)
    return der.encode(der.SEQUENCE, b"\x01\x01\xff" if ca else b"", length)


def key_usage(names: Iterable[str], *, critical: bool = True) -> bytes:
    """4.2.1.3."""
    return extension(KEY_USAGE, key_usage_value(names), critical=critical)


def key_usage_value(names: Iterable[str]) -> bytes:
    """A KeyUsage; the bit string ends with its last set bit (X.690 11.2.2)."""
    bits = [KEY_USAGES.index(name) for name in names]
    value = 0
    for bit in bits:
        value |= 0x8000 >> bit
    size = max(bits, default=-1) + 1
    return der.encode(der.BIT_STRING, bytes((-size % 8,)), value.to_bytes(2)[: (size + 7) // 8])


def name_constraints(allowed: Iterable[str]) -> bytes:
    """4.2.1.10: only these domains (with what is below them) and networks; every other DNS name and address is out.

    Raises :class:`UserError` for what is neither a domain nor a network.
    """
    permitted = [constraint_base(text) for text in allowed]
    excluded = [] if any(tag == 0x82 for tag, _ in permitted) else [(0x82, b"")]
    kept = {len(base) for tag, base in permitted if tag == 0x87}
    excluded += [(0x87, bytes(2 * size)) for size in (4, 16) if 2 * size not in kept]
    return extension(NAME_CONSTRAINTS, subtrees(permitted, excluded), critical=True)


def constraint_base(text: str) -> tuple[int, bytes]:
    """The tag and value of the GeneralName that stands for a domain or a network in a name constraint."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return 0x82, _domain(text)
    return 0x87, network.network_address.packed + network.netmask.packed


def _domain(text: str) -> bytes:
    bare = text.removeprefix("*").removeprefix(".").rstrip(".")
    try:
        name = bare.encode("idna")
    except UnicodeError as wrong:
        raise UserError(f"cannot constrain the CA to {text!r}: expected a domain or a network") from wrong
    if not name or not all(byte in b"abcdefghijklmnopqrstuvwxyz0123456789-._" for byte in name.lower()):
        raise UserError(
            f"cannot constrain the CA to {text!r}: expected a domain (example.com) or a network (10.0.0.0/8)"
        )
    return name.lower()


def subtrees(permitted: Iterable[tuple[int, bytes]], excluded: Iterable[tuple[int, bytes]]) -> bytes:
    """The value of NameConstraints (4.2.1.10): both lists as tags and values of GeneralNames."""
    lists = [
        der.encode(tag, *(der.encode(der.SEQUENCE, der.encode(*base)) for base in bases))
        for tag, bases in ((0xA0, tuple(permitted)), (0xA1, tuple(excluded)))
        if bases
    ]
    return der.encode(der.SEQUENCE, *lists)


def validity_der(not_before: datetime | bytes, not_after: datetime | bytes) -> bytes:
    """A Validity; each date a moment, or the DER of a time that is taken as it is."""
    return der.encode(der.SEQUENCE, *(_time(moment) for moment in (not_before, not_after)))


def _time(moment: datetime | bytes) -> bytes:
    """4.1.2.5: UTCTime up to 2049, GeneralizedTime from 2050."""
    if isinstance(moment, bytes):
        return moment
    moment = moment.astimezone(UTC)
    if 1950 <= moment.year < 2050:
        return der.encode(der.UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())
    return der.encode(der.GENERALIZED_TIME, f"{moment.year:04d}{moment:%m%d%H%M%S}Z".encode())

"""The one place that makes certificates.

A builder that knows the rules cannot make what breaks them, and to mimic is to copy rule-breaking faithfully. So a
certificate is put together here from DER pieces, in the order of RFC 5280 4.1, whatever they hold; what is *right* is
the business of those who choose the pieces: :mod:`countersign.ca.authority` for issuers and
:mod:`countersign.ca.leaf` for what mimics a target. It is also the cheap way: nothing is parsed twice and what repeats
(issuer, algorithm, public key) is encoded once.

A :class:`Signer` is a private key with the algorithm that fits it and both encodings made beforehand.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from countersign.errors import UserError
from countersign.recorder import der
from countersign.recorder.certificates import KEY_USAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
"""The private keys that sign here."""

VERSION_3 = der.encode(0xA0, der.encode_integer(2))

SKI, KEY_USAGE, SAN, BASIC_CONSTRAINTS = "2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19"
NAME_CONSTRAINTS, AKI, EXTENDED_KEY_USAGE = "2.5.29.30", "2.5.29.35", "2.5.29.37"

_NULL = b"\x05\x00"
_RSA_SHA256 = der.encode(der.SEQUENCE, der.encode_oid("1.2.840.113549.1.1.11"), _NULL)  # RFC 4055 5: NULL is required
_ECDSA = {  # RFC 5758 3.2: a hash as strong as the curve, no parameters
    256: ("1.2.840.10045.4.3.2", hashes.SHA256),
    384: ("1.2.840.10045.4.3.3", hashes.SHA384),
    521: ("1.2.840.10045.4.3.4", hashes.SHA512),
}


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key ready to sign certificates: its algorithm and public key are encoded, its hash chosen."""

    key: PrivateKey = field(repr=False, compare=False)
    algorithm: bytes
    public_key: bytes
    key_id: bytes
    sign: Callable[[bytes], bytes] = field(repr=False, compare=False)

    @classmethod
    def of(cls, key: PrivateKey) -> Signer:
        algorithm, sign = _how_to_sign(key)
        public_key = public_key_der(key)
        return cls(key, algorithm, public_key, key_identifier(public_key), sign)


def _how_to_sign(key: PrivateKey) -> tuple[bytes, Callable[[bytes], bytes]]:
    match key:
        case rsa.RSAPrivateKey():
            scheme, digest = padding.PKCS1v15(), hashes.SHA256()
            return _RSA_SHA256, lambda data: key.sign(data, scheme, digest)
        case ec.EllipticCurvePrivateKey():
            size = 256 if key.curve.key_size <= 256 else 384 if key.curve.key_size <= 384 else 521
            oid, kind = _ECDSA[size]
            ecdsa = ec.ECDSA(kind())
            return der.encode(der.SEQUENCE, der.encode_oid(oid)), lambda data: key.sign(data, ecdsa)
        case ed25519.Ed25519PrivateKey():
            return der.encode(der.SEQUENCE, der.encode_oid("1.3.101.112")), key.sign
        case ed448.Ed448PrivateKey():
            return der.encode(der.SEQUENCE, der.encode_oid("1.3.101.113")), key.sign


def assemble(
    signer: Signer,
    *,
    serial: int,
    issuer: bytes,
    validity: bytes,
    subject: bytes,
    public_key: bytes,
    extensions: Iterable[bytes] = (),
    version: bytes = VERSION_3,
    before_extensions: Iterable[bytes] = (),
) -> bytes:
    """A signed certificate of these pieces, each the DER of one field of RFC 5280 4.1; none of them is looked at."""
    inside = b"".join(extensions)
    tbs = der.encode(
        der.SEQUENCE,
        version,
        der.encode_integer(serial),
        signer.algorithm,
        issuer,
        validity,
        subject,
        public_key,
        *before_extensions,
        der.encode(0xA3, der.encode(der.SEQUENCE, inside)) if inside else b"",
    )
    return der.encode(der.SEQUENCE, tbs, signer.algorithm, der.encode(der.BIT_STRING, b"\x00", signer.sign(tbs)))


# -- pieces ------------------------------------------------------------------------------------------------------


def new_serial(rng: Callable[[int], bytes] = os.urandom) -> int:
    """A positive number of exactly 20 bytes, 158 bits of it random: unique without keeping count (T21, 4.1.2.2)."""
    return int.from_bytes(rng(20)) >> 2 | 1 << 158


def public_key_der(key: PrivateKey) -> bytes:
    """The SubjectPublicKeyInfo of a key."""
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_identifier(public_key: bytes) -> bytes:
    """SHA-1 over the key's bits (4.2.1.2, method 1): a name, not a proof."""
    bits = der.at_most(2, der.whole(public_key, der.SEQUENCE, "a key").body, "a key")[1]
    return hashlib.sha1(der.decode_bits(bits.body), usedforsecurity=False).digest()


def extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    """One Extension (4.1)."""
    flag = b"\x01\x01\xff" if critical else b""
    return der.encode(der.SEQUENCE, der.encode_oid(oid), flag, der.encode(der.OCTET_STRING, value))


def name_der(**attributes: str) -> bytes:
    """A Name of UTF8Strings, in the order given: ``name_der(O="countersign", CN="...")``."""
    return der.encode(
        der.SEQUENCE,
        *(
            der.encode(
                der.SET,
                der.encode(der.SEQUENCE, der.encode_oid(_ATTRIBUTES[kind]), der.encode(0x0C, value.encode())),
            )
            for kind, value in attributes.items()
        ),
    )


_ATTRIBUTES = {"CN": "2.5.4.3", "O": "2.5.4.10", "OU": "2.5.4.11"}


def subject_key_identifier(key_id: bytes) -> bytes:
    """4.2.1.2."""
    return extension(SKI, der.encode(der.OCTET_STRING, key_id))


def authority_key_identifier(key_id: bytes) -> bytes:
    """4.2.1.1, by key alone."""
    return extension(AKI, der.encode(der.SEQUENCE, der.encode(0x80, key_id)))


def basic_constraints(*, path_length: int) -> bytes:
    """4.2.1.9 for a CA: critical, as Python from 3.13 on demands."""
    value = der.encode(der.SEQUENCE, b"\x01\x01\xff", der.encode_integer(path_length))
    return extension(BASIC_CONSTRAINTS, value, critical=True)


def key_usage(names: Iterable[str], *, critical: bool = True) -> bytes:
    """4.2.1.3; the bit string ends with its last set bit (X.690 11.2.2)."""
    bits = [KEY_USAGES.index(name) for name in names]
    value = 0
    for bit in bits:
        value |= 0x8000 >> bit
    size = max(bits, default=-1) + 1
    body = value.to_bytes(2)[: (size + 7) // 8]
    return extension(KEY_USAGE, der.encode(der.BIT_STRING, bytes((-size % 8,)), body), critical=critical)


def name_constraints(allowed: Iterable[str]) -> bytes:
    """4.2.1.10: only these domains (with what is below them) and networks; every other DNS name and address is out.

    Raises :class:`UserError` for what is neither a domain nor a network.
    """
    domains: list[bytes] = []
    networks: list[bytes] = []
    for text in allowed:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            domains.append(_domain(text))
        else:
            networks.append(network.network_address.packed + network.netmask.packed)
    permitted = [(0x82, domain) for domain in domains] + [(0x87, network) for network in networks]
    excluded = [] if domains else [(0x82, b"")]
    excluded += [(0x87, bytes(2 * size)) for size in (4, 16) if not any(len(each) == 2 * size for each in networks)]
    value = der.encode(der.SEQUENCE, _subtrees(0xA0, permitted), _subtrees(0xA1, excluded))
    return extension(NAME_CONSTRAINTS, value, critical=True)


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


def _subtrees(tag: int, bases: Iterable[tuple[int, bytes]]) -> bytes:
    inside = [der.encode(der.SEQUENCE, der.encode(kind, base)) for kind, base in bases]
    return der.encode(tag, *inside) if inside else b""


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

"""Private keys that sign certificates, and the schemes that they can sign with.

A certificate names its signature algorithm twice (RFC 5280 4.1.1.2 and 4.1.2.3), and which names and parameters belong
to which scheme is the business of four RFCs. All of it is here, as data: a :class:`Signer` is a private key with one
scheme chosen, its AlgorithmIdentifier and its public key encoded once. :meth:`Signer.using` is the same key with
another scheme, the ones that nobody should accept any more included (SHA-1, MD5).

What is random in a signature comes from the operating system. A ``deterministic`` signer signs the same bytes the same
way each time: ECDSA by RFC 6979, RSA-PSS with a salt that follows from the key and the bytes.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from countersign.ca.randomness import Rng, below
from countersign.errors import UserError
from countersign.recorder import der

if TYPE_CHECKING:
    from collections.abc import Callable

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
"""The private keys that sign here."""

ServedKey = PrivateKey | bytes
"""A key to serve TLS with: one of the above, or the DER of one that OpenSSL loads and ``cryptography`` does not."""

_NULL = b"\x05\x00"
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "md5": hashes.MD5,
    "sha1": hashes.SHA1,
    "sha224": hashes.SHA224,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_PKCS1 = {  # RFC 4055 5, RFC 3279 2.2.1: NULL parameters are required
    "md5": "1.2.840.113549.1.1.4",
    "sha1": "1.2.840.113549.1.1.5",
    "sha224": "1.2.840.113549.1.1.14",
    "sha256": "1.2.840.113549.1.1.11",
    "sha384": "1.2.840.113549.1.1.12",
    "sha512": "1.2.840.113549.1.1.13",
}
_ECDSA = {  # RFC 5758 3.2, RFC 3279 2.2.3: no parameters
    "sha1": "1.2.840.10045.4.1",
    "sha224": "1.2.840.10045.4.3.1",
    "sha256": "1.2.840.10045.4.3.2",
    "sha384": "1.2.840.10045.4.3.3",
    "sha512": "1.2.840.10045.4.3.4",
}
_DIGESTS = {  # RFC 5754 2
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
_EDWARDS = {"ed25519": "1.3.101.112", "ed448": "1.3.101.113"}  # RFC 8410 3
_PSS, _MGF1 = "1.2.840.113549.1.1.10", "1.2.840.113549.1.1.8"


def _algorithm(oid: str, parameters: bytes = b"") -> bytes:
    return der.encode(der.SEQUENCE, der.encode_oid(oid), parameters)


def _pss_algorithm(digest: str) -> bytes:
    """RSASSA-PSS-params (RFC 4055 3.1), the salt as long as the hash, as the Web PKI writes it."""
    hashed = _algorithm(_DIGESTS[digest], _NULL)
    length = der.encode_integer(_HASHES[digest]().digest_size)
    parts = (hashed, _algorithm(_MGF1, hashed), length)
    return _algorithm(_PSS, der.encode(der.SEQUENCE, *(der.encode(0xA0 + n, part) for n, part in enumerate(parts))))


ALGORITHMS: dict[str, dict[str, bytes]] = {
    "rsa": {name: _algorithm(oid, _NULL) for name, oid in _PKCS1.items()}
    | {f"pss-{name}": _pss_algorithm(name) for name in _DIGESTS},
    "ec": {name: _algorithm(oid) for name, oid in _ECDSA.items()},
    "ed25519": {"ed25519": _algorithm(_EDWARDS["ed25519"])},
    "ed448": {"ed448": _algorithm(_EDWARDS["ed448"])},
}
"""The AlgorithmIdentifier (DER) of each scheme, by the type of key that can sign with it."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key ready to sign certificates with one ``scheme``; what repeats is encoded beforehand.

    ``served`` is the key as a TLS server takes it.
    """

    key: PrivateKey = field(repr=False, compare=False)
    scheme: str
    algorithm: bytes
    public_key: bytes
    key_id: bytes
    sign: Callable[[bytes], bytes] = field(repr=False, compare=False)
    pss: bool = False
    deterministic: bool = False

    @classmethod
    def of(cls, key: PrivateKey, *, scheme: str = "", pss: bool = False, deterministic: bool = False) -> Signer:
        """``key`` with the scheme that fits it, or the one named (``sha256``, ``sha1``, ``pss-sha256``, ``ed25519``).

        ``pss`` makes an RSA key one that is for RSASSA-PSS alone (RFC 4055 1.2). Raises :class:`UserError` for a scheme
        that the key cannot sign with.
        """
        kind = _kind(key)
        if pss and kind != "rsa":
            raise UserError(f"cannot make an RSA-PSS key of an {kind} key")
        scheme = scheme.lower() or _usual(key, pss=pss)
        algorithm = ALGORITHMS[kind].get(scheme)
        if algorithm is None or (pss and not scheme.startswith("pss-")):
            able = [name for name in ALGORITHMS[kind] if not pss or name.startswith("pss-")]
            raise UserError(
                f"cannot sign with {scheme!r} and an {'rsa-pss' if pss else kind} key: expected {' or '.join(able)}"
            )
        public_key = public_key_der(key, pss=pss)
        sign = _how_to_sign(key, scheme, deterministic=deterministic)
        return cls(key, scheme, algorithm, public_key, key_identifier(public_key), sign, pss, deterministic)

    def using(self, scheme: str) -> Signer:
        """The same key with another scheme. Raises :class:`UserError` as :meth:`of` does."""
        if scheme == self.scheme:
            return self
        return Signer.of(self.key, scheme=scheme, pss=self.pss, deterministic=self.deterministic)

    @property
    def kind(self) -> str:
        """The type of the key, as :data:`ALGORITHMS` has it."""
        return _kind(self.key)

    @property
    def served(self) -> ServedKey:
        """The key as a TLS server takes it; one for RSASSA-PSS alone says so in its algorithm (RFC 4055 1.2)."""
        return pkcs8_der(self.key, pss=True) if self.pss else self.key


def _kind(key: PrivateKey) -> str:
    match key:
        case rsa.RSAPrivateKey():
            return "rsa"
        case ec.EllipticCurvePrivateKey():
            return "ec"
        case ed25519.Ed25519PrivateKey():
            return "ed25519"
        case ed448.Ed448PrivateKey():
            return "ed448"


def _usual(key: PrivateKey, *, pss: bool) -> str:
    """The scheme of a key that was told none: for ECDSA a hash as strong as the curve."""
    match key:
        case rsa.RSAPrivateKey():
            return "pss-sha256" if pss else "sha256"
        case ec.EllipticCurvePrivateKey():
            size = key.curve.key_size
            return "sha256" if size <= 256 else "sha384" if size <= 384 else "sha512"
        case _:
            return _kind(key)


def _how_to_sign(key: PrivateKey, scheme: str, *, deterministic: bool) -> Callable[[bytes], bytes]:
    match key:
        case rsa.RSAPrivateKey():
            digest = _HASHES[scheme.removeprefix("pss-")]()
            if not scheme.startswith("pss-"):
                pkcs1 = padding.PKCS1v15()
                return lambda data: key.sign(data, pkcs1, digest)
            if deterministic:
                return lambda data: _pss_signature(key, data, digest)
            pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
            return lambda data: key.sign(data, pss, digest)
        case ec.EllipticCurvePrivateKey():
            ecdsa = ec.ECDSA(_HASHES[scheme](), deterministic_signing=deterministic)
            return lambda data: key.sign(data, ecdsa)
        case _:
            return key.sign


def _pss_signature(key: rsa.RSAPrivateKey, data: bytes, digest: hashes.HashAlgorithm) -> bytes:
    """EMSA-PSS (RFC 8017 9.1.1) with a salt that is not random; not in constant time, so for keys of tests alone."""
    numbers = key.private_numbers()
    modulus = numbers.public_numbers.n
    bits, size = modulus.bit_length() - 1, digest.digest_size
    length = (bits + 7) // 8
    salt = hashlib.shake_256(numbers.d.to_bytes(512) + data).digest(size)
    hashed = hashlib.new(digest.name, bytes(8) + hashlib.new(digest.name, data).digest() + salt).digest()
    masks = b"".join(
        hashlib.new(digest.name, hashed + counter.to_bytes(4)).digest() for counter in range(-(-length // size))
    )
    block = bytes(length - 2 * size - 2) + b"\x01" + salt
    masked = int.from_bytes(block) ^ int.from_bytes(masks[: len(block)])
    masked &= (1 << bits - 8 * (size + 1)) - 1
    encoded = masked << 8 * (size + 1) | int.from_bytes(hashed) << 8 | 0xBC
    return pow(encoded, numbers.d, modulus).to_bytes((modulus.bit_length() + 7) // 8)


# -- keys as bytes -----------------------------------------------------------------------------------------------


def public_key_der(key: PrivateKey, *, pss: bool = False) -> bytes:
    """The SubjectPublicKeyInfo of a key; with ``pss`` that of an RSA key for RSASSA-PSS alone, any hash and salt."""
    encoded = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if not pss:
        return encoded
    bits = der.exactly(2, der.whole(encoded, der.SEQUENCE, "a key").body, "a key")[1]
    return der.encode(der.SEQUENCE, _algorithm(_PSS), bits.raw)


def pkcs8_der(key: PrivateKey, *, pss: bool = False) -> bytes:
    """The key unencrypted as PKCS #8 (RFC 5958); with ``pss`` an RSA key is marked as one for RSASSA-PSS alone."""
    encoded = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    if not pss:
        return encoded
    version, _, inner = der.exactly(3, der.whole(encoded, der.SEQUENCE, "a key").body, "a key")
    return der.encode(der.SEQUENCE, version.raw, _algorithm(_PSS), inner.raw)


def key_identifier(public_key: bytes) -> bytes:
    """SHA-1 over the key's bits (RFC 5280 4.2.1.2, method 1): a name, not a proof."""
    bits = der.at_most(2, der.whole(public_key, der.SEQUENCE, "a key").body, "a key")[1]
    return hashlib.sha1(der.decode_bits(bits.body), usedforsecurity=False).digest()


def impostor_key(key: PrivateKey, rng: Rng = os.urandom) -> bytes:
    """The DER of a key that claims to be ``key`` and is not: the public part is the same, the secret part another.

    OpenSSL serves with it, because it compares public parts only; whoever checks what it signs says ``bad signature``.
    Raises :class:`UserError` for an Edwards key, whose public part follows from its secret.
    """
    match key:
        case ec.EllipticCurvePrivateKey():  # RFC 5915 3
            size = (key.curve.key_size + 7) // 8
            secret = below(1 << key.curve.key_size - 1, rng).to_bytes(size)
            point = key.public_key().public_bytes(
                serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
            )
            algorithm = der.exactly(2, der.whole(public_key_der(key), der.SEQUENCE, "a key").body, "a key")[0]
            curve = der.exactly(2, algorithm.body, "an algorithm")[1]
            return der.encode(
                der.SEQUENCE,
                der.encode_integer(1),
                der.encode(der.OCTET_STRING, secret),
                der.encode(0xA0, curve.raw),
                der.encode(0xA1, der.encode(der.BIT_STRING, b"\x00", point)),
            )
        case rsa.RSAPrivateKey():  # RFC 8017 A.1.2: OpenSSL finds that the factors are wrong and goes on with d alone
            numbers = key.private_numbers()
            secret_exponent = below(1 << key.key_size - 8, rng) | 1
            parts = (
                0, numbers.public_numbers.n, numbers.public_numbers.e, secret_exponent, numbers.p, numbers.q,
                secret_exponent % (numbers.p - 1), secret_exponent % (numbers.q - 1), numbers.iqmp,
            )  # fmt: skip
            return der.encode(der.SEQUENCE, *(der.encode_integer(part) for part in parts))
        case _:
            raise UserError("cannot make an impostor of an Edwards key: expected an RSA or EC key")

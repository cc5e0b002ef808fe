"""What a peer shows, measured before OpenSSL works with it: too costly to compute with, or too weak to trust.

*Too costly.* OpenSSL does public-key operations on the event loop, with keys that the peer has chosen. It has bounds
of its own (moduli of 16384 bits, 100 KiB and a depth of 100 certificates, 2**20 comparisons for each one with name
constraints, primes of 10000 bits), but what stays within all of them can still take seconds. So the certificates of a
chain are weighed together, from their bytes alone: no key is loaded, no signature is looked at. Each key signs one
thing of the chain at most, so the sum over the keys bounds what checking it can cost. The unit is about a
millisecond of one core; a chain of the web weighs one, and :data:`AFFORDABLE` is what all other connections can be
asked to wait. What cannot be read is weighed as the worst that has its length, for OpenSSL reads more than DER.

*Too weak.* OpenSSL's measure of a chain is its security level (``SSL_CTX_set_security_level(3)``): 2 by default, which
asks for 112 bits. Where TLS 1.0 or 1.1 may be spoken the level has to be 0, and takes the measure of the chain with it;
:func:`weakness` is the same measure once more.
"""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from countersign.recorder import der as asn1
from countersign.recorder.certificates import cut_certificate, cut_extensions
from countersign.recorder.der import DerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

AFFORDABLE = 100.0
"""What checking a chain may cost, in milliseconds of a core."""

_MODULUS = 16384  # bits; OpenSSL takes no larger one (OPENSSL_RSA_MAX_MODULUS_BITS)
_EXPONENT = 64  # and no larger one with a modulus of more than 3072 bits (OPENSSL_RSA_MAX_PUBEXP_BITS)
_COMPARISONS = 1 << 20  # of a name with a name constraint
_REMEMBERED = 4096  # bytes of a certificate whose weight is kept
_PRIME = 6144  # bits of a prime for DHE that OpenSSL does not know, where the secret exponent is as long as the prime

_PSS = "1.2.840.113549.1.1.10"
_RSA = frozenset({"1.2.840.113549.1.1.1", _PSS})  # RFC 8017 A.1, RFC 4055 1.2
_EC = "1.2.840.10045.2.1"  # RFC 5480 2.1.1
_DSA = "1.2.840.10040.4.1"  # RFC 3279 2.3.2
_EDWARDS = frozenset({"1.3.101.112", "1.3.101.113"})  # RFC 8410
_SUBJECT_ALT_NAME = "2.5.29.17"
_NAME_CONSTRAINTS = "2.5.29.30"


# -- too costly --------------------------------------------------------------------------------------------------


def costly_chain(certificates: Sequence[bytes]) -> str | None:
    """Why these certificates (DER, leaf first) are too costly to check, in words; none where they are not."""
    cost = 0.0
    names = constraints = 0
    for number, certificate in enumerate(certificates):
        weighed = (_weighed if len(certificate) <= _REMEMBERED else _weigh)(certificate)
        if weighed.refused is not None:
            whose = "a leaf" if number == 0 else f"certificate {number}, counted from the leaf,"
            return f"{whose} with {weighed.refused}"
        cost += weighed.cost
        names += weighed.names
        constraints += weighed.constraints
    if cost > AFFORDABLE:
        return f"{len(certificates)} certificates with keys that would take about {cost:.0f} ms to work with"
    if names * constraints > _COMPARISONS:
        return f"{names} names to compare with {constraints} name constraints"
    return None


class _Weighed(NamedTuple):
    """``refused`` names what OpenSSL must not even load; ``names`` and ``constraints`` are numbers of them."""

    cost: float = 0.0
    refused: str | None = None
    names: int = 0
    constraints: int = 0


def _weigh(certificate: bytes) -> _Weighed:
    try:
        parts = cut_certificate(certificate)
        cost, refused = _key_cost(parts.public_key)
    except DerError:
        return _Weighed(_rsa_cost(min(len(certificate) * 8, _MODULUS), _EXPONENT))
    names = constraints = 0
    try:
        for extension in cut_extensions(parts.extensions) if parts.extensions else ():
            if extension.oid == _SUBJECT_ALT_NAME:
                names += _count(extension.value)
            elif extension.oid == _NAME_CONSTRAINTS:
                constraints += sum(_count(subtrees.raw) for subtrees in _inside(extension.value))
    except DerError:  # as many as could lie in the bytes
        names = constraints = len(parts.extensions or b"") // 4
    return _Weighed(cost, refused, names + 1, constraints)  # one more, for the subject is compared as well


_weighed = lru_cache(maxsize=512)(_weigh)


def _inside(value: bytes) -> Iterator[asn1.Piece]:
    return asn1.pieces(asn1.first_piece(value).body)


def _count(value: bytes) -> int:
    """How many pieces are in this one; an estimate from above where there are very many."""
    body = asn1.first_piece(value).body
    if len(body) > 1 << 14:
        return len(body) // 4
    return sum(1 for _ in asn1.pieces(body))


def _key_cost(public_key: bytes) -> tuple[float, str | None]:
    """Of one operation with the key in a SubjectPublicKeyInfo, and what of it is not to be loaded."""
    oid, parameters, key = _key_parts(public_key)
    if oid in _RSA:
        modulus, exponent = _rsa_sizes(key)
        if modulus > _MODULUS:
            return 0.0, f"an RSA modulus of {modulus} bits, where {_MODULUS} are the most that is worked with"
        if exponent > _EXPONENT:
            return 0.0, f"an RSA exponent of {exponent} bits, where {_EXPONENT} are the most that is worked with"
        return _rsa_cost(modulus, exponent), None
    if oid == _EC:
        if parameters is not None and parameters.tag == asn1.SEQUENCE:
            return 0.0, "explicit EC parameters (RFC 5480 2.1.1 forbids them)"
        return (_ec_bits(key) / 512) ** 2, None
    if oid == _DSA:
        return (_dsa_sizes(parameters)[0] / 4096) ** 2, None
    if oid in _EDWARDS:
        return 0.3, None
    return max(3.0, _rsa_cost(min(len(key) * 8, _MODULUS), _EXPONENT)), None


def _rsa_cost(modulus: int, exponent: int) -> float:
    """Multiplications modulo a number of this size: one for each bit of the exponent, and a few around them."""
    return (modulus / 16384) ** 2 * 0.1 * (exponent + 3)


def costly_prime(prime: bytes) -> str | None:
    """Why a target's prime for DHE (RFC 5246 7.4.3, ``dh_p``) is too costly to compute with."""
    digits = prime.lstrip(b"\0")
    bits = asn1.bit_length(digits)
    if bits <= _PRIME or digits == ffdhe_prime(8192, 10965728).to_bytes(1024):
        return None
    return f"a Diffie-Hellman prime of {bits} bits, where {_PRIME} are the most that is worked with"


@cache
def ffdhe_prime(bits: int, offset: int) -> int:
    """RFC 7919 A: ``2**b - 2**(b-64) + {[2**(b-130) e] + X} 2**64 - 1``; X, ``offset``, is 560316 for 2048 bits."""
    guard = 64
    e, term, k = 0, 1 << (bits - 130 + guard), 0
    while term:  # e is the sum of 1/k!
        e, k = e + term, k + 1
        term //= k
    return (1 << bits) - (1 << (bits - 64)) + (((e >> guard) + offset) << 64) - 1


# -- too weak ----------------------------------------------------------------------------------------------------

_STRONG_MODULUS = 1963  # bits from which on OpenSSL counts 112 bits of security (NIST SP 800-56B rev 2, appendix D)
_STRONG_ORDER = 224  # of an elliptic curve's or a DSA key's subgroup: half of it counts (FIPS 186-4 4.2, SP 800-57)
_WEAK_SIGNATURES = (  # with MD2, MD4, MD5, SHA-1 or RIPEMD-160; what ends in a dot begins such numbers
    "1.2.840.113549.1.1.2", "1.2.840.113549.1.1.3", "1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5",
    "1.2.840.10045.4.1", "1.2.840.10040.4.3", "1.3.14.3.2.", "1.3.36.3.3.1.",
)  # fmt: skip
_STRONG_HASHES = frozenset(f"2.16.840.1.101.3.4.2.{number}" for number in range(1, 11))  # SHA-2 and SHA-3


def weakness(certificate: bytes, *, depth: int, anchor: bool) -> str | None:
    """What security level 2 has against a certificate of a chain, in OpenSSL's words; none where it has nothing.

    ``depth`` is counted from the leaf; of the ``anchor`` the key matters and the signature does not.
    """
    try:
        parts = cut_certificate(certificate)
        strong = _is_strong(*_key_parts(parts.public_key))
        weak_digest = not anchor and _is_weak_algorithm(parts.algorithm)
    except DerError as unreadable:
        return f"certificate cannot be read ({unreadable})"
    if not strong:
        return f"{'EE' if depth == 0 else 'CA'} certificate key too weak"
    return "CA signature digest algorithm too weak" if weak_digest else None


def _is_strong(oid: str, parameters: asn1.Piece | None, key: bytes) -> bool:
    if oid in _RSA:
        return _rsa_sizes(key)[0] >= _STRONG_MODULUS
    if oid == _EC:
        return _ec_bits(key) >= _STRONG_ORDER
    if oid == _DSA:
        prime, order = _dsa_sizes(parameters)
        return prime >= _STRONG_MODULUS and order >= _STRONG_ORDER
    return True  # RFC 8410, FIPS 204 and 205 have none that is weak


def _is_weak_algorithm(algorithm: bytes) -> bool:
    oid, parameters = _algorithm(algorithm)
    if oid == _PSS:
        return not _has_strong_hash(parameters)
    return any(oid == weak or (weak.endswith(".") and oid.startswith(weak)) for weak in _WEAK_SIGNATURES)


def _has_strong_hash(parameters: asn1.Piece | None) -> bool:
    """RFC 4055 3.1: the hash of RSASSA-PSS is in ``[0]``, and SHA-1 where it is not said."""
    for field in asn1.pieces(parameters.body) if parameters is not None else ():
        if field.tag == 0xA0:
            return _algorithm(field.body)[0] in _STRONG_HASHES
    return False


# -- the parts of a key ------------------------------------------------------------------------------------------


def _key_parts(public_key: bytes) -> tuple[str, asn1.Piece | None, bytes]:
    """Algorithm, parameters and bits of a SubjectPublicKeyInfo (RFC 5280 4.1.2.7)."""
    algorithm, bits = asn1.exactly(2, asn1.first_piece(public_key).body, "a SubjectPublicKeyInfo")
    oid, parameters = _algorithm(algorithm.raw)
    return oid, parameters, asn1.decode_bits(bits.body)


def _algorithm(encoded: bytes) -> tuple[str, asn1.Piece | None]:
    """Number and parameters of an AlgorithmIdentifier (4.1.1.2)."""
    parts = asn1.at_most(2, asn1.first_piece(encoded).body, "an AlgorithmIdentifier")
    if not parts:
        raise DerError("expected an algorithm, got none")
    return asn1.decode_oid(parts[0].expect(asn1.OID, "an algorithm").body), parts[1] if len(parts) > 1 else None


def _rsa_sizes(key: bytes) -> tuple[int, int]:
    """Bits of modulus and exponent of an RSAPublicKey (RFC 8017 A.1.1)."""
    modulus, exponent = asn1.exactly(2, asn1.first_piece(key).body, "an RSAPublicKey")
    return asn1.bit_length(modulus.body), asn1.bit_length(exponent.body)


def _ec_bits(key: bytes) -> int:
    """Bits of a coordinate, in whole bytes: a compressed point is one, any other two (SEC 1 2.3.3)."""
    return (len(key) - 1) * (8 if key[:1] in {b"\2", b"\3"} else 4)


def _dsa_sizes(parameters: asn1.Piece | None) -> tuple[int, int]:
    """Bits of p and q (RFC 3279 2.3.2); none where they are the issuer's."""
    numbers = list(islice(asn1.pieces(parameters.body), 2)) if parameters is not None else []
    return (asn1.bit_length(numbers[0].body), asn1.bit_length(numbers[1].body)) if len(numbers) == 2 else (0, 0)

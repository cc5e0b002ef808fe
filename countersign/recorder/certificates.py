"""What a certificate says, each field read in isolation.

Certificates come from the wire, so they say anything: version 1, a negative serial, two subject alternative names,
a common name with a NUL or a right-to-left override in it, a month 13, an elliptic curve written out as numbers. A
library that validates while it loads turns the whole certificate into an exception then, and which exception differs
by field (``cryptography`` raises InvalidVersion, DuplicateExtension, UnsupportedGeneralNameType, UnsupportedAlgorithm,
TypeError and ValueError). Here the certificate is cut where its fields meet
(:mod:`countersign.recorder.der`) and each piece is read for itself. A field that cannot be read is ``None`` or empty
and a sentence in ``problems``; the fields beside it are read all the same.

Three bounds keep it cheap whatever arrives: lists keep their first hundred entries (``san_count`` and ``sct_count``
have the true number), text is clipped, and public keys are described from their bytes and never loaded: a modulus of
16384 bits or an explicit curve costs nothing. The one computation on a key is the check whether a certificate signed
itself, made for sizes up to 8192 bits.

Text is made safe to show (:mod:`~countersign.recorder.wire.text`): what does not print as it is reads ``\\x1b``
or ``\\u202e``. RFC 4514 doubles a real backslash, so the two cannot be taken for each other.

RFC 5280 is meant wherever only a section is cited.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from countersign.recorder import der as asn1
from countersign.recorder.der import DerError, Piece
from countersign.recorder.wire import names, transparency
from countersign.recorder.wire.text import printable
from countersign.recorder.x509_fields import (
    KEPT,
    Reading,
    clipped,
    general_name,
    read_name,
    read_serial,
    read_text,
    read_time,
    shown_time,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from countersign.recorder.wire.transparency import SignedCertificateTimestamp

_LARGEST = 1 << 20
_MOST_ENTRIES = 1 << 16
_CACHED_UP_TO = 16 << 10
_BARE_KEY = "certificate: a public key by itself (RFC 7250)"


@dataclass(frozen=True, slots=True)
class ExtensionPart:
    """One extension as it came (4.2): ``value`` is what the OCTET STRING holds, ``raw`` the whole SEQUENCE."""

    oid: str
    critical: bool
    value: bytes
    raw: bytes


@dataclass(frozen=True, slots=True)
class CertificateParts:
    """A certificate cut where its fields meet (4.1); each part is the DER as it came, tag and length included.

    ``version`` is empty where it is left out (version 1). ``extensions`` is ``None`` where there is no such field.
    ``others`` are parts that no field of 4.1 claims, the unique identifiers among them, as (tag, DER).
    """

    version: bytes
    serial: bytes
    inner_algorithm: bytes
    issuer: bytes
    validity: bytes
    subject: bytes
    public_key: bytes
    others: tuple[tuple[int, bytes], ...]
    extensions: bytes | None
    tbs: bytes
    algorithm: bytes
    signature: bytes
    trailing: int


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What one certificate says. ``None`` and empty mean: not there, or unreadable and named in ``problems``.

    ``serial`` is hexadecimal with a minus sign where it is negative; times are RFC 3339 in UTC; ``sha256``, ``ski`` and
    ``aki`` are hexadecimal. ``sha256`` is empty for a certificate of which somebody told and nobody kept the DER.
    ``self_issued``: subject and issuer are the same bytes; ``self_signed``: its own key verifies its signature
    (``None``: not tried, because the key is of a kind or size that is not loaded). ``must_staple``: the TLS feature
    status_request is there (RFC 7633 4.2.3.1); ``precertificate``: the poison is (RFC 6962 3.1). A public key that was
    sent in place of a certificate (RFC 7250) has ``bare_key`` and ``key`` alone.
    """

    sha256: str
    subject: str | None = None
    issuer: str | None = None
    serial: str | None = None
    not_before: str | None = None
    not_after: str | None = None
    version: int | None = None
    key: str | None = None
    signature_algorithm: str | None = None
    san: tuple[str, ...] = ()
    san_count: int = 0
    is_ca: bool = False
    path_length: int | None = None
    key_usage: tuple[str, ...] = ()
    extended_key_usage: tuple[str, ...] = ()
    ski: str | None = None
    aki: str | None = None
    ocsp: tuple[str, ...] = ()
    ca_issuers: tuple[str, ...] = ()
    crl: tuple[str, ...] = ()
    tls_features: tuple[str, ...] = ()
    must_staple: bool = False
    precertificate: bool = False
    scts: tuple[SignedCertificateTimestamp, ...] = ()
    sct_count: int = 0
    self_issued: bool = False
    self_signed: bool | None = False
    extensions: tuple[str, ...] = ()
    critical: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def bare_key(self) -> bool:
        return _BARE_KEY in self.problems

    def names(self, most: int = 5) -> str:
        """Its first alternative names, for a sentence."""
        shown = ", ".join(printable(name, limit=80) for name in self.san[:most])
        more = self.san_count - min(most, len(self.san))
        return (f"{shown} and {more} more" if more else shown) if shown else "no alternative name"

    def valid_at(self, moment: datetime) -> bool | None:
        """Whether ``moment`` lies within the dates; ``None`` where one of them cannot be read."""
        if self.not_before is None or self.not_after is None:
            return None
        return datetime.fromisoformat(self.not_before) <= moment <= datetime.fromisoformat(self.not_after)

    def to_json(self) -> dict[str, Any]:
        """The facts as they stand in a recording, beside ``from`` and ``der``."""
        first = ("subject", "issuer", "serial", "not_before", "not_after", "sha256")
        rest = (one.name for one in fields(self) if one.name not in first)
        values = {name: getattr(self, name) for name in (*first, *rest)} | {"sha256": self.sha256 or None}
        shown = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        shown["scts"] = [sct.fields() for sct in self.scts]
        return shown


def extension_name(oid: str) -> str:
    """What an extension is called here; its number where it has no name."""
    return _EXTENSIONS.get(oid, (oid, None))[0]


def read_certificate(der: bytes) -> CertificateFacts:
    """What ``der`` says. Never raises, for any bytes; the cost is bounded by a small multiple of their length."""
    return _read_cached(der) if len(der) <= _CACHED_UP_TO else _read(der)


def cut_certificate(der: bytes) -> CertificateParts:
    """``der`` cut into its fields (4.1). Raises :class:`DerError` where not even the outline is a certificate's."""
    if len(der) > _LARGEST:
        raise DerError(f"expected a certificate of at most {_LARGEST} bytes, got {len(der)}")
    outer = asn1.first_piece(der).expect(asn1.SEQUENCE, "a Certificate")
    tbs, algorithm, signature = asn1.exactly(3, outer.body, "a Certificate")
    fields = asn1.at_most(16, tbs.expect(asn1.SEQUENCE, "a TBSCertificate").body, "a TBSCertificate")
    version = fields.pop(0).raw if fields and fields[0].tag == 0xA0 else b""
    if len(fields) < 6:
        raise DerError(f"expected at least 6 fields in the TBSCertificate, got {len(fields)}")
    serial, inner, issuer, validity, subject, public_key, *rest = fields
    extensions = next((piece.raw for piece in rest if piece.tag == 0xA3), None)
    return CertificateParts(
        version=version,
        serial=serial.raw,
        inner_algorithm=inner.raw,
        issuer=issuer.raw,
        validity=validity.raw,
        subject=subject.raw,
        public_key=public_key.raw,
        others=tuple((piece.tag, piece.raw) for piece in rest if piece.raw is not extensions),
        extensions=extensions,
        tbs=tbs.raw,
        algorithm=algorithm.raw,
        signature=signature.raw,
        trailing=len(der) - len(outer.raw),
    )


def cut_extensions(field_der: bytes, *, tag: int = 0xA3) -> Iterator[ExtensionPart]:
    """The extensions in the field with this tag (a certificate's is ``[3]``), in their order, twins included.

    Raises :class:`DerError` on the way.
    """
    for piece in asn1.children(asn1.whole(field_der, tag, f"[{tag & 0x1F}]").body, "Extensions"):
        parts = asn1.at_most(3, piece.expect(asn1.SEQUENCE, "an Extension").body, "an Extension")
        if len(parts) < 2:
            raise DerError(f"expected 2 or 3 parts in an Extension, got {len(parts)}")
        oid = asn1.decode_oid(parts[0].expect(asn1.OID, "an extension's identifier").body)
        critical = len(parts) == 3 and any(parts[1].expect(asn1.BOOLEAN, "critical").body)
        yield ExtensionPart(oid, critical, parts[-1].expect(asn1.OCTET_STRING, "an extension's value").body, piece.raw)


def describe_key(public_key: bytes) -> str:
    """A SubjectPublicKeyInfo in words: ``RSA 2048``, ``EC P-256``, ``Ed25519``. The key is never loaded."""
    algorithm, bits = asn1.exactly(2, asn1.whole(public_key, asn1.SEQUENCE, "a SubjectPublicKeyInfo").body, "a key")
    oid, *parameters = asn1.at_most(2, algorithm.expect(asn1.SEQUENCE, "an AlgorithmIdentifier").body, "an algorithm")
    name = asn1.decode_oid(oid.expect(asn1.OID, "an algorithm").body)
    if name in {"1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10"}:  # RFC 8017 A.1.1, RFC 4055 3.1
        modulus, _ = asn1.exactly(
            2, asn1.whole(asn1.decode_bits(bits.body), asn1.SEQUENCE, "a key").body, "an RSAPublicKey"
        )
        size = asn1.bit_length(modulus.expect(asn1.INTEGER, "a modulus").body)
        return f"{'RSA' if name.endswith('.1.1') else 'RSA-PSS'} {size}"
    if name == "1.2.840.10045.2.1":  # RFC 5480 2.1.1
        if not parameters or parameters[0].tag != asn1.OID:
            return "EC explicit parameters"
        curve = asn1.decode_oid(parameters[0].body)
        return f"EC {_CURVES.get(curve, curve)}"
    if name == "1.2.840.10040.4.1":  # RFC 3279 2.3.2
        prime = next(asn1.pieces(parameters[0].body), None) if parameters else None
        return f"DSA {asn1.bit_length(prime.body)}" if prime else "DSA"
    return _KEYS.get(name, f"unknown ({name})")


def describe_algorithm(algorithm: bytes) -> str:
    """The name that OpenSSL gives a signature's AlgorithmIdentifier, or its number."""
    oid = asn1.first_piece(asn1.whole(algorithm, asn1.SEQUENCE, "an AlgorithmIdentifier").body)
    dotted = asn1.decode_oid(oid.expect(asn1.OID, "an algorithm").body)
    return _SIGNATURES.get(dotted, dotted)


def read_validity(validity: bytes) -> tuple[datetime | None, datetime | None, tuple[str, ...]]:
    """Both dates of a Validity (4.1.2.5), each ``None`` where it is unreadable, and what is wrong with them."""
    problems: list[str] = []
    dates: list[datetime | None] = [None, None]
    try:
        moments = asn1.exactly(2, asn1.whole(validity, asn1.SEQUENCE, "a Validity").body, "a Validity")
    except DerError as wrong:
        return None, None, (f"validity: {wrong}",)
    for index, (name, piece) in enumerate(zip(("not_before", "not_after"), moments, strict=True)):
        try:
            moment, doubt = read_time(piece)
        except DerError as wrong:
            doubt = str(wrong)
        else:
            dates[index] = moment
            if not doubt and piece.tag == asn1.GENERALIZED_TIME and moment.year < 2050:
                doubt = "a GeneralizedTime before 2050"
        if doubt:
            problems.append(f"{name}: {doubt}")
    return dates[0], dates[1], tuple(problems)


# -- the reading of one certificate ------------------------------------------------------------------------------


def _read(der: bytes) -> CertificateFacts:
    sha256 = hashlib.sha256(der).hexdigest()
    try:
        parts = cut_certificate(der)
    except DerError as wrong:
        try:
            return CertificateFacts(sha256=sha256, key=describe_key(der), problems=(_BARE_KEY,))
        except DerError:
            return CertificateFacts(sha256=sha256, problems=(f"certificate: {wrong}",))
    reading = Reading()
    if parts.trailing:
        reading.problem("certificate", f"{parts.trailing} bytes after it")
    for tag, _ in parts.others:
        reading.problem("tbs_certificate", f"a part with tag 0x{tag:02x}")
    reading.field("version", lambda: _version(parts.version))
    reading.field("serial", lambda: read_serial(parts.serial, reading))
    reading.field("issuer", lambda: read_name(parts.issuer, "issuer", reading))
    reading.field("subject", lambda: read_name(parts.subject, "subject", reading))
    _validity(parts.validity, reading)
    reading.field("key", lambda: describe_key(parts.public_key))
    reading.field("signature_algorithm", lambda: describe_algorithm(parts.algorithm))
    if parts.inner_algorithm != parts.algorithm:  # 4.1.1.2
        reading.problem("signature_algorithm", "not the one that the signed part names")
    if parts.extensions is not None:
        _extensions(parts, reading)
    reading.facts["self_issued"] = parts.subject == parts.issuer
    reading.facts["self_signed"] = parts.subject == parts.issuer and signed_by(parts, parts.public_key)
    return CertificateFacts(sha256=sha256, **reading.facts, problems=tuple(reading.problems[:KEPT]))


_read_cached = lru_cache(maxsize=1024)(_read)


def _version(version: bytes) -> int:
    if not version:
        return 1
    inner = asn1.first_piece(asn1.first_piece(version).body).expect(asn1.INTEGER, "a version")
    return asn1.decode_integer(inner.body) + 1


def _validity(validity: bytes, reading: Reading) -> None:
    not_before, not_after, problems = read_validity(validity)
    reading.problems += problems
    for name, moment in (("not_before", not_before), ("not_after", not_after)):
        reading.facts[name] = shown_time(moment) if moment else None
    if not_before and not_after and not_after < not_before:
        reading.problem("validity", "it ends before it begins")


# -- extensions --------------------------------------------------------------------------------------------------


def _extensions(parts: CertificateParts, reading: Reading) -> None:
    """Read each extension by itself; a second one of the same kind is noted and not read (4.2)."""
    seen: set[str] = set()
    names: list[str] = []
    critical: list[str] = []
    try:
        for count, extension in enumerate(cut_extensions(parts.extensions or b"")):
            if count == KEPT:
                reading.problem("extensions", f"more than {KEPT}, which were read")
                break
            name, read = _EXTENSIONS.get(extension.oid, (extension.oid, None))
            names.append(name)
            if extension.critical:
                critical.append(name)
            if extension.oid in seen:
                reading.problem("extensions", f"{name} more than once")
                continue
            seen.add(extension.oid)
            if read:
                try:
                    read(extension.value, reading)
                except DerError as wrong:
                    reading.problem(name, wrong)
    except DerError as wrong:
        reading.problem("extensions", wrong)
    reading.facts["extensions"], reading.facts["critical"] = tuple(names), tuple(critical)


def _san(value: bytes, reading: Reading) -> None:
    names: list[str] = []
    count = 0
    try:
        for piece in asn1.pieces(asn1.whole(value, asn1.SEQUENCE, "GeneralNames").body):
            count += 1
            if count > _MOST_ENTRIES:
                reading.problem("subject_alt_name", f"more than {_MOST_ENTRIES} names")
                break
            if count <= KEPT:
                try:
                    names.append(general_name(piece, "subject_alt_name", reading))
                except DerError as wrong:
                    reading.problem("subject_alt_name", f"name {count}: {wrong}")
    finally:
        reading.facts["san"], reading.facts["san_count"] = tuple(names), count


def _basic_constraints(value: bytes, reading: Reading) -> None:
    parts = asn1.children(value, "BasicConstraints")
    if parts and parts[0].tag == asn1.BOOLEAN:
        reading.facts["is_ca"] = any(parts.pop(0).body)
    if parts:
        reading.facts["path_length"] = asn1.decode_integer(parts[0].expect(asn1.INTEGER, "a path length").body)


def _key_usage(value: bytes, reading: Reading) -> None:
    reading.facts["key_usage"] = key_usages(value)


def key_usages(value: bytes) -> tuple[str, ...]:
    """The names of the bits that a KeyUsage sets (4.2.1.3)."""
    bits = asn1.decode_bits(asn1.whole(value, asn1.BIT_STRING, "a KeyUsage").body)
    return tuple(
        name for bit, name in enumerate(KEY_USAGES) if bit // 8 < len(bits) and bits[bit // 8] >> (7 - bit % 8) & 1
    )


def _extended_key_usage(value: bytes, reading: Reading) -> None:
    purposes = asn1.children(value, "ExtKeyUsageSyntax")
    dotted = [asn1.decode_oid(piece.expect(asn1.OID, "a purpose").body) for piece in purposes[:KEPT]]
    reading.facts["extended_key_usage"] = tuple(_PURPOSES.get(oid, oid) for oid in dotted)


def _ski(value: bytes, reading: Reading) -> None:
    reading.facts["ski"] = _identifier(asn1.whole(value, asn1.OCTET_STRING, "a key identifier").body)


def _aki(value: bytes, reading: Reading) -> None:
    for piece in asn1.children(value, "an AuthorityKeyIdentifier"):
        if piece.tag == 0x80:
            reading.facts["aki"] = _identifier(piece.body)


def _identifier(body: bytes) -> str:
    return clipped(body.hex())


def _authority_access(value: bytes, reading: Reading) -> None:
    """4.2.2.1: where the issuer's OCSP responder and its certificate are."""
    places: dict[str, list[str]] = {"ocsp": [], "ca_issuers": []}
    for description in asn1.children(value, "AuthorityInfoAccess")[:KEPT]:
        method, place = asn1.exactly(2, description.expect(asn1.SEQUENCE, "an AccessDescription").body, "a description")
        kind = {"1.3.6.1.5.5.7.48.1": "ocsp", "1.3.6.1.5.5.7.48.2": "ca_issuers"}.get(asn1.decode_oid(method.body))
        if kind:
            places[kind].append(_place(place, "authority_info_access", reading))
    reading.facts.update({kind: tuple(found) for kind, found in places.items()})


def _place(piece: Piece, which: str, reading: Reading) -> str:
    return read_text(piece.body) if piece.tag == 0x86 else general_name(piece, which, reading)


def _crl_points(value: bytes, reading: Reading) -> None:
    """4.2.1.13: the full names of the distribution points."""
    places: list[str] = []
    for point in asn1.children(value, "CRLDistributionPoints"):
        for part in asn1.at_most(3, point.expect(asn1.SEQUENCE, "a DistributionPoint").body, "a DistributionPoint"):
            name = asn1.first_piece(part.body) if part.tag == 0xA0 else None
            if name and name.tag == 0xA0:
                found = asn1.at_most(KEPT, name.body, "a DistributionPointName")
                places += [_place(place, "crl_distribution_points", reading) for place in found]
    reading.facts["crl"] = tuple(places[:KEPT])


def _tls_feature(value: bytes, reading: Reading) -> None:
    """RFC 7633: feature 5, status_request, is what people call must-staple."""
    features = asn1.children(value, "a TLS feature list")
    numbers = [asn1.decode_integer(piece.expect(asn1.INTEGER, "a TLS feature").body) for piece in features]
    reading.facts["tls_features"] = tuple(
        names.extension_name(number) if 0 <= number <= 0xFFFF else str(number) for number in numbers[:KEPT]
    )
    reading.facts["must_staple"] = 5 in numbers


def _scts(value: bytes, reading: Reading) -> None:
    """RFC 6962 3.3: a TLS list within an OCTET STRING."""
    read = transparency.read_timestamps(asn1.whole(value, asn1.OCTET_STRING, "an SCT list").body, most=KEPT)
    reading.facts["scts"], reading.facts["sct_count"] = read.scts, read.count
    for problem in read.problems:
        reading.problem("signed_certificate_timestamps", problem)


def _poison(_: bytes, reading: Reading) -> None:
    reading.facts["precertificate"] = True


# -- the one computation -----------------------------------------------------------------------------------------

_LARGEST_RSA = 8192


def signed_by(parts: CertificateParts, public_key: bytes) -> bool | None:
    """Whether ``public_key`` (a SubjectPublicKeyInfo) verifies the signature of a certificate.

    ``None`` where that was not tried: a key or an algorithm of a kind or size that is not loaded here. Names, dates and
    usages are not looked at.
    """
    return signature_holds(public_key, parts.algorithm, parts.signature, parts.tbs)


def signature_holds(public_key: bytes, algorithm_der: bytes, signature_der: bytes, signed: bytes) -> bool | None:
    """Whether ``public_key`` verifies a signature (a BIT STRING's DER) over ``signed``, as in :func:`signed_by`.

    A CRL (5.1) and an OCSP response (RFC 6960 4.2.1) are signed in the same way as a certificate.
    """
    try:
        signature = asn1.decode_bits(asn1.whole(signature_der, asn1.BIT_STRING, "a signature").body)
        algorithm = describe_algorithm(algorithm_der)
    except DerError:
        return None
    if not _is_cheap(public_key):
        return None
    pss = _pss_parameters(algorithm_der) if algorithm == "rsassaPss" else None
    return _verified(public_key, algorithm, pss, signature, signed)


def scheme_holds(public_key: bytes, scheme: int, signature: bytes, signed: bytes) -> bool | None:
    """The same for a signature of the handshake, whose algorithm is a SignatureScheme (RFC 8446 4.2.3)."""
    algorithm, pss = _SCHEMES.get(scheme, ("", None))
    if not algorithm or not _is_cheap(public_key):
        return None
    return _verified(public_key, algorithm, pss, signature, signed)


def _is_cheap(public_key: bytes) -> bool:
    try:
        kind, _, size = (key := describe_key(public_key)).partition(" ")
    except DerError:
        return False
    if kind in {"RSA", "RSA-PSS"}:  # a large exponent costs as much as a large modulus
        return size.isdigit() and int(size) <= _LARGEST_RSA and len(public_key) <= _LARGEST_RSA // 8 + 64
    return key in _CHEAP_KEYS


def _pss_parameters(algorithm_der: bytes) -> tuple[str, int] | None:
    """RSASSA-PSS-params (RFC 4055 3.1): the hash, which is the mask's as well, and the length of the salt."""
    try:
        _, *rest = asn1.at_most(2, asn1.whole(algorithm_der, asn1.SEQUENCE, "an algorithm").body, "an algorithm")
        fields = asn1.at_most(4, rest[0].expect(asn1.SEQUENCE, "parameters").body, "parameters") if rest else []
        found = {field.tag: asn1.first_piece(field.body) for field in fields}
        digest = asn1.first_piece(found[0xA0].body).body if 0xA0 in found else _SHA1
        mask = asn1.exactly(2, found[0xA1].body, "a mask")[1] if 0xA1 in found else None
        of_mask = asn1.first_piece(mask.body).body if mask else _SHA1
        salt = asn1.decode_integer(found[0xA2].body) if 0xA2 in found else 20
        name = _HASHES.get(asn1.decode_oid(digest))
    except DerError:
        return None
    return (name, salt) if name and of_mask == digest and 0 <= salt <= 64 else None


def _verified(
    public_key: bytes, algorithm: str, pss: tuple[str, int] | None, signature: bytes, signed: bytes
) -> bool | None:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

    digest = _DIGESTS.get(algorithm)
    try:
        key = serialization.load_der_public_key(public_key)
        match key:
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                key.verify(signature, signed)
            case rsa.RSAPublicKey() if digest:
                key.verify(signature, signed, padding.PKCS1v15(), getattr(hashes, digest)())
            case rsa.RSAPublicKey() if pss:
                hashed = getattr(hashes, pss[0])()
                key.verify(signature, signed, padding.PSS(padding.MGF1(hashed), pss[1]), hashed)
            case ec.EllipticCurvePublicKey() if digest:
                key.verify(signature, signed, ec.ECDSA(getattr(hashes, digest)()))
            case _:
                return None
    except InvalidSignature:
        return False
    except (ValueError, TypeError, UnsupportedAlgorithm):  # a key that the library does not load
        return None
    return True


# -- the words ---------------------------------------------------------------------------------------------------

KEY_USAGES = (
    "digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign",
    "cRLSign", "encipherOnly", "decipherOnly",
)  # fmt: skip
"""The names of the bits, bit 0 first (4.2.1.3)."""

_CURVES = {
    "1.2.840.10045.3.1.7": "P-256", "1.3.132.0.34": "P-384", "1.3.132.0.35": "P-521", "1.3.132.0.33": "P-224",
    "1.2.840.10045.3.1.1": "P-192", "1.3.132.0.10": "secp256k1", "1.3.36.3.3.2.8.1.1.7": "brainpoolP256r1",
    "1.3.36.3.3.2.8.1.1.11": "brainpoolP384r1", "1.3.36.3.3.2.8.1.1.13": "brainpoolP512r1",
    "1.2.156.10197.1.301": "SM2",
}  # fmt: skip

_KEYS = {
    "1.3.101.112": "Ed25519", "1.3.101.113": "Ed448", "1.3.101.110": "X25519", "1.3.101.111": "X448",
    "1.2.840.113549.1.3.1": "DH", "1.2.643.2.2.19": "GOST 2001", "1.2.643.7.1.1.1.1": "GOST 2012-256",
    "1.2.643.7.1.1.1.2": "GOST 2012-512", "2.16.840.1.101.3.4.3.17": "ML-DSA-44",
    "2.16.840.1.101.3.4.3.18": "ML-DSA-65", "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
}  # fmt: skip

_CHEAP_KEYS = {"EC P-256", "EC P-384", "EC P-521", "EC P-224", "EC secp256k1", "Ed25519", "Ed448"}

_SIGNATURES = {
    "1.2.840.113549.1.1.2": "md2WithRSAEncryption", "1.2.840.113549.1.1.4": "md5WithRSAEncryption",
    "1.2.840.113549.1.1.5": "sha1WithRSAEncryption", "1.2.840.113549.1.1.14": "sha224WithRSAEncryption",
    "1.2.840.113549.1.1.11": "sha256WithRSAEncryption", "1.2.840.113549.1.1.12": "sha384WithRSAEncryption",
    "1.2.840.113549.1.1.13": "sha512WithRSAEncryption", "1.2.840.113549.1.1.10": "rsassaPss",
    "1.2.840.10045.4.1": "ecdsa-with-SHA1", "1.2.840.10045.4.3.1": "ecdsa-with-SHA224",
    "1.2.840.10045.4.3.2": "ecdsa-with-SHA256", "1.2.840.10045.4.3.3": "ecdsa-with-SHA384",
    "1.2.840.10045.4.3.4": "ecdsa-with-SHA512", "1.3.101.112": "Ed25519", "1.3.101.113": "Ed448",
    "1.2.840.10040.4.3": "dsaWithSHA1", "2.16.840.1.101.3.4.3.2": "dsa_with_SHA256",
    "1.2.156.10197.1.501": "SM2-with-SM3", "2.16.840.1.101.3.4.3.17": "ML-DSA-44",
    "2.16.840.1.101.3.4.3.18": "ML-DSA-65", "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
}  # fmt: skip

_DIGESTS = {
    name: digest
    for digest in ("SHA1", "SHA224", "SHA256", "SHA384", "SHA512")
    for name in (f"{digest.lower()}WithRSAEncryption", f"ecdsa-with-{digest}")
}

_SCHEMES: dict[int, tuple[str, tuple[str, int] | None]] = {
    0x0201: ("sha1WithRSAEncryption", None), 0x0203: ("ecdsa-with-SHA1", None),
    0x0301: ("sha224WithRSAEncryption", None), 0x0303: ("ecdsa-with-SHA224", None),
    0x0401: ("sha256WithRSAEncryption", None), 0x0403: ("ecdsa-with-SHA256", None),
    0x0501: ("sha384WithRSAEncryption", None), 0x0503: ("ecdsa-with-SHA384", None),
    0x0601: ("sha512WithRSAEncryption", None), 0x0603: ("ecdsa-with-SHA512", None),
    0x0807: ("Ed25519", None), 0x0808: ("Ed448", None),
} | {
    first + place: ("rsassaPss", (digest, salt))  # RSAE and PSS keys; the salt is as long as the hash
    for first in (0x0804, 0x0809)
    for place, (digest, salt) in enumerate((("SHA256", 32), ("SHA384", 48), ("SHA512", 64)))
}  # fmt: skip

_SHA1 = asn1.first_piece(asn1.encode_oid("1.3.14.3.2.26")).body
_HASHES = {
    "1.3.14.3.2.26": "SHA1", "2.16.840.1.101.3.4.2.4": "SHA224", "2.16.840.1.101.3.4.2.1": "SHA256",
    "2.16.840.1.101.3.4.2.2": "SHA384", "2.16.840.1.101.3.4.2.3": "SHA512",
}  # fmt: skip

_PURPOSES = {
    "1.3.6.1.5.5.7.3.1": "serverAuth", "1.3.6.1.5.5.7.3.2": "clientAuth", "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection", "1.3.6.1.5.5.7.3.8": "timeStamping", "1.3.6.1.5.5.7.3.9": "OCSPSigning",
    "2.5.29.37.0": "anyExtendedKeyUsage", "1.3.6.1.4.1.311.20.2.2": "msSmartcardLogin",
    "1.3.6.1.4.1.311.10.3.3": "msSGC", "2.16.840.1.113730.4.1": "nsSGC", "1.3.6.1.5.2.3.5": "pkInitKDC",
}  # fmt: skip

_EXTENSIONS: dict[str, tuple[str, Callable[[bytes, Reading], None] | None]] = {
    "2.5.29.17": ("subject_alt_name", _san),
    "2.5.29.19": ("basic_constraints", _basic_constraints),
    "2.5.29.15": ("key_usage", _key_usage),
    "2.5.29.37": ("extended_key_usage", _extended_key_usage),
    "2.5.29.14": ("subject_key_identifier", _ski),
    "2.5.29.35": ("authority_key_identifier", _aki),
    "1.3.6.1.5.5.7.1.1": ("authority_info_access", _authority_access),
    "2.5.29.31": ("crl_distribution_points", _crl_points),
    "1.3.6.1.5.5.7.1.24": ("tls_feature", _tls_feature),
    transparency.IN_CERTIFICATE: ("signed_certificate_timestamps", _scts),
    transparency.POISON: ("precertificate_poison", _poison),
    "2.5.29.18": ("issuer_alt_name", None),
    "2.5.29.30": ("name_constraints", None),
    "2.5.29.32": ("certificate_policies", None),
    "2.5.29.33": ("policy_mappings", None),
    "2.5.29.36": ("policy_constraints", None),
    "2.5.29.46": ("freshest_crl", None),
    "2.5.29.54": ("inhibit_any_policy", None),
    "1.3.6.1.5.5.7.1.11": ("subject_info_access", None),
    "2.16.840.1.113730.1.1": ("netscape_cert_type", None),
}

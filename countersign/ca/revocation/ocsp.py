"""OCSP messages, bytes in and values out, values in and bytes out (RFC 6960 4).

What is built here is built of what it is told, right or wrong: which answer to give, with which signer and which nonce,
is decided in :mod:`~countersign.ca.revocation.answers`. What is read here is read strictly, for it is read to be acted
on or to be believed: a request that is not one raises :class:`~countersign.recorder.der.DerError`, and so does a
response. (What a recording shows of a response that it happened to see is :mod:`countersign.recorder.ocsp`.)

RFC 6960 is meant wherever only a section is cited.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING

from countersign.ca import assemble
from countersign.ca.revocation.register import Reason
from countersign.recorder import der
from countersign.recorder.certificates import cut_certificate, cut_extensions
from countersign.recorder.der import DerError, Piece
from countersign.recorder.x509_fields import read_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from countersign.ca.signer import Signer
    from countersign.recorder.certificates import CertificateParts

BASIC, NONCE, NO_CHECK = "1.3.6.1.5.5.7.48.1.1", "1.3.6.1.5.5.7.48.1.2", "1.3.6.1.5.5.7.48.1.5"
OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"

_LONGEST_NONCE = 128  # RFC 9654 2.1; RFC 8954 had 32

HASHES = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
"""The hashes that a CertID may be made with, and their object identifiers."""


class Status(IntEnum):
    """OCSPResponseStatus (4.2.1)."""

    SUCCESSFUL = 0
    MALFORMED_REQUEST = 1
    INTERNAL_ERROR = 2
    TRY_LATER = 3
    SIG_REQUIRED = 5
    UNAUTHORIZED = 6

    @property
    def word(self) -> str:
        """As 4.2.1 writes it."""
        first, *rest = self.name.lower().split("_")
        return first + "".join(part.capitalize() for part in rest)


# -- certificates by name ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CertId:
    """A certificate as OCSP names it (4.1.1). ``hash`` is the dotted object identifier; ``algorithm`` the DER of it."""

    algorithm: bytes
    hash: str
    name_hash: bytes
    key_hash: bytes
    serial: int

    @classmethod
    def of(cls, certificate: bytes, issuer: bytes, *, digest: str = "sha1") -> CertId:
        """The name of ``certificate``; both are DER. Raises :class:`DerError` where they are no certificates."""
        names, keys = issuer_hashes(issuer, digest)
        algorithm = der.encode(der.SEQUENCE, der.encode_oid(HASHES[digest]), b"\x05\x00")
        return cls(algorithm, HASHES[digest], names, keys, serial_of(certificate))

    @property
    def encoded(self) -> bytes:
        return der.encode(
            der.SEQUENCE,
            self.algorithm,
            der.encode(der.OCTET_STRING, self.name_hash),
            der.encode(der.OCTET_STRING, self.key_hash),
            der.encode_integer(self.serial),
        )

    def names_same(self, other: CertId) -> bool:
        """Whether both are the same certificate, however the parameters of the hash are written."""
        return replace(self, algorithm=other.algorithm) == other


def issuer_hashes(issuer: bytes, digest: str) -> tuple[bytes, bytes]:
    """The hashes of an issuer's name and of the bits of its key (4.1.1)."""
    parts = cut_certificate(issuer)
    return hashlib.new(digest, parts.subject).digest(), key_hash(parts, digest)


def key_hash(parts: CertificateParts, digest: str) -> bytes:
    """The hash of the bits of a certificate's key, by which a responder is named as well (4.2.1)."""
    bits = der.exactly(2, der.whole(parts.public_key, der.SEQUENCE, "a key").body, "a key")[1]
    return hashlib.new(digest, der.decode_bits(bits.body)).digest()


def serial_of(certificate: bytes) -> int:
    """The serial number. Raises :class:`DerError` for what is no certificate, and for more than 64 bytes."""
    return der.decode_integer(der.whole(cut_certificate(certificate).serial, der.INTEGER, "a serial number").body)


def _read_cert_id(piece: Piece) -> CertId:
    algorithm, names, keys, serial = der.exactly(4, piece.expect(der.SEQUENCE, "a CertID").body, "a CertID")
    oid = der.first_piece(algorithm.expect(der.SEQUENCE, "a hash algorithm").body).expect(der.OID, "a hash")
    return CertId(
        algorithm.raw,
        der.decode_oid(oid.body),
        names.expect(der.OCTET_STRING, "the hash of a name").body,
        keys.expect(der.OCTET_STRING, "the hash of a key").body,
        der.decode_integer(serial.expect(der.INTEGER, "a serial number").body),
    )


# -- requests ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked (4.1.1): some certificates, at least one; ``nonce`` is what the response is to repeat."""

    certificates: tuple[CertId, ...]
    nonce: bytes | None = None

    @property
    def encoded(self) -> bytes:
        asked = (der.encode(der.SEQUENCE, certificate.encoded) for certificate in self.certificates)
        extensions = b"" if self.nonce is None else _in_list(0xA2, [_nonce(self.nonce)])
        return der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, *asked), extensions))


def read_request(data: bytes) -> Request:
    """Raises :class:`DerError` for what is no OCSPRequest. A signature on it is left unread, as 4.1.2 allows."""
    tbs, *_ = der.at_most(2, der.whole(data, der.SEQUENCE, "an OCSPRequest").body, "an OCSPRequest") or [_nothing()]
    parts = der.at_most(4, tbs.expect(der.SEQUENCE, "a TBSRequest").body, "a TBSRequest")
    if parts and parts[0].tag == 0xA0:
        version = der.whole(parts.pop(0).body, der.INTEGER, "a version")
        if der.decode_integer(version.body) != 0:
            raise DerError("expected version 1 of OCSP, got another")
    if parts and parts[0].tag == 0xA1:
        parts.pop(0)  # the requestor's name: nobody is refused for it
    if not parts:
        raise DerError("expected a list of requests, got none")
    asked = tuple(_read_single_request(piece) for piece in der.children(parts[0].raw, "a list of requests"))
    if not asked:
        raise DerError("expected at least one request, got none")
    return Request(asked, _read_nonce(parts[1].raw) if len(parts) > 1 else None)


def _read_single_request(piece: Piece) -> CertId:
    parts = der.at_most(2, piece.expect(der.SEQUENCE, "a Request").body, "a Request")
    if not parts:
        raise DerError("expected a CertID in the Request, got nothing")
    if len(parts) == 2:
        _refuse_critical(parts[1].raw, 0xA0, known=())
    return _read_cert_id(parts[0])


def _read_nonce(field: bytes) -> bytes | None:
    """RFC 9654 2.1: an OCTET STRING of 1 to 128 bytes; any other is no request."""
    found = _refuse_critical(field, 0xA2, known=(NONCE,))
    values = [value for oid, value in found if oid == NONCE]
    if not values:
        return None
    nonce = der.whole(values[0], der.OCTET_STRING, "a nonce").body
    if len(values) > 1 or not 1 <= len(nonce) <= _LONGEST_NONCE:
        raise DerError(f"expected one nonce of 1 to {_LONGEST_NONCE} bytes, got {len(values)} of {len(nonce)}")
    return nonce


def _refuse_critical(field: bytes, tag: int, *, known: tuple[str, ...]) -> list[tuple[str, bytes]]:
    """The extensions by number and value; one that is critical and not known may not be passed over (4.4)."""
    found = list(cut_extensions(field, tag=tag))
    for extension in found:
        if extension.critical and extension.oid not in known:
            raise DerError(f"expected no critical extension that is not known here, got {extension.oid}")
    return [(extension.oid, extension.value) for extension in found]


def _nothing() -> Piece:
    raise DerError("expected something in the OCSPRequest, got nothing")


# -- responses ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Single:
    """What is said of one certificate (4.2.1): good if neither ``revoked`` (since when, why) nor ``unknown``."""

    certificate: CertId
    this_update: datetime
    next_update: datetime | None
    revoked: tuple[datetime, Reason | None] | None = None
    unknown: bool = False

    @property
    def encoded(self) -> bytes:
        if self.revoked is not None:
            at, reason = self.revoked
            known = reason is not None and reason is not Reason.UNSPECIFIED
            why = der.encode(0xA0, der.encode(der.ENUMERATED, bytes((reason.code,)))) if reason and known else b""
            status = der.encode(0xA1, _moment(at), why)
        else:
            status = b"\x82\x00" if self.unknown else b"\x80\x00"
        until = b"" if self.next_update is None else der.encode(0xA0, _moment(self.next_update))
        return der.encode(der.SEQUENCE, self.certificate.encoded, status, _moment(self.this_update), until)


@dataclass(frozen=True, slots=True)
class Response:
    """A successful response as it was read. ``responder`` is a Name's DER or the hash of a key (``by_key``)."""

    responder: bytes
    by_key: bool
    produced_at: datetime
    singles: tuple[Single, ...]
    nonce: bytes | None
    signed: bytes
    algorithm: bytes
    signature: bytes
    certificates: tuple[bytes, ...]


def failure(status: Status) -> bytes:
    """An OCSPResponse that says nothing but why there is none (2.3)."""
    return der.encode(der.SEQUENCE, der.encode(der.ENUMERATED, bytes((status,))))


def build_response(
    signer: Signer,
    *,
    responder_id: bytes,
    produced_at: datetime,
    singles: Iterable[Single],
    nonce: bytes | None = None,
    certificates: Sequence[bytes] = (),
    broken: bool = False,
) -> bytes:
    """A successful OCSPResponse; ``broken``: the last bit of its signature is the wrong one."""
    extensions = b"" if nonce is None else _in_list(0xA1, [_nonce(nonce)])
    responses = der.encode(der.SEQUENCE, *(single.encoded for single in singles))
    data = der.encode(der.SEQUENCE, responder_id, _moment(produced_at), responses, extensions)
    signature = signer.sign(data)
    if broken:
        signature = signature[:-1] + bytes((signature[-1] ^ 1,))
    basic = der.encode(
        der.SEQUENCE,
        data,
        signer.algorithm,
        der.encode(der.BIT_STRING, b"\x00", signature),
        _in_list(0xA0, certificates) if certificates else b"",
    )
    return successful(basic)


def successful(basic: bytes) -> bytes:
    """An OCSPResponse around what ought to be a BasicOCSPResponse (4.2.1)."""
    inside = der.encode(der.SEQUENCE, der.encode_oid(BASIC), der.encode(der.OCTET_STRING, basic))
    return der.encode(der.SEQUENCE, der.encode(der.ENUMERATED, b"\x00"), der.encode(0xA0, inside))


def by_name(subject: bytes) -> bytes:
    """A ResponderID: the Name of who signs."""
    return der.encode(0xA1, subject)


def by_key(key_id: bytes) -> bytes:
    """A ResponderID: the SHA-1 of the key of who signs."""
    return der.encode(0xA2, der.encode(der.OCTET_STRING, key_id))


def read_response(data: bytes) -> Response | Status:
    """The response, or the status that stands for it. Raises :class:`DerError` for what is no OCSPResponse."""
    outer = der.at_most(2, der.whole(data, der.SEQUENCE, "an OCSPResponse").body, "an OCSPResponse")
    if not outer:
        raise DerError("expected a status in the OCSPResponse, got nothing")
    number = der.decode_integer(outer[0].expect(der.ENUMERATED, "a response status").body)
    try:
        status = Status(number)
    except ValueError:
        raise DerError(f"expected a response status of RFC 6960 4.2.1, got {number}") from None
    if status is not Status.SUCCESSFUL:
        return status
    if len(outer) == 1:
        raise DerError("expected a response where the status says so, got none")
    inside = der.whole(outer[1].expect(0xA0, "response bytes").body, der.SEQUENCE, "response bytes")
    kind, response = der.exactly(2, inside.body, "response bytes")
    if der.decode_oid(kind.expect(der.OID, "a response type").body) != BASIC:
        raise DerError("expected a basic response, got one of another type")
    return _read_basic(response.expect(der.OCTET_STRING, "a response").body)


def _read_basic(data: bytes) -> Response:
    parts = der.at_most(4, der.whole(data, der.SEQUENCE, "a BasicOCSPResponse").body, "a BasicOCSPResponse")
    if len(parts) < 3:
        raise DerError(f"expected at least 3 parts in a BasicOCSPResponse, got {len(parts)}")
    signed, algorithm, signature = parts[:3]
    certificates: list[Piece] = []
    if len(parts) == 4:
        certificates = der.children(parts[3].expect(0xA0, "certificates").body, "certificates")
    fields = der.at_most(5, signed.expect(der.SEQUENCE, "ResponseData").body, "ResponseData")
    if fields and fields[0].tag == 0xA0:
        fields.pop(0)
    if len(fields) < 3:
        raise DerError(f"expected at least 3 parts in ResponseData, got {len(fields)}")
    responder, produced_at, responses, *extensions = fields
    if responder.tag not in {0xA1, 0xA2}:
        raise DerError(f"expected a ResponderID, got tag 0x{responder.tag:02x}")
    keyed = responder.tag == 0xA2
    name = der.whole(responder.body, der.OCTET_STRING, "the hash of a key").body if keyed else responder.body
    return Response(
        responder=name,
        by_key=keyed,
        produced_at=_read_moment(produced_at),
        singles=tuple(_read_single(piece) for piece in der.children(responses.raw, "a list of responses")),
        nonce=_read_response_nonce(extensions[0].raw) if extensions else None,
        signed=signed.raw,
        algorithm=algorithm.raw,
        signature=signature.raw,
        certificates=tuple(piece.raw for piece in certificates),
    )


def _read_single(piece: Piece) -> Single:
    parts = der.at_most(5, piece.expect(der.SEQUENCE, "a SingleResponse").body, "a SingleResponse")
    if len(parts) < 3:
        raise DerError(f"expected at least 3 parts in a SingleResponse, got {len(parts)}")
    certificate, status, this_update, *rest = parts
    revoked, unknown = None, False
    match status.tag:
        case 0xA1:
            revoked = _read_revoked(status)
        case 0x82 | 0xA2:
            unknown = True
        case 0x80 | 0xA0:
            pass
        case tag:
            raise DerError(f"expected good, revoked or unknown, got tag 0x{tag:02x}")
    next_update = None
    for part in rest:
        if part.tag == 0xA0:
            next_update = _read_moment(der.first_piece(part.body))
        else:
            _refuse_critical(part.raw, 0xA1, known=())
    return Single(_read_cert_id(certificate), _read_moment(this_update), next_update, revoked, unknown)


def _read_revoked(status: Piece) -> tuple[datetime, Reason | None]:
    parts = der.at_most(2, status.body, "RevokedInfo")
    if not parts:
        raise DerError("expected the time of a revocation, got nothing")
    reason = None
    if len(parts) == 2:
        coded = der.whole(parts[1].expect(0xA0, "a reason").body, der.ENUMERATED, "a reason")
        reason = Reason.of_code(der.decode_integer(coded.body))
    return _read_moment(parts[0]), reason


def _read_response_nonce(field: bytes) -> bytes | None:
    for oid, value in _refuse_critical(field, 0xA1, known=(NONCE,)):
        if oid == NONCE:
            return der.whole(value, der.OCTET_STRING, "a nonce").body
    return None


def _read_moment(piece: Piece) -> datetime:
    moment, _ = read_time(piece.expect(der.GENERALIZED_TIME, "a time"))
    return moment


# -- pieces ------------------------------------------------------------------------------------------------------


def _moment(moment: datetime) -> bytes:
    """A GeneralizedTime in seconds (RFC 5280 4.1.2.5.2, which 4.2.2.1 asks for)."""
    utc = moment.astimezone(UTC)
    return der.encode(der.GENERALIZED_TIME, f"{utc.year:04d}{utc:%m%d%H%M%S}Z".encode())


def _nonce(nonce: bytes) -> bytes:
    return assemble.extension(NONCE, der.encode(der.OCTET_STRING, nonce))


def _in_list(tag: int, encoded: Iterable[bytes]) -> bytes:
    """An explicitly tagged SEQUENCE OF."""
    return der.encode(tag, der.encode(der.SEQUENCE, *encoded))

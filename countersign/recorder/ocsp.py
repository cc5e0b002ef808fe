"""What a stapled OCSP response says (RFC 6960 4.2.1), each field read in isolation as in :mod:`.certificates`.

Nothing is verified here: who signed it, and whether it is about the certificate beside it, is for those who judge. RFC
6960 is meant wherever only a section is cited.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from countersign.recorder import der as asn1
from countersign.recorder.certificates import ExtensionPart, cut_extensions, describe_algorithm
from countersign.recorder.der import DerError, Piece
from countersign.recorder.wire import transparency
from countersign.recorder.x509_fields import KEPT, Reading, clipped, read_name, read_serial, read_time, shown_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.recorder.wire.transparency import SignedCertificateTimestamp

_BASIC = "1.3.6.1.5.5.7.48.1.1"
_RESPONSE_STATUSES = {
    0: "successful",
    1: "malformed_request",
    2: "internal_error",
    3: "try_later",
    5: "sig_required",
    6: "unauthorized",
}
_CERTIFICATE_STATUSES = {0x80: "good", 0xA0: "good", 0xA1: "revoked", 0x82: "unknown", 0xA2: "unknown"}
_REASONS = {  # RFC 5280 5.3.1
    0: "unspecified",
    1: "key_compromise",
    2: "ca_compromise",
    3: "affiliation_changed",
    4: "superseded",
    5: "cessation_of_operation",
    6: "certificate_hold",
    8: "remove_from_crl",
    9: "privilege_withdrawn",
    10: "aa_compromise",
}


@dataclass(frozen=True, slots=True)
class CertificateAnswer:
    """What is said of one certificate. ``serial`` is written as in :class:`~.certificates.CertificateFacts`."""

    serial_number: str | None = None
    certificate_status: str | None = None
    this_update: str | None = None
    next_update: str | None = None
    revoked_at: str | None = None
    revocation_reason: str | None = None
    scts: tuple[SignedCertificateTimestamp, ...] = ()
    sct_count: int = 0


@dataclass(frozen=True, slots=True)
class OcspFacts:
    """A response. ``None`` and empty mean: not there, or unreadable and named in ``problems``."""

    response_status: str | None = None
    responder: str | None = None
    produced_at: str | None = None
    signature_algorithm: str | None = None
    answers: tuple[CertificateAnswer, ...] = ()
    answer_count: int = 0
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The response with its first answer, which is the one about the server's certificate (RFC 6066 8)."""
        answer = self.answers[0] if self.answers else CertificateAnswer()
        return {
            "response_status": self.response_status,
            "certificate_status": answer.certificate_status,
            "serial_number": answer.serial_number,
            "produced_at": self.produced_at,
            "this_update": answer.this_update,
            "next_update": answer.next_update,
            "revoked_at": answer.revoked_at,
            "revocation_reason": answer.revocation_reason,
            "responder": self.responder,
            "signature_algorithm": self.signature_algorithm,
            "answer_count": self.answer_count,
            "scts": [sct.fields() for sct in answer.scts],
            "problems": list(self.problems),
        }


def read_ocsp_response(der: bytes) -> OcspFacts:
    """What the bytes of an OCSPResponse say. Never raises, for any bytes."""
    reading = Reading()
    try:
        _response(der, reading)
    except DerError as wrong:
        reading.problem("ocsp_response", wrong)
    return OcspFacts(**reading.facts, problems=tuple(reading.problems[:KEPT]))


def _response(der: bytes, reading: Reading) -> None:
    outer = asn1.at_most(2, asn1.whole(der, asn1.SEQUENCE, "an OCSPResponse").body, "an OCSPResponse")
    if not outer:
        raise DerError("expected a status in the OCSPResponse, got nothing")
    status = asn1.decode_integer(outer[0].expect(asn1.ENUMERATED, "a response status").body)
    reading.facts["response_status"] = _RESPONSE_STATUSES.get(status, str(status))
    if len(outer) == 1:
        return
    kind, response = asn1.exactly(2, _inside(outer[1], 0xA0, "response bytes").body, "response bytes")
    name = asn1.decode_oid(kind.expect(asn1.OID, "a response type").body)
    if name != _BASIC:
        reading.problem("response_type", f"{name}, which is not read")
        return
    basic = response.expect(asn1.OCTET_STRING, "a response").body
    parts = asn1.at_most(4, asn1.whole(basic, asn1.SEQUENCE, "a BasicOCSPResponse").body, "a BasicOCSPResponse")
    if len(parts) < 3:
        raise DerError(f"expected at least 3 parts in a BasicOCSPResponse, got {len(parts)}")
    reading.field("signature_algorithm", lambda: describe_algorithm(parts[1].raw))
    _data(parts[0].expect(asn1.SEQUENCE, "ResponseData"), reading)


def _data(data: Piece, reading: Reading) -> None:
    """4.2.1: ResponseData, from whose beginning the version may be left out."""
    parts = asn1.at_most(5, data.body, "ResponseData")
    if parts and parts[0].tag == 0xA0:
        parts.pop(0)
    if len(parts) < 3:
        raise DerError(f"expected at least 3 parts in ResponseData, got {len(parts)}")
    responder, produced_at, responses = parts[:3]
    reading.field("responder", lambda: _responder(responder, reading))
    reading.field("produced_at", lambda: _time(produced_at, "produced_at", reading))
    answers: list[CertificateAnswer] = []
    count = 0
    try:
        for count, single in enumerate(_answers(responses), start=1):
            if count <= KEPT:
                answers.append(_answer(single, reading))
    except DerError as wrong:
        reading.problem("responses", wrong)
    reading.facts["answers"], reading.facts["answer_count"] = tuple(answers), count


def _answers(responses: Piece) -> Iterator[Piece]:
    return asn1.pieces(responses.expect(asn1.SEQUENCE, "a list of responses").body)


def _responder(responder: Piece, reading: Reading) -> str:
    """4.2.1: its name, or the SHA-1 of its key."""
    if responder.tag == 0xA1:
        return read_name(responder.body, "responder", reading)
    return f"#{clipped(_inside(responder, 0xA2, 'a responder', asn1.OCTET_STRING).body.hex())}"


def _answer(single: Piece, reading: Reading) -> CertificateAnswer:
    """4.2.1: SingleResponse."""
    read = Reading(problems=reading.problems)
    try:
        parts = asn1.at_most(5, single.expect(asn1.SEQUENCE, "a SingleResponse").body, "a SingleResponse")
        if len(parts) < 3:
            raise DerError(f"expected at least 3 parts in a SingleResponse, got {len(parts)}")
        certificate, status, this_update, *rest = parts
        read.field("serial_number", lambda: _serial(certificate, reading))
        read.field("certificate_status", lambda: _status(status))
        read.field("this_update", lambda: _time(this_update, "this_update", reading))
        if status.tag == 0xA1:
            _revoked(status, read)
        for part in rest:
            if part.tag == 0xA0:
                read.field("next_update", partial(_next_update, part, reading))
            elif part.tag == 0xA1:
                for extension in cut_extensions(part.raw, tag=part.tag):
                    _extension(extension, read)
    except DerError as wrong:
        read.problem("single_response", wrong)
    return CertificateAnswer(**read.facts)


def _serial(certificate: Piece, reading: Reading) -> str:
    """4.1.1: CertID."""
    parts = asn1.exactly(4, certificate.expect(asn1.SEQUENCE, "a CertID").body, "a CertID")
    return read_serial(parts[3].raw, reading)


def _status(status: Piece) -> str:
    found = _CERTIFICATE_STATUSES.get(status.tag)
    if found is None:
        raise DerError(f"expected good, revoked or unknown, got tag 0x{status.tag:02x}")
    return found


def _revoked(status: Piece, read: Reading) -> None:
    """4.2.1: RevokedInfo."""
    parts = asn1.at_most(2, status.body, "RevokedInfo")
    if parts:
        read.field("revoked_at", lambda: _time(parts[0], "revoked_at", read))
    if len(parts) == 2:
        read.field("revocation_reason", lambda: _reason(parts[1]))


def _reason(part: Piece) -> str:
    number = asn1.decode_integer(_inside(part, 0xA0, "a revocation reason", asn1.ENUMERATED).body)
    return _REASONS.get(number, str(number))


def _next_update(part: Piece, reading: Reading) -> str:
    return _time(asn1.first_piece(part.body), "next_update", reading)


def _time(piece: Piece, which: str, reading: Reading) -> str:
    moment, doubt = read_time(piece)
    if doubt or piece.tag != asn1.GENERALIZED_TIME:
        reading.problem(which, doubt or "no GeneralizedTime")
    return shown_time(moment)


def _extension(extension: ExtensionPart, read: Reading) -> None:
    """RFC 6962 3.3: an OCTET STRING within the extension's own."""
    if extension.oid != transparency.IN_OCSP_RESPONSE:
        return
    try:
        body = asn1.whole(extension.value, asn1.OCTET_STRING, "an SCT list").body
    except DerError as wrong:
        read.problem("signed_certificate_timestamps", wrong)
        return
    found = transparency.read_timestamps(body, most=KEPT)
    read.facts["scts"], read.facts["sct_count"] = found.scts, found.count
    for problem in found.problems:
        read.problem("signed_certificate_timestamps", problem)


def _inside(piece: Piece, tag: int, what: str, inner: int = asn1.SEQUENCE) -> Piece:
    """What an explicitly tagged field holds."""
    return asn1.whole(piece.expect(tag, what).body, inner, what)

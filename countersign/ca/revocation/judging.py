"""What an answer about revocation is worth: read strictly, and believed only for good reasons.

An answer is believed if it is about the certificate that was asked about, signed by the issuer or by somebody whom the
issuer authorised for it, of now, and an answer to this question (RFC 6960 3.2, RFC 5280 6.3.3). Everything that stands
against it is noted, not only the first thing, for an answer that is wrong in two places has two causes. What the RFCs
allow, or what no client minds, is noted and believed nevertheless.

No socket is touched here: the same judgement serves what was fetched and what was stapled to a handshake.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from countersign.ca.pem import PemError, certificates_in
from countersign.ca.revocation import ocsp
from countersign.ca.revocation.crl import read_crl
from countersign.ca.revocation.faults import Kind
from countersign.ca.revocation.ocsp import CertId, Response, Single, Status
from countersign.ca.revocation.register import Reason
from countersign.recorder import der
from countersign.recorder.certificates import (
    CertificateParts,
    cut_certificate,
    read_certificate,
    signature_holds,
    signed_by,
)
from countersign.recorder.der import DerError

_CONTENT_TYPES = {
    Kind.OCSP: ("application/ocsp-response",),
    Kind.CRL: ("application/pkix-crl", "application/x-pkcs7-crl", "application/octet-stream"),
    Kind.AIA: (
        "application/pkix-cert", "application/pkcs7-mime", "application/x-x509-ca-cert", "application/octet-stream",
    ),
}  # fmt: skip


class Verdict(StrEnum):
    """What an answer comes to."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"
    FOUND = "found"
    DECLINED = "declined"
    UNUSABLE = "unusable"
    NO_ANSWER = "no answer"


class Doubt(StrEnum):
    """What can stand against an answer."""

    # nobody answered, or HTTP said no
    NOT_ASKED = "not asked"
    REFUSED = "refused"
    RESET = "reset"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    HTTP = "http"
    REDIRECTS = "redirects"
    TOO_LARGE = "too large"
    CUT = "cut"
    # something came
    CONTENT_TYPE = "content type"
    MALFORMED = "malformed"
    STATUS = "status"
    SIGNATURE = "signature"
    SIGNER = "signer"
    EXPIRED = "expired"
    FUTURE = "future"
    NO_NEXT_UPDATE = "no next update"
    WRONG_CERTIFICATE = "wrong certificate"
    WRONG_ISSUER = "wrong issuer"
    NO_NONCE = "no nonce"
    WRONG_NONCE = "wrong nonce"
    PARTIAL = "partial"
    CRITICAL = "critical extension"


_TOLERABLE = {Doubt.CONTENT_TYPE, Doubt.NO_NEXT_UPDATE, Doubt.NO_NONCE, Doubt.PARTIAL}
"""What is noted and believed nevertheless: the RFCs allow it, or clients do not look."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how much: seconds for the whole of it, bytes of the body, seconds by which clocks may differ."""

    seconds: float = 10.0
    size: int = 16 << 20
    skew: float = 300.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one question. ``text`` is the whole of it in words; ``doubts`` have each a sentence.

    ``signer`` is who signed, by name. ``issuer`` is, of kind AIA, the certificate that was found. ``body`` is what
    came, as far as it did.
    """

    url: str
    kind: Kind
    method: str
    verdict: Verdict
    text: str
    at: datetime
    seconds: float
    doubts: tuple[tuple[Doubt, str], ...] = ()
    http_status: int | None = None
    revoked_at: datetime | None = None
    reason: Reason | None = None
    this_update: datetime | None = None
    next_update: datetime | None = None
    signer: str | None = None
    issuer: bytes | None = field(default=None, repr=False)
    body: bytes = field(default=b"", repr=False)

    def has(self, doubt: Doubt) -> bool:
        return any(kind is doubt for kind, _ in self.doubts)

    def to_json(self) -> dict[str, Any]:
        """Everything but the body."""
        return {
            "url": self.url,
            "kind": self.kind.value,
            "method": self.method,
            "verdict": self.verdict.value,
            "text": self.text,
            "at": _shown(self.at),
            "seconds": self.seconds,
            "doubts": [{"doubt": doubt.value, "text": text} for doubt, text in self.doubts],
            "http_status": self.http_status,
            "revoked_at": _shown(self.revoked_at),
            "reason": self.reason.value if self.reason else None,
            "this_update": _shown(self.this_update),
            "next_update": _shown(self.next_update),
            "signer": self.signer,
        }


def _shown(moment: datetime | None) -> str | None:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if moment else None


@dataclass(slots=True)
class Judging:
    """One question to one URL, from what is asked to what it came to."""

    url: str
    kind: Kind
    method: str
    certificate: bytes
    issuer: bytes
    patience: Patience
    asked: ocsp.Request | None
    began: datetime
    http_status: int | None = None
    content_type: str = ""
    body: bytearray = field(default_factory=bytearray)
    doubts: list[tuple[Doubt, str]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def doubt(self, doubt: Doubt, text: str) -> None:
        self.doubts.append((doubt, text))

    def answer(self, verdict: Verdict, text: str, *, seconds: float) -> Answer:
        """The answer, with the first of the doubts that decided in its text."""
        return Answer(
            url=self.url,
            kind=self.kind,
            method=self.method,
            verdict=verdict,
            text=text,
            at=self.began,
            seconds=round(seconds, 6),
            doubts=tuple(self.doubts),
            http_status=self.http_status,
            body=bytes(self.body),
            **self.facts,
        )

    def judge(self, now: datetime) -> tuple[Verdict, str]:
        """What the body comes to. A CRL of 15 MB takes about a second."""
        expected, body = _CONTENT_TYPES[self.kind], bytes(self.body)
        if self.content_type.partition(";")[0].strip().lower() not in expected:
            shown = self.content_type or "none"
            self.doubt(Doubt.CONTENT_TYPE, f"the content type is {shown}, expected {expected[0]}")
        try:
            match self.kind:
                case Kind.OCSP:
                    verdict, text = self._ocsp(body, now)
                case Kind.CRL:
                    verdict, text = self._crl(body, now)
                case Kind.AIA:
                    verdict, text = self._aia(body)
        except (DerError, PemError) as wrong:
            self.doubt(Doubt.MALFORMED, f"expected {_EXPECTED[self.kind]}, got {_what(body)} ({wrong})")
            verdict, text = Verdict.UNUSABLE, ""
        against = [why for doubt, why in self.doubts if doubt not in _TOLERABLE]
        if verdict is Verdict.DECLINED or not against:
            return verdict, text
        return Verdict.UNUSABLE, f"cannot be believed: {'; '.join(against)}"

    # -- OCSP: RFC 6960 3.2 --------------------------------------------------------------------------------------

    def _ocsp(self, body: bytes, now: datetime) -> tuple[Verdict, str]:
        response = ocsp.read_response(body)
        if isinstance(response, Status):
            self.doubt(Doubt.STATUS, f"the responder answers {response.word}")
            return Verdict.DECLINED, f"declined: {response.word}"
        assert self.asked is not None
        asked = self.asked.certificates[0]
        self._signer(response, now)
        if self.asked.nonce is not None and response.nonce is None:
            self.doubt(Doubt.NO_NONCE, "the nonce was not repeated, so the answer may be an old one")
        elif response.nonce is not None and response.nonce != self.asked.nonce:
            self.doubt(Doubt.WRONG_NONCE, "the nonce is another than was sent: this answers another question")
        single = next((one for one in response.singles if one.certificate.names_same(asked)), None)
        if single is None:
            self._not_about(response, asked)
            return Verdict.UNUSABLE, ""
        self._dates(single.this_update, single.next_update, now)
        return self._status(single)

    def _not_about(self, response: Response, asked: CertId) -> None:
        others = [one.certificate for one in response.singles]
        if others and all(other.serial == asked.serial and other.hash == asked.hash for other in others):
            self.doubt(Doubt.WRONG_ISSUER, "it is about a certificate of another issuer with this serial number")
        else:
            about = f"the certificate {others[0].serial:x}" if others else "none"
            self.doubt(Doubt.WRONG_CERTIFICATE, f"it is about {about}, not about {asked.serial:x}")

    def _status(self, single: Single) -> tuple[Verdict, str]:
        if single.revoked is not None:
            at, reason = single.revoked
            return self._revoked(at, reason or Reason.UNSPECIFIED)
        if single.unknown:
            return Verdict.UNKNOWN, "unknown: the responder does not know this certificate"
        return Verdict.GOOD, f"good{self._until()}"

    def _signer(self, response: Response, now: datetime) -> None:
        """Who signed: the issuer, or somebody with a certificate by it for OCSP signing (4.2.2.2)."""
        issuer = cut_certificate(self.issuer)
        delegate = next((one for one in response.certificates if _is_named(cut_certificate(one), response)), None)
        if _is_named(issuer, response):
            self._signed_by(self.issuer, response.algorithm, response.signature, response.signed)
            return
        if delegate is None:
            self.doubt(Doubt.SIGNER, "it names somebody as its signer whose certificate is not in it")
            return
        self._signed_by(delegate, response.algorithm, response.signature, response.signed)
        facts, parts = read_certificate(delegate), cut_certificate(delegate)
        if parts.issuer != issuer.subject or not signed_by(parts, issuer.public_key):
            self.doubt(Doubt.SIGNER, f"its signer was authorised by '{facts.issuer}', not by the issuer")
        if "OCSPSigning" not in facts.extended_key_usage:
            self.doubt(Doubt.SIGNER, "the certificate of its signer is not for OCSP signing")
        if not facts.valid_at(now):
            self.doubt(
                Doubt.SIGNER, f"the certificate of its signer is of {facts.not_before} to {facts.not_after}, not of now"
            )

    def _signed_by(self, certificate: bytes, algorithm: bytes, signature: bytes, signed: bytes) -> None:
        """Note whose certificate it is, and what is wrong with the signature if anything is."""
        self.facts["signer"] = subject = read_certificate(certificate).subject
        holds = signature_holds(cut_certificate(certificate).public_key, algorithm, signature, signed)
        if holds is None:
            self.doubt(Doubt.SIGNATURE, f"the signature of '{subject}' is of a kind that cannot be checked here")
        elif not holds:
            self.doubt(Doubt.SIGNATURE, f"the signature is not that of '{subject}'")

    # -- CRL: RFC 5280 6.3.3 -------------------------------------------------------------------------------------

    def _crl(self, body: bytes, now: datetime) -> tuple[Verdict, str]:
        crl = read_crl(body)
        issuer = cut_certificate(self.issuer)
        if crl.issuer != issuer.subject:
            self.doubt(Doubt.WRONG_ISSUER, "it is the CRL of another issuer")
        self._signed_by(self.issuer, crl.algorithm, crl.signature, crl.signed)
        if crl.unknown_critical:
            self.doubt(
                Doubt.CRITICAL, f"it has critical extensions that are not known: {', '.join(crl.unknown_critical)}"
            )
        self._dates(crl.this_update, crl.next_update, now)
        listed = crl.find(ocsp.serial_of(self.certificate))
        if crl.only:
            self.doubt(Doubt.PARTIAL, f"it is not about everything: {', '.join(crl.only)}")
        if crl.base is not None:
            self.doubt(Doubt.PARTIAL, f"it is a delta CRL, which says only what changed since CRL {crl.base}")
        if listed is not None and listed.reason is not Reason.REMOVE_FROM_CRL:
            return self._revoked(listed.at, listed.reason)
        if crl.base is not None:
            removed = "no longer revoked" if listed else "nothing has changed for this certificate"
            return Verdict.UNKNOWN, f"{removed} since CRL {crl.base}"
        return Verdict.GOOD, f"good: not on the CRL{self._until()}"

    # -- the issuer's certificate: RFC 5280 4.2.2.1 --------------------------------------------------------------

    def _aia(self, body: bytes) -> tuple[Verdict, str]:
        found = _certificates(body)
        leaf = cut_certificate(self.certificate)
        for one in found:
            parts = cut_certificate(one)
            if parts.subject == leaf.issuer and signed_by(leaf, parts.public_key):
                self.facts["issuer"] = one
                return Verdict.FOUND, f"found the issuer '{read_certificate(one).subject}'"
        names = ", ".join(f"'{read_certificate(one).subject}'" for one in found[:3])
        self.doubt(Doubt.WRONG_ISSUER, f"the issuer is not among the {len(found)} that came: {names}")
        return Verdict.UNUSABLE, ""

    # -- both ----------------------------------------------------------------------------------------------------

    def _revoked(self, at: datetime, reason: Reason) -> tuple[Verdict, str]:
        self.facts |= {"revoked_at": at, "reason": reason}
        return Verdict.REVOKED, f"revoked ({reason}) on {_shown(at)}"

    def _dates(self, this_update: datetime, next_update: datetime | None, now: datetime) -> None:
        self.facts |= {"this_update": this_update, "next_update": next_update}
        skew = timedelta(seconds=self.patience.skew)
        if this_update > now + skew:
            self.doubt(Doubt.FUTURE, f"it is of {_shown(this_update)}, which is yet to come")
        if next_update is None:
            self.doubt(Doubt.NO_NEXT_UPDATE, "it does not say until when it is good")
        elif next_update < now - skew:
            self.doubt(Doubt.EXPIRED, f"it was good until {_shown(next_update)}")

    def _until(self) -> str:
        until = self.facts.get("next_update")
        return f", until {_shown(until)}" if until else ""


def judge_staple(body: bytes, certificate: bytes, issuer: bytes, *, now: datetime, skew: float = 300.0) -> Answer:
    """What an OCSP response that came with a handshake is worth for ``certificate`` (all DER). Raises nothing."""
    judging = Judging(
        "", Kind.OCSP, "stapled", certificate, issuer, Patience(skew=skew), None, now,
        content_type="application/ocsp-response", body=bytearray(body),
    )  # fmt: skip
    verdict, text = Verdict.UNUSABLE, ""
    try:
        for digest in ocsp.HASHES:
            judging.asked = ocsp.Request((CertId.of(certificate, issuer, digest=digest),))
            judging.doubts.clear()
            verdict, text = judging.judge(now)
            if not (judging.doubts and judging.doubts[-1][0] is Doubt.WRONG_CERTIFICATE):
                break
    except DerError as wrong:
        judging.doubt(Doubt.NOT_ASKED, f"the certificate or its issuer cannot be read: {wrong}")
    return judging.answer(verdict, text, seconds=0.0)


def _is_named(parts: CertificateParts, response: Response) -> bool:
    """Whether the ResponderID is this certificate's (RFC 6960 4.2.2.3)."""
    if response.by_key:
        return ocsp.key_hash(parts, "sha1") == response.responder
    return parts.subject == response.responder


def _certificates(body: bytes) -> tuple[bytes, ...]:
    """One certificate, PEM (which the RFC does not allow and servers send), or a PKCS #7 of nothing else."""
    if not body.startswith(b"\x30"):
        return certificates_in(body)
    outer = der.at_most(3, der.whole(body, der.SEQUENCE, "a certificate or PKCS #7").body, "a certificate")
    if not outer or outer[0].tag != der.OID:
        return certificates_in(body)
    if len(outer) != 2 or der.decode_oid(outer[0].body) != "1.2.840.113549.1.7.2":
        raise DerError("expected a PKCS #7 of certificates, got another kind")
    fields = der.at_most(6, der.whole(outer[1].body, der.SEQUENCE, "SignedData").body, "SignedData")
    held = next((field for field in fields if field.tag == 0xA0), None)
    if held is None:
        raise DerError("expected certificates in the PKCS #7, got none")
    return tuple(piece.raw for piece in der.at_most(256, held.body, "certificates"))


_EXPECTED = {
    Kind.OCSP: "an OCSP response",
    Kind.CRL: "a CRL",
    Kind.AIA: "a certificate or a PKCS #7 of certificates",
}


def _what(body: bytes) -> str:
    if not body:
        return "nothing"
    start = body[:200].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    return f"{len(body)} bytes of something else"

"""What is answered to a question about revocation, right or wrong on purpose; no socket is touched here.

A question comes in as bytes or as the name of a file, an answer goes out as a :class:`Reply` with the faults in force
for it. Those that change what is said are done here; a wrong answer is wrong in its one place, for it is built by the
same calls as the right one, told something else there. Those of HTTP and of the wire are left to who sends it.

Times. An answer's own date lies five minutes back, because clocks differ and OpenSSL forgives a CRL nothing. What lasts
is divided by ``clock``: at 1000x a response is good for 86 seconds where it would have been a day. Nothing begins ahead
of real time, unless the fault ``future`` says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from countersign.ca.revocation import ocsp
from countersign.ca.revocation.crl import CrlFields, Listed, build_crl
from countersign.ca.revocation.faults import Fault, Kind, What
from countersign.ca.revocation.issuers import Delegates, Flaw, Issuers, Served, SignedBy, labelled
from countersign.ca.revocation.lists import Dates, Lists
from countersign.ca.revocation.ocsp import CertId, Single, Status
from countersign.ca.revocation.points import CaForm, CrlForm, Urls, url_name
from countersign.ca.revocation.register import Register, RegisterError, State
from countersign.ca.revocation.replies import GARBAGE, NOT_CACHED, BigCrl, Reply, by_what, cache_headers
from countersign.errors import UserError
from countersign.recorder import der
from countersign.recorder.certificates import read_certificate
from countersign.recorder.der import DerError
from countersign.recorder.private_files import FileFault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from countersign.ca.authority import Authority

_MALFORMED = f"{len(GARBAGE)} bytes that are no answer"
_BACKDATED = timedelta(minutes=5)
_STATUSES = {
    What.MALFORMED_REQUEST: Status.MALFORMED_REQUEST,
    What.INTERNAL_ERROR: Status.INTERNAL_ERROR,
    What.TRY_LATER: Status.TRY_LATER,
    What.SIG_REQUIRED: Status.SIG_REQUIRED,
    What.UNAUTHORIZED: Status.UNAUTHORIZED,
}
_FLAWS = {
    What.WRONG_SIGNER: Flaw.STRANGER,
    What.SIGNER_WITHOUT_EKU: Flaw.WITHOUT_EKU,
    What.SIGNER_EXPIRED: Flaw.EXPIRED,
}
_DATED = {What.EXPIRED, What.FUTURE, What.NO_NEXT_UPDATE}


class ResponderId(StrEnum):
    """How a response names who signed it (RFC 6960 4.2.2.3)."""

    KEY = "key"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Manner:
    """How right answers look. ``lifetime`` is from one update to the next, before ``clock`` divides it."""

    signed_by: SignedBy = SignedBy.DELEGATE
    responder_id: ResponderId = ResponderId.KEY
    lifetime: timedelta = timedelta(days=1)
    clock: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.clock <= 1e9:
            raise UserError(f"the clock of a responder runs 1 to 1e9 times as fast, got {self.clock:g}")
        if not timedelta(seconds=1) <= self.lifetime <= timedelta(days=3650):
            raise UserError(f"an answer lives from a second to ten years, got {self.lifetime}")

    @property
    def lasts(self) -> timedelta:
        return max(self.lifetime / self.clock, timedelta(seconds=1))


@dataclass(slots=True)
class Answers:
    """Answers for ``issuers`` as ``register`` and the ``faults`` in force say. For one event loop or one thread."""

    issuers: Issuers
    register: Register
    manner: Manner = field(default_factory=Manner)
    faults: tuple[Fault, ...] = ()
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _since: datetime = field(init=False)
    _delegates: Delegates = field(init=False)
    _lists: Lists = field(default_factory=Lists)
    _times: dict[Fault, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._since = self.now().replace(microsecond=0) - _BACKDATED
        self._delegates = Delegates(self.manner.clock)

    def prepare(self) -> None:
        """Make the keys that will be needed, and let the bases of delta CRLs stand as of now. RSA takes a while."""
        self.make_signers(self.issuers)
        for served in self.issuers.by_label.values():
            self._list_fields(served, CrlForm.BASE, ())

    def make_signers(self, issuers: Issuers) -> None:
        """Make the keys alone, which another thread may do."""
        for served in issuers.by_label.values():
            self._delegates.sign_for(served, self.now(), by=self.manner.signed_by)

    def serve(self, issuers: Issuers) -> None:
        """Other issuers from now on; what was made for those that stay is kept."""
        self.issuers = issuers
        self.prepare()

    # -- faults --------------------------------------------------------------------------------------------------

    def change(self, faults: tuple[Fault, ...]) -> None:
        """Other faults from now on, none of which has befallen anybody yet."""
        self.faults = faults
        self._times.clear()

    def _befallen(self, kind: Kind, label: str | None, serials: Sequence[int] = ()) -> tuple[Fault, ...]:
        """The faults in force for a question, each counted. A CRL is about any serial that a fault may name."""
        found = []
        for fault in dict.fromkeys(self.faults):
            about = (fault.serial,) if kind is Kind.CRL and fault.serial is not None else serials
            if fault.befalls(kind, label, about):
                count = self._times.get(fault, 0)
                if fault.times is None or count < fault.times:
                    found.append(fault)
                    if fault.times is not None:
                        self._times[fault] = count + 1
        return tuple(found)

    def _trouble(self) -> str:
        """Why the register cannot be relied on now, if it cannot; then nothing is called good."""
        try:
            self.register.refresh()
        except (RegisterError, FileFault) as wrong:
            return str(wrong)
        return ""

    def _dates(self, faults: tuple[Fault, ...]) -> Dates:
        now, lasts = self.now().replace(microsecond=0), self.manner.lasts
        this_update, next_update = now - _BACKDATED, now + lasts
        in_force = by_what(faults)
        if expired := in_force.get(What.EXPIRED):
            next_update = now - timedelta(seconds=expired.seconds)
            this_update = next_update - lasts - _BACKDATED
        elif future := in_force.get(What.FUTURE):
            this_update = now + timedelta(seconds=future.seconds)
            next_update = this_update + lasts + _BACKDATED
        return this_update, None if What.NO_NEXT_UPDATE in in_force else next_update

    # -- OCSP ----------------------------------------------------------------------------------------------------

    def to_request(self, data: bytes, *, cacheable: bool = False, stapled: bool = False) -> Reply:
        """The response to a request in DER; never raises for any bytes. ``cacheable``: it came with GET."""
        try:
            request = ocsp.read_request(data)
        except DerError as wrong:
            return self.malformed(str(wrong))
        served = next(filter(None, map(self.issuers.asked_about, request.certificates)), None)
        label = served.label if served else None
        serials = tuple(certificate.serial for certificate in request.certificates)
        faults = self._befallen(Kind.OCSP, label, serials)
        reply = self._respond(request, served, faults, cacheable=cacheable, stapled=stapled)
        if What.MALFORMED in by_what(faults):
            reply = replace(reply, says=_MALFORMED, body=GARBAGE, headers=NOT_CACHED)
        return replace(reply, issuer=label, serials=serials)

    def malformed(self, why: str) -> Reply:
        """The answer to what is no request at all."""
        return _failure(Status.MALFORMED_REQUEST, self._befallen(Kind.OCSP, None), note=why)

    def _respond(
        self,
        request: ocsp.Request,
        served: Served | None,
        faults: tuple[Fault, ...],
        *,
        cacheable: bool,
        stapled: bool = False,
    ) -> Reply:
        in_force = by_what(faults)
        for what, status in _STATUSES.items():
            if what in in_force:
                return _failure(status, faults)
        if trouble := self._trouble():
            return _failure(Status.INTERNAL_ERROR, faults, note=trouble)
        if served is None:  # RFC 6960 2.3: not able to answer for this issuer
            return _failure(Status.UNAUTHORIZED, faults, note="of an issuer that is not served here")
        now, dates = self.now(), self._dates(faults)
        singles = [self._single(served, certificate, faults, dates) for certificate in request.certificates]
        if stapled and What.WRONG_SERIAL in in_force:
            singles += [
                replace(single, certificate=_of_another_key(certificate))
                for single, certificate in zip(singles, request.certificates, strict=True)
            ]
        flaw = next((flaw for what, flaw in _FLAWS.items() if what in in_force), Flaw.NONE)
        signer = self._delegates.sign_for(served, now, by=self.manner.signed_by, flaw=flaw)
        named = self.manner.responder_id is ResponderId.NAME
        body = ocsp.build_response(
            signer.signer,
            responder_id=ocsp.by_name(signer.subject) if named else ocsp.by_key(signer.signer.key_id),
            produced_at=dates[0],
            singles=singles,
            nonce=_nonce(request.nonce, faults),
            certificates=signer.certificates,
            broken=What.BAD_SIGNATURE in in_force,
        )
        fresh = cacheable and request.nonce is None
        return Reply(
            Kind.OCSP,
            ", ".join(map(_single_in_words, singles)),
            body,
            content_type="application/ocsp-response",
            headers=cache_headers(body, *dates, now) if fresh else NOT_CACHED,
            faults=faults,
        )

    def _single(self, served: Served, certificate: CertId, faults: tuple[Fault, ...], dates: Dates) -> Single:
        """What is said of one certificate; a fault that names a serial is about that one only."""
        in_force = by_what(fault for fault in faults if fault.serial in {None, certificate.serial})
        entry = self.register.find(served.key_id.hex(), certificate.serial)
        revoked, unknown = None, self.issuers.asked_about(certificate) is not served
        if entry is not None and not unknown:
            unknown = entry.state is State.UNKNOWN
            revoked = (entry.at, entry.reason) if entry.is_revoked else None
        if What.GOOD in in_force:
            revoked, unknown = None, False
        elif What.UNKNOWN in in_force:
            revoked, unknown = None, True
        elif fault := in_force.get(What.REVOKED):
            revoked, unknown = (fault.date or self._since, fault.reason), False
        if What.WRONG_SERIAL in in_force:
            certificate = replace(certificate, serial=certificate.serial + 1)
        if What.WRONG_ISSUER in in_force:
            certificate = _of_another_key(certificate)
        return Single(certificate, *dates, revoked, unknown)

    def staple(self, certificate: bytes) -> bytes:
        """The OCSPResponse to hand out with a certificate (RFC 6066 8), with the faults of OCSP that one can have.

        Those of HTTP have nothing to do with a handshake, but for ``empty``, nothing at all, and ``truncated``, half.
        OpenSSL as a server sends only what it can parse, and only with an answer for the certificate, which it tells by
        serial number and issuer's name alone. So ``malformed`` and ``truncated`` are so within the outermost shell, and
        beside the answer with ``wrong-serial`` stands one that bears the right number, but another issuer's key.

        Raises :class:`UserError` for a certificate of an issuer that is not served.
        """
        try:
            served = self.issuers.issuer_of(certificate)
            asked = CertId.of(certificate, served.issuer.der) if served else None
        except DerError as wrong:
            raise UserError(f"cannot staple a status to this certificate: {wrong}") from wrong
        if asked is None:
            issuer = read_certificate(certificate).issuer
            raise UserError(f"cannot staple a status to a certificate of '{issuer}': that issuer is not served here")
        reply = self.to_request(ocsp.Request((asked,)).encoded, stapled=True)
        body = reply.body if isinstance(reply.body, bytes) else b""
        if reply.fault(What.EMPTY):
            return b""
        if reply.fault(What.MALFORMED):
            return ocsp.successful(GARBAGE)
        return ocsp.successful(body[: len(body) // 2]) if reply.fault(What.TRUNCATED) else body

    # -- CRLs ----------------------------------------------------------------------------------------------------

    def crl(self, label: str, form: CrlForm) -> Reply:
        """A CRL of one issuer."""
        served = self.issuers.by_label[label]
        faults = self._befallen(Kind.CRL, label)
        in_force = by_what(faults)
        if trouble := self._trouble():
            return Reply(Kind.CRL, f"no CRL: {trouble}", status=500, issuer=label, faults=faults)
        fields, signer = self._list_fields(served, form, faults), served.issuer.signer
        if What.WRONG_ISSUER in in_force:
            fields = replace(fields, issuer=self._delegates.stranger(self.now()).subject)
        if What.WRONG_SIGNER in in_force:
            signer = self._delegates.stranger(self.now()).signer
            fields = replace(fields, key_id=signer.key_id)
        broken = What.BAD_SIGNATURE in in_force
        reply = Reply(Kind.CRL, _crl_in_words(fields), content_type="application/pkix-crl", issuer=label, faults=faults)
        if What.MALFORMED in in_force:
            return replace(reply, says=_MALFORMED, body=GARBAGE)
        if big := in_force.get(What.BIG):
            return replace(reply, body=BigCrl(fields, signer, big.size, broken))
        body = build_crl(signer, fields, broken=broken)
        headers = cache_headers(body, fields.this_update, fields.next_update, self.now())
        return replace(reply, body=body, headers=headers)

    def _list_fields(self, served: Served, form: CrlForm, faults: tuple[Fault, ...]) -> CrlFields:
        entries = {
            entry.serial: Listed(entry.serial, entry.at, entry.reason)
            for entry in self.register.of_issuer(served.key_id.hex())
            if entry.is_revoked
        }
        for fault in faults:
            if fault.what is What.REVOKED and fault.serial is not None:
                entries[fault.serial] = Listed(fault.serial, fault.date or self._since, fault.reason)
            elif fault.what is What.GOOD:
                entries = {} if fault.serial is None else {n: e for n, e in entries.items() if n != fault.serial}
        released = {
            entry.serial: entry.at
            for entry in self.register.of_issuer(served.key_id.hex())
            if entry.state is State.RELEASED
        }
        return self._lists.fields(
            served,
            form,
            tuple(entries.values()),
            now=self.now(),
            dates=self._dates(faults),
            wrong_dates=bool(by_what(faults).keys() & _DATED),
            released=released,
        )

    # -- issuers' certificates -----------------------------------------------------------------------------------

    def ca(self, label: str, form: CaForm) -> Reply:
        """The certificate of an issuer, or with those above it (RFC 5280 4.2.2.1)."""
        served = self.issuers.by_label[label]
        faults = self._befallen(Kind.AIA, label)
        in_force = by_what(faults)
        chain = (served.issuer.der, *served.above)
        if What.WRONG_ISSUER in in_force:
            chain = (self._delegates.stranger(self.now()).der,)
        says = f"the certificate of {read_certificate(chain[0]).subject}"
        if What.MALFORMED in in_force:
            says, body = _MALFORMED, GARBAGE
        else:
            body = chain[0] if form is CaForm.CERTIFICATE else certificates_only(chain)
        content_type = "application/pkix-cert" if form is CaForm.CERTIFICATE else "application/pkcs7-mime"
        return Reply(Kind.AIA, says, body, content_type=content_type, issuer=label, faults=faults)


def stapler(
    authority: Authority,
    register: Register | None = None,
    *,
    manner: Manner | None = None,
    faults: tuple[Fault, ...] = (),
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Answers:
    """Answers for the certificates of this authority that nobody asks for by a URL: for :meth:`Answers.staple`."""
    served = [
        Served(
            authority.issuers[number],
            tuple(one.der for one in reversed(authority.issuers[:number])),
            Urls(label, url_name(authority.issuers[number], number), "", "", ""),
        )
        for label, _, number in labelled([authority])
        if authority.issuers[number].held is not None
    ]
    return Answers(Issuers(served), Register() if register is None else register, manner or Manner(), faults, now)


def certificates_only(certificates: Sequence[bytes]) -> bytes:
    """A PKCS #7 that holds certificates and nothing else: a degenerate SignedData (RFC 2315 9.1, RFC 5652 5.1).

    They are a SET, which DER orders by its bytes (X.690 11.6): whoever looks for the issuer goes by the name.
    """
    signed = der.encode(
        der.SEQUENCE,
        der.encode_integer(1),
        der.encode(der.SET),
        der.encode(der.SEQUENCE, der.encode_oid("1.2.840.113549.1.7.1")),
        der.encode(0xA0, *sorted(certificates)),
        der.encode(der.SET),
    )
    return der.encode(der.SEQUENCE, der.encode_oid("1.2.840.113549.1.7.2"), der.encode(0xA0, signed))


def _of_another_key(certificate: CertId) -> CertId:
    """The same number and issuer's name, and the key of nobody."""
    return replace(certificate, key_hash=bytes(byte ^ 0xFF for byte in certificate.key_hash))


def _failure(status: Status, faults: tuple[Fault, ...], *, note: str = "") -> Reply:
    says = f"{status.word}: {note}" if note else status.word
    return Reply(Kind.OCSP, says, ocsp.failure(status), content_type="application/ocsp-response", faults=faults)


def _nonce(asked: bytes | None, faults: tuple[Fault, ...]) -> bytes | None:
    """What is repeated of the request's nonce (RFC 9654 2.1)."""
    in_force = by_what(faults)
    if asked is None or What.NO_NONCE in in_force:
        return None
    return bytes(byte ^ 0xFF for byte in asked) if What.WRONG_NONCE in in_force else asked


def _single_in_words(single: Single) -> str:
    if single.unknown:
        return "unknown"
    if single.revoked is None:
        return "good"
    at, reason = single.revoked
    return f"revoked ({reason}) on {at:%Y-%m-%dT%H:%M:%SZ}"


def _crl_in_words(fields: CrlFields) -> str:
    count = f"{len(fields.entries)} {'entry' if len(fields.entries) == 1 else 'entries'}"
    if fields.base is not None:
        return f"delta CRL {fields.number} to {fields.base} with {count}"
    return f"CRL {fields.number} with {count}"

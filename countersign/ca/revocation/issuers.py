"""The issuers that a responder answers for, and who signs in their names.

Every certificate of an authority that issues others has a responder of its own: the root's answers for the first
intermediate, the last intermediate's for leaves. A response is signed by the issuer itself or by somebody whom it has
authorised with a certificate for just that (RFC 6960 4.2.2.2), which is the usual way and the default here. Clients
judge the two differently, and they judge a responder's certificate that is not right very differently, so the wrong
ones are made here too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from countersign.ca import assemble, keys
from countersign.ca.authority import Authority, Issuer, Plan
from countersign.ca.revocation import ocsp
from countersign.ca.revocation.points import role, url_name
from countersign.ca.revocation.register import Entry
from countersign.ca.signer import key_identifier
from countersign.errors import UserError
from countersign.recorder import der
from countersign.recorder.certificates import cut_certificate, read_certificate
from countersign.recorder.der import DerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from countersign.ca.revocation.points import Urls
    from countersign.ca.signer import Signer

_DAY = timedelta(days=1)
_SIGNER_LIVES = 30 * _DAY


class SignedBy(StrEnum):
    """Who signs OCSP responses."""

    DELEGATE = "delegate"
    ISSUER = "issuer"


class Flaw(StrEnum):
    """What is wrong with who signs, on purpose."""

    NONE = "none"
    STRANGER = "stranger"
    WITHOUT_EKU = "without-eku"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Served:
    """One issuer that is answered for, and where; ``above`` are the certificates above its own, the root last."""

    issuer: Issuer
    above: tuple[bytes, ...]
    urls: Urls

    @property
    def label(self) -> str:
        """What the faults call it."""
        return self.urls.label

    @property
    def key_id(self) -> bytes:
        return self.issuer.signer.key_id


@dataclass(frozen=True, slots=True)
class ResponseSigner:
    """Who signs a response: the signer, its certificate, and its name in there. No certificate: the issuer itself."""

    signer: Signer
    subject: bytes
    certificates: tuple[bytes, ...] = ()


def labelled(authorities: Sequence[Authority]) -> Iterator[tuple[str, Authority, int]]:
    """Each issuer of each authority as its label, its authority, and its number in there, the root being 0.

    The labels are ``root``, ``intermediate-1`` ... as the files in the home are called; those of a second authority
    begin with ``2-``. What two of them have in common, as generations have their root, counts once, for the first.
    """
    seen = set()
    for which, authority in enumerate(authorities, 1):
        prefix = "" if which == 1 else f"{which}-"
        for number, issuer in enumerate(authority.issuers):
            name = url_name(issuer, number)
            if name not in seen:
                seen.add(name)
                yield f"{prefix}{role(number)}", authority, number


def named(*authorities: Authority) -> dict[str, Issuer]:
    """The issuers of some authorities by their labels."""
    return {label: authority.issuers[number] for label, authority, number in labelled(authorities)}


class Issuers:
    """All that are served, found by how an OCSP request names them, by their name in a certificate, by their label."""

    def __init__(self, served: Iterable[Served]) -> None:
        self.by_label = {one.label: one for one in served}
        self._by_hashes: dict[tuple[str, bytes, bytes], Served] = {}
        for one in self.by_label.values():
            for name, oid in ocsp.HASHES.items():
                self._by_hashes.setdefault((oid, *ocsp.issuer_hashes(one.issuer.der, name)), one)

    def asked_about(self, certificate: ocsp.CertId) -> Served | None:
        """Whose certificate is meant, if it is of one that is served."""
        return self._by_hashes.get((certificate.hash, certificate.name_hash, certificate.key_hash))

    def issuer_of(self, certificate: bytes) -> Served | None:
        """Who issued a certificate (DER), going by the name in it. Raises :class:`DerError`."""
        label = _issuer_of(certificate, {label: one.issuer for label, one in self.by_label.items()})
        return self.by_label[label] if label else None


def entry_for(issuers: Mapping[str, Issuer], certificate: bytes | int, label: str, at: datetime) -> Entry:
    """The entry that revokes a certificate: a DER, told by the name of its issuer, or a serial number of ``label``'s.

    Raises :class:`UserError` for a certificate that none of the issuers has issued, for a root, or for no certificate.
    """
    at = at.astimezone(UTC)
    if isinstance(certificate, int):
        _check_no_root(issuers, certificate)
        return Entry(key_identifier(issuers[label].public_key).hex(), certificate, at)
    facts = read_certificate(certificate)
    try:
        found, serial = _issuer_of(certificate, issuers), ocsp.serial_of(certificate)
    except DerError as wrong:
        raise UserError(f"cannot revoke this certificate: {wrong}") from wrong
    if found is None:
        raise UserError(f"cannot revoke '{facts.subject}': it was issued by '{facts.issuer}', not by this CA")
    _check_no_root(issuers, serial)
    return Entry(key_identifier(issuers[found].public_key).hex(), serial, at, name=facts.subject or "")


def _check_no_root(issuers: Mapping[str, Issuer], serial: int) -> None:
    """RFC 5280 6.1: a trust anchor is no part of the path whose status is checked."""
    for issuer in issuers.values():
        facts = issuer.facts
        if facts.self_issued and ocsp.serial_of(issuer.der) == serial:
            raise UserError(
                f"cannot revoke '{facts.subject}': it is a root, whose revocation nobody looks up;"
                " take it out of the trust stores, and make another with `countersign ca rotate root`"
            )


def _issuer_of(certificate: bytes, issuers: Mapping[str, Issuer]) -> str | None:
    """Going by the name, and by the signature where several have it, as after a rotation that kept it."""
    name = cut_certificate(certificate).issuer
    found = [label for label in reversed([*issuers]) if issuers[label].subject == name]
    return next((label for label in found if issuers[label].signed(certificate)), found[0] if found else None)


@dataclass(slots=True)
class Delegates:
    """Makes and keeps the certificates of those who sign for the issuers, right ones and wrong ones."""

    clock: float = 1.0
    _made: dict[tuple[str, Flaw], tuple[datetime, ResponseSigner]] = field(default_factory=dict)
    _signers: dict[str, Signer] = field(default_factory=dict)
    _stranger: Authority | None = None

    def sign_for(self, served: Served, now: datetime, *, by: SignedBy, flaw: Flaw = Flaw.NONE) -> ResponseSigner:
        """Who signs for an issuer now; with a ``flaw`` it is always a delegate, but for the stranger's issuer."""
        issuer = self.stranger(now) if flaw is Flaw.STRANGER else served.issuer
        if by is SignedBy.ISSUER and flaw in {Flaw.NONE, Flaw.STRANGER}:
            return ResponseSigner(issuer.signer, issuer.subject)
        until, signer = self._made.get((served.urls.name, flaw), (now, None))
        if signer is None or until <= now:
            lifetime = max(_SIGNER_LIVES / self.clock, timedelta(seconds=2))
            signer = self._delegate(issuer, now, lifetime, flaw)
            self._made[served.urls.name, flaw] = (now + lifetime / 2, signer)
        return signer

    def stranger(self, now: datetime) -> Issuer:
        """Somebody who has nothing to do with any of the issuers that are served."""
        if self._stranger is None:
            self._stranger = Authority.make(Plan(name="stranger", now=now))
        return self._stranger.issuer

    def _delegate(self, issuer: Issuer, now: datetime, lifetime: timedelta, flaw: Flaw) -> ResponseSigner:
        """RFC 6960 4.2.2.2: issued by the issuer itself, for OCSP signing, and not to be asked about (4.2.2.2.1)."""
        key = self._signer(issuer)
        subject = assemble.name_der(O="countersign", CN=f"OCSP responder {key.key_id.hex()[:6]}")
        validity = (max(issuer.not_before, now - _DAY), min(issuer.not_after, now + lifetime))
        if flaw is Flaw.EXPIRED:
            validity = (now - 3 * _DAY, now - 2 * _DAY)
        purposes = der.encode(der.SEQUENCE, der.encode_oid(ocsp.OCSP_SIGNING))
        eku = [] if flaw is Flaw.WITHOUT_EKU else [assemble.extension(assemble.EXTENDED_KEY_USAGE, purposes)]
        certificate = assemble.assemble(
            issuer.signer,
            serial=assemble.new_serial(),
            issuer=issuer.subject,
            validity=assemble.validity_der(*validity),
            subject=subject,
            public_key=key.public_key,
            extensions=[
                assemble.key_usage(["digitalSignature"]),
                *eku,
                assemble.extension(ocsp.NO_CHECK, b"\x05\x00"),
                assemble.subject_key_identifier(key.key_id),
                assemble.authority_key_identifier(issuer.signer.key_id),
            ],
        )
        return ResponseSigner(key, subject, (certificate,))

    def _signer(self, issuer: Issuer) -> Signer:
        """One key of each kind for all: RSA where the issuer's is, so that who knows only RSA can read it."""
        kind = "RSA 2048" if isinstance(issuer.signer.key, RSAPrivateKey) else "EC P-256"
        if kind not in self._signers:
            self._signers[kind] = keys.new_signer(kind)
        return self._signers[kind]

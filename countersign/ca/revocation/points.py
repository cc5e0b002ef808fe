"""Where a certificate says that its status is found: the URLs in it, and authorities whose certificates carry them.

A client that checks revocation checks every certificate of the chain below the root, and some stop at the first that
names no responder: a JVM looks at the intermediate before the leaf and says ``Certificate does not specify OCSP
responder`` although the leaf does. So not only leaves carry the points: :func:`with_points` makes the intermediates of
an authority again with them. Keys, names and everything else stay as they are, and so does the root that clients trust.

A URL outlives the authority that wrote it: after a rotation the certificates of the old issuer are still about, and
what they name must still be the old issuer's. So the name of an issuer in its URLs is made of its key
(:func:`url_name`), and not of its turn among others.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from countersign.ca import assemble, pieces
from countersign.ca.draft import Draft, parts_of
from countersign.ca.signer import key_identifier
from countersign.errors import UserError
from countersign.recorder import der

if TYPE_CHECKING:
    from collections.abc import Sequence

    from countersign.ca.authority import Authority, Issuer

AIA, CRL_POINTS, FRESHEST_CRL = pieces.EXTENSIONS["aia"], pieces.EXTENSIONS["crl"], "2.5.29.46"

REASON_FLAGS = {  # RFC 5280 4.2.1.13: the bits of ReasonFlags by the names of the reasons; bit 0 is not used
    "keyCompromise": 1, "cACompromise": 2, "affiliationChanged": 3, "superseded": 4, "cessationOfOperation": 5,
    "certificateHold": 6, "privilegeWithdrawn": 7, "aACompromise": 8,
}  # fmt: skip


_KEY_DIGITS = 8
_BASE = re.compile(r"http://[A-Za-z0-9._~:\[\]-]{1,255}(?:/[A-Za-z0-9._~/-]{0,255})?")

KEY_REASONS = ("keyCompromise", "cACompromise", "aACompromise")
OTHER_REASONS = tuple(reason for reason in REASON_FLAGS if reason not in KEY_REASONS)
"""The reasons that each of two CRLs which are partitioned by reason is about."""


class CrlForm(StrEnum):
    """The CRLs of one issuer: the complete one, a complete one with its delta, and two partitioned by reason."""

    FULL = "full"
    BASE = "base"
    DELTA = "delta"
    KEYS = "keys"
    OTHERS = "others"


class CaForm(StrEnum):
    """How an issuer's certificate is given out: alone, or with those above it as PKCS #7 (RFC 5280 4.2.2.1)."""

    CERTIFICATE = "cer"
    BUNDLE = "p7c"


class CrlStyle(StrEnum):
    """Which of its CRLs an issuer's certificates point at."""

    FULL = "full"
    DELTA = "delta"
    REASONS = "reasons"


@dataclass(frozen=True, slots=True)
class CrlPoint:
    """One distribution point: its URL, and the reasons that its CRL is about (all of them if empty)."""

    url: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Points:
    """What the certificates of one issuer say about where they are answered for."""

    ocsp: tuple[str, ...] = ()
    ca_issuers: tuple[str, ...] = ()
    crl: tuple[CrlPoint, ...] = ()
    freshest: tuple[str, ...] = ()

    @property
    def extensions(self) -> tuple[bytes, ...]:
        """The Extensions to put into a certificate: none that would be empty."""
        made = []
        if self.ocsp or self.ca_issuers:
            made.append(assemble.extension(AIA, pieces.authority_info_access(self.ocsp, self.ca_issuers)))
        if self.crl:
            made.append(distribution_points(CRL_POINTS, self.crl))
        if self.freshest:
            made.append(freshest_crl(self.freshest))
        return tuple(made)


@dataclass(frozen=True, slots=True)
class Urls:
    """Where one issuer is answered for: bases of URLs, without a slash at the end, and its ``name`` in them.

    ``label`` is what faults and people call it.
    """

    label: str
    name: str
    ocsp_base: str
    crl_base: str
    aia_base: str

    @property
    def ocsp(self) -> str:
        return f"{self.ocsp_base}/ocsp/{self.name}"

    def crl(self, form: CrlForm) -> str:
        return f"{self.crl_base}/crl/{self.name}{'' if form is CrlForm.FULL else f'-{form}'}.crl"

    def ca(self, form: CaForm) -> str:
        return f"{self.aia_base}/aia/{self.name}.{form}"

    def point(self, form: CrlForm) -> CrlPoint:
        """The distribution point of a CRL, with the reasons that it is about."""
        reasons = {CrlForm.KEYS: KEY_REASONS, CrlForm.OTHERS: OTHER_REASONS}
        return CrlPoint(self.crl(form), reasons.get(form, ()))

    def points(self, style: CrlStyle) -> Points:
        """What this issuer's certificates are to carry."""
        forms = {
            CrlStyle.FULL: (CrlForm.FULL,),
            CrlStyle.DELTA: (CrlForm.BASE,),
            CrlStyle.REASONS: (CrlForm.KEYS, CrlForm.OTHERS),
        }
        return Points(
            ocsp=(self.ocsp,),
            ca_issuers=(self.ca(CaForm.CERTIFICATE),),
            crl=tuple(map(self.point, forms[style])),
            freshest=(self.crl(CrlForm.DELTA),) if style is CrlStyle.DELTA else (),
        )


def role(number: int) -> str:
    """What the issuer with that number in its authority is called, as its file is; the root is 0."""
    return f"intermediate-{number}" if number else "root"


def url_name(issuer: Issuer, number: int) -> str:
    """The name of an issuer in its URLs in every generation, its role and its key: ``intermediate-1-3fa2c1d4``.

    Certificates of the same name and key share it, for a CRL of one is a CRL of the other.
    """
    return f"{role(number)}-{key_identifier(issuer.public_key).hex()[:_KEY_DIGITS]}"


def distribution_points(oid: str, points: Sequence[CrlPoint]) -> bytes:
    """RFC 5280 4.2.1.13, and 4.2.1.15 for the freshest CRL."""
    made = (
        der.encode(
            der.SEQUENCE,
            der.encode(0xA0, der.encode(0xA0, uri(point.url))),
            reason_flags(0x81, point.reasons) if point.reasons else b"",
        )
        for point in points
    )
    return assemble.extension(oid, der.encode(der.SEQUENCE, *made))


def freshest_crl(urls: Sequence[str]) -> bytes:
    """Where the delta CRLs are: in a certificate (RFC 5280 4.2.1.15) or in a complete CRL (5.2.6)."""
    return distribution_points(FRESHEST_CRL, [CrlPoint(url) for url in urls])


def reason_flags(tag: int, reasons: Sequence[str]) -> bytes:
    """ReasonFlags under a context tag; the bit string ends with its last set bit (X.690 11.2.2)."""
    bits = [REASON_FLAGS[reason] for reason in reasons]
    value = sum(0x8000 >> bit for bit in set(bits))
    size = max(bits) + 1
    return der.encode(tag, bytes((-size % 8,)), value.to_bytes(2)[: (size + 7) // 8])


def uri(url: str) -> bytes:
    """A GeneralName that is a URI."""
    return der.encode(0x86, url.encode("ascii"))


def with_points(authority: Authority, points: Sequence[Points]) -> Authority:
    """The authority with its certificates carrying ``points``: one element for each issuer, the root first.

    Each intermediate is made again with the points of its issuer, if the key of that is here; leaves get those of the
    last issuer. Serial numbers come from what a certificate was and the points it gets, so that the same authority
    behind the same URLs shows the same serials again.
    """
    remade = tuple(
        _remade(issuer, above, where)
        for issuer, above, where in zip(authority.intermediates, authority.issuers, points, strict=False)
    )
    return replace(authority, intermediates=remade, points=points[-1].extensions)


def pointed_at(authority: Authority, responder: str, style: CrlStyle = CrlStyle.FULL) -> Authority:
    """The authority with the points of a responder for it alone at that base, as ``http://127.0.0.1:8089``.

    Raises :class:`UserError` for what is no such URL.
    """
    base = responder.rstrip("/")
    if not _BASE.fullmatch(base):
        raise UserError(f"a responder is named by its address, as http://127.0.0.1:8089; got {responder!r}")
    urls = (
        Urls(role(number), url_name(issuer, number), base, base, base)
        for number, issuer in enumerate(authority.issuers)
    )
    return with_points(authority, [each.points(style) for each in urls])


def _remade(issuer: Issuer, above: Issuer, points: Points) -> Issuer:
    if above.held is None:
        return issuer
    draft = Draft.of(issuer.der)
    for oid in (AIA, CRL_POINTS, FRESHEST_CRL):
        draft.drop(oid)
    draft.extensions += parts_of(points.extensions)
    digest = hashlib.sha256(issuer.der + b"".join(points.extensions)).digest()
    draft.serial = assemble.new_serial(lambda count: digest[:count])
    return replace(issuer, der=draft.sign(above.signer))

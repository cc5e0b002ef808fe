"""Leaves that mimic the target's.

To reproduce what an inspection product breaks, the certificate that the client sees must differ from the target's in
what inspection changes and in nothing else. So a leaf is the target's certificate, taken apart as DER
(:func:`countersign.recorder.certificates.cut_certificate`) and put together again: subject, names, usages, policies
and even unknown, duplicate or malformed extensions are the target's bytes in the target's order. An odd certificate
stays odd, and a bad one stays bad. What is not copied, and why:

*Serial, issuer, signature, key, key identifiers* are ours. The serial is random; the key is of the target's type
and size (:mod:`countersign.ca.keys`) with a fallback that never makes a weak key strong; the authority key identifier
is always there, because Python from 3.13 on refuses a leaf without.

*Promises that only the target's issuer can keep* are left out: SCTs, must-staple, and where to ask about revocation
(CRL points, AIA). Clients that check them would ask about a serial that their answer does not know.

*Key usage* is copied with the key, and fitted where the leaf has another type of key: a keyAgreement that came from an
EC certificate broke browsers on an RSA leaf (droe/sslsplit#188).

*Dates* are the target's, to the second and in its encoding, with one exception: where the target's certificate is valid
at the time of minting, a date that lies outside the authority's own is moved to the authority's, since many
clients refuse a leaf that outlives its issuer. A certificate that is expired, not yet valid, or whose dates are not in
the form that they must have, is copied as it is: nothing that was refused for its dates becomes valid by our hand.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from countersign.ca import assemble, keys, limits
from countersign.ca.draft import Draft, part, parts_of
from countersign.ca.keys import KeyPool
from countersign.errors import CountersignError, UserError
from countersign.recorder import der as asn1
from countersign.recorder.certificates import (
    CertificateParts,
    ExtensionPart,
    cut_certificate,
    cut_extensions,
    describe_algorithm,
    describe_key,
    key_usages,
    read_certificate,
    read_validity,
)
from countersign.recorder.der import DerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.ca.authority import Authority
    from countersign.ca.randomness import Rng
    from countersign.ca.recipes import Recipe
    from countersign.ca.signer import ServedKey, Signer

_WEAK_SIGNATURES = ("md2", "md5", "sha1")
_LEFT_OUT = {
    "1.3.6.1.4.1.11129.2.4.2": "signed_certificate_timestamps",  # RFC 6962: over the target's own certificate
    "1.3.6.1.5.5.7.1.24": "tls_feature",  # RFC 7633: nobody staples for us
    "1.3.6.1.5.5.7.1.1": "authority_info_access",  # RFC 5280 4.2.2.1
    "2.5.29.31": "crl_distribution_points",  # 4.2.1.13
    "2.5.29.46": "freshest_crl",  # 4.2.1.15
    "2.5.29.18": "issuer_alt_name",  # 4.2.1.7: names of another issuer
    "2.5.29.73": "alt_signature_algorithm",  # X.509 (2019) 9.8: a second signature of the target's issuer
    "2.5.29.74": "alt_signature_value",
}
_SUBJECT_UNIQUE_ID = 0x82
_NOT_FOR = {  # RFC 3279 2.3.1, RFC 8813 3, RFC 9295 3: what a key of this type cannot do
    "RSA": {"keyAgreement", "encipherOnly", "decipherOnly"},
    "EC": {"keyEncipherment", "dataEncipherment"},
    "Ed25519": {"keyEncipherment", "dataEncipherment", "keyAgreement", "encipherOnly", "decipherOnly"},
    "Ed448": {"keyEncipherment", "dataEncipherment", "keyAgreement", "encipherOnly", "decipherOnly"},
}


class CannotMimic(CountersignError):  # noqa: N818  the sentence it makes where it is caught
    """The target's certificate is not even in outline a certificate; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Minted:
    """A leaf to be served: ``chain`` is what is sent, the leaf first and the root not at all; ``key`` is the leaf's.

    ``left_out`` names what the target's certificate had and the leaf has not, or has otherwise. ``outside`` says, in a
    sentence, which of its names the issuers' name constraints exclude: clients refuse such a leaf (RFC 5280 4.2.1.10).
    """

    key: ServedKey = field(repr=False)
    chain: tuple[bytes, ...]
    left_out: tuple[str, ...] = ()
    outside: str | None = None

    @property
    def leaf(self) -> bytes:
        """The leaf (DER)."""
        return self.chain[0]


def mint(
    authority: Authority,
    target_der: bytes,
    *,
    key: Signer | None = None,
    now: datetime | None = None,
    rng: Rng = os.urandom,
) -> Minted:
    """A leaf under ``authority`` that mimics ``target_der``.

    ``key`` is the leaf's key, a fresh one of the target's type and size if it is left out (RSA keys take their time:
    :class:`LeafMint` pools them). Raises :class:`AuthorityError` when the authority has expired and
    :class:`CannotMimic` when the target's bytes cannot be cut into a certificate.
    """
    now = now or datetime.now(UTC)
    authority.check(now)
    key = key or keys.new_signer(key_kind_of(target_der), rng)
    draft, left_out = mimic(authority, target_der, key=key, now=now, rng=rng)
    leaf = draft.sign(authority.issuer.signer)
    outside = limits.outside(leaf, (each.der for each in authority.issuers))
    return Minted(key.served, (leaf, *authority.chain), left_out, outside)


def key_kind_of(target_der: bytes) -> str:
    """The kind of key that a leaf for this target has. Raises :class:`CannotMimic`."""
    return keys.like(_described_key(_cut(target_der)))[0]


def mimic(
    authority: Authority, target_der: bytes, *, key: Signer, now: datetime, rng: Rng = os.urandom
) -> tuple[Draft, tuple[str, ...]]:
    """The leaf before it is signed, and what it has not of the target's. Raises :class:`CannotMimic`."""
    parts = _cut(target_der)
    described = _described_key(parts)
    ours = describe_key(key.public_key)
    left_out = [f"key: {described} ({ours} instead)"] if ours != described else []
    left_out += _weak_signature(parts)
    fit_to = _type(ours) if _type(ours) != _type(described) else None
    extensions = _extensions(parts, authority.issuer.signer.key_id, key.key_id, fit_to, left_out)
    draft = Draft(
        version=parts.version,
        serial=assemble.new_serial(rng),
        issuer=authority.issuer.subject,
        validity=_validity(parts.validity, authority, now, left_out),
        subject=parts.subject,
        public_key=key.public_key,
        unique_ids=_unique_ids(parts, left_out),
        extensions=[*extensions, *(parts_of(authority.points) if parts.version == assemble.VERSION_3 else ())],
    )
    return draft, tuple(left_out)


def _cut(target_der: bytes) -> CertificateParts:
    try:
        return cut_certificate(target_der)
    except DerError as wrong:
        raise CannotMimic(f"cannot mimic the target's certificate: {wrong}") from wrong


def _described_key(parts: CertificateParts) -> str:
    try:
        return describe_key(parts.public_key)
    except DerError:
        return "unreadable"


def _type(described: str) -> str:
    return described.partition(" ")[0].removesuffix("-PSS")


def _weak_signature(parts: CertificateParts) -> list[str]:
    """A signature that clients refuse for its hash is the one fault that our own signature would hide."""
    try:
        name = describe_algorithm(parts.algorithm)
    except DerError:
        return []
    return [f"signature_algorithm: {name}"] if name.lower().startswith(_WEAK_SIGNATURES) or "SHA1" in name else []


def _validity(validity: bytes, authority: Authority, now: datetime, left_out: list[str]) -> bytes:
    """The target's dates, or within the authority's where the target's are good at ``now`` (see the module)."""
    not_before, not_after, problems = read_validity(validity)
    if problems or not_before is None or not_after is None or not not_before <= now <= not_after:
        return validity
    if not_before >= authority.not_before and not_after <= authority.not_after:
        return validity
    begins, ends = asn1.exactly(2, asn1.first_piece(validity).body, "a Validity")
    if not_before < authority.not_before:
        left_out.append("not_before: earlier than the CA's")
    if not_after > authority.not_after:
        left_out.append("not_after: later than the CA's")
    return assemble.validity_der(
        begins.raw if not_before >= authority.not_before else authority.not_before,
        ends.raw if not_after <= authority.not_after else authority.not_after,
    )


def _unique_ids(parts: CertificateParts, left_out: list[str]) -> tuple[bytes, ...]:
    """4.1.2.8: the subject's identifier is the target's; the issuer's would be another issuer's."""
    copied = tuple(raw for tag, raw in parts.others if tag == _SUBJECT_UNIQUE_ID)
    left_out += [
        f"tbs_certificate: a part with tag 0x{tag:02x}" for tag, _ in parts.others if tag != _SUBJECT_UNIQUE_ID
    ]
    return copied


def _extensions(
    parts: CertificateParts, issuer_key_id: bytes, key_id: bytes, fit_to: str | None, left_out: list[str]
) -> list[ExtensionPart]:
    """The target's extensions in their order; those that name keys replaced, those that cannot be kept left out.

    Version 3 certificates get both key identifiers even where the target has none; older ones, which may have no
    extensions, stay as they are (4.1.2.1).
    """
    ours = {
        assemble.SKI: part(assemble.SKI, assemble.key_id_value(key_id)),
        assemble.AKI: part(assemble.AKI, assemble.issuer_key_id_value(issuer_key_id)),
    }
    made: list[ExtensionPart] = []
    seen: set[str] = set()
    try:
        for extension in cut_extensions(parts.extensions) if parts.extensions else ():
            seen.add(extension.oid)
            if extension.oid in _LEFT_OUT:
                left_out.append(_LEFT_OUT[extension.oid])
            elif extension.oid in ours:
                made.append(ours[extension.oid])
            elif extension.oid == assemble.KEY_USAGE and fit_to:
                made.append(_fitted_usage(extension, fit_to, left_out))
            else:
                made.append(extension)
    except DerError as wrong:
        raise CannotMimic(f"cannot mimic the target's certificate: its extensions cannot be read ({wrong})") from wrong
    if parts.version == assemble.VERSION_3:
        made += [value for oid, value in ours.items() if oid not in seen]
    return made


def _fitted_usage(extension: ExtensionPart, key_type: str, left_out: list[str]) -> ExtensionPart:
    """The key usage without what a key of ``key_type`` cannot do; one that cannot be read stays as it is."""
    try:
        wanted = key_usages(extension.value)
    except DerError:
        return extension
    fitted = [name for name in wanted if name not in _NOT_FOR[key_type]]
    if len(fitted) == len(wanted):
        return extension
    left_out += [f"key_usage: {name}" for name in wanted if name not in fitted]
    value = assemble.key_usage_value(fitted or ["digitalSignature"])
    return part(assemble.KEY_USAGE, value, critical=extension.critical)


@dataclass(slots=True)
class _Entry:
    """What was minted, and until when it may be handed out again."""

    minted: Minted
    until: datetime


class LeafMint:
    """Minted leaves, kept and handed out again: what the proxy asks. For one event loop.

    A leaf is kept under the hash of the target's leaf and of the authority's chain, the least recently used of
    ``size`` goes first. It is minted again when the target's certificate has expired or become valid since, so that a
    long-lived proxy goes on telling the truth, and refused like any other when the authority has expired.

    ``authority`` may be replaced at any time (a rotation), and so may ``recipe``, by which leaf and chain are made
    instead of mimicked as they are: the next leaf comes from the new one.
    """

    def __init__(
        self,
        authority: Authority,
        *,
        recipe: Recipe | None = None,
        size: int = 1000,
        pool: KeyPool | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        rng: Rng = os.urandom,
    ) -> None:
        self.authority = authority
        self.recipe = recipe
        self.pool = pool or KeyPool()
        self._size = size
        self._clock = clock
        self._rng = rng
        self._kept: OrderedDict[tuple[object, ...], _Entry] = OrderedDict()

    async def leaf_for(self, target_der: bytes, *, name: str = "localhost") -> Minted:
        """The leaf that mimics ``target_der``; waits only where a slow key has to be made first, in a thread.

        ``name`` is the host that a recipe is told. Raises :class:`AuthorityError` and :class:`CannotMimic` as
        :func:`mint` does.
        """
        kept = self._find(target_der, name)
        if kept:
            return kept
        if self.recipe is None:
            needed = [(key_kind_of(target_der), "")]
        else:
            needed = self.recipe.kinds_of_keys(self.authority, target_der)
        for kind, owner in needed:
            if not self.pool.ready(kind, owner):
                await self.pool.get_soon(kind, owner)
        return self._find(target_der, name) or self._mint(target_der, name)

    def rotate(self) -> None:
        """Forget what was minted, the keys too: every target gets a new leaf from now on."""
        self._kept.clear()
        self.pool.forget()

    def _place(self, target_der: bytes, name: str) -> tuple[object, ...]:
        recipe = () if self.recipe is None else (self.recipe, name)
        return (self.authority.fingerprint, hashlib.sha256(target_der).digest(), *recipe)

    def _find(self, target_der: bytes, name: str) -> Minted | None:
        now = self._clock()
        self.authority.check(now)
        place = self._place(target_der, name)
        entry = self._kept.get(place)
        if entry is None:
            return None
        if now >= entry.until:
            del self._kept[place]
            return None
        self._kept.move_to_end(place)
        return entry.minted

    def _mint(self, target_der: bytes, name: str) -> Minted:
        now = self._clock()
        until = _next_change(cut_certificate(target_der).validity, now)
        minted: Minted
        if self.recipe is None:
            key = self.pool.get(key_kind_of(target_der))
            minted = mint(self.authority, target_der, key=key, now=now, rng=self._rng)
        else:
            try:
                made = self.recipe.make(
                    self.authority, target=target_der, name=name, now=now, rng=self._rng, pool=self.pool
                )
            except UserError as wrong:  # the recipe asks of this target what it has not
                raise CannotMimic(str(wrong)) from wrong
            # Its dates may count from the moment at which it was made.
            dates = (read_certificate(each) for each in made.certificates.values())
            changes = (each for facts in dates for each in (facts.not_before, facts.not_after) if each)
            until = min((until, *(each for each in map(datetime.fromisoformat, changes) if each > now)))
            above = (certificate for certificate in made.certificates.values() if certificate != made.leaf)
            minted = replace(made, outside=limits.outside(made.leaf, above))
        self._kept[self._place(target_der, name)] = _Entry(minted, until)
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return minted


def _next_change(validity: bytes, now: datetime) -> datetime:
    """When the target's certificate next becomes valid or expires; the end of time when it does neither."""
    not_before, not_after, _ = read_validity(validity)
    later = [moment for moment in (not_before, not_after) if moment and moment > now]
    return min(later, default=datetime.max.replace(tzinfo=UTC))

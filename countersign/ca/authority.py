"""Authorities: a root, intermediates under it, and what may be done with them.

The smallest call makes one in memory (:meth:`Authority.make`) or in a directory (:meth:`Authority.open`,
:mod:`countersign.ca.keeping`); several stand side by side without knowing of each other. :meth:`Authority.given` is one
that somebody else made: its key and certificate, and what is known of the certificates above it.

Every install has its own keys and names (one vendor shipped the same root on every laptop), and can be told by six
digits of its root key's hash: ``countersign inspection root 3fa2c1``. A root lives for a year at most unless asked for
more, says how many authorities may follow it, and can be constrained to names (RFC 5280 4.2.1.10), after which it can
harm nobody else even when its key is stolen.

*Limits* are read from the certificates, whoever made them, and kept: an authority of which any part has expired signs
nothing, one whose path length is used up issues no authority, one that is constrained issues for no other name.

*Rotation* (:meth:`Authority.rotate`) makes a new authority of an old one: a new intermediate under the same root, or
all of it new. The old one is kept and marked (:class:`Retired`); what it signed stays valid. A new root is cross-signed
by the old one for as long as both shall be good, so that clients that know only the old root follow it there.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, Self

from countersign.ca import assemble, keys, limits
from countersign.ca.draft import Draft, parts_of
from countersign.ca.errors import AuthorityError
from countersign.ca.pem import to_pem
from countersign.errors import UserError
from countersign.recorder.certificates import (
    CertificateFacts,
    cut_certificate,
    describe_key,
    read_certificate,
    read_validity,
    signed_by,
)
from countersign.recorder.der import DerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from countersign.ca.randomness import Rng
    from countersign.ca.signer import Signer

YEAR = 365
"""Days that a root lives unless asked for more."""

_BACKDATED = timedelta(days=1)  # a client's clock may be behind
_LONGEST_NAME = 40  # with its role and mark behind it, within the 64 of a common name (RFC 5280 A.1)
_MOST_LEVELS = 20
_LONGEST = 36_500  # days
_CA_USAGE = ("keyCertSign", "cRLSign")
_STATUS_POINTS = ("1.3.6.1.5.5.7.1.1", "2.5.29.31", "2.5.29.46")

Rotated = Literal["intermediate", "root"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How an authority shall be made.

    ``levels`` is the number of intermediates under the root, the last of which signs leaves (none: the root does).
    ``constrain`` are the domains and networks that it may speak for, all if empty. It is valid from a day before
    ``now`` for ``days`` days. ``rng`` makes its serials, and its keys too unless it is the system's own
    (:mod:`countersign.ca.randomness`). Raises :class:`UserError` for values that make no authority.
    """

    name: str = "countersign inspection"
    key: str = "ec:P-256"
    days: int = YEAR
    levels: int = 1
    constrain: Sequence[str] = ()
    now: datetime | None = None
    rng: Rng = os.urandom

    def __post_init__(self) -> None:
        if not 2 <= self.days <= _LONGEST:
            raise UserError(f"cannot make a CA that is valid for {self.days} days: expected 2 to {_LONGEST}")
        if not 1 <= len(self.name) <= _LONGEST_NAME:
            raise UserError(f"cannot name a CA with {len(self.name)} characters: expected 1 to {_LONGEST_NAME}")
        if not 0 <= self.levels <= _MOST_LEVELS:
            raise UserError(f"cannot make a CA with {self.levels} intermediates: expected 0 to {_MOST_LEVELS}")
        keys.key_kind(self.key)
        for each in self.constrain:
            assemble.constraint_base(each)

    @property
    def moment(self) -> datetime:
        """``now``, or now."""
        return (self.now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)

    @property
    def validity(self) -> tuple[datetime, datetime]:
        """From a day ago, for ``days`` days."""
        begin = self.moment - _BACKDATED
        return begin, begin + timedelta(days=self.days)


@dataclass(frozen=True, slots=True)
class Issuer:
    """One certificate of an authority: its DER, its subject as it stands in there, its dates and its path length.

    ``held`` is its key, where it is here; of a given authority only the issuer's need be.
    """

    der: bytes
    subject: bytes
    not_before: datetime
    not_after: datetime
    path_length: int | None
    held: Signer | None

    @classmethod
    def of(cls, certificate: bytes, signer: Signer | None = None) -> Self:
        """The issuer of this certificate. Raises :class:`ValueError` with what is wrong with it as an issuer."""
        parts = cut_certificate(certificate)
        not_before, not_after, problems = read_validity(parts.validity)
        if not_before is None or not_after is None:
            raise DerError(problems[0])
        facts = read_certificate(certificate)
        if not facts.is_ca:
            raise DerError("expected a CA certificate, got one that is none")
        if facts.key_usage and "keyCertSign" not in facts.key_usage:  # RFC 5280 4.2.1.3
            raise DerError(f"its key usage ({', '.join(facts.key_usage)}) does not allow it to sign certificates")
        return cls(certificate, parts.subject, not_before, not_after, facts.path_length, signer)

    @property
    def signer(self) -> Signer:
        """Its key. Raises :class:`AuthorityError` where that is somewhere else."""
        if self.held is None:
            raise AuthorityError(
                f"cannot sign with '{self.facts.subject}': its private key is not here; "
                "give its key file, or use an authority that was made here"
            )
        return self.held

    @property
    def facts(self) -> CertificateFacts:
        return read_certificate(self.der)

    @property
    def public_key(self) -> bytes:
        """The SubjectPublicKeyInfo."""
        return cut_certificate(self.der).public_key

    def signed(self, other: Issuer | bytes) -> bool:
        """Whether ``other`` names this one as its issuer and was signed with its key (or that cannot be told)."""
        parts = cut_certificate(other.der if isinstance(other, Issuer) else other)
        return parts.issuer == self.subject and signed_by(parts, self.public_key) is not False


@dataclass(frozen=True, slots=True)
class Retired:
    """An authority that another has taken the place of: ``what`` was new in that one, when, and until when this one is
    still good beside it.
    """

    authority: Authority
    what: Rotated
    at: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Authority:
    """A root and the intermediates under it, outermost first; the last one (or a root alone) is the ``issuer``.

    ``crossed`` are certificates for the same names and keys by another root (DER), sent behind the chain. ``points``
    are the extensions (DER) that every leaf carries to say where its status is found. ``retired`` are its
    predecessors, the latest last.
    """

    root: Issuer
    intermediates: tuple[Issuer, ...]
    directory: Path | None = None
    crossed: tuple[bytes, ...] = ()
    points: tuple[bytes, ...] = ()
    retired: tuple[Retired, ...] = ()
    fingerprint: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        inside = b"".join((self.issuer.der, *self.chain, *self.points))
        object.__setattr__(self, "fingerprint", hashlib.sha256(inside).hexdigest())

    @property
    def issuer(self) -> Issuer:
        """Who signs leaves."""
        return self.intermediates[-1] if self.intermediates else self.root

    @property
    def issuers(self) -> tuple[Issuer, ...]:
        """All of them, the root first."""
        return (self.root, *self.intermediates)

    @property
    def chain(self) -> tuple[bytes, ...]:
        """What a server sends after its leaf (DER): the intermediates, the issuer first, then what was cross-signed.

        The root is left out, except where it is none: what is at the top of a given chain may have an issuer of its
        own that is not known here.
        """
        top = () if self.root.facts.self_issued else (self.root.der,)
        return (*(issuer.der for issuer in reversed(self.intermediates)), *top, *self.crossed)

    @property
    def root_pem(self) -> bytes:
        """The root as PEM: what a client must trust."""
        return to_pem(self.root.der)

    @property
    def name(self) -> str:
        """The root's subject, to be shown."""
        return self.root.facts.subject or "?"

    @property
    def not_before(self) -> datetime:
        """From when all of its certificates are valid."""
        return max(issuer.not_before for issuer in self.issuers)

    @property
    def not_after(self) -> datetime:
        """Until when all of its certificates are valid."""
        return min(issuer.not_after for issuer in self.issuers)

    @property
    def room(self) -> int | None:
        """How many more authorities may follow below the issuer (RFC 5280 4.2.1.9); ``None``: as many as you like."""
        depth = len(self.intermediates)
        return min(
            (each.path_length - (depth - at) for at, each in enumerate(self.issuers) if each.path_length is not None),
            default=None,
        )

    def check(self, now: datetime) -> None:
        """Raise :class:`AuthorityError` unless every certificate of the authority is valid at ``now``."""
        if self.not_before <= now <= self.not_after:
            return
        for issuer in self.issuers:
            where = f" in {self.directory}" if self.directory else ""
            if now > issuer.not_after:
                cure = "move that directory away, run `countersign ca init`" if where else "make or give a new one"
                raise AuthorityError(
                    f"cannot sign with the CA{where}: '{issuer.facts.subject}' expired on "
                    f"{issuer.facts.not_after}; {cure}, and have the clients trust the new root"
                )
            if now < issuer.not_before:
                raise AuthorityError(
                    f"cannot sign with the CA{where}: '{issuer.facts.subject}' is valid from "
                    f"{issuer.facts.not_before} on, and it is {now:%Y-%m-%dT%H:%M:%SZ}; set the clock right"
                )

    def check_names(self, names: Iterable[str]) -> None:
        """Raise :class:`UserError` for a host or address that the authority's name constraints exclude."""
        constraints = [each for each in map(limits.constraints_of, (issuer.der for issuer in self.issuers)) if each]
        for name in names if constraints else ():
            if not all(each.allow(name) for each in constraints):
                raise UserError(
                    f"cannot issue a certificate for {name!r}: '{self.name}' is constrained to "
                    f"{'; '.join(map(str, constraints))}; name a host within it, or use another CA"
                )

    # -- made ----------------------------------------------------------------------------------------------------

    @classmethod
    def make(cls, plan: Plan | None = None) -> Authority:
        """A new authority in memory alone."""
        plan = plan or Plan()
        return _made(plan, [assemble.name_constraints(plan.constrain)] if plan.constrain else [])

    def below(self, plan: Plan | None = None) -> Authority:
        """A new authority under this one: ``plan.levels`` more intermediates, within this one's dates and limits.

        Raises :class:`AuthorityError` where the issuer may have no authority below it, has expired, or has no key here.
        """
        plan = plan or Plan()
        self.check(plan.moment)
        if self.room is not None and self.room < plan.levels:
            raise AuthorityError(
                f"cannot issue a CA under '{self.issuer.facts.subject}': its path length allows {max(self.room, 0)} "
                f"below it, and {plan.levels} are asked for; use one with a longer path length, or issue leaves with it"
            )
        made = replace(self, directory=None, crossed=(), points=(), retired=())
        constraints = [assemble.name_constraints(plan.constrain)] if plan.constrain else []
        for left in range(plan.levels - 1, -1, -1):
            made = _with_intermediate(made, plan, left, constraints)
            constraints = []
        return made

    def cross_sign(
        self, other: Authority, *, days: float = YEAR, now: datetime | None = None, rng: Rng = os.urandom
    ) -> Authority:
        """``other`` with a certificate by this root for its root, so that clients of this one accept its leaves too.

        It is valid from a day before ``now`` for ``days`` days from then, within this root's dates. Raises
        :class:`AuthorityError` where this root's path length leaves no room for the other and what is below it, where
        its key is not here, or where it has expired. (To cross-sign an intermediate would need no more room, but
        OpenSSL does not go back when the first of two issuers leads nowhere: one side's clients would be refused.)
        """
        if not 0 < days <= _LONGEST:
            raise UserError(f"cannot cross-sign for {days:g} days: expected at most {_LONGEST}")
        now = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
        replace(self, intermediates=()).check(now)
        needed = len(other.issuers)
        if self.root.path_length is not None and self.root.path_length < needed:
            raise AuthorityError(
                f"cannot cross-sign '{other.name}' with '{self.name}': its path length allows {self.root.path_length} "
                f"below it, and {needed} are needed; use a root that was made with more levels"
            )
        made = _cross_signed(self.root, other.root, (now - _BACKDATED, now + timedelta(days=days)), rng)
        return replace(other, crossed=(*other.crossed, made))

    # -- rotated -------------------------------------------------------------------------------------------------

    def rotate(
        self,
        what: Rotated,
        *,
        overlap: timedelta = timedelta(days=14),
        same_name: bool = False,
        same_key: bool = False,
        plan: Plan | None = None,
        passphrase: bytes | None = None,
    ) -> Authority:
        """A new issuing intermediate, or all new from the root down; the old one is kept.

        The new one is like the old one (kind of key, lifetime, constraints) unless ``plan`` says otherwise.
        ``same_key`` and ``same_name`` are for an intermediate: a certificate renewed for the same key, or a new key
        under the same name. For ``overlap`` the old one is marked as good beside the new one, and an old root vouches
        for a new one. An authority that is kept in a directory is rotated there, encrypted with ``passphrase`` if it
        is given.

        Raises :class:`AuthorityError` where the key that has to sign is not here or has expired.
        """
        if not timedelta() <= overlap <= timedelta(days=_LONGEST):
            raise UserError(f"cannot rotate with an overlap of {overlap.days} days: expected 0 to {_LONGEST}")
        if what == "root" and (same_name or same_key):
            raise UserError("cannot keep name or key of a root that is rotated: expected that of an intermediate")
        plan = plan or self._like(what)
        now = plan.moment
        if what == "root":
            new = self._new_root(plan, overlap)
        else:
            new = self._new_intermediate(plan, same_name=same_name, same_key=same_key)
        old = replace(self, retired=())
        new = replace(new, points=self.points, retired=(*self.retired, Retired(old, what, now, now + overlap)))
        if self.directory is None:
            return new
        from countersign.ca.keeping import add_generation

        add_generation(new, self.directory, replaces=self, passphrase=passphrase)
        return replace(new, directory=self.directory)

    def _like(self, what: Rotated) -> Plan:
        """The plan of one like this."""
        old = self.root if what == "root" else self.issuer
        kind = describe_key(old.public_key).lower().replace(" ", ":")
        days = max((old.not_after - old.not_before).days, 2)
        return Plan(name=_base_name(old), key=kind, days=days, levels=len(self.intermediates))

    def _new_root(self, plan: Plan, overlap: timedelta) -> Authority:
        constraints = [each.raw for each in Draft.of(self.root.der).extensions if each.oid == assemble.NAME_CONSTRAINTS]
        if plan.constrain:
            constraints = [assemble.name_constraints(plan.constrain)]
        made = _made(plan, constraints)
        alive = self.root.not_before <= plan.moment <= self.root.not_after
        if overlap <= timedelta() or not alive or not self.root.held:
            return made
        return self.cross_sign(made, days=overlap / timedelta(days=1), now=plan.now, rng=plan.rng)

    def _new_intermediate(self, plan: Plan, *, same_name: bool, same_key: bool) -> Authority:
        if not self.intermediates:
            raise AuthorityError(f"cannot rotate the intermediate of '{self.name}': it has none; rotate the root")
        old, rest = self.issuer, replace(self, intermediates=self.intermediates[:-1])
        rest.check(plan.moment)
        signer = old.signer if same_key else keys.new_signer(keys.key_kind(plan.key), plan.rng)
        draft = Draft.of(old.der)
        begin, end = plan.validity
        draft.serial = assemble.new_serial(plan.rng)
        draft.validity = assemble.validity_der(max(begin, rest.not_before), min(end, rest.not_after))
        draft.public_key = signer.public_key
        draft.put(assemble.SKI, assemble.key_id_value(signer.key_id), critical=False)
        if not same_name and not same_key:
            draft.subject = assemble.name_der(O="countersign", CN=f"{plan.name} intermediate {_mark(signer)}")
        made = Issuer.of(draft.sign(rest.issuer.signer), signer)
        return replace(self, intermediates=(*rest.intermediates, made))

    # -- kept, and given -----------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls, directory: str | os.PathLike[str], plan: Plan | None = None, *, passphrase: bytes | None = None
    ) -> Authority:
        """A new authority kept in ``directory``, which may not hold anything yet; its keys encrypted if need be.

        Raises :class:`AuthorityError` where it does, :class:`FileFault` where it cannot be written.
        """
        from countersign.ca.keeping import create

        return create(directory, plan or Plan(), passphrase)

    def keep(self, directory: str | os.PathLike[str], *, passphrase: bytes | None = None) -> Authority:
        """Write it to ``directory``, which may not hold anything yet; its keys encrypted if need be.

        Raises :class:`AuthorityError` where it does or where a key is not here, and :class:`FileFault`.
        """
        from countersign.ca.keeping import keep

        return keep(self, directory, passphrase)

    @classmethod
    def load(cls, directory: str | os.PathLike[str], *, passphrase: bytes | None = None) -> Authority:
        """The authority kept in ``directory``, its keys and certificates checked against each other.

        Raises :class:`AuthorityError` naming the file at fault, :class:`FileFault` for one that others can read.
        """
        from countersign.ca.keeping import load

        return load(directory, passphrase)

    @classmethod
    def open(
        cls, directory: str | os.PathLike[str], plan: Plan | None = None, *, passphrase: bytes | None = None
    ) -> Authority:
        """The authority kept in ``directory``, made there first if nothing is; safe for several processes at once."""
        from countersign.ca.keeping import open_or_create

        return open_or_create(directory, plan or Plan(), passphrase)

    @classmethod
    def given(
        cls,
        certificates: str | os.PathLike[str],
        key: str | os.PathLike[str] | None = None,
        *,
        passphrase: bytes | None = None,
    ) -> Authority:
        """An authority that somebody else made, from a PEM, DER or PKCS #12 file: its certificate, key, and what is
        above it as far as that is in the file, in any order. Only the issuer's own key has to be there.

        Raises :class:`AuthorityError` for a certificate that may not sign others, and
        :class:`~countersign.ca.keypair.KeyPairError` for files that are not key and certificate.
        """
        from countersign.ca.keeping import given

        return given(certificates, key, passphrase)


def _mark(signer: Signer) -> str:
    return hashlib.sha256(signer.public_key).hexdigest()[:6]


def _base_name(issuer: Issuer) -> str:
    """The name that a plan had, without the role and the mark of the certificate that was made of it."""
    subject = issuer.facts.subject or ""
    found = re.match(r"CN=(?P<name>(?:[^,\\]|\\.)+?)(?: (?:root|intermediate(?: \d+)?) [0-9a-f]{6})?(?:,|$)", subject)
    return re.sub(r"\\(.)", r"\1", found["name"])[:_LONGEST_NAME] if found else Plan().name


def _made(plan: Plan, constraints: Sequence[bytes]) -> Authority:
    """The authority of a plan, its root with these name constraints."""
    signer = keys.new_signer(keys.key_kind(plan.key), plan.rng)
    name = assemble.name_der(O="countersign", CN=f"{plan.name} root {_mark(signer)}")
    # One more than it needs, so that it can vouch for its successor, which has as many levels.
    draft = _ca_draft(plan, signer, name, plan.levels + 1, constraints)
    made = Authority(_signed(draft, signer, name, signer), ())
    for left in range(plan.levels - 1, -1, -1):
        made = _with_intermediate(made, plan, left)
    return made


def _with_intermediate(authority: Authority, plan: Plan, left: int, constraints: Sequence[bytes] = ()) -> Authority:
    """With one more of them, below which ``left`` may follow."""
    above = authority.issuer
    signer = keys.new_signer(keys.key_kind(plan.key), plan.rng)
    level = f" {len(authority.intermediates) + 1}" if plan.levels > 1 else ""
    name = assemble.name_der(
        O="countersign", CN=f"{plan.name} intermediate{level} {_mark(authority.root.held or signer)}"
    )
    draft = _ca_draft(plan, signer, name, left, constraints)
    begin, end = plan.validity
    draft.validity = assemble.validity_der(max(begin, above.not_before), min(end, above.not_after))
    made = _signed(draft, above.signer, above.subject, signer)
    return replace(authority, intermediates=(*authority.intermediates, made))


def _ca_draft(plan: Plan, signer: Signer, name: bytes, path_length: int, constraints: Sequence[bytes]) -> Draft:
    extensions = (
        assemble.basic_constraints(path_length=path_length),
        assemble.key_usage(_CA_USAGE),
        assemble.subject_key_identifier(signer.key_id),
        assemble.authority_key_identifier(signer.key_id),
        *constraints,
    )
    return Draft(
        serial=assemble.new_serial(plan.rng),
        issuer=name,
        validity=assemble.validity_der(*plan.validity),
        subject=name,
        public_key=signer.public_key,
        extensions=list(parts_of(extensions)),
    )


def _signed(draft: Draft, signer: Signer, issuer_name: bytes, subject: Signer | None) -> Issuer:
    draft.issuer = issuer_name
    draft.put(assemble.AKI, assemble.issuer_key_id_value(signer.key_id), critical=False)
    return Issuer.of(draft.sign(signer), subject)


def _cross_signed(by: Issuer, crossed: Issuer, validity: tuple[datetime, datetime], rng: Rng) -> bytes:
    draft = Draft.of(crossed.der)
    draft.serial = assemble.new_serial(rng)
    draft.validity = assemble.validity_der(max(validity[0], by.not_before), min(validity[1], by.not_after))
    draft.extensions = [each for each in draft.extensions if each.oid not in _STATUS_POINTS]
    return _signed(draft, by.signer, by.subject, None).der

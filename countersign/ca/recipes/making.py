"""Makes what a recipe says.

Three things are worked out for each certificate, each when it is first asked for: who it is (subject and key), what
it says (a draft with the changes of its spec), and the certificate itself, signed with the key of whoever issues it.
No subject and no key depends on a signature, so certificates may issue each other in circles. A certificate of the
authority that nothing is changed about, and whose issuer is still who it was, is the authority's own, byte for byte.

With a source of chance that is not the system's (:mod:`countersign.ca.randomness`) every certificate draws from a
source of its own, named after it. So a recipe and its mended form, made from the same seed, have the same keys and
serial numbers, and differ in what the one breaks and in the signatures, and in nothing else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from countersign.ca import assemble, keys, pieces
from countersign.ca.authority import Authority, Issuer
from countersign.ca.draft import Draft, part
from countersign.ca.issue import draft_leaf
from countersign.ca.leaf import Minted, key_kind_of, mimic
from countersign.ca.randomness import Seeded, is_system
from countersign.ca.recipes.changing import change, filled, named_algorithm
from countersign.ca.recipes.model import ISSUER, CertSpec, Recipe
from countersign.ca.recipes.sending import ordered, unrelated
from countersign.ca.signer import impostor_key
from countersign.recorder.certificates import describe_key

if TYPE_CHECKING:
    from countersign.ca.keys import KeyPool
    from countersign.ca.randomness import Rng
    from countersign.ca.signer import ServedKey, Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeChain(Minted):
    """A chain that a recipe made: what is sent and the key to serve it with, as of everything that is minted.

    ``certificates`` are all of them by name (DER), sent or not; ``anchors`` is what a client is to trust; ``wrong``
    says field by field what is otherwise than right.
    """

    recipe: str
    certificates: dict[str, bytes] = field(repr=False)
    anchors: tuple[bytes, ...]
    wrong: tuple[str, ...]

    @property
    def leaf(self) -> bytes:
        """The leaf (DER), wherever in the chain it is sent."""
        return self.certificates["leaf"]


def make(
    recipe: Recipe,
    authority: Authority,
    *,
    target: bytes | None,
    name: str,
    now: datetime | None,
    rng: Rng,
    pool: KeyPool | None,
) -> MadeChain:
    """:meth:`Recipe.make`."""
    now = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    authority.check(now)
    making = _Making(recipe, authority, target if recipe.mimic else None, name, now, rng, pool)
    certificates = {each: making.certificate(each) for each in making.specs}
    crossed = {f"crossed-{number}": each for number, each in enumerate(authority.crossed, 1)}
    if making.is_the_authoritys:
        certificates |= crossed
    path = making.path()
    names = ordered(
        recipe.send.order,
        path,
        [each for each in crossed if each in certificates],
        with_root=making.is_root(path[-1]),
        rng=making.chance("order"),
    )
    sent = [certificates[each] for each in names]
    sent += unrelated(recipe.send, sent, making.chance("unrelated"))
    return MadeChain(
        making.served_key(names[0] if names else "leaf"),
        tuple(sent),
        making.left_out,
        recipe=recipe.id,
        certificates=certificates,
        anchors=tuple(certificates[each] for each in recipe.trust),
        wrong=recipe.changes,
    )


def make_authority(recipe: Recipe, base: Authority, *, now: datetime, rng: Rng) -> Authority:
    """The issuers of the recipe's leaf as an authority of their own: what is above the leaf, made once and for all."""
    making = _Making(recipe, base, None, "localhost", now, rng, None)
    _, *above = making.path()
    root, *intermediates = (making.issuer(each) for each in reversed(above))
    return Authority(root, tuple(intermediates))


def kinds_of_keys(recipe: Recipe, authority: Authority, target: bytes | None) -> list[tuple[str, str]]:
    """:meth:`Recipe.kinds_of_keys`."""
    target = target if recipe.mimic else None
    making = _Making(recipe, authority, target, "localhost", datetime.now(UTC), os.urandom, None)
    return [(kind, name) for name in making.specs if (kind := making.new_kind(name))]


@dataclass(slots=True)
class _Making:
    """One recipe in the making."""

    recipe: Recipe
    authority: Authority
    target: bytes | None
    host: str
    now: datetime
    rng: Rng
    pool: KeyPool | None
    left_out: tuple[str, ...] = ()
    specs: dict[str, CertSpec] = field(default_factory=dict)
    _originals: dict[str, Issuer] = field(default_factory=dict)
    _issuers: dict[str, str] = field(default_factory=dict)
    _seed: bytes = b""
    _signers: dict[str, Signer] = field(default_factory=dict)
    _bases: dict[str, Draft] = field(default_factory=dict)
    _drafts: dict[str, Draft] = field(default_factory=dict)
    _made: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Who is there, and who issues whom where the recipe does not say."""
        self._seed = b"" if is_system(self.rng) else self.rng(32)
        root, *between = self.authority.issuers
        last = between.pop() if between else None
        self._enter("root", self.recipe.root, "root", root)
        above = "root"
        for number, issuer in enumerate(between, 1):
            self._enter(f"above-{number}", CertSpec(), above, issuer)
            above = f"above-{number}"
        if last is not None or self.recipe.needs_intermediate:
            self._enter("intermediate", self.recipe.intermediate, above, last)
            above = "intermediate"
        for spec in self.recipe.other:
            self._enter(spec.name, spec, "root")
        self._enter("leaf", self.recipe.leaf, above)

    def _enter(self, name: str, spec: CertSpec, issuer: str, original: Issuer | None = None) -> None:
        self.specs[name] = spec
        self._issuers[name] = spec.issuer or issuer
        if original is not None:
            self._originals[name] = original

    def chance(self, label: str) -> Rng:
        """A source of chance for one purpose."""
        return os.urandom if is_system(self.rng) else Seeded(self._seed + label.encode())

    # -- who each of them is -------------------------------------------------------------------------------------

    def _subject(self, name: str) -> bytes:
        spec = self.specs[name]
        if spec.subject is not None:
            return spec.subject if isinstance(spec.subject, bytes) else pieces.name(filled(spec.subject, self.host))
        other = spec.subject_of or spec.like
        return self._subject(self._meant(name, other)) if other else self._base(name).subject

    def _meant(self, name: str, other: str) -> str:
        """The certificate that is meant where another one is named: ``issuer`` is its own issuer."""
        return self._issuers[name] if other == ISSUER else other

    def _signer(self, name: str) -> Signer:
        found = self._signers.get(name)
        if found is None:
            found = self._signers[name] = self._find_signer(name)
        return found

    def _find_signer(self, name: str) -> Signer:
        spec = self.specs[name]
        if other := spec.key_of or spec.like:
            return self._signer(self._meant(name, other))
        kind = self.new_kind(name)
        if kind is None:
            return self._originals[name].signer
        return self.pool.get(kind, name) if self.pool else keys.new_signer(kind, self.chance(f"{name} key"))

    def new_kind(self, name: str) -> str | None:
        """The kind of the key that has to be made for it; ``None`` where it has one already, or another's."""
        spec = self.specs[name]
        if spec.key_of or spec.like or (spec.key is None and name in self._originals):
            return None
        if spec.key is not None:
            return keys.key_kind(spec.key)
        if name == "leaf":
            return "EC P-256" if self.target is None else key_kind_of(self.target)
        return keys.like(describe_key(self.authority.issuer.signer.public_key))[0]

    def _is_as_it_was(self, name: str) -> bool:
        """Whether the name and the key are those of the authority's certificate of that place."""
        before, spec = self._originals.get(name), self.specs[name]
        if before is None or self._subject(name) != before.subject:
            return False
        return (spec.key is None and spec.key_of is None) or self._signer(name).public_key == before.public_key

    # -- what each of them says ----------------------------------------------------------------------------------

    def _base(self, name: str) -> Draft:
        """The draft that is right, with whatever subject, issuer and identifiers it has so far."""
        found = self._bases.get(name)
        if found is None:
            found = self._bases[name] = self._find_base(name)
        return found

    def _find_base(self, name: str) -> Draft:
        if name in self._originals:
            return Draft.of(self._originals[name].der)
        if name != "leaf":
            return self._ca_draft(name)
        key, rng = self._signer(name), self.chance("leaf")
        if self.target is not None:
            draft, self.left_out = mimic(self.authority, self.target, key=key, now=self.now, rng=rng)
            return draft
        role = self.recipe.role
        return draft_leaf(self.authority, [self.host], signer=key, purpose=role, now=self.now, rng=rng)

    def _ca_draft(self, name: str) -> Draft:
        """A CA from nothing, as long-lived as the authority."""
        signer = self._signer(name)
        subject = assemble.name_der(O="countersign", CN=f"countersign {name[:40]} {signer.key_id.hex()[:6]}")
        return Draft(
            serial=0,
            issuer=subject,
            validity=assemble.validity_der(self.authority.not_before, self.authority.not_after),
            subject=subject,
            public_key=signer.public_key,
            extensions=[
                part(assemble.BASIC_CONSTRAINTS, assemble.basic_constraints_value(ca=True), critical=True),
                part(assemble.KEY_USAGE, assemble.key_usage_value(("keyCertSign", "cRLSign")), critical=True),
                part(assemble.SKI, assemble.key_id_value(signer.key_id)),
                part(assemble.AKI, assemble.issuer_key_id_value(signer.key_id)),
            ],
        )

    def _draft(self, name: str) -> Draft:
        """The draft as the spec has it."""
        found = self._drafts.get(name)
        if found is None:
            found = self._drafts[name] = self._find_draft(name)
        return found

    def _find_draft(self, name: str) -> Draft:
        spec = self.specs[name]
        base = self._draft(spec.like) if spec.like else self._base(name)
        draft = replace(base, extensions=list(base.extensions))
        draft.subject = self._subject(name)
        draft.serial = assemble.new_serial(self.chance(f"{name} serial"))
        if spec.key is not None or spec.key_of is not None:
            signer = self._signer(name)
            draft.public_key = signer.public_key
            if draft.find(assemble.SKI):
                draft.put(assemble.SKI, assemble.key_id_value(signer.key_id), critical=False)
        issuer = self._issuers[name]
        draft.issuer = self._subject(issuer)
        if draft.find(assemble.AKI):
            draft.put(assemble.AKI, assemble.issuer_key_id_value(self._signer(issuer).key_id), critical=False)
        change(draft, spec, host=self.host, now=self.now, rng=self.chance(f"{name} extensions"))
        return draft

    # -- the certificates ----------------------------------------------------------------------------------------

    def certificate(self, name: str) -> bytes:
        """The certificate of that name (DER)."""
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = self._find_certificate(name)
        return found

    def _find_certificate(self, name: str) -> bytes:
        spec, issuer = self.specs[name], self._issuers[name]
        if name in self._originals and not spec.changed and (name == "root" or self._is_as_it_was(issuer)):
            return self._originals[name].der
        signer = self._signer(spec.signed_by or issuer)
        if spec.signature is not None:
            signer = signer.using(spec.signature)
        return self._draft(name).sign(
            signer,
            inner_algorithm=_algorithm(spec.inner_algorithm, signer),
            outer_algorithm=_algorithm(spec.outer_algorithm, signer),
            broken=spec.signature_broken,
        )

    @property
    def is_the_authoritys(self) -> bool:
        """Whether everything above the leaf is the authority's own."""
        return all(self._made[each] == issuer.der for each, issuer in self._originals.items())

    def path(self) -> list[str]:
        """The leaf and its issuers from below, as far as they go without coming round again."""
        path = ["leaf"]
        while (above := self._issuers[path[-1]]) not in path:
            path.append(above)
        return path

    def issuer(self, name: str) -> Issuer:
        """The certificate of that name with its key, to sign with."""
        return Issuer.of(self.certificate(name), self._signer(name))

    def is_root(self, name: str) -> bool:
        """Whether it is its own issuer by name."""
        if name in self._originals and self._made[name] == self._originals[name].der:
            return self._originals[name].facts.self_issued
        return self._draft(name).subject == self._draft(name).issuer

    def served_key(self, first: str) -> ServedKey:
        """The key to serve the chain with. A server must hold the key of what it sends first, or seem to."""
        signer = self._signer("leaf")
        if not self.recipe.impostor and (first == "leaf" or self._signer(first).public_key == signer.public_key):
            return signer.served
        shown = signer if self.recipe.impostor else self._signer(first)
        return impostor_key(shown.key, self.chance("impostor"))


def _algorithm(named: str | bytes | None, signer: Signer) -> bytes | None:
    return named_algorithm(named, signer.kind) if isinstance(named, str) else named

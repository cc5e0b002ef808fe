"""What a recipe says: certificates that differ from right ones, and the order in which they are sent.

A recipe starts from what is right and names what is otherwise. Unless it says more, there are three certificates:

    root  ──signs──►  intermediate  ──signs──►  leaf          sent: leaf, intermediate; trusted by the client: root

The leaf mimics the target's, or is made from nothing for a host; intermediate and root are those of the authority that
the recipe is made with. Each of the three has a :class:`CertSpec`, in which a field that is ``None`` stays as it is,
``False`` leaves the field out, words (or a number) say what stands there, and bytes are the DER that stands there,
whatever it is. ``other`` certificates can be added and may sign each other in any way, in circles too.

``breaks`` names the fields, by their paths, that make it wrong. :meth:`Recipe.mended` is the same recipe with only
these put back to what is right, so what a recipe breaks can be proved: the one is refused and the other is not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from countersign.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from countersign.ca.authority import Authority
    from countersign.ca.keys import KeyPool
    from countersign.ca.randomness import Rng
    from countersign.ca.recipes.making import MadeChain

_MOST_OTHERS = 200
_MOST_SENT = {"unrelated": 1_000, "count": 1_000, "size": 16 << 20}
_MOST_NAMES = 100_000
_MOST_SCTS = 1_000

Words = tuple[str, ...]
Role = Literal["server", "client"]

ISSUER = "issuer"
"""What a certificate calls its own issuer, in ``subject_of`` and ``key_of``."""

ORDERS = ("right", "leaf-only", "no-intermediate", "with-root", "reversed", "leaf-last", "shuffled", "twice", "empty")
"""The orders of a chain that have a name (:class:`Send`)."""


class RecipeError(UserError):
    """A recipe that cannot be read or makes no sense; the text says where, what was expected, and what came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicConstraints:
    """RFC 5280 4.2.1.9. A path length may stand beside ``ca = false``, where it has no meaning."""

    ca: bool = False
    path_length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NameConstraints:
    """RFC 5280 4.2.1.10: domains (``example.com``, with what is below) and networks (``10.0.0.0/8``)."""

    permitted: Words = ()
    excluded: Words = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """An extension by its number, its value as DER."""

    oid: str
    value: bytes = b""
    critical: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CertSpec:
    """What is otherwise about one certificate. ``{name}`` in names is the host, ``{parent}`` the host's domain.

    Who it is and who signs it:

    - ``name``: what the recipe calls it (only of ``other`` ones)
    - ``like``: a copy of that certificate, for the same subject and key, by another issuer or with other fields
    - ``subject_of``, ``key_of``: with the subject or the key of that certificate (``issuer``: of its own issuer)
    - ``issuer``: the certificate whose subject and key sign it; its own name makes it self-signed
    - ``signed_by``: signed with the key of that one, while the issuer's name and key identifier stay the issuer's
    - ``issuer_name``: other words (``CN=...``) where the issuer's subject should stand

    The fields of RFC 5280 4.1: ``version`` (1, 2, 3 or any other), ``serial``, ``not_before`` and ``not_after`` (see
    :func:`countersign.ca.pieces.moment`), ``validity`` (DER), ``subject`` (``("O=Acme", "CN={name}")``, ``()`` for an
    empty one), ``key`` (``rsa:1024``), ``public_key`` (DER).

    The signature: ``signature`` (``sha1``, ``md5``, ``pss-sha256``), ``signature_broken``, and the algorithm that is
    named inside (``inner_algorithm``) and beside it (``outer_algorithm``).

    Extensions (4.2): ``san``, of which ``more_names`` are made up; ``basic_constraints``; ``key_usage``, and
    ``more_key_usage`` that is added to what is there; ``extended_key_usage``; ``ski`` and ``aki`` (hexadecimal);
    ``name_constraints``; ``policies``; ``ocsp``, ``ca_issuers`` and ``crl`` (URLs); ``must_staple``; ``scts`` (how
    many); ``extra`` ones by number. ``twice`` names those that stand there twice, ``critical`` and ``not_critical``
    those whose flag is otherwise; ``extensions = False`` leaves all of them out.
    """

    name: str = ""
    like: str | None = None
    subject_of: str | None = None
    key_of: str | None = None
    issuer: str | None = None
    signed_by: str | None = None
    issuer_name: Words | bytes | None = None
    version: int | bytes | None = None
    serial: int | bytes | None = None
    not_before: str | None = None
    not_after: str | None = None
    validity: bytes | None = None
    subject: Words | bytes | None = None
    key: str | None = None
    public_key: bytes | None = None
    signature: str | None = None
    signature_broken: bool = False
    inner_algorithm: str | bytes | None = None
    outer_algorithm: str | bytes | None = None
    extensions: Literal[False] | None = None
    san: Words | bytes | Literal[False] | None = None
    more_names: int = 0
    basic_constraints: BasicConstraints | bytes | Literal[False] | None = None
    key_usage: Words | bytes | Literal[False] | None = None
    more_key_usage: Words = ()
    extended_key_usage: Words | bytes | Literal[False] | None = None
    ski: str | bytes | Literal[False] | None = None
    aki: str | bytes | Literal[False] | None = None
    name_constraints: NameConstraints | bytes | Literal[False] | None = None
    policies: Words | bytes | Literal[False] | None = None
    ocsp: Words | Literal[False] | None = None
    ca_issuers: Words | Literal[False] | None = None
    crl: Words | bytes | Literal[False] | None = None
    must_staple: bool | bytes | None = None
    scts: int | bytes | Literal[False] | None = None
    extra: tuple[Extension, ...] = ()
    twice: Words = ()
    critical: Words = ()
    not_critical: Words = ()

    def __post_init__(self) -> None:
        for which, value, most in (("more_names", self.more_names, _MOST_NAMES), ("scts", self.scts, _MOST_SCTS)):
            if isinstance(value, int) and not 0 <= value <= most:
                raise RecipeError(f"cannot make a certificate with {which} = {value}: expected 0 to {most}")

    @property
    def changed(self) -> dict[str, Any]:
        """The fields that are otherwise, ``name`` left out."""
        return {each: value for each, default in _DEFAULTS.items() if (value := getattr(self, each)) != default}


def _texts(value: object) -> Iterator[str]:
    """Those in which the host and its domain may stand."""
    match value:
        case tuple():
            yield from (each for each in value if isinstance(each, str))
        case NameConstraints():
            yield from (*value.permitted, *value.excluded)


_DEFAULTS: dict[str, Any] = {each.name: each.default for each in fields(CertSpec) if each.name != "name"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """The certificates that go over the wire.

    ``order`` is one of :data:`ORDERS` or the names of certificates. *right*: the leaf and its issuers, each after what
    it issued, without the root. *leaf-only*. *no-intermediate*: the root is there and the leaf's issuer is not.
    *with-root*. *reversed*: the leaf, then root and issuers from the top down. *leaf-last*: the whole chain turned
    round. *shuffled*: the leaf, then the others in an order left to chance. *twice*: each of them twice. *empty*.

    Behind them: ``unrelated`` roots that have nothing to do with it, or as many as it takes to make ``count``
    certificates; and one that is as large as it takes to make ``size`` bytes.
    """

    order: str | Words = "right"
    unrelated: int = 0
    count: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a chain is made. The smallest one, ``Recipe()``, makes a right one; so does ``Recipe().make(authority)``.

    ``title``, ``wrong`` (empty where nothing is) and ``rfc`` are for people. A right client refuses what is wrong. What
    three verifiers say of the chain is ``openssl`` (error number and text of X509_V_ERR; ``openssl_strict`` where
    ``-x509_strict`` says something else), ``jvm`` (a part of its exception) and ``cryptography``: ``accepts`` where
    they do. ``handshake`` (a part of OpenSSL's words) is what no look at the chain shows, but the handshake does.

    ``role`` is the side that shows the chain. ``mimic``: the leaf is made from the target's certificate where there is
    one. ``trust`` names what the client is to trust. ``impostor``: the key that serves the chain is not the leaf's.
    ``served`` is false where OpenSSL cannot send it. ``host`` is the host that it is about, where it is not about any.
    """

    id: str = "own"
    title: str = ""
    wrong: str = ""
    rfc: str = ""
    breaks: Words = ()
    role: Role = "server"
    mimic: bool = True
    leaf: CertSpec = field(default_factory=CertSpec)
    intermediate: CertSpec = field(default_factory=CertSpec)
    root: CertSpec = field(default_factory=CertSpec)
    other: tuple[CertSpec, ...] = ()
    send: Send = field(default_factory=Send)
    trust: Words = ("root",)
    impostor: bool = False
    served: bool = True
    host: str = ""
    handshake: str = ""
    openssl: str = "accepts"
    openssl_strict: str = ""
    jvm: str = "accepts"
    cryptography: str = "accepts"

    def __post_init__(self) -> None:
        if self.role not in {"server", "client"}:
            raise RecipeError(f"cannot use the recipe '{self.id}': its role is server or client, not {self.role!r}")
        self._check_sizes()
        self._check_names()
        self._check_circles()
        for path in self.breaks:
            self._without(path)

    @property
    def specs(self) -> dict[str, CertSpec]:
        """All certificates by name, the leaf last."""
        return {
            "root": self.root,
            "intermediate": self.intermediate,
            **{each.name: each for each in self.other},
            "leaf": self.leaf,
        }

    @property
    def changes(self) -> tuple[str, ...]:
        """All fields that are otherwise, and what stands there, in words for people."""
        shown = ((path, f"{value:#x}" if type(value) is int else repr(value)) for path, value in self.changed_fields())
        return tuple(f"{path} = {value}" for path, value in shown)

    @property
    def needs_intermediate(self) -> bool:
        """Whether it says anything of the intermediate, so that there must be one."""
        related = ("like", "subject_of", "key_of", "issuer", "signed_by")
        named = {getattr(spec, each) for spec in self.specs.values() for each in related}
        order = self.send.order if isinstance(self.send.order, tuple) else ()
        return bool(self.intermediate.changed) or "intermediate" in {*named, *self.trust, *order}

    def make(
        self,
        authority: Authority,
        *,
        target: bytes | None = None,
        name: str = "localhost",
        now: datetime | None = None,
        rng: Rng = os.urandom,
        pool: KeyPool | None = None,
    ) -> MadeChain:
        """The chain of this recipe under ``authority``, for the host or address ``name``.

        ``target`` is the certificate (DER) that the leaf mimics; without it the leaf is made from nothing. ``pool`` has
        the keys, of which each certificate of a chain gets its own; without it they are made. Raises
        :class:`~countersign.ca.errors.AuthorityError` where the authority has expired or a key that must sign is not
        here, :class:`~countersign.ca.leaf.CannotMimic` for a target that is no certificate, and :class:`RecipeError`.
        """
        from countersign.ca.recipes.making import make

        return make(self, authority, target=target, name=name, now=now, rng=rng, pool=pool)

    def kinds_of_keys(self, authority: Authority, target: bytes | None = None) -> list[tuple[str, str]]:
        """The keys that :meth:`make` will ask a pool for, as kind and owner; slow ones can be made ahead of it."""
        from countersign.ca.recipes.making import kinds_of_keys

        return kinds_of_keys(self, authority, target)

    def mended(self) -> Recipe:
        """The same recipe without what it breaks. Raises :class:`RecipeError` where it breaks nothing."""
        if not self.breaks:
            raise RecipeError(f"cannot mend the recipe '{self.id}': it names nothing that it breaks")
        mended = self
        for path in self.breaks:
            mended = mended._without(path)
        return replace(
            mended,
            id=f"{self.id}-mended",
            wrong="",
            breaks=(),
            served=True,
            handshake="",
            openssl="accepts",
            openssl_strict="",
            jvm="accepts",
            cryptography="accepts",
        )

    def changed_fields(self) -> Iterator[tuple[str, Any]]:
        """The paths of all fields that are otherwise, and what stands there."""
        for name, spec in self.specs.items():
            prefix = name if name in {"root", "intermediate", "leaf"} else f"other.{name}"
            yield from ((f"{prefix}.{each}", value) for each, value in spec.changed.items())
        for each in fields(Send):
            if (value := getattr(self.send, each.name)) != each.default:
                yield f"send.{each.name}", value
        if self.trust != ("root",):
            yield "trust", self.trust
        if self.impostor:
            yield "impostor", True

    @property
    def wants_domain(self) -> bool:
        """Whether the host's domain stands in it, which ``localhost`` has none of."""
        return any("{parent}" in text for _, value in self.changed_fields() for text in _texts(value))

    def _without(self, path: str) -> Recipe:
        """The recipe with one field put back. Raises :class:`RecipeError` for a path that leads nowhere."""
        match path.split("."):
            case [("leaf" | "intermediate" | "root") as name, each] if each in _DEFAULTS:
                mended_one: dict[str, Any] = {name: replace(getattr(self, name), **{each: _DEFAULTS[each]})}
                return replace(self, breaks=(), **mended_one)
            case ["other", name, each] if each in _DEFAULTS and name in self.specs:
                mended = tuple(
                    replace(spec, **{each: _DEFAULTS[each]}) if spec.name == name else spec for spec in self.other
                )
                return replace(self, breaks=(), other=mended)
            case ["send", each] if each in {one.name for one in fields(Send)}:
                return replace(self, breaks=(), send=replace(self.send, **{each: getattr(Send(), each)}))
            case ["trust"]:
                return replace(self, breaks=(), trust=("root",))
            case ["impostor"]:
                return replace(self, breaks=(), impostor=False)
        raise RecipeError(
            f"cannot take {path!r} in the recipe '{self.id}' for a field that it breaks: expected leaf.not_after, "
            "intermediate.key_usage, other.NAME.issuer, send.order, trust, impostor or the like"
        )

    def _check_sizes(self) -> None:
        """What a word could make as large as it likes."""
        send = self.send
        sizes = [(f"send.{each}", getattr(send, each), most) for each, most in _MOST_SENT.items()]
        for path, value, most in sizes:
            if not 0 <= value <= most:
                raise RecipeError(f"cannot use the recipe '{self.id}': {path} is {value}, expected 0 to {most}")

    def _check_names(self) -> None:
        if len(self.other) > _MOST_OTHERS:
            raise RecipeError(
                f"cannot use the recipe '{self.id}': it has {len(self.other)} other certificates, "
                f"expected at most {_MOST_OTHERS}; send.count sends more of them"
            )
        known = self.specs
        if len(known) != 3 + len(self.other) or "" in known:
            raise RecipeError(
                f"cannot use the recipe '{self.id}': each of its other certificates needs a name of its own"
            )
        for name, spec in known.items():
            for each in ("like", "issuer", "signed_by"):
                self._check_name(f"{name}.{each}", getattr(spec, each))
            for each in ("subject_of", "key_of"):
                if getattr(spec, each) != ISSUER:
                    self._check_name(f"{name}.{each}", getattr(spec, each))
        order = self.send.order
        for name in (*self.trust, *(order if isinstance(order, tuple) else ())):
            self._check_name("trust and send.order", name)
        if isinstance(order, str) and order not in ORDERS:
            raise RecipeError(
                f"cannot send the chain of the recipe '{self.id}' in the order {order!r}: "
                f"expected {', '.join(ORDERS)}, or a list of certificates"
            )

    def _check_circles(self) -> None:
        """Certificates may sign each other in circles, but each needs a subject and a key of its own to begin with."""
        known = self.specs
        usual = {"root": "root", "intermediate": "root", "leaf": "intermediate"}
        for relation in ("subject_of", "key_of", "like"):
            for name in known:
                seen = [name]
                while (spec := known.get(seen[-1])) and (other := getattr(spec, relation) or spec.like):
                    seen.append((spec.issuer or usual.get(seen[-1], "root")) if other == ISSUER else other)
                    if seen[-1] in seen[:-1]:
                        raise RecipeError(
                            f"cannot use the recipe '{self.id}': {f' is {relation} '.join(seen)}, and so on for ever; "
                            f"take {relation} away from one of them"
                        )

    def _check_name(self, where: str, name: str | None) -> None:
        if name is not None and name not in self.specs:
            raise RecipeError(
                f"cannot use the recipe '{self.id}': {where} names the certificate {name!r}, "
                f"expected one of {', '.join(self.specs)}"
            )

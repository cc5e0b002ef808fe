"""Inspection products as they show themselves: one TOML file a product, each field with its source.

A preset has two sides. The certificate side is two recipes: ``authority`` is what stands above the leaf, made once and
kept; ``leaf`` is what is done to each leaf and how the chain is sent. Where the product signs for targets that it does
not trust in another way, ``untrusted`` is that leaf and ``untrusted_authority`` the CA that signs it. The other side is
:class:`Behaviour`: what the product does with mutual TLS, ALPN, post-quantum groups and targets that it does not trust,
in words that the proxy's settings have.

Nobody publishes such a thing, so every field of a preset has a :class:`Fact` that says where it is known from, or that
it is assumed; a file in which one has not is refused. Names are those that were observed, but each root is marked as
not the vendor's by its organisational unit, and URLs are moved to a host that nobody has (RFC 6761).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from countersign.ca.authority import Authority, Plan
from countersign.ca.keys import key_kind
from countersign.ca.recipes.making import make_authority
from countersign.ca.recipes.model import Recipe, RecipeError
from countersign.ca.recipes.reading import read_recipe, read_toml
from countersign.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

Words = tuple[str, ...]

_CHOICES: dict[str, set[str]] = {
    "mtls": {"bypass", "relay", "present", "strip", "block"},
    "alpn": {"keep", "strip", "http/1.1"},
    "post_quantum": {"keep", "strip", "refuse"},
    "bad_upstream": {"block", "allow", "pass-through", "untrusted-ca", "self-signed", "mark"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What a product does besides certificates: of each thing what it can do, its default first; empty: not known.

    ``mtls``, when the target asks for a client certificate: ``bypass`` the inspection, ``relay`` a copy of the
    client's signed by its own CA, ``present`` one of its own, ``strip`` the request, ``block``. ``alpn``: ``keep``,
    ``strip``, or ``http/1.1`` alone. ``post_quantum`` groups of the client: ``keep``, ``strip`` them, ``refuse`` the
    client. ``bad_upstream``, a target that it does not trust: ``block``, ``allow`` as if it were good, ``pass-through``
    uninspected, sign with its ``untrusted-ca``, make it ``self-signed``, or ``mark`` the certificate.
    """

    mtls: Words = ()
    alpn: Words = ()
    post_quantum: Words = ()
    bad_upstream: Words = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Where some fields are known from, by their paths (``authority.root.subject``); ``assumed``: not observed."""

    fields: Words
    source: str
    assumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One product. ``issuer_days`` is how long its issuing CA lives, where it changes that by itself."""

    id: str
    title: str
    key: str = "rsa:2048"
    issuer_days: int | None = None
    authority: Recipe = field(default_factory=Recipe)
    leaf: Recipe = field(default_factory=Recipe)
    untrusted: Recipe | None = None
    untrusted_authority: Recipe | None = None
    behaviour: Behaviour = field(default_factory=Behaviour)
    facts: tuple[Fact, ...] = ()

    def make_authority(self, plan: Plan | None = None, *, untrusted: bool = False) -> Authority:
        """What stands above the product's leaves, with new keys; dates, constraints and chance are those of ``plan``.

        ``untrusted``: that of targets which it does not trust, where that is another one. To change the issuing CA as
        the product does: :meth:`renewed`.
        """
        given = plan or Plan()
        recipe = self.untrusted_authority if untrusted and self.untrusted_authority else self.authority
        base = Authority.make(replace(given, key=self.key, levels=0))
        return make_authority(recipe, base, now=given.moment, rng=given.rng)

    def is_due(self, authority: Authority, now: datetime) -> bool:
        """Whether the product would have changed its issuing CA by now: a fourteenth of its life is left, or less."""
        issuer = authority.issuer
        return self.issuer_days is not None and now >= issuer.not_after - (issuer.not_after - issuer.not_before) / 14

    def renewed(self, authority: Authority, *, passphrase: bytes | None = None) -> Authority:
        """The authority with a new issuing CA of the same name, as the product changes it; the old one is kept."""
        return authority.rotate("intermediate", same_name=True, passphrase=passphrase)

    def fields(self) -> Iterator[str]:
        """The paths of everything that the preset says."""
        yield "key"
        if self.issuer_days is not None:
            yield "issuer_days"
        for part in ("authority", "leaf", "untrusted", "untrusted_authority"):
            recipe = getattr(self, part)
            if recipe is not None:
                yield from (f"{part}.{path}" for path, _ in recipe.changed_fields())
        yield from (f"behaviour.{each.name}" for each in fields(Behaviour) if getattr(self.behaviour, each.name))

    def fact(self, path: str) -> Fact | None:
        """Where a field is known from: the fact that names it, or else what it is a part of."""
        while path:
            found = next((each for each in self.facts if path in each.fields), None)
            if found:
                return found
            path = path.rpartition(".")[0]
        return None


@cache
def presets() -> Mapping[str, Preset]:
    """Every preset of the package by its id."""
    files = (each for each in resources.files(__package__).iterdir() if each.name.endswith(".toml"))
    found = {each.name.removesuffix(".toml"): each.read_text("utf-8") for each in files}
    return MappingProxyType({name: read_preset(name, found[name]) for name in sorted(found)})


def read_preset(name: str, text: str) -> Preset:
    """The preset in TOML ``text``. Raises :class:`RecipeError` for what is wrong, a field without a source too."""
    where = f"{name}.toml"
    tables = read_toml(text, "preset", where)
    given: dict[str, Any] = {"id": name}
    for key, value in tables.items():
        match key, value:
            case (("authority" | "leaf" | "untrusted" | "untrusted_authority"), dict()):
                given[key] = read_recipe(f"{name}-{key}", value, where=where)
            case "behaviour", dict():
                given[key] = _behaviour(value, where)
            case "fact", list():
                given["facts"] = tuple(_fact(each, where) for each in value)
            case (("title" | "key"), str()):
                given[key] = value
            case "issuer_days", int():
                given[key] = value
            case _:
                raise RecipeError(
                    f"cannot read the preset in {where}: {key} is no part of one, or not of its kind; expected title, "
                    "key, issuer_days, authority, leaf, untrusted, untrusted_authority, behaviour, fact"
                )
    preset = Preset(**{"title": "", **given})
    key_kind(preset.key)
    for path in preset.fields():
        if preset.fact(path) is None:
            raise RecipeError(f"cannot use the preset in {where}: {path} has no source; add a [[fact]] that names it")
    return preset


def _behaviour(table: dict[str, Any], where: str) -> Behaviour:
    for key, value in table.items():
        known = _CHOICES.get(key)
        if known is None or not isinstance(value, list) or not known.issuperset(value):
            expected = ", ".join(sorted(known or _CHOICES))
            raise RecipeError(f"cannot read the preset in {where}: behaviour.{key}: expected a list of {expected}")
    return Behaviour(**{key: tuple(value) for key, value in table.items()})


def behaviour_with(behaviour: Behaviour, key: str, word: str) -> Behaviour:
    """The behaviour in which ``word`` is what is done about ``key``. Raises :class:`UserError` for what is none."""
    known = _CHOICES.get(key)
    if known is None:
        raise UserError(f"there is no behaviour {key!r}; expected {', '.join(_CHOICES)}")
    if word not in known:
        raise UserError(f"{key} takes {', '.join(sorted(known))}; got {word!r}")
    others = tuple(each for each in getattr(behaviour, key) if each != word)
    changed: dict[str, Any] = {key: (word, *others)}
    return replace(behaviour, **changed)


def _fact(table: Any, where: str) -> Fact:
    match table:
        case {"fields": [*names], "source": str() as source, **rest} if (
            names and all(isinstance(each, str) for each in names) and rest in ({}, {"assumed": True})
        ):
            return Fact(fields=tuple(names), source=source, assumed=bool(rest))
    raise RecipeError(
        f"cannot read the preset in {where}: expected each fact to have fields, a source, and perhaps assumed = true"
    )


__all__ = ["Behaviour", "Fact", "Preset", "behaviour_with", "presets", "read_preset"]

"""``--preset``, ``--behaviour``, ``--recipe``, ``--staple``: what all connections of a proxy are to meet."""

from __future__ import annotations

import difflib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.ca.keeping import load, open_or_make
from countersign.ca.presets import Behaviour, behaviour_with, presets
from countersign.ca.recipes import catalogue, load_recipes
from countersign.ca.revocation import parse_fault
from countersign.errors import UserError
from countersign.proxy.orders import ChainOrders, Orders, StaplingOrders
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from countersign.ca import Authority
    from countersign.ca.presets import Preset
    from countersign.ca.recipes import Recipe


def find_preset(name: str, changes: Iterable[str] = ()) -> Preset:
    """The product of that name; ``changes`` are ``KEY=WORD`` for what it does otherwise."""
    preset = presets().get(name)
    if preset is None:
        raise UserError(f"--preset {printable(name)}: {_not_there(name, presets())}")
    return replace(preset, behaviour=_behaviour(preset.behaviour, changes))


def _behaviour(behaviour: Behaviour, changes: Iterable[str]) -> Behaviour:
    for change in changes:
        key, found, word = change.partition("=")
        try:
            behaviour = behaviour_with(behaviour, key, word if found else "")
        except UserError as wrong:
            raise UserError(f"--behaviour {printable(change)}: {wrong}") from None
    return behaviour


def preset_places(home: Path, preset: Preset) -> tuple[Path, Path]:
    """Where the CA of a product is kept, and that for targets which it does not trust."""
    return home / "presets" / preset.id, home / "presets" / f"{preset.id}-untrusted"


def preset_authority(home: Path, preset: Preset, passphrase: bytes | None, *, untrusted: bool = False) -> Authority:
    """The CA of a product, made in the home where there is none. One whose issuing CA is due is not changed here."""
    place = preset_places(home, preset)[untrusted]
    return open_or_make(place, lambda: preset.make_authority(untrusted=untrusted), passphrase)


def chain_orders(home: Path, preset: Preset | None, recipe: Recipe | None, passphrase: bytes | None) -> ChainOrders:
    """Who signs, with the product's CAs opened; its issuing CA is changed first where it is due."""
    if preset is None or not any(preset.authority.changed_fields()):
        return ChainOrders(preset=preset, recipe=recipe)
    now = datetime.now(UTC)
    authority = _in_time(preset_authority(home, preset, passphrase), preset, passphrase, now)
    untrusted = None
    if "untrusted-ca" in preset.behaviour.bad_upstream:
        made = preset_authority(home, preset, passphrase, untrusted=True)
        untrusted = _in_time(made, preset, passphrase, now)
    return ChainOrders(preset=preset, recipe=recipe, authority=authority, untrusted=untrusted)


def fresh(chain: ChainOrders, passphrase: bytes | None, now: datetime) -> ChainOrders:
    """The same with CAs as they are in the home by now, changed where they are due. Reads and writes files."""
    preset = chain.preset
    changed: dict[str, Any] = {}
    for which in ("authority", "untrusted"):
        given: Authority | None = getattr(chain, which)
        if preset is not None and given is not None and given.directory is not None:
            changed[which] = _in_time(load(given.directory, passphrase), preset, passphrase, now)
    return replace(chain, **changed)


def _in_time(authority: Authority, preset: Preset, passphrase: bytes | None, now: datetime) -> Authority:
    """The authority, with its issuing CA changed where the product would have done so by now."""
    return preset.renewed(authority, passphrase=passphrase) if preset.is_due(authority, now) else authority


def find_recipe(said: str) -> Recipe:
    """``ID`` of the catalogue, ``FILE.toml`` with one recipe in it, or ``FILE.toml:ID``."""
    file, found, name = said.rpartition(":")
    if not found or not file.endswith(".toml"):
        file, name = (said, "") if said.endswith(".toml") else ("", said)
    known = load_recipes(Path(file)) if file else catalogue()
    where = f"--recipe {printable(said)}"
    if file and not name:
        if len(known) != 1:
            raise UserError(f"{where}: there are {len(known)} recipes in that file; name one as {file}:ID")
        return next(iter(known.values()))
    if name not in known:
        raise UserError(f"{where}: {_not_there(name, known)}")
    return known[name]


def stapling(words: Iterable[str]) -> StaplingOrders | None:
    """``good``, ``none``, or what is wrong with the response as ``ca responder --fault`` has it."""
    said = list(words)
    if not said:
        return None
    if "none" in said:
        if len(said) > 1:
            raise UserError("--staple none goes with no other: nothing is stapled then")
        return StaplingOrders(body=b"")
    try:
        return StaplingOrders(faults=tuple(parse_fault(f"ocsp:{word}") for word in said if word != "good"))
    except UserError as wrong:
        raise UserError(f"--staple: {wrong}") from None


def orders(
    home: Path,
    *,
    preset: str | None,
    behaviour: Iterable[str],
    recipe: str | None,
    staple: Iterable[str],
    passphrase: bytes | None,
) -> Orders:
    """What these options say for all connections."""
    changes = list(behaviour)
    if changes and preset is None:
        raise UserError("--behaviour needs --preset with the product whose behaviour it is; plain is the proxy itself")
    product = None if preset is None else find_preset(preset, changes)
    made = None if recipe is None else find_recipe(recipe)
    ChainOrders(recipe=made)  # what cannot be served is said before a CA is made for it
    return Orders(chain=chain_orders(home, product, made, passphrase), stapling=stapling(staple))


def _not_there(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"there is none of that name; did you mean {' or '.join(near)}?"
    some = ", ".join(list(known)[:15])
    return f"there is none of that name; there are {some}{' ...' if len(known) > 15 else ''}"

"""Who signs the leaf of a connection, and how it is made: a mint for each authority and recipe that orders have named.

Presets bring authorities of their own. They are made when first needed, in a thread, for most of them have RSA keys;
an engine keeps each as long as it lives.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from countersign.ca import KeyPool, LeafMint
from countersign.ca.recipes import CertSpec, Recipe, Send

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from countersign.ca import Authority, Minted
    from countersign.ca.presets import Preset
    from countersign.proxy.orders import ChainOrders

_MINTS = 64
_LEAVES = 200  # of each of these

SELF_SIGNED = Recipe(id="self-signed", leaf=CertSpec(issuer="leaf"), send=Send(order="leaf-only"))
"""What a product shows that makes a new self-signed certificate for a target that it does not trust."""


class Signing:
    """Gives each connection its leaf; ``mint`` is what does so where nothing is ordered."""

    def __init__(self, authority: Authority) -> None:
        self.mint = LeafMint(authority)
        self._mints: OrderedDict[tuple[str, Recipe | None, int], LeafMint] = OrderedDict()
        self._authorities: dict[tuple[str, bool], asyncio.Task[Authority]] = {}

    async def leaf_for(
        self, orders: ChainOrders, target_der: bytes, *, name: str, bad_upstream: str = ""
    ) -> tuple[Minted, Authority]:
        """The leaf for this target and host, and who has signed it.

        ``bad_upstream`` is what the preset does with a target that it does not trust, where this is one. Raises
        :class:`AuthorityError` and :class:`CannotMimic` as :meth:`LeafMint.leaf_for` does.
        """
        recipe = orders.recipe or self._recipe(orders.preset, bad_upstream)
        authority = await self._authority(orders, untrusted=bad_upstream == "untrusted-ca")
        mint = self._mint_of(authority, recipe, orders.generation)
        return await mint.leaf_for(target_der, name=name), authority

    def _recipe(self, preset: Preset | None, bad_upstream: str) -> Recipe | None:
        if bad_upstream == "self-signed":
            return SELF_SIGNED
        if preset is None:
            return None
        recipe = preset.leaf
        if bad_upstream in {"untrusted-ca", "mark"} and preset.untrusted is not None:
            recipe = preset.untrusted
        return recipe if any(recipe.changed_fields()) else None  # to mimic needs no recipe

    async def _authority(self, orders: ChainOrders, *, untrusted: bool) -> Authority:
        given, preset = orders.untrusted if untrusted else orders.authority, orders.preset
        if given is not None:
            return given
        if preset is None or not (untrusted or any(preset.authority.changed_fields())):
            return self.mint.authority
        place = (preset.id, untrusted)
        making = self._authorities.get(place)
        if making is None or (making.done() and (making.cancelled() or making.exception())):
            making = self._make(place, asyncio.to_thread(preset.make_authority, untrusted=untrusted))
        made = await asyncio.shield(making)
        if preset.is_due(made, datetime.now(UTC)) and self._authorities[place] is making:
            making = self._make(place, asyncio.to_thread(preset.renewed, made))
        return await asyncio.shield(self._authorities[place])

    def _make(self, place: tuple[str, bool], work: Coroutine[object, object, Authority]) -> asyncio.Task[Authority]:
        making = self._authorities[place] = asyncio.create_task(work, name=f"make the CA of {place[0]}")
        return making

    def _mint_of(self, authority: Authority, recipe: Recipe | None, generation: int) -> LeafMint:
        if recipe is None and not generation and authority.fingerprint == self.mint.authority.fingerprint:
            return self.mint
        place = (authority.fingerprint, recipe, generation)
        found = self._mints.get(place)
        if found is None:
            pool = KeyPool() if generation else self.mint.pool
            found = self._mints[place] = LeafMint(authority, recipe=recipe, size=_LEAVES, pool=pool)
            if len(self._mints) > _MINTS:
                self._mints.popitem(last=False)
        self._mints.move_to_end(place)
        return found

"""A client's certificate signed again under a CA of ours, for a target that asks for one.

The target trusts the root of our *client CA* in the place of the client's own issuer. What the certificate says is the
client's, as a leaf says what the target's says (:mod:`countersign.ca.leaf`): subject, alternative names, usages and
dates are the same bytes, and the key is of the same type and size. What was wrong with it stays wrong:
an expired one stays expired, one for servers stays one for servers, and one that had signed itself gets no issuer from
us but is signed with its own new key again.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from countersign.ca import assemble
from countersign.ca.draft import Draft
from countersign.ca.leaf import CannotMimic, LeafMint, Minted, key_kind_of, mimic
from countersign.recorder.certificates import cut_certificate
from countersign.recorder.der import DerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.ca.authority import Authority
    from countersign.ca.randomness import Rng


class ClientMint:
    """Clients' certificates signed again, kept by their hash. For one event loop."""

    def __init__(
        self,
        authority: Authority,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        rng: Rng = os.urandom,
    ) -> None:
        self.authority = authority
        self._clock = clock
        self._rng = rng
        self._mint = LeafMint(authority, clock=clock, rng=rng)

    async def certificate_for(self, client_der: bytes) -> Minted:
        """What is presented for a client that has shown this certificate (DER), the issuers of ours behind it.

        Waits only where a slow key has to be made first. Raises :class:`~countersign.ca.errors.AuthorityError` when the
        client CA has expired and :class:`CannotMimic` where the certificate cannot be taken apart.
        """
        try:
            draft = Draft.of(client_der)
        except DerError as wrong:
            raise CannotMimic(f"cannot mimic the client's certificate: {wrong}") from wrong
        if draft.issuer == draft.subject:
            return await self._signed_by_itself(client_der)
        return await self._mint.leaf_for(client_der)

    async def _signed_by_itself(self, client_der: bytes) -> Minted:
        """RFC 5280 3.2: issuer and subject are the same, and the key vouches for itself."""
        key = await self._mint.pool.get_soon(key_kind_of(client_der))
        now = self._clock()
        self.authority.check(now)
        draft, left_out = mimic(self.authority, client_der, key=key, now=now, rng=self._rng)
        draft.issuer = draft.subject
        draft.validity = cut_certificate(client_der).validity  # within no issuer's dates
        if draft.find(assemble.AKI):
            draft.put(assemble.AKI, assemble.issuer_key_id_value(key.key_id), critical=False)
        dates = {"not_before: earlier than the CA's", "not_after: later than the CA's"}
        return Minted(key.served, (draft.sign(key),), tuple(each for each in left_out if each not in dates))

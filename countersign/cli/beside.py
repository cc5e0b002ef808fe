"""What stands beside a running proxy: who answers for its certificates, and an issuing CA that is changed in time.

With a responder every CA that signs here gets its points: where OCSP, CRLs and issuers are to be had. A preset's
issuing CA that is due is changed as the product changes it, and the old one is still answered for.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import structlog

from countersign.ca.keeping import read_passphrase
from countersign.cli.inspecting import fresh
from countersign.errors import CountersignError
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from countersign.ca import Authority
    from countersign.ca.revocation import Asked, Fault, Register, Responder
    from countersign.proxy import Engine

_LOOK_EVERY = 60.0  # seconds

log = structlog.get_logger("countersign")


@dataclass(frozen=True, slots=True)
class ResponderPlan:
    """``--responder``: where it listens, the name in its URLs, and what goes wrong."""

    listen: tuple[str, int]
    host: str | None = None
    faults: tuple[Fault, ...] = ()
    beyond_loopback: bool = False


class Beside:
    """``async with``, once the engine listens; ``own`` is the CA of the home."""

    def __init__(self, engine: Engine, own: Authority, plan: ResponderPlan | None, register: Register) -> None:
        self._engine = engine
        self._own = own
        self._chain = engine.settings.orders.chain  # as it is in the home, without points
        self.responder: Responder | None = None
        if plan is not None:
            from countersign.ca.revocation import Responder

            self.responder = Responder(
                *self._authorities(),
                register=register,
                faults=plan.faults,
                listen=plan.listen,
                host=plan.host,
                beyond_loopback=plan.beyond_loopback,
                on_asked=log_asked,
            )
        self._renewing: asyncio.Task[None] | None = None

    def _authorities(self) -> list[Authority]:
        """All that sign, and behind them those that did."""
        signing = [each for each in (self._own, self._chain.authority, self._chain.untrusted) if each is not None]
        return [*signing, *(retired.authority for each in signing for retired in each.retired)]

    async def __aenter__(self) -> Self:
        self._tell()
        if self.responder is not None:
            await self.responder.start()
            self._take()
            tell_responder(self.responder)
        if self._chain.authority is not None:
            self._renewing = asyncio.create_task(self._renew(), name="renew the issuing CA")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        if self.responder is not None:
            await self.responder.stop()

    def _take(self) -> None:
        """Let the engine sign with the CAs as they are now, with points where there is a responder."""
        chain = self._chain
        if self.responder is not None:
            pointed = iter(self.responder.authorities)
            self._engine.signing.mint.authority = next(pointed)
            changed: dict[str, Any] = {}
            for which in ("authority", "untrusted"):
                if getattr(chain, which) is not None:
                    changed[which] = next(pointed)
            chain = replace(chain, **changed)
        self._engine.order(replace(self._engine.settings.orders, chain=chain))

    def _tell(self) -> None:
        """What all connections are to meet."""
        chain, preset = self._chain, self._chain.preset
        if preset is not None:
            conduct = self._engine.conduct(self._engine.settings.orders)
            place = None if chain.authority is None else chain.authority.directory
            log.info(
                "behaves as a product",
                preset=preset.id,
                product=preset.title,
                root=None if place is None else str(place / "root.pem"),
                mtls=conduct.mtls.value,
                **conduct.to_json(),
            )
        if chain.recipe is not None:
            log.info("makes every certificate by a recipe", recipe=chain.recipe.id, wrong=chain.recipe.wrong or None)
        stapling = self._engine.settings.orders.stapling
        if stapling is not None:
            log.info("staples OCSP responses", wrong=[str(fault) for fault in stapling.faults] or None)

    async def _renew(self) -> None:
        """Change the product's issuing CA as often as the product does."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            preset, authority = self._chain.preset, self._chain.authority
            if preset is None or authority is None or not preset.is_due(authority, self._engine.now()):
                continue
            try:
                self._chain = await asyncio.to_thread(fresh, self._chain, read_passphrase(), self._engine.now())
                if self.responder is not None:
                    await self.responder.answer_for(self._authorities())
            except CountersignError as wrong:
                log.warning("the issuing CA of the preset cannot be changed", reason=printable(str(wrong)))
                continue
            self._take()
            assert self._chain.authority is not None
            log.info("changed the issuing CA, as the product does", issuer=self._chain.authority.issuer.facts.subject)


def tell_responder(responder: Responder) -> None:
    """Where it answers, and what is wrong on purpose."""
    for label in responder.labels:
        points = responder.points(label)
        crls = [point.url for point in points.crl]
        log.info("answering", issuer=label, ocsp=points.ocsp[0], crl=crls, ca_issuers=points.ca_issuers[0])
    if responder.faults:
        log.warning("answers are wrong on purpose", faults=[str(fault) for fault in responder.faults])


def log_asked(asked: Asked) -> None:
    """One question in the log."""
    log.info(
        "asked",
        url=asked.url,
        method=asked.method,
        about=list(asked.serials),
        answer=asked.answer,
        status=asked.status,
        client=asked.client,
        seconds=asked.seconds,
    )

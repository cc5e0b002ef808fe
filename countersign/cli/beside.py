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
from countersign.ca.revocation import pointed_at
from countersign.cli.inspecting import fresh
from countersign.errors import CountersignError, UserError
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

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

    @property
    def base(self) -> str:
        """What its URLs begin with, where its port is known."""
        host, port = self.host or self.listen[0], self.listen[1]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class Beside:
    """``async with``, once the engine listens; ``own`` is the CA of the home.

    Of several workers only the one that ``answers`` has the responder, and all name it.
    """

    def __init__(self, engine: Engine, own: Authority, plan: ResponderPlan | None, register: Register) -> None:
        self._engine = engine
        self._own = own
        self._plan = plan
        self.answers = True
        self._shared = False
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

    def share(self) -> None:
        """Before workers are forked: all sign with the same certificates. Raises :class:`UserError`."""
        if self._plan is None:
            return
        if not self._plan.listen[1]:
            raise UserError("--responder with --workers takes a port: every worker's certificates name it")
        self._shared = True
        self._point(pointed_at(each, self._plan.base) for each in self._signing())

    def _signing(self) -> list[Authority]:
        return [each for each in (self._own, self._chain.authority, self._chain.untrusted) if each is not None]

    def _authorities(self) -> list[Authority]:
        """All that sign, and behind them those that did."""
        signing = self._signing()
        return [*signing, *(retired.authority for each in signing for retired in each.retired)]

    async def __aenter__(self) -> Self:
        self._tell()
        if self.responder is not None and self.answers:
            await self.responder.start()
            if not self._shared:
                self._point(self.responder.authorities)
            tell_responder(self.responder)
        if self._chain.authority is not None:
            self._renewing = asyncio.create_task(self._renew(), name="renew the issuing CA")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        if self.responder is not None and self.answers:
            await self.responder.stop()

    def _point(self, signing: Iterable[Authority]) -> None:
        """Let the engine sign with these: the CA of the home, and those of the chain."""
        authorities = iter(signing)
        self._engine.signing.mint.authority = next(authorities)
        changed: dict[str, Any] = {}
        for which in ("authority", "untrusted"):
            if getattr(self._chain, which) is not None:
                changed[which] = next(authorities)
        self._engine.order(replace(self._engine.settings.orders, chain=replace(self._chain, **changed)))

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
                if self.responder is not None and self.answers:
                    await self.responder.answer_for(self._authorities())
            except CountersignError as wrong:
                log.warning("the issuing CA of the preset cannot be changed", reason=printable(str(wrong)))
                continue
            if self._plan is None:
                self._point(self._signing())
            elif self._shared or self.responder is None:
                self._point(pointed_at(each, self._plan.base) for each in self._signing())
            else:
                self._point(self.responder.authorities)
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

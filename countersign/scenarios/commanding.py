"""Directs an engine by what somebody says while it runs: a :class:`~countersign.proxy.orders.Director` to be told.

    commanded = Commanded()
    engine = commanded.engine = Engine(settings, authority, keeper, director=commanded)
    commanded.play(direct(scenario, authority))     # from now on; None: no scenario
    commanded.break_next(fault, 3)                  # what the next three connections meet, whatever the scenario says
    await commanded.rotate("intermediate")          # whoever signs now is followed by another

All of it is for connections that come later: those that are open keep what they were given. Nothing is done to the CA
on disk: a rotation is one of this process, as a scenario's is, and ends with it or with :meth:`Commanded.stop`.

*Counting.* A fault is for so many sessions, and a session is one whose ClientHello has come; who connects and says
nothing takes none away. But a fault that happens before the hello may be the end of its session, which then is never
asked about again. So it counts when it is given out, at the connection, and whether it was is remembered in a context
variable: the session's task is made in the context in which the client was accepted, so it inherits that and no other
connection's.

*Rotating.* What signs is not always the same CA: the engine's own, that of a product, those that a scenario names. Each
is followed by one of its own, by fingerprint; a generation that the scenario itself makes afterwards is followed by
none, for it is new.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal, get_args

from countersign.proxy.orders import Orders
from countersign.proxy.shaping import before_hello

if TYPE_CHECKING:
    from countersign.ca import Authority
    from countersign.ca.authority import Rotated
    from countersign.proxy import Engine
    from countersign.proxy.faults import WireFault
    from countersign.scenarios.directing import ScenarioDirector

What = Literal["leaf", "intermediate", "root"]
ROTATED: Final[tuple[What, ...]] = get_args(What)
"""What can be told to give way to another."""

_OWN_GENERATIONS = 1 << 20
"""Those of commands are counted in these, so that none is one of a scenario's, whose leaves have keys of their own."""

_REMEMBERED = 100

_given_early: ContextVar[WireFault | None] = ContextVar("countersign_given_early", default=None)


@dataclass(frozen=True, slots=True)
class Armed:
    """A fault for the next ``left`` sessions."""

    fault: WireFault
    left: int


class Commanded:
    """See the top of the module. ``engine`` has to be set before the first client comes."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.director: ScenarioDirector | None = None
        self.armed: Armed | None = None
        self.leaves = 0
        self.rotated: tuple[What, ...] = ()
        self._followed: dict[str, Authority] = {}

    # -- what the engine asks ------------------------------------------------------------------------------------

    def arriving(self, client: str) -> Orders:
        """For a client that has just connected."""
        orders = Orders() if self.director is None else self.director.arriving(client)
        early = self._take() if self.armed is not None and before_hello(self.armed.fault) else None
        _given_early.set(early)
        return self._over(orders, early)

    def orders(self, client: str, sni: str | None, target: str) -> Orders:
        """For a session whose ClientHello has come."""
        orders = Orders() if self.director is None else self.director.orders(client, sni, target)
        fault = _given_early.get()
        if fault is None and self.armed is not None and not before_hello(self.armed.fault):
            fault = self._take()
        return self._over(orders, fault)

    def _take(self) -> WireFault:
        assert self.armed is not None
        fault, left = self.armed.fault, self.armed.left - 1
        self.armed = replace(self.armed, left=left) if left else None
        return fault

    def _over(self, orders: Orders, fault: WireFault | None) -> Orders:
        chain = orders.chain
        signs = self._own if chain.authority is None else chain.authority
        follows = self._followed.get(signs.fingerprint)
        if follows is not None:
            chain = replace(chain, authority=follows)
        if self.leaves:
            chain = replace(chain, generation=chain.generation + self.leaves * _OWN_GENERATIONS)
        return replace(orders, chain=chain, faults=orders.faults if fault is None else (fault,))

    # -- what it is told -----------------------------------------------------------------------------------------

    @property
    def signs(self) -> Authority:
        """Who signs for the next connection, as far as that is known before it has come."""
        standing = (self._own,) if self.director is None else self.director.in_force
        return self._followed.get(standing[0].fingerprint, standing[0])

    def play(self, director: ScenarioDirector | None) -> None:
        """Let this one say what is met, or none. What was rotated stays so."""
        self.director = director
        self._forget_sessions()

    def step_to(self, number: int | None = None) -> int:
        """:meth:`ScenarioDirector.step_to` of the scenario that is in force."""
        assert self.director is not None
        return self.director.step_to(number)

    def break_next(self, fault: WireFault | None, connections: int = 1) -> None:
        """Let the next sessions, so many of them, meet this fault in place of any other; with None, no more do."""
        self.armed = None if fault is None else Armed(fault, connections)
        self._forget_sessions()  # one that is resumed has no certificate in it that could be left out

    async def rotate(self, what: What) -> What:
        """Let another leaf's key, intermediate or root take the place of the one in force; what it came to is said.

        A CA without intermediates has its root as its issuer. Raises :class:`AuthorityError` where the key that has to
        sign is not here.
        """
        if what == "leaf":
            self.leaves += 1
        else:
            standing = {self._own.fingerprint: self._own}
            standing |= {each.fingerprint: each for each in (self.director.in_force if self.director else ())}
            now = {place: self._followed.get(place, authority) for place, authority in standing.items()}
            self._followed |= await asyncio.to_thread(_followers, now, what)
            what = what if self.signs.intermediates else "root"
        self.rotated = (*self.rotated, what)[-_REMEMBERED:]
        self._forget_sessions()
        return what

    def stop(self) -> None:
        """Order nothing any more: no scenario, no fault, and the CA is again what it was."""
        self.director, self.armed, self.leaves, self.rotated = None, None, 0, ()
        self._followed.clear()
        self._forget_sessions()

    @property
    def _own(self) -> Authority:
        """Who signs where no scenario says who."""
        assert self.engine is not None
        return self.engine.settings.orders.chain.authority or self.engine.signing.mint.authority

    def _forget_sessions(self) -> None:
        if self.engine is not None:
            self.engine.forget_sessions()


def _followers(standing: dict[str, Authority], what: Rotated) -> dict[str, Authority]:
    """For each the next one, in memory alone, under which nothing of the one before is vouched for."""
    return {
        place: replace(
            replace(authority, directory=None, retired=()).rotate(
                what if authority.intermediates else "root", overlap=timedelta()
            ),
            retired=(),
        )
        for place, authority in standing.items()
    }

"""``countersign proxy --control``: what lets others say, while the proxy runs, what its next connections meet."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import structlog

from countersign.cli.directed import Directed, ScenarioPlan
from countersign.cli.scenario import known_scenarios
from countersign.errors import UserError
from countersign.proxy.settings import is_loopback
from countersign.proxy.stream import address_text
from countersign.recorder.store import Store
from countersign.scenarios.commanding import Commanded
from countersign.web.control import Control
from countersign.web.counting import Counting
from countersign.web.place import kept, new_token
from countersign.web.server import ControlServer

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.ca import Authority
    from countersign.ca.revocation import Register
    from countersign.proxy import Address, Engine
    from countersign.recorder.store import StoreWriter
    from countersign.scenarios.clock import Clock
    from countersign.scenarios.directing import ScenarioDirector
    from countersign.scenarios.model import Scenario

log = structlog.get_logger("countersign")


@dataclass(frozen=True, slots=True)
class ControlPlan:
    """``--control``: where it listens; ``scenarios`` are directories of scenarios beside those of the home."""

    listen: Address
    scenarios: tuple[Path, ...] = ()


def control_plan(
    listen: str | None, scenarios: list[Path] | None, *, beyond_loopback: bool, workers: int
) -> ControlPlan | None:
    """What these options say; nothing without ``--control``. Raises :class:`UserError`."""
    from countersign.proxy import parse_address

    if listen is None:
        if beyond_loopback:
            raise UserError("--control-beyond-loopback needs --control HOST:PORT")
        return None
    where = parse_address(listen, what="--control", any_port=True)
    if not (is_loopback(where.host) or beyond_loopback):
        raise UserError(
            f"--control {listen} would let everybody on the network try to steer this proxy, and its token would cross "
            "it in clear; listen on 127.0.0.1, or say --control-beyond-loopback"
        )
    if workers > 1:
        raise UserError("--control steers one process; leave --workers out")
    return ControlPlan(where, tuple(scenarios or ()))


class Controlled:
    """``async with``, once the engine listens. The engine is made with ``commanded`` and ``counting``."""

    def __init__(
        self,
        plan: ControlPlan,
        home: Path,
        store: str,
        *,
        writer: StoreWriter,
        authority: Authority,
        register: Register,
        first: Directed | None,
    ) -> None:
        self._plan, self._home, self._store = plan, home, store
        self._writer, self._authority, self._register = writer, authority, register
        self._on = first
        self.commanded = Commanded()
        self.counting = Counting(writer)
        self._token = new_token()
        self._stack = AsyncExitStack()
        self._known = known_scenarios(home, list(plan.scenarios))
        self.server: ControlServer
        self.said: dict[str, Any] = {}
        """What the ready file says of it."""

    async def __aenter__(self) -> Self:
        try:
            await self._start(self.engine)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def engine(self) -> Engine:
        assert self.commanded.engine is not None
        return self.commanded.engine

    async def _start(self, engine: Engine) -> None:
        self._stack.push_async_callback(self.clear)
        if self._on is not None:
            first, self._on = self._on, None
            await self._put_on(first)
            self.commanded.play(first.director)
        store = self._stack.enter_context(contextlib.closing(Store.open(self._store)))
        control = Control(
            engine,
            self.commanded,
            stage=self,
            known=self._known,
            store=store,
            counting=self.counting,
            lost=lambda: self._writer.lost,
        )
        self.server = await self._stack.enter_async_context(ControlServer(control, self._plan.listen, self._token))
        engine.beside += [address[1] for address in self.server.addresses]
        where = address_text(self.server.addresses[0])
        file = self._stack.enter_context(kept(self._home, where, self._token, engine.addresses))
        self.said = {"control": where, "control_file": str(file)}
        log.info("can be controlled", at=where, file=str(file))
        if not is_loopback(self.server.addresses[0][0]):
            log.warning("whoever reads the network between can steer this proxy too", at=where)

    # -- the stage -------------------------------------------------------------------------------------------------

    async def play(self, scenario: Scenario, clock: Clock, seed: str) -> ScenarioDirector:
        """:meth:`countersign.web.control.Stage.play`."""
        await self.clear()
        plan = ScenarioPlan(scenario, clock, seed)
        signs = self.engine.settings.orders.chain.authority or self._authority
        directed = await asyncio.to_thread(Directed, plan, signs, self._home, self._register)
        directed.engine = self.engine
        await self._put_on(directed)
        return directed.director

    async def _put_on(self, directed: Directed) -> None:
        await directed.__aenter__()
        self._on = directed

    async def clear(self) -> None:
        """:meth:`countersign.web.control.Stage.clear`."""
        if self._on is not None:
            over, self._on = self._on, None
            await over.__aexit__()

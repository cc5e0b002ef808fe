"""``countersign proxy --scenario``: a scenario for clients that are started elsewhere.

Beside the engine stands what the scenario needs: a responder, where it is about revocation, whose faults are those of
the step in force; a file with the roots that clients have to trust; and who says that the next step begins (SIGUSR1).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import structlog

from countersign.ca import Authority, Plan
from countersign.ca.keeping import read_passphrase
from countersign.ca.pem import to_pem
from countersign.ca.revocation import Manner, Responder
from countersign.cli.beside import ResponderPlan, log_asked, tell_responder
from countersign.errors import UserError
from countersign.recorder.private_files import write_public
from countersign.scenarios.clock import REAL, Clock
from countersign.scenarios.directing import ScenarioDirector, direct, needs_clients, shown_to_target

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.ca.revocation import Fault, Register
    from countersign.proxy import Engine
    from countersign.scenarios.model import Scenario

_LOOK_EVERY = 0.1  # seconds
_ROOTS = "scenario-roots.pem"
_CLIENTS = "client-ca"

log = structlog.get_logger("countersign")


@dataclass(frozen=True, slots=True)
class ScenarioPlan:
    """``--scenario`` with ``--clock`` and ``--seed``; ``responder`` is where it answers about revocation."""

    scenario: Scenario
    clock: Clock = REAL
    seed: str = "0"
    responder: ResponderPlan | None = None

    @property
    def asks(self) -> bool:
        """Whether there is somebody to be asked about revocation."""
        return any(scene.revocation is not None for scene in self.scenario.scenes)


def scenario_plan(
    home: Path,
    name: str | None,
    directories: list[Path] | None,
    *,
    given: dict[str, str],
    clock: str | None,
    seed: str | None,
) -> ScenarioPlan | None:
    """What these options say; nothing without ``--scenario``. Raises :class:`UserError`."""
    from countersign.cli.scenario import known_scenarios

    if name is None:
        for flag, value in (("--set", given), ("--clock", clock), ("--seed", seed)):
            if value:
                raise UserError(f"{flag} needs --scenario with the scenario that it is for")
        return None
    scenario = known_scenarios(home, directories).open(name, given)
    return ScenarioPlan(scenario, REAL if clock is None else Clock.parse(clock), seed or "0")


class Directed:
    """``async with``, once the engine listens. ``director`` is what the engine is made with."""

    def __init__(self, plan: ScenarioPlan, authority: Authority, home: Path, register: Register) -> None:
        self._plan, self._home = plan, home
        clients = None
        if needs_clients(plan.scenario):
            clients = Authority.open(home / _CLIENTS, Plan(name="countersign clients"), passphrase=read_passphrase())
        self.director: ScenarioDirector = direct(
            plan.scenario, authority, clients=clients, clock=plan.clock, seed=plan.seed
        )
        self._responder: Responder | None = None
        if plan.asks:
            where = plan.responder or ResponderPlan(("127.0.0.1", 0))
            self._responder = Responder(
                *self.director.authorities,
                register=register,
                faults=(*where.faults, *self._faults()),
                manner=Manner(clock=plan.clock.factor),
                listen=where.listen,
                host=where.host,
                beyond_loopback=where.beyond_loopback,
                on_asked=log_asked,
            )
        self._following: asyncio.Task[None] | None = None
        self.engine: Engine | None = None

    async def __aenter__(self) -> Self:
        assert self.engine is not None
        if self._responder is not None:
            await self._responder.start()
            self.director.point(self._responder.authorities)
            tell_responder(self._responder)
        self._tell(self.director.anchors(self.engine.signing.mint.pool))
        self._following = asyncio.create_task(self._follow(), name="follow the scenario")
        with contextlib.suppress(NotImplementedError, AttributeError):  # Windows has neither
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._next)
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(NotImplementedError, AttributeError):
            asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        if self._responder is not None:
            await self._responder.stop()

    def _faults(self) -> tuple[Fault, ...]:
        return self._plan.scenario.scene(self.director.current).revocation or ()

    def _tell(self, anchors: tuple[bytes, ...]) -> None:
        scenario, roots = self._plan.scenario, self._home / _ROOTS
        shows = any(shown_to_target(scene) is not None for scene in scenario.scenes)
        write_public(roots, b"".join(map(to_pem, anchors)), overwrite=True)
        log.warning(
            "runs a scenario",
            scenario=scenario.id,
            title=scenario.title,
            right=scenario.expect.right,
            steps=len(scenario.steps) or None,
            clock=None if self._plan.clock is REAL else f"{self._plan.clock.factor:g}x",
            clients_trust=str(roots),
            target_trusts=str(self._home / _CLIENTS / "root.pem") if shows else None,
        )

    def _next(self) -> None:
        self.director.step_to()

    async def _follow(self) -> None:
        """Say which step is in force, and let the responder do what that step says."""
        number = self.director.current
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if self.director.current == number:
                continue
            number = self.director.current
            step = self._plan.scenario.steps[number - 1]
            log.info("the next step begins", scenario=self._plan.scenario.id, step=number, title=step.title or None)
            if self._responder is not None:
                where = self._plan.responder
                await self._responder.change([*(where.faults if where else ()), *self._faults()])

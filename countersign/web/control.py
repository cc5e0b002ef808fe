"""What a running proxy can be asked and told, without HTTP: each call takes JSON and gives JSON.

A call that cannot be followed raises a :class:`Declined` with the HTTP status that says why: what was asked for is not
in its form (400), is not there (404), or does not go with what is in force (409). Commands are followed one after the
other; what they change is for connections that come later.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, cast

import structlog

from countersign.ca.pem import to_pem
from countersign.errors import CountersignError, EnvironmentFault, UserError
from countersign.proxy.faults import read_fault
from countersign.recorder.recording import to_json
from countersign.recorder.wire.text import printable
from countersign.scenarios.clock import REAL, Clock
from countersign.scenarios.commanding import ROTATED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from countersign.proxy import Engine
    from countersign.recorder.store import Filters, Store
    from countersign.scenarios.catalogue import Catalogue
    from countersign.scenarios.commanding import Commanded, What
    from countersign.scenarios.directing import ScenarioDirector
    from countersign.scenarios.model import Scenario
    from countersign.web.counting import Counting

Json = dict[str, Any]

MOST_CONNECTIONS = 1_000_000
"""The most that a fault can be for."""

_PAGE = 50
_LARGEST_PAGE = 500
_FILTERS = ("sni", "target", "outcome", "alert", "scenario", "label", "text", "fingerprint", "ja4")

log = structlog.get_logger("countersign.control")


class Declined(Exception):  # noqa: N818 - an answer
    """What was asked for is not done; ``status`` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Stage(Protocol):
    """Who puts a scenario on: with the responder that it needs, and the roots that its clients have to trust."""

    async def play(self, scenario: Scenario, clock: Clock, seed: str) -> ScenarioDirector:
        """In place of what is on. Raises :class:`CountersignError`; then nothing is on."""

    async def clear(self) -> None:
        """Take off what is on, if anything is."""


class Control:
    """Of one proxy. ``commanded`` directs ``engine``; ``known`` are the scenarios that can be named."""

    def __init__(
        self,
        engine: Engine,
        commanded: Commanded,
        *,
        stage: Stage,
        known: Catalogue,
        store: Store,
        counting: Counting,
        lost: Callable[[], int] = lambda: 0,
    ) -> None:
        self._engine, self._commanded, self._stage, self._known = engine, commanded, stage, known
        self._store, self._counting, self._lost = store, counting, lost
        self._since = datetime.now(UTC)
        self._turn = asyncio.Lock()

    # -- asked ---------------------------------------------------------------------------------------------------

    def status(self) -> Json:
        """Where it listens, what is in force, and what became of its sessions so far."""
        engine, commanded = self._engine, self._commanded
        settings, signs, armed = engine.settings, commanded.signs, commanded.armed
        return {
            "schema": 1,
            "pid": os.getpid(),
            "since": self._since.isoformat().replace("+00:00", "Z"),
            "listen": engine.addresses,
            "mode": settings.mode.value,
            "target": str(settings.target) if settings.target else None,
            "action": settings.action.value,
            "sessions": {
                "open": engine.open_sessions,
                "ended": self._counting.outcomes.total(),
                "outcomes": dict(sorted(self._counting.outcomes.items())),
                "broken_by": dict(sorted(self._counting.broken_by.items())),
            },
            "recordings": {"lost": self._lost()},
            "scenario": self._scenario(),
            "fault": None if armed is None else {**_fault(armed.fault), "connections_left": armed.left},
            "rotated": list(commanded.rotated),
            "signs": {"issuer": signs.issuer.facts.subject, "root": signs.root.facts.subject},
        }

    def _scenario(self) -> Json | None:
        director = self._commanded.director
        if director is None:
            return None
        scenario, number = director.scenario, director.current
        return {
            "id": scenario.id,
            "title": scenario.title,
            "right": scenario.expect.right,
            "step": number,
            "steps": [step.title for step in scenario.steps],
            "clock": director.clock.factor,
        }

    async def recordings(self, asked: Mapping[str, str]) -> Json:
        """Summaries, newest first: ``limit`` of them, behind ``before``, which is the ``next`` of the page before."""
        _only(asked, ("limit", "before", *_FILTERS))
        limit, text = _PAGE, asked.get("limit")
        if text is not None:
            limit = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
            if not 1 <= limit <= _LARGEST_PAGE:
                raise Declined(400, f"limit takes a number from 1 to {_LARGEST_PAGE}")
        filters = cast("Filters", {name: asked[name] for name in _FILTERS if name in asked})
        try:
            found = await asyncio.to_thread(self._store.summaries, limit=limit, before=asked.get("before"), **filters)
        except UserError as wrong:
            raise Declined(400, str(wrong)) from None
        following = found[-1].cursor if len(found) == limit else None
        return {"schema": 1, "recordings": [each.to_json() for each in found], "next": following}

    async def recording(self, reference: str) -> Json:
        """One, whole, by its id, its label, or ``last``."""

        def read() -> Json:
            return to_json(self._store.get(reference))

        try:
            return await asyncio.to_thread(read)
        except UserError as wrong:
            raise Declined(404, str(wrong)) from None

    # -- told ----------------------------------------------------------------------------------------------------

    async def step(self, told: Json) -> Json:
        """``{}``: the next step begins; ``{"to": 3}``: that one."""
        _only(told, ("to",))
        to = told.get("to")
        async with self._turn:
            director = self._commanded.director
            if director is None:
                raise Declined(409, "no scenario is in force, so there are no steps; begin one first")
            count, now = len(director.scenario.steps), director.current
            if not count:
                raise Declined(409, f"the scenario {director.scenario.id!r} has no steps")
            if to is not None and not (isinstance(to, int) and not isinstance(to, bool) and 1 <= to <= count):
                raise Declined(400, f"to takes the number of a step from 1 to {count}")
            if to is None and now == count and director.scenario.schedule.order != "loop":
                raise Declined(409, f"step {now} is the last of the scenario {director.scenario.id!r}")
            number = self._commanded.step_to(to)
            log.info("told to step", scenario=director.scenario.id, step=number)
            return self.status()

    async def scenario(self, told: Json) -> Json:
        """``{"id": "missing-intermediate", "set": {...}, "clock": "10000x", "seed": "1"}``; ``{"id": null}``: none."""
        _only(told, ("id", "set", "clock", "seed"))
        name, given, seed = told.get("id", 0), told.get("set", {}), told.get("seed", "0")
        if name is None:
            async with self._turn:
                await self._clear()
                log.info("told to run no scenario")
                return self.status()
        if not isinstance(name, str) or not name or any(part not in self._known for part in name.split("+")):
            if not isinstance(name, str):
                raise Declined(400, "id takes the id of a scenario, several with + between them, or null for none")
            self._name_nearest(name)
        if not (isinstance(given, dict) and all(isinstance(value, str) for value in given.values())):
            raise Declined(400, "set takes values of parameters, each a text")
        if not (isinstance(seed, str) and isinstance(told.get("clock", ""), str)):
            raise Declined(400, "clock and seed take texts")
        async with self._turn:
            try:
                clock = Clock.parse(told["clock"]) if "clock" in told else REAL
                scenario = await asyncio.to_thread(self._known.open, name, given)
            except UserError as wrong:
                raise Declined(400, str(wrong)) from None
            await self._clear()
            try:
                director = await self._stage.play(scenario, clock, seed)
            except EnvironmentFault as fault:
                raise Declined(503, str(fault)) from None
            except CountersignError as wrong:
                raise Declined(409, str(wrong)) from None
            self._commanded.play(director)
            return self.status()

    def _name_nearest(self, name: str) -> None:
        """Names alone: a path would have files read that the asker may not read."""
        for part in name.split("+"):
            if part not in self._known:
                try:
                    self._known.source(part)
                except UserError as wrong:
                    raise Declined(404, str(wrong)) from None

    async def _clear(self) -> None:
        self._commanded.play(None)
        await self._stage.clear()

    async def fault(self, told: Json) -> Json:
        """``{"fault": {"do": "cut", "at": "server_hello", "within": 10}, "connections": 2}``, as a scenario's
        ``[[wire]]`` has it; ``{"fault": null}``: no connection more.
        """
        _only(told, ("fault", "connections"))
        table, count = told.get("fault", 0), told.get("connections", 1)
        if table is not None and not isinstance(table, dict):
            raise Declined(400, 'fault takes a table as {"do": "cut", "at": "server_hello"}, or null for none')
        if not (isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= MOST_CONNECTIONS):
            raise Declined(400, f"connections takes a number from 1 to {MOST_CONNECTIONS}")
        try:
            fault = None if table is None else read_fault(table)
        except UserError as wrong:
            raise Declined(400, str(wrong)) from None
        async with self._turn:
            self._commanded.break_next(fault, count)
            log.info("told to break connections", fault=None if fault is None else fault.do, connections=count)
            return self.status()

    async def rotate(self, told: Json) -> Json:
        """``{"what": "leaf"}``, ``intermediate`` or ``root``. The answer has the root (PEM) that clients have to
        trust from now on.
        """
        _only(told, ("what",))
        what = told.get("what")
        if what not in ROTATED:
            raise Declined(400, f"what takes {', '.join(ROTATED)}")
        async with self._turn:
            try:
                came_to = await self._commanded.rotate(cast("What", what))
            except CountersignError as wrong:
                raise Declined(409, str(wrong)) from None
            signs = self._commanded.signs
            log.info("told to rotate", what=came_to, issuer=printable(signs.issuer.facts.subject or ""))
            return {**self.status(), "root_pem": to_pem(signs.root.der).decode("ascii")}

    async def pass_(self, told: Json) -> Json:
        """``{}``: nothing is ordered any more: no scenario, no fault, the CA as it was."""
        _only(told, ())
        async with self._turn:
            self._commanded.stop()
            await self._stage.clear()
            log.info("told to order nothing")
            return self.status()


def _only(said: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in said:
        if key not in known:
            there = f"there are {', '.join(known)}" if known else "there are none"
            raise Declined(400, f"there is no key {printable(key, limit=80, ascii_only=True)!r} here: {there}")


def _fault(fault: Any) -> Json:
    return {"do": fault.do, "leg": fault.leg, "to": fault.to, "at": fault.at, "place": fault.place}

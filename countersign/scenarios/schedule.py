"""Which step is in force: sans-IO, told of each connection and of the time, and counting nothing but what it is told.

A :class:`Course` is one way through the steps. Before each connection it looks whether the turn of the next step has
come, perhaps of several: somebody who connects after a long silence meets the step that is in force by then, and each
was entered when its time had come and not when somebody looked. So where there are only times, the step at a moment
depends on that moment alone, however often anybody connected before it.

Chance is drawn for each connection from the seed and the connection's number, so that the same seed gives the same
course, and that looking ahead (:meth:`Course.peek`) changes nothing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING

from countersign.scenarios.clock import REAL, Clock

if TYPE_CHECKING:
    from countersign.scenarios.model import Scenario, Step

_MOST_AT_ONCE = 1000
"""Steps that are entered before one connection; a machine that slept for years need not catch up with all of them."""


@dataclass(frozen=True, slots=True)
class Entered:
    """Where a course is: the step's number, when it was entered (by both clocks), and the connections since.

    ``passed`` are the steps entered on the way to it since the connection before.
    """

    number: int
    at: float
    wall: datetime
    connections: int = 0
    passed: tuple[int, ...] = ()


@dataclass(slots=True)
class Course:
    """One way through the steps of ``scenario``, begun at the time ``now`` (in seconds, of any clock) and ``wall``."""

    scenario: Scenario
    now: float
    wall: datetime
    clock: Clock = REAL
    seed: int | str = 0
    _place: Entered = field(init=False)
    _met: int = 0

    def __post_init__(self) -> None:
        self._place = Entered(1, self.now, self.wall)

    @property
    def number(self) -> int:
        """The step that is in force for those who are connected already."""
        return self._place.number

    def peek(self, now: float, wall: datetime) -> Entered:
        """Where the next connection would be, without counting it."""
        steps, place = self.scenario.steps, replace(self._place, passed=())
        if not steps:
            return place
        if self.scenario.schedule.order == "random":
            return self._any(now, wall)
        place = self._round(place, now)
        for _ in range(_MOST_AT_ONCE):
            following = self._next(place.number)
            entered = None if following is None else self._entered(place, following, now, wall)
            if entered is None:
                break
            place = entered
        return place

    def meet(self, now: float, wall: datetime) -> Entered:
        """The same, and the connection counts."""
        place = self.peek(now, wall)
        self._met += 1
        self._place = replace(place, connections=place.connections + 1, passed=())
        return place

    def call(self, now: float, wall: datetime, number: int | None = None) -> Entered:
        """Go to the next step, or to that one, because somebody says so; the last one is followed by none."""
        following = number or self._next(self._place.number)
        self._place = Entered(following or self._place.number, now, wall)
        return replace(self._place, passed=() if following is None else (following,))

    # -- turns ---------------------------------------------------------------------------------------------------

    def _next(self, number: int) -> int | None:
        if number < len(self.scenario.steps):
            return number + 1
        return 1 if self.scenario.schedule.order == "loop" else None

    def _entered(self, place: Entered, number: int, now: float, wall: datetime) -> Entered | None:
        """The next step, if its turn has come: the earliest of what it says."""
        step = self.scenario.steps[number - 1]
        ago = []
        if step.after is not None and now >= (due := place.at + self.clock.passes(step.after)):
            ago.append(now - due)
        if step.at is not None and wall >= (moment := _moment(step.at, place.wall)):
            ago.append((wall - moment).total_seconds())
        if (step.connections is not None and place.connections >= step.connections) or (
            place.connections and not place.passed and self._by_chance(step)
        ):
            ago.append(0.0)
        if not ago:
            return None
        longest = max(ago)
        return Entered(
            number, now - longest, wall - timedelta(seconds=longest), passed=(*place.passed, number)[-_MOST_AT_ONCE:]
        )

    def _by_chance(self, step: Step) -> bool:
        return step.chance is not None and self._chance().random() < step.chance

    def _chance(self) -> random.Random:
        return random.Random(f"{self.seed}/{self._met}")  # noqa: S311 - which step comes is no secret

    def _round(self, place: Entered, now: float) -> Entered:
        """Where every step of a loop has its time, whole rounds are left out: the last one shows all that matters."""
        steps = self.scenario.steps
        if self.scenario.schedule.order != "loop" or any(each.after is None or each.at for each in steps):
            return place
        period = sum(self.clock.passes(each.after or 0.0) for each in steps)
        rounds = int((now - place.at) / period) - 1
        if rounds < 1:
            return place
        begun = place.at + rounds * period
        return replace(place, at=begun, wall=place.wall + timedelta(seconds=rounds * period), connections=0)

    def _any(self, now: float, wall: datetime) -> Entered:
        steps = self.scenario.steps
        weights = [1.0 if each.weight is None else each.weight for each in steps]
        (number,) = self._chance().choices(range(1, len(steps) + 1), weights)
        if number == self._place.number and self._met:
            return replace(self._place, passed=())
        return Entered(number, now, wall, passed=(number,))


def _moment(at: datetime | time, since: datetime) -> datetime:
    """The moment that is meant; of a time of day the first one after ``since``, in its zone or the machine's."""
    if isinstance(at, datetime):
        return at if at.tzinfo else at.astimezone()
    local = since.astimezone(at.tzinfo)
    moment = datetime.combine(local.date(), at.replace(tzinfo=None), local.tzinfo)
    return moment if moment > since else moment + timedelta(days=1)

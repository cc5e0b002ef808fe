"""One direction of a connection as a queue in time: what is done to bytes on purpose, and how slow the way is.

Bytes come in as effects (:mod:`.faults.effects`) and pass two stages:

    put -> in order, one after the other (:class:`_Pacer`) -> on the way, many at once (:class:`_Link`) -> outlet

The first does what faults say: an effect begins when the one before it is done, so what comes behind a ``Wait`` waits
with it. The second is the network (:class:`~countersign.proxy.network.Network`): each piece arrives when latency and
bandwidth let it, never before the one in front of it, as TCP has it. Without conditions there is no second stage.

*Back-pressure.* A stage takes no more from the one before it while it holds :data:`_HELD_AT_MOST` bytes, and neither
does the first from whoever writes: :attr:`Lane.full` tells, and ``on_room`` is called when that changes. So a slow way
slows the sender down, as a real one does, and a silent one stops it; neither fills our memory.

*Time.* There is no task, only one timer a stage. It comes from ``timers`` (an event loop, or a test's own clock), and
:meth:`Lane.drop` leaves none behind.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Protocol

from countersign.proxy.faults.effects import Applied, Close, Finish, Gather, Pieces, Reset, Send, Silence, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from countersign.proxy.faults.effects import Effect
    from countersign.proxy.network import Weather

_HELD_AT_MOST = 64 * 1024
_GATHERED_AT_MOST = 64 * 1024

Out = Send | Finish | Close | Reset


class Handle(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """It will not be called."""


class Timers(Protocol):
    """Where a lane has its time from; an event loop is one."""

    def time(self) -> float:
        """Seconds, from anywhere on."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Handle:
        """Call it once, so many seconds from now."""


class Outlet(Protocol):
    """Where a lane, or a stage of it, ends."""

    @property
    def blocked(self) -> bool:
        """It takes nothing now; whoever is behind calls ``go_on`` when it does again."""

    def take(self, effect: Out) -> None:
        """Do this now; a ``Send`` is one write."""


class Lane:
    """The queue of one direction. ``on_room`` is called when :attr:`full` has changed, ``on_applied`` when a fault has
    been, with the bytes that belong to it behind it.
    """

    def __init__(
        self,
        outlet: Outlet,
        timers: Timers,
        *,
        on_room: Callable[[], None] = lambda: None,
        on_applied: Callable[[Applied], None] = lambda _: None,
    ) -> None:
        self._outlet = outlet
        self._timers = timers
        self._on_room = on_room
        self._link: _Link | None = None
        self._pacer = _Pacer(outlet, timers, on_applied, self._after_step)
        self._was_full = False
        self.on_empty: Callable[[], None] | None = None
        """Called once, when nothing is held any more that will ever come out."""

    def shape(self, weather: Weather) -> None:
        """From now on the network is like this."""
        self._link = _Link(self._outlet, self._timers, weather, self.go_on)
        self._pacer.outlet = self._link

    def put(self, effects: Iterable[Effect]) -> None:
        """These come next; what nothing holds up is done before this returns."""
        self._pacer.put(effects)
        self._after_step()

    def go_on(self) -> None:
        """The outlet has room again."""
        if self._link is not None:
            self._link.run()
        self._pacer.run()
        self._after_step()

    def _after_step(self) -> None:
        if self.full is not self._was_full:
            self._was_full = self.full
            self._on_room()
        if self.on_empty is not None and self.empty:
            tell, self.on_empty = self.on_empty, None
            tell()

    @property
    def full(self) -> bool:
        """Nothing more should be put for now."""
        return self._pacer.full

    @property
    def silent(self) -> bool:
        """Nothing that is put comes out any more."""
        return self._pacer.silent or (self._link is not None and self._link.silent)

    @property
    def empty(self) -> bool:
        """Nothing is held, or nothing of it will ever come out."""
        return (self._pacer.empty or self._pacer.silent) and (self._link is None or self._link.empty)

    @property
    def ahead(self) -> float:
        """About how many seconds it takes until all that is held is out."""
        return self._pacer.ahead + (self._link.ahead if self._link is not None else 0.0)

    def drop(self) -> None:
        """Forget all that is held, and take nothing more."""
        self.on_empty = None
        self._pacer.drop()
        if self._link is not None:
            self._link.drop()


class _Pacer:
    """One effect after the other."""

    def __init__(
        self, outlet: Outlet, timers: Timers, on_applied: Callable[[Applied], None], after_step: Callable[[], None]
    ) -> None:
        self.outlet = outlet
        self.silent = False
        self._on_applied = on_applied
        self._applied: list[Applied] = []
        self._after_step = after_step
        self._timers = timers
        self._queue: deque[Effect] = deque()
        self._held = 0
        self._timer: Handle | None = None
        self._until = 0.0  # when the timer is due
        self._gathering: Handle | None = None
        self._gathered = bytearray()
        self._over = False
        self._running = False

    def put(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if self._over:
                return
            self._queue.append(effect)
            if isinstance(effect, Send | Pieces):
                self._held += len(effect.data)
        self.run()

    @property
    def full(self) -> bool:
        return self._held > _HELD_AT_MOST

    @property
    def empty(self) -> bool:
        return not self._queue and not self._gathered and self._timer is None

    @property
    def ahead(self) -> float:
        seconds = max(0.0, self._until - self._timers.time()) if self._timer is not None else 0.0
        for effect in self._queue:
            if isinstance(effect, Wait):
                seconds += effect.seconds
            elif isinstance(effect, Pieces):
                seconds += effect.every * (len(effect.data) // effect.size)
        return seconds

    def run(self) -> None:
        """As far as it goes now."""
        if self._running:  # the outlet had room while it was given something
            return
        self._running = True
        try:
            while (
                self._queue and not self._over and not self.silent and self._timer is None and not self.outlet.blocked
            ):
                self._do(self._queue.popleft())
        finally:
            self._running = False
        self._tell_applied()

    def _tell_applied(self) -> None:
        applied, self._applied = self._applied, []
        for each in applied:
            self._on_applied(each)

    def _do(self, effect: Effect) -> None:
        if self._gathering is not None and not isinstance(effect, Send | Gather | Applied):
            self._ungather()
        match effect:
            case Send(data):
                if self._gathering is None:
                    data = self._with_what_follows(data)
                    self._held -= len(data)
                    self.outlet.take(Send(data))
                    return
                self._gathered += data
                if len(self._gathered) >= _GATHERED_AT_MOST:
                    self._ungather()
            case Pieces(data, size, every):
                piece, rest = data[:size], memoryview(data)[size:]
                self._held -= len(piece)
                if rest:
                    self._queue.appendleft(Pieces(rest, size, every))
                self.outlet.take(Send(bytes(piece)))
                if every:
                    self._wait(every)
            case Gather(seconds):
                if self._gathering is None:
                    self._gathering = self._timers.call_later(seconds, self._gathered_all)
            case Wait(seconds):
                self._wait(seconds)
            case Applied():
                self._applied.append(effect)
            case Silence():
                self.silent = True
            case Finish() | Close() | Reset():
                self._over = True
                self._queue.clear()
                self._held = 0
                self._tell_applied()
                self.outlet.take(effect)

    def _with_what_follows(self, data: bytes) -> bytes:
        """What is to go out right behind it goes with it: it is one write, as it would be without a lane."""
        joined = [data]
        size = len(data)
        while self._queue and size < _GATHERED_AT_MOST:
            match self._queue[0]:
                case Send(more):
                    joined.append(more)
                    size += len(more)
                case Applied() as applied:
                    self._applied.append(applied)
                case _:
                    break
            self._queue.popleft()
        return b"".join(joined)

    def _wait(self, seconds: float) -> None:
        self._until = self._timers.time() + seconds
        self._timer = self._timers.call_later(seconds, self._waited)

    def _waited(self) -> None:
        self._timer = None
        self.run()
        self._after_step()

    def _gathered_all(self) -> None:
        self._ungather()
        self.run()
        self._after_step()

    def _ungather(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        data, self._gathered = bytes(self._gathered), bytearray()
        self._held -= len(data)
        if data:
            self.outlet.take(Send(data))

    def drop(self) -> None:
        self._over = True
        self._queue.clear()
        self._gathered.clear()
        self._held = 0
        for timer in (self._timer, self._gathering):
            if timer is not None:
                timer.cancel()
        self._timer = self._gathering = None


class _Link:
    """Many pieces on their way at once, each with the moment at which it arrives."""

    def __init__(self, outlet: Outlet, timers: Timers, weather: Weather, go_on: Callable[[], None]) -> None:
        self._outlet = outlet
        self._timers = timers
        self._weather = weather
        self._go_on = go_on
        self._way: deque[tuple[float, Out]] = deque()
        self._held = 0
        self._timer: Handle | None = None
        self._over = False
        self._reset: Handle | None = None
        if weather.reset_in is not None:
            self._reset = timers.call_later(weather.reset_in, self._reset_now)

    @property
    def blocked(self) -> bool:
        return self._held > _HELD_AT_MOST

    @property
    def silent(self) -> bool:
        return self._weather.silent

    @property
    def empty(self) -> bool:
        return not self._way or self._way[0][0] == math.inf

    @property
    def ahead(self) -> float:
        last = next((due for due, _ in reversed(self._way) if due != math.inf), 0.0)
        return max(0.0, last - self._timers.time())

    def take(self, effect: Out) -> None:
        if self._over:
            return
        if isinstance(effect, Send):
            self._held += len(effect.data)
        self._way.extend(self._weather.arrivals(effect, self._timers.time()))
        self.run()

    def run(self) -> None:
        """Hand over what has arrived."""
        while self._way and not self._over and not self._outlet.blocked:
            due, effect = self._way[0]
            left = due - self._timers.time()
            if left > 0:
                if self._timer is None and left != math.inf:
                    self._timer = self._timers.call_later(left, self._arrived)
                return
            self._way.popleft()
            if isinstance(effect, Send):
                self._held -= len(effect.data)
            else:
                self.drop()
            self._weather.passed(effect)
            self._outlet.take(effect)

    def _arrived(self) -> None:
        self._timer = None
        self._go_on()

    def _reset_now(self) -> None:
        if not self._over:
            self.drop()
            self._weather.passed(Reset())
            self._outlet.take(Reset())

    def drop(self) -> None:
        self._over = True
        self._way.clear()
        self._held = 0
        for timer in (self._timer, self._reset):
            if timer is not None:
                timer.cancel()
        self._timer = self._reset = None

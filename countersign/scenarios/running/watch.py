"""What is known of the sessions of an engine so far: a keeper to look at, and to wait for.

Whether a client is done is a question of its own where it is not a process that ends. A session may go on while it is
judged, for clients keep connections; it tells enough when it carries data both ways, for in TLS 1.3 the client's comes
before it is known to be taken (RFC 8446 E.1.1). A client is at *rest* when each of its sessions has ended or tells
enough, and nothing has moved for a while, since one that is refused may try again by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from countersign.recorder.recording import LegRole
from countersign.recorder.wire.events import Side

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.recorder.recording import Recording

_SETTLES = 3.0  # seconds for sessions to end, or to carry data both ways, once their client is done
_LOOK_EVERY = 0.05


class Watch:
    """A keeper that knows the latest of each recording, and wakes whoever waits for more."""

    def __init__(self) -> None:
        self._latest: dict[str, Recording] = {}
        self._changed = asyncio.Event()
        self._moves = 0

    def submit(self, recording: Recording) -> None:
        """What the engine hands over; a finished one stands before a snapshot of it."""
        self._latest[recording.id] = recording
        self._moves += 1
        self._changed.set()

    @property
    def count(self) -> int:
        """How many sessions have something to show."""
        return len(self._latest)

    @property
    def finished(self) -> list[Recording]:
        """Sessions that are over, in the order in which they were first heard of."""
        return [each for each in self._latest.values() if each.ended is not None]

    @property
    def still_open(self) -> list[Recording]:
        """Sessions that go on and have something to tell."""
        return [each for each in self._latest.values() if each.ended is None and _sent(each, Side.CLIENT, Side.SERVER)]

    async def settle(self, open_sessions: Callable[[], int], *, to_the_end: bool = False) -> None:
        """Wait until each session has ended, or tells enough; ``to_the_end``: until it has ended."""
        await asyncio.sleep(0.001)  # what has been connected last is accepted
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLES):
                while open_sessions() > (0 if to_the_end else len(self.still_open)):
                    self._changed.clear()
                    await self._changed.wait()

    async def rest(
        self, open_sessions: Callable[[], int], *, quiet: float, until: float, beyond: int | None = None
    ) -> bool:
        """Wait until the client is at rest: ``quiet`` seconds without anything new, ``until`` at most, by the loop's
        clock. With ``beyond`` it is awaited first, until there are more sessions than so many.

        Says whether no session is left that tells nothing: by then what the client has sent counts as telling.
        """
        loop = asyncio.get_running_loop()
        seen, since = (-1, -1), loop.time()
        while (now := loop.time()) < until:
            if seen != (here := (open_sessions(), self._moves)):
                seen, since = here, now
            awaited = beyond is not None and not open_sessions() and self.count <= beyond
            if not awaited and open_sessions() <= len(self.still_open) and now - since >= quiet:
                return True
            await asyncio.sleep(_LOOK_EVERY)
        sending = [each for each in self._latest.values() if each.ended is None and _sent(each, Side.CLIENT)]
        return open_sessions() <= len(sending)


def _sent(recording: Recording, *sides: Side) -> bool:
    """Whether there is data from each of these."""
    leg = recording.leg(LegRole.CLIENT) or recording.leg(LegRole.THROUGH)
    return leg is not None and all(leg.count(side).length for side in sides)

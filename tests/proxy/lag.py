"""How long a running proxy's event loop was away from its other work."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.waiting import kept_waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.proxy.running import RunningProxy

_EVERY = 0.005


@dataclass
class Lag:
    """``longest`` is the longest that a timer of the loop came late, in seconds, other processes' turns taken off."""

    longest: float = 0.0


@contextlib.contextmanager
def watched(proxy: RunningProxy) -> Iterator[Lag]:
    """Ticks in the proxy's loop for as long as the block lasts.

    The proxy shares its interpreter with the test: what the test does meanwhile counts too, so floods are made before.
    """
    lag = Lag()

    async def tick() -> None:
        while True:
            began, waited = time.monotonic(), kept_waiting()
            await asyncio.sleep(_EVERY)
            late = time.monotonic() - began - _EVERY
            lag.longest = max(lag.longest, late - (kept_waiting() - waited))

    async def start() -> asyncio.Task[None]:
        return asyncio.create_task(tick(), name="ticks")

    async def stop() -> None:
        ticking.cancel()

    ticking = proxy.run(start())
    try:
        yield lag
    finally:
        proxy.run(stop())

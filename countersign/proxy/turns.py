"""What costs much is worked off one piece in each turn of the event loop, whoever it comes from.

A peer that makes us work hard can do so on many connections at once. That each of them is served in small pieces does
not help the others, for they wait for all these pieces, again and again. So whoever finds that the peer's bytes are
costly asks for a turn before the next piece: while others wait for their sockets, one such piece goes with each turn of
the loop, and in a loop without other work they follow each other at once. What is not costly asks nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """The queue of those who have costly work; one an event loop."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._going = False

    async def mine(self) -> None:
        """Wait for the next turn of the loop that is nobody else's. First come, first served."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None] = loop.create_future()
        self._waiting.append(waiting)
        if not self._going:
            self._going = True
            loop.call_soon(self._next)
        await waiting

    def _next(self) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():  # who waited may have been cancelled
                waiting.set_result(None)
                break
        self._going = bool(self._waiting)
        if self._going:
            asyncio.get_running_loop().call_soon(self._next)

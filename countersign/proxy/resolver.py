"""Host names to addresses, in threads of our own.

The system's resolver blocks, for half a minute where a name server does not answer, and cannot be interrupted. asyncio
asks it in a handful of threads that it shares with everything else and waits for when it ends, so a few names that hang
would hold up all other names, and the stop of the proxy. Here instead:

- Each lookup has a thread, at most :data:`THREADS` at a time. Threads are daemons: nobody waits for one, not even the
  end of the process.
- Who waits has a time limit. When it is over the thread stays with its name until the system lets go of it, and is
  counted until then.
- The same name is looked up once, however many ask for it, also while it hangs: a name takes one thread, not one for
  each of its clients.
- What was found is good for :data:`KEPT` seconds more: to ask a thread costs more than all else that dialling does, and
  a proxy dials the same name again and again. Errors are not kept.
- While all threads are taken, at most :data:`WAITING` names wait for one; beyond that a lookup fails at once. A name
  for which nobody waits any more is not begun.

One resolver serves any number of event loops.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS = 128
WAITING = 512
KEPT = 1.0
_KEPT_AT_MOST = 1024
_IDLE = 30.0  # seconds after which a thread without work ends

Found = list[tuple[socket.AddressFamily, str, int]]
"""Family, address, and the scope of a link-local IPv6 address."""


class ResolverBusy(Exception):  # noqa: N818 - a state, not an error of the program
    """All threads are taken and enough names wait."""


@dataclass(slots=True, eq=False)
class _Lookup:
    name: str
    waiting: set[asyncio.Future[Found]] = field(default_factory=set)


class Resolver:
    """``lookup`` is :func:`socket.getaddrinfo` or what stands in for it."""

    def __init__(
        self,
        *,
        threads: int = THREADS,
        waiting: int = WAITING,
        lookup: Callable[[str], Found] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_threads = threads
        self._most_waiting = waiting
        self._lookup = lookup or system_lookup
        self._monotonic = monotonic
        self._found: dict[str, tuple[float, Found]] = {}  # until when it is good
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._queue: deque[_Lookup] = deque()
        self._known: dict[str, _Lookup] = {}  # by name, until it is answered
        self._threads = 0
        self._free = 0  # of these, idle or just started: each will take a lookup off the queue

    async def addresses(self, name: str, *, limit: float) -> Found:
        """The addresses of this name. Raises what the lookup does, :class:`TimeoutError` or :class:`ResolverBusy`."""
        good_until, found = self._found.get(name, (0.0, []))
        if good_until > self._monotonic():
            return list(found)
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        lookup = self._ask(name, future)
        try:
            async with asyncio.timeout(limit):
                return await future
        finally:
            self._leave(lookup, future)

    def _ask(self, name: str, future: asyncio.Future[Found]) -> _Lookup:
        with self._lock:
            lookup = self._known.get(name)
            if lookup is None:
                if self._threads >= self._most_threads and len(self._queue) - self._free >= self._most_waiting:
                    raise ResolverBusy
                lookup = self._known[name] = _Lookup(name)
                self._queue.append(lookup)
                if self._free >= len(self._queue):
                    self._work.notify()
                elif self._threads < self._most_threads:
                    self._threads += 1
                    self._free += 1
                    threading.Thread(target=self._serve, name="countersign-resolver", daemon=True).start()
            lookup.waiting.add(future)
            return lookup

    def _leave(self, lookup: _Lookup, future: asyncio.Future[Found]) -> None:
        with self._lock:
            lookup.waiting.discard(future)
            if not lookup.waiting and lookup in self._queue:
                self._queue.remove(lookup)
                del self._known[lookup.name]

    def _serve(self) -> None:
        """A thread: one lookup after the other, until there has been none for a while."""
        while (lookup := self._next()) is not None:
            found: Found = []
            error: Exception | None = None
            try:
                found = self._lookup(lookup.name)
            except Exception as wrong:  # noqa: BLE001 - whatever it is, whoever asked gets it
                error = wrong
            with self._lock:
                self._free += 1
                del self._known[lookup.name]
                if error is None:
                    if len(self._found) >= _KEPT_AT_MOST:
                        self._found.clear()
                    self._found[lookup.name] = self._monotonic() + KEPT, found
                waiting = list(lookup.waiting)
            for future in waiting:
                with contextlib.suppress(RuntimeError):  # its loop is over
                    future.get_loop().call_soon_threadsafe(_settle, future, found, error)

    def _next(self) -> _Lookup | None:
        with self._lock:
            there = self._work.wait_for(lambda: self._queue, _IDLE)
            self._free -= 1
            if there:
                return self._queue.popleft()
            self._threads -= 1
            return None


def _settle(future: asyncio.Future[Found], found: Found, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(found)
    else:
        future.set_exception(error)


def system_lookup(name: str) -> Found:
    """What the system knows of this name; the port is nobody's business here. Raises :class:`socket.gaierror`."""
    found: Found = []
    for family, _, _, _, address in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM):
        if family == socket.AF_INET:
            found.append((family, str(address[0]), 0))
        elif family == socket.AF_INET6 and len(address) == 4:
            found.append((family, str(address[0]), int(address[3])))
    return found


RESOLVER = Resolver()
"""The one of this process."""

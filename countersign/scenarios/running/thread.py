"""An event loop in a thread of its own, for programs that have none, or one that is theirs to block and to close.

What runs in it is handed over as coroutines (:meth:`LoopThread.call`) and waited for. The thread is a daemon: a program
that ends in whatever way takes it along. A fork has a copy of this object, and not the thread: to wait for that one
would last for ever, so it is an error that says so.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from countersign.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Coroutine

_Made = TypeVar("_Made")

_ENDS = 5.0  # seconds for the thread to end once it is told to


class LoopThread:
    """See the top of the module."""

    def __init__(self, name: str) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    @property
    def here(self) -> bool:
        """Whether this process is the one that has the thread, and the thread is there."""
        return os.getpid() == self._pid and self._thread.is_alive() and not self._loop.is_closed()

    def call(self, work: Coroutine[Any, Any, _Made], *, what: str) -> _Made:
        """Run ``work`` there and wait for what comes of it. Where the wait is interrupted, the work is cancelled.

        Raises what the work raises, and :class:`UserError` where the loop is not there for ``what`` is wanted.
        """
        why = self._not_here()
        if why:
            work.close()
            raise UserError(f"cannot {what}: {why}")
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result()
        finally:
            running.cancel()  # of one that is done this does nothing

    def _not_here(self) -> str:
        if os.getpid() != self._pid:
            return (
                f"process {os.getpid()} is a fork, and the proxy runs in process {self._pid};"
                " url, ca and env can be used here, the rest there"
            )
        if not self._thread.is_alive() or self._loop.is_closed():
            return "the proxy was stopped with the program's session"
        if threading.current_thread() is self._thread:
            return "this is the proxy's own thread, which would wait for itself"
        return ""

    def close(self) -> None:
        """End what still runs there, then the thread. In a fork there is nothing to end."""
        if not self.here:
            return
        self.call(_end_tasks(), what="stop")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ENDS)
        if not self._thread.is_alive():
            self._loop.close()


async def _end_tasks() -> None:
    own = asyncio.current_task()
    left = [task for task in asyncio.all_tasks() if task is not own]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    loop = asyncio.get_running_loop()
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()

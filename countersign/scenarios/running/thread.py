"""An event loop in a thread of its own, for programs that have none, or one that is theirs to block and to close.

What runs in it is handed over as coroutines (:meth:`LoopThread.call`) and waited for. The thread is a daemon: a program
that ends in whatever way takes it along. A fork has a copy of this object, and not the thread: to wait for that one
would last for ever, so it is an error that says so.

Ctrl-C has to end a wait, and there are two ways in which Python loses one:

- It notes a signal when that comes, and acts on it between two bytecodes of the main thread; a thread that blocks is
  woken by the signal itself. One that comes when the last look is over and the block has not begun wakes nobody. That
  gap is as long as the wait for the interpreter's lock (``sys.setswitchinterval``: 5 ms), which the loop's thread holds
  just then, since it has been given work. So nobody blocks here but for a moment at a time.
- What it then does is raise, wherever the main thread is. In the callback of a weak reference that goes nowhere
  ("Exception ignored in"), and between taking a lock and the block that gives it back, the lock is never given back. So
  while something is waited for here, Ctrl-C is noted, and raised when the wait is over.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from countersign.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

_Made = TypeVar("_Made")

_LOOKS = 0.1  # seconds until a signal is looked for that has woken nobody
_ENDS = 5.0  # seconds for the thread to end once it is told to


class LoopThread:
    """See the top of the module."""

    def __init__(self, name: str) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        # A thread that is asked whether it lives takes Ctrl-C for its end (https://bugs.python.org/issue45274).
        self._over = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._over = True

    @property
    def here(self) -> bool:
        """Whether this process is the one that has the thread, and the thread is there."""
        return os.getpid() == self._pid and not self._over

    def call(self, work: Coroutine[Any, Any, _Made], *, what: str) -> _Made:
        """Run ``work`` there and wait for what comes of it. Where the wait is interrupted, the work is cancelled.

        Raises what the work raises, and :class:`UserError` where the loop is not there for ``what`` is wanted.
        """
        why = self._not_here()
        if why:
            work.close()
            raise UserError(f"cannot {what}: {why}")
        ended: SimpleQueue[None] = SimpleQueue()  # a signal's handler may put into it
        with _interrupted_later(wake=partial(ended.put, None)):
            return self._waited(work, ended)

    def _waited(self, work: Coroutine[Any, Any, _Made], ended: SimpleQueue[None]) -> _Made:
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            running.add_done_callback(lambda _: ended.put(None))
            while True:
                with suppress(Empty):
                    ended.get(timeout=_LOOKS)
                    break
        finally:
            running.cancel()  # of one that is done this does nothing
        return running.result()

    def _not_here(self) -> str:
        if os.getpid() != self._pid:
            return (
                f"process {os.getpid()} is a fork, and the proxy runs in process {self._pid};"
                " url, ca and env can be used here, the rest there"
            )
        if self._over:
            return "the proxy was stopped with the program's session"
        if threading.current_thread() is self._thread:
            return "this is the proxy's own thread, which would wait for itself"
        return ""

    def close(self) -> None:
        """End what still runs there, then the thread. In a fork there is nothing to end."""
        if not self.here:
            return
        self.call(_end_tasks(), what="stop")
        with _interrupted_later(wake=lambda: None):
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_ENDS)
            if self._over:
                self._loop.close()


@contextmanager
def _interrupted_later(*, wake: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C raises when the block is over, and ``wake`` is called at once, where it would raise within: in the main
    thread, if the program has no other plans for it.
    """
    raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not raises or threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = False

    def note(_number: int, _frame: object) -> None:
        nonlocal interrupted
        interrupted = True
        wake()

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if interrupted:
            raise KeyboardInterrupt from None


async def _end_tasks() -> None:
    own = asyncio.current_task()
    left = [task for task in asyncio.all_tasks() if task is not own]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    loop = asyncio.get_running_loop()
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()

"""Several processes that do the same work, and the one that looks after them.

The parent makes what all of them share (listening sockets, the keys of session tickets, the CA) and forks. From then on
it does nothing but wait: for a signal, which it passes on, and for a worker that ends, which it says and starts again,
the later the sooner it died. A worker that cannot even begin ends them all, for what keeps it from that keeps the
others.

The parent keeps the listening sockets of all workers. What connects while a worker is being started again waits in the
kernel's queue for its successor.

A worker holds the reading end of a pipe that the parent never writes to: when that ends the parent is dead, however it
died, and the worker stops. Forking is done by a process of one thread, so nothing here may start another: logs are
written, and stores kept, by threads that each worker starts for itself.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from countersign.errors import CountersignError, EnvironmentFault, UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

_FIRST_DELAY = 0.1  # seconds before a worker that died is started again
_LAST_DELAY = 5.0
_LIVED_LONG = 10.0  # seconds after which a death counts as the first again
_TOLD_AT_MOST = 4096
_READY = b"ready\n"
_KINDS = {kind.exit_code: kind for kind in (CountersignError, UserError, EnvironmentFault)}
_STOPPING = ("SIGTERM", "SIGINT")


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker knows of itself: its number from 1, and how many had that number before."""

    number: int
    predecessors: int
    lifeline: int  # a descriptor that can be read when the parent is dead
    _told: int

    def ready(self) -> None:
        """Tell the parent that the work has begun."""
        os.write(self._told, _READY)


@dataclass(slots=True)
class _Place:
    """One worker's place, whoever has it."""

    number: int
    pid: int = 0
    lives: int = 0
    began: float = 0.0
    delay: float = _FIRST_DELAY
    again_at: float | None = None
    hears: int = -1
    heard: bytearray = field(default_factory=bytearray)

    @property
    def ready(self) -> bool:
        return self.heard.startswith(_READY)


class Workers:
    """``run`` is the parent's life: it returns when all have ended in order.

    ``work`` is what each worker does until it is told to stop by SIGTERM; it is called in the new process. ``say`` logs
    an event with its facts. Where ``reloads``, a SIGHUP is passed on; else it means to stop. Workers that have not
    ended ``patience`` seconds after they were told to are killed.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[Worker], None],
        *,
        say: Callable[..., None],
        reloads: bool = False,
        patience: float = 15.0,
    ) -> None:
        if not hasattr(os, "fork"):
            raise EnvironmentFault("cannot run several workers: this system has no fork; use --workers 1")
        self._work = work
        self._say = say
        self._reloads = reloads
        self._patience = patience
        self._places = [_Place(number) for number in range(1, count + 1)]
        self._stopping: float | None = None  # when those who are left are killed

    def run(self, *, ready: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext) -> None:
        """``ready`` is entered when all have begun, and left when they are told to stop.

        Raises what kept a worker from beginning, as an error of the same kind.
        """
        gc.freeze()  # what is here now is shared as long as nobody writes to it
        with contextlib.ExitStack() as stack:
            self._lifeline, lives = os.pipe()
            stack.callback(os.close, lives)
            stack.callback(os.close, self._lifeline)
            woken = stack.enter_context(_signals())
            self._keeps = (lives, woken)
            try:
                for place in self._places:
                    self._start(place)
                while not all(place.ready for place in self._places) and self._stopping is None:
                    self._wait(woken, beginning=True)
                with ready() if self._stopping is None else contextlib.nullcontext():
                    while self._stopping is None:
                        self._wait(woken)
                while any(place.pid for place in self._places):
                    self._wait(woken)
            finally:
                self._kill_all()

    # -- one step ----------------------------------------------------------------------------------------------------

    def _wait(self, woken: int, *, beginning: bool = False) -> None:
        """For whatever comes first: a signal, a word of a worker, the time to start or to kill one."""
        now = time.monotonic()
        moments = [place.again_at for place in self._places if place.again_at is not None]
        moments += [self._stopping] if self._stopping is not None else []
        timeout = max(0.0, min(moments) - now) if moments else None
        hearing = {place.hears: place for place in self._places if place.hears >= 0}
        found, _, _ = select.select([woken, *hearing], [], [], timeout)
        for descriptor in found:
            if descriptor == woken:
                for number in os.read(woken, 64):
                    self._signalled(number)
            else:
                self._hear(hearing[descriptor])
        self._bury(beginning=beginning)
        now = time.monotonic()
        for place in self._places:
            if place.again_at is not None and place.again_at <= now and self._stopping is None:
                self._start(place)
        if self._stopping is not None and self._stopping <= now:
            self._kill_all()

    def _signalled(self, number: int) -> None:
        if number == getattr(signal, "SIGHUP", None) and self._reloads:
            self._tell(number)
        elif number != signal.SIGCHLD and self._stopping is None:
            self._stop()

    def _stop(self) -> None:
        self._stopping = time.monotonic() + self._patience
        for place in self._places:
            place.again_at = None
        self._tell(signal.SIGTERM)

    def _tell(self, number: int) -> None:
        for place in self._places:
            if place.pid:
                os.kill(place.pid, number)

    def _hear(self, place: _Place) -> None:
        data = os.read(place.hears, _TOLD_AT_MOST)
        place.heard += data[: _TOLD_AT_MOST - len(place.heard)]
        if not data:
            os.close(place.hears)
            place.hears = -1

    # -- a worker's life -----------------------------------------------------------------------------------------------

    def _start(self, place: _Place) -> None:
        hears, told = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._live(place, hears, told)
        os.close(told)
        place.pid, place.hears, place.began, place.again_at = pid, hears, time.monotonic(), None
        place.heard.clear()
        if place.lives:
            self._say("a worker was started again", worker=place.number, pid=pid)
        place.lives += 1

    def _live(self, place: _Place, hears: int, told: int) -> NoReturn:
        """In the new process, to its end."""
        code = 1
        try:
            _as_they_were()
            for descriptor in (hears, *self._keeps, *(other.hears for other in self._places)):
                if descriptor >= 0:
                    os.close(descriptor)
            worker = Worker(place.number, place.lives, self._lifeline, told)
            self._work(worker)
            code = 0
        except CountersignError as error:
            code = error.exit_code
            with contextlib.suppress(OSError):
                os.write(told, str(error).encode("utf-8", "backslashreplace")[:_TOLD_AT_MOST])
        except BaseException:  # noqa: BLE001 - there is nobody above to tell
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _bury(self, *, beginning: bool) -> None:
        """Take notice of those who have ended."""
        for place in self._places:
            if not place.pid:
                continue
            pid, status = os.waitpid(place.pid, os.WNOHANG)
            if pid:
                place.pid = 0
                while place.hears >= 0:
                    self._hear(place)
                if self._stopping is None:
                    self._ended(place, os.waitstatus_to_exitcode(status), beginning=beginning)

    def _ended(self, place: _Place, code: int, *, beginning: bool) -> None:
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        text = bytes(place.heard.removeprefix(_READY)).decode("utf-8", "replace")
        if beginning and not place.ready:
            kind = _KINDS.get(code, EnvironmentFault)
            raise kind(text or f"worker {place.number} ended before it had begun: {how}")
        if time.monotonic() - place.began > _LIVED_LONG:
            place.delay = _FIRST_DELAY
        place.again_at = time.monotonic() + place.delay
        facts = {"reason": text} if text else {}
        self._say("a worker died", worker=place.number, how=how, again_in=place.delay, **facts)
        place.delay = min(place.delay * 2, _LAST_DELAY)

    def _kill_all(self) -> None:
        for place in self._places:
            if place.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(place.pid, signal.SIGKILL)
                os.waitpid(place.pid, 0)
                place.pid = 0
            if place.hears >= 0:
                os.close(place.hears)
                place.hears = -1


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """A descriptor that gives the numbers of signals as they come. Those that were ignored stay so (``nohup``)."""
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    os.set_blocking(writes, False)
    before = {}
    for name in (*_STOPPING, "SIGHUP", "SIGCHLD"):
        number = getattr(signal, name)
        if name == "SIGCHLD" or signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, lambda *_: None)
    old = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    try:
        yield reads
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reads)
        os.close(writes)


def _as_they_were() -> None:
    """In a worker: signals mean what they do to any process, until it says otherwise."""
    signal.set_wakeup_fd(-1)
    for name in (*_STOPPING, "SIGHUP", "SIGCHLD"):
        number = getattr(signal, name)
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)

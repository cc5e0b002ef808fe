"""The thread between the proxy and the store.

The relay hands a snapshot over and goes on; it never waits for a disk and never fails because of one. What it hands
over is committed within a tenth of a second: the thread waits :data:`GATHER` seconds for company, then writes all that
is there in one transaction. A newer snapshot of a session takes the place of an older one that still waits.

When a write fails, everything that waits goes on waiting, the trouble is told once, and the write is tried again, with
the store opened anew, until it succeeds; that is told as well. Meanwhile the queue grows, up to its limit in bytes.
Beyond it, recordings are dropped, in this order: the oldest that are still *open* first, for their session will be
handed over again when something happens in it; then the oldest finished ones, which are lost for good. :attr:`lost`
counts the sessions whose last state was dropped; a session that is handed over again is not among them any more.

A recording that cannot be written for what is in it (a defect of ours) is dropped, counted and told by its id; the
others are not held up by it.

A thread does not survive a fork: make the writer in the process that uses it.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from countersign.errors import CountersignError
from countersign.recorder.recording import Recording, Status
from countersign.recorder.store.database import Encoded, Store, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from countersign.recorder.store.owner import Owner

GATHER = 0.02
_HEARTBEAT = 10.0
_CHECK_EVERY = 10.0
_CHECK_AFTER_BYTES = 32 << 20
_BATCH_RECORDINGS = 500
_BATCH_BYTES = 8 << 20
_FIRST_RETRY = 0.1
_LAST_RETRY = 2.0
_MESSAGE_OVERHEAD = 300  # bytes that a message takes in memory beside its own
_RECORDING_OVERHEAD = 3_000


_Queued = tuple[Recording, int]  # a snapshot and its weight


class Trouble(StrEnum):
    """``failing``: writes fail and are tried again. ``losing``: the queue is full and recordings are dropped.
    ``unwritable``: one recording cannot be written at all. ``healed``: writing goes on.
    """

    FAILING = "failing"
    LOSING = "losing"
    UNWRITABLE = "unwritable"
    HEALED = "healed"


@dataclass(frozen=True, slots=True)
class StoreTrouble:
    """What the proxy should say aloud; ``lost`` and ``waiting`` count recordings at that moment."""

    kind: Trouble
    text: str
    lost: int
    waiting: int

    def __str__(self) -> str:
        return self.text


class StoreWriter:
    """Commits what :meth:`submit` is given, in a thread of its own. See the module's text for what it promises.

    ``on_error`` is called from that thread, and by :meth:`stop`. ``max_bytes`` is the size that the store is kept to by
    removing its oldest recordings (``None``: no limit), looked at every ten seconds or 32 MiB. ``queue_limit`` is in
    bytes. A URL that names no store is told to ``on_error`` only: whoever wants to know it first opens the store first.
    """

    def __init__(
        self,
        store_url: str | Path,
        *,
        owner: Owner,
        max_bytes: int | None = 2 * 1024**3,
        on_error: Callable[[StoreTrouble], None],
        queue_limit: int = 64 * 1024**2,
    ) -> None:
        self._url = store_url
        self._owner = owner
        self._max_bytes = max_bytes
        self._on_error = on_error
        self._queue_limit = queue_limit
        self._thread = threading.Thread(target=self._run, name="countersign-store", daemon=True)
        # Guarded by the lock, which both conditions share. The queues keep the order in which sessions came.
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._settled = threading.Condition(self._lock)  # something was written or dropped
        self._open: dict[str, _Queued] = {}
        self._finished: dict[str, _Queued] = {}
        self._in_flight: dict[str, _Queued] = {}
        self._queued_bytes = 0
        self._dropped_open: set[str] = set()
        self._lost_for_good = 0
        self._losing = False
        self._idle = False
        self._hurry = False
        self._stopping = False
        self._abandoned = False
        # The thread's own.
        self._store: Store | None = None
        self._open_in_store: set[str] = set()
        self._said_alive = 0.0
        self._checked = 0.0
        self._since_check = 0
        self._pruning = False
        self._told: set[str] = set()
        self._retry = _FIRST_RETRY
        self.written = 0
        self.pruned = 0
        self.failing = False

    # -- for the proxy -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread. It opens the store and marks what the dead left open; trouble goes to ``on_error``."""
        self._thread.start()

    def submit(self, recording: Recording) -> None:
        """Take a snapshot of a session, open or finished; from any thread, without waiting for anything."""
        queued = (recording, _weigh(recording))
        with self._lock:
            self._enqueue(recording.id, queued)
            self._dropped_open.discard(recording.id)
            self._shed()
            if self._idle:
                self._idle = False
                self._wake.notify_all()

    @property
    def lost(self) -> int:
        """How many sessions the store does not have in their last state and, unless they change again, will not get."""
        with self._lock:
            return self._lost_now()

    @property
    def waiting(self) -> int:
        """How many recordings are not committed yet."""
        with self._lock:
            return self._waiting_now()

    def flush(self, timeout: float) -> bool:
        """Wait until all that was submitted is committed; whether it was, within ``timeout`` seconds."""
        with self._lock:
            self._hurry = True
            self._wake.notify_all()
            return self._settled.wait_for(lambda: not self._waiting_now(), timeout)

    def stop(self, timeout: float = 5.0) -> None:
        """Write what is queued and end the thread; what could not be written within ``timeout`` seconds is lost."""
        with self._lock:
            self._stopping = True
            self._wake.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        with self._lock:
            self._abandoned = True
            self._wake.notify_all()
            left = self._waiting_now()
            self._lost_for_good += left
            for queue in (self._open, self._finished, self._in_flight):
                queue.clear()
            self._queued_bytes = 0
        if left:
            self._tell(Trouble.LOSING, f"{left} recordings are lost: they could not be stored before the end")

    # -- the queue; the lock is held -------------------------------------------------------------------------------

    def _lost_now(self) -> int:
        return self._lost_for_good + len(self._dropped_open)

    def _waiting_now(self) -> int:
        return len(self._open) + len(self._finished) + len(self._in_flight)

    def _enqueue(self, id_: str, queued: _Queued) -> None:
        """Put a snapshot in its session's place, or at the end when it has none in that queue."""
        queue, other = self._open, self._finished
        if queued[0].outcome.status is not Status.OPEN:
            queue, other = other, queue
        for old in (queue.get(id_), other.pop(id_, None)):
            if old is not None:
                self._queued_bytes -= old[1]
        queue[id_] = queued
        self._queued_bytes += queued[1]

    def _shed(self) -> None:
        while self._queued_bytes > self._queue_limit:
            if self._open:
                id_ = next(iter(self._open))
                _, weight = self._open.pop(id_)
                self._dropped_open.add(id_)
            else:
                _, weight = self._finished.pop(next(iter(self._finished)))
                self._lost_for_good += 1
            self._queued_bytes -= weight
            self._losing = True
            self._settled.notify_all()

    def _take(self) -> list[Recording]:
        """The next batch, now in flight. Open sessions get half of it at most, so that neither kind waits for ever."""
        size = 0
        for queue, most in ((self._open, _BATCH_RECORDINGS // 2), (self._finished, _BATCH_RECORDINGS)):
            while queue and len(self._in_flight) < most and size < _BATCH_BYTES:
                id_ = next(iter(queue))
                self._in_flight[id_] = queued = queue.pop(id_)
                self._queued_bytes -= queued[1]
                size += queued[1]
        return [recording for recording, _ in self._in_flight.values()]

    def _take_back(self) -> None:
        """A batch was not written: it goes to the head of the queues again, where a newer snapshot takes its place."""
        queues = (self._in_flight, self._open, self._finished)
        self._in_flight, self._open, self._finished, self._queued_bytes = {}, {}, {}, 0
        for queue in queues:
            for id_, queued in queue.items():
                self._enqueue(id_, queued)
        self._shed()

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._next():
                self._turn()
        finally:
            self._close()

    def _next(self) -> bool:
        """Wait for something to do; whether there is."""
        with self._lock:
            if self.failing and not self._stopping:
                self._wake.wait_for(lambda: self._stopping, self._retry)
            elif self.failing:
                self._wake.wait_for(lambda: self._abandoned, _FIRST_RETRY)
            if not (self._open or self._finished or self._stopping or self._hurry):
                self._idle = True
                self._wake.wait_for(lambda: not self._idle or self._stopping or self._hurry, self._until_chores())
                self._idle = False
            if self._open or self._finished:
                self._wake.wait_for(lambda: self._stopping or self._hurry, GATHER)
            self._hurry = False
            more = bool(self._open or self._finished)
            return not self._abandoned and (more or not self._stopping)

    def _turn(self) -> None:
        with self._lock:
            batch = self._take()
        try:
            store = self._opened()
            if batch:
                self._write(store, batch)
                self._said_alive = time.monotonic()
                with self._lock:
                    self._in_flight = {}
                    self._settled.notify_all()
            self._chores(store, len(batch))
        except CountersignError as error:
            self._failed(str(error))
            return
        except Exception as error:  # noqa: BLE001  a thread that ended would lose everything without a word
            self._failed(f"{type(error).__name__}, a defect of countersign, please report it")
            return
        with self._lock:
            well = self._queued_bytes <= self._queue_limit // 2
            lost, losing = self._lost_now(), self._losing
            self._losing = losing and not well
        self.failing = False
        self._retry = _FIRST_RETRY
        if losing:
            self._tell_losing()
        if well and self._told & {Trouble.FAILING, Trouble.LOSING}:
            self._told -= {Trouble.FAILING, Trouble.LOSING}
            self._tell(Trouble.HEALED, f"recordings are written to the store again; {lost} were lost")

    def _write(self, store: Store, batch: Sequence[Recording]) -> None:
        encoded = [one for one in map(self._encoded, batch) if one is not None]
        try:
            store.write(encoded, owner=self._owner)
        except CountersignError:
            raise
        except Exception:  # noqa: BLE001  one of them is not to be had: find out which, and keep the others
            for one in encoded:
                try:
                    store.write([one], owner=self._owner)
                except CountersignError:
                    raise
                except Exception as error:  # noqa: BLE001  a defect of ours is told and never ends the thread
                    self._unwritable(one.row["id"], error)
                else:
                    self._wrote([one])
        else:
            self._wrote(encoded)

    def _encoded(self, recording: Recording) -> Encoded | None:
        try:
            return encode(recording)
        except Exception as error:  # noqa: BLE001  a defect of ours is told and never ends the thread
            self._unwritable(recording.id, error)
            return None

    def _wrote(self, encoded: Sequence[Encoded]) -> None:
        self.written += len(encoded)
        for one in encoded:
            id_ = one.row["id"]
            if one.row["status"] == Status.OPEN:
                self._open_in_store.add(id_)
            else:
                self._open_in_store.discard(id_)
            self._since_check += len(one.row["blob"])

    # -- chores ----------------------------------------------------------------------------------------------------

    def _until_chores(self) -> float | None:
        """Seconds until there is something to do although nothing was submitted."""
        due = []
        if self._pruning or self._store is None:
            return 0.0
        if self._open_in_store:
            due.append(self._said_alive + _HEARTBEAT)
        if self._since_check and self._max_bytes is not None:
            due.append(self._checked + _CHECK_EVERY)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _chores(self, store: Store, written: int) -> None:
        now = time.monotonic()
        if self._open_in_store and now - self._said_alive >= _HEARTBEAT:
            store.touch(self._owner)
            self._said_alive = now
        if self._max_bytes is None:
            return
        due = self._since_check and now - self._checked >= _CHECK_EVERY
        if self._pruning or due or self._since_check >= _CHECK_AFTER_BYTES:
            removed = store.prune_some(max_bytes=self._max_bytes, at_most=max(200, written + written // 8))
            self.pruned += removed
            self._pruning = removed > 0
            self._checked, self._since_check = now, 0

    def _opened(self) -> Store:
        if self._store is None:
            self._store = store = Store.open(self._url)
            store.mark_interrupted()
        return self._store

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    # -- trouble ---------------------------------------------------------------------------------------------------

    def _failed(self, why: str) -> None:
        """Keep what was to be written, begin anew with the store, and say so once."""
        self._close()
        with self._lock:
            self._take_back()
        if self.failing:
            self._retry = min(2 * self._retry, _LAST_RETRY)
        self.failing = True
        if Trouble.FAILING not in self._told:
            self._tell(Trouble.FAILING, f"recordings are not being stored: {why}")
        if self._losing:
            self._tell_losing()

    def _tell_losing(self) -> None:
        if Trouble.LOSING not in self._told:
            self._tell(
                Trouble.LOSING,
                f"recordings are being lost: {self._queue_limit >> 20} MiB of them wait for the store, the limit",
            )

    def _unwritable(self, id_: str, error: Exception) -> None:
        with self._lock:
            self._in_flight.pop(id_, None)  # so that it is not tried, and counted, again
            self._lost_for_good += 1
        kind = f"{Trouble.UNWRITABLE} {type(error).__name__}"
        if kind not in self._told:
            self._told.add(kind)
            self._tell(
                Trouble.UNWRITABLE,
                f"the recording {id_} cannot be stored and is lost ({type(error).__name__}); this is a defect of "
                "countersign, please report it; later ones of the same kind are only counted",
            )

    def _tell(self, kind: Trouble, text: str) -> None:
        if kind in (Trouble.FAILING, Trouble.LOSING):
            self._told.add(kind)
        with self._lock:
            trouble = StoreTrouble(kind, text, lost=self._lost_now(), waiting=self._waiting_now())
        try:
            self._on_error(trouble)
        except Exception:  # noqa: BLE001  whoever listens may fail; writing goes on
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), self._thread)))


def _weigh(recording: Recording) -> int:
    """About how many bytes it takes in memory."""
    size = _RECORDING_OVERHEAD + 500 * len(recording.problems)
    for leg in recording.legs:
        size += _MESSAGE_OVERHEAD * len(leg.messages)
        for message in leg.messages:
            size += len(message.raw)
    return size

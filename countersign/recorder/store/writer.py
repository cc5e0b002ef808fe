"""The thread between the proxy and the store.

The relay hands a snapshot over and goes on; it never waits for a disk and never fails because of one. What it hands
over is committed within a tenth of a second: the thread waits :data:`GATHER` seconds for company, then writes all that
is there in one transaction. A newer snapshot of a session takes the place of an older one that still waits.

When a write fails, everything that waits goes on waiting, the trouble is told once, and the write is tried again, with
the store opened anew, until it succeeds; that is told as well. Meanwhile the queue grows, up to its limit in bytes.
Beyond it something has to go, and it is taken from whoever has most, so that one session cannot cost the others theirs:

1. Recordings of more than :data:`HEAVY` bytes are *thinned*, the heaviest first: the beginning of each leg stays whole,
   what came later keeps lengths and hashes or is counted (:mod:`countersign.recorder.budget`), and a problem on the
   recording says so.
2. Then snapshots of sessions that are still open are dropped: such a session is handed over again when something
   happens in it, and when it ends.
3. Then finished recordings, which are lost for good. Where the store has a snapshot of one, only what came after it is
   dropped: how it ended is kept and written to that snapshot.

Within each step the heavier go first, and of about the same weight the older. :attr:`lost` counts the sessions whose
last state was dropped; a session that is handed over again is not among them any more. :attr:`thinned` counts what was
thinned.

A recording that cannot be written for what is in it (a defect of ours) is dropped, counted and told by its id; the
others are not held up by it.

A thread does not survive a fork: make the writer in the process that uses it.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from countersign.errors import CountersignError
from countersign.recorder.budget import Allowance, Budget, weigh
from countersign.recorder.recording import Recording, Status
from countersign.recorder.store.database import Encoded, Store, encode
from countersign.recorder.store.engine import StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from countersign.recorder.store.owner import Owner

GATHER = 0.05
_HEARTBEAT = 10.0
_CHECK_EVERY = 10.0
_CHECK_AFTER_BYTES = 32 << 20
_BATCH_RECORDINGS = 500
_BATCH_BYTES = 8 << 20
_FIRST_RETRY = 0.1
_LAST_RETRY = 2.0
HEAVY = 1 << 20
"""Bytes in memory of a recording for which no other has to make room: fifty times the usual."""
_THINNED = Allowance(bytes=96 << 10, messages=100)  # of one leg; a handshake as they come fits in
_RECORDING_OVERHEAD = 3_000
_PROBLEM_OVERHEAD = 500
_ENDINGS_KEPT = 10_000


class _Queued(NamedTuple):
    """A snapshot, and about how many bytes it takes in memory."""

    recording: Recording
    weight: int


class _Queue:
    """Snapshots in the order in which their sessions came; the oldest of the heaviest is found at once.

    Weights that differ by less than a factor of two count as the same.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, _Queued] = {}
        self._classes: dict[int, dict[str, None]] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, queued: _Queued) -> None:
        """In its session's place, or at the end when it has none."""
        id_ = queued.recording.id
        before = self._waiting.get(id_)
        if before is not None:
            self._forget(id_, before)
        self._waiting[id_] = queued
        self._classes.setdefault(queued.weight.bit_length(), {})[id_] = None
        self.bytes += queued.weight

    def pop(self, id_: str) -> _Queued | None:
        queued = self._waiting.pop(id_, None)
        if queued is not None:
            self._forget(id_, queued)
        return queued

    def oldest(self) -> str:
        return next(iter(self._waiting))

    def heaviest(self) -> _Queued | None:
        if not self._waiting:
            return None
        return self._waiting[next(iter(self._classes[max(self._classes)]))]

    def take_all(self) -> list[_Queued]:
        """Everything, in order; the queue is empty then."""
        everything = list(self._waiting.values())
        self._waiting, self._classes, self.bytes = {}, {}, 0
        return everything

    def _forget(self, id_: str, queued: _Queued) -> None:
        weighty = self._classes[queued.weight.bit_length()]
        del weighty[id_]
        if not weighty:
            del self._classes[queued.weight.bit_length()]
        self.bytes -= queued.weight


class Trouble(StrEnum):
    """``failing``: writes fail and are tried again. ``thinning``: the queue is full and heavy recordings are thinned.
    ``losing``: that is not enough, and recordings are dropped. ``unwritable``: one recording cannot be written at all.
    ``healed``: writing goes on.
    """

    FAILING = "failing"
    THINNING = "thinning"
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
        self._open = _Queue()
        self._finished = _Queue()
        self._in_flight: dict[str, _Queued] = {}
        self._endings: dict[str, Recording] = {}  # of finished recordings that were dropped, without their legs
        self._dropped_open: set[str] = set()
        self._lost_for_good = 0
        self._thinning = False
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
        self._damaged = False
        self.written = 0
        self.thinned = 0
        self.pruned = 0
        self.failing = False

    # -- for the proxy -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread. It opens the store and marks what the dead left open; trouble goes to ``on_error``."""
        self._thread.start()

    def submit(self, recording: Recording) -> None:
        """Take a snapshot of a session, open or finished; from any thread, without waiting for anything."""
        queued = _Queued(recording, _weigh(recording))
        with self._lock:
            self._enqueue(queued)
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
            return self._settled.wait_for(lambda: not (self._waiting_now() or self._endings), timeout)

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
            for queue in (self._open, self._finished):
                queue.take_all()
            self._in_flight.clear()
        if left:
            self._tell(Trouble.LOSING, f"{left} recordings are lost: they could not be stored before the end")

    # -- the queue; the lock is held -------------------------------------------------------------------------------

    def _lost_now(self) -> int:
        return self._lost_for_good + len(self._dropped_open)

    def _waiting_now(self) -> int:
        return len(self._open) + len(self._finished) + len(self._in_flight)

    @property
    def _queued_bytes(self) -> int:
        return self._open.bytes + self._finished.bytes

    def _enqueue(self, queued: _Queued) -> None:
        """Put a snapshot in its session's place, or at the end when it has none in that queue."""
        finished = queued.recording.outcome.status is not Status.OPEN
        (self._open if finished else self._finished).pop(queued.recording.id)
        (self._finished if finished else self._open).put(queued)

    def _shed(self) -> None:
        while self._queued_bytes > self._queue_limit:
            candidates = (self._open.heaviest(), self._finished.heaviest())
            heavy = max((one for one in candidates if one is not None), key=lambda one: one.weight)
            thin = _thinned(heavy) if heavy.weight >= HEAVY else heavy
            if thin.weight < heavy.weight:
                self._enqueue(thin)
                self.thinned += 1
                self._thinning = True
            else:
                self._drop()

    def _drop(self) -> None:
        dropped = self._open.heaviest() or self._finished.heaviest()
        assert dropped is not None
        id_ = dropped.recording.id
        if self._open.pop(id_):
            self._dropped_open.add(id_)
        else:
            self._finished.pop(id_)
            self._lost_for_good += 1
            if len(self._endings) < _ENDINGS_KEPT and (id_ in self._open_in_store or id_ in self._in_flight):
                self._endings[id_] = replace(dropped.recording, legs=(), problems=(), prelude={}, failures=())
        self._losing = True
        self._settled.notify_all()

    def _take(self) -> list[Recording]:
        """The next batch, now in flight. Open sessions get half of it at most, so that neither kind waits for ever."""
        size = 0
        for queue, most in ((self._open, _BATCH_RECORDINGS // 2), (self._finished, _BATCH_RECORDINGS)):
            while queue and len(self._in_flight) < most and size < _BATCH_BYTES:
                id_ = queue.oldest()
                queued = queue.pop(id_)
                assert queued is not None
                self._in_flight[id_] = queued
                size += queued.weight
        return [queued.recording for queued in self._in_flight.values()]

    def _take_back(self) -> None:
        """A batch was not written: it goes to the head of the queues again, where a newer snapshot takes its place."""
        waiting = [*self._in_flight.values(), *self._open.take_all(), *self._finished.take_all()]
        self._in_flight = {}
        for queued in waiting:
            self._enqueue(queued)
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
            if not (self._open or self._finished or self._endings or self._stopping or self._hurry):
                self._idle = True
                self._wake.wait_for(lambda: not self._idle or self._stopping or self._hurry, self._until_chores())
                self._idle = False
            if self._open or self._finished:
                self._wake.wait_for(lambda: self._stopping or self._hurry, GATHER)
            self._hurry = False
            more = bool(self._open or self._finished or self._endings)
            return not self._abandoned and (more or not self._stopping)

    def _turn(self) -> None:
        with self._lock:
            batch = self._take()
        try:
            store = self._opened()
            if batch:
                self._write(store, batch)
                if any(recording.outcome.status is Status.OPEN for recording in batch):
                    self._said_alive = time.monotonic()
                with self._lock:
                    self._in_flight = {}
                    self._settled.notify_all()
            self._write_endings(store)
            self._chores(store, len(batch))
        except CountersignError as error:
            self._damaged = self._damaged or isinstance(error, StoreDamaged)
            self._failed(str(error))
            return
        except Exception as error:  # noqa: BLE001  a thread that ended would lose everything without a word
            self._failed(f"{type(error).__name__}, a defect of countersign, please report it")
            return
        self.failing = False
        self._retry = _FIRST_RETRY
        self._tell_shedding()
        with self._lock:
            well = self._queued_bytes <= self._queue_limit // 2
            lost = self._lost_now()
            if well:
                self._thinning = self._losing = False
        ill = {Trouble.FAILING, Trouble.THINNING, Trouble.LOSING}
        if well and self._told & ill:
            self._told -= ill
            thinned = f" and {self.thinned} thinned" if self.thinned else ""
            self._tell(Trouble.HEALED, f"recordings are written to the store again; {lost} were lost{thinned}")

    def _write_endings(self, store: Store) -> None:
        """How recordings ended that were dropped, for those that the store has as they were before."""
        with self._lock:
            some = list(self._endings.values())[:_BATCH_RECORDINGS]
        for ending in some:
            store.finish(ending)
            self._open_in_store.discard(ending.id)
        with self._lock:
            for ending in some:
                del self._endings[ending.id]
            self._settled.notify_all()

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
            store = Store.open(self._url)
            try:
                if self._damaged:
                    store.check()
                    self._damaged = False
                store.mark_interrupted()
            except BaseException:
                store.close()
                raise
            self._store = store
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
        self._tell_shedding()

    def _tell_shedding(self) -> None:
        limit = f"{self._queue_limit >> 20} MiB of them wait for the store, the limit"
        if self._thinning and Trouble.THINNING not in self._told:
            self._tell(Trouble.THINNING, f"big recordings are being thinned: {limit}")
        if self._losing and Trouble.LOSING not in self._told:
            self._tell(Trouble.LOSING, f"recordings are being lost: {limit}")

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
        if kind in (Trouble.FAILING, Trouble.THINNING, Trouble.LOSING):
            self._told.add(kind)
        with self._lock:
            trouble = StoreTrouble(kind, text, lost=self._lost_now(), waiting=self._waiting_now())
        try:
            self._on_error(trouble)
        except Exception:  # noqa: BLE001  whoever listens may fail; writing goes on
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), self._thread)))


def _weigh(recording: Recording) -> int:
    """About how many bytes it takes in memory."""
    size = _RECORDING_OVERHEAD + _PROBLEM_OVERHEAD * len(recording.problems)
    size += len(recording.sni or "") + len(recording.target or "") + len(recording.outcome.text)
    if recording.prelude:
        size += 2 * len(str(recording.prelude))
    return size + sum(weigh(leg.messages) for leg in recording.legs)


def _thinned(queued: _Queued) -> _Queued:
    """The recording with less in it, and with a problem that says what is missing."""
    recording = queued.recording
    legs, problems = [], list(recording.problems)
    for leg in recording.legs:
        budget = Budget(_THINNED)
        kept = tuple(message for message in map(budget.take, leg.messages) if message is not None)
        legs.append(replace(leg, messages=kept))
        problem = budget.problem("store.queue", "room for all of it among the recordings that wait for the store")
        if problem is not None:
            problems.append((leg.role, problem))
    thin = replace(recording, legs=tuple(legs), problems=tuple(problems))
    return _Queued(thin, _weigh(thin))

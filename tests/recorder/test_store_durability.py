"""What the store's writer promises: it never holds the proxy up, loses nothing that was handed over in time, and says
so when it does (T34).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from countersign.errors import EnvironmentFault
from countersign.recorder.recording import Leg, LegRole, Recording, Status
from countersign.recorder.store import (
    Owner,
    Store,
    StoreTrouble,
    StoreWriter,
    Trouble,
    writer as writer_module,
)
from countersign.recorder.wire.events import Content, Message, Side
from tests.recorder.store_samples import open_sample, sample
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Owner.current()
GONE = replace(HERE, pid=2**22 + 1)


class Troubles(list[StoreTrouble]):
    """What the proxy was told."""

    def __call__(self, trouble: StoreTrouble) -> None:
        self.append(trouble)

    @property
    def kinds(self) -> list[Trouble]:
        return [trouble.kind for trouble in self]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def told() -> Troubles:
    return Troubles()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait long before a failed write is tried again."""
    monkeypatch.setattr(writer_module, "_FIRST_RETRY", 0.01)
    monkeypatch.setattr(writer_module, "_LAST_RETRY", 0.05)


@contextmanager
def writing(path: Path, told: Callable[[StoreTrouble], None], **settings: Any) -> Iterator[StoreWriter]:
    writer = StoreWriter(path, **{"owner": HERE, "on_error": told, **settings})
    writer.start()
    try:
        yield writer
    finally:
        writer.stop()
        assert not writer._thread.is_alive()


def stored(path: Path) -> dict[str, Recording]:
    store = Store.open(path, create=False)
    try:
        return {one.id: store.get(one.id) for one in store.summaries(limit=None)}
    finally:
        store.close()


class Barred:
    """A store that cannot be written to while it is barred."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.barred = False
        self.attempts = 0
        write = Store.write

        def barred(store: Store, *arguments: Any, **settings: Any) -> None:
            self.attempts += 1
            if self.barred:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                with store._faults("write to"):
                    raise error
            write(store, *arguments, **settings)

        monkeypatch.setattr(Store, "write", barred)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Barred:
    return Barred(monkeypatch)


# -- in good times -------------------------------------------------------------------------------------------------


def test_what_is_submitted_is_stored(path: Path, told: Troubles) -> None:
    everything = {one.id: one for one in (sample(n) for n in range(1200))}
    with writing(path, told) as writer:
        for one in everything.values():
            writer.submit(one)
        assert writer.flush(10)
        assert (writer.written, writer.lost, writer.waiting, writer.failing) == (1200, 0, 0, False)
        assert stored(path) == everything
    assert told == []


def test_stopping_writes_what_is_queued(path: Path, told: Troubles) -> None:
    with writing(path, told) as writer:
        for n in range(50):
            writer.submit(sample(n))
    assert len(stored(path)) == 50
    assert writer.lost == 0


def test_a_recording_is_committed_within_a_tenth_of_a_second(path: Path, told: Troubles) -> None:
    with writing(path, told) as writer:
        writer.submit(sample(0))
        assert writer.flush(5)
        reader = sqlite3.connect(path)
        waits = []
        for n in range(1, 20):
            began = time.monotonic()
            writer.submit(sample(n))
            until(lambda n=n: reader.execute("SELECT count(*) FROM recordings").fetchone()[0] == n + 1)  # type: ignore[misc]
            waits.append(time.monotonic() - began)
            time.sleep(random.uniform(0, 0.05))
        reader.close()
    assert sorted(waits)[len(waits) // 2] < 0.1


def test_a_newer_snapshot_takes_the_place_of_one_that_waits(path: Path, told: Troubles, disk: Barred) -> None:
    disk.barred = True
    with writing(path, told) as writer:
        for step in range(20):
            writer.submit(open_sample(1, step=step))
            time.sleep(0.002)
        writer.submit(sample(1, step=20))
        assert writer.waiting <= 2  # one may be in flight
        disk.barred = False
        assert writer.flush(10)
        assert writer.written == 1
    assert stored(path) == {sample(1).id: sample(1, step=20)}


def test_an_older_snapshot_in_flight_never_covers_a_newer_one(path: Path, told: Troubles, disk: Barred) -> None:
    with writing(path, told) as writer:
        for n in range(200):
            disk.barred = n % 7 < 3
            writer.submit(open_sample(1, step=n))
            time.sleep(0.002)
        disk.barred = False
        assert writer.flush(10)
        assert [one.step for one in stored(path).values()] == [199]
        assert writer.lost == 0


def test_submitting_from_many_threads_loses_nothing(path: Path, told: Troubles) -> None:
    with writing(path, told) as writer:

        def submit(first: int) -> None:
            for n in range(first, first + 100):
                writer.submit(open_sample(n))
                writer.submit(sample(n))

        threads = [threading.Thread(target=submit, args=(100 * k,)) for k in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writer.flush(10)
    assert {one.outcome.status for one in stored(path).values()} == {Status.ESTABLISHED}
    assert len(stored(path)) == 500


def test_starting_marks_what_a_dead_process_left_open(path: Path, told: Troubles) -> None:
    store = Store.open(path)
    store.put([open_sample(1)], owner=GONE)
    store.close()
    with writing(path, told):
        until(lambda: stored_statuses(path) == ["interrupted"])


def stored_statuses(path: Path) -> list[str]:
    with sqlite3.connect(path) as raw:
        found = [row[0] for row in raw.execute("SELECT status FROM recordings")]
    raw.close()
    return found


def test_an_idle_writer_with_open_sessions_says_that_it_lives(
    path: Path, told: Troubles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_HEARTBEAT", 0.02)
    touched: list[Owner] = []
    monkeypatch.setattr(Store, "touch", lambda _, owner: touched.append(owner))
    with writing(path, told) as writer:
        writer.submit(sample(1))
        assert writer.flush(5)
        time.sleep(0.1)
        assert touched == []
        writer.submit(open_sample(2))
        until(lambda: len(touched) > 2)
        assert set(touched) == {HERE}
        writer.submit(sample(2))
        assert writer.flush(5)
        time.sleep(0.05)
        after = len(touched)
        time.sleep(0.1)
        assert len(touched) == after


def test_the_store_is_kept_to_its_size_oldest_first(
    path: Path, told: Troubles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_CHECK_AFTER_BYTES", 100_000)
    limit = 1_000_000
    with writing(path, told, max_bytes=limit) as writer:
        writer.submit(open_sample(0, id="open"))
        for n in range(1, 1001):
            writer.submit(sample(n))
            if n % 100 == 0:
                assert writer.flush(10)
        store = Store.open(path)
        until(lambda: store.used() <= limit)
        assert writer.pruned > 300
        assert writer.lost == 0
        kept = {one.id for one in store.summaries(limit=None)}
        assert kept == {"open", *(sample(n).id for n in range(writer.pruned + 1, 1001))}
        assert path.stat().st_size < 2 * limit  # freed pages are used again
        store.close()
    assert told == []


def test_the_size_is_looked_at_when_nothing_more_comes(
    path: Path, told: Troubles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_CHECK_EVERY", 0.1)
    with writing(path, told, max_bytes=0) as writer:
        writer.submit(sample(1))
        assert writer.flush(5)
        until(lambda: writer.pruned == 1)


# -- in bad times --------------------------------------------------------------------------------------------------


def test_a_failing_store_is_told_once_and_nothing_is_lost_when_it_heals(
    path: Path, told: Troubles, disk: Barred
) -> None:
    with writing(path, told) as writer:
        disk.barred = True
        for n in range(100):
            writer.submit(sample(n))
            time.sleep(0.002)
        until(lambda: disk.attempts > 3)
        assert told.kinds == [Trouble.FAILING]
        assert str(told[0]).startswith("recordings are not being stored: cannot write to the store ")
        assert "the disk is full; free some space" in str(told[0])
        assert writer.failing
        assert not writer.flush(0.05)
        disk.barred = False
        assert writer.flush(10)
        until(lambda: len(told) == 2)
        assert told.kinds == [Trouble.FAILING, Trouble.HEALED]
        assert (writer.failing, writer.lost, writer.waiting) == (False, 0, 0)
        disk.barred = True
        writer.submit(sample(100))
        until(lambda: len(told) == 3)  # another trouble, told anew
        disk.barred = False
        assert writer.flush(10)
    assert len(stored(path)) == 101


def test_submitting_never_waits_and_never_fails(path: Path, told: Troubles) -> None:
    blocker = Store.open(path)
    with writing(path, told) as writer, blocker._writer.begin():  # the store is locked by another
        for n in range(500):
            writer.submit(sample(n))
        assert writer.waiting == 500  # all were taken while nothing could be written
    blocker.close()
    assert len(stored(path)) == 500


def test_a_full_queue_drops_open_sessions_first_then_the_oldest(path: Path, told: Troubles, disk: Barred) -> None:
    weight = writer_module._weigh(sample(0))
    with writing(path, told, queue_limit=10 * weight) as writer:
        disk.barred = True
        writer.submit(sample(0))
        until(lambda: writer.failing)
        for n in range(1, 6):
            writer.submit(sample(n))
        for n in range(10, 14):
            writer.submit(open_sample(n))
        assert (writer.waiting, writer.lost) == (10, 0)
        for n in range(20, 26):
            writer.submit(sample(n))
        assert writer.lost == 6  # the four open ones, and the two oldest
        until(lambda: Trouble.LOSING in told.kinds)
        assert "recordings are being lost" in str(told[1])
        writer.submit(sample(10))  # an open session comes again: it is not lost, but the next oldest is
        assert writer.lost == 6
        disk.barred = False
        assert writer.flush(10)
        until(lambda: told.kinds == [Trouble.FAILING, Trouble.LOSING, Trouble.HEALED])
        assert told[-1].lost == 6
        assert str(told[-1]) == "recordings are written to the store again; 6 were lost"
    assert set(stored(path)) == {sample(n).id for n in (3, 4, 5, 10, 20, 21, 22, 23, 24, 25)}


def heavy(n: int, size: int = 2_000_000, **changes: Any) -> Recording:
    """A session with so many bytes of tickets in it."""
    ticket = Message(0.1, Side.SERVER, Content.HANDSHAKE, 4, True, 50_000, bytes(50_000))
    one = sample(n, **changes)
    server, client = one.legs
    return replace(one, legs=(replace(server, messages=server.messages + (ticket,) * (size // 50_000)), client))


def test_one_huge_recording_is_thinned_and_costs_no_other_its_place(path: Path, told: Troubles, disk: Barred) -> None:
    innocent = [sample(n) for n in range(1, 20)]
    with writing(path, told, queue_limit=4_000_000) as writer:
        disk.barred = True
        writer.submit(sample(0))
        until(lambda: writer.failing)
        for one in innocent:
            writer.submit(one)
        huge = heavy(100, 40_000_000)
        writer.submit(huge)
        assert (writer.waiting, writer.lost, writer.thinned) == (21, 0, 1)
        until(lambda: Trouble.THINNING in told.kinds)
        disk.barred = False
        assert writer.flush(10)
        until(lambda: Trouble.HEALED in told.kinds)
    assert [str(one) for one in told[1:]] == [
        "big recordings are being thinned: 3 MiB of them wait for the store, the limit",
        "recordings are written to the store again; 0 were lost and 1 thinned",
    ]
    found = stored(path)
    assert {one.id: one for one in innocent}.items() <= found.items()
    thin = found[huge.id]
    assert thin.outcome == huge.outcome
    assert [leg.messages[:10] for leg in thin.legs] == [leg.messages[:10] for leg in huge.legs]
    assert {message.sha256 for message in thin.legs[0].messages[10:]} == {huge.legs[0].messages[-1].sha256}
    ((role, problem),) = thin.problems
    assert (role, problem.field) == (LegRole.SERVER, "store.queue")
    cut, counted = 100 - 10 - 1, 800 - 90
    assert problem.got == (
        f"{cut} more of {cut * 50_000} bytes, kept as length and SHA-256; "
        f"{counted} more of {counted * 50_000} bytes, only counted"
    )


def test_the_heavier_go_first_and_the_older_of_about_the_same_weight(path: Path, told: Troubles, disk: Barred) -> None:
    with writing(path, told, queue_limit=1_000_000) as writer:
        disk.barred = True
        writer.submit(sample(0))
        until(lambda: writer.failing)
        for n in range(1, 6):
            writer.submit(sample(n))
        for n in (10, 11, 12):
            writer.submit(heavy(n, 300_000))
        for n in (20, 21):
            writer.submit(heavy(n, 300_000))
        assert (writer.waiting, writer.lost, writer.thinned) == (8, 3, 0)
        disk.barred = False
    assert set(stored(path)) == {sample(n).id for n in (0, 1, 2, 3, 4, 5, 20, 21)} - {sample(10).id}


def test_a_finished_recording_that_was_dropped_ends_as_it_ended(path: Path, told: Troubles, disk: Barred) -> None:
    """What the store has of it is not taken for the remains of a dead process."""
    begun = {n: open_sample(n) for n in range(5)}
    with writing(path, told, queue_limit=300_000) as writer:
        for one in begun.values():
            writer.submit(one)
        assert writer.flush(10)
        disk.barred = True
        writer.submit(sample(100))
        until(lambda: writer.failing)
        ended = {n: sample(n, from_target=123_456) for n in begun}
        for one in ended.values():
            writer.submit(one)
        for n in range(101, 130):
            writer.submit(sample(n))
        assert writer.lost >= 5
        disk.barred = False
        assert writer.flush(10)
        assert writer.lost >= 5
    found = stored(path)
    for n, one in ended.items():
        kept = found[one.id]
        assert (kept.outcome, kept.ended, kept.from_target) == (one.outcome, one.ended, 123_456)
        assert kept.legs == begun[n].legs
        assert [problem.field for _, problem in kept.problems] == ["store.queue"]
    assert {one.outcome.status for one in found.values()} == {Status.ESTABLISHED}


def test_a_stop_with_a_full_queue_writes_every_end(path: Path, told: Troubles) -> None:
    """Sessions that weigh ten times the limit end with the proxy: none of them reads as if it had died."""
    with writing(path, told, queue_limit=8_000_000) as writer:
        for n in range(40):
            writer.submit(heavy(n, ended=None, outcome=open_sample().outcome))
        for n in range(40):
            writer.submit(heavy(n))
    assert writer.lost == 0
    found = stored(path)
    assert len(found) == 40
    assert {one.outcome.status for one in found.values()} == {Status.ESTABLISHED}


@pytest.mark.parametrize("left", [50, 4096, 200_000])
def test_a_store_that_is_cut_in_place_is_noticed_and_left_alone_until_it_is_moved_away(
    path: Path, told: Troubles, left: int
) -> None:
    store = Store.open(path)
    store.put([heavy(n) for n in range(1, 3)], owner=None)
    store.close()
    with writing(path, told) as writer:
        writer.submit(sample(3))
        assert writer.flush(10)
        os.truncate(path, left)
        writer.submit(sample(4))
        until(lambda: told.kinds == [Trouble.FAILING])
        assert f"it is damaged (it was cut to {left} bytes while it was in use); move it away" in str(told[0])
        writer.submit(sample(5))
        time.sleep(0.2)
        assert (writer.failing, writer.lost, writer.waiting) == (True, 0, 2)
        for one in sorted(path.parent.iterdir()):
            one.rename(one.with_name(f"damaged-{one.name}"))
        assert writer.flush(10)
        until(lambda: told.kinds == [Trouble.FAILING, Trouble.HEALED])
    assert set(stored(path)) == {sample(4).id, sample(5).id}


def test_a_store_that_shrinks_by_its_own_doing_is_whole(path: Path, told: Troubles) -> None:
    other = Store.open(path)
    other.put([heavy(n) for n in range(1, 4)], owner=None)
    with writing(path, told) as writer:
        writer.submit(sample(4))
        assert writer.flush(10)
        before = path.stat().st_size
        assert other.prune(older_than=sample(3).started) == 2
        other.close()
        assert path.stat().st_size < before
        writer.submit(sample(5))
        assert writer.flush(10)
    assert told == []


def test_memory_stays_within_the_limit_while_the_store_fails(path: Path, told: Troubles, disk: Barred) -> None:
    disk.barred = True
    big = Message(0.0, Side.CLIENT, Content.HANDSHAKE, 11, False, 200_000, bytes(200_000))
    with writing(path, told, queue_limit=4_000_000) as writer:
        for n in range(200):
            writer.submit(sample(n, legs=(Leg(LegRole.CLIENT, messages=(big,)),)))
            assert writer._queued_bytes <= 4_000_000
        until(lambda: writer.failing)
        assert writer.lost + writer.waiting == 200
        disk.barred = False


def test_a_recording_that_cannot_be_written_is_told_and_holds_nothing_up(path: Path, told: Troubles) -> None:
    unencodable = sample(1, prelude={"kind": b"bytes"})
    unwritable = [sample(n, step=2**80) for n in (2, 3)]
    with writing(path, told) as writer:
        for one in (sample(0), unencodable, *unwritable, sample(4)):
            writer.submit(one)
        assert writer.flush(10)
        assert (writer.written, writer.lost, writer.failing) == (2, 3, False)
    assert set(stored(path)) == {sample(0).id, sample(4).id}
    assert told.kinds == [Trouble.UNWRITABLE] * 2  # once for each kind
    assert f"the recording {unencodable.id} cannot be stored and is lost (TypeError)" in str(told[0])


def test_what_cannot_be_written_is_counted_once_however_often_the_rest_is_tried(
    path: Path, told: Troubles, disk: Barred
) -> None:
    disk.barred = True
    with writing(path, told) as writer:
        writer.submit(sample(1, prelude={"kind": b"bytes"}))
        writer.submit(sample(2))
        until(lambda: disk.attempts > 4)
        disk.barred = False
        assert writer.flush(10)
        assert (writer.written, writer.lost) == (1, 1)


def test_a_defect_of_ours_is_told_and_tried_again(path: Path, told: Troubles, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    mark = Store.mark_interrupted

    def defective(store: Store) -> int:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ZeroDivisionError
        return mark(store)

    monkeypatch.setattr(Store, "mark_interrupted", defective)
    with writing(path, told) as writer:
        writer.submit(sample(1))
        assert writer.flush(10)
        assert "ZeroDivisionError, a defect of countersign" in str(told[0])
    assert len(stored(path)) == 1


def test_room_that_cannot_be_made_is_told_and_loses_nothing(
    path: Path, told: Troubles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_CHECK_AFTER_BYTES", 1)

    def full(store: Store, **_: object) -> int:
        raise EnvironmentFault("cannot prune the store")

    monkeypatch.setattr(Store, "prune_some", full)
    with writing(path, told, max_bytes=1) as writer:
        writer.submit(sample(1))
        assert writer.flush(10)
        until(lambda: told.kinds == [Trouble.FAILING])
        assert (writer.lost, writer.waiting) == (0, 0)
    assert len(stored(path)) == 1


def test_a_listener_that_fails_does_not_end_the_writing(
    path: Path, disk: Barred, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: seen.append(arguments.exc_type))

    def listener(trouble: StoreTrouble) -> None:
        raise RuntimeError(trouble.text)

    with writing(path, listener) as writer:
        disk.barred = True
        writer.submit(sample(1))
        until(lambda: seen == [RuntimeError])
        disk.barred = False
        assert writer.flush(10)


def test_a_store_that_cannot_be_opened_at_first_is_written_when_it_can(path: Path, told: Troubles) -> None:
    path.write_bytes(b"this is no database")
    path.chmod(0o600)
    with writing(path, told) as writer:
        writer.submit(sample(1))
        until(lambda: writer.failing)
        assert "it is damaged" in str(told[0])
        path.rename(path.with_suffix(".damaged"))
        assert writer.flush(10)
    assert stored(path) == {sample(1).id: sample(1)}


def test_a_store_that_is_removed_in_use_is_told_and_begun_anew(path: Path, told: Troubles) -> None:
    with writing(path, told) as writer:
        writer.submit(sample(1))
        assert writer.flush(10)
        for one in path.parent.iterdir():
            one.unlink()
        writer.submit(sample(2))
        assert writer.flush(10)
        assert "was removed or replaced while it was in use" in str(told[0])
        until(lambda: told.kinds == [Trouble.FAILING, Trouble.HEALED])
    assert stored(path) == {sample(2).id: sample(2)}


def test_stopping_while_the_store_fails_ends_in_time_and_counts_what_is_lost(
    path: Path, told: Troubles, disk: Barred
) -> None:
    writer = StoreWriter(path, owner=HERE, on_error=told)
    writer.start()
    disk.barred = True
    for n in range(5):
        writer.submit(sample(n))
    until(lambda: writer.failing)
    began = time.monotonic()
    writer.stop(0.3)
    assert time.monotonic() - began < 10
    assert writer.lost == 5
    assert str(told[-1]) == "5 recordings are lost: they could not be stored before the end"
    writer._thread.join(5)
    assert not writer._thread.is_alive()


def test_stopping_gives_a_failing_store_another_chance(path: Path, told: Troubles, disk: Barred) -> None:
    with writing(path, told) as writer:
        disk.barred = True
        writer.submit(sample(1))
        until(lambda: disk.attempts > 4)
        threading.Timer(0.3, setattr, (disk, "barred", False)).start()
    assert writer.lost == 0
    assert len(stored(path)) == 1


def test_a_writer_that_was_never_started_can_be_stopped(path: Path, told: Troubles) -> None:
    writer = StoreWriter(path, owner=HERE, on_error=told)
    writer.submit(sample(1))
    writer.stop()
    assert writer.lost == 1


# -- each of the first hundred failing -----------------------------------------------------------------------------

FIRST_WRITES = [
    *(pytest.param(n, id=str(n)) for n in (1, 3, 10, 30, 100)),
    *(pytest.param(n, id=str(n), marks=pytest.mark.long) for n in range(1, 101) if n not in (1, 3, 10, 30, 100)),
]


@pytest.mark.parametrize("failing", FIRST_WRITES)
@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC])
def test_a_statement_or_commit_that_fails_loses_nothing(
    path: Path, told: Troubles, monkeypatch: pytest.MonkeyPatch, failing: int, code: int
) -> None:
    """The n-th thing that is asked of SQLite fails, counted from the store's making, and some more after it."""
    asked = 0
    ends = failing + 7
    connect = sqlite3.connect

    def ask() -> None:
        nonlocal asked
        asked += 1
        if failing <= asked < ends:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = code
            error.sqlite_errorname = "SQLITE_IOERR"
            raise error

    class Cursor(sqlite3.Cursor):
        def execute(self, *arguments: Any) -> Any:
            ask()
            return super().execute(*arguments)

        def executemany(self, *arguments: Any) -> Any:
            ask()
            return super().executemany(*arguments)

    class Connection(sqlite3.Connection):
        def cursor(self, *_: Any) -> Any:
            return super().cursor(Cursor)

        def execute(self, *arguments: Any) -> Any:
            ask()
            return super().execute(*arguments)

        def commit(self) -> None:
            ask()
            super().commit()

    monkeypatch.setattr(sqlite3, "connect", lambda *args, **settings: connect(*args, **settings, factory=Connection))
    with writing(path, told) as writer:
        n = 0
        while asked < ends:
            writer.submit(sample(n))
            n += 1
            time.sleep(0.003)
        assert writer.flush(30)
        assert writer.lost == 0
        until(lambda: told.kinds[-1:] == [Trouble.HEALED])
    monkeypatch.undo()
    assert len(stored(path)) == n
    assert integrity(path) == "ok"
    assert Trouble.LOSING not in told.kinds


def integrity(path: Path) -> str:
    with sqlite3.connect(path) as raw:
        found = str(raw.execute("PRAGMA integrity_check").fetchone()[0])
    raw.close()
    return found


LIMITED = """
import json, resource, sys, time
from pathlib import Path
from countersign.recorder.store import Owner, Store, StoreWriter, writer as module
from tests.recorder.store_samples import sample

module._FIRST_RETRY = module._LAST_RETRY = 0.05
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
samples = [sample(n) for n in range(150)]
for pages in json.loads(sys.argv[2]):
    path = Path(sys.argv[1]) / f"{pages}.sqlite"
    told = []
    resource.setrlimit(resource.RLIMIT_FSIZE, (pages * 4096, hard))
    writer = StoreWriter(path, owner=Owner.current(), on_error=told.append)
    writer.start()
    end = time.monotonic() + 20
    while not told and time.monotonic() < end:
        for one in samples:
            writer.submit(one)
        writer.flush(0.05)
    failing = writer.failing
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    flushed = writer.flush(20)
    writer.stop()
    store = Store.open(path)
    print(json.dumps({
        "pages": pages, "failing": failing, "flushed": flushed, "lost": writer.lost, "stored": store.count(),
        "told": [trouble.kind for trouble in told], "text": told[0].text if told else "",
    }), flush=True)
    store.close()
"""


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param([1, 4, 20, 60, 100], id="some"),
        pytest.param(list(range(1, 101)), id="all", marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)
def test_a_file_that_may_not_grow_loses_nothing(tmp_path: Path, pages: list[int]) -> None:
    """A write that really fails, at each of the first places in the store's files (RLIMIT_FSIZE)."""
    import json

    done = python(LIMITED, str(tmp_path), json.dumps(pages))
    results = [json.loads(line) for line in done.splitlines()]
    assert [result["pages"] for result in results] == pages
    for result in results:
        assert result["failing"], result
        assert result["flushed"], result
        assert (result["lost"], result["stored"]) == (0, 150), result
        assert result["told"] == ["failing", "healed"], result
        assert integrity(tmp_path / f"{result['pages']}.sqlite") == "ok"


def python(script: str, *arguments: str, before: tuple[str, ...] = ()) -> str:
    """What the script prints; it can import what this test can."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}"}
    command = [*before, sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


FULL_DISK = """
import os, sys, time
from pathlib import Path
from countersign.recorder.store import Owner, Store, StoreWriter
from tests.recorder.store_samples import sample

disk = Path(sys.argv[1])
filler = disk / "filler"
told = []
writer = StoreWriter(disk / "store.sqlite", owner=Owner.current(), on_error=told.append, queue_limit=1 << 20)
writer.start()
writer.submit(sample(0))
assert writer.flush(10)
with filler.open("wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
n, end = 0, time.monotonic() + 20
while not writer.lost and time.monotonic() < end:
    n += 1
    writer.submit(sample(n))
    time.sleep(0.001)
lost_then = writer.lost
assert writer.failing and lost_then, told
filler.unlink()
assert writer.flush(20)
writer.submit(sample(n + 1))
writer.stop()
assert not writer.failing and writer.lost == lost_then, told
store = Store.open(disk / "store.sqlite")
assert store.count() == n + 2 - lost_then, (store.count(), n, lost_then)
assert store.get(sample(0).id) == sample(0)
store.close()
for trouble in told:
    print(trouble.kind, trouble.lost, trouble.text)
"""


def test_a_full_disk_is_told_counted_and_healed(tmp_path: Path) -> None:
    private = (
        "unshare",
        "-m",
        "--",
        "sh",
        "-c",
        'mount -t tmpfs -o size=8m,mode=700 tmpfs "$0" && exec "$@"',
        str(tmp_path),
    )
    if not shutil.which("unshare") or subprocess.run([*private, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs a mount namespace of its own (root)")
    said = python(FULL_DISK, str(tmp_path), before=private).splitlines()
    assert [line.split()[0] for line in said] == ["failing", "losing", "healed"]
    assert "the disk is full; free some space" in said[0]


# -- kills ---------------------------------------------------------------------------------------------------------

LATE = 0.25
"""What happened this long before a kill is in the store."""


def proxy_until_killed(path: Path, log: Path, label: str) -> None:
    """Ten sessions at a time, each handed over as it goes on; what was handed over is noted with the time."""
    note = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def told(trouble: StoreTrouble) -> None:
        os.write(note, f"! {trouble}\n".encode())

    writer = StoreWriter(path, owner=Owner.current(), on_error=told)
    template = sample(0)
    ongoing = open_sample(0)
    writer.start()
    for turn in range(1_000_000):
        for k in range(10):
            state = turn % 5  # open four times, then finished
            one = replace(
                template if state == 4 else ongoing,
                id=f"{label}-{turn // 5}-{k}",
                label=label,
                from_client=state,
                started=datetime.now(UTC),
            )
            writer.submit(one)
            os.write(note, f"{one.id} {state} {time.monotonic()}\n".encode())
        time.sleep(0.004)


FORKS = """
import contextlib, os, sys
from pathlib import Path
from tests.recorder.test_store_durability import proxy_until_killed
with contextlib.suppress(PermissionError):
    os.nice(-15)
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        path, log, label = line.rstrip().split("\\t")
        proxy_until_killed(Path(path), Path(log), label)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    next(sys.stdin)
    print("gone", flush=True)
"""


@pytest.fixture
def proxies() -> Iterator[Callable[[str], str]]:
    """A process that forks one proxy after the other, for to start one takes longer than it lives.

    Where it may, it goes before others to the CPU: whoever gets none cannot store anything in time.
    """
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", FORKS],
        env={**os.environ, "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        questions, answers = process.stdin, process.stdout
        assert questions is not None
        assert answers is not None

        def ask(line: str) -> str:
            questions.write(line + "\n")
            questions.flush()
            return answers.readline().strip()

        yield ask
        questions.close()
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(50, id="50"),
        pytest.param(1000, id="1000", marks=[pytest.mark.long, pytest.mark.timeout(1200)]),
    ],
)
def test_no_kill_loses_what_was_handed_over_in_time(
    path: Path, tmp_path: Path, proxies: Callable[[str], str], kills: int
) -> None:
    rng = random.Random(kills)
    interrupted = checked = 0
    slowest = 0.0
    for n in range(kills):
        label, log = f"round{n}", tmp_path / f"{n}.log"
        pid = int(proxies(f"{path}\t{log}\t{label}"))
        if n % 10:  # some die while they make or open the store
            until(lambda log=log: log.exists() and log.stat().st_size > 0)  # type: ignore[misc]
        time.sleep(rng.uniform(0, 0.4))
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        assert proxies("") == "gone"

        began = time.monotonic()
        store = Store.open(path)
        slowest = max(slowest, time.monotonic() - began)
        interrupted += store.mark_interrupted()
        found = {one.id: one for one in store.summaries(label=label, limit=None)}
        store.close()
        assert all(one.outcome.status is not Status.OPEN for one in found.values())
        for id_, state in handed_over(log, killed - LATE).items():
            assert id_ in found, (label, id_)
            assert found[id_].from_client >= state, (label, id_)
            checked += 1
        log.unlink(missing_ok=True)
    assert slowest < 1
    assert checked > 5 * kills
    assert interrupted > kills
    assert integrity(path) == "ok"
    store = Store.open(path)
    for one in store.summaries(limit=200):
        store.get(one.id)
    store.close()


def handed_over(log: Path, until: float) -> dict[str, int]:
    """What had been handed over by then. When the process itself was kept waiting for the CPU, that long before."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    assert not [line for line in lines if line[0] == "!"]
    times = [float(time_) for _, _, time_ in lines]
    stalls = [later - earlier for earlier, later in pairwise(times)]
    until -= max((stall for stall in stalls if stall > 0.05), default=0.0)
    return {id_: int(state) for id_, state, time_ in lines if float(time_) <= until}


def test_restart_is_quick_after_a_kill_with_a_long_log(path: Path) -> None:
    """The write-ahead log is as long as it gets, and was never folded in."""
    script = """
import os, signal, sys
from countersign.recorder.store import Owner, Store
from tests.recorder.store_samples import sample
store = Store.open(sys.argv[1])
for n in range(0, 3000, 100):
    store.put([sample(m) for m in range(n, n + 100)], owner=Owner.current())
print(os.path.getsize(sys.argv[1] + "-wal"), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env={**os.environ, "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert int(done.stdout) > 1_000_000
    began = time.process_time()
    store = Store.open(path)
    assert store.count() == 3000
    assert time.process_time() - began < 1
    store.close()

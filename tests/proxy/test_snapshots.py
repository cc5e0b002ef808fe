"""Snapshots cost no more than they are worth: big sessions are handed over less often, and nobody waits for them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from countersign.proxy import Action, Engine, Settings
from countersign.proxy.session import Session
from countersign.recorder.recording import LegRole, Recording, Status
from countersign.recorder.wire.events import Content, Message, Side
from tests.proxy.running import AUTHORITY, Kept, RunningProxy
from tests.proxy.wire import Target, client_hello, connect, in_records, silent
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.proxy import Address


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Client:
    """A stream of which a session needs only who is there."""

    received = 0

    def peer(self) -> str:
        return "127.0.0.1:1"

    def peer_host(self) -> str:
        return "127.0.0.1"


def ticket(size: int) -> Message:
    return Message(0.1, Side.SERVER, Content.HANDSHAKE, 4, True, size, bytes(size))


def snapshots_in(seconds: float, size: int) -> int:
    """How many snapshots are taken, looked for every tenth of a second, of a session of this size that never rests."""
    from countersign.proxy.settings import Address

    clock = Clock()
    settings = Settings(listen=Address("127.0.0.1", 0), target=Address("127.0.0.1", 1))
    means = {
        "settings": settings,
        "monotonic": clock,
        "now": lambda: datetime.now(UTC),
        "pool": None,
        "policy": None,
        "arriving": lambda _client: settings.orders,
        "conduct": lambda _orders: None,
    }
    engine: Any = type("Means", (), means)
    session = Session(engine, Client())  # type: ignore[arg-type]
    session.recording.add(LegRole.SERVER, [ticket(size // 40)] * 40)
    taken = 0
    for _ in range(round(seconds * 10)):
        clock.now += 0.1
        session.recording.changed = True
        if session.due:
            session.snapshot()
            taken += 1
    return taken


@pytest.mark.parametrize("size", [4_000, 100_000])
def test_usual_sessions_are_handed_over_every_tenth_of_a_second(size: int) -> None:
    assert snapshots_in(10, size) == 100


def test_what_a_session_holds_is_written_at_most_at_a_few_megabytes_a_second() -> None:
    for size in (1_000_000, 2_000_000):
        assert snapshots_in(100, size) * size < 100 * 3_000_000
    assert snapshots_in(10, 500_000) >= 40  # what happened is handed over within a quarter of a second


def test_a_session_that_has_nothing_new_is_not_handed_over() -> None:
    with Target(silent) as target, RunningProxy(target=target.address) as proxy, connect(proxy) as connection:
        connection.sendall(in_records(client_hello())[:20])
        (session,) = _sessions(proxy)
        until(lambda: proxy.kept.snapshots and proxy.kept.snapshots[-1].from_client == 20)
        assert not session.due


def _sessions(proxy: RunningProxy) -> list[Session]:
    until(lambda: proxy.engine.open_sessions)
    return list(proxy.engine._sessions.values())


class Watching(Kept):
    """Notes how many turns the event loop has made before each snapshot, and when so many were seen."""

    def __init__(self, *, snapshots: int = 0, finished: int = 0) -> None:
        super().__init__()
        self.turns = 0
        self.at: list[int] = []
        self.order: list[Recording] = []
        self.seen = asyncio.Event()
        self._wanted = (snapshots, finished)

    def submit(self, recording: Recording) -> None:
        super().submit(recording)
        self.order.append(recording)
        if recording.outcome.status is Status.OPEN:
            self.at.append(self.turns)
        if len(self.snapshots) >= self._wanted[0] and len(self.finished) >= self._wanted[1]:
            self.seen.set()

    async def count(self) -> None:
        while True:
            self.turns += 1
            await asyncio.sleep(0)


@pytest.fixture
def address() -> Iterator[Address]:
    with Target(silent) as running:
        yield running.address


async def begun(engine: Engine, count: int) -> list[asyncio.StreamWriter]:
    """Clients that have sent the beginning of a hello."""
    writers = []
    for _ in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", engine.ports[0])
        writer.write(b"\x16\3\1")
        writers.append(writer)
    return writers


async def test_between_two_snapshots_all_others_have_their_turn(address: Address) -> None:
    keeper = Watching(snapshots=20)
    counting = asyncio.create_task(keeper.count())
    settings = Settings(listen=_anywhere(), target=address, action=Action.PASSTHROUGH)
    try:
        async with Engine(settings, AUTHORITY, keeper) as engine:
            writers = await begun(engine, 20)
            await asyncio.wait_for(keeper.seen.wait(), 10)
            for writer in writers:
                writer.close()
    finally:
        counting.cancel()
    assert len(set(keeper.at)) == len(keeper.at)


async def test_a_session_that_ended_while_others_had_their_turn_is_not_opened_again(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot behind the finished recording would take its place in the store."""
    keeper = Watching(finished=5)
    settings = Settings(listen=_anywhere(), target=address, action=Action.PASSTHROUGH)
    async with Engine(settings, AUTHORITY, keeper) as engine:
        snapshot = Session.snapshot

        def ends_all(self: Session) -> Recording:
            for task in engine._sessions:
                task.cancel()
            return snapshot(self)

        monkeypatch.setattr(Session, "snapshot", ends_all)
        writers = await begun(engine, 5)
        await asyncio.wait_for(keeper.seen.wait(), 10)
        for writer in writers:
            writer.close()
    last = {recording.id: recording.outcome.status for recording in keeper.order}
    assert list(last.values()) == [Status.INTERRUPTED] * 5


def _anywhere() -> Address:
    from countersign.proxy import Address

    return Address("127.0.0.1", 0)

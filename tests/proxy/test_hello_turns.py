"""A flood of ClientHellos in tiny records costs all others no more than a slice in each turn of the loop (T13, T25)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from countersign.proxy.sniff import Sniffer
from countersign.proxy.turns import Turns
from tests.proxy.running import RunningProxy
from tests.proxy.wire import Target, ask, client_hello, connect, echo, in_records, rest, server_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from tests.peers.certs import Lab

FLOOD = 40


class Ticks:
    """Counts the turns of a loop until it is told to end."""

    def __init__(self) -> None:
        self.now = 0
        self._on = True

    def begin(self) -> None:
        self.now += 1
        if self._on:
            asyncio.get_running_loop().call_soon(self.begin)

    def end(self) -> None:
        self._on = False


async def test_who_waits_gets_a_turn_each_in_order_and_who_was_cancelled_takes_none() -> None:
    turns, ticks = Turns(), Ticks()
    order: list[tuple[int, int]] = []
    ticks.begin()

    async def work(name: int) -> None:
        await turns.mine()
        order.append((name, ticks.now))

    tasks = [asyncio.create_task(work(name)) for name in range(6)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    await asyncio.wait(tasks)
    ticks.end()
    assert [name for name, _ in order] == [0, 1, 3, 4, 5]
    assert [later[1] - earlier[1] for earlier, later in pairwise(order)] == [1] * 4


@contextlib.contextmanager
def flooded(proxy: RunningProxy) -> Iterator[list[socket.socket]]:
    """Connections that have each sent a ClientHello in records of a byte."""
    hello = in_records(client_hello(padding=2000), size=1)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(proxy)) for _ in range(FLOOD)]
        for connection in connections:
            connection.sendall(hello)
        yield connections


def test_a_flood_of_tiny_records_is_read_one_slice_a_turn(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    slices: list[tuple[int, bool, int]] = []  # the turn, whether it is the first of its connection, its size
    ticks, receive = Ticks(), Sniffer._receive

    def noted(self: Sniffer, t: float, data: bytes) -> object:
        slices.append((ticks.now, not self._size, len(data)))
        return receive(self, t, data)

    monkeypatch.setattr(Sniffer, "_receive", noted)
    with (
        Target(echo(server_context(lab.server))) as target,
        RunningProxy(target=target.address, verify=False) as proxy,
    ):
        proxy.run(begun(ticks))
        with flooded(proxy) as connections:
            assert ask(proxy) == b"good morning\n"
            for connection in connections:
                assert connection.recv(1)  # the ServerHello: each hello was read to its end
        ticks.end()
    costly = [one for one in slices if not one[1] and one[2] > 5]
    assert len(costly) > FLOOD * 20
    assert max(Counter(turn for turn, _, _ in costly).values()) == 1
    assert max(size for _, _, size in slices) <= 8 * 1024
    assert max(size for _, first, size in slices if first) <= 512


async def begun(ticks: Ticks) -> None:
    ticks.begin()


def test_a_hello_in_few_records_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_self: Turns) -> None:
        raise AssertionError("an honest client was made to wait")

    monkeypatch.setattr(Turns, "mine", never)
    with RunningProxy() as proxy:
        for padding in (0, 2000, 15000, 40000):
            with connect(proxy) as connection:
                connection.sendall(in_records(client_hello(padding=padding)))
                assert connection.recv(1) == b"\x16"
                connection.shutdown(socket.SHUT_WR)
                rest(connection)

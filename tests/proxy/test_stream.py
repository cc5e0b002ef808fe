"""One TCP connection as the engine has it."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest

from countersign.proxy.faults.effects import Close, Finish, Reset, Send
from countersign.proxy.stream import ReceiveBuffer, Sink, Stream
from countersign.recorder.recording import Ending

if TYPE_CHECKING:
    from countersign.proxy.faults.effects import Effect


@pytest.mark.parametrize("lane", [False, True], ids=["straight", "through a lane"])
async def test_what_is_written_behind_our_own_end_is_dropped_and_no_fault(lane: bool) -> None:  # noqa: FBT001
    near, far = socket.socketpair()
    with near, far:
        _, stream = await asyncio.get_running_loop().create_connection(lambda: Stream(ReceiveBuffer(4096)), sock=near)
        if lane:
            stream.perform(())
        stream.write(b"before")
        stream.finish()
        stream.write(b"behind")
        far.setblocking(False)
        heard = b""
        while piece := await asyncio.get_running_loop().sock_recv(far, 100):
            heard += piece
        stream.abort()
    assert heard == b"before"


@pytest.mark.parametrize(("order", "inward", "how"), [(Reset(), True, Ending.RESET), (Close(), False, Ending.STOPPED)])
async def test_who_is_poured_into_hears_what_an_order_has_ended_before(
    order: Effect,
    inward: bool,  # noqa: FBT001
    how: Ending,
) -> None:
    """Or a relay would wait for that end until nothing has moved for too long."""
    near, far = socket.socketpair()
    with near, far:
        _, stream = await asyncio.get_running_loop().create_connection(lambda: Stream(ReceiveBuffer(4096)), sock=near)
        (stream.take_in if inward else stream.perform)((Send(b"said"), order))
        sink = Mock(spec=Sink)
        stream.pour_into(sink)
        sink.ended.assert_called_once_with(how)
        stream.abort()
        await stream.closed


async def test_what_comes_through_a_lane_while_earlier_bytes_wait_is_poured_behind_them() -> None:
    near, far = socket.socketpair()
    with near, far:
        _, stream = await asyncio.get_running_loop().create_connection(lambda: Stream(ReceiveBuffer(4096)), sock=near)
        heard = bytearray()
        sink = Mock(spec=Sink, data=heard.extend)
        stream.take_in((Send(b"a" * 10_000),))  # more than one bite
        stream.pour_into(sink)
        stream.take_in((Send(b"b"), Finish()))
        for _ in range(10):
            await asyncio.sleep(0)
        assert heard == b"a" * 10_000 + b"b"
        sink.ended.assert_called_once_with(Ending.FIN)
        stream.abort()
        await stream.closed


@pytest.mark.parametrize("step", ["data", "ended"])
async def test_a_fault_of_ours_in_what_is_poured_is_told_to_the_sink(step: str) -> None:
    near, far = socket.socketpair()
    with near:
        _, stream = await asyncio.get_running_loop().create_connection(lambda: Stream(ReceiveBuffer(4096)), sock=near)
        fault, told = ValueError(step), asyncio.get_running_loop().create_future()
        sink = Mock(spec=Sink, crashed=told.set_result, **{f"{step}.side_effect": fault})
        stream.pour_into(sink)
        far.sendall(b"said")
        far.close()
        assert await asyncio.wait_for(told, 30) is fault
        stream.abort()
        await stream.closed

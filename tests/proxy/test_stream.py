"""One TCP connection as the engine has it."""

from __future__ import annotations

import asyncio
import socket

import pytest

from countersign.proxy.stream import Stream


@pytest.mark.parametrize("lane", [False, True], ids=["straight", "through a lane"])
async def test_what_is_written_behind_our_own_end_is_dropped_and_no_fault(lane: bool) -> None:  # noqa: FBT001
    near, far = socket.socketpair()
    with near, far:
        _, stream = await asyncio.get_running_loop().create_connection(lambda: Stream(bytearray(4096)), sock=near)
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

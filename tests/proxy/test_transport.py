"""Our transport between the event loop and a stream: what asyncio's own does, it does as well."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest

from countersign.proxy import Address
from countersign.proxy.stream import ReceiveBuffer, Stream
from countersign.proxy.transport import SocketTransport
from countersign.recorder.recording import Ending, FailureCode
from tests.proxy.running import RunningProxy
from tests.proxy.wire import reset

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_MUCH = bytes(range(256)) * (1 << 16)  # 16 MB, more than any socket takes at once


@contextlib.asynccontextmanager
async def pair(kind: type[Stream] = Stream) -> AsyncIterator[tuple[Stream, socket.socket]]:
    """A stream of ours, and the bare socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    far.setblocking(False)
    stream = SocketTransport.begin(kind(ReceiveBuffer(4096)), near)
    with far:
        yield stream, far
        stream.abort()
        await stream.closed


async def heard(far: socket.socket) -> bytes:
    """All that comes, to its end."""
    got = bytearray()
    while piece := await asyncio.get_running_loop().sock_recv(far, 1 << 20):
        got += piece
    return bytes(got)


async def said(stream: Stream) -> bytes:
    got = bytearray()
    while piece := await stream.read():
        got += piece
    return bytes(got)


async def test_what_waits_for_a_slow_reader_comes_whole_before_the_end() -> None:
    async with pair() as (stream, far):
        stream.write(_MUCH)
        assert stream.full
        waiting = asyncio.create_task(stream.drained())
        stream.finish()
        assert await heard(far) == _MUCH
        await waiting
        assert not stream.full
        far.sendall(b"and back")
        far.shutdown(socket.SHUT_WR)
        assert await said(stream) == b"and back"
        assert stream.ending is Ending.FIN


async def test_closed_it_sends_what_waits_and_then_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("countersign.proxy.stream._LINGER", 60.0)
    async with pair() as (stream, far):
        stream.write(_MUCH)
        far.shutdown(socket.SHUT_WR)
        await said(stream)
        stream.close()
        assert not stream.closed.done()
        assert await heard(far) == _MUCH
        await stream.closed


class _LeavesWhenFree(Stream):
    """What an order does that stood behind bytes for which there was no room."""

    def resume_writing(self) -> None:
        super().resume_writing()
        self.abort()


async def test_ended_in_the_moment_of_room_it_leaves_nothing_on_the_loop() -> None:
    """Or whoever has its number next could not be put on the loop."""
    loop = asyncio.get_running_loop()
    async with pair(_LeavesWhenFree) as (stream, far):
        transport = stream._transport
        assert transport is not None
        number = transport.get_extra_info("socket").fileno()
        stream.write(_MUCH)
        with contextlib.suppress(ConnectionResetError):
            await heard(far)
        await stream.closed
        assert not loop.remove_writer(number)
        assert not loop.remove_reader(number)


async def test_aborted_with_bytes_that_wait_it_leaves_nothing_on_the_loop() -> None:
    loop = asyncio.get_running_loop()
    async with pair() as (stream, _):
        transport = stream._transport
        assert transport is not None
        number = transport.get_extra_info("socket").fileno()
        stream.write(_MUCH)
        stream.abort()
        assert not loop.remove_writer(number)
        assert not loop.remove_reader(number)


async def test_paused_it_reads_nothing_and_resumed_all() -> None:
    async with pair() as (stream, far):
        stream.pause()
        far.sendall(b"first")
        for _ in range(5):
            await asyncio.sleep(0)
        assert stream.received == 0
        stream.resume()
        assert await stream.read() == b"first"


async def test_a_reset_of_the_peer_is_told_as_one() -> None:
    async with pair() as (stream, far):
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        far.close()
        assert await said(stream) == b""
        assert stream.ending is Ending.RESET
        await stream.closed


def test_a_client_that_has_reset_before_it_is_accepted_is_known_by_its_address() -> None:
    async def come_and_go() -> str:
        client = socket.create_connection(proxy.address)
        name = "{}:{}".format(*client.getsockname())
        reset(client)
        return name

    allowed = (ip_network("127.0.0.0/8"),)
    with RunningProxy(target=Address("127.0.0.1", 9), allow=allowed, verify=False) as proxy:
        name = proxy.run(come_and_go())  # while it does not accept
        recording = proxy.recording()
    assert recording.client == name
    assert [failure.code for failure in recording.failures] == [FailureCode.NO_HELLO]


async def test_reading_has_an_end_where_nothing_comes() -> None:
    async with pair() as (stream, far):
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            await stream.read(until=loop.time() + 0.01)
        far.sendall(b"late")
        assert await stream.read(until=loop.time() + 60) == b"late"


class _Faulty(Stream):
    def buffer_updated(self, nbytes: int) -> None:
        raise RuntimeError(f"{nbytes} bytes are too many")


async def test_a_fault_of_ours_is_told_and_ends_the_connection() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    async with pair(_Faulty) as (stream, far):
        far.sendall(b"abc")
        await stream.closed
        assert stream.ending is Ending.RESET
    assert [str(context["exception"]) for context in told] == ["3 bytes are too many"]

"""Nobody's bytes hold up the others: turns are short, order is kept, and who takes no answer is not read on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from OpenSSL import SSL

from countersign.proxy import Action
from countersign.proxy.stream import RECEIVE_BUFFER, ReceiveBuffer, Stream
from countersign.recorder.recording import Ending, LegRole, Party, Status
from countersign.recorder.wire.events import Content, Side
from tests.proxy.lag import watched
from tests.proxy.running import RunningProxy
from tests.proxy.test_hostile import _sealing, small
from tests.proxy.wire import Target, client_context, client_hello, connect, echo, in_records, reset, server_context, tls
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.peers.certs import Lab

UPDATE, UPDATE_AND_ANSWER = b"\x18\0\0\1\0", b"\x18\0\0\1\1"  # RFC 8446 4.6.3


# -- a stream and its sink ---------------------------------------------------------------------------------------


class Slow:
    """A sink whose work on each bite takes ``seconds``."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.bites: list[bytes] = []
        self.ends: list[Ending] = []
        self.over = asyncio.Event()

    def data(self, chunk: memoryview) -> None:
        self.bites.append(bytes(chunk))
        time.sleep(self.seconds)

    def ended(self, how: Ending) -> None:
        self.ends.append(how)
        self.over.set()

    def room(self, *, free: bool) -> None:
        """Nothing is sent."""

    def crashed(self, error: Exception) -> None:
        raise error


async def streams() -> tuple[Stream, socket.socket]:
    """A stream, and the other end of its connection."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = Stream(ReceiveBuffer())
    await asyncio.get_running_loop().connect_accepted_socket(lambda: stream, ours)
    return stream, theirs


def numbered(count: int) -> bytes:
    return b"".join(number.to_bytes(4) for number in range(count // 4))


async def test_a_slow_sink_gets_smaller_bites_and_a_quick_one_larger_ones() -> None:
    sent = numbered(80_000)
    for seconds, at_most, at_least in ((0.01, 8 * 1024, 0), (0.0, RECEIVE_BUFFER, 32 * 1024)):
        stream, theirs = await streams()
        sink = Slow(seconds)
        stream.pour_into(sink)
        sending = threading.Thread(target=lambda theirs=theirs: (theirs.sendall(sent), theirs.close()))
        sending.start()
        async with asyncio.timeout(30):
            await sink.over.wait()
        sending.join()
        sizes = [len(bite) for bite in sink.bites]
        assert b"".join(sink.bites) == sent
        assert max(sizes) <= at_most
        assert max(sizes) >= at_least
        if seconds:
            assert sizes[10:-1]
            assert max(sizes[10:]) <= 512
        stream.close()


async def test_what_waited_is_given_in_bites_and_the_end_comes_after_it() -> None:
    stream, theirs = await streams()
    sent = numbered(100_000)
    theirs.sendall(sent)
    theirs.shutdown(socket.SHUT_WR)
    ended = asyncio.Event()
    stream.on_end = ended.set
    async with asyncio.timeout(10):
        await ended.wait()
    sink = Slow()
    ticks = 0
    stream.pour_into(sink)
    assert len(sink.bites) == 1
    assert not sink.ends
    while not sink.ends:
        ticks += 1
        await asyncio.sleep(0)
    assert b"".join(sink.bites) == sent
    assert sink.ends == [Ending.FIN]
    assert ticks >= len(sink.bites) > 3  # the loop turned between two bites
    theirs.close()
    stream.close()


async def test_what_waits_is_given_only_while_the_sink_wants_it() -> None:
    stream, theirs = await streams()
    sent = numbered(60_000)
    theirs.sendall(sent)
    await asyncio.sleep(0.05)
    sink = Slow()
    stream.pour_into(sink)
    stream.pause()
    theirs.sendall(b"more")
    theirs.close()
    await asyncio.sleep(0.05)
    assert len(sink.bites) == 1
    assert not sink.ends
    stream.resume()
    async with asyncio.timeout(10):
        await sink.over.wait()
    assert b"".join(sink.bites) == sent + b"more"
    assert sink.ends == [Ending.FIN]
    stream.close()


async def test_two_bites_that_are_read_leave_the_loop_a_turn_between_them() -> None:
    stream, theirs = await streams()
    theirs.sendall(numbered(50_000))
    await asyncio.sleep(0.05)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    got = b""
    while len(got) < 50_000:
        got += await stream.read()
    other.cancel()
    assert got == numbered(50_000)
    assert turns >= 5
    theirs.close()
    stream.close()


@pytest.mark.parametrize("how", ["read", "abort", "close", "peer resets"])
async def test_who_waits_for_room_is_told_when_there_is_some_or_never_will_be(how: str) -> None:
    stream, theirs = await streams()
    theirs.setblocking(False)
    stream.write(numbered(8_000_000))
    assert stream.full
    waiting = asyncio.create_task(stream.drained())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    async with asyncio.timeout(5):
        if how == "read":
            while not waiting.done():
                await asyncio.get_running_loop().sock_recv(theirs, 1 << 20)
        elif how == "peer resets":
            theirs.close()
        else:
            (stream.abort if how == "abort" else stream.close)()
        await waiting
    assert stream.gone or not stream.full
    stream.abort()
    theirs.close()


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_a_stream_that_we_have_ended_takes_no_sink(how: str) -> None:
    """What comes of it later is our own doing and no end of the peer's."""
    stream, theirs = await streams()
    theirs.sendall(b"waiting")
    await asyncio.sleep(0.01)
    (stream.abort if how == "abort" else stream.close)()
    sink = Slow()
    stream.pour_into(sink)
    theirs.close()
    async with asyncio.timeout(5):
        await stream.closed
    assert (sink.bites, sink.ends) == ([], [])


def test_a_client_that_resets_before_the_relay_begins_is_not_taken_for_the_target(lab: Lab) -> None:
    """Its end aborts the target's stream, whose own end is then nobody's."""
    with (
        Target(echo(server_context(lab.server))) as target,
        RunningProxy(target=target.address, action=Action.PASSTHROUGH) as proxy,
    ):
        for _ in range(20):
            connection = connect(proxy)
            connection.sendall(in_records(client_hello()))
            reset(connection)
        recordings = proxy.recordings(20)
    for recording in recordings:
        assert not [end for leg in recording.legs for end in leg.ends if end.sender is Side.SERVER], recording.legs
        assert not [failure for failure in recording.failures if failure.code == "internal"]


# -- floods (T15) ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["updates", "updates that want an answer", "a byte a record", "tickets"])
def test_a_flood_under_encryption_holds_up_nobody(
    lab: Lab, tmp_path: Path, kind: str, scaled: Callable[[int], int]
) -> None:
    count = scaled(100_000)
    with Target(echo(server_context(lab.server))) as target, RunningProxy(target=target.address, verify=False) as proxy:
        client, sealer = _sealing(proxy, tmp_path)
        flood = bytearray()
        for _ in range(count):
            if kind == "a byte a record":
                flood += sealer.seal(23, b"x")
            elif kind == "tickets":  # which a client may not send: the first one ends it
                flood += sealer.seal(22, b"\4\0\0\x0c" + bytes(12))
            else:
                flood += sealer.seal(22, UPDATE if kind == "updates" else UPDATE_AND_ANSWER)
                sealer.update()
        sending = bytes(flood) + sealer.seal(23, b".")
        reader = threading.Thread(target=_swallow, args=(client.connection,))
        with watched(proxy) as lag:
            reader.start()
            with contextlib.suppress(OSError):
                client.connection.sendall(sending)
                client.connection.shutdown(socket.SHUT_WR)
            reader.join(60)
            recording = proxy.recording(60)
        client.close()
    assert lag.longest < 0.25
    assert not [failure for failure in recording.failures if failure.code == "internal"]
    if kind == "tickets":
        assert recording.outcome.broken_by is Party.CLIENT
    else:
        leg = recording.leg(LegRole.CLIENT)
        assert leg is not None
        assert recording.outcome.status is Status.ESTABLISHED
        assert leg.count(Side.CLIENT).length == (count + 1 if kind == "a byte a record" else 1)


def _swallow(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(1 << 16):
            pass


def test_a_client_that_wants_answers_and_takes_none_is_not_read_on(
    lab: Lab, tmp_path: Path, scaled: Callable[[int], int]
) -> None:
    with Target(echo(server_context(lab.server))) as target, RunningProxy(target=target.address, verify=False) as proxy:
        client, sealer = _sealing(proxy, tmp_path)
        small(client.connection)
        flood = bytearray()
        for _ in range(max(scaled(400_000), 25_000)):
            flood += sealer.seal(22, UPDATE_AND_ANSWER)
            sealer.update()
        (session,) = proxy.engine._sessions.values()
        transport = session._context.client._transport
        assert transport is not None
        small(transport.get_extra_info("socket"))
        sending = threading.Thread(target=_send, args=(client.connection, bytes(flood)))
        sending.start()
        until(lambda: session._context.client._paused)
        time.sleep(0.1)
        assert transport.get_write_buffer_size() <= 256 * 1024
        reading = threading.Thread(target=_swallow, args=(client.connection,))
        reading.start()  # it reads after all, and is read on
        sending.join(30)
        assert not sending.is_alive()
        client.connection.shutdown(socket.SHUT_RDWR)
        reading.join(10)
        client.close()


def _send(connection: socket.socket, data: bytes) -> None:
    connection.settimeout(None)
    with contextlib.suppress(OSError):
        connection.sendall(data)


def openssl_target(lab: Lab, handle: Callable[[SSL.Connection], None]) -> Callable[[socket.socket], None]:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate_chain_file(str(lab.server.fullchain_pem))
    context.use_privatekey_file(str(lab.server.key_pem))

    def serve(raw: socket.socket) -> None:
        raw.settimeout(None)
        connection = SSL.Connection(context, raw)
        connection.set_accept_state()
        with contextlib.suppress(SSL.Error):
            connection.do_handshake()
            handle(connection)

    return serve


def test_a_target_that_renegotiates_without_end_holds_up_nobody(lab: Lab, scaled: Callable[[int], int]) -> None:
    count = scaled(400)

    def storm(connection: SSL.Connection) -> None:
        connection.recv(100)
        for _ in range(count):
            connection.renegotiate()
            connection.do_handshake()
            connection.sendall(b"?")
            connection.recv(1)  # which is where OpenSSL answers the ClientHello that it has asked for
        connection.shutdown()

    with Target(openssl_target(lab, storm)) as target, RunningProxy(target=target.address, verify=False) as proxy:
        with tls(proxy, client_context()) as client, watched(proxy) as lag:
            client.sendall(b"go on")
            while client.recv(1):
                client.sendall(b"!")
        recording = proxy.recording()
    assert lag.longest < 0.25
    assert recording.outcome.status is Status.ESTABLISHED
    leg = recording.leg(LegRole.SERVER)
    assert leg is not None
    hellos = [message for message in leg.messages if message.content is Content.HANDSHAKE and message.code == 1]
    assert len(hellos) > count // 2


def test_a_client_that_wants_to_renegotiate_is_told_no(lab: Lab) -> None:
    """RFC 5746 4.4 lets a server decline; what is sent by then goes through."""
    with Target(openssl_target(lab, _echo_once)) as target, RunningProxy(target=target.address, verify=False) as proxy:
        raw = connect(proxy)
        raw.settimeout(None)
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        connection = SSL.Connection(context, raw)
        connection.set_tlsext_host_name(b"localhost")
        connection.set_connect_state()
        connection.do_handshake()
        connection.sendall(b"hello")
        assert connection.recv(5) == b"hello"
        connection.renegotiate()
        with pytest.raises(SSL.Error):
            connection.do_handshake()
        raw.close()
        recording = proxy.recording()
    leg = recording.leg(LegRole.CLIENT)
    assert leg is not None
    assert "no_renegotiation" in [read.fields.get("description") for read in leg.read().messages]
    assert not [failure for failure in recording.failures if failure.code == "internal"]


def _echo_once(connection: SSL.Connection) -> None:
    connection.sendall(connection.recv(100))
    with contextlib.suppress(SSL.Error):
        connection.recv(100)

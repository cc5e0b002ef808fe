"""Bulk data on an intercepted connection: records go on as they came, and what it has grown is given back at rest."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from countersign.proxy import _openssl, relay
from countersign.proxy._openssl import Buffers, Offer, TlsClientSide
from countersign.recorder.recording import LegRole
from countersign.recorder.wire.events import Side
from tests.proxy.test_hostile import _sealing
from tests.proxy.test_relay import assert_established, leg_of, proxied, sent
from tests.proxy.test_turns import UPDATE
from tests.proxy.wire import Client, Target, client_context, echo, server_context

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from countersign.proxy._openssl import TlsConnection
    from tests.peers.certs import Lab
    from tests.proxy.running import RunningProxy

KEY_UPDATE = 24


def connections(proxy: RunningProxy) -> list[TlsConnection]:
    (session,) = proxy.engine._sessions.values()
    return [leg.connection for leg in session._context.legs]


def rested(proxy: RunningProxy, before: list[object]) -> None:
    """Both legs have new BIOs; the one that is read may be another one for each bite."""
    deadline = time.monotonic() + 60
    while any(one._from is other for one, other in zip(connections(proxy), before, strict=True)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def echoed(client: Client, length: int) -> bytes:
    got = b""
    while len(got) < length:
        got += client.recv()
    return got


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_each_record_goes_on_as_the_record_that_it_was(lab: Lab, version: str) -> None:
    """However many come at once: full ones are written together, and are the same records again."""
    sizes = [1, 16384, 16384, 16384, 100, 16384, 16384, 7, 8, 16383, 2] * 3
    got: list[int] = []
    heard = threading.Event()

    def handle(connection: socket.socket) -> None:
        with server_context(lab.server).wrap_socket(connection, server_side=True) as secured:
            while sum(got) < sum(sizes) and (data := secured.recv(1 << 20)):
                got.append(len(data))  # OpenSSL reads a record at a time
            heard.set()

    with Target(handle) as target, proxied(target, lab) as proxy:
        with Client(proxy, client_context(version=version)) as client:
            client.handshake()
            for size in sizes:
                client.tls.write(b"x" * size)
            client._flush()
            assert heard.wait(10)
        recording = proxy.recording()
    assert got == sizes
    for role in (LegRole.CLIENT, LegRole.SERVER):
        counted = leg_of(recording, role).count(Side.CLIENT)
        assert (counted.records, counted.length) == (len(sizes), sum(sizes))


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_connection_that_rests_after_bulk_gets_new_bios_and_goes_on(
    lab: Lab, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_REST", 0.05)
    said = bytes(range(256)) * 2000
    with Target(echo(server_context(lab.server))) as target, proxied(target, lab) as proxy:
        with Client(proxy, client_context(version=version)) as client:
            client.handshake()
            for _ in range(3):
                before = [one._from for one in connections(proxy)] if proxy.engine._sessions else []
                thread = threading.Thread(target=client.send, args=(said,))
                thread.start()
                thread.join(10)
                assert echoed(client, len(said)) == said
                if before:
                    rested(proxy, before)
        recording = proxy.recording()
    assert_established(recording)


def test_what_waits_in_a_bio_is_not_given_away(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of which a part has come, while nothing moves."""
    monkeypatch.setattr(relay, "_REST", 0.02)
    said = bytes(range(256)) * 200
    with Target(echo(server_context(lab.server))) as target, proxied(target, lab) as proxy:
        with Client(proxy, client_context()) as client:
            client.handshake()
            client.tls.write(said)
            whole = client._out.read()
            client.connection.sendall(whole[:20_000])
            time.sleep(0.3)
            client.connection.sendall(whole[20_000:])
            assert echoed(client, len(said)) == said
        assert_established(proxy.recording())


def test_a_bio_in_which_something_waits_is_kept() -> None:
    side = TlsClientSide(())
    prepared = side.prepare(Offer((0x0303, 0x0304), (0x1301, 0xC02F)), level=2)
    connection, buffers = side.connection(prepared, name="localhost", sni=b"localhost", alpn=()), Buffers()
    assert not connection.handshake()
    before = connection._into, connection._from
    connection.shed()  # our hello has not been sent yet
    assert (connection._into, connection._from) == before
    assert connection.drain(buffers)[0] == 22
    connection.feed(b"\x16")
    connection.shed()
    assert connection._into == before[0]
    assert not connection.handshake()  # OpenSSL has it now
    connection.shed()
    assert connection._into != before[0]
    connection.close()


def agreed(lab: Lab, buffers: Buffers) -> tuple[TlsConnection, Callable[[bytes], bytes]]:
    """A connection whose handshake is done, and what makes records of its server."""
    side = TlsClientSide((), enforce=False)
    prepared = side.prepare(Offer((0x0303, 0x0304), (0x1301, 0xC02F)), level=2)
    connection = side.connection(prepared, name="localhost", sni=b"localhost", alpn=())
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context(lab.server).wrap_bio(into, out, server_side=True)
    done = False
    while not done:
        done = connection.handshake()
        into.write(connection.drain(buffers))
        with contextlib.suppress(ssl.SSLWantReadError):
            server.do_handshake()
        connection.feed(out.read())
    assert connection.read(buffers) == 0  # but tickets

    def said(data: bytes) -> bytes:
        server.write(data)
        return out.read()

    return connection, said


def test_what_was_lent_may_be_overwritten_once_it_is_taken_back(lab: Lab) -> None:
    buffers = Buffers()
    connection, said = agreed(lab, buffers)
    first, second = b"1" * 40_000, b"2" * 40_000  # the last record of each is not full: a read ends there
    lent = bytearray(said(first) + said(second))
    connection.lend(memoryview(lent))
    assert connection._lent is not None
    assert buffers.read(connection.read(buffers)) == first
    connection.take_back()
    lent[:] = bytes(len(lent))
    assert buffers.read(connection.read(buffers)) == second
    assert connection.read(buffers) == 0
    connection.feed(said(first))
    assert buffers.read(connection.read(buffers)) == first
    connection.close()


def test_what_is_taken_back_is_the_connection_s_own_whatever_another_thread_does(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each proxy of a program has a thread, and a call of OpenSSL lets another one run."""
    buffers = Buffers()
    (one, said), (other, others_said) = agreed(lab, buffers), agreed(lab, buffers)
    real, between = _openssl._lib, [other.take_back]

    class Interrupted:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def BIO_get_mem_data(self, bio: Any, at: Any) -> int:  # noqa: N802 - OpenSSL's name
            held: int = real.BIO_get_mem_data(bio, at)
            if at != _openssl._ffi.NULL and between:
                between.pop()()
            return held

    one.lend(said(b"1" * 40_000))
    other.lend(others_said(b"2" * 40_000))
    monkeypatch.setattr(_openssl, "_lib", Interrupted())
    one.take_back()
    assert not between
    assert buffers.read(one.read(buffers)) == b"1" * 40_000
    assert buffers.read(other.read(buffers)) == b"2" * 40_000
    one.close()
    other.close()


def test_a_message_behind_a_rest_is_still_recorded(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_REST", 0.02)
    with Target(echo(server_context(lab.server))) as target, proxied(target, lab) as proxy:
        client, sealer = _sealing(proxy, tmp_path)
        client.connection.sendall(sealer.seal(23, b"x" * 16_000))
        time.sleep(0.3)
        update = sealer.seal(22, UPDATE)
        sealer.update()
        client.connection.sendall(update + sealer.seal(23, b"."))
        time.sleep(0.2)
        client.close()
        recording = proxy.recording()
    assert len(sent(leg_of(recording, LegRole.CLIENT), Side.CLIENT, KEY_UPDATE)) == 1
    assert leg_of(recording, LegRole.SERVER).count(Side.CLIENT).length == 16_001

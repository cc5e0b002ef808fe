from __future__ import annotations

import contextlib
import gc
import socket
import ssl
import time
import weakref
from typing import TYPE_CHECKING

import pytest

from countersign.proxy.context import Context
from countersign.recorder.recording import LegRole, Status
from countersign.recorder.wire.codes import CERTIFICATE
from tests.peers.curl import curl
from tests.proxy.running import RunningProxy
from tests.proxy.test_relay import leg_of
from tests.proxy.wire import Client, client_context, rest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from countersign.proxy._openssl import TlsConnection
    from countersign.proxy.leg import TlsLeg
    from countersign.proxy.stream import Stream


@pytest.mark.peer("curl")
def test_curl_goes_through_an_intercepting_proxy(tmp_path: Path) -> None:
    with RunningProxy() as proxy:
        answer = curl(f"https://localhost:{proxy.port}/", "--cacert", proxy.root_file(tmp_path))
        recording = proxy.recording()
    assert answer.ok
    assert recording.outcome.status is Status.ESTABLISHED


@pytest.mark.peer("curl")
def test_certificates_that_come_again_are_in_memory_once(tmp_path: Path) -> None:
    with RunningProxy() as proxy:
        for _ in range(2):
            assert curl(f"https://localhost:{proxy.port}/", "--cacert", proxy.root_file(tmp_path)).ok
        first, second = proxy.recordings(2)
    for role in (LegRole.CLIENT, LegRole.SERVER):
        shown = [
            message.raw
            for recording in (first, second)
            for message in leg_of(recording, role).messages
            if message.is_handshake(CERTIFICATE)
        ]
        assert len(shown) == 2
        assert shown[0] is shown[1]


def _reset(tls: ssl.SSLSocket) -> None:
    tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    tls.close()


def _freed(held: list[weakref.ref[Any]]) -> None:
    """Both connections are, soon."""
    deadline = time.monotonic() + 30
    while any(each() is not None for each in held) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [each() for each in held] == [None, None]


@pytest.mark.parametrize("leave", [ssl.SSLSocket.close, _reset])
def test_a_session_that_is_over_is_freed_without_the_garbage_collector(
    leave: Callable[[ssl.SSLSocket], None], tmp_path: Path
) -> None:
    async def connections(proxy: RunningProxy) -> list[weakref.ref[Any]]:
        open_ones = proxy.engine._sessions.values()
        return [weakref.ref(leg.connection) for session in open_ones for leg in session._context.legs]

    with RunningProxy() as proxy:
        how = ssl.create_default_context(cafile=str(proxy.root_file(tmp_path)))
        gc.disable()
        try:
            tls = how.wrap_socket(socket.create_connection(proxy.address, timeout=30), server_hostname="localhost")
            tls.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert tls.recv(100)
            held = proxy.run(connections(proxy))
            assert len(held) == 2
            leave(tls)
            assert proxy.recording().outcome.status is Status.ESTABLISHED
            _freed(held)
        finally:
            gc.enable()


def _refuses(proxy: RunningProxy) -> None:
    client = Client(proxy, ssl.create_default_context())
    with pytest.raises(ssl.SSLCertVerificationError), client:
        client.handshake()


def _says_all_at_once(proxy: RunningProxy) -> None:
    """Its close_notify comes right behind its data, and so is met by the read that has these."""
    with Client(proxy, client_context()) as client:
        client.handshake()
        client.tls.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".ljust(2**14))  # a full record is read on from
        with contextlib.suppress(ssl.SSLWantReadError):
            client.tls.unwrap()
        client.connection.sendall(client._out.read())
        rest(client.connection)


def _breaks_a_record(proxy: RunningProxy) -> None:
    with Client(proxy, client_context()) as client:
        client.handshake()
        client.connection.sendall(b"\x17\3\3\0\x20" + bytes(32))
        rest(client.connection)


@pytest.mark.parametrize("ends", [_refuses, _says_all_at_once, _breaks_a_record])
def test_what_ends_a_session_by_an_exception_does_not_hold_it(
    ends: Callable[[RunningProxy], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback has the frames of all steps, and what is in them."""
    held: list[weakref.ref[Any]] = []
    real = Context.leg

    def leg(
        self: Context, role: LegRole, stream: Stream, connection: TlsConnection, *more: Any, **named: Any
    ) -> TlsLeg:
        held.append(weakref.ref(connection))
        return real(self, role, stream, connection, *more, **named)

    monkeypatch.setattr(Context, "leg", leg)
    with RunningProxy() as proxy:
        gc.disable()
        try:
            ends(proxy)
            proxy.recording()
            _freed(held)
        finally:
            gc.enable()


def test_snapshots_do_not_hold_the_last_session() -> None:
    with RunningProxy() as proxy:
        gc.disable()
        try:
            with Client(proxy, client_context()) as client:
                client.handshake()
                client.send(b"GET /")
                deadline = time.monotonic() + 30
                while not proxy.kept.snapshots and time.monotonic() < deadline:
                    time.sleep(0.01)
                (session,) = map(weakref.ref, proxy.engine._sessions.values())
            proxy.recording()
            while session() is not None and time.monotonic() < deadline:
                time.sleep(0.01)
            assert session() is None
        finally:
            gc.enable()

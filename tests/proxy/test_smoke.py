from __future__ import annotations

import gc
import socket
import ssl
import time
import weakref
from typing import TYPE_CHECKING

import pytest

from countersign.recorder.recording import LegRole, Status
from countersign.recorder.wire.codes import CERTIFICATE
from tests.peers.curl import curl
from tests.proxy.running import RunningProxy
from tests.proxy.test_relay import leg_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any


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
            deadline = time.monotonic() + 30
            while any(each() is not None for each in held) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert [each() for each in held] == [None, None]
        finally:
            gc.enable()

"""Rotations while the proxy works."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING

from countersign.ca import Authority
from tests.proxy.running import RunningProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.ca.authority import Rotated


@contextlib.contextmanager
def client(proxy: RunningProxy, roots: bytes) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cadata=roots.decode())
    raw = socket.create_connection(proxy.address, 10)
    with context.wrap_socket(raw, server_hostname="localhost") as connection:
        yield connection


def ask(connection: ssl.SSLSocket) -> bytes:
    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection.recv(65536)


def test_a_rotation_under_load_drops_no_connection() -> None:
    """Intermediate, root and leaves, while four clients come and go and one stays from the first to the last."""
    first = Authority.make()
    refused: list[Exception] = []
    issuers: set[bytes] = set()
    done = threading.Event()
    with RunningProxy(authority=first) as proxy:
        trusted = first.root_pem

        def come_and_go() -> None:
            while not done.is_set():
                try:
                    with client(proxy, trusted) as connection:
                        assert b"HTTP/1.1 200" in ask(connection)
                        issuers.add(str(connection.getpeercert()["issuer"]).encode())  # type: ignore[index]
                except (OSError, AssertionError) as error:
                    refused.append(error)
                    return

        threads = [threading.Thread(target=come_and_go, name=f"client {n}") for n in range(4)]
        with client(proxy, trusted) as staying:
            for thread in threads:
                thread.start()
            authority = first
            steps: tuple[Rotated, ...] = ("intermediate", "intermediate", "root", "intermediate")
            for number, what in enumerate(steps, 1):
                while len(issuers) < number and not refused:
                    done.wait(0.01)
                authority = authority.rotate(what)
                _put(proxy, authority)
            while len(issuers) < 5 and not refused:
                done.wait(0.01)
            proxy.run(_rotate_leaves(proxy))
            done.wait(0.2)
            done.set()
            for thread in threads:
                thread.join(10)
            assert b"HTTP/1.1 200" in ask(staying)
    assert not refused


def _put(proxy: RunningProxy, authority: Authority) -> None:
    async def put() -> None:
        proxy.engine.signing.mint.authority = authority

    proxy.run(put())


async def _rotate_leaves(proxy: RunningProxy) -> None:
    proxy.engine.signing.mint.rotate()

"""Servers that are none, or not for long: what each does with a connection, and a listener that lets it."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALERT = b"\x15\x03\x03\0\2\2\x28"
"""A fatal alert in its record: handshake_failure."""


@contextmanager
def serving(deed: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that does this with each connection and then closes it."""
    threads = []

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            deed(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threads.append(threading.Thread(target=talk, args=(listener.accept()[0],)))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


def waits(connection: socket.socket) -> None:
    """Until the client has gone."""
    while connection.recv(65536):
        pass


def says(data: bytes, *, first: bool = False) -> Callable[[socket.socket], None]:
    """This, behind the first bytes of the client or before them, and nothing more as long as the client is there."""

    def deed(connection: socket.socket) -> None:
        if not first:
            connection.recv(65536)
        connection.sendall(data)
        waits(connection)

    return deed


def echoes(connection: socket.socket) -> None:
    """What it gets."""
    while data := connection.recv(65536):
        connection.sendall(data)


def streams(piece: bytes) -> Callable[[socket.socket], None]:
    """This again and again, behind the first bytes of the client."""

    def deed(connection: socket.socket) -> None:
        connection.recv(65536)
        while True:
            connection.sendall(piece)

    return deed


def hangs_up(connection: socket.socket) -> None:
    """In good order, once the client has spoken."""
    connection.recv(65536)
    connection.shutdown(socket.SHUT_WR)
    waits(connection)


def resets(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

"""A proxy of threads and blocking sockets around :class:`HttpIn`, so that real clients and targets can be used."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import TYPE_CHECKING, Self

from countersign.proxy.ways.events import Exchanged, Ready, Refused, Send, Wanted
from countersign.proxy.ways.http_in import Dropped, Event, Fetch, Finished, HttpIn, ToTarget

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.proxy.settings import Address
    from countersign.proxy.ways.credentials import Credentials


class ThreadedProxy:
    """``with ThreadedProxy(dial) as proxy:`` where ``dial`` makes the connection to a target, or raises OSError."""

    def __init__(self, dial: Callable[[Address], socket.socket], credentials: Credentials | None = None) -> None:
        self._dial = dial
        self._credentials = credentials
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._stopping = False
        self.port: int = self._listening.getsockname()[1]
        self.events: list[Event] = []

    def __enter__(self) -> Self:
        self._start(self._accept, "accepting")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        for thread in self._threads:
            thread.join(20)
        self._listening.close()

    @property
    def exchanges(self) -> list[dict[str, object]]:
        return [dict(event.record) for event in self.events if isinstance(event, Exchanged)]

    def _start(self, run: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=run, name=f"proxy {name}")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            if self._stopping:
                client.close()
                return
            self._start(lambda client=client: self._serve(client), "session")  # type: ignore[misc]

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(20)
        machine = HttpIn(self._credentials)
        target: socket.socket | None = None
        waiting: list[Event] = []
        with client:
            while True:
                while waiting:
                    event = waiting.pop(0)
                    self.events.append(event)
                    if isinstance(event, Send):
                        client.sendall(event.data)
                    elif isinstance(event, ToTarget) and target is not None:
                        with contextlib.suppress(OSError):
                            target.sendall(event.data)
                    elif isinstance(event, Wanted | Fetch):
                        try:
                            target = self._dial(event.target)
                        except OSError as error:
                            waiting += machine.failed(502, str(error))
                        else:
                            waiting += machine.connected()
                    elif isinstance(event, Dropped) and target is not None:
                        target.close()
                        target = None
                    elif isinstance(event, Ready) and target is not None:
                        target.sendall(event.rest)
                        _relay(client, target)
                        target.close()
                        return
                    elif isinstance(event, Finished | Refused):
                        if target is not None:
                            target.close()
                        return
                waiting += self._read(machine, client, target)

    @staticmethod
    def _read(machine: HttpIn, client: socket.socket, target: socket.socket | None) -> list[Event]:
        sources = [client] if machine.wants_client else []
        sources += [target] if target is not None else []
        readable, _, _ = select.select(sources, [], [], 20)
        assert readable, "nothing moves any more"
        if target in readable:
            return machine.from_target(_received(target))
        return machine.from_client(_received(client))


def _received(source: socket.socket | None) -> bytes:
    assert source is not None
    try:
        return source.recv(65536)
    except OSError:
        return b""


def _relay(one: socket.socket, other: socket.socket) -> None:
    peers = {one: other, other: one}
    while True:
        for source in select.select(list(peers), [], [], 20)[0]:
            data = _received(source)
            if not data:
                return
            peers[source].sendall(data)
